//! What the embedded store keeps of sessions, and for how long: retention, projects that are gone, people who want to be
//! forgotten, stores of an older layout. What is counted and listed is in `ledger`.

use std::ops::RangeInclusive;

use async_trait::async_trait;

use super::SledStore;
use super::ledger::CREATION;
use super::ledger::Creation;
use super::unavailable;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::State;
use crate::domain::clock::Timestamp;
use crate::domain::errand::Errand;
use crate::domain::ledger::Day;
use crate::domain::ledger::DayCount;
use crate::domain::ledger::Listing;
use crate::domain::ledger::Page;
use crate::domain::ledger::Tally;
use crate::domain::project::ProjectId;
use crate::store::Applied;
use crate::store::Forgotten;
use crate::store::LedgerStore;
use crate::store::StoreError;
use crate::store::records;

/// The layout of the keys below; stores without the mark have sessions that nobody counted.
const LAYOUT: &[u8] = b"m layout";
const LATEST: &[u8] = &[2];
/// How many sessions are removed in one go.
const REMOVED_AT_ONCE: usize = 256;

impl SledStore {
    /// Brings a store of an older layout up to date: lists and counts the sessions that are there. Begins anew when it was
    /// cut short.
    pub(super) fn bring_up_to_date(&self) -> Result<(), StoreError> {
        let tree = &self.0.sessions;
        if tree.get(LAYOUT).map_err(unavailable)?.as_deref() == Some(LATEST) {
            return Ok(());
        }
        for kind in [CREATION, b'l', b't', b'u', b'p', b'a', b'm'] {
            for key in tree.scan_prefix([kind]).keys() {
                tree.remove(key.map_err(unavailable)?).map_err(unavailable)?;
            }
        }
        let mut known = Vec::new();
        for key in tree.scan_prefix(b"s").keys() {
            let key = key.map_err(unavailable)?;
            let id = key.get(1..).and_then(|id| SessionId::parse(std::str::from_utf8(id).ok()?));
            let session = id.map(|id| self.read_session(&id)).transpose()?.flatten();
            known.extend(session.map(|session| (session.created_at, session.id)));
        }
        known.sort();
        for (_, id) in known {
            let Some(session) = self.read_session(&id)? else { continue };
            let record = records::encode(&self.0.sealer, &super::sessions::context(&id), &session)?;
            self.write_creation(&session, record)?;
            let mut batch = sled::Batch::default();
            if let Some(person) = self.person_key(&session) {
                batch.insert(person, Vec::new());
            }
            self.write_counted(Some(&session).filter(|one| one.state != State::Pending), batch)?;
        }
        tree.insert(LAYOUT, LATEST).map_err(unavailable).map(|_| ())
    }

    /// The sessions of a person in some projects.
    fn sessions_with(&self, projects: &[ProjectId], person: i64) -> Result<Vec<SessionId>, StoreError> {
        let prefix = self.person_prefix(person);
        let mut found = Vec::new();
        for key in self.0.sessions.scan_prefix(&prefix).keys() {
            let key = key.map_err(unavailable)?;
            let id = key.get(prefix.len() + 8..).and_then(|id| std::str::from_utf8(id).ok());
            let Some(id) = id.and_then(SessionId::parse) else { continue };
            let theirs = self.read_session(&id)?.is_some_and(|session| projects.contains(&session.project));
            found.extend(theirs.then_some(id));
        }
        Ok(found)
    }

    /// Erases what is known of the people of some sessions; pending ones are taken back.
    async fn forget(&self, ids: &[SessionId], now: Timestamp) -> Result<Forgotten, StoreError> {
        let mut forgotten = Forgotten::default();
        for id in ids {
            let applied = self.forgetting(id, |batch| self.apply_held(id, &Event::Forget, now, batch))?;
            if let (Applied::Done(step), _) = applied {
                forgotten.sessions += 1;
                forgotten.errands.extend(step.errands);
            }
        }
        self.0.flusher.flushed().await?;
        for id in ids {
            self.wake(id);
        }
        Ok(forgotten)
    }

    fn old_creations(&self, before: Timestamp) -> Result<Vec<Creation>, StoreError> {
        // What was not counted yet must be before it goes.
        self.count_creations()?;
        let expired = self.expired_up_to()?;
        let mut old = Vec::new();
        for creation in self.creations_after(0).take(REMOVED_AT_ONCE) {
            let creation = creation?;
            if creation.at >= before || creation.place > expired {
                break;
            }
            old.push(creation);
        }
        Ok(old)
    }
}

#[async_trait]
impl LedgerStore for SledStore {
    async fn sessions(&self, listing: &Listing, now: Timestamp) -> Result<Page, StoreError> {
        let (store, listing) = (self.clone(), listing.clone());
        let page = tokio::task::spawn_blocking(move || store.page(&listing, now)).await;
        page.map_err(|_| StoreError::Unavailable("listing sessions panicked".to_owned()))?
    }

    async fn day_counts(
        &self,
        project: &ProjectId,
        days: RangeInclusive<Day>,
    ) -> Result<Vec<DayCount>, StoreError> {
        let (store, project) = (self.clone(), project.clone());
        let counts = tokio::task::spawn_blocking(move || store.counts(&project, &days)).await;
        counts.map_err(|_| StoreError::Unavailable("counting sessions panicked".to_owned()))?
    }

    async fn tally(&self, project: &ProjectId) -> Result<Tally, StoreError> {
        self.tally_of_all_days(project)
    }

    async fn prune(&self, before: Timestamp) -> Result<bool, StoreError> {
        let old = self.old_creations(before)?;
        for creation in &old {
            self.remove_session(creation.place, creation)?;
        }
        if !old.is_empty() {
            self.0.flusher.flushed().await?;
        }
        Ok(old.len() == REMOVED_AT_ONCE)
    }

    async fn clear_project(&self, project: &ProjectId, now: Timestamp) -> Result<Vec<Errand>, StoreError> {
        self.count_creations()?;
        let (mut before, mut errands) = (i64::MAX, Vec::new());
        loop {
            let some: Result<Vec<_>, StoreError> =
                self.listed(project, before).take(REMOVED_AT_ONCE).collect();
            let some = some?;
            let Some((last, _)) = some.last() else { break };
            before = *last;
            let ids: Vec<_> = some.iter().map(|(_, id)| id.clone()).collect();
            errands.extend(self.forget(&ids, now).await?.errands);
        }
        Ok(errands)
    }

    async fn remove_cleared(&self, project: &ProjectId, before: Timestamp) -> Result<bool, StoreError> {
        self.count_creations()?;
        let mut left = false;
        let listed: Result<Vec<_>, StoreError> = self.listed(project, i64::MAX).collect();
        for (place, id) in listed? {
            let session = self.read_session(&id)?;
            if let Some(session) = session.filter(|session| session.created_at >= before) {
                left |= session.opening.is_some();
                if session.opening.is_some() {
                    continue;
                }
            }
            let at = Timestamp::default();
            self.remove_session(place, &Creation { place, at, id, project: project.clone() })?;
        }
        if !left {
            self.remove_counts(project)?;
        }
        self.0.flusher.flushed().await?;
        Ok(!left)
    }

    async fn forget_person(
        &self,
        projects: &[ProjectId],
        person: i64,
        now: Timestamp,
    ) -> Result<Forgotten, StoreError> {
        let ids = self.sessions_with(projects, person)?;
        self.forget(&ids, now).await
    }
}
