//! A lease in a bucket: an object that is only ever replaced by a write that demands the object it has seen. Whoever
//! wants another's lease watches it; one that has not changed for as long as it lasts has ended.

use std::collections::VecDeque;
use std::time::Duration;

use super::Taken;
use super::Terms;
use super::Until;
use super::record::Record;
use crate::domain::clock::Clock as _;
use crate::lifecycle::SystemClock;
use crate::lifecycle::boot_time;
use crate::vault::error::Trouble;
use crate::vault::s3::Expected;
use crate::vault::s3::Object;

/// Renewals whose answer was lost that are remembered.
const MOST_ATTEMPTS: usize = 64;

/// What to do about a server without conditional writes.
pub const NO_CONDITIONS: &str = "the S3 server does not honour conditional writes, without which two processes could use \
    one session and Telegram would destroy it: use another server, or set CONNECTOR_ALLOW_UNLEASED=true and never run two \
    processes on this bucket";

/// The object of a lease, and what is known of it.
#[derive(Debug)]
pub(super) struct Leased {
    object: Object,
    /// Whether the server honours conditions, once it has been asked.
    honoured: Option<bool>,
    /// The lease as this process last wrote it, and the server's tag for that.
    held: Option<(Record, Option<String>)>,
    /// When the writes of this process were begun, by their renewal.
    attempts: VecDeque<(u64, Duration)>,
    /// Another's lease, and when it was first seen unchanged.
    watched: Option<(Vec<u8>, Duration)>,
    /// Whether this process has had it: from then on it is no heir of a process before it.
    had: bool,
    /// The highest that has been seen.
    epoch: u64,
}

impl Leased {
    pub(super) const fn new(object: Object) -> Self {
        Self {
            object,
            honoured: None,
            held: None,
            attempts: VecDeque::new(),
            watched: None,
            had: false,
            epoch: 0,
        }
    }

    pub(super) async fn take(&mut self, terms: &Terms) -> Result<Taken, Trouble> {
        Box::pin(self.ask_for_conditions(terms)).await?;
        let Some((bytes, tag)) = self.object.read().await? else {
            return self.take_absent(terms).await;
        };
        let seen = boot_time();
        let record = Record::parse(&bytes).ok_or_else(|| {
            Trouble::Refused("this is no lease: remove it once no other process uses the session".to_owned())
        })?;
        self.epoch = self.epoch.max(record.epoch);
        let known = self.watched.is_some();
        if !self.is_free(&record, &bytes, seen, terms) {
            let lives = known && self.watched.as_ref().is_some_and(|(_, since)| *since == seen);
            return Ok(Taken::Theirs { holder: record.holder(), lives });
        }
        let next = Record::new(terms, record.epoch.saturating_add(1));
        self.write(next, tag.as_deref().map_or(Expected::Anything, Expected::Tag), terms).await
    }

    /// Takes a lease that is not there. One that was there until somebody removed it still holds for its time.
    async fn take_absent(&mut self, terms: &Terms) -> Result<Taken, Trouble> {
        let watched = self.watched.as_ref().and_then(|(bytes, since)| Some((Record::parse(bytes)?, *since)));
        if let Some((record, since)) = watched
            && boot_time().saturating_sub(since) < record.lasts()
        {
            return Ok(Taken::Theirs { holder: record.holder(), lives: false });
        }
        self.write(Record::new(terms, self.epoch.saturating_add(1)), Expected::Absent, terms).await
    }

    pub(super) async fn renew(&mut self, terms: &Terms) -> Result<Taken, Trouble> {
        let Some((record, tag)) = self.held.clone() else { return Box::pin(self.take(terms)).await };
        let next = Record { renewal: record.renewal.saturating_add(1), ..record };
        if self.honoured != Some(true) {
            // Nothing but looking first stands between two who renew at once.
            match self.found(terms).await? {
                Some(Taken::Theirs { holder, .. }) => return Ok(self.lost(holder)),
                Some(Taken::Ours { .. }) | None => {}
            }
        }
        self.write(next, tag.as_deref().map_or(Expected::Anything, Expected::Tag), terms).await
    }

