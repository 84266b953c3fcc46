//! Sessions that are known to be pending, so that a poll of one reads and unseals nothing. Nearly all polls are such.
//! Forgetting any of it is harmless: the record tells.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU64;

use crate::domain::auth_session::SessionId;
use crate::domain::clock::Timestamp;
use crate::domain::project::ProjectId;

/// The most lines that one table has; all tables of the store together nearly two million sessions, 47 MiB.
const MOST: usize = 12_000;
/// A table of fewer is not worth shrinking.
const SMALL: usize = 1 << 7;
/// The sessions of one line.
const TOGETHER: usize = 4;

/// Some of the pending sessions, and until when they are. With a million sessions this is in no cache, and what a poll pays for is
/// to wait for memory: so a session is in one of two lines, which are read at once. Where both are full the table grows, and once
/// it may not it forgets.
#[derive(Debug, Default)]
pub(super) struct Pending {
    lines: Vec<Line>,
    sessions: usize,
}

/// A line of the processor's cache.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line([Place; TOGETHER]);

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    key: Option<Key>,
    until: Timestamp,
}

/// A session in its project. Two that share 64 bits would be taken for each other; the hash is keyed, so nobody can make
/// such a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(NonZeroU64);

impl Key {
    pub(super) fn new(state: &RandomState, id: &SessionId, project: &ProjectId) -> Self {
        Self(NonZeroU64::new(state.hash_one((id, project))).unwrap_or(NonZeroU64::MAX))
    }

    /// The two lines in which it may be: one of each half of so many.
    fn lines(self, of: usize) -> [usize; 2] {
        let half = of / 2;
        let scaled = |bits: u64| usize::try_from((bits * half as u64) >> 32).unwrap_or_default();
        [scaled(self.0.get() >> 32), half + scaled(self.0.get() & u64::from(u32::MAX))]
    }
}

impl Pending {
    /// The session is pending until then.
    pub(super) fn remember(&mut self, key: Key, until: Timestamp) {
        if let Some(place) = self.place(key) {
            place.until = until;
            return;
        }
        self.put(Place { key: Some(key), until });
    }

    /// The session has changed.
    pub(super) fn forget(&mut self, key: Key) {
        let Some(place) = self.place(key) else { return };
        *place = Place::default();
        self.sessions -= 1;
        // After a rush, what it took is given back.
        if self.lines.len() > SMALL && self.sessions < self.lines.len() * TOGETHER / 8 {
            self.resize(self.lines.len() / 4);
        }
    }

    /// Until when the session is pending; `None` says nothing.
    pub(super) fn until(&self, key: Key) -> Option<Timestamp> {
        let [first, second] = key.lines(self.lines.len());
        let (Line(first), Line(second)) = (self.lines.get(first)?, self.lines.get(second)?);
        let mut until = None;
        // None is left out once it is found: the memory of the second line is not to be asked for after that of the first.
        for place in first.iter().chain(second) {
            if place.key == Some(key) {
                until = Some(place.until);
            }
        }
        until
    }

    /// Where the session is.
    fn place(&mut self, key: Key) -> Option<&mut Place> {
        let lines = self.two_lines(key)?;
        lines.into_iter().flat_map(|Line(places)| places).find(|place| place.key == Some(key))
    }

    /// Whether there was room. The session has no place yet.
    fn take_in(&mut self, place: Place) -> bool {
        let Some(key) = place.key else { return true };
        let free = |Line(places): &&mut Line| places.iter().filter(|place| place.key.is_none()).count();
        let emptier = self.two_lines(key).and_then(|lines| lines.into_iter().max_by_key(free));
        let free = emptier.and_then(|Line(places)| places.iter_mut().find(|place| place.key.is_none()));
        let is_room = free.is_some();
        if let Some(free) = free {
            *free = place;
            self.sessions += 1;
        }
        is_room
    }

    /// The lines in which a session may be.
    fn two_lines(&mut self, key: Key) -> Option<[&mut Line; 2]> {
        let lines = key.lines(self.lines.len());
        self.lines.get_disjoint_mut(lines).ok()
    }

    /// Takes it in, if need be into more lines.
    fn put(&mut self, place: Place) {
        while !self.take_in(place) && self.lines.len() < MOST {
            self.resize((self.lines.len() * 3 / 2).clamp(2, MOST));
        }
    }

    /// Moves to another number of lines.
    fn resize(&mut self, lines: usize) {
        let former = std::mem::replace(&mut self.lines, vec![Line::default(); lines]);
        self.sessions = 0;
        for place in former.into_iter().flat_map(|Line(places)| places) {
            self.put(place);
        }
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
        let until = |number: usize| Timestamp::from_millis(number.try_into().unwrap());
        let keys: Vec<_> =
            (0..MOST * TOGETHER).map(|_| Key::new(&state, &SessionToken::new(&ids).id(), &project)).collect();
        for (number, key) in keys.iter().enumerate() {
            pending.remember(*key, until(number));
            pending.remember(*key, until(number));
            // All of them, as long as the table may grow.
            assert!(pending.lines.len() == MOST || pending.sessions == number + 1);
        }
        assert_eq!(pending.lines.len(), MOST);
        let known: Vec<_> =
            keys.iter().enumerate().filter(|(_, key)| pending.until(**key).is_some()).collect();
        assert_eq!(known.len(), pending.sessions);
        assert!(known.len() > keys.len() * 3 / 4, "{}", known.len());
        assert!(known.iter().all(|(number, key)| pending.until(**key) == Some(until(*number))));
        for (forgotten, key) in keys.iter().enumerate() {
            pending.forget(*key);
            assert_eq!(pending.until(*key), None, "{forgotten}");
        }
        assert!(pending.sessions == 0 && pending.lines.len() <= SMALL, "{}", pending.lines.len());
    }

    #[test]
    fn growing_forgets_nobody() {
        let ids = Ids::from_seed([7; 32]);
        let (project, until) = (ProjectId::new(&ids), Timestamp::from_millis(1));
        let sessions: Vec<_> = (0..300).map(|_| SessionToken::new(&ids).id()).collect();
        for _ in 0..300 {
            let (state, mut pending) = (RandomState::new(), Pending::default());
            let keys: Vec<_> = sessions.iter().map(|id| Key::new(&state, id, &project)).collect();
            for key in &keys {
                pending.remember(*key, until);
            }
            assert!(keys.iter().all(|key| pending.until(*key) == Some(until)), "{}", pending.lines.len());
        }
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
