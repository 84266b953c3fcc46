//! What apps do: create a session, ask how it stands, take the confirmation, take the request back. What people do in
//! Telegram is in `flows::confirm`.

mod create;
mod error;
mod held;
mod limits;
mod links;
mod places;
mod polls;
mod receipts;
mod watch;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::Counter;

pub(crate) use self::create::Client;
pub(crate) use self::create::Created;
pub(crate) use self::create::Creating;
pub use self::error::AuthError;
pub(crate) use self::held::Held;
pub use self::limits::AppLimits;
use self::limits::Limits;
pub use self::places::HeldLimits;
use self::receipts::receipt;
use self::receipts::repeats;
use self::receipts::used_at;
pub(crate) use self::watch::Watch;
use super::accounts::Accounts;
use super::to_its_end::to_its_end;
use crate::domain::account::Mode;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::SessionToken;
use crate::domain::auth_session::State;
use crate::domain::auth_session::Status;
use crate::domain::clock::Clock;
use crate::domain::clock::Timestamp;
use crate::domain::ids::Ids;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;
use crate::domain::proof;
use crate::domain::proof::BadProof;
use crate::lifecycle::Tasks;
use crate::store::Applied;
use crate::store::Store;

use super::outbox::Outbox;

/// How long a poll is held at most that could wait and has no place.
const WITHOUT_PLACE: Duration = Duration::from_secs(1);

/// How links are made.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// `CONNECTOR_LINK_BASE`, without a slash at the end.
    pub base: String,
    /// `CONNECTOR_DEEPLINK_BY_PHONE`.
    pub by_phone: bool,
    /// `CONNECTOR_PUBLIC_URL`, without a slash at the end.
    pub public_url: String,
}

/// What apps do. Cloning shares it.
#[derive(Clone)]
pub struct Auth(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    accounts: Accounts,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    ids: Ids,
    tasks: Tasks,
    mode: Mode,
    links: LinkSettings,
    limits: Limits,
    /// Names of bots that the store has.
    usernames: Mutex<HashMap<i64, String>>,
    /// How many sessions were created.
    created: Counter,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Auth")
    }
}

/// Who calls, as far as the request tells.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    /// The `Origin` header.
    pub(crate) origin: Option<String>,
    /// The Bearer token.
    pub(crate) key: Option<String>,
    /// The client's address.
    pub(crate) from: Option<IpAddr>,
    /// Whether it is a program on this machine that talks to us directly: those have no limits.
    pub(crate) here: bool,
    /// Tells their connection what is held for them.
    pub(crate) held: Held,
}

impl Caller {
    /// The address to count by.
    const fn counted(&self) -> Option<IpAddr> {
        if self.here { None } else { self.from }
    }
}

/// How a session stands, with what an app is told.
#[derive(Clone)]
pub(crate) enum Standing {
    Pending,
    Confirmed(Box<Confirmed>),
    Cancelled { at: Timestamp },
    Expired,
    Used,
}

/// A confirmation.
#[derive(Clone)]
pub(crate) struct Confirmed {
    pub(crate) session: AuthSession,
    pub(crate) project: Arc<Project>,
    pub(crate) proof: String,
}

/// What names the session to consume.
#[derive(Clone)]
pub(crate) enum Claim {
    Token(SessionToken),
    Proof(String),
}

impl Auth {
    /// Joins the parts.
    #[expect(clippy::too_many_arguments, reason = "the composition root names each part once")]
    pub fn new(
        store: Arc<dyn Store>,
        accounts: Accounts,
        outbox: Outbox,
        clock: Arc<dyn Clock>,
        ids: Ids,
        tasks: Tasks,
        mode: Mode,
        links: LinkSettings,
        limits: AppLimits,
    ) -> Self {
        let (usernames, limits) = (Mutex::default(), Limits::new(limits));
        // Looked up once: the recorder would do it under a lock.
        let created = metrics::counter!("connector_sign_ins_total", "status" => "created");
        Self(Arc::new(Shared {
            store,
            accounts,
            outbox,
            clock,
            ids,
            tasks,
            mode,
            links,
            limits,
            usernames,
            created,
        }))
    }

