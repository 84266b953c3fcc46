//! Sends what is due. Each project with pending deliveries has a worker of its own, with a few exchanges at once: whoever
//! is slow or dead keeps nobody else waiting. There is no queue but the store's, so nothing can overflow, and a crash loses
//! nothing: what was not settled is sent again, with the same `webhook-id`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use super::courier::Carried;
use super::courier::Courier;
use super::courier::Parcel;
use crate::audit;
use crate::audit::Audit;
use crate::audit::ProjectAct;
use crate::audit::Who;
use crate::domain::auth_session::LIFETIME;
use crate::domain::clock::Clock;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::Attempt;
use crate::domain::delivery::Delivery;
use crate::domain::delivery::DeliveryId;
use crate::domain::delivery::Judgement;
use crate::domain::delivery::State;
use crate::domain::delivery::judge;
use crate::domain::ids::Ids;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;
use crate::lifecycle::Tasks;
use crate::lifecycle::network_sleep;
use crate::store::Claims;
use crate::store::Store;
use crate::store::StoreError;

/// How many exchanges there are at once, whatever number of projects has something to send: each needs a socket.
pub const EXCHANGES: usize = 256;
/// How many exchanges a project has at once.
const AT_ONCE: usize = 4;
/// How long a claim lasts (contract, section 3): twice what an exchange can take.
const LEASE: Duration = Duration::from_secs(20);
/// How long to wait for a store that fails.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often to look for projects that nobody told of: there should be none.
const LOOK_AROUND: Duration = Duration::from_secs(60);
/// How long exchanges may go on after shutdown has begun.
const DRAIN: Duration = Duration::from_secs(3);
/// How often old deliveries are removed.
const TIDY: Duration = Duration::from_secs(3600);
/// A little longer than a delivery is retried (72 h).
const RETRIED: Duration = Duration::from_secs(4 * 24 * 3600);

/// Sends what is due. Cloning shares it.
#[derive(Clone)]
pub struct Dispatcher(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    courier: Courier,
    clock: Arc<dyn Clock>,
    ids: Ids,
    tasks: Tasks,
    /// A permit for each exchange. First come, first served, so that nobody's slow receivers keep others out for long.
    exchanges: Arc<Semaphore>,
    /// The projects that have a worker.
    workers: Mutex<HashMap<ProjectId, Worker>>,
}

/// How a project's worker is told to look again.
#[derive(Default)]
struct Worker {
    /// Since it last looked.
    poked: bool,
    notify: Arc<Notify>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Dispatcher")
    }
}

/// A worker's place, which it leaves however it ends.
struct Place {
    dispatcher: Dispatcher,
    project: ProjectId,
    notify: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut workers = self.dispatcher.workers();
        // After it has retired another may be there.
        if workers.get(&self.project).is_some_and(|worker| Arc::ptr_eq(&worker.notify, &self.notify)) {
            workers.remove(&self.project);
        }
    }
}

impl Dispatcher {
    /// Nothing is sent before [`Dispatcher::run`], and never more at once than `exchanges`.
    pub fn new(
        store: Arc<dyn Store>,
        courier: Courier,
        clock: Arc<dyn Clock>,
        ids: Ids,
        tasks: Tasks,
        exchanges: usize,
    ) -> Self {
        let exchanges = Arc::new(Semaphore::new(exchanges));
        Self(Arc::new(Shared { store, courier, clock, ids, tasks, exchanges, workers: Mutex::default() }))
    }

    /// Sees that every project with something to send has a worker, until shutdown.
    pub async fn run(self) {
        let stopping = self.0.tasks.stopping();
        let mut wakeup = self.0.store.subscribe_deliveries();
        loop {
            let pause = match self.0.store.projects_with_deliveries().await {
                Ok(projects) => {
                    for project in projects {
                        self.poke(project);
                    }
                    LOOK_AROUND
                }
                Err(error) => {
                    tracing::error!(%error, "the store does not say what webhooks are to be told");
                    STORE_PAUSE
                }
            };
            let look_around = network_sleep(pause);
            tokio::pin!(look_around);
            loop {
                tokio::select! {
                    () = wakeup.changed() => {
                        for project in self.0.store.projects_with_news() {
                            self.poke(project);
                        }
                    }
                    () = &mut look_around => break,
                    () = stopping.cancelled() => return,
                }
            }
        }
    }

