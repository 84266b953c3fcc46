//! The log of creations in the embedded store: the sessions in the order in which they were made, and so in the order in
//! which they end, many in one entry; and how far it was walked. What is counted of it is in `ledger`.

use std::sync::{Mutex, PoisonError};

use super::EmbeddedStore;
use super::engine::Bytes;
use super::engine::Tree;
use super::ledger::damaged;
use super::sessions::SESSION;
use super::sessions::ordered;
use super::sessions::unordered;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::ID_LENGTH;
use crate::domain::auth_session::SessionId;
use crate::domain::clock::Timestamp;
use crate::domain::project::ProjectId;
use crate::store::StoreError;

pub(super) const CREATION: u8 = b'c';
/// How an entry of several creations begins. One of before has one, and begins with its time: never with this, for the last
/// 250 million years.
const SEVERAL: u8 = 1;
/// How many creations are one entry at most: so many are read at once.
const TOGETHER: usize = 64;
/// How much room of a rush is kept for the next one, bytes.
const KEPT: usize = 1 << 18;
const AHEAD: u8 = b'f';
pub(super) const COUNTED: &[u8] = b"m counted";
pub(super) const EXPIRED: &[u8] = b"m expired";
/// Places of one millisecond.
const PLACES: i64 = 1 << 20;

/// A session as the log has it.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) place: i64,
    pub(super) at: Timestamp,
    pub(super) id: SessionId,
    pub(super) project: ProjectId,
}

/// Some of the log: its key has the place of the last one.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Bytes,
    pub(super) creations: Vec<Creation>,
}

/// What is damaged is told of and left out: it must not stop what concerns others.
pub(super) fn passing_over_damage<T>(read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(error @ StoreError::Unavailable(_)) => Err(error),
        Err(error) => {
            tracing::error!(%error, "a record is passed over");
            Ok(None)
        }
        Ok(record) => Ok(record),
    }
}

fn creation_key(place: i64) -> [u8; 9] {
    let mut key = [CREATION; 9];
    key.iter_mut().skip(1).zip(ordered(place)).for_each(|(to, from)| *to = from);
    key
}

pub(super) fn ahead_key(place: i64) -> Vec<u8> {
    [&[AHEAD], &ordered(place)[..]].concat()
}

impl Creation {
    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let place = unordered(*key.get(1..)?.first_chunk()?);
        let (at, names) = value.split_first_chunk::<8>()?;
        Self::of(place, *at, names)
    }

    fn of(place: i64, at: [u8; 8], names: &[u8]) -> Option<Self> {
        let (id, project) = std::str::from_utf8(names).ok()?.split_once(' ')?;
        let at = Timestamp::from_millis(unordered(at));
        Some(Self { place, at, id: SessionId::parse(id)?, project: ProjectId::parse(project)? })
    }

    fn value(&self) -> Vec<u8> {
        let names = format!("{} {}", self.id, self.project);
        [&ordered(self.at.as_millis())[..], names.as_bytes()].concat()
    }
}

impl Entry {
    fn read(key: Bytes, value: &[u8]) -> Option<Self> {
        let creations = match value.split_first()? {
            (&SEVERAL, several) => read_several(several)?,
            _ => vec![Creation::read(&key, value)?],
        };
        Some(Self { key, creations })
    }
}

fn read_several(mut rest: &[u8]) -> Option<Vec<Creation>> {
    let mut creations = Vec::new();
    while let Some((place, behind)) = rest.split_first_chunk() {
        let (at, behind) = behind.split_first_chunk()?;
        let (length, behind) = behind.split_first()?;
        let (names, behind) = behind.split_at_checked(usize::from(*length))?;
        creations.push(Creation::of(unordered(*place), *at, names)?);
        rest = behind;
    }
    rest.is_empty().then_some(creations)
}

/// Each of what is in an entry, or why it could not be read.
pub(super) fn each<T>(entry: Result<Vec<T>, StoreError>) -> impl Iterator<Item = Result<T, StoreError>> {
    let (all, error) = match entry {
        Ok(all) => (all, None),
        Err(error) => (Vec::new(), Some(Err(error))),
    };
    all.into_iter().map(Ok).chain(error)
}

pub(super) fn mark(tree: &Tree, name: &[u8]) -> Result<i64, StoreError> {
    let mark = tree.get(name)?;
    mark.map_or(Ok(0), |mark| mark.first_chunk().copied().map(unordered).ok_or_else(|| damaged("a mark")))
}

/// New sessions that are to be written, one behind the other: whoever creates one leaves nothing for another thread to free.
#[derive(Debug, Default)]
struct Queue {
    new: Vec<New>,
    bytes: Vec<u8>,
}

/// A new session: where in the bytes its names and its record end, which are there behind those of the one before it.
#[derive(Clone, Copy, Debug)]
struct New {
    at: Timestamp,
    names: usize,
    record: usize,
}

