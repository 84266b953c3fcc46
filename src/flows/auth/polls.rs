//! How often one session token is polled (`CONNECTOR_POLLS_PER_SECOND`): a small table that forgets. Nearly all of our
//! traffic goes through here, so it is in parts that have a lock each.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::auth_session::SessionId;
use crate::domain::clock::Timestamp;
use crate::domain::hashed::BuildHashed;

/// Parts of the table, and the most that one of them remembers: a megabyte or two in all.
const PARTS: usize = 64;
const MOST: usize = 1_024;
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
    parts: Box<[Mutex<HashMap<u64, Window, BuildHashed>>]>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    begun: Timestamp,
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
            Some(Window { polls, begun }) if polls <= self.permitted.saturating_mul(REFUSED) => {
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
        // Two that share 64 bits would share their allowance; nobody finds out.
        let key = self.state.hash_one(id.as_str());
        // Bits that the tables do not go by, which are the lowest and the highest.
        let part = self.parts.get(usize::try_from((key >> 32) % PARTS as u64).unwrap_or_default())?;
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |window: &Window| now < window.begun || now >= window.begun.plus(WINDOW);
        let window = part.entry(key).or_insert(Window { begun: now, polls: 0 });
        if is_over(window) {
            *window = Window { begun: now, polls: 0 };
        }
        let with_this = Window { polls: window.polls.saturating_add(1), ..*window };
        if with_this.polls <= most {
            *window = with_this;
        }
        if part.len() > MOST {
            part.retain(|_, window| !is_over(window));
            if part.len() > MOST {
                part.clear();
            }
        }
        Some(with_this)
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
        let some = Polls::new(1);
        let one = SessionToken::new(&ids).id();
        for _ in 0..200 {
            assert_eq!(none.count(&one, at(0)), Verdict::Now);
        }
        for _ in 0..PARTS * MOST * 2 {
            some.count(&SessionToken::new(&ids).id(), at(0));
        }
        for part in &some.parts {
            assert!(part.lock().unwrap().len() <= MOST);
        }
    }
}
