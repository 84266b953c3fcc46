//! One account's supervised connection: built on demand, watched, torn down as a unit and rebuilt with back-off.
//! How it is watched is in `watchdog`, what is read from it in `reader`, what is said in `sending`, what a sign-in asks in `sign_in`; where the session
//! is kept is `custody`'s and `bots`' business.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use grammers_tl_types as tl;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use super::connection::Connection;
use super::connection::UpdatesEnd;
use super::conversation::EventSink;
use super::errors::TelegramError;
use super::people::People;
use super::session::LiveSession;
use super::update::account_user;
use crate::domain::account::AccountUser;
use crate::domain::account::TelegramSession;
use crate::domain::ids::Ids;
use crate::lifecycle::Tasks;
use crate::lifecycle::network_sleep;

/// A connection that has lasted as long says nothing against the next.
const GOOD: Duration = Duration::from_secs(50);

/// How a supervised account is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not yet heard from Telegram since it was opened.
    Connecting,
    /// Telegram has confirmed who is signed in, and updates flow.
    Ready,
    /// Connection lost; it is being built again. Says why.
    Reconnecting(String),
    /// Telegram has ended the session. Final. Holds Telegram's name for it.
    SignedOut(String),
}

/// An account. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Account(pub(super) Arc<Shared>);

pub(super) struct Shared {
    session: Arc<LiveSession>,
    settings: Settings,
    ids: Ids,
    pub(super) tasks: Tasks,
    current: Mutex<Option<Current>>,
    pub(super) status: watch::Sender<Status>,
    /// Telegram has said in this process who is signed in.
    verified: AtomicBool,
    pub(super) closed: CancellationToken,
    pub(super) events: EventSink,
    /// Held while a batch of events is being taken.
    pub(super) turn: Arc<Mutex<()>>,
    /// How many readers wait, see `watchdog`.
    pub(super) waiting: AtomicUsize,
    pub(super) people: std::sync::Mutex<People>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Account").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

struct Current {
    connection: Arc<Connection>,
    updates: Option<UpdatesEnd>,
}

impl Account {
    /// An account that connects at its first call.
    pub fn new(
        session: TelegramSession,
        settings: Settings,
        ids: Ids,
        tasks: Tasks,
        events: EventSink,
    ) -> Self {
        let session = Arc::new(LiveSession::new(session, settings.network.clone()));
        Self(Arc::new(Shared {
            session,
            settings,
            ids,
            tasks,
            current: Mutex::default(),
            status: watch::Sender::new(Status::Connecting),
            verified: AtomicBool::new(false),
            closed: CancellationToken::new(),
            events,
            turn: Arc::default(),
            waiting: AtomicUsize::new(0),
            people: std::sync::Mutex::default(),
        }))
    }

    /// The session as it is now.
    pub fn session(&self) -> TelegramSession {
        self.0.session.snapshot()
    }

    /// Who is signed in, as last known, without asking anyone.
    pub fn user(&self) -> Option<AccountUser> {
        self.0.session.user()
    }

    /// The account's user id, once it is known who is signed in.
    pub fn id(&self) -> Option<i64> {
        self.user().map(|user| user.id)
    }

    /// How the account is, and every change of it.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.status.subscribe()
    }

