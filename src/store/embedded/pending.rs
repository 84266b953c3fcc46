//! Sessions that are known to be pending, so that a poll of one reads and unseals nothing. Nearly all polls are such.
//! Forgetting any of it is harmless: the record tells.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::domain::auth_session::SessionId;
use crate::domain::clock::Timestamp;
use crate::domain::hashed::BuildHashed;
use crate::domain::project::ProjectId;

/// The most that one table remembers; all tables of the store together two million, 36 MiB.
const MOST: usize = 1 << 15;
/// A table smaller than this is not worth shrinking.
const SMALL: usize = 1 << 9;

/// Some of the pending sessions, and until when they are.
#[derive(Debug, Default)]
pub(super) struct Pending(HashMap<Key, Timestamp, BuildHashed>);

/// A session in its project. Two that share 64 bits would be taken for each other; the hash is keyed, so nobody can make
/// such a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn new(state: &RandomState, id: &SessionId, project: &ProjectId) -> Self {
        Self(state.hash_one((id, project)))
    }
}

impl Pending {
    /// The session is pending until then.
    pub(super) fn remember(&mut self, key: Key, until: Timestamp) {
        if self.0.len() < MOST {
            self.0.insert(key, until);
        }
    }

    /// The session has changed.
    pub(super) fn forget(&mut self, key: Key) {
        self.0.remove(&key);
        // After a rush, what it took is given back.
        if self.0.capacity() > SMALL && self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to(self.0.len() * 2);
        }
    }

    /// Until when the session is pending; `None` says nothing.
    pub(super) fn until(&self, key: Key) -> Option<Timestamp> {
        self.0.get(&key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::auth_session::SessionToken;
    use crate::domain::ids::Ids;

    #[test]
    fn a_table_has_an_end_and_gives_back_what_a_rush_took() {
        let ids = Ids::from_seed([8; 32]);
        let (state, mut pending) = (RandomState::new(), Pending::default());
        let project = ProjectId::new(&ids);
        let until = Timestamp::from_millis(1);
        let keys: Vec<_> =
            (0..MOST + 9).map(|_| Key::new(&state, &SessionToken::new(&ids).id(), &project)).collect();
        for key in &keys {
            pending.remember(*key, until);
        }
        assert_eq!(pending.0.len(), MOST);
        assert_eq!(keys.iter().filter(|key| pending.until(**key).is_none()).count(), 9);
        let full = pending.0.capacity();
        for key in &keys {
            pending.forget(*key);
        }
        assert!(pending.0.is_empty() && pending.0.capacity() < full / 8, "{}", pending.0.capacity());
    }

    #[test]
    fn a_session_is_pending_in_its_own_project_only() {
        let ids = Ids::from_seed([9; 32]);
        let (state, mut pending) = (RandomState::new(), Pending::default());
        let (one, other, session) =
            (ProjectId::new(&ids), ProjectId::new(&ids), SessionToken::new(&ids).id());
        pending.remember(Key::new(&state, &session, &one), Timestamp::from_millis(7));
        assert_eq!(pending.until(Key::new(&state, &session, &one)), Some(Timestamp::from_millis(7)));
        assert_eq!(pending.until(Key::new(&state, &session, &other)), None);
    }
}
