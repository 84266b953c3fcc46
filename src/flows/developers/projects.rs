//! A developer's projects: seeing, creating, changing, deleting them, replacing their secrets, and which bots run for
//! them. Whose project it is not, for them there is none.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::MutexGuard;

use super::DeveloperError;
use super::Developers;
use super::noting::developer;
use super::noting::note;
use super::noting::note_change;
use super::noting::note_deleted;
use super::noting::note_new;
use crate::audit::ProjectAct;
use crate::audit::Who;
use crate::domain::developer::DeveloperId;
use crate::domain::ids::Secret;
use crate::domain::ledger::Tally;
use crate::domain::project::Project;
use crate::domain::project::ProjectBot;
use crate::domain::project::ProjectId;
use crate::domain::project::ProjectSettings;
use crate::domain::project::SigningSecret;
use crate::domain::project_wishes::BadWish;
use crate::domain::project_wishes::Change;
use crate::domain::project_wishes::Wishes;
use crate::domain::project_wishes::grace;
use crate::flows::ownership::owned;
use crate::flows::ownership::projects_of;
use crate::store::StoreError;
use crate::telegram::TelegramError;

/// How many projects a developer may create; a file of the operator's may ask for more.
const MOST_PROJECTS: usize = 100;

/// A project with what is not kept in it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) project: Arc<Project>,
    /// Its own bot's, without the @, where it has one that has been heard of.
    pub(crate) bot_username: Option<String>,
    /// What became of its sessions since it was made.
    pub(crate) tally: Tally,
}

