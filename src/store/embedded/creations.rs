//! The log of creations in the embedded store: an entry for each session, in the order in which they were made and so in
//! the order in which they end; and how far it was walked. What is counted of it is in `ledger`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::EmbeddedStore;
use super::engine::Batch;
use super::engine::Tree;
use super::ledger::damaged;
use super::sessions::ordered;
use super::sessions::session_key;
use super::sessions::unordered;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::SessionId;
use crate::domain::clock::Timestamp;
use crate::domain::project::ProjectId;
use crate::store::StoreError;

pub(super) const CREATION: u8 = b'c';
const AHEAD: u8 = b'f';
pub(super) const COUNTED: &[u8] = b"m counted";
pub(super) const EXPIRED: &[u8] = b"m expired";
/// Places of one millisecond.
const PLACES: i64 = 1 << 20;

/// An entry of the log.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) place: i64,
    pub(super) at: Timestamp,
    pub(super) id: SessionId,
    pub(super) project: ProjectId,
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

pub(super) fn creation_key(place: i64) -> Vec<u8> {
    [&[CREATION], &ordered(place)[..]].concat()
}

pub(super) fn ahead_key(place: i64) -> Vec<u8> {
    [&[AHEAD], &ordered(place)[..]].concat()
}

impl Creation {
    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let place = unordered(*key.get(1..)?.first_chunk()?);
        let (at, rest) = value.split_first_chunk::<8>()?;
        let (id, project) = std::str::from_utf8(rest).ok()?.split_once(' ')?;
        let at = Timestamp::from_millis(unordered(*at));
        Some(Self { place, at, id: SessionId::parse(id)?, project: ProjectId::parse(project)? })
    }

    /// Of a session that has no place yet.
    fn of(session: &AuthSession) -> Self {
        let (id, project) = (session.id.clone(), session.project.clone());
        Self { place: 0, at: session.created_at, id, project }
    }

    fn value(&self) -> Vec<u8> {
        let names = format!("{} {}", self.id, self.project);
        [&ordered(self.at.as_millis())[..], names.as_bytes()].concat()
    }
}

pub(super) fn mark(tree: &Tree, name: &[u8]) -> Result<i64, StoreError> {
    let mark = tree.get(name)?;
    mark.map_or(Ok(0), |mark| mark.first_chunk().copied().map(unordered).ok_or_else(|| damaged("a mark")))
}

/// A new session that is to be written.
#[derive(Debug)]
struct New {
    creation: Creation,
    record: Vec<u8>,
}

/// New sessions, and the places that they are given.
#[derive(Debug)]
pub(super) struct Creations {
    tree: Tree,
    /// What the next flush writes: all of it is one batch, whoever created it.
    queued: Mutex<Vec<New>>,
    /// The last place that was given; held while entries and their sessions are written, so that all up to it are there.
    last: Mutex<i64>,
}

impl Creations {
    pub(super) fn open(tree: Tree) -> Result<Self, StoreError> {
        let last = tree.scan_prefix([CREATION]).keys().next_back().transpose()?;
        let last = last.and_then(|key| Some(unordered(*key.get(1..)?.first_chunk()?))).unwrap_or(0);
        // The newest entries may have been removed. Nothing new may come before what was counted or looked at.
        let last = last.max(mark(&tree, COUNTED)?).max(mark(&tree, EXPIRED)?);
        Ok(Self { tree, queued: Mutex::default(), last: Mutex::new(last) })
    }

    /// The last place that was given.
    pub(super) fn last(&self) -> MutexGuard<'_, i64> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a session written with the next flush, which whoever created it waits for.
    pub(super) fn queue(&self, session: &AuthSession, record: Vec<u8>) {
        let new = New { creation: Creation::of(session), record };
        self.queued.lock().unwrap_or_else(PoisonError::into_inner).push(new);
    }

    /// Writes what is queued: each session and its entry of the log.
    pub(super) fn write(&self) -> Result<(), StoreError> {
        let new = std::mem::take(&mut *self.queued.lock().unwrap_or_else(PoisonError::into_inner));
        if new.is_empty() {
            return Ok(());
        }
        let (mut last, mut batch) = (self.last(), Batch::default());
        let mut place = *last;
        for New { creation, record } in new {
            // Rising whatever the clock does, so that a list that is being read never changes before its place.
            place = creation.at.as_millis().saturating_mul(PLACES).max(place.saturating_add(1));
            batch.insert(creation_key(place), creation.value());
            batch.insert(session_key(&creation.id), record);
        }
        self.tree.apply_batch(batch)?;
        *last = place;
        Ok(())
    }
}

impl EmbeddedStore {
    /// The entries of the log after a place, of those that are whole.
    pub(super) fn creations_after(
        &self,
        place: i64,
    ) -> impl Iterator<Item = Result<Creation, StoreError>> + use<> {
        let last = *self.0.creations.last();
        let from = creation_key(place.saturating_add(1));
        // An empty range where there is nothing new.
        let to = creation_key(last.max(place).saturating_add(1));
        self.0.sessions.range(from..to).map(|entry| {
            let (key, value) = entry?;
            Creation::read(&key, &value).ok_or_else(|| damaged("a creation"))
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
