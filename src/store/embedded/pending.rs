//! Sessions that are known to be pending, so that a poll of one reads and unseals nothing. Nearly all polls are such.
//! Forgetting any of it is harmless: the record tells.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU64;

use crate::domain::auth_session::SessionId;
use crate::domain::clock::Timestamp;
use crate::domain::project::ProjectId;

/// The most pages that one table has; all tables of the store together more than two million sessions, 47 MiB.
const MOST: usize = 187;
/// A table of no more is not worth shrinking.
const SMALL: usize = 3;
/// The lines of a page, and the sessions of a line.
const LINES: usize = 64;
const TOGETHER: usize = 4;

/// Some of the pending sessions, and until when they are. With a million sessions this is in no cache, and what a poll pays for is
/// to wait for memory: so a session is in one of two lines of one page, which are read at once and with one look into the
/// processor's tables of pages. Where both are full one of those who are there goes to its other line; where all of these are full, too, the
/// table grows, and once it may not it forgets.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pages: Vec<Page>,
    sessions: usize,
}

/// A page of memory.
#[derive(Clone, Debug)]
#[repr(align(4096))]
struct Page([Line; LINES]);

/// A line of the processor's cache.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line([Option<Session>; TOGETHER]);

#[derive(Clone, Copy, Debug)]
struct Session {
    key: Key,
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

    /// The page in which it may be, of so many.
    fn page(self, of: usize) -> usize {
        usize::try_from(((self.0.get() >> 32) * of as u64) >> 32).unwrap_or_default()
    }

    /// The two lines of that page.
    fn lines(self) -> [usize; 2] {
        let [first, apart, ..] = self.0.get().to_le_bytes().map(usize::from);
        [first % LINES, (first + 1 + apart % (LINES - 1)) % LINES]
    }
}

impl Pending {
    /// The session is pending until then.
    pub(super) fn remember(&mut self, key: Key, until: Timestamp) {
        let session = Session { key, until };
        match self.page(key).and_then(|page| page.place(key)) {
            Some(place) => *place = Some(session),
            None => self.put(session),
        }
    }

    /// The session has changed.
    pub(super) fn forget(&mut self, key: Key) {
        let Some(place) = self.page(key).and_then(|page| page.place(key)) else { return };
        *place = None;
        self.sessions -= 1;
        // After a rush, what it took is given back.
        if self.pages.len() > SMALL && self.sessions < self.pages.len() * LINES * TOGETHER / 8 {
            self.resize(self.pages.len() / 4);
        }
    }

    /// Until when the session is pending, if that is known.
    pub(super) fn until(&self, key: Key) -> Option<Timestamp> {
        let Page(lines) = self.pages.get(key.page(self.pages.len()))?;
        let [first, second] = key.lines();
        let (Line(first), Line(second)) = (lines.get(first)?, lines.get(second)?);
        let mut until = None;
        // None is left out once it is found: the memory of the second line is not to be asked for after that of the first.
        for place in first.iter().chain(second) {
            if let Some(session) = place
                && session.key == key
            {
                until = Some(session.until);
            }
        }
        until
    }

    fn page(&mut self, key: Key) -> Option<&mut Page> {
        let page = key.page(self.pages.len());
        self.pages.get_mut(page)
    }

    /// Takes in a session that is not there.
    fn put(&mut self, session: Session) {
        while !self.page(session.key).is_some_and(|page| page.take_in(session)) {
            let pages = self.pages.len();
            if pages == MOST {
                return;
            }
            self.resize((pages * 3 / 2).clamp(pages + 1, MOST));
        }
        self.sessions += 1;
    }

    /// So many pages, or more where those who are there need them.
    fn resize(&mut self, pages: usize) {
        let former = std::mem::replace(&mut self.pages, vec![Page::default(); pages]);
        self.sessions = 0;
        for session in former.iter().flat_map(|Page(lines)| lines).flat_map(|Line(places)| places).flatten() {
            self.put(*session);
        }
    }
}

impl Page {
    /// The two lines of a session.
    fn lines(&mut self, key: Key) -> impl Iterator<Item = &mut Line> {
        self.0.get_disjoint_mut(key.lines()).into_iter().flatten()
    }

    /// Where the session is.
    fn place(&mut self, key: Key) -> Option<&mut Option<Session>> {
        let is_it = |place: &&mut Option<Session>| place.is_some_and(|session| session.key == key);
        self.lines(key).flat_map(|Line(places)| places).find(is_it)
    }

