//! How fast passwords, tokens and keys may be tried, and login codes asked for: a small table that forgets. Pure bookkeeping;
//! which attempt failed is its user's business.
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
//! Wrong admin tokens and secret keys are slowed by address; right ones are not, but for a short admin token from an
//! address that has not shown it yet. Codes are slowed by phone number and over all: they count though
//! they succeed, because each is a message to somebody. A restart forgets; Telegram's own floods remain.
//!
//! An attempt counts when it begins, so that many at once gain nothing, and is taken back when it succeeds. A refused
//! attempt does not count: a client that keeps asking waits no longer. A clock that is set back lengthens no wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::domain::clock::Timestamp;
use crate::domain::login::Phone;
use crate::domain::subscriber::subscriber;

/// How long failures are remembered after the last one, or after the wait that it brought.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// As [`MEMORY`], for codes: who spreads them over a day is slowed as well.
const CODE_MEMORY: Duration = Duration::from_secs(6 * 3600);
/// How long an address is known as one of the account's owner.
const KNOWN: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many failures, and how many known addresses, are remembered at most: some megabytes.
pub(super) const MOST: usize = 20_000;

/// How many attempts cost nothing, the first wait after them, and the longest; each wait is twice the one before. And how long
/// they are remembered after the last one, or after the wait that it brought.
struct Rule {
    free: u32,
    first: Duration,
    longest: Duration,
    memory: Duration,
}

const fn rule(free: u32, first: u64, longest: u64) -> Rule {
    let (first, longest) = (Duration::from_secs(first), Duration::from_secs(longest));
    Rule { free, first, longest, memory: MEMORY }
}

const PAIR: Rule = rule(5, 15, 15 * 60);
const PLACE: Rule = rule(50, 15, 15);
const ACCOUNT: Rule = rule(100, 5, 5);
const REGISTRATION: Rule = rule(10, 60, 15 * 60);
/// Short, because in a pod everybody has the operator's address.
const OPERATOR: Rule = rule(20, 1, 15);
const SECRET: Rule = rule(20, 1, 15);
/// Codes to one number: five, then one after 1 min, 2 min and so on, in the end one an hour.
const CODE: Rule = Rule { memory: CODE_MEMORY, ..rule(5, 60, 3600) };
/// Codes to any number.
const CODES: Rule = Rule { memory: CODE_MEMORY, ..rule(20, 60, 1800) };

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
    Operator(Place),
    Secret(Place),
    Code(Account),
    Codes,
}

impl Key {
    const fn rule(self) -> &'static Rule {
        match self {
            Self::Pair(..) => &PAIR,
            Self::Account(_) => &ACCOUNT,
            Self::Place(_) => &PLACE,
            Self::Registration(_) => &REGISTRATION,
            Self::Operator(_) => &OPERATOR,
            Self::Secret(_) => &SECRET,
            Self::Code(_) => &CODE,
            Self::Codes => &CODES,
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
pub(crate) struct Slowing(Mutex<Table>);

/// An attempt that has begun, and counts as failed until it is said otherwise.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// What was counted, how it was before, and the number it has since.
    counted: Vec<(Key, Option<Count>, u32)>,
    pair: Option<(Account, Place)>,
}

impl Slowing {
    /// Begins an attempt to sign in.
    ///
    /// # Errors
    /// How long to wait first.
    pub(crate) fn sign_in(&self, email: &str, from: IpAddr, now: Timestamp) -> Result<Attempt, Duration> {
        let pair @ (account, place) = (account(email), subscriber(from));
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
    pub(crate) fn registration(&self, from: IpAddr, now: Timestamp) -> Result<Attempt, Duration> {
        self.table().begin(&[Key::Registration(subscriber(from))], None, now)
    }

    /// Begins an attempt with the operator's token, which waits like a guess, or guesses could be told from it. Not where
    /// the operator is known.
    ///
    /// # Errors
    /// How long to wait first.
    pub(crate) fn operator(&self, from: IpAddr, now: Timestamp) -> Result<Attempt, Duration> {
        let pair @ (_, place) = (Account::default(), subscriber(from));
        let mut table = self.table();
        let known = table.known.get(&pair).is_some_and(|until| now < *until);
        let keys = if known { &[][..] } else { &[Key::Operator(place)][..] };
        table.begin(keys, Some(pair), now)
    }

    /// Counts who is not the operator.
    ///
    /// # Errors
    /// How long to wait with the next.
    pub(crate) fn not_operator(&self, from: IpAddr, now: Timestamp) -> Result<(), Duration> {
        self.table().begin(&[Key::Operator(subscriber(from))], None, now).map(drop)
    }

    /// Counts a project's secret key that was wrong.
    ///
    /// # Errors
    /// How long to wait with the next.
    pub(crate) fn wrong_secret(&self, from: IpAddr, now: Timestamp) -> Result<(), Duration> {
        self.table().begin(&[Key::Secret(subscriber(from))], None, now).map(drop)
    }

    /// Begins to have a login code sent.
    ///
    /// # Errors
    /// How long to wait first.
    pub(crate) fn code(&self, phone: &Phone, now: Timestamp) -> Result<Attempt, Duration> {
        self.table().begin(&[Key::Code(account(&phone.e164())), Key::Codes], None, now)
    }

    /// The attempt succeeded: the address is one of the owner's.
    pub(crate) fn succeeded(&self, attempt: Attempt, now: Timestamp) {
        let mut table = self.table();
        if let Some(pair @ (account, place)) = attempt.pair {
            table.known.insert(pair, now.plus(KNOWN));
            shrink(&mut table.known, now, |until| *until);
            table.counts.remove(&Key::Pair(account, place));
        }
        table.take_back(attempt);
    }

    /// The attempt was never made.
    pub(crate) fn withdrawn(&self, attempt: Attempt) {
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
                count.not_later(now.plus(key.rule().wait(count.failures)), key.rule());
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
            self.counts.insert(key, Count::new(failures, not_before, key.rule()));
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
    fn new(failures: u32, not_before: Timestamp, rule: &Rule) -> Self {
        Self { failures, not_before, forgotten: not_before.plus(rule.memory) }
    }

    /// Only a clock that was set back makes a wait end later than it could if it began now.
    fn not_later(&mut self, latest: Timestamp, rule: &Rule) {
        if latest < self.not_before {
            *self = Self::new(self.failures, latest, rule);
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
pub(super) fn shrink<K: Eq + Hash, V>(
    table: &mut HashMap<K, V>,
    now: Timestamp,
    end: impl Fn(&V) -> Timestamp,
) {
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

#[cfg(test)]
#[path = "slowing_tests.rs"]
mod tests;
