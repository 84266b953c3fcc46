//! How fast passwords may be tried: a small table that forgets. Pure bookkeeping; which attempt failed is the accounts'
//! business.
//!
//! Three rules for signing in, each with some attempts that cost nothing:
//! - one address at one account (strict): five, then waits from 15 s to 15 min;
//! - one address at any account: fifty, then one attempt in 15 s, and no more, because behind a proxy that is not
//!   trusted everybody has one address;
//! - one account from anywhere: a hundred, then one attempt in 5 s, and no more, because the owner may be anywhere.
//!
//! An address from which the owner has signed in since the last restart meets the first rule only: there, strangers at
//! other addresses do not keep them out. That is all that is promised. Elsewhere, strangers who ask all the time may be
//! quicker than the owner whenever an attempt is free; and who shares the owner's address (a household, a proxy that is
//! not in `CONNECTOR_TRUSTED_PROXIES`) brings the first rule upon them.
//!
//! An attempt counts when it begins, so that many at once gain nothing, and is taken back when it succeeds. A refused
//! attempt does not count: a client that keeps asking waits no longer. A clock that is set back lengthens no wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::domain::clock::Timestamp;

/// How long failures are remembered after the last one, or after the wait that it brought.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// How long an address is known as one of the account's owner.
const KNOWN: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many failures, and how many known addresses, are remembered at most: some megabytes.
const MOST: usize = 20_000;

/// How many attempts cost nothing, the first wait after them, and the longest; each wait is twice the one before.
struct Rule {
    free: u32,
    first: Duration,
    longest: Duration,
}

const PAIR: Rule = Rule { free: 5, first: Duration::from_secs(15), longest: Duration::from_secs(15 * 60) };
const PLACE: Rule = Rule { free: 50, first: Duration::from_secs(15), longest: Duration::from_secs(15) };
const ACCOUNT: Rule = Rule { free: 100, first: Duration::from_secs(5), longest: Duration::from_secs(5) };
const REGISTRATION: Rule =
    Rule { free: 10, first: Duration::from_secs(60), longest: Duration::from_secs(15 * 60) };

/// An account by what was typed, so that one that there is not is slowed as well.
type Account = [u8; 16];
/// An address, of IPv6 the /64 that one subscriber has.
type Place = IpAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Pair(Account, Place),
    Account(Account),
    Place(Place),
    Registration(Place),
}

impl Key {
    const fn rule(self) -> &'static Rule {
        match self {
            Self::Pair(..) => &PAIR,
            Self::Account(_) => &ACCOUNT,
            Self::Place(_) => &PLACE,
            Self::Registration(_) => &REGISTRATION,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    not_before: Timestamp,
    forgotten: Timestamp,
}

#[derive(Debug, Default)]
struct Table {
    counts: HashMap<Key, Count>,
    /// Until when an address is known.
    known: HashMap<(Account, Place), Timestamp>,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Slowing(Mutex<Table>);

/// An attempt that has begun, and counts as failed until it is said otherwise.
#[derive(Debug)]
pub(super) struct Attempt {
    /// What was counted, how it was before, and the number it has since.
    counted: Vec<(Key, Option<Count>, u32)>,
    pair: Option<(Account, Place)>,
}

impl Slowing {
    /// Begins an attempt to sign in.
    ///
    /// # Errors
    /// How long to wait first.
    pub(super) fn sign_in(&self, email: &str, from: IpAddr, now: Timestamp) -> Result<Attempt, Duration> {
        let pair @ (account, place) = (account(email), place(from));
        let mut table = self.table();
        let known = table.known.get(&pair).is_some_and(|until| now < *until);
        let all = [Key::Pair(account, place), Key::Place(place), Key::Account(account)];
        let keys = if known { &all[..1] } else { &all[..] };
        table.begin(keys, Some(pair), now)
    }

    /// Begins an attempt to register.
    ///
    /// # Errors
    /// How long to wait first.
    pub(super) fn registration(&self, from: IpAddr, now: Timestamp) -> Result<Attempt, Duration> {
        self.table().begin(&[Key::Registration(place(from))], None, now)
    }

    /// The attempt succeeded: the address is one of the owner's.
    pub(super) fn succeeded(&self, attempt: Attempt, now: Timestamp) {
        let mut table = self.table();
        if let Some(pair @ (account, place)) = attempt.pair {
            table.known.insert(pair, now.plus(KNOWN));
            shrink(&mut table.known, now, |until| *until);
            table.counts.remove(&Key::Pair(account, place));
        }
        table.take_back(attempt);
    }

