//! What the embedded store counts of sessions: tallies of days, and who was there. The log of their creation, which is counted,
//! is in `creations`, the lists that come of it in `lists`.
//!
//! Keys, in the tree of the sessions: `c` place of the last → creations; `f` place → creation that a clock ahead of its time
//! made; `l` see `lists`; `t` project, day → tally (day 0: of all days); `u` project, day → people; `x` what was damaged;
//! `m` → marks. A creation writes only its session and a place in the log, without a counter that all would wait for;
//! the log is counted later, in large steps, each creation once: the mark of how far it was counted is in the same batch as the
//! tallies. What came of a session is counted in the batch that writes it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::EmbeddedStore;
use super::creations::COUNTED;
use super::creations::Creation;
use super::creations::ahead_key;
use super::creations::mark;
use super::creations::passing_over_damage;
use super::engine::Batch;
use super::lists;
use super::sessions::ordered;
use super::sessions::session_key;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::State;
use crate::domain::ledger::Day;
use crate::domain::ledger::DayCount;
use crate::domain::ledger::People;
use crate::domain::ledger::Tally;
use crate::domain::project::ProjectId;
use crate::store::StoreError;
use crate::store::records;

const TALLY: u8 = b't';
const PEOPLE: u8 = b'u';
const DAMAGED: u8 = b'x';
/// How many creations are counted in one batch.
const COUNTED_AT_ONCE: usize = 512;
/// How many batches are counted in one go, so that who is to stop can.
const BATCHES: usize = 32;
/// The tally of all days.
const EVER: Day = Day::from_number(0);

/// How far the log was looked through, and the lock of the tallies.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Up to where old sessions were removed, while there are more: the next ones are looked for from here, not from the
    /// start, past all that was just removed.
    pub(super) pruned: AtomicI64,
    /// Held while tallies are read and written. After a shard, never before one.
    tallies: Mutex<()>,
}

pub(super) fn damaged(what: &str) -> StoreError {
    StoreError::Corrupt(format!("the ledger ({what})"))
}

/// `kind`, project, and what sorts within it. Ids of projects hold no zero.
pub(super) fn of_project(kind: u8, project: &ProjectId, rest: &[u8]) -> Vec<u8> {
    [&[kind], project.as_str().as_bytes(), &[0], rest].concat()
}

fn day_key(kind: u8, project: &ProjectId, day: Day) -> Vec<u8> {
    of_project(kind, project, &day.number().to_be_bytes())
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self { pruned: AtomicI64::new(0), tallies: Mutex::default() }
    }
}

impl EmbeddedStore {
    fn sealed<T: DeserializeOwned + Default>(&self, key: &[u8]) -> Result<T, StoreError> {
        let record = self.0.sessions.get(key)?;
        record.map_or_else(
            || Ok(T::default()),
            |record| records::decode(&self.0.sealer, &String::from_utf8_lossy(key), &record),
        )
    }

    fn put_sealed<T: Serialize>(&self, key: Vec<u8>, value: &T, batch: &mut Batch) -> Result<(), StoreError> {
        let record = records::encode(&self.0.sealer, &String::from_utf8_lossy(&key), value)?;
        batch.insert(key, record);
        Ok(())
    }

    /// Adds to the tally of a day. Once for each in a batch: what the batch holds is not seen.
    fn add_tally(
        &self,
        project: &ProjectId,
        day: Day,
        added: Tally,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let key = day_key(TALLY, project, day);
        let tally = self.to_be_changed::<Tally>(&key, batch)?.plus(added);
        self.put_sealed(key, &tally, batch)
    }

