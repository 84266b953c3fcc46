//! What is counted and listed of sign-ins: days, tallies, who was there, how a list is cut into pages. Where the counts are
//! kept is the store's business; when a sign-in ends is `auth_session`'s.

mod people;

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use self::people::People;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::State;
use crate::domain::auth_session::Status;
use crate::domain::clock::Timestamp;
use crate::domain::project::ProjectId;

const DAY_MILLIS: i64 = 24 * 3600 * 1000;

/// A calendar day in UTC: days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(u32);

impl Day {
    /// The day of an instant; instants before 1970 belong to its first day.
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.as_millis().div_euclid(DAY_MILLIS)).unwrap_or(0))
    }

    /// From days since 1970-01-01.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Days since 1970-01-01.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The day's first instant.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_millis(i64::from(self.0) * DAY_MILLIS)
    }

    /// The first day of its month.
    #[must_use]
    pub fn month_begin(self) -> Self {
        let date = OffsetDateTime::from_unix_timestamp(self.begin().as_secs());
        date.map_or(self, |date| Self(self.0.saturating_sub(u32::from(date.day()) - 1)))
    }

    /// The `days` days that end with this one, oldest first.
    pub fn window(self, days: u32) -> impl Iterator<Item = Self> + Clone {
        (self.0.saturating_sub(days.saturating_sub(1))..=self.0).map(Self)
    }
}

/// How many sign-ins were created, and what came of them. All belong to the day of their creation, so that no day has more
/// answers than questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Created.
    pub created: u64,
    /// Confirmed, whether or not the confirmation was fetched or used.
    pub confirmed: u64,
    /// Cancelled by the person or the app's server.
    pub cancelled: u64,
    /// Not decided in time.
    pub expired: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            created: self.created.saturating_add(other.created),
            confirmed: self.confirmed.saturating_add(other.confirmed),
            cancelled: self.cancelled.saturating_add(other.cancelled),
            expired: self.expired.saturating_add(other.expired),
        }
    }

    /// Counts a sign-in that ended in this state; a pending one has not.
    pub const fn count(&mut self, state: &State) {
        match state {
            State::Pending => {}
            State::Confirmed { .. } | State::Used { .. } => self.confirmed += 1,
            State::Cancelled { .. } => self.cancelled += 1,
            State::Expired { .. } => self.expired += 1,
        }
    }
}

/// What was counted on one day.
#[derive(Clone, Debug, PartialEq)]
pub struct DayCount {
    /// Which day.
    pub day: Day,
    /// The sign-ins that were created on it.
    pub tally: Tally,
    /// Who confirmed them.
    pub people: People,
}

/// Where a list goes on: opaque to clients, good for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(i64);

impl Cursor {
    /// Of a place in the list: larger is newer.
    pub const fn new(place: i64) -> Self {
        Self(place)
    }

    /// The place in the list.
    pub const fn place(self) -> i64 {
        self.0
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        plain.then(|| u64::from_str_radix(text, 16).ok().map(|place| Self(place.cast_signed())))?
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0.cast_unsigned())
    }
}

/// Which sessions to list, newest first.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Of which projects.
    pub projects: Vec<ProjectId>,
    /// With which status; confirmed ones are also those whose confirmation was used.
    pub status: Option<Status>,
    /// Older than this place.
    pub before: Option<Cursor>,
    /// At most how many.
    pub limit: usize,
}

impl Listing {
    /// Whether a session is listed at `now`.
    pub fn shows(&self, session: &AuthSession, now: Timestamp) -> bool {
        let status = session.recorded_status(now);
        self.status
            .is_none_or(|wanted| status == wanted || wanted == Status::Confirmed && status == Status::Used)
    }
}

/// A part of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Newest first.
    pub sessions: Vec<AuthSession>,
    /// Where it goes on; `None`: that was all.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_with_its_day_and_a_day_begins_at_midnight() {
        let noon = Timestamp::from_millis(1_700_000_000_000);
        let day = Day::of(noon);
        assert_eq!(day.number(), 19_675);
        assert_eq!(day.window(3).map(Day::number).collect::<Vec<_>>(), [19_673, 19_674, 19_675]);
        assert!(day.begin() <= noon && Day::of(day.begin()) == day);
        assert_eq!(Day::of(Timestamp::from_millis(day.begin().as_millis() - 1)).number(), 19_674);
        assert_eq!(Day::of(Timestamp::from_millis(-5)).number(), 0);
        // 2023-11-14; the month began 13 days before.
        assert_eq!(day.month_begin().number(), 19_675 - 13);
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for place in [0, 1, i64::MAX, 1_700_000_000_000 << 20] {
            assert_eq!(Cursor::parse(&Cursor::new(place).to_string()), Some(Cursor::new(place)));
        }
        for bad in ["", "x", "00000000000000g0", "+000000000000001", "0000000000000000f"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
