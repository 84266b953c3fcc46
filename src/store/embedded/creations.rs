//! The log of creations in the embedded store: an entry for each session, in the order in which they were made and so in
//! the order in which they end; and how far it was walked. What is counted of it is in `ledger`.

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

    fn of(session: &AuthSession, place: i64) -> Self {
        let (id, project) = (session.id.clone(), session.project.clone());
        Self { place, at: session.created_at, id, project }
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

impl EmbeddedStore {
    /// Writes a session and its entry of the log, in one step.
    pub(super) fn write_creation(&self, session: &AuthSession, record: Vec<u8>) -> Result<(), StoreError> {
        let mut last = self.0.ledger.last();
        // Rising whatever the clock does, so that a list that is being read never changes before its place.
        let place = session.created_at.as_millis().saturating_mul(PLACES).max(last.saturating_add(1));
        let mut batch = Batch::default();
        batch.insert(creation_key(place), Creation::of(session, place).value());
        batch.insert(session_key(&session.id), record);
        self.0.sessions.apply_batch(batch)?;
        *last = place;
        Ok(())
    }

    /// The entries of the log after a place, of those that are whole.
    pub(super) fn creations_after(
        &self,
        place: i64,
    ) -> impl Iterator<Item = Result<Creation, StoreError>> + use<> {
        let last = *self.0.ledger.last();
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
