//! What the embedded store keeps of sessions, and for how long: retention, projects that are gone, people who want to be
//! forgotten, stores of an older layout. What is counted and listed is in `ledger`.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use super::EmbeddedStore;
use super::creations::CREATION;
use super::creations::Creation;
use super::creations::Entry;
use super::creations::passing_over_damage;
use super::engine::Batch;
use super::lists::Listed;
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
/// How long it is known who was counted: a little longer than anybody can ask for (90 days).
const PEOPLE_KEPT: Duration = Duration::from_secs(100 * 24 * 3600);

impl EmbeddedStore {
    /// Brings a store of an older layout up to date: lists and counts the sessions that are there. Begins anew when it was
    /// cut short.
    pub(super) fn bring_up_to_date(&self) -> Result<(), StoreError> {
        let tree = &self.0.sessions;
        if tree.get(LAYOUT)?.as_deref() == Some(LATEST) {
            return Ok(());
        }
        for kind in [CREATION, b'f', b'l', b't', b'u', b'x', b'p', b'a', b'm'] {
            for key in tree.scan_prefix([kind]).keys() {
                tree.remove(key?)?;
            }
        }
        let mut known = Vec::new();
        for key in tree.scan_prefix(b"s").keys() {
            let key = key?;
            let id = key.get(1..).and_then(|id| SessionId::parse(std::str::from_utf8(id).ok()?));
            let session = id.map(|id| passing_over_damage(self.read_session(&id))).transpose()?.flatten();
            known.extend(session.map(|session| (session.created_at, session.id)));
        }
        known.sort();
        for (_, id) in known {
            let Some(session) = self.read_session(&id)? else { continue };
            let record = records::encode_compact(&self.0.sealer, &super::sessions::context(&id), &session)?;
            self.0.creations.queue(&session, &record)?;
            self.0.creations.write()?;
            let mut batch = Batch::default();
            if let Some(person) = self.person_key(&session) {
                batch.insert(person, Vec::new());
            }
            let ended = Some(&session).filter(|one| one.state != State::Pending);
            self.write_counted(ended.as_slice(), batch)?;
        }
        tree.insert(LAYOUT, LATEST)
    }

    /// The sessions of a person in some projects.
    fn sessions_with(&self, projects: &[ProjectId], person: i64) -> Result<Vec<SessionId>, StoreError> {
        let prefix = self.person_prefix(person);
        let mut found = Vec::new();
        for key in self.0.sessions.scan_prefix(&prefix).keys() {
            let key = key?;
            let id = key.get(prefix.len() + 8..).and_then(|id| std::str::from_utf8(id).ok());
            let Some(id) = id.and_then(SessionId::parse) else { continue };
            let session = passing_over_damage(self.read_session(&id))?;
            let theirs = session.is_some_and(|session| projects.contains(&session.project));
            found.extend(theirs.then_some(id));
        }
        Ok(found)
    }

    /// Erases what is known of the people of some sessions; pending ones are taken back.
    async fn forget(&self, ids: Vec<SessionId>, now: Timestamp) -> Result<Forgotten, StoreError> {
        let all = ids.clone();
        let forgotten = self
            .aside_of_others(move |store| {
                let mut forgotten = Forgotten::default();
                for id in &all {
                    let applied =
                        store.forgetting(id, |batch| store.apply_held(id, &Event::Forget, now, batch));
                    match applied {
                        Ok((Applied::Done(step), _)) => {
                            forgotten.sessions += 1;
                            forgotten.errands.extend(step.errands);
                        }
                        Ok((Applied::Refused(..) | Applied::Unknown, _)) => {}
                        Err(error) => drop(passing_over_damage::<()>(Err(error))?),
                    }
                }
                Ok(forgotten)
            })
            .await?;
        self.0.flusher.flushed().await?;
        for id in &ids {
            self.wake(id);
        }
        Ok(forgotten)
    }

