//! Webhook deliveries in the embedded store: written in the batch of the session that they tell of, claimed and settled by
//! `webhooks`.
//!
//! Keys, in the tree of the sessions, all below `w`: `d` id → delivery; `q` project, due, id → nothing, while it is
//! pending; `l` project, creation, id → nothing; `t` creation, id → nothing. Claims live in memory: the folder has one
//! process, and what it was sending when it died is to be sent again.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::SledStore;
use super::unavailable;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::SessionId;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::Delivery;
use crate::domain::delivery::DeliveryId;
use crate::domain::delivery::EventKind;
use crate::domain::project::ProjectId;
use crate::store::Claims;
use crate::store::DeliveryStore;
use crate::store::StoreError;
use crate::store::Wakeup;
use crate::store::records;

const RECORD: &[u8; 2] = b"wd";
const QUEUE: &[u8; 2] = b"wq";
const LOG: &[u8; 2] = b"wl";
const TIME: &[u8; 2] = b"wt";
/// Ends a project's name in a key: no name contains it.
const END: u8 = 0;
/// Sorts after everything of a project.
const PAST_END: u8 = 1;
/// How long one that cannot be read is left alone.
const DAMAGED_FOR: Duration = Duration::from_secs(3600);
/// How many are removed in one batch.
const REMOVED_AT_ONCE: usize = 256;

/// What is in memory of deliveries.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// Until when each is somebody's. Held while a delivery is read and written.
    claims: Mutex<HashMap<DeliveryId, Timestamp>>,
    changes: watch::Sender<()>,
    /// The projects that [`DeliveryStore::projects_with_news`] names next.
    news: Mutex<HashSet<ProjectId>>,
}

impl Deliveries {
    fn hold(&self) -> MutexGuard<'_, HashMap<DeliveryId, Timestamp>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self) -> MutexGuard<'_, HashSet<ProjectId>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who waits for something to send.
    pub(super) fn wake(&self, project: &ProjectId) {
        self.news().insert(project.clone());
        self.changes.send_replace(());
    }
}