/// New sessions, and the places that they are given.
#[derive(Debug)]
pub(super) struct Creations {
    tree: Tree,
    /// What the next flush writes: all of it is one batch, whoever created it.
    queued: Mutex<Queue>,
    /// Held while entries and their sessions are written.
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    /// The last place that was given: all up to it are there.
    last: i64,
    /// An empty one, for its room.
    spare: Queue,
}

impl Queue {
    /// Empty again, with no more room than is usual.
    fn cleared(mut self) -> Self {
        self.new.clear();
        self.bytes.clear();
        self.new.shrink_to(KEPT / size_of::<New>());
        self.bytes.shrink_to(KEPT);
        self
    }

    /// What is written for these: each session and, of several at once, the entry of the log. `last`: the place before, and
    /// then the last one.
    fn writes(&self, last: &mut i64) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut writes = Vec::with_capacity(self.new.len() + self.new.len().div_ceil(TOGETHER));
        let mut start = 0;
        for together in self.new.chunks(TOGETHER) {
            let mut entry = vec![SEVERAL];
            for New { at, names, record } in together {
                let cut = || StoreError::Unavailable("a new session was cut".to_owned());
                let named = self.bytes.get(start..*names).ok_or_else(cut)?;
                let id = named.get(..ID_LENGTH).ok_or_else(cut)?;
                let length = u8::try_from(named.len()).map_err(|_| cut())?;
                // Rising whatever the clock does, so that a list that is being read never changes before its place.
                *last = at.as_millis().saturating_mul(PLACES).max(last.saturating_add(1));
                entry.extend_from_slice(&ordered(*last));
                entry.extend_from_slice(&ordered(at.as_millis()));
                entry.push(length);
                entry.extend_from_slice(named);
                let mut key = [SESSION; 1 + ID_LENGTH];
                key.iter_mut().skip(1).zip(id).for_each(|(to, from)| *to = *from);
                let record_bytes = self.bytes.get(*names..*record).ok_or_else(cut)?;
                writes.push((Bytes::from(key), Bytes::from(record_bytes)));
                start = *record;
            }
            writes.push((Bytes::from(creation_key(*last)), Bytes::from(entry)));
        }
        Ok(writes)
    }
}

impl Creations {
    pub(super) fn open(tree: Tree) -> Result<Self, StoreError> {
        let last = tree.scan_prefix([CREATION]).keys().next_back().transpose()?;
        let last = last.and_then(|key| Some(unordered(*key.get(1..)?.first_chunk()?))).unwrap_or(0);
        // The newest entries may have been removed. Nothing new may come before what was counted or looked at.
        let last = last.max(mark(&tree, COUNTED)?).max(mark(&tree, EXPIRED)?);
        let written = Mutex::new(Written { last, spare: Queue::default() });
        Ok(Self { tree, queued: Mutex::default(), written })
    }

    /// The last place that was given.
    pub(super) fn last(&self) -> i64 {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Has a session written with the next flush, which whoever created it waits for.
    ///
    /// # Errors
    /// There will be none: what is queued would stay.
    pub(super) fn queue(&self, session: &AuthSession, record: &[u8]) -> Result<(), StoreError> {
        self.tree.takes_writes()?;
        let mut queue = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        let Queue { new, bytes } = &mut *queue;
        for part in [session.id.as_str(), " ", session.project.as_str()] {
            bytes.extend_from_slice(part.as_bytes());
        }
        let names = bytes.len();
        bytes.extend_from_slice(record);
        new.push(New { at: session.created_at, names, record: bytes.len() });
        Ok(())
    }

    /// Writes what is queued.
    pub(super) fn write(&self) -> Result<(), StoreError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = std::mem::take(&mut written.spare);
        let queue =
            std::mem::replace(&mut *self.queued.lock().unwrap_or_else(PoisonError::into_inner), spare);
        if !queue.new.is_empty() {
            let mut last = written.last;
            self.tree.insert_all(queue.writes(&mut last)?)?;
            written.last = last;
        }
        written.spare = queue.cleared();
        Ok(())
    }
}

impl EmbeddedStore {
    /// The creations after a place, of those that are whole.
    pub(super) fn creations_after(
        &self,
        place: i64,
    ) -> impl Iterator<Item = Result<Creation, StoreError>> + use<> {
        let is_after = move |creation: &Creation| creation.place > place;
        self.entries_after(place)
            .flat_map(|entry| each(entry.map(|entry| entry.creations)))
            .filter(move |creation| creation.as_ref().map_or(true, is_after))
    }