    /// The attempt was never made.
    pub(super) fn withdrawn(&self, attempt: Attempt) {
        self.table().take_back(attempt);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn begin(
        &mut self,
        keys: &[Key],
        pair: Option<(Account, Place)>,
        now: Timestamp,
    ) -> Result<Attempt, Duration> {
        for key in keys {
            if let Some(count) = self.counts.get_mut(key) {
                count.not_later(now.plus(key.rule().wait(count.failures)));
            }
        }
        let present = |key: &Key| self.counts.get(key).filter(|count| now < count.forgotten).copied();
        let before: Vec<(Key, Option<Count>)> = keys.iter().map(|key| (*key, present(key))).collect();
        let waits =
            before.iter().filter_map(|(_, count)| count.as_ref()).map(|count| count.not_before.since(now));
        let wait = waits.max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        let mut counted = Vec::with_capacity(before.len());
        for (key, before) in before {
            let failures = before.map_or(0, |count| count.failures).saturating_add(1);
            let not_before = now.plus(key.rule().wait(failures));
            self.counts.insert(key, Count::new(failures, not_before));
            counted.push((key, before, failures));
        }
        shrink(&mut self.counts, now, |count| count.forgotten);
        Ok(Attempt { counted, pair })
    }

    fn take_back(&mut self, attempt: Attempt) {
        for (key, before, failures) in attempt.counted {
            let Some(count) = self.counts.get_mut(&key) else { continue };
            if count.failures != failures {
                // Others came after it: what they brought stays.
                count.failures = count.failures.saturating_sub(1);
                continue;
            }
            match before {
                Some(before) => *count = before,
                None => drop(self.counts.remove(&key)),
            }
        }
    }
}

impl Count {
    fn new(failures: u32, not_before: Timestamp) -> Self {
        Self { failures, not_before, forgotten: not_before.plus(MEMORY) }
    }