/// A time as bytes that sort as it does.
fn ordered(at: Timestamp) -> [u8; 8] {
    (at.as_millis().cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn unordered(bytes: [u8; 8]) -> Timestamp {
    Timestamp::from_millis((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
}

fn of_project(kind: &[u8], project: &ProjectId, end: u8) -> Vec<u8> {
    [kind, project.as_str().as_bytes(), &[end]].concat()
}

fn timed(mut prefix: Vec<u8>, at: Timestamp, id: &DeliveryId) -> Vec<u8> {
    prefix.extend(ordered(at));
    prefix.extend(id.as_str().as_bytes());
    prefix
}

fn record_key(id: &DeliveryId) -> Vec<u8> {
    [RECORD, id.as_str().as_bytes()].concat()
}

fn log_key(delivery: &Delivery) -> Vec<u8> {
    timed(of_project(LOG, &delivery.project, END), delivery.created_at, &delivery.id)
}

fn time_key(delivery: &Delivery) -> Vec<u8> {
    timed(TIME.to_vec(), delivery.created_at, &delivery.id)
}

fn queue_key(delivery: &Delivery) -> Option<Vec<u8>> {
    delivery.due().map(|due| timed(of_project(QUEUE, &delivery.project, END), due, &delivery.id))
}

/// Time and id at the end of a key; `skip` bytes are before them.
fn entry(key: &[u8], skip: usize) -> Result<(Timestamp, DeliveryId), StoreError> {
    let parsed = key
        .get(skip..)
        .and_then(|rest| rest.split_first_chunk::<8>())
        .and_then(|(at, id)| Some((unordered(*at), DeliveryId::parse(std::str::from_utf8(id).ok()?)?)));
    parsed.ok_or_else(|| StoreError::Corrupt("an index of deliveries".to_owned()))
}

fn context(id: &DeliveryId) -> String {
    format!("delivery/{id}")
}

impl SledStore {
    /// Adds to a session's batch what its project's webhook is to be told of it. `true`: something; wake once it is written.
    pub(super) fn put_delivery(
        &self,
        before: &AuthSession,
        after: &AuthSession,
        batch: &mut sled::Batch,
    ) -> Result<bool, StoreError> {
        let Some(project) = self.0.projects.known(&after.project) else { return Ok(false) };
        let Some(delivery) = Delivery::of(before, after, &project, self.0.mode) else { return Ok(false) };
        self.put_record(&delivery, batch)?;
        batch.insert(log_key(&delivery), Vec::new());
        batch.insert(time_key(&delivery), Vec::new());
        Ok(true)
    }

    /// The delivery's record and its place in the queue.
    fn put_record(&self, delivery: &Delivery, batch: &mut sled::Batch) -> Result<(), StoreError> {
        let record = records::encode(&self.0.sealer, &context(&delivery.id), delivery)?;
        batch.insert(record_key(&delivery.id), record);
        if let Some(queued) = queue_key(delivery) {
            batch.insert(queued, Vec::new());
        }
        Ok(())
    }

    fn read_delivery(&self, id: &DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let record = self.0.sessions.get(record_key(id)).map_err(unavailable)?;
        record.map(|record| records::decode(&self.0.sealer, &context(id), &record)).transpose()
    }

    /// Writes a delivery over what it was. The claims must be held.
    fn replace(&self, before: &Delivery, after: &Delivery) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        if let Some(queued) = queue_key(before) {
            batch.remove(queued);
        }
        self.put_record(after, &mut batch)?;
        self.0.sessions.apply_batch(batch).map_err(unavailable)
    }

    /// Removes these, but for those that are pending where they are `kept`; how many.
    fn remove(&self, ids: &[DeliveryId], pending_kept: bool) -> Result<usize, StoreError> {
        let mut claims = self.0.deliveries.hold();
        let (mut batch, mut removed) = (sled::Batch::default(), 0);
        for id in ids {
            let Some(delivery) = self.read_delivery(id)? else { continue };
            let queued = queue_key(&delivery);
            if queued.is_some() && pending_kept {
                continue;
            }
            for key in [record_key(id), log_key(&delivery), time_key(&delivery)].into_iter().chain(queued) {
                batch.remove(key);
            }
            claims.remove(id);
            removed += 1;
        }
        self.0.sessions.apply_batch(batch).map_err(unavailable)?;
        Ok(removed)
    }

    /// Does a step that forgets who a session's person is, with a batch that removes the delivery that tells of them.
    pub(super) fn forgetting<T>(
        &self,
        session: &SessionId,
        step: impl FnOnce(sled::Batch) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Held to the end, so that nobody settles it back into being.
        let mut claims = self.0.deliveries.hold();
        let mut batch = sled::Batch::default();
        let id = DeliveryId::of(session, EventKind::Confirmed);
        if let Some(delivery) = self.read_delivery(&id)? {
            let queued = queue_key(&delivery);
            for key in [record_key(&id), log_key(&delivery), time_key(&delivery)].into_iter().chain(queued) {
                batch.remove(key);
            }
            claims.remove(&id);
        }
        step(batch)
    }

    /// Deliveries of a project that are due and nobody's, which are now somebody's; and when to look again.
    fn take_due(
        &self,
        project: &ProjectId,
        now: Timestamp,
        lease_until: Timestamp,
        max: usize,
    ) -> Result<Claims, StoreError> {
        let prefix = of_project(QUEUE, project, END);
        let mut claims = self.0.deliveries.hold();
        let (mut taken, mut next) = (Vec::new(), None::<Timestamp>);
        for key in self.0.sessions.scan_prefix(&prefix).keys() {
            let (due, id) = entry(&key.map_err(unavailable)?, prefix.len())?;
            let free_at = claims.get(&id).map_or(due, |until| due.max(*until));
            if free_at <= now && taken.len() < max {
                match self.read_delivery(&id) {
                    Ok(Some(delivery)) => {
                        claims.insert(id, lease_until);
                        taken.push(delivery);
                    }
                    Err(error @ StoreError::Unavailable(_)) => return Err(error),
                    // It stays, and those after it have their turn.
                    damaged @ (Ok(None) | Err(_)) => {
                        tracing::error!(delivery = %id, error = ?damaged.err(), "a delivery cannot be read");
                        claims.insert(id, now.plus(DAMAGED_FOR));
                    }
                }
                continue;
            }
            next = Some(next.map_or(free_at, |next| next.min(free_at)));
            if due > now || taken.len() >= max {
                break;
            }
        }
        Ok(Claims { deliveries: taken, next })
    }
}

#[async_trait]
impl DeliveryStore for SledStore {
    async fn projects_with_deliveries(&self) -> Result<Vec<ProjectId>, StoreError> {
        let (mut projects, mut from) = (Vec::new(), QUEUE.to_vec());
        while let Some(key) = self.0.sessions.range(from..).keys().next() {
            let key = key.map_err(unavailable)?;
            let Some(rest) = key.strip_prefix(QUEUE) else { break };
            let name = rest.split(|byte| *byte == END).next().unwrap_or_default();
            let project = std::str::from_utf8(name).ok().and_then(ProjectId::parse);
            let project = project.ok_or_else(|| StoreError::Corrupt("the queue of deliveries".to_owned()))?;
            from = of_project(QUEUE, &project, PAST_END);
            projects.push(project);
        }
        Ok(projects)
    }

    async fn claim_deliveries(
        &self,
        project: &ProjectId,
        now: Timestamp,
        lease_until: Timestamp,
        max: usize,
    ) -> Result<Claims, StoreError> {
        let claims = self.take_due(project, now, lease_until, max)?;
        if !claims.deliveries.is_empty() {
            // Nobody may be told of what a crash could still undo.
            self.0.flusher.flushed().await?;
        }
        Ok(claims)
    }

    async fn settle_delivery(&self, claimed: &Delivery, after: &Delivery) -> Result<bool, StoreError> {
        {
            let mut claims = self.0.deliveries.hold();
            if self.read_delivery(&claimed.id)?.as_ref() != Some(claimed) {
                return Ok(false);
            }
            self.replace(claimed, after)?;
            claims.remove(&claimed.id);
        }
        self.0.flusher.flushed().await?;
        Ok(true)
    }

    async fn delivery(&self, id: &DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let delivery = self.read_delivery(id)?;
        self.0.flusher.flushed().await?;
        Ok(delivery)
    }

    async fn deliveries(
        &self,
        project: &ProjectId,
        before: Option<&(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        let prefix = of_project(LOG, project, END);
        let end = match before {
            Some((at, id)) => timed(prefix.clone(), *at, id),
            None => of_project(LOG, project, PAST_END),
        };
        let mut deliveries = Vec::new();
        for key in self.0.sessions.range(prefix.clone()..end).keys().rev().take(limit) {
            let (_, id) = entry(&key.map_err(unavailable)?, prefix.len())?;
            deliveries.extend(self.read_delivery(&id)?);
        }
        self.0.flusher.flushed().await?;
        Ok(deliveries)
    }

    async fn replay_delivery(&self, id: &DeliveryId, now: Timestamp) -> Result<Option<Delivery>, StoreError> {
        let replayed = {
            let mut claims = self.0.deliveries.hold();
            let Some(before) = self.read_delivery(id)? else { return Ok(None) };
            let mut after = before.clone();
            after.replay(now);
            self.replace(&before, &after)?;
            claims.remove(id);
            after
        };
        self.0.flusher.flushed().await?;
        self.0.deliveries.wake(&replayed.project);
        Ok(Some(replayed))
    }

    async fn drop_deliveries(&self, project: &ProjectId) -> Result<(), StoreError> {
        let prefix = of_project(LOG, project, END);
        loop {
            let mut ids = Vec::new();
            for key in self.0.sessions.scan_prefix(&prefix).keys().take(REMOVED_AT_ONCE) {
                ids.push(entry(&key.map_err(unavailable)?, prefix.len())?.1);
            }
            if self.remove(&ids, false)? == 0 {
                return self.0.flusher.flushed().await;
            }
            self.0.flusher.flushed().await?;
        }
    }

    async fn prune_deliveries(&self, before: Timestamp) -> Result<usize, StoreError> {
        let (mut removed, mut ids) = (0, Vec::new());
        for key in self.0.sessions.scan_prefix(TIME).keys() {
            let (created, id) = entry(&key.map_err(unavailable)?, TIME.len())?;
            if created >= before {
                break;
            }
            ids.push(id);
            if ids.len() >= REMOVED_AT_ONCE {
                removed += self.remove(&std::mem::take(&mut ids), true)?;
                self.0.flusher.flushed().await?;
            }
        }
        removed += self.remove(&ids, true)?;
        self.0.flusher.flushed().await?;
        Ok(removed)
    }

    fn subscribe_deliveries(&self) -> Wakeup {
        Wakeup::new(self.0.deliveries.changes.subscribe(), drop)
    }

    fn projects_with_news(&self) -> Vec<ProjectId> {
        self.0.deliveries.news().drain().collect()
    }
}
