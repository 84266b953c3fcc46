//! The projects that a file asks for (`CONNECTOR_PROJECTS`), applied at each start. What the file names, wins; what it
//! leaves out stays as it is. Reading the file is the configuration's business.

use std::sync::Arc;

use super::DeveloperError;
use super::Developers;
use super::noting::note_new;
use crate::audit::Who;
use crate::domain::bot_token::bot_id;
use crate::domain::developer::DeveloperId;
use crate::domain::project::Project;
use crate::domain::project::ProjectBot;
use crate::domain::project::ProjectId;
use crate::domain::project::ProjectSettings;
use crate::domain::project::SigningSecret;
use crate::domain::project_wishes::Change;
use crate::domain::project_wishes::Declared;
use crate::store::StoreError;

impl Developers {
    /// Which of these projects belong to somebody else.
    ///
    /// # Errors
    /// The store.
    pub async fn of_others(
        &self,
        owner: &DeveloperId,
        declared: &[Declared],
    ) -> Result<Vec<ProjectId>, StoreError> {
        let mut of_others = Vec::new();
        for Declared { id, .. } in declared {
            if self.0.store.project(id).await?.is_some_and(|project| project.owner != *owner) {
                of_others.push(id.clone());
            }
        }
        Ok(of_others)
    }

    /// Makes or changes these projects. Telegram is not asked about their bots: it may be out of reach, and a bot that
    /// it refuses is told of by the bot itself.
    ///
    /// # Errors
    /// The store.
    pub async fn declare(&self, owner: &DeveloperId, declared: Vec<Declared>) -> Result<(), DeveloperError> {
        for Declared { id, change } in declared {
            match self.0.store.project(&id).await? {
                Some(present) => self.redeclare(&present, change).await?,
                None => self.declare_new(owner.clone(), id, &change).await?,
            }
        }
        Ok(())
    }

    async fn declare_new(
        &self,
        owner: DeveloperId,
        id: ProjectId,
        change: &Change,
    ) -> Result<(), DeveloperError> {
        let secret = match change.secret_key() {
            Some((key, _)) => self.brought(key)?,
            None => SigningSecret::new(self.0.policy.mode, &self.0.ids),
        };
        let mut settings = ProjectSettings::named(id.as_str().to_owned());
        settings.bot = declared_bot(change);
        let mut project = Project::new(id, owner, secret, settings, self.0.clock.now());
        change.apply(&mut project);
        if self.0.store.insert_project(&project).await? {
            note_new(&Who::Service, &project);
        } else {
            // To refuse to start would keep what is left of it there for ever.
            tracing::warn!(project = %project.id, "a project of the file was deleted a short time ago: restart later");
        }
        Ok(())
    }

    async fn redeclare(&self, present: &Arc<Project>, change: Change) -> Result<(), DeveloperError> {
        let change = change.without_same_webhook(present);
        let secret = match change.secret_key() {
            Some((key, _)) if !present.secret.is(key.reveal()) => Some(self.brought(key)?),
            Some(_) | None => None,
        };
        let bot = declared_bot(&change);
        let mut next = Project::clone(present);
        change.apply(&mut next);
        let same_bot = change.bot_token().is_none() || bot == present.settings.bot;
        if next != **present || !same_bot || secret.is_some() {
            self.write(&Who::Service, &present.id, &change, bot.as_ref(), secret.as_ref()).await?;
        }
        Ok(())
    }
}

fn declared_bot(change: &Change) -> Option<ProjectBot> {
    let token = change.bot_token().filter(|token| !token.reveal().is_empty())?;
    Some(ProjectBot { id: bot_id(token).ok()?, token: token.clone() })
}
