//! How often something may be done, steadily and at once: a small table that forgets (the generic cell rate algorithm, ITU-T
//! I.371, as virtual scheduling). Pure bookkeeping.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::slowing::shrink;
use crate::domain::clock::Timestamp;

/// One in each interval, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Microseconds: in milliseconds, a hundred thousand a minute would have none.
    interval: i64,
    at_once: u32,
}

/// Microseconds since 1970.
type Moment = i64;

fn moment(at: Timestamp) -> Moment {
    at.as_millis().saturating_mul(1_000)
}

impl Rate {
    /// So many a minute, and twice as many at once.
    pub(super) fn per_minute(number: u32) -> Self {
        Self { interval: 60_000_000 / i64::from(number.max(1)), at_once: number.saturating_mul(2) }
    }

    const fn slack(self) -> i64 {
        self.interval.saturating_mul(self.at_once.saturating_sub(1) as i64)
    }
}

/// When the next one of each kind would be due, were they all evenly spread.
#[derive(Debug)]
pub(super) struct Pace<K>(Mutex<HashMap<K, Moment>>);

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Pace<K> {
    /// Counts one of each of these kinds, if every one of them permits it.
    ///
    /// # Errors
    /// How long to wait first; nothing was counted.
    pub(super) fn ask(&self, kinds: &[(K, Rate)], now: Timestamp) -> Result<(), Duration> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut wait, started) = (0, moment(now));
        let mut due = Vec::with_capacity(kinds.len());
        for (kind, rate) in kinds {
            let mut next = started;
            if let Some(kept) = table.get_mut(kind) {
                // Only a clock that was set back makes it due later than it could be now. It is written down, or each further
                // question would find the wait as long again.
                *kept = (*kept).min(started.saturating_add(rate.slack()).saturating_add(rate.interval));
                next = next.max(*kept);
            }
            wait = wait.max(next.saturating_sub(started).saturating_sub(rate.slack()));
            due.push(next.saturating_add(rate.interval));
        }
        if let Ok(wait @ 1..) = u64::try_from(wait) {
            return Err(Duration::from_micros(wait));
        }
        for ((kind, _), due) in kinds.iter().zip(due) {
            table.insert(kind.clone(), due);
        }
        // What is due within this millisecond is kept.
        shrink(&mut table, now, |due| Timestamp::from_millis(due.saturating_add(999).div_euclid(1_000)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::slowing::MOST;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    #[test]
    fn so_many_at_once_and_then_one_in_each_interval() {
        let (pace, rate) = (Pace::default(), Rate::per_minute(60));
        let ask = |now| pace.ask(&[("one", rate)], at(now)).map_err(|wait| wait.as_millis());
        for _ in 0..120 {
            assert_eq!(ask(0), Ok(()));
        }
        assert_eq!(ask(0), Err(1_000));
        assert_eq!(ask(999), Err(1), "asking does not lengthen it");
        assert_eq!(ask(1_000), Ok(()));
        assert_eq!(ask(1_000), Err(1_000));
        assert_eq!((0..200).filter(|_| ask(61_000).is_ok()).count(), 60, "a minute's");
        assert_eq!((0..200).filter(|_| ask(10_000_000).is_ok()).count(), 120, "after a long pause");
        assert_eq!(pace.ask(&[("other", rate)], at(10_000_000)), Ok(()));
        // A clock that is set back lengthens no wait.
        assert_eq!(ask(0), Err(1_000));
        assert_eq!(ask(1_000), Ok(()));
    }

    #[test]
    fn a_limit_above_a_thousand_a_second_is_one() {
        for number in [1_000, 59_000, 60_100, 100_000] {
            let (pace, rate) = (Pace::default(), Rate::per_minute(number));
            let permitted =
                |now| (0..3 * number).filter(|_| pace.ask(&[((), rate)], at(now)).is_ok()).count();
            let near = |count: usize, wanted: u32| count.abs_diff(wanted as usize) <= wanted as usize / 500;
            assert!(near(permitted(0), 2 * number), "{number} a minute");
            assert!(near(permitted(60_000), number), "{number} a minute");
        }
    }

    #[test]
    fn what_one_kind_refuses_is_counted_of_none() {
        let pace = Pace::default();
        let (narrow, wide) = (Rate { interval: 1_000_000, at_once: 1 }, Rate::per_minute(2));
        assert_eq!(pace.ask(&[("wide", wide), ("narrow", narrow)], at(0)), Ok(()));
        for _ in 0..10 {
            assert!(pace.ask(&[("wide", wide), ("narrow", narrow)], at(0)).is_err());
        }
        assert_eq!((0..9).filter(|_| pace.ask(&[("wide", wide)], at(0)).is_ok()).count(), 3);
    }

    #[test]
    fn the_table_stays_small() {
        let pace = Pace::default();
        for kind in 0..3 * MOST {
            pace.ask(&[(kind, Rate::per_minute(1))], at(0)).unwrap();
        }
        assert!(pace.0.lock().unwrap().len() <= MOST + 1);
    }
}