    /// Resolves when the account is closed or signed out.
    pub(super) async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    pub(super) fn live_session(&self) -> &LiveSession {
        &self.0.session
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn ids(&self) -> &Ids {
        &self.0.ids
    }

    /// Closes the connection for good.
    pub async fn close(&self) {
        self.0.closed.cancel();
        let current = self.0.current.lock().await.take();
        if let Some(current) = current {
            current.connection.close().await;
        }
    }

    /// Calls a method in the home data centre: once, within the time limit, dialling included.
    pub(super) async fn invoke<R: tl::RemoteCall + Sync>(
        &self,
        request: &R,
    ) -> Result<R::Return, TelegramError> {
        self.invoke_once(request).await.map_err(|error| match self.signed_out() {
            // Another call has learnt it, and with the connection went what was under way.
            Some(name) if error.is_unreachable() => TelegramError::SignedOut(name),
            _ => error,
        })
    }

    async fn invoke_once<R: tl::RemoteCall + Sync>(&self, request: &R) -> Result<R::Return, TelegramError> {
        let limit = self.0.settings.call_limit;
        let begun = Instant::now();
        let connection = tokio::time::timeout(limit, self.connection())
            .await
            .map_err(|_| TelegramError::Unreachable("no connection within the time limit".to_owned()))??;
        // A call that is late ends the connection for everybody, which must not be for want of time.
        let left = limit.saturating_sub(begun.elapsed());
        if left < enough_time(limit) {
            return Err(TelegramError::Unreachable("the time limit went by in connecting".to_owned()));
        }
        let mut answer = match self.be_tied(&connection).await {
            Ok(()) => {
                let answer = connection.invoke(request, left).await;
                // It may have dialled: another data centre, or this one again. What was asked is answered all the same.
                let _tied_or_ended = self.be_tied(&connection).await;
                answer
            }
            Err(error) => Err(error),
        };
        let signed_in = self.0.session.has_user();
        match &answer {
            // Before sign-in these are ordinary answers; afterwards they are the end.
            Err(TelegramError::SignedOut(name)) if signed_in => self.end(name),
            Err(TelegramError::Migrate(dc)) if signed_in => {
                // The key authorises nothing where the account lives now.
                let name = format!("USER_MIGRATE_{dc}");
                self.end(&name);
                answer = Err(TelegramError::SignedOut(name));
            }
            Ok(_) | Err(_) => {}
        }
        answer
    }

    /// Leaves the present home data centre for another (303 `PHONE_MIGRATE_X` and its kin).
    pub(super) async fn migrate(&self, dc: i32) {
        let old = self.0.session.home_dc();
        self.0.session.set_home_dc(dc);
        if let Some(current) = &*self.0.current.lock().await {
            current.connection.leave(old);
        }
    }

    /// Asks Telegram who is signed in (`users.getUsers`).
    ///
    /// # Errors
    /// [`TelegramError::SignedOut`] when nobody is.
    pub async fn whoami(&self) -> Result<AccountUser, TelegramError> {
        let request = tl::functions::users::GetUsers { id: vec![tl::enums::InputUser::UserSelf] };
        let users = self.invoke(&request).await?;
        let user = users.into_iter().next().and_then(account_user);
        let user =
            user.ok_or_else(|| TelegramError::Unexpected("users.getUsers without the user".to_owned()))?;
        self.mark_verified();
        Ok(user)
    }

    /// Whether Telegram has confirmed in this process that the account is signed in, and has not ended that since.
    pub fn is_verified(&self) -> bool {
        self.0.verified.load(Ordering::SeqCst) && self.signed_out().is_none()
    }

    pub(super) fn mark_verified(&self) {
        self.0.verified.store(true, Ordering::SeqCst);
    }

    /// Telegram's name for why the session ended, once it has.
    pub fn signed_out(&self) -> Option<String> {
        match &*self.0.status.borrow() {
            Status::SignedOut(name) => Some(name.clone()),
            Status::Connecting | Status::Ready | Status::Reconnecting(_) => None,
        }
    }

    /// Keeps the account connected until it is closed or signed out. Shutdown closes it after the steps under way.
    pub fn supervise(&self) {
        let account = self.clone();
        self.0.tasks.spawn("account", async move {
            tokio::select! {
                () = account.stay_connected() => {}
                () = account.stay_tied() => {}
                () = account.0.closed.cancelled() => {}
            }
            account.close().await;
        });
    }

    async fn stay_connected(&self) {
        let (shortest, longest) = self.0.settings.back_off;
        let mut pause = Duration::ZERO;
        loop {
            self.owned().await;
            let error = self.one_connection(&mut pause).await;
            if let TelegramError::SignedOut(name) = error {
                return self.end(&name);
            }
            if let TelegramError::FloodWait(wait) = error {
                pause = pause.max(wait);
            }
            tracing::warn!(%error, retry_in_ms = pause.as_millis(), "lost the connection to Telegram");
            self.is_now(Status::Reconnecting(error.to_string()));
            network_sleep(pause).await;
            pause = (pause * 2).clamp(shortest, longest);
        }
    }

    /// Runs one connection to its end: verifies who is signed in, reads updates, watches. Returns why it ended.
    async fn one_connection(&self, pause: &mut Duration) -> TelegramError {
        let (connection, updates) = match self.connection_with_updates().await {
            Ok(parts) => parts,
            Err(error) => return error,
        };
        let renamed = match self.whoami().await {
            Ok(user) => self.recognise(user),
            Err(error) => {
                self.discard(&connection).await;
                return error;
            }
        };
        self.is_now(Status::Ready);
        let ready = Instant::now();
        // In a task of its own: cancelling the reader at the wrong moment would lose updates.
        let account = self.clone();
        let read = async move { account.read_updates(updates, renamed).await };
        let mut reader = AbortOnDropHandle::new(self.0.tasks.spawn("updates", read));
        let error = tokio::select! {
            ended = &mut reader => {
                ended.unwrap_or_else(|_| TelegramError::Unreachable("the reader died".to_owned()))
            }
            () = connection.ended() => TelegramError::Unreachable("the connection's task ended".to_owned()),
            error = self.watch() => error,
        };
        if ready.elapsed() >= self.0.settings.back_off.1.min(GOOD) {
            // It was a good connection: the next one may come at once.
            *pause = Duration::ZERO;
        }
        self.discard(&connection).await;
        error
    }

    /// Notes who is signed in; gives it back where the user name has changed, which has to be told first.
    fn recognise(&self, user: AccountUser) -> Option<AccountUser> {
        if self.user().is_some_and(|known| known.username != user.username) {
            return Some(user);
        }
        self.0.session.set_user(user);
        None
    }

    async fn connection(&self) -> Result<Arc<Connection>, TelegramError> {
        let mut current = self.0.current.lock().await;
        Ok(Arc::clone(&self.alive(&mut current).await?.connection))
    }

    /// The connection, if there is one.
    pub(super) async fn present_connection(&self) -> Option<Arc<Connection>> {
        self.0.current.lock().await.as_ref().map(|current| Arc::clone(&current.connection))
    }

    async fn connection_with_updates(&self) -> Result<(Arc<Connection>, UpdatesEnd), TelegramError> {
        let mut current = self.0.current.lock().await;
        // Where its updates are already read elsewhere, it is replaced.
        current.take_if(|current| current.updates.is_none());
        let alive = self.alive(&mut current).await?;
        let updates = alive.updates.take();
        let updates = updates.ok_or_else(|| TelegramError::Unreachable("no updates to read".to_owned()))?;
        Ok((Arc::clone(&alive.connection), updates))
    }

    /// The current connection, built anew when there is none; on another network with a key for the home data centre.
    async fn alive<'a>(&self, current: &'a mut Option<Current>) -> Result<&'a mut Current, TelegramError> {
        if self.0.closed.is_cancelled() {
            return Err(closed());
        }
        if let Some(error) = self.not_owned() {
            return Err(error);
        }
        self.ensure_key().await?;
        let dead = current.as_ref().is_none_or(|current| current.connection.has_ended());
        if dead {
            *current = None;
        }
        let proxy_url = match &self.0.settings.proxy {
            Some(proxy) if current.is_none() => {
                let resolved = tokio::select! {
                    resolved = proxy.resolved_url() => resolved,
                    () = self.0.closed.cancelled() => return Err(closed()),
                };
                Some(resolved.map_err(|error| TelegramError::Unreachable(format!("the proxy: {error}")))?)
            }
            Some(_) | None => None,
        };
        Ok(current.get_or_insert_with(|| {
            let session = Arc::clone(&self.0.session);
            let (connection, updates) = Connection::open(session, &self.0.settings, proxy_url, &self.0.tasks);
            Current { connection: Arc::new(connection), updates: Some(updates) }
        }))
    }

    /// Throws a connection away, so that the next call builds another.
    pub(super) async fn discard(&self, connection: &Arc<Connection>) {
        connection.abort();
        let mut current = self.0.current.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(&current.connection, connection)) {
            *current = None;
        }
    }
}

pub(super) fn closed() -> TelegramError {
    TelegramError::Unreachable("the account is closed".to_owned())
}

/// The least that a call is begun with.
fn enough_time(limit: Duration) -> Duration {
    (limit / 10).min(Duration::from_secs(1))
}

#[cfg(test)]
mod tests;
