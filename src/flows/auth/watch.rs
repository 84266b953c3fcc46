//! Learning of a decision without asking again and again: a poll that is held, and a stream of statuses. Both sleep until
//! the store wakes them; neither looks in between.

use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use super::Auth;
use super::AuthError;
use super::Caller;
use super::held::Held;
use super::places::Place;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::ID_LENGTH;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::Status;
use crate::domain::project::Project;
use crate::lifecycle::network_sleep;
use crate::store::Wakeup;

/// Tells how a session stands, and then whenever that changes.
pub(crate) struct Watch {
    auth: Auth,
    id: SessionId,
    wakeup: Wakeup,
    stopping: CancellationToken,
    told: Option<Notice>,
    held: Held,
    _place: Place,
}

/// What a watcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Whether a person has opened the link.
    pub(crate) opened: bool,
    pub(crate) status: Status,
}

impl Auth {
    /// Holds until the session is decided, `wait` is over, or the service stops.
    pub(super) async fn decided_within(
        &self,
        project: &Project,
        id: &SessionId,
        wait: Duration,
        held: &Held,
    ) -> Result<AuthSession, AuthError> {
        let stopping = self.0.tasks.stopping();
        let over = network_sleep(wait);
        tokio::pin!(over);
        // First the subscription, then the look: what happens in between is not missed.
        let mut wakeup = self.0.store.subscribe(id);
        loop {
            let session = self.session_of(project, id).await?;
            if session.status(self.0.clock.now()) != Status::Pending {
                return Ok(session);
            }
            let _held = held.begin();
            tokio::select! {
                () = wakeup.changed() => {}
                () = self.0.clock.sleep_until(session.expires_at) => {}
                () = &mut over => return Ok(session),
                () = stopping.cancelled() => return Ok(session),
            }
        }
    }

    /// Watches a session by the last part of its `events_url`.
    pub(crate) async fn watch(&self, id_and_key: &str, caller: &Caller) -> Result<Watch, AuthError> {
        let (id, key) = id_and_key.split_at_checked(ID_LENGTH).ok_or(AuthError::SessionNotFound)?;
        let id = SessionId::parse(id).ok_or(AuthError::SessionNotFound)?;
        let wakeup = self.0.store.subscribe(&id);
        let session = self.0.store.session(&id).await?.ok_or(AuthError::SessionNotFound)?;
        if !bool::from(session.watch.as_bytes().ct_eq(key.as_bytes())) {
            return Err(AuthError::SessionNotFound);
        }
        let project = self.0.store.project(&session.project).await?;
        let project = project.ok_or(AuthError::SessionNotFound)?;
        if !project.allows_origin(caller.origin.as_deref()) {
            return Err(AuthError::OriginNotAllowed);
        }
        let place = self.0.limits.places.take(&project.id, caller.counted()).ok_or(AuthError::TooManyHeld)?;
        let stopping = self.0.tasks.stopping();
        let held = caller.held.clone();
        Ok(Watch { auth: self.clone(), id, wakeup, stopping, told: None, held, _place: place })
    }
}

impl Watch {
    /// The next thing to tell; `None` after the end.
    pub(crate) async fn next(&mut self) -> Option<Notice> {
        if self.told.is_some_and(|told| told.status != Status::Pending) {
            return None;
        }
        loop {
            let session = match self.auth.0.store.session(&self.id).await {
                Ok(session) => session?,
                Err(error) => {
                    tracing::error!(%error, "a stream ends because the store cannot be read");
                    return None;
                }
            };
            let now = self.auth.0.clock.now();
            let notice = Notice { opened: session.opening.is_some(), status: session.status(now) };
            if self.told != Some(notice) {
                self.told = Some(notice);
                return Some(notice);
            }
            let _held = self.held.begin();
            // Who serves the connection may have looked already whether something is held, and looks again now.
            yield_now().await;
            tokio::select! {
                () = self.wakeup.changed() => {}
                () = self.auth.0.clock.sleep_until(session.expires_at) => {}
                () = self.stopping.cancelled() => return None,
            }
        }
    }
}
