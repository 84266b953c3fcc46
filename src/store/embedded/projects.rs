//! Projects, developers and access tokens in the embedded store. Projects are few and asked for at every request, so all
//! of them are kept in memory too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::EmbeddedStore;
use super::engine::Batch;
use super::engine::Engine;
use super::engine::Tree;
use crate::domain::clock::Timestamp;
use crate::domain::developer::AccessToken;
use crate::domain::developer::Developer;
use crate::domain::developer::DeveloperId;
use crate::domain::developer::Email;
use crate::domain::developer::Grant;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;
use crate::domain::seal::Sealer;
use crate::store::ProjectChange;
use crate::store::ProjectStore;
use crate::store::StoreError;
use crate::store::records;

const PROJECT: &str = "project/";
const DELETED: &str = "deleted/";
const GRANT: &str = "grant/";

/// The tree of projects and developers, and all projects.
#[derive(Debug)]
pub(super) struct Projects {
    tree: Tree,
    /// Replaced as a whole: who reads it takes no lock, which all polls would share.
    all: ArcSwap<HashMap<ProjectId, Arc<Project>>>,
    /// Held while a developer is looked up and written as one.
    writing: Mutex<()>,
    /// Held from a look at the stored projects until what came of it is durable and known to all.
    changing: tokio::sync::Mutex<()>,
}

impl Projects {
    pub(super) fn open(engine: &Engine, sealer: &Sealer) -> Result<Self, StoreError> {
        let tree = engine.tree("projects")?;
        let mut all = HashMap::new();
        for entry in tree.scan_prefix(PROJECT) {
            let (key, record) = entry?;
            let project: Project = records::decode(sealer, &String::from_utf8_lossy(&key), &record)?;
            all.insert(project.id.clone(), Arc::new(project));
        }
        Ok(Self {
            tree,
            all: ArcSwap::from_pointee(all),
            writing: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    pub(super) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A project as it is now.
    pub(super) fn known(&self, id: &ProjectId) -> Option<Arc<Project>> {
        self.all.load().get(id).cloned()
    }

    /// Whether a project as it is now is such a one. For whoever asks often: nothing is written, also not how many have it.
    pub(super) fn is(&self, id: &ProjectId, such: impl FnOnce(&Project) -> bool) -> bool {
        self.all.load().get(id).is_some_and(|project| such(project))
    }

    fn now_is(&self, project: &Arc<Project>) {
        self.change(|all| all.insert(project.id.clone(), Arc::clone(project)));
    }

    fn change<T>(&self, change: impl Fn(&mut HashMap<ProjectId, Arc<Project>>) -> T) {
        self.all.rcu(|all| {
            let mut all = HashMap::clone(all);
            change(&mut all);
            all
        });
    }
}

fn project_key(id: &ProjectId) -> String {
    format!("{PROJECT}{id}")
}

fn deleted_key(id: &ProjectId) -> String {
    format!("{DELETED}{id}")
}

fn developer_key(id: &DeveloperId) -> String {
    format!("developer/{id}")
}

impl EmbeddedStore {
    fn email_key(&self, email: &Email) -> String {
        format!("email/{}", URL_SAFE_NO_PAD.encode(self.0.sealer.blind("email", email.as_str().as_bytes())))
    }

    fn read<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let record = self.0.projects.tree.get(key)?;
        record.map(|record| records::decode(&self.0.sealer, key, &record)).transpose()
    }

    fn write<T: serde::Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        let record = records::encode(&self.0.sealer, key, value)?;
        self.0.projects.tree.insert(key, record)
    }
}

#[async_trait]
impl ProjectStore for EmbeddedStore {
    async fn project(&self, id: &ProjectId) -> Result<Option<Arc<Project>>, StoreError> {
        Ok(self.0.projects.known(id))
    }

    async fn projects(&self) -> Result<Vec<Arc<Project>>, StoreError> {
        let mut projects: Vec<_> = self.0.projects.all.load().values().cloned().collect();
        projects.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        Ok(projects)
    }

    async fn insert_project(&self, project: &Project) -> Result<bool, StoreError> {
        let _changing = self.0.projects.changing.lock().await;
        let tree = &self.0.projects.tree;
        let (key, deleted) = (project_key(&project.id), deleted_key(&project.id));
        if tree.contains_key(&key)? || tree.contains_key(deleted)? {
            return Ok(false);
        }
        self.write(&key, project)?;
        // Nobody may meet it before it is sure to stay.
        self.0.flusher.flushed().await?;
        self.0.projects.now_is(&Arc::new(project.clone()));
        Ok(true)
    }

    async fn change_project(
        &self,
        id: &ProjectId,
        change: ProjectChange<'_>,
    ) -> Result<Option<Arc<Project>>, StoreError> {
        let _changing = self.0.projects.changing.lock().await;
        let key = project_key(id);
        let Some(mut project) = self.read::<Project>(&key)? else { return Ok(None) };
        change(&mut project);
        self.write(&key, &project)?;
        self.0.flusher.flushed().await?;
        let project = Arc::new(project);
        self.0.projects.now_is(&project);
        Ok(Some(project))
    }