    /// Removes deliveries before their sessions, which are kept for `retention`, until shutdown.
    pub async fn tidy(self, retention: Duration) {
        let stopping = self.0.tasks.stopping();
        loop {
            let now = self.0.clock.now();
            if let Err(error) = self.0.store.prune_deliveries(oldest_kept(now, retention)).await {
                tracing::error!(%error, "old deliveries cannot be removed");
            }
            tokio::select! {
                () = self.0.clock.sleep_until(now.plus(TIDY)) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    fn workers(&self) -> MutexGuard<'_, HashMap<ProjectId, Worker>> {
        self.0.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something to send: the project's worker looks again, or begins.
    fn poke(&self, project: ProjectId) {
        let mut workers = self.workers();
        if let Some(worker) = workers.get_mut(&project) {
            worker.poked = true;
            worker.notify.notify_one();
            return;
        }
        let notify = Arc::clone(&workers.entry(project.clone()).or_default().notify);
        let place = Place { dispatcher: self.clone(), project, notify };
        self.0.tasks.spawn("webhook", async move { place.dispatcher.serve(&place).await });
    }

    /// Whether the worker may end, because nobody has told it to look again; then it has left its place.
    fn retire(&self, place: &Place) -> bool {
        let mut workers = self.workers();
        let poked = workers.get(&place.project).is_some_and(|worker| worker.poked);
        if !poked {
            workers.remove(&place.project);
        }
        !poked
    }

    /// Sends a project's deliveries until none is pending.
    async fn serve(&self, place: &Place) {
        let (stopping, project) = (self.0.tasks.stopping(), &place.project);
        let mut under_way = UnderWay::default();
        // What cannot be begun is not claimed.
        while let Some(mut permits) = self.permits(&mut under_way).await {
            if let Some(worker) = self.workers().get_mut(project) {
                worker.poked = false;
            }
            let claims = self.claim(project, &under_way.ids, permits.num_permits()).await;
            let again: BoxFuture<'_, ()> = match claims {
                Ok(claims) => {
                    for claimed in claims.deliveries {
                        under_way.ids.insert(claimed.id.clone());
                        under_way.exchanges.push(self.exchange(claimed, permits.split(1)));
                    }
                    match claims.next {
                        Some(next) => self.0.clock.sleep_until(next),
                        None if under_way.ids.is_empty() && self.retire(place) => return,
                        None => Box::pin(std::future::pending()),
                    }
                }
                Err(error) => {
                    tracing::error!(%error, %project, "the store does not say what a webhook is to be told");
                    Box::pin(network_sleep(STORE_PAUSE))
                }
            };
            // Others need what is left of them.
            drop(permits);
            tokio::select! {
                () = under_way.one_ends() => {}
                () = place.notify.notified() => {}
                () = again => {}
                () = stopping.cancelled() => {}
            }
        }
        tokio::select! { () = under_way.all_end() => {}, () = network_sleep(DRAIN) => {} }
    }

    /// Permits for as many exchanges as the project may begin now, at least one; `None` at shutdown.
    async fn permits(&self, under_way: &mut UnderWay) -> Option<OwnedSemaphorePermit> {
        let stopping = self.0.tasks.stopping();
        while under_way.ids.len() >= AT_ONCE {
            tokio::select! { () = under_way.one_ends() => {}, () = stopping.cancelled() => return None }
        }
        // Asked for once, or its turn would never come.
        let first = Arc::clone(&self.0.exchanges).acquire_owned();
        tokio::pin!(first);
        let mut permits = loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return None,
                permit = &mut first => break permit.ok()?,
                () = under_way.one_ends() => {}
            }
        };
        // None are free while somebody waits.
        while under_way.ids.len() + permits.num_permits() < AT_ONCE {
            let Ok(another) = Arc::clone(&self.0.exchanges).try_acquire_owned() else { break };
            permits.merge(another);
        }
        Some(permits)
    }

    async fn claim(
        &self,
        project: &ProjectId,
        in_hand: &HashSet<DeliveryId>,
        max: usize,
    ) -> Result<Claims, StoreError> {
        let now = self.0.clock.now();
        self.0.store.claim_deliveries(project, in_hand, now, now.plus(LEASE), max).await
    }