    /// A count that is about to be written anew. A damaged one is set aside: nobody's sign-in may fail because of it.
    fn to_be_changed<T: DeserializeOwned + Default>(
        &self,
        key: &[u8],
        batch: &mut Batch,
    ) -> Result<T, StoreError> {
        match self.sealed(key) {
            Err(error @ StoreError::Unavailable(_)) => Err(error),
            Err(error) => {
                tracing::error!(%error, "a count is damaged; it is kept aside, and counting begins anew");
                if let Some(record) = self.0.sessions.get(key)? {
                    batch.insert([&[DAMAGED], key].concat(), record);
                }
                Ok(T::default())
            }
            Ok(count) => Ok(count),
        }
    }

    /// Writes a batch; `ended`: the sessions that ended with it, which are counted, each tally once.
    pub(super) fn write_counted(&self, ended: &[&AuthSession], mut batch: Batch) -> Result<(), StoreError> {
        if ended.is_empty() {
            return self.0.sessions.apply_batch(batch);
        }
        let mut tallies: BTreeMap<(&ProjectId, Day), Tally> = BTreeMap::new();
        let mut people: BTreeMap<(&ProjectId, Day), Vec<u64>> = BTreeMap::new();
        for session in ended {
            let (project, day) = (&session.project, Day::of(session.created_at));
            for day in [day, EVER] {
                tallies.entry((project, day)).or_default().count(&session.state);
            }
            if let (State::Confirmed { .. }, Some(opening)) = (&session.state, &session.opening) {
                people.entry((project, day)).or_default().push(self.digest(opening.person.id));
            }
        }
        let _tallies = self.0.ledger.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        for ((project, day), added) in tallies {
            self.add_tally(project, day, added, &mut batch)?;
        }
        for ((project, day), digests) in people {
            let key = day_key(PEOPLE, project, day);
            let mut people: People = self.to_be_changed(&key, &mut batch)?;
            // All of them are put in.
            if digests.into_iter().fold(false, |new, digest| people.insert(digest) | new) {
                self.put_sealed(key, &people, &mut batch)?;
            }
        }
        self.0.sessions.apply_batch(batch)
    }