    /// Only a clock that was set back makes a wait end later than it could if it began now.
    fn not_later(&mut self, latest: Timestamp) {
        if latest < self.not_before {
            *self = Self::new(self.failures, latest);
        }
    }
}

impl Rule {
    /// How long the next attempt waits after so many failures.
    fn wait(&self, failures: u32) -> Duration {
        match failures.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(over) => self.first.saturating_mul(1_u32 << over.min(16)).min(self.longest),
        }
    }
}

/// Keeps a table small: first goes what is over, then what would be over first. Half of it goes at once, so that this is
/// rare.
fn shrink<K: Copy + Eq + Hash, V>(table: &mut HashMap<K, V>, now: Timestamp, end: impl Fn(&V) -> Timestamp) {
    if table.len() <= MOST {
        return;
    }
    table.retain(|_, value| now < end(value));
    if table.len() > MOST {
        let mut ends: Vec<Timestamp> = table.values().map(&end).collect();
        let (_, middle, _) = ends.select_nth_unstable(MOST / 2);
        let middle = *middle;
        table.retain(|_, value| end(value) > middle);
    }
}

fn account(email: &str) -> Account {
    let digest: [u8; 32] = Sha256::digest(email.trim().to_lowercase().as_bytes()).into();
    let mut account = Account::default();
    account.copy_from_slice(&digest[..16]);
    account
}

fn place(from: IpAddr) -> Place {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let subscriber = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(subscriber).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "owner@example.com";
    const HOME: &str = "203.0.113.7";

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn fail(slowing: &Slowing, email: &str, from: &str, now: u64) -> Result<(), u64> {
        slowing.sign_in(email, from.parse().unwrap(), at(now)).map(drop).map_err(|wait| wait.as_secs())
    }

    fn succeed(slowing: &Slowing, email: &str, from: &str, now: u64) -> Result<(), u64> {
        let attempt =
            slowing.sign_in(email, from.parse().unwrap(), at(now)).map_err(|wait| wait.as_secs())?;
        slowing.succeeded(attempt, at(now));
        Ok(())
    }

    #[test]
    fn after_five_failures_each_attempt_waits_twice_as_long_up_to_a_quarter_of_an_hour() {
        let slowing = Slowing::default();
        for _ in 0..5 {
            assert_eq!(fail(&slowing, OWNER, HOME, 0), Ok(()));
        }
        let mut now = 0;
        for wait in [15, 30, 60, 120, 240, 480, 900, 900, 900] {
            assert_eq!(fail(&slowing, " Owner@Example.com", HOME, now), Err(wait), "the same account");
            assert_eq!(fail(&slowing, OWNER, HOME, now + wait - 1), Err(1), "asking does not lengthen it");
            now += wait;
            assert_eq!(fail(&slowing, OWNER, HOME, now), Ok(()));
        }
        assert_eq!(fail(&slowing, "nobody@example.com", HOME, now), Ok(()), "another account");
        assert_eq!(fail(&slowing, OWNER, "203.0.113.8", now), Ok(()), "another address");
        // Forgotten a quarter of an hour after the last wait.
        assert_eq!(fail(&slowing, OWNER, HOME, now + 1_800), Ok(()));
        assert_eq!(fail(&slowing, OWNER, HOME, now + 1_800), Ok(()));
    }

    #[test]
    fn success_clears_the_address_and_leaves_what_others_did() {
        let slowing = Slowing::default();
        for _ in 0..4 {
            fail(&slowing, OWNER, HOME, 0).unwrap();
        }
        for _ in 0..46 {
            fail(&slowing, &format!("{}@example.com", random()), HOME, 0).unwrap();
        }
        assert_eq!(fail(&slowing, "fifty-first@example.com", HOME, 0), Err(15), "the address has had fifty");
        succeed(&slowing, OWNER, HOME, 15).unwrap();
        assert_eq!(fail(&slowing, "fifty-first@example.com", HOME, 15), Ok(()), "success cost nothing");
        assert_eq!(fail(&slowing, "fifty-second@example.com", HOME, 15), Err(15), "and cleared nothing");
        for _ in 0..5 {
            assert_eq!(
                fail(&slowing, OWNER, HOME, 15),
                Ok(()),
                "where the owner is known the pair alone counts"
            );
        }
        assert_eq!(fail(&slowing, OWNER, HOME, 15), Err(15));
    }

    fn random() -> usize {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    #[test]
    fn a_botnet_is_slowed_and_does_not_keep_the_owner_out() {
        let slowing = Slowing::default();
        succeed(&slowing, OWNER, HOME, 0).unwrap();
        for bot in 0..100 {
            assert_eq!(fail(&slowing, OWNER, &format!("10.0.{bot}.1"), 1), Ok(()));
        }
        assert_eq!(fail(&slowing, OWNER, "10.1.0.1", 1), Err(5), "all of them together");
        assert_eq!(succeed(&slowing, OWNER, HOME, 1), Ok(()), "known here");
        for later in 1..50 {
            assert_eq!(fail(&slowing, OWNER, &format!("10.1.{later}.1"), 1 + 5 * later), Ok(()));
        }
        assert_eq!(succeed(&slowing, OWNER, "203.0.113.99", 1 + 5 * 50), Ok(()), "5 s and no more elsewhere");
    }

    #[test]
    fn a_clock_that_is_set_back_lengthens_no_wait() {
        let slowing = Slowing::default();
        let day = 24 * 3600;
        for _ in 0..5 {
            fail(&slowing, OWNER, HOME, day).unwrap();
        }
        fail(&slowing, "twice@example.com", HOME, day).unwrap();
        assert_eq!(fail(&slowing, "twice@example.com", HOME, 0), Ok(()), "who need not wait, need not now");
        assert_eq!(fail(&slowing, OWNER, HOME, 0), Err(15), "as long as if the last one were now");
        assert_eq!(fail(&slowing, OWNER, HOME, 14), Err(1), "and it ends");
        assert_eq!(fail(&slowing, OWNER, HOME, 15), Ok(()));
        assert_eq!(fail(&slowing, OWNER, HOME, 15), Err(30));
    }

    #[test]
    fn behind_an_untrusted_proxy_strangers_cost_everybody_a_quarter_of_a_minute_and_no_more() {
        let slowing = Slowing::default();
        for n in 0..50 {
            fail(&slowing, &format!("{n}@example.com"), HOME, 0).unwrap();
        }
        for n in 0..20 {
            let (email, now) = (format!("again-{n}@example.com"), 15 * n);
            assert_eq!(fail(&slowing, &email, HOME, now), Err(15));
            assert_eq!(fail(&slowing, &email, HOME, now + 15), Ok(()));
        }
        assert_eq!(succeed(&slowing, OWNER, HOME, 15 * 21), Ok(()));
    }

    #[test]
    fn many_at_once_gain_nothing_and_what_was_not_made_does_not_count() {
        let slowing = Slowing::default();
        let begun: Vec<_> =
            (0..5).map(|_| slowing.sign_in(OWNER, HOME.parse().unwrap(), at(0)).unwrap()).collect();
        assert_eq!(fail(&slowing, OWNER, HOME, 0), Err(15), "none of the five has ended");
        for attempt in begun.into_iter().rev() {
            slowing.withdrawn(attempt);
        }
        assert_eq!(slowing.table().counts.len(), 0);
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_address_and_the_table_stays_small() {
        let slowing = Slowing::default();
        for host in 0..5 {
            fail(&slowing, OWNER, &format!("2001:db8:1:2::{host:x}"), 0).unwrap();
        }
        assert_eq!(fail(&slowing, OWNER, "2001:db8:1:2:ffff::1", 0), Err(15));
        for _ in 0..20 {
            fail(&slowing, OWNER, HOME, 0).ok();
        }
        let place = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0b00_0000 + n));
        for n in 0..50_000 {
            drop(slowing.registration(place(n), at(1)).unwrap());
            assert!(slowing.table().counts.len() <= MOST + 3);
        }
        assert_eq!(fail(&slowing, OWNER, HOME, 2), Err(13), "who waits is forgotten last");
    }

    #[test]
    fn registrations_are_counted_by_address() {
        let slowing = Slowing::default();
        for _ in 0..10 {
            drop(slowing.registration(HOME.parse().unwrap(), at(0)).unwrap());
        }
        assert_eq!(slowing.registration(HOME.parse().unwrap(), at(0)).unwrap_err().as_secs(), 60);
        assert!(slowing.registration("203.0.113.8".parse().unwrap(), at(0)).is_ok());
    }
}
