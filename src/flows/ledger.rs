//! What developers look up about sign-ins: lists, timelines, analytics, forgetting somebody; and the housekeeping behind it:
//! retention, and what a deleted project leaves. Counting itself is the store's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::outbox::Outbox;
use super::ownership::owned;
use super::ownership::projects_of;
use super::to_its_end::to_its_end;
use crate::audit;
use crate::audit::Audit;
use crate::audit::DeveloperAct;
use crate::audit::Who;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::Status;
use crate::domain::clock::Clock;
use crate::domain::clock::Timestamp;
use crate::domain::developer::DeveloperId;
use crate::domain::ledger::Cursor;
use crate::domain::ledger::Day;
use crate::domain::ledger::Listing;
use crate::domain::ledger::Page;
use crate::domain::ledger::People;
use crate::domain::ledger::Tally;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;
use crate::lifecycle::Tasks;
use crate::store::Store;
use crate::store::StoreError;

/// How often what is too old is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);
/// How long the people of a deleted project's sessions may still be told that it is over: an errand lives a day.
const STILL_TOLD: Duration = Duration::from_secs(25 * 3600);

/// How long sessions are kept at least: webhooks are repeated for three days, and what they tell must not outlive what
/// finds the person whom they tell of.
const KEPT_AT_LEAST: Duration = Duration::from_secs(4 * 24 * 3600);

/// What developers look up. Cloning shares it.
#[derive(Clone)]
pub struct Ledger(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// `CONNECTOR_RETENTION_DAYS`.
    retention: Duration,
    /// There is something to tidy.
    untidy: Notify,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ledger")
    }
}

/// Why nothing is found.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// There is no such project of this developer.
    #[error("there is no project with this id")]
    ProjectNotFound,
    /// There is no such session in a project of this developer.
    #[error("there is no session with this id")]
    SessionNotFound,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which sessions a developer asks for.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) project: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) before: Option<Cursor>,
    pub(crate) limit: usize,
}

/// A session and what its project is called.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) session: AuthSession,
    pub(crate) project: Arc<Project>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) sessions: Vec<Listed>,
    pub(crate) next: Option<Cursor>,
}

/// What was counted in a window of days.
#[derive(Clone, Debug)]
pub(crate) struct Analytics {
    pub(crate) total: Tally,
    /// Different people who confirmed; within about 1.6 % where they are more than some hundreds a day.
    pub(crate) people: u64,
    /// Oldest first, none left out.
    pub(crate) days: Vec<(Day, Tally, u64)>,
    /// All projects of the developer.
    pub(crate) projects: Vec<Arc<Project>>,
}

impl Ledger {
    /// Joins the parts.
    pub fn new(
        store: Arc<dyn Store>,
        outbox: Outbox,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
        retention: Duration,
    ) -> Self {
        Self(Arc::new(Shared { store, outbox, clock, tasks, retention, untidy: Notify::new() }))
    }

    /// The present instant.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// A part of the list of a developer's sessions, newest first.
    pub(crate) async fn sessions(&self, owner: &DeveloperId, query: Query) -> Result<Found, LedgerError> {
        let projects = chosen(&projects_of(&*self.0.store, owner).await?, query.project.as_deref())?;
        let ids = projects.iter().map(|project| project.id.clone()).collect();
        let Query { status, before, limit, .. } = query;
        let listing = Listing { projects: ids, status, before, limit };
        let Page { sessions, next } = self.0.store.sessions(&listing, self.now()).await?;
        let with_project = |session: AuthSession| {
            let project = projects.iter().find(|project| project.id == session.project)?;
            Some(Listed { project: Arc::clone(project), session })
        };
        Ok(Found { sessions: sessions.into_iter().filter_map(with_project).collect(), next })
    }

    /// One session of a developer.
    pub(crate) async fn session(&self, owner: &DeveloperId, id: &str) -> Result<Listed, LedgerError> {
        let id = SessionId::parse(id).ok_or(LedgerError::SessionNotFound)?;
        let session = self.0.store.session(&id).await?.ok_or(LedgerError::SessionNotFound)?;
        let project = owned(&*self.0.store, owner, session.project.as_str()).await?;
        Ok(Listed { session, project: project.ok_or(LedgerError::SessionNotFound)? })
    }