    pub(super) async fn release(&mut self, terms: &Terms) -> Result<(), Trouble> {
        if self.attempts.is_empty() {
            return Ok(());
        }
        // Looked at first: a renewal may be under way whose answer nobody waits for any more.
        for _ in 0..2 {
            let Some(Taken::Ours { .. }) = self.found(terms).await? else { return Ok(()) };
            let Some((record, tag)) = self.held.take() else { return Ok(()) };
            let record = Record { released: true, renewal: record.renewal.saturating_add(1), ..record };
            let expected = tag.as_deref().map_or(Expected::Anything, Expected::Tag);
            match self.object.write(record.to_bytes()?, expected).await {
                Err(Trouble::Changed) => {}
                written => return written.map(drop),
            }
        }
        Err(Trouble::Changed)
    }

    /// Asks once whether the server honours conditional writes, without which two processes can each believe themselves
    /// the owner.
    async fn ask_for_conditions(&mut self, terms: &Terms) -> Result<(), Trouble> {
        if self.honoured.is_none() {
            self.honoured = Some(Box::pin(self.object.probe(&terms.run)).await?);
        }
        if self.honoured == Some(false) && !terms.allow_unleased {
            return Err(Trouble::Refused(NO_CONDITIONS.to_owned()));
        }
        Ok(())
    }

    /// Whether another's lease may be taken. `seen`: when it was read.
    fn is_free(&mut self, record: &Record, bytes: &[u8], seen: Duration, terms: &Terms) -> bool {
        // A lease of this very process that it does not know to hold was written by a try whose answer was lost.
        if record.released || record.is_ours(terms) || (!self.had && record.is_of_our_predecessor(terms)) {
            return true;
        }
        match &self.watched {
            Some((watched, since)) if watched == bytes => seen.saturating_sub(*since) >= record.lasts(),
            Some(_) | None => {
                self.watched = Some((bytes.to_owned(), seen));
                false
            }
        }
    }

    async fn write(
        &mut self,
        record: Record,
        expected: Expected<'_>,
        terms: &Terms,
    ) -> Result<Taken, Trouble> {
        let begun = boot_time();
        let record = Record { ends_at_ms: Some(SystemClock.now().plus(terms.lasts).as_millis()), ..record };
        if self.attempts.len() == MOST_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back((attempt_of(&record), begun));
        match self.object.write(record.to_bytes()?, expected).await {
            Ok(tag) if self.honoured == Some(true) => Ok(self.hold(record, tag, begun + terms.lasts)),
            // Who came second has written last; who reads another's name here knows it.
            Ok(_) | Err(Trouble::Changed) => match self.found(terms).await? {
                Some(Taken::Theirs { holder, .. }) => Ok(self.lost(holder)),
                Some(ours @ Taken::Ours { .. }) => Ok(ours),
                None => {
                    // The next try makes a new one.
                    self.held = None;
                    Err(Trouble::Unavailable(std::io::Error::other("the lease has been removed")))
                }
            },
            Err(trouble) => Err(trouble),
        }
    }

    /// Whose lease is there; one that this process wrote, and whose answer was lost, is its own.
    async fn found(&mut self, terms: &Terms) -> Result<Option<Taken>, Trouble> {
        let Some((bytes, tag)) = self.object.read().await? else { return Ok(None) };
        let Some(record) = Record::parse(&bytes).filter(|record| !record.released) else { return Ok(None) };
        if !record.is_ours(terms) {
            return Ok(Some(Taken::Theirs { holder: record.holder(), lives: true }));
        }
        let begun = self.attempts.iter().find(|(attempt, _)| *attempt == attempt_of(&record));
        let begun = begun.map_or(Duration::ZERO, |(_, begun)| *begun);
        Ok(Some(self.hold(record, tag, begun + terms.lasts)))
    }

    fn hold(&mut self, record: Record, tag: Option<String>, until: Duration) -> Taken {
        let epoch = record.epoch;
        self.epoch = self.epoch.max(epoch);
        self.held = Some((record, tag));
        (self.had, self.watched) = (true, None);
        Taken::Ours { epoch, until: Until::At(until) }
    }

    fn lost(&mut self, holder: super::Holder) -> Taken {
        self.held = None;
        Taken::Theirs { holder, lives: true }
    }
}

/// Tells the writes of one process apart.
const fn attempt_of(record: &Record) -> u64 {
    record.epoch.wrapping_mul(1 << 32).wrapping_add(record.renewal)
}