    /// The entries of the log that have a creation after a place.
    pub(super) fn entries_after(
        &self,
        place: i64,
    ) -> impl Iterator<Item = Result<Entry, StoreError>> + use<> {
        let last = self.0.creations.last();
        let from = creation_key(place.saturating_add(1)).to_vec();
        // An empty range where there is nothing new.
        let to = creation_key(last.max(place).saturating_add(1)).to_vec();
        self.0.sessions.range(from..to).map(|entry| {
            let (key, value) = entry?;
            Entry::read(key, &value).ok_or_else(|| damaged("a creation"))
        })
    }

    /// Up to where sessions were looked at for their end.
    pub(super) fn expired_up_to(&self) -> Result<i64, StoreError> {
        mark(&self.0.sessions, EXPIRED)
    }

    /// Looking again does no harm, so nobody waits until this is durable.
    pub(super) fn set_expired_up_to(&self, place: i64) -> Result<(), StoreError> {
        self.0.sessions.insert(EXPIRED, ordered(place))
    }

    /// Sets an entry of the log aside that a clock ahead of its time made: it must not keep the walk from what follows.
    pub(super) fn set_aside(&self, creation: &Creation) -> Result<(), StoreError> {
        self.0.sessions.insert(ahead_key(creation.place), creation.value())
    }

    /// The entries that were set aside.
    pub(super) fn aside(&self) -> impl Iterator<Item = Result<Creation, StoreError>> + use<> {
        self.0.sessions.scan_prefix([AHEAD]).map(|entry| {
            let (key, value) = entry?;
            Creation::read(&key, &value).ok_or_else(|| damaged("a creation ahead of its time"))
        })
    }

    /// An entry's time has come.
    pub(super) fn take_from_aside(&self, creation: &Creation) -> Result<(), StoreError> {
        self.0.sessions.remove(ahead_key(creation.place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Ids;
    use crate::store::embedded::made_for_tests;

    fn session(ids: &Ids, at: i64) -> AuthSession {
        made_for_tests::session(ids, &ProjectId::parse("proj_demo").unwrap(), Timestamp::from_millis(at))
    }

    fn after(store: &EmbeddedStore, place: i64) -> Vec<(i64, SessionId)> {
        store
            .creations_after(place)
            .map(|creation| creation.map(|one| (one.place, one.id)).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn many_creations_are_few_entries_and_are_walked_from_any_of_them() {
        let (folder, ids) = (tempfile::tempdir().unwrap(), Ids::from_seed([3; 32]));
        let store = made_for_tests::open(&folder).await;
        // As it was written when each creation had an entry of its own.
        let former = Creation { place: 7, at: Timestamp::from_millis(0), ..of(&session(&ids, 0)) };
        store.0.sessions.insert(creation_key(former.place), former.value()).unwrap();
        let sessions: Vec<_> = (0..200).map(|number| session(&ids, 1_000 + number / 50)).collect();
        for session in &sessions {
            store.0.creations.queue(session, b"record").unwrap();
        }
        store.0.creations.write().unwrap();
        assert_eq!(store.0.sessions.scan_prefix([CREATION]).count(), 1 + 200_usize.div_ceil(TOGETHER));
        assert_eq!(store.0.sessions.scan_prefix([SESSION]).count(), 200);
        let all = after(&store, 0);
        assert_eq!(all[0], (7, former.id));
        let ids_in_order: Vec<_> = all[1..].iter().map(|(_, id)| id.clone()).collect();
        assert!(ids_in_order.iter().eq(sessions.iter().map(|session| &session.id)));
        assert!(all.is_sorted_by(|one, other| one.0 < other.0));
        for (seen, (place, _)) in all.iter().enumerate() {
            assert_eq!(after(&store, *place), all[seen + 1..]);
        }
        // A clock that goes back gives no place twice.
        store.0.creations.queue(&session(&ids, 0), b"record").unwrap();
        store.0.creations.write().unwrap();
        assert_eq!(after(&store, all[200].0).len(), 1);
        store.0.engine.halt();
        assert!(store.0.creations.queue(&session(&ids, 0), b"record").is_err(), "nothing gathers in memory");
    }

    #[test]
    fn a_cut_entry_is_damaged() {
        let entry = |value: &[u8]| Entry::read(Bytes::from(creation_key(9)), value);
        let names = format!("{} proj_demo", "0".repeat(ID_LENGTH));
        let length = u8::try_from(names.len()).unwrap();
        let whole = [&[SEVERAL][..], &ordered(9), &ordered(1), &[length], names.as_bytes()].concat();
        assert_eq!(entry(&whole).unwrap().creations.len(), 1);
        for cut in 2..whole.len() {
            assert!(entry(&whole[..cut]).is_none(), "cut at {cut}");
        }
        assert!(entry(b"").is_none());
    }

    fn of(session: &AuthSession) -> Creation {
        let (id, project) = (session.id.clone(), session.project.clone());
        Creation { place: 0, at: session.created_at, id, project }
    }
}