impl Developers {
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
        let secret = SigningSecret::new(self.0.policy.mode, &self.0.ids);
        let project = Project::new(id, owner, secret, settings, self.0.clock.now());
        self.0.store.insert_project(&project).await?;
        Ok(())
    }

    /// Starts the bots of all projects.
    ///
    /// # Errors
    /// The store.
    pub async fn run_bots(&self) -> Result<(), StoreError> {
        for project in self.0.store.projects().await? {
            self.run_bot(&project);
        }
        Ok(())
    }

    /// A developer's projects, the oldest first.
    pub(crate) async fn projects(&self, owner: &DeveloperId) -> Result<Vec<Seen>, DeveloperError> {
        let mut seen = Vec::new();
        for project in projects_of(&*self.0.store, owner).await? {
            seen.push(self.seen(project).await?);
        }
        Ok(seen)
    }

    /// A developer's project.
    pub(crate) async fn project(&self, owner: &DeveloperId, id: &str) -> Result<Seen, DeveloperError> {
        let project = self.owned(owner, id).await?;
        self.seen(project).await
    }

    /// A developer's project, to read its secret.
    pub(crate) async fn secret(
        &self,
        owner: DeveloperId,
        id: &str,
        from: Option<IpAddr>,
    ) -> Result<Arc<Project>, DeveloperError> {
        let project = self.owned(&owner, id).await?;
        note(&developer(&owner, from), ProjectAct::SecretRevealed, &project, None);
        Ok(project)
    }

    /// Creates a project.
    pub(crate) async fn create_project(
        &self,
        owner: DeveloperId,
        wishes: Wishes,
        from: Option<IpAddr>,
    ) -> Result<Seen, DeveloperError> {
        let change = self.granted(wishes)?;
        let name = change.name().ok_or(DeveloperError::NameMissing)?.to_owned();
        let secret = match change.secret_key() {
            Some((key, _)) => self.brought(key)?,
            None => SigningSecret::new(self.0.policy.mode, &self.0.ids),
        };
        let developers = self.clone();
        self.to_its_end(async move {
            developers.has_room(&owner).await?;
            let mut settings = ProjectSettings::named(name);
            settings.bot = developers.wanted_bot(&change).await?;
            let (id, now) = (ProjectId::new(&developers.0.ids), developers.0.clock.now());
            let mut project = Project::new(id, owner, secret, settings, now);
            change.apply(&mut project);
            let held = developers.0.bots.lock().await;
            // Of many who asked at once, each has been written, or is behind this lock.
            let written = match developers.has_room(&project.owner).await {
                Ok(()) => developers.0.store.insert_project(&project).await.map_err(DeveloperError::from),
                Err(full) => Err(full),
            };
            developers.settle_bots(&[project.bot()], &held).await;
            written?;
            note_new(&developer(&project.owner, from), &project);
            developers.seen(Arc::new(project)).await
        })
        .await
    }

    /// Changes what is asked of a project.
    pub(crate) async fn change_project(
        &self,
        owner: DeveloperId,
        id: &str,
        wishes: Wishes,
        from: Option<IpAddr>,
    ) -> Result<Seen, DeveloperError> {
        let present = self.owned(&owner, id).await?;
        let id = present.id.clone();
        let change = self.granted(wishes)?;
        let secret = change.secret_key().map(|(key, _)| self.brought(key)).transpose()?;
        let secret = secret.filter(|secret| !present.secret.is(secret.reveal()));
        let developers = self.clone();
        self.to_its_end(async move {
            let bot = developers.wanted_bot(&change).await?;
            let who = developer(&owner, from);
            let changed = developers.write(&who, &id, &change, bot.as_ref(), secret.as_ref()).await?;
            let project = changed.ok_or(DeveloperError::ProjectNotFound)?;
            developers.seen(project).await
        })
        .await
    }

    /// Replaces a project's secret with a fresh one.
    pub(crate) async fn rotate(
        &self,
        owner: DeveloperId,
        id: &str,
        grace_seconds: Option<u64>,
        from: Option<IpAddr>,
    ) -> Result<Arc<Project>, DeveloperError> {
        let id = self.owned(&owner, id).await?.id.clone();
        let grace = grace(grace_seconds)?;
        let developers = self.clone();
        self.to_its_end(async move {
            let secret = SigningSecret::new(developers.0.policy.mode, &developers.0.ids);
            let now = developers.0.clock.now();
            let rotate = |project: &mut Project| project.rotate(secret.clone(), grace, now);
            let project = developers.0.store.change_project(&id, &rotate).await?;
            let project = project.ok_or(DeveloperError::ProjectNotFound)?;
            note(&developer(&owner, from), ProjectAct::SecretRotated, &project, None);
            Ok(project)
        })
        .await
    }

    /// Deletes a project.
    pub(crate) async fn delete_project(
        &self,
        owner: DeveloperId,
        id: &str,
        from: Option<IpAddr>,
    ) -> Result<(), DeveloperError> {
        let project = self.owned(&owner, id).await?;
        let developers = self.clone();
        self.to_its_end(async move {
            let id = &project.id;
            let held = developers.0.bots.lock().await;
            // It may have another bot by now.
            let present = developers.0.store.project(id).await?;
            if !developers.0.store.delete_project(id).await? {
                return Err(DeveloperError::ProjectNotFound);
            }
            note_deleted(&developer(&owner, from), present.as_ref().unwrap_or(&project));
            let bot = present.and_then(|project| project.bot());
            developers.settle_bots(&[bot], &held).await;
            developers.0.ledger.tidy();
            Ok(())
        })
        .await
    }

    /// Writes a change, and lets those bots run that projects have then.
    pub(super) async fn write(
        &self,
        who: &Who,
        id: &ProjectId,
        change: &Change,
        bot: Option<&ProjectBot>,
        secret: Option<&SigningSecret>,
    ) -> Result<Option<Arc<Project>>, DeveloperError> {
        let now = self.0.clock.now();
        let before = Mutex::new(None);
        let grace = change.secret_key().map(|(_, grace)| grace).unwrap_or_default();
        let held = self.0.bots.lock().await;
        let write = |project: &mut Project| {
            *before.lock().unwrap_or_else(PoisonError::into_inner) = Some(project.clone());
            change.apply(project);
            if change.bot_token().is_some() {
                project.settings.bot = bot.cloned();
            }
            if let Some(secret) = secret {
                project.rotate(secret.clone(), grace, now);
            }
        };
        let changed = self.0.store.change_project(id, &write).await;
        let before = before.into_inner().unwrap_or_else(PoisonError::into_inner);
        let bot_before = before.as_ref().and_then(Project::bot);
        self.settle_bots(&[bot_before, bot.map(|bot| bot.id)], &held).await;
        let changed = changed?;
        if let (Some(before), Some(after)) = (before, &changed) {
            note_change(who, &before, after);
        }
        Ok(changed)
    }

    /// A developer's project.
    async fn owned(&self, owner: &DeveloperId, id: &str) -> Result<Arc<Project>, DeveloperError> {
        owned(&*self.0.store, owner, id).await?.ok_or(DeveloperError::ProjectNotFound)
    }

    async fn has_room(&self, owner: &DeveloperId) -> Result<(), DeveloperError> {
        let theirs = projects_of(&*self.0.store, owner).await?.len();
        (theirs < MOST_PROJECTS).then_some(()).ok_or(DeveloperError::TooManyProjects)
    }

    fn granted(&self, wishes: Wishes) -> Result<Change, DeveloperError> {
        let refused = |bad: Vec<BadWish>| bad.into_iter().next().unwrap_or(BadWish::Name).into();
        wishes.checked(&self.0.policy.webhook_allow).map_err(refused)
    }

    pub(super) fn brought(&self, key: &Secret<String>) -> Result<SigningSecret, DeveloperError> {
        let brought = SigningSecret::brought(key.reveal().clone(), &self.0.ids);
        brought.map_err(|_| BadWish::SecretKey.into())
    }

    async fn seen(&self, project: Arc<Project>) -> Result<Seen, DeveloperError> {
        let bot_username = match project.bot() {
            None => None,
            Some(bot) => match self.0.accounts.bots().user(bot).and_then(|user| user.username) {
                Some(present) => Some(present),
                None => self.0.store.username(bot).await?,
            },
        };
        let tally = self.0.ledger.tally(&project.id).await?;
        Ok(Seen { project, bot_username, tally })
    }
}

