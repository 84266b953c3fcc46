//! How often one session token is polled (`CONNECTOR_POLLS_PER_SECOND`): a small table that forgets. Nearly all of our
//! traffic goes through here, so it is in parts that have a lock each.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::auth_session::SessionId;
use crate::domain::clock::Timestamp;

/// Parts of the table, each with its lock, and the lines of one: a mebibyte in all.
const PARTS: usize = 64;
const LINES: usize = 256;
/// The sessions of one line.
const TOGETHER: usize = 4;
/// What polls are counted in.
const WINDOW: Duration = Duration::from_secs(1);
/// So many times the permitted number is refused.
const REFUSED: u32 = 10;

/// The polls of this second.
#[derive(Debug)]
pub(super) struct Polls {
    /// How many a second; 0: any number.
    permitted: u32,
    /// Unknown to callers, or they could choose tokens that share a place.
    state: RandomState,
    /// A part has its lines once something is counted in it.
    parts: Box<[Mutex<Vec<Line>>]>,
}

/// Where a session is counted, or nowhere: one line of the processor's cache, so that a poll looks into one.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line([Window; TOGETHER]);

/// Empty, it is over since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    begun: Timestamp,
    /// Whose: some of a hash. Two of a line that share it would share their allowance; nobody finds out.
    tag: u32,
    polls: u32,
}

/// What becomes of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered now.
    Now,
    /// It is answered later.
    At(Timestamp),
    /// It is refused.
    TooMany,
}

impl Polls {
    pub(super) fn new(permitted: u32) -> Self {
        let parts = if permitted == 0 { 0 } else { PARTS };
        let parts = (0..parts).map(|_| Mutex::default()).collect();
        Self { permitted, state: RandomState::new(), parts }
    }

    /// Counts a poll.
    pub(super) fn count(&self, id: &SessionId, now: Timestamp) -> Verdict {
        match self.counted(id, now, u32::MAX) {
            None => Verdict::Now,
            Some(Window { polls, .. }) if polls <= self.permitted => Verdict::Now,
            Some(Window { polls, begun, .. }) if polls <= self.permitted.saturating_mul(REFUSED) => {
                Verdict::At(begun.plus(WINDOW))
            }
            Some(_) => Verdict::TooMany,
        }
    }

    /// Counts a poll if it may be answered now, and says whether it may. Else it is left for [`Polls::count`].
    pub(super) fn may_answer_now(&self, id: &SessionId, now: Timestamp) -> bool {
        self.counted(id, now, self.permitted).is_none_or(|window| window.polls <= self.permitted)
    }

    /// The polls of this second with this one, which is counted unless there were `most` before it. `None`: nobody counts.
    fn counted(&self, id: &SessionId, now: Timestamp, most: u32) -> Option<Window> {
        if self.permitted == 0 {
            return None;
        }
        let hash = self.state.hash_one(id.as_str());
        let tag = u32::try_from(hash >> 32).unwrap_or_default();
        let [part, line, ..] = hash.to_le_bytes().map(usize::from);
        let mut part = self.parts.get(part % PARTS)?.lock().unwrap_or_else(PoisonError::into_inner);
        if part.is_empty() {
            part.resize(LINES, Line::default());
        }
        let window = part.get_mut(line % LINES)?.of(tag, now)?;
        let with_this = Window { polls: window.polls.saturating_add(1), ..*window };
        if with_this.polls <= most {
            *window = with_this;
        }
        Some(with_this)
    }
}

impl Line {
    /// The polls of a session in this second. If it has no place it gets one: of a second that is over, or of whoever polled
    /// least.
    fn of(&mut self, tag: u32, now: Timestamp) -> Option<&mut Window> {
        for window in &mut self.0 {
            if now < window.begun || now >= window.begun.plus(WINDOW) {
                *window = Window::default();
            }
        }
        let is_its = |window: &Window| window.tag == tag && window.polls > 0;
        let window = self.0.iter_mut().min_by_key(|window| (!is_its(window), window.polls))?;
        if !is_its(window) {
            *window = Window { begun: now, tag, polls: 0 };
        }
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::auth_session::SessionToken;
    use crate::domain::ids::Ids;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    #[test]
    fn twenty_are_answered_at_once_two_hundred_late_and_the_rest_not_at_all() {
        let ids = Ids::from_seed([3; 32]);
        let (polls, one) = (Polls::new(20), SessionToken::new(&ids).id());
        for _ in 0..20 {
            assert_eq!(polls.count(&one, at(300)), Verdict::Now);
        }
        for _ in 20..200 {
            assert_eq!(polls.count(&one, at(700)), Verdict::At(at(1_300)));
        }
        assert_eq!(polls.count(&one, at(1_299)), Verdict::TooMany);
        assert_eq!(polls.count(&SessionToken::new(&ids).id(), at(1_299)), Verdict::Now, "another's");
        assert_eq!(polls.count(&one, at(1_300)), Verdict::Now, "a second later");
        assert_eq!(polls.count(&one, at(0)), Verdict::Now, "a clock that was set back");
    }

    #[test]
    fn who_may_not_be_answered_now_is_counted_once() {
        let ids = Ids::from_seed([3; 32]);
        let (polls, one) = (Polls::new(2), SessionToken::new(&ids).id());
        assert!(polls.may_answer_now(&one, at(0)) && polls.may_answer_now(&one, at(0)));
        for _ in 2..20 {
            assert!(!polls.may_answer_now(&one, at(0)));
            assert_eq!(polls.count(&one, at(0)), Verdict::At(at(1_000)));
        }
        assert_eq!(polls.count(&one, at(0)), Verdict::TooMany);
        assert!(polls.may_answer_now(&one, at(1_000)), "a second later");
        assert!(Polls::new(0).may_answer_now(&one, at(0)));
    }

    #[test]
    fn nothing_is_kept_where_there_is_no_limit_and_little_where_there_is_one() {
        let ids = Ids::from_seed([4; 32]);
        let none = Polls::new(0);
        assert!(none.parts.is_empty());
        let (some, one) = (Polls::new(1), SessionToken::new(&ids).id());
        for _ in 0..200 {
            assert_eq!(none.count(&one, at(0)), Verdict::Now);
        }
        assert!(
            some.parts.iter().all(|part| part.lock().unwrap().is_empty()),
            "no memory before it is needed"
        );
        for _ in 0..PARTS * LINES * TOGETHER * 2 {
            some.count(&SessionToken::new(&ids).id(), at(0));
        }
        assert!(some.parts.iter().all(|part| part.lock().unwrap().len() == LINES));
    }

    #[test]
    fn who_polls_much_is_not_forgotten_for_those_who_poll_once() {
        let ids = Ids::from_seed([5; 32]);
        let (polls, one) = (Polls::new(2), SessionToken::new(&ids).id());
        for _ in 0..3 {
            polls.count(&one, at(0));
        }
        for _ in 0..PARTS * LINES * TOGETHER * 2 {
            polls.count(&SessionToken::new(&ids).id(), at(1));
        }
        assert_eq!(polls.count(&one, at(2)), Verdict::At(at(1_000)));
        // Of seconds that are over nothing is left.
        assert_eq!(polls.count(&one, at(1_000)), Verdict::Now);
    }
}
