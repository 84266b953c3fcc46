//! Webhook deliveries in the embedded store: written in the batch of the session that they tell of, claimed and settled by
//! `webhooks`.
//!
//! Keys are in `delivery_keys`. Claims live in memory: the folder has one process, and what it was sending when it died is
//! to be sent again.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::EmbeddedStore;
use super::delivery_keys::END;
use super::delivery_keys::LOG;
use super::delivery_keys::PAST_END;
use super::delivery_keys::QUEUE;
use super::delivery_keys::TIME;
use super::delivery_keys::all_keys;
use super::delivery_keys::entry;
use super::delivery_keys::log_key;
use super::delivery_keys::of_project;
use super::delivery_keys::queue_key;
use super::delivery_keys::record_key;
use super::delivery_keys::time_key;
use super::delivery_keys::timed;
use super::engine::Batch;
use super::engine::Bytes;
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
    /// Those that the log was told of.
    damaged: Mutex<HashSet<DeliveryId>>,
}

impl Deliveries {
    fn hold(&self) -> MutexGuard<'_, HashMap<DeliveryId, Timestamp>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self) -> MutexGuard<'_, HashSet<ProjectId>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<DeliveryId>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who waits for something to send.
    pub(super) fn wake(&self, project: &ProjectId) {
        self.news().insert(project.clone());
        self.changes.send_replace(());
    }
}

fn context(id: &DeliveryId) -> String {
    format!("delivery/{id}")
}

impl EmbeddedStore {
    /// Adds to a session's batch what its project's webhook is to be told of it. `true`: something; wake once it is written.
    pub(super) fn put_delivery(
        &self,
        before: &AuthSession,
        after: &AuthSession,
        batch: &mut Batch,
    ) -> Result<bool, StoreError> {
        let Some(project) = self.0.projects.known(&after.project) else { return Ok(false) };
        let Some(delivery) = Delivery::of(before, after, &project, self.0.mode) else { return Ok(false) };
        self.put_record(&delivery, batch)?;
        batch.insert(log_key(&delivery), Vec::new());
        batch.insert(time_key(&delivery), Vec::new());
        Ok(true)
    }

    /// The delivery's record and its place in the queue.
    fn put_record(&self, delivery: &Delivery, batch: &mut Batch) -> Result<(), StoreError> {
        let record = records::encode(&self.0.sealer, &context(&delivery.id), delivery)?;
        batch.insert(record_key(&delivery.id), record);
        if let Some(queued) = queue_key(delivery) {
            batch.insert(queued, Vec::new());
        }
        Ok(())
    }

    fn read_delivery(&self, id: &DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let record = self.0.sessions.get(record_key(id))?;
        record.map(|record| records::decode(&self.0.sealer, &context(id), &record)).transpose()
    }

