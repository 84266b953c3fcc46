//! The time in which a connection uses the session and Telegram does not know yet when to close it. A process that is
//! stopped then, for longer than its lease, would keep the connection open while another connects with the same key: so
//! the kernel kills it first, which closes the connection.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::Lease;
use super::Until;
use crate::lifecycle::Deadline;

/// The part of a lease at its end by which an exposed process is gone. Shorter than [`super::MARGIN`]'s: one that runs has
/// closed its connection by then.
const LAST_MOMENT: u32 = 20;

/// While it lives, this process does not outlast its lease.
#[derive(Debug)]
pub struct Exposure(Lease);

/// How often the lease is exposed now.
#[derive(Debug)]
pub(super) struct Exposed {
    times: usize,
    deadline: Deadline,
}

impl Exposed {
    pub(super) const fn new(deadline: Deadline) -> Self {
        Self { times: 0, deadline }
    }
}

impl Lease {
    /// Exposes the session until the answer is dropped, if this process may use it now: to be asked before a connection
    /// with the session is made.
    pub fn expose(&self) -> Option<Exposure> {
        let mut exposed = self.exposed();
        // Asked twice: a timer that is already due must not be set, and one that is set must have been in time.
        self.rest()?;
        exposed.times += 1;
        let exposure = Exposure(self.clone());
        self.set_deadline(&exposed);
        drop(exposed);
        self.rest().map(|_| exposure)
    }

    /// The lease has got another end.
    pub(super) fn follow_end(&self) {
        let exposed = self.exposed();
        if exposed.times > 0 {
            self.set_deadline(&exposed);
        }
    }

    fn set_deadline(&self, exposed: &Exposed) {
        match *self.0.until.lock().unwrap_or_else(PoisonError::into_inner) {
            Until::At(end) => exposed.deadline.set(Some(end.saturating_sub(self.last_moment()))),
            // A lock ends with its process; and what was lost was held until the end that is known.
            Until::TheEnd | Until::Never => {}
        }
    }

    fn last_moment(&self) -> Duration {
        self.0.terms.lasts / LAST_MOMENT
    }

    fn exposed(&self) -> MutexGuard<'_, Exposed> {
        self.0.exposed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Exposure {
    fn drop(&mut self) {
        let mut exposed = self.0.exposed();
        exposed.times = exposed.times.saturating_sub(1);
        if exposed.times == 0 {
            exposed.deadline.set(None);
        }
    }
}