    /// Whether this is the poll that nearly all are: of a session known to be pending, by somebody who needs no key. It is
    /// counted then, and answered. `false` says nothing: [`Auth::verify`] tells.
    pub(crate) fn is_pending(&self, project: &str, token: &SessionToken, origin: Option<&str>) -> bool {
        let (id, now) = (token.id(), self.0.clock.now());
        let Some(project) = ProjectId::parse(project) else { return false };
        let admits = |project: &Project| project.settings.public_access && project.allows_origin(origin);
        let pending = self.0.store.known_pending(&id, &project, &admits).is_some_and(|until| now < until);
        pending && self.0.limits.polls.may_answer_now(&id, now)
    }

    /// How a session stands. With `wait`, a pending one is held until it is decided or the time is over.
    pub(crate) async fn verify(
        &self,
        project: &str,
        token: &SessionToken,
        caller: &Caller,
        wait: Option<Duration>,
    ) -> Result<Standing, AuthError> {
        let (name, id) = (project, token.id());
        self.paced(&id).await?;
        let mut project = self.admitted(name, caller).await?;
        let mut session = self.session_of(&project, &id).await?;
        if let Some(wait) = wait
            && session.status(self.0.clock.now()) == Status::Pending
        {
            // Who has no place gets the answer of a plain poll, late: those who wait ask again as soon as they have one.
            let place = self.0.limits.places.take(&project.id, caller.counted());
            let wait = if place.is_some() { wait } else { wait.min(WITHOUT_PLACE) };
            session = self.decided_within(&project, &id, wait, &caller.held).await?;
            // Meanwhile its owner may have replaced its secret, or closed it to this caller.
            project = self.admitted(name, caller).await?;
        }
        let standing = self.standing(session, project)?;
        if let Standing::Confirmed(confirmed) = &standing {
            self.note_first_read(&confirmed.session);
        }
        Ok(standing)
    }

    /// Takes the confirmation: of any number of callers one gets it, and the session is used. A repeat with the same
    /// `Idempotency-Key` gets the same answer for a while.
    pub(crate) async fn consume(
        &self,
        project: &str,
        caller: &Caller,
        claim: Claim,
        idempotency_key: Option<&str>,
    ) -> Result<Standing, AuthError> {
        let project = self.authenticated(project, caller).await?;
        let now = self.0.clock.now();
        let receipt = idempotency_key.map(|key| receipt(&project, key));
        let (id, by_proof) = match claim {
            Claim::Token(token) => (token.id(), false),
            Claim::Proof(proof) => match proof::verify(&proof, &project, now) {
                _ if proof::names_other_project(&proof, &project) => return Err(AuthError::SessionNotFound),
                Ok(claims) => (SessionToken::claimed(&claims.session_token).id(), true),
                Err(BadProof::Expired(claims)) => {
                    let id = SessionToken::claimed(&claims.session_token).id();
                    let session = self.session_of(&project, &id).await?;
                    // Who consumed it in time and lost the answer may still have it.
                    let repeated = repeats(&session, receipt.as_deref(), now);
                    return repeated.map_or(Ok(Standing::Expired), |at| self.confirmed(session, project, at));
                }
                Err(BadProof::Invalid) => return Err(AuthError::InvalidProof),
            },
        };
        self.session_of(&project, &id).await?;
        let event = Event::Consume { by_proof, receipt: receipt.clone() };
        let session = match self.apply(id, event).await? {
            Applied::Done(step) => step.session,
            Applied::Unknown => return Err(AuthError::SessionNotFound),
            Applied::Refused(_, session) if repeats(&session, receipt.as_deref(), now).is_none() => {
                return self.standing(*session, project);
            }
            Applied::Refused(_, session) => *session,
        };
        // Made at the moment of consumption, so that a repetition is the same to the byte.
        let at = used_at(&session).unwrap_or(now);
        self.confirmed(session, project, at)
    }