    /// Writes a delivery over what it was. The claims must be held.
    fn replace(&self, before: &Delivery, after: &Delivery) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        if let Some(queued) = queue_key(before) {
            batch.remove(queued);
        }
        self.put_record(after, &mut batch)?;
        self.0.sessions.apply_batch(batch)
    }

    /// As it is, where it can be read; the log is told once where it is damaged.
    fn readable(&self, id: &DeliveryId) -> Result<Option<Delivery>, StoreError> {
        match self.read_delivery(id) {
            Err(error @ StoreError::Unavailable(_)) => Err(error),
            Err(error) => {
                if self.0.deliveries.damaged().insert(id.clone()) {
                    tracing::error!(delivery = %id, %error, "a delivery cannot be read");
                }
                Ok(None)
            }
            whole => whole,
        }
    }

    /// Adds the removal of deliveries to a batch, damaged ones too. The claims must be held.
    fn uproot(
        &self,
        ids: &[DeliveryId],
        claims: &mut HashMap<DeliveryId, Timestamp>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let mut damaged = HashSet::new();
        for id in ids {
            claims.remove(id);
            match self.readable(id)? {
                Some(delivery) => all_keys(&delivery).for_each(|key| batch.remove(key)),
                None if self.0.sessions.contains_key(record_key(id))? => {
                    damaged.insert(id.as_str().as_bytes());
                }
                None => {}
            }
        }
        if damaged.is_empty() {
            return Ok(());
        }
        // Whose it was and when it is due is not known: rare enough to look at all keys.
        let length = damaged.iter().next().map_or(0, |id| id.len());
        for key in self.0.sessions.scan_prefix(b"w").keys() {
            let key = key?;
            if key
                .len()
                .checked_sub(length)
                .and_then(|at| key.get(at..))
                .is_some_and(|id| damaged.contains(id))
            {
                batch.remove(key);
            }
        }
        Ok(())
    }

    /// Removes deliveries, with the keys of an index that led to them.
    fn remove(&self, found: &mut Vec<(Bytes, DeliveryId)>) -> Result<(), StoreError> {
        let (keys, ids): (Vec<_>, Vec<_>) = found.drain(..).unzip();
        let mut batch = Batch::default();
        let mut claims = self.0.deliveries.hold();
        self.uproot(&ids, &mut claims, &mut batch)?;
        for key in keys {
            batch.remove(key);
        }
        self.0.sessions.apply_batch(batch)
    }

    /// Does a step that forgets who a session's person is, with a batch that removes the delivery that tells of them.
    pub(super) fn forgetting<T>(
        &self,
        session: &SessionId,
        step: impl FnOnce(Batch) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Held to the end, so that nobody settles it back into being.
        let mut claims = self.0.deliveries.hold();
        let mut batch = Batch::default();
        self.uproot(&[DeliveryId::of(session, EventKind::Confirmed)], &mut claims, &mut batch)?;
        step(batch)
    }

    /// Deliveries of a project that are due and nobody's, which are now somebody's; and when to look again.
    fn take_due(
        &self,
        project: &ProjectId,
        in_hand: &HashSet<DeliveryId>,
        now: Timestamp,
        lease_until: Timestamp,
        max: usize,
    ) -> Result<Claims, StoreError> {
        let prefix = of_project(QUEUE, project, END);
        let mut claims = self.0.deliveries.hold();
        let (mut taken, mut next) = (Vec::new(), None::<Timestamp>);
        for key in self.0.sessions.scan_prefix(&prefix).keys() {
            let (due, id) = entry(&key?, prefix.len())?;
            if in_hand.contains(&id) {
                continue;
            }
            let free_at = claims.get(&id).map_or(due, |until| due.max(*until));
            if free_at <= now && taken.len() < max {
                if let Some(delivery) = self.readable(&id)? {
                    claims.insert(id, lease_until);
                    taken.push(delivery);
                } else {
                    // It stays, and those after it have their turn.
                    claims.insert(id, now.plus(DAMAGED_FOR));
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
impl DeliveryStore for EmbeddedStore {
    async fn projects_with_deliveries(&self) -> Result<Vec<ProjectId>, StoreError> {
        let (mut projects, mut from) = (Vec::new(), QUEUE.to_vec());
        while let Some(key) = self.0.sessions.range(from..).keys().next() {
            let key = key?;
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
        in_hand: &HashSet<DeliveryId>,
        now: Timestamp,
        lease_until: Timestamp,
        max: usize,
    ) -> Result<Claims, StoreError> {
        let claims = self.take_due(project, in_hand, now, lease_until, max)?;
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
        for key in self.0.sessions.range(prefix.clone()..end).keys().rev() {
            if deliveries.len() >= limit {
                break;
            }
            let (_, id) = entry(&key?, prefix.len())?;
            deliveries.extend(self.readable(&id)?);
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
            let mut found = Vec::new();
            for key in self.0.sessions.scan_prefix(&prefix).keys().take(REMOVED_AT_ONCE) {
                let key = key?;
                let (_, id) = entry(&key, prefix.len())?;
                found.push((key, id));
            }
            if found.is_empty() {
                return self.0.flusher.flushed().await;
            }
            self.remove(&mut found)?;
            self.0.flusher.flushed().await?;
        }
    }

    async fn prune_deliveries(&self, before: Timestamp) -> Result<usize, StoreError> {
        let (mut removed, mut found) = (0, Vec::new());
        for key in self.0.sessions.scan_prefix(TIME).keys() {
            let key = key?;
            let (created, id) = entry(&key, TIME.len())?;
            if created >= before {
                break;
            }
            found.push((key, id));
            removed += 1;
            if found.len() >= REMOVED_AT_ONCE {
                self.remove(&mut found)?;
                self.0.flusher.flushed().await?;
            }
        }
        self.remove(&mut found)?;
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