    /// Makes one attempt and writes down what came of it. What cannot be written is sent again when the claim ends.
    fn exchange(
        &self,
        claimed: Delivery,
        permit: Option<OwnedSemaphorePermit>,
    ) -> BoxFuture<'static, DeliveryId> {
        let dispatcher = self.clone();
        Box::pin(async move {
            if let Err(error) = dispatcher.try_exchange(&claimed).await {
                tracing::error!(%error, delivery = %claimed.id, "the store does not take what came of a delivery");
            }
            drop(permit);
            claimed.id
        })
    }

    async fn try_exchange(&self, claimed: &Delivery) -> Result<(), StoreError> {
        let Some(project) = self.0.store.project(&claimed.project).await? else {
            count("dropped");
            return self.0.store.drop_deliveries(&claimed.project).await;
        };
        let Some(url) = project.webhook() else {
            let mut after = claimed.clone();
            after.state = State::Dropped { at: self.0.clock.now() };
            count("dropped");
            return self.0.store.settle_delivery(claimed, &after).await.map(|_| ());
        };
        let (id, event, body) = (&claimed.id, claimed.event.name(), claimed.body.reveal());
        let carried = self.0.courier.carry(Parcel { project: &project, url, id, event, body }).await;
        // First: after a crash in between it is sent again, and is no longer sent to who is gone. It counts also where the
        // delivery was replayed or removed meanwhile.
        self.judge(&project, url, carried.attempt.clone()).await?;
        let mut after = claimed.clone();
        after.attempted(carried.attempt.clone(), carried.asked_to_wait(), &self.0.ids);
        if self.0.store.settle_delivery(claimed, &after).await? {
            note(&after, &carried);
        }
        Ok(())
    }

    /// Writes down what the attempt means for the project's webhook, where it means something.
    async fn judge(&self, project: &Project, url: &str, attempt: Attempt) -> Result<(), StoreError> {
        let judgement = judge(project, url, &attempt);
        if judgement == Judgement::Nothing {
            return Ok(());
        }
        // As the project is then: its owner, or another exchange, may have changed it.
        let switched_off = AtomicBool::new(false);
        let change = |project: &mut Project| {
            let was_on = project.webhook_disabled.is_none();
            judge(project, url, &attempt).apply(project);
            switched_off.store(was_on && project.webhook_disabled.is_some(), Ordering::SeqCst);
        };
        let changed = self.0.store.change_project(&project.id, &change).await?;
        if let Some(changed) = changed.filter(|_| switched_off.load(Ordering::SeqCst)) {
            let why = changed.webhook_disabled.as_deref().unwrap_or_default();
            tracing::warn!(project = %project.id, %why, "a webhook was switched off");
            let act = ProjectAct::WebhookDisabled;
            audit::record(&Who::Service, &Audit::Project { act, project: &project.id, detail: Some(why) });
        }
        Ok(())
    }
}

/// The exchanges of a project that are going on.
#[derive(Default)]
struct UnderWay {
    ids: HashSet<DeliveryId>,
    exchanges: FuturesUnordered<BoxFuture<'static, DeliveryId>>,
}

impl UnderWay {
    /// Resolves when one ends; never when there is none.
    async fn one_ends(&mut self) {
        match self.exchanges.next().await {
            Some(id) => drop(self.ids.remove(&id)),
            None => std::future::pending().await,
        }
    }

    async fn all_end(&mut self) {
        while self.exchanges.next().await.is_some() {}
    }
}

/// The deliveries that were created before this are removed, pending or not: one that outlived its session would be found
/// by nobody who wants a person forgotten. A confirmation comes at most a session's life after the session, and nothing is
/// removed until the next look. Only a retention of less than four days leaves a delivery longer than its session: else it
/// could not be retried for as long as was promised.
fn oldest_kept(now: Timestamp, retention: Duration) -> Timestamp {
    now.minus(retention.saturating_sub(LIFETIME + TIDY).max(RETRIED))
}

/// Metrics, and the log for what is given up.
fn note(delivery: &Delivery, carried: &Carried) {
    let outcome = match &delivery.state {
        State::Pending { .. } => "retry",
        State::Delivered { .. } => "delivered",
        State::Failed { .. } => "failed",
        State::Dropped { .. } => "dropped",
    };
    count(outcome);
    let took = Duration::from_millis(carried.attempt.took_ms);
    metrics::histogram!("connector_webhook_exchange_seconds").record(took.as_secs_f64());
    let (id, project, status) = (&delivery.id, &delivery.project, carried.attempt.status);
    let error = carried.attempt.error.as_deref();
    match &delivery.state {
        State::Failed { .. } => {
            tracing::warn!(delivery = %id, %project, status, error, "a webhook delivery was given up");
        }
        State::Pending { .. } | State::Delivered { .. } | State::Dropped { .. } => {
            tracing::debug!(delivery = %id, %project, status, error, outcome, "a webhook attempt");
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("connector_webhook_deliveries_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_go_before_their_sessions_but_are_retried_first() {
        const DAY: u64 = 24 * 3600;
        let now = Timestamp::from_millis(1_700_000_000_000);
        let kept = |days| now.since(oldest_kept(now, Duration::from_secs(days * DAY))).as_secs();
        // A confirmation of the last moment goes at the look before the one that removes its session.
        assert_eq!(kept(90), 90 * DAY - 600 - 3600);
        assert_eq!((kept(1), kept(4)), (4 * DAY, 4 * DAY));
    }
}