    /// What was counted in the `days` days that end today (UTC).
    pub(crate) async fn analytics(
        &self,
        owner: &DeveloperId,
        project: Option<&str>,
        days: u32,
    ) -> Result<Analytics, LedgerError> {
        let today = Day::of(self.now());
        let window = today.window(days);
        let first = window.clone().next().unwrap_or(today);
        let mut counted: Vec<(Day, Tally, People)> =
            window.map(|day| (day, Tally::default(), People::default())).collect();
        let projects = projects_of(&*self.0.store, owner).await?;
        for project in chosen(&projects, project)? {
            for count in self.0.store.day_counts(&project.id, first..=today).await? {
                let same_day = |one: &&mut (Day, Tally, People)| one.0 == count.day;
                if let Some((_, tally, people)) = counted.iter_mut().find(same_day) {
                    *tally = tally.plus(count.tally);
                    *people = std::mem::take(people).union(&count.people);
                }
            }
        }
        let mut total = (Tally::default(), People::default());
        for (_, tally, people) in &counted {
            total = (total.0.plus(*tally), total.1.union(people));
        }
        let days = counted.iter().map(|(day, tally, people)| (*day, *tally, people.count())).collect();
        Ok(Analytics { total: total.0, people: total.1.count(), days, projects })
    }

    /// What was ever counted of a project.
    pub(crate) async fn tally(&self, project: &ProjectId) -> Result<Tally, StoreError> {
        self.0.store.tally(project).await
    }

    /// Different people who signed in to a developer's projects since the month began (UTC).
    pub(crate) async fn people_of_month(&self, owner: &DeveloperId) -> Result<u64, StoreError> {
        let today = Day::of(self.now());
        let mut people = People::default();
        for project in projects_of(&*self.0.store, owner).await? {
            for count in self.0.store.day_counts(&project.id, today.month_begin()..=today).await? {
                people = people.union(&count.people);
            }
        }
        Ok(people.count())
    }

    /// Erases what is known of a person in a developer's projects; how many sessions knew them.
    pub(crate) async fn forget(
        &self,
        owner: &DeveloperId,
        person: i64,
        from: Option<IpAddr>,
    ) -> Result<usize, LedgerError> {
        let who = Who::Developer(owner.clone(), from);
        let projects = projects_of(&*self.0.store, owner).await?;
        let ids: Vec<_> = projects.iter().map(|project| project.id.clone()).collect();
        let ledger = self.clone();
        to_its_end(&self.0.tasks, "forget a person", async move {
            let forgotten = ledger.0.store.forget_person(&ids, person, ledger.now()).await;
            // What was written before the store failed is to be told all the same.
            let forgotten = forgotten.inspect_err(|_| ledger.0.outbox.recall())?;
            ledger.0.outbox.take(forgotten.errands);
            audit::record(&who, &Audit::Developer { act: DeveloperAct::ForgotPerson, outcome: "ok" });
            Ok(forgotten.sessions)
        })
        .await
    }

    /// A project was deleted: its sessions go now.
    pub(crate) fn tidy(&self) {
        self.0.untidy.notify_one();
    }

    /// Removes what is too old and what deleted projects left. Runs until shutdown.
    pub async fn keep_tidy(self) {
        let stopping = self.0.tasks.stopping();
        loop {
            if let Err(error) = self.tidy_up().await {
                tracing::error!(%error, "old sign-ins cannot be removed");
            }
            tokio::select! {
                () = self.0.clock.sleep_until(self.now().plus(HOUSEKEEPING)) => {}
                () = self.0.untidy.notified() => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    async fn tidy_up(&self) -> Result<(), StoreError> {
        let Shared { store, outbox, tasks, retention, .. } = &*self.0;
        for project in store.deleted_projects().await? {
            // What is wrong with one must not keep the others.
            if let Err(error) = self.clear(&project).await {
                tracing::error!(%error, %project, "what a deleted project left cannot be removed");
                outbox.recall();
            }
        }
        let (now, kept) = (self.now(), (*retention).max(KEPT_AT_LEAST));
        let stopping = tasks.stopping();
        while store.prune(now.minus(kept), now).await? && !stopping.is_cancelled() {}
        Ok(())
    }

    async fn clear(&self, project: &ProjectId) -> Result<(), StoreError> {
        let Shared { store, outbox, .. } = &*self.0;
        outbox.take(store.clear_project(project, self.now()).await?);
        store.drop_deliveries(project).await?;
        if store.remove_cleared(project, self.now().minus(STILL_TOLD)).await? {
            store.forget_project(project).await?;
        }
        Ok(())
    }
}

/// All projects, or the one that is asked for.
fn chosen(projects: &[Arc<Project>], id: Option<&str>) -> Result<Vec<Arc<Project>>, LedgerError> {
    let wanted = |project: &&Arc<Project>| id.is_none_or(|id| project.id.as_str() == id);
    let chosen: Vec<_> = projects.iter().filter(wanted).cloned().collect();
    if id.is_some() && chosen.is_empty() {
        return Err(LedgerError::ProjectNotFound);
    }
    Ok(chosen)
}