    /// Takes in a session that is not there. `false`: there is no room.
    fn take_in(&mut self, session: Session) -> bool {
        self.put(session) || (self.make_room(session.key) && self.put(session))
    }

    /// Puts a session into the emptier one of its lines.
    fn put(&mut self, session: Session) -> bool {
        let room = |Line(places): &&mut Line| places.iter().filter(|place| place.is_none()).count();
        let emptier = self.lines(session.key).max_by_key(room);
        let free = emptier.and_then(|Line(places)| places.iter_mut().find(|place| place.is_none()));
        free.map(|free| *free = Some(session)).is_some()
    }

    /// Moves one of those in the two lines of a session, which are full, to its other line.
    fn make_room(&mut self, key: Key) -> bool {
        let there: Vec<Session> = self.lines(key).flat_map(|Line(places)| *places).flatten().collect();
        // The line where it is is full, so it is put into the other one.
        let Some(moved) = there.into_iter().find(|session| self.put(*session)) else { return false };
        let places = self.lines(key).flat_map(|Line(places)| places);
        let former = places.into_iter().find(|place| place.is_some_and(|session| session.key == moved.key));
        former.map(|former| *former = None).is_some()
    }
}

/// As long as what they are called after.
const _: () = assert!(size_of::<Page>() == 4096 && size_of::<Line>() == 64);

impl Default for Page {
    fn default() -> Self {
        Self([Line::default(); LINES])
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
        let keys: Vec<_> = (0..MOST * LINES * TOGETHER)
            .map(|_| Key::new(&state, &SessionToken::new(&ids).id(), &project))
            .collect();
        for (number, key) in keys.iter().enumerate() {
            pending.remember(*key, until(number));
            pending.remember(*key, until(number));
            // All of them, as long as the table may grow.
            assert!(pending.pages.len() == MOST || pending.sessions == number + 1);
        }
        assert_eq!(pending.pages.len(), MOST);
        let known: Vec<_> =
            keys.iter().enumerate().filter(|(_, key)| pending.until(**key).is_some()).collect();
        assert_eq!(known.len(), pending.sessions);
        assert!(known.len() > keys.len() * 3 / 4, "{}", known.len());
        assert!(known.iter().all(|(number, key)| pending.until(**key) == Some(until(*number))));
        for (forgotten, key) in keys.iter().enumerate() {
            pending.forget(*key);
            assert_eq!(pending.until(*key), None, "{forgotten}");
        }
        assert!(pending.sessions == 0 && pending.pages.len() <= SMALL, "{}", pending.pages.len());
    }

    #[test]
    fn one_who_is_there_makes_room_for_another() {
        let ids = Ids::from_seed([6; 32]);
        let (project, until) = (ProjectId::new(&ids), Timestamp::from_millis(1));
        let mut taken = 0;
        for _ in 0..20 {
            let (state, mut page, mut keys) = (RandomState::new(), Page::default(), Vec::new());
            let key = || Key::new(&state, &SessionToken::new(&ids).id(), &project);
            let mut next = key();
            while page.take_in(Session { key: next, until }) {
                keys.push(next);
                next = key();
            }
            assert!(keys.iter().all(|key| page.place(*key).is_some()) && page.place(next).is_none());
            let there = page.0.iter().flat_map(|Line(places)| places).flatten().count();
            assert_eq!(there, keys.len(), "nobody is there twice");
            taken += keys.len();
        }
        // Nine in ten; if nobody moved, seven.
        assert!(taken > 20 * LINES * TOGETHER * 8 / 10, "{taken}");
    }

    #[test]
    fn growing_forgets_nobody() {
        let ids = Ids::from_seed([7; 32]);
        let (project, until) = (ProjectId::new(&ids), Timestamp::from_millis(1));
        let sessions: Vec<_> = (0..3_000).map(|_| SessionToken::new(&ids).id()).collect();
        for _ in 0..30 {
            let (state, mut pending) = (RandomState::new(), Pending::default());
            let keys: Vec<_> = sessions.iter().map(|id| Key::new(&state, id, &project)).collect();
            for key in &keys {
                pending.remember(*key, until);
            }
            assert!(keys.iter().all(|key| pending.until(*key) == Some(until)), "{}", pending.pages.len());
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