    /// Removes some of the sessions that were created before an instant; `true`: there may be more.
    fn remove_old(&self, before: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        // What was not counted yet must be before it goes.
        if !self.count_some()? {
            return Ok(true);
        }
        let expired = self.expired_up_to()?;
        let mut removed = 0;
        let from = self.0.ledger.pruned.swap(0, Ordering::SeqCst);
        for entry in self.entries_after(from) {
            let Entry { key, creations } = entry?;
            let (mut left, last) = (false, creations.last().map_or(from, |creation| creation.place));
            for creation in &creations {
                if creation.place > expired || (creation.at >= before && creation.at <= now) {
                    return Ok(false);
                }
                // What a clock ahead of its time made stays until then, and does not keep the rest.
                if creation.at < before {
                    self.remove_session(creation)?;
                    removed += 1;
                } else {
                    left = true;
                }
            }
            if !left {
                let mut batch = Batch::default();
                self.unlist(&creations, &mut batch)?;
                batch.remove(key);
                self.0.sessions.apply_batch(batch)?;
            }
            if removed >= REMOVED_AT_ONCE {
                self.0.ledger.pruned.store(last, Ordering::SeqCst);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes some of a cleared project's sessions: `None`: all were looked at, else where to go on. `left`: whether some
    /// stay.
    fn remove_some(
        &self,
        project: &ProjectId,
        from: i64,
        before: Timestamp,
        left: &mut bool,
    ) -> Result<Option<i64>, StoreError> {
        let mut looked_at = 0;
        for entry in self.lists(project, from) {
            let Listed { key, first, sessions } = entry?;
            looked_at += sessions.len();
            let mut stays = false;
            for (place, id) in sessions {
                let session = passing_over_damage(self.read_session(&id))?;
                if session.is_some_and(|session| session.opening.is_some() && session.created_at >= before) {
                    stays = true;
                    continue;
                }
                let at = Timestamp::default();
                self.remove_session(&Creation { place, at, id, project: project.clone() })?;
            }
            if stays {
                *left = true;
            } else {
                self.0.sessions.remove(key)?;
            }
            if looked_at >= REMOVED_AT_ONCE {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl LedgerStore for EmbeddedStore {
    async fn sessions(&self, listing: &Listing, now: Timestamp) -> Result<Page, StoreError> {
        self.count_all().await?;
        let listing = listing.clone();
        let page = self.aside_of_others(move |store| store.page(&listing, now)).await?;
        // What is told must survive a crash.
        self.0.flusher.flushed().await?;
        Ok(page)
    }

    async fn day_counts(
        &self,
        project: &ProjectId,
        days: RangeInclusive<Day>,
    ) -> Result<Vec<DayCount>, StoreError> {
        self.count_all().await?;
        let project = project.clone();
        self.aside_of_others(move |store| store.counts(&project, &days)).await
    }

    async fn tally(&self, project: &ProjectId) -> Result<Tally, StoreError> {
        self.count_all().await?;
        let project = project.clone();
        self.aside_of_others(move |store| store.tally_of_all_days(&project)).await
    }

    async fn prune(&self, before: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        let more = self
            .aside_of_others(move |store| {
                let more = store.remove_old(before, now)?;
                if !more {
                    store.remove_people_before(Day::of(now.minus(PEOPLE_KEPT)))?;
                }
                Ok(more)
            })
            .await?;
        self.0.flusher.flushed().await?;
        Ok(more)
    }

    async fn clear_project(&self, project: &ProjectId, now: Timestamp) -> Result<Vec<Errand>, StoreError> {
        let (mut before, mut errands) = (i64::MAX, Vec::new());
        self.count_all().await?;
        loop {
            let of = project.clone();
            let some = self.aside_of_others(move |store| {
                store.listed(&of, before).take(REMOVED_AT_ONCE).collect::<Result<Vec<_>, _>>()
            });
            let some = some.await?;
            let Some((last, _)) = some.last() else { break };
            before = *last;
            let ids = some.into_iter().map(|(_, id)| id).collect();
            errands.extend(self.forget(ids, now).await?.errands);
        }
        Ok(errands)
    }

    async fn remove_cleared(&self, project: &ProjectId, before: Timestamp) -> Result<bool, StoreError> {
        let (mut from, mut left) = (Some(i64::MAX), false);
        self.count_all().await?;
        while let Some(place) = from {
            let of = project.clone();
            (from, left) = self
                .aside_of_others(move |store| {
                    let next = store.remove_some(&of, place, before, &mut left)?;
                    Ok((next, left))
                })
                .await?;
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
        let projects = projects.to_vec();
        let ids = self.aside_of_others(move |store| store.sessions_with(&projects, person)).await?;
        self.forget(ids, now).await
    }
}
