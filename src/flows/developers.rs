//! Developers and their projects: signing in for a token, creating projects, reading their secrets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::accounts::Accounts;
use crate::domain::account::Mode;
use crate::domain::bot_token::bot_id;
use crate::domain::clock::Clock;
use crate::domain::clock::Timestamp;
use crate::domain::developer::AccessToken;
use crate::domain::developer::BadPassword;
use crate::domain::developer::Developer;
use crate::domain::developer::DeveloperId;
use crate::domain::developer::Email;
use crate::domain::developer::Grant;
use crate::domain::developer::KeptPassword;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;
use crate::domain::project::Project;
use crate::domain::project::ProjectBot;
use crate::domain::project::ProjectId;
use crate::domain::project::ProjectSettings;
use crate::domain::project::SigningSecret;
use crate::domain::project::WeakSecret;
use crate::store::Store;
use crate::store::StoreError;
use crate::telegram::TelegramError;

/// How long an access token is good unless asked otherwise, and at most (contract, section 3).
const TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
const LONGEST_TOKEN_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many passwords are hashed at a time, and how many callers may wait for that.
static RUNNING: Semaphore = Semaphore::const_new(2);
static WAITING: Semaphore = Semaphore::const_new(64);

/// What developers do. Cloning shares it.
#[derive(Clone)]
pub struct Developers {
    store: Arc<dyn Store>,
    accounts: Accounts,
    clock: Arc<dyn Clock>,
    ids: Ids,
    mode: Mode,
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
    /// The access token is missing, unknown, revoked or too old.
    #[error("the Bearer token is missing, unknown or expired: POST /api/v1/dev/login gives one")]
    Unauthorized,
    /// There is no such project of this developer.
    #[error("there is no project with this id")]
    ProjectNotFound,
    /// A secret that is none.
    #[error(transparent)]
    WeakSecret(#[from] WeakSecret),
    /// Telegram does not know the bot's token.
    #[error("Telegram does not accept this bot_token: ask @BotFather for the bot's present one")]
    BotTokenInvalid,
    /// Telegram cannot be asked about a bot's token.
    #[error("Telegram cannot be reached to check the bot_token: {0}")]
    TelegramUnreachable(String),
    /// Telegram asks to wait.
    #[error("Telegram asks to wait {} s", .0.as_secs())]
    FloodWait(Duration),
    /// Too many sign in at once.
    #[error("too many developers sign in at once: try again in a second")]
    Busy,
    /// A token lifetime out of range.
    #[error("expires_in is 1 second to 365 days")]
    LifetimeInvalid,
    /// A password that is none.
    #[error(transparent)]
    BadPassword(#[from] BadPassword),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A project to be.
#[derive(Clone, Debug)]
pub(crate) struct NewProject {
    pub(crate) settings: ProjectSettings,
    pub(crate) secret_key: Option<String>,
    pub(crate) bot_token: Option<Secret<String>>,
}

impl Developers {
    /// Joins the parts.
    pub fn new(
        store: Arc<dyn Store>,
        accounts: Accounts,
        clock: Arc<dyn Clock>,
        ids: Ids,
        mode: Mode,
    ) -> Self {
        Self { store, accounts, clock, ids, mode }
    }

    /// Makes a developer unless there is one with this address (`CONNECTOR_BOOTSTRAP_EMAIL`). Returns who has it.
    ///
    /// # Errors
    /// The password is none, or the store.
    pub async fn bootstrap(
        &self,
        email: Email,
        password: Secret<String>,
    ) -> Result<DeveloperId, DeveloperError> {
        if let Some(known) = self.store.developer_by_email(&email).await? {
            return Ok(known.id);
        }
        let ids = self.ids.clone();
        let kept = blocking(move || KeptPassword::new(&password, &ids)).await??;
        let id = DeveloperId::new(&self.ids);
        let developer = Developer { id: id.clone(), email, password: kept, created_at: self.clock.now() };
        self.store.insert_developer(&developer).await?;
        Ok(id)
    }

    /// Makes a project with a given id unless there is one, for the demo.
    ///
    /// # Errors
    /// The store.
    pub async fn ensure_project(
        &self,
        owner: DeveloperId,
        id: ProjectId,
        settings: ProjectSettings,
    ) -> Result<(), DeveloperError> {
        let secret = SigningSecret::new(self.mode, &self.ids);
        let project = Project::new(id, owner, secret, settings, self.clock.now());
        self.store.insert_project(&project).await?;
        Ok(())
    }

    /// Starts the bots of all projects.
    ///
    /// # Errors
    /// The store.
    pub async fn run_bots(&self) -> Result<(), StoreError> {
        for project in self.store.projects().await? {
            if let Some(bot) = &project.settings.bot
                && self.accounts.bots().run(bot.token.clone()).is_err()
            {
                tracing::error!(project = %project.id, "the stored bot_token of a project cannot be one");
            }
        }
        Ok(())
    }

    /// A token for a developer who knows their password.
    pub(crate) async fn login(
        &self,
        email: &str,
        password: Secret<String>,
        lifetime: Option<Duration>,
    ) -> Result<(AccessToken, Timestamp), DeveloperError> {
        let lifetime = lifetime.unwrap_or(TOKEN_LIFETIME);
        if lifetime.is_zero() || lifetime > LONGEST_TOKEN_LIFETIME {
            return Err(DeveloperError::LifetimeInvalid);
        }
        let developer = match Email::parse(email) {
            Ok(email) => self.store.developer_by_email(&email).await?,
            Err(_) => None,
        };
        let ids = self.ids.clone();
        let found = blocking(move || {
            if let Some(developer) = developer {
                return developer.password.is(&password).then_some(developer.id);
            }
            // As long as it takes with a developer, so that time does not tell who is one.
            drop(KeptPassword::new(&Secret::new("no such developer".to_owned()), &ids));
            None
        });
        let developer = found.await?.ok_or(DeveloperError::LoginInvalid)?;
        let token = AccessToken::new(&self.ids);
        let expires_at = self.clock.now().plus(lifetime);
        self.store.insert_grant(&token, &Grant { developer, expires_at }).await?;
        Ok((token, expires_at))
    }

    /// Makes a token worthless.
    pub(crate) async fn logout(&self, token: &AccessToken) -> Result<(), DeveloperError> {
        Ok(self.store.delete_grant(token).await?)
    }

    /// Whose token this is.
    pub(crate) async fn holder(&self, token: &AccessToken) -> Result<DeveloperId, DeveloperError> {
        let grant = self.store.grant(token, self.clock.now()).await?;
        grant.map(|grant| grant.developer).ok_or(DeveloperError::Unauthorized)
    }

    /// A developer's projects, the oldest first.
    pub(crate) async fn projects(&self, owner: &DeveloperId) -> Result<Vec<Arc<Project>>, DeveloperError> {
        let all = self.store.projects().await?;
        Ok(all.into_iter().filter(|project| project.owner == *owner).collect())
    }

    /// A developer's project.
    pub(crate) async fn project(
        &self,
        owner: &DeveloperId,
        id: &str,
    ) -> Result<Arc<Project>, DeveloperError> {
        let id = ProjectId::parse(id).ok_or(DeveloperError::ProjectNotFound)?;
        let project = self.store.project(&id).await?;
        project.filter(|project| project.owner == *owner).ok_or(DeveloperError::ProjectNotFound)
    }

    /// Creates a project.
    pub(crate) async fn create_project(
        &self,
        owner: DeveloperId,
        new: NewProject,
    ) -> Result<Project, DeveloperError> {
        let secret = match new.secret_key {
            Some(key) => SigningSecret::brought(key, &self.ids)?,
            None => SigningSecret::new(self.mode, &self.ids),
        };
        let mut settings = new.settings;
        let mut started = None;
        if let Some(token) = new.bot_token {
            let bots = self.accounts.bots();
            started = bot_id(&token).ok().filter(|id| bots.condition(*id) == "none");
            let user = bots.verify(token.clone()).await.map_err(|error| {
                if let TelegramError::FloodWait(wait) = error {
                    return DeveloperError::FloodWait(wait);
                }
                if matches!(error, TelegramError::TokenInvalid) {
                    return DeveloperError::BotTokenInvalid;
                }
                DeveloperError::TelegramUnreachable(error.to_string())
            })?;
            settings.bot = Some(ProjectBot { id: user.id, token });
        }
        let (id, created_at) = (ProjectId::new(&self.ids), self.clock.now());
        let project = Project::new(id, owner, secret, settings, created_at);
        if let Err(error) = self.store.insert_project(&project).await {
            if let Some(bot) = started {
                self.stop_bot_of_nobody(bot).await;
            }
            return Err(error.into());
        }
        Ok(project)
    }

    /// Stops a bot that was started for a project which there is not.
    async fn stop_bot_of_nobody(&self, bot: i64) {
        let wants = |project: &Arc<Project>| project.settings.bot.as_ref().is_some_and(|own| own.id == bot);
        let wanted = self.store.projects().await.is_ok_and(|all| all.iter().any(wants));
        if !wanted {
            self.accounts.bots().stop(bot).await;
        }
    }
}

/// Runs what costs a password hash (19 MiB and tens of milliseconds): few at a time, and not for a long queue.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DeveloperError> {
    let _waiting = WAITING.try_acquire().map_err(|_| DeveloperError::Busy)?;
    // Never closed.
    let _running = RUNNING.acquire().await;
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| StoreError::Unavailable("a password could not be hashed".to_owned()))?)
}
