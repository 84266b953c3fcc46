//! Developers and their projects. Accounts and tokens are in `accounts`, projects in `projects`, those that a file asks
//! for in `declared`, where they are hashed in `hashing`, and what the audit log
//! tells of projects in `noting`.

mod accounts;
mod declared;
mod hashing;
mod noting;
mod projects;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use ipnet::IpNet;

pub(crate) use self::accounts::Credentials;
pub(crate) use self::accounts::Granted;
pub(crate) use self::accounts::Profile;
use self::hashing::Hashing;
pub(crate) use self::projects::Seen;
use super::accounts::Accounts;
use super::ledger::Ledger;
use super::slowing::Slowing;
use super::to_its_end::to_its_end;
use crate::domain::account::Mode;
use crate::domain::clock::Clock;
use crate::domain::developer::BadEmail;
use crate::domain::developer::BadPassword;
use crate::domain::ids::Ids;
use crate::domain::project_wishes::BadWish;
use crate::lifecycle::Tasks;
use crate::store::Store;
use crate::store::StoreError;

/// What developers do. Cloning shares it.
#[derive(Clone)]
pub struct Developers(Arc<Shared>);

/// What the operator decided about developers.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which Telegram this is: what secrets begin with.
    pub mode: Mode,
    /// `CONNECTOR_REGISTRATION`.
    pub registration_open: bool,
    /// `CONNECTOR_WEBHOOK_ALLOW`.
    pub webhook_allow: Vec<IpNet>,
}

struct Shared {
    store: Arc<dyn Store>,
    accounts: Accounts,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    ids: Ids,
    tasks: Tasks,
    policy: Policy,
    slowing: Slowing,
    hashing: Hashing,
    /// When ended tokens were last removed, Unix milliseconds.
    swept: AtomicI64,
    /// Held from a change of which projects have which bot until the bots that run are those: a bot must not be stopped
    /// by one change while another gives it to a project.
    bots: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Developers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Developers")
    }
}

/// Why a developer does not get what they ask for.
#[derive(Debug, thiserror::Error)]
pub enum DeveloperError {
    /// No such developer, or another password: which of them is not told.
    #[error("the e-mail address or the password is wrong")]
    LoginInvalid,
    /// Too many attempts in too short a time.
    #[error("too many attempts: try again in {} s", seconds(*.0))]
    TooManyAttempts(Duration),
    /// Nobody may register.
    #[error("registration is closed: the operator opens it with CONNECTOR_REGISTRATION=open")]
    RegistrationClosed,
    /// There is a developer with this address.
    #[error("there is a developer with this e-mail address")]
    EmailTaken,
    /// The access token is missing, unknown, revoked or too old.
    #[error("the Bearer token is missing, unknown or expired: POST /api/v1/dev/login gives one")]
    Unauthorized,
    /// There is no such project of this developer.
    #[error("there is no project with this id")]
    ProjectNotFound,
    /// A setting that cannot be.
    #[error(transparent)]
    BadWish(#[from] BadWish),
    /// The developer has as many projects as one may create.
    #[error("you have 100 projects: delete one first")]
    TooManyProjects,
    /// A new project without a name.
    #[error("missing field `name`")]
    NameMissing,
    /// Telegram does not know the bot's token.
    #[error("Telegram does not accept this bot_token: ask @BotFather for the bot's present one")]
    BotTokenInvalid,
    /// Telegram cannot be asked about a bot's token.
    #[error("Telegram cannot be asked about the bot_token now: try again later")]
    TelegramUnreachable,
    /// Telegram asks to wait.
    #[error("Telegram asks to wait {} s", .0.as_secs())]
    FloodWait(Duration),
    /// Too many sign in at once.
    #[error("too many developers sign in at once: try again in a second")]
    Busy,
    /// A token lifetime out of range.
    #[error("expires_in is 1 second to 365 days")]
    LifetimeInvalid,
    /// Not an e-mail address.
    #[error("`email` is {0}")]
    BadEmail(#[from] BadEmail),
    /// A password that is none.
    #[error(transparent)]
    BadPassword(#[from] BadPassword),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A wait in whole seconds, rounded up: who comes back then is not refused again.
pub(crate) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl Developers {
    /// Joins the parts.
    #[expect(clippy::too_many_arguments, reason = "the composition root names each part once")]
    pub fn new(
        store: Arc<dyn Store>,
        accounts: Accounts,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        ids: Ids,
        tasks: Tasks,
        policy: Policy,
    ) -> Self {
        Self(Arc::new(Shared {
            store,
            accounts,
            ledger,
            clock,
            ids,
            tasks,
            policy,
            slowing: Slowing::default(),
            hashing: Hashing::default(),
            swept: AtomicI64::new(0),
            bots: tokio::sync::Mutex::default(),
        }))
    }

    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DeveloperError>> + Send + 'static,
    ) -> Result<T, DeveloperError> {
        to_its_end(&self.0.tasks, "developers", work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_seconds_after_which_it_is_over() {
        assert_eq!(seconds(Duration::from_millis(14_001)), 15);
        assert_eq!(seconds(Duration::from_secs(15)), 15);
    }
}
