//! How many short answers a person gets in a minute: whoever sends an account nonsense must not use up what Telegram lets
//! it say to others. Prompts and outcomes are not counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::auth_session::Via;
use crate::domain::clock::Timestamp;

/// How many, in how long.
const ANSWERS: u8 = 6;
const WINDOW: Duration = Duration::from_secs(60);
/// How many people are remembered before those whose minute is over are forgotten.
const MANY: usize = 4_096;

/// Counts short answers. In memory: a restart forgives.
#[derive(Debug, Default)]
pub(super) struct Courtesy(Mutex<HashMap<(Via, i64), (Timestamp, u8)>>);

impl Courtesy {
    /// Whether this person may have one more; counts it.
    pub(super) fn permits(&self, person: (Via, i64), now: Timestamp) -> bool {
        let mut people = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if people.len() >= MANY {
            people.retain(|_, (begun, _)| now.since(*begun) < WINDOW);
        }
        let (begun, given) = people.entry(person).or_insert((now, 0));
        if now.since(*begun) >= WINDOW {
            (*begun, *given) = (now, 0);
        }
        *given = given.saturating_add(1);
        *given <= ANSWERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_answers_a_minute_and_everybody_has_their_own() {
        let courtesy = Courtesy::default();
        let via = Via { account: 1, bot: true };
        let at = |seconds| Timestamp::from_millis(seconds * 1000);
        assert!((0..ANSWERS).all(|n| courtesy.permits((via, 7), at(i64::from(n)))));
        assert!(!courtesy.permits((via, 7), at(59)));
        assert!(courtesy.permits((via, 8), at(59)));
        assert!(courtesy.permits((via, 7), at(60)));
    }
}