    async fn delete_project(&self, id: &ProjectId) -> Result<bool, StoreError> {
        let _changing = self.0.projects.changing.lock().await;
        let key = project_key(id);
        let Some(project) = self.read::<Project>(&key)? else { return Ok(false) };
        let deleted = deleted_key(id);
        let mut step = Batch::default();
        step.remove(key.as_str());
        step.insert(
            deleted.as_str(),
            records::encode(&self.0.sealer, &deleted, &(id, project.settings.name))?,
        );
        self.0.projects.tree.apply_batch(step)?;
        self.0.flusher.flushed().await?;
        self.0.projects.change(|all| all.remove(id));
        Ok(true)
    }

    async fn deleted_projects(&self) -> Result<Vec<ProjectId>, StoreError> {
        let mut deleted = Vec::new();
        for entry in self.0.projects.tree.scan_prefix(DELETED) {
            let (key, record) = entry?;
            let (id, _): (ProjectId, String) =
                records::decode(&self.0.sealer, &String::from_utf8_lossy(&key), &record)?;
            deleted.push(id);
        }
        Ok(deleted)
    }

    async fn deleted_project_name(&self, id: &ProjectId) -> Result<Option<String>, StoreError> {
        let deleted: Option<(ProjectId, String)> = self.read(&deleted_key(id))?;
        Ok(deleted.map(|(_, name)| name))
    }

    async fn forget_project(&self, id: &ProjectId) -> Result<(), StoreError> {
        self.0.projects.tree.remove(deleted_key(id))?;
        self.0.flusher.flushed().await
    }

    async fn insert_developer(&self, developer: &Developer) -> Result<bool, StoreError> {
        {
            let _writing = self.0.projects.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let email = self.email_key(&developer.email);
            if self.0.projects.tree.contains_key(&email)? {
                return Ok(false);
            }
            let key = developer_key(&developer.id);
            let mut step = Batch::default();
            step.insert(key.as_str(), records::encode(&self.0.sealer, &key, developer)?);
            step.insert(email.as_str(), records::encode(&self.0.sealer, &email, &developer.id)?);
            self.0.projects.tree.apply_batch(step)?;
        }
        self.0.flusher.flushed().await?;
        Ok(true)
    }

    async fn developer(&self, id: &DeveloperId) -> Result<Option<Developer>, StoreError> {
        self.read(&developer_key(id))
    }

    async fn developer_by_email(&self, email: &Email) -> Result<Option<Developer>, StoreError> {
        match self.read::<DeveloperId>(&self.email_key(email))? {
            Some(id) => self.developer(&id).await,
            None => Ok(None),
        }
    }

    async fn reset_developer(&self, developer: &Developer) -> Result<(), StoreError> {
        {
            let _writing = self.0.projects.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut step = Batch::default();
            let key = developer_key(&developer.id);
            step.insert(key.as_str(), records::encode(&self.0.sealer, &key, developer)?);
            for entry in self.0.projects.tree.scan_prefix(GRANT) {
                let (key, record) = entry?;
                let grant = records::decode::<Grant>(&self.0.sealer, &String::from_utf8_lossy(&key), &record);
                // What cannot be read permits nothing anyway.
                if grant.map_or(true, |grant| grant.developer == developer.id) {
                    step.remove(key);
                }
            }
            self.0.projects.tree.apply_batch(step)?;
        }
        self.0.flusher.flushed().await
    }

    async fn insert_grant(&self, token: &AccessToken, grant: &Grant) -> Result<(), StoreError> {
        self.write(&grant_key(token), grant)?;
        self.0.flusher.flushed().await
    }

    async fn grant(&self, token: &AccessToken, now: Timestamp) -> Result<Option<Grant>, StoreError> {
        let key = grant_key(token);
        let grant: Option<Grant> = self.read(&key)?;
        let Some(grant) = grant else { return Ok(None) };
        if now >= grant.expires_at {
            self.0.projects.tree.remove(&key)?;
            return Ok(None);
        }
        Ok(Some(grant))
    }

    async fn delete_grant(&self, token: &AccessToken) -> Result<(), StoreError> {
        self.0.projects.tree.remove(grant_key(token))?;
        self.0.flusher.flushed().await
    }

    async fn delete_ended_grants(&self, now: Timestamp) -> Result<(), StoreError> {
        for entry in self.0.projects.tree.scan_prefix(GRANT) {
            let (key, record) = entry?;
            let grant: Grant = records::decode(&self.0.sealer, &String::from_utf8_lossy(&key), &record)?;
            if now >= grant.expires_at {
                self.0.projects.tree.remove(key)?;
            }
            // There may be many, and others want this thread.
            tokio::task::yield_now().await;
        }
        self.0.flusher.flushed().await
    }
}

fn grant_key(token: &AccessToken) -> String {
    format!("{GRANT}{}", URL_SAFE_NO_PAD.encode(token.digest()))
}