/// The bots of projects.
impl Developers {
    /// The bot that a change asks for, once Telegram has accepted its token. It runs then.
    async fn wanted_bot(&self, change: &Change) -> Result<Option<ProjectBot>, DeveloperError> {
        let Some(token) = change.bot_token().filter(|token| !token.reveal().is_empty()) else {
            return Ok(None);
        };
        let user = self.0.accounts.bots().verify(token.clone()).await.map_err(|error| {
            if let TelegramError::FloodWait(wait) = error {
                return DeveloperError::FloodWait(wait);
            }
            if matches!(error, TelegramError::TokenInvalid) {
                return DeveloperError::BotTokenInvalid;
            }
            // What it is concerns the operator.
            tracing::warn!(%error, "Telegram could not be asked about a bot_token");
            DeveloperError::TelegramUnreachable
        })?;
        if let Some(username) = &user.username {
            self.0.store.put_username(user.id, username).await?;
        }
        Ok(Some(ProjectBot { id: user.id, token: token.clone() }))
    }

    /// Starts those of these bots that a project has, and ends the others: a project had them a moment ago, or they were
    /// started for what was not written.
    async fn settle_bots(&self, bots: &[Option<i64>], _held: &MutexGuard<'_, ()>) {
        for bot in bots.iter().copied().flatten() {
            let projects = self.0.store.projects().await;
            match projects.map(|all| all.into_iter().find(|project| project.bot() == Some(bot))) {
                Ok(Some(project)) => self.run_bot(&project),
                Ok(None) if !self.0.accounts.is_default_bot(bot) => self.0.accounts.bots().forget(bot).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, bot, "it is not known whether a bot is still needed"),
            }
        }
    }

    fn run_bot(&self, project: &Project) {
        if let Some(bot) = &project.settings.bot
            && self.0.accounts.bots().run(bot.token.clone()).is_err()
        {
            tracing::error!(project = %project.id, "the stored bot_token of a project cannot be one");
        }
    }
}