    /// A person in a count.
    fn digest(&self, person: i64) -> u64 {
        let blinded = self.0.sealer.blind("count of people", &person.to_be_bytes());
        blinded.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    /// Counts and lists the sessions that were created since the last time, in steps between which a stop is possible.
    pub(super) async fn count_all(&self) -> Result<(), StoreError> {
        while !self.aside_of_others(Self::count_some).await? {}
        Ok(())
    }

    /// Counts and lists some of the sessions that were created since the last time; `true`: all of them. After a rush, or at
    /// a start, they are many, and what is written here waits for the files rather than gathering in memory.
    pub(super) fn count_some(&self) -> Result<bool, StoreError> {
        for _ in 0..BATCHES {
            if !self.count_batch()? {
                return Ok(true);
            }
            if !self.0.sessions.wait_for_files()? {
                break;
            }
        }
        Ok(false)
    }

    /// Counts and lists in one batch; `false`: nothing was left to be counted. The sessions are not looked up, which would
    /// read all of them: only what is counted is ever removed.
    fn count_batch(&self) -> Result<bool, StoreError> {
        let _tallies = self.0.ledger.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = mark(&self.0.sessions, COUNTED)?;
        let mut batch = Batch::default();
        let mut created: BTreeMap<(ProjectId, Day), Tally> = BTreeMap::new();
        let mut up_to = counted;
        let mut creations = 0;
        for entry in self.entries_after(counted) {
            let mut new = entry?.creations;
            // One of before may have counted some of an entry.
            new.retain(|creation| creation.place > counted);
            lists::list(&new, &mut batch);
            creations += new.len();
            for Creation { place, at, project, .. } in new {
                up_to = place;
                for day in [Day::of(at), EVER] {
                    created.entry((project.clone(), day)).or_default().created += 1;
                }
            }
            if creations >= COUNTED_AT_ONCE {
                break;
            }
        }
        if created.is_empty() {
            return Ok(false);
        }
        for ((project, day), added) in created {
            self.add_tally(&project, day, added, &mut batch)?;
        }
        batch.insert(COUNTED, ordered(up_to));
        self.0.sessions.apply_batch(batch)?;
        Ok(true)
    }

    /// What was counted of a project on some days; days without anything are left out.
    pub(super) fn counts(
        &self,
        project: &ProjectId,
        days: &RangeInclusive<Day>,
    ) -> Result<Vec<DayCount>, StoreError> {
        let (from, to) = (day_key(TALLY, project, *days.start()), day_key(TALLY, project, *days.end()));
        let mut counts = Vec::new();
        for key in self.0.sessions.range(from..=to).keys() {
            let key = key?;
            let number = key.last_chunk::<4>().ok_or_else(|| damaged("a day"))?;
            let day = Day::from_number(u32::from_be_bytes(*number));
            let people = self.sealed(&day_key(PEOPLE, project, day))?;
            counts.push(DayCount { day, tally: self.sealed(&key)?, people });
        }
        Ok(counts)
    }

    /// What was counted of a project ever.
    pub(super) fn tally_of_all_days(&self, project: &ProjectId) -> Result<Tally, StoreError> {
        self.sealed(&day_key(TALLY, project, EVER))
    }

    /// Takes a session out of everything but the counts and the lists, with the delivery that tells who its person is: nothing that
    /// knows a person may outlive the index that finds it.
    pub(super) fn remove_session(&self, creation: &Creation) -> Result<(), StoreError> {
        self.forgetting(&creation.id, |mut batch| {
            // Nothing may write it back meanwhile.
            let mut shard = self.0.shards.hold(&creation.id);
            let session = passing_over_damage(self.read_session(&creation.id))?;
            if let Some(person) = session.and_then(|session| self.person_key(&session)) {
                batch.remove(person);
            }
            batch.remove(session_key(&creation.id));
            batch.remove(ahead_key(creation.place));
            self.0.sessions.apply_batch(batch)?;
            self.0.shards.is_gone(&mut shard, &creation.id, &creation.project);
            Ok(())
        })
    }

    /// Removes who was counted on days before this one; how many they were is no longer asked.
    pub(super) fn remove_people_before(&self, day: Day) -> Result<(), StoreError> {
        let people = self.0.sessions.scan_prefix([PEOPLE]).keys();
        for key in people.chain(self.0.sessions.scan_prefix([DAMAGED, PEOPLE]).keys()) {
            let key = key?;
            let counted = key.last_chunk::<4>().copied().map(u32::from_be_bytes);
            if counted.is_some_and(|counted| counted < day.number()) {
                self.0.sessions.remove(key)?;
            }
        }
        Ok(())
    }

    /// Removes what was counted of a project.
    pub(super) fn remove_counts(&self, project: &ProjectId) -> Result<(), StoreError> {
        for kind in [TALLY, PEOPLE] {
            let counts = of_project(kind, project, &[]);
            let aside = self.0.sessions.scan_prefix([&[DAMAGED], &counts[..]].concat()).keys();
            for key in self.0.sessions.scan_prefix(counts).keys().chain(aside) {
                self.0.sessions.remove(key?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::ids::Ids;
    use crate::store::SessionStore as _;
    use crate::store::embedded::made_for_tests;

    #[tokio::test]
    async fn a_session_that_is_removed_is_not_taken_for_a_pending_one() {
        let (folder, ids) = (tempfile::tempdir().unwrap(), Ids::from_seed([4; 32]));
        let store = made_for_tests::open(&folder).await;
        let at = Timestamp::from_millis(1_000);
        let session = made_for_tests::session(&ids, &ProjectId::new(&ids), at);
        store.insert_session(&session).await.unwrap();
        let known = || store.0.shards.pending_until(&session.id, &session.project);
        assert_eq!(known(), Some(session.expires_at));
        let (id, project) = (session.id.clone(), session.project.clone());
        store.remove_session(&Creation { place: 1, at, id, project }).unwrap();
        assert_eq!((known(), store.session(&session.id).await.unwrap()), (None, None));
    }
}