    /// Takes a request back. A decided one stays as it is; the answer tells how.
    pub(crate) async fn cancel(
        &self,
        project: &str,
        caller: &Caller,
        token: &SessionToken,
    ) -> Result<Standing, AuthError> {
        let project = self.authenticated(project, caller).await?;
        let id = token.id();
        self.session_of(&project, &id).await?;
        match self.apply(id, Event::CancelByServer).await? {
            Applied::Done(step) => {
                metrics::counter!("connector_sign_ins_total", "status" => "cancelled").increment(1);
                self.standing(step.session, project)
            }
            Applied::Refused(_, session) => self.standing(*session, project),
            Applied::Unknown => Err(AuthError::SessionNotFound),
        }
    }

    /// The project, for a caller who needs no key if it has public access.
    async fn admitted(&self, id: &str, caller: &Caller) -> Result<Arc<Project>, AuthError> {
        let project = self.project(id).await?;
        if !project.allows_origin(caller.origin.as_deref()) {
            return Err(AuthError::OriginNotAllowed);
        }
        if !project.settings.public_access && !shows_key(&project, caller) {
            if caller.key.is_some() {
                self.wrong_key(&project, caller)?;
            }
            return Err(AuthError::PublicAccessDisabled);
        }
        Ok(project)
    }

    /// The project, for a caller who shows its key.
    async fn authenticated(&self, id: &str, caller: &Caller) -> Result<Arc<Project>, AuthError> {
        let key = caller.key.as_deref().ok_or(AuthError::SecretWrong)?;
        let project = self.project(id).await?;
        if !project.secret.is(key) {
            self.wrong_key(&project, caller)?;
            return Err(AuthError::SecretWrong);
        }
        Ok(project)
    }

    async fn project(&self, id: &str) -> Result<Arc<Project>, AuthError> {
        let id = ProjectId::parse(id).ok_or(AuthError::ProjectNotFound)?;
        self.0.store.project(&id).await?.ok_or(AuthError::ProjectNotFound)
    }

    async fn session_of(&self, project: &Project, id: &SessionId) -> Result<AuthSession, AuthError> {
        let session = self.0.store.session(id).await?;
        session.filter(|session| session.project == project.id).ok_or(AuthError::SessionNotFound)
    }

    /// Applies an event.
    async fn apply(&self, id: SessionId, event: Event) -> Result<Applied, AuthError> {
        let auth = self.clone();
        to_its_end(&self.0.tasks, "session", async move {
            let applied = auth.0.store.apply(&id, &event, auth.0.clock.now()).await?;
            if let Applied::Done(step) = &applied {
                auth.0.outbox.take(step.errands.iter().cloned());
            }
            Ok(applied)
        })
        .await
    }

    fn standing(&self, session: AuthSession, project: Arc<Project>) -> Result<Standing, AuthError> {
        let now = self.0.clock.now();
        Ok(match session.status(now) {
            Status::Pending => Standing::Pending,
            Status::Confirmed => return self.confirmed(session, project, now),
            Status::Cancelled => match session.state {
                State::Cancelled { at, .. } => Standing::Cancelled { at },
                State::Pending | State::Confirmed { .. } | State::Expired { .. } | State::Used { .. } => {
                    Standing::Expired
                }
            },
            Status::Expired => Standing::Expired,
            Status::Used => Standing::Used,
        })
    }

    /// The confirmation with a proof made at `at`.
    fn confirmed(
        &self,
        session: AuthSession,
        project: Arc<Project>,
        at: Timestamp,
    ) -> Result<Standing, AuthError> {
        let claims = proof::claims(&session, self.0.mode, at).ok_or(AuthError::Unsigned)?;
        let proof = proof::sign(&claims, &project.secret).ok_or(AuthError::Unsigned)?;
        Ok(Standing::Confirmed(Box::new(Confirmed { session, project, proof })))
    }

    /// For the timeline; nobody waits for it.
    fn note_first_read(&self, session: &AuthSession) {
        if session.was_read() {
            return;
        }
        let (auth, id) = (self.clone(), session.id.clone());
        self.0.tasks.spawn("first read", async move {
            if let Err(error) = auth.0.store.apply(&id, &Event::FirstRead, auth.0.clock.now()).await {
                tracing::warn!(%error, "the first read of a confirmation is not recorded");
            }
        });
    }
}

/// Whether the caller shows the project's secret key.
fn shows_key(project: &Project, caller: &Caller) -> bool {
    caller.key.as_deref().is_some_and(|key| project.secret.is(key))
}
