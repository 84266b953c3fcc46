//! How often apps may ask, and how many of them may be held. The tables are in `polls`, `places`, `flows::pace` and
//! `flows::slowing`; here is what they are asked.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::Auth;
use super::AuthError;
use super::Caller;
use super::places::HeldLimits;
use super::places::Places;
use super::polls::Polls;
use super::polls::Verdict;
use super::shows_key;
use crate::audit;
use crate::audit::Audit;
use crate::audit::ProjectAct;
use crate::audit::Who;
use crate::domain::auth_session::SessionId;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;
use crate::domain::subscriber::subscriber;
use crate::flows::pace::Pace;
use crate::flows::pace::Rate;
use crate::flows::slowing::Slowing;

/// So many times what one address may create, all addresses together may.
const ADDRESSES: u32 = 100;

/// What apps may do.
#[derive(Clone, Copy, Debug)]
pub struct AppLimits {
    /// `CONNECTOR_POLLS_PER_SECOND`; 0: any number.
    pub polls_per_second: u32,
    /// `CONNECTOR_CREATES_PER_MINUTE`; 0: any number.
    pub creates_per_minute: u32,
    /// How many may be held.
    pub held: HeldLimits,
}

impl Default for AppLimits {
    fn default() -> Self {
        Self { polls_per_second: 20, creates_per_minute: 60, held: HeldLimits::default() }
    }
}

/// Whose allowance of a project's new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asker {
    /// Of all who show the secret key: strangers must not use up what the app's own server has.
    Keyed,
    /// Of all others together.
    Public,
    /// Of one address among those.
    Address(IpAddr),
}

/// What was asked so far.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) polls: Polls,
    creates_per_minute: u32,
    creates: Pace<(ProjectId, Asker)>,
    keys: Slowing,
    pub(super) places: Places,
}

impl Limits {
    pub(super) fn new(limits: AppLimits) -> Self {
        let AppLimits { polls_per_second, creates_per_minute, held } = limits;
        Self {
            polls: Polls::new(polls_per_second),
            creates_per_minute,
            creates: Pace::default(),
            keys: Slowing::default(),
            places: Places::new(held),
        }
    }
}

impl Auth {
    /// Counts a poll of a session; one too many comes later, or not at all.
    pub(super) async fn paced(&self, id: &SessionId) -> Result<(), AuthError> {
        match self.0.limits.polls.count(id, self.0.clock.now()) {
            Verdict::Now => Ok(()),
            Verdict::At(later) => {
                metrics::counter!("connector_polls_delayed_total").increment(1);
                let stopping = self.0.tasks.stopping();
                tokio::select! { () = self.0.clock.sleep_until(later) => {}, () = stopping.cancelled() => {} }
                Ok(())
            }
            Verdict::TooMany => Err(AuthError::TooManyPolls(Duration::from_secs(1))),
        }
    }

    /// Counts a new session. An app's server, which shows the key, asks for people who are elsewhere: its address says
    /// nothing. Programs on this machine may do as they like.
    pub(super) fn may_create(&self, project: &Project, caller: &Caller) -> Result<(), AuthError> {
        let number = self.0.limits.creates_per_minute;
        let Some(from) = caller.counted().filter(|_| number > 0) else { return Ok(()) };
        let of_project = Rate::per_minute(number.saturating_mul(ADDRESSES));
        let kind = |asker| (project.id.clone(), asker);
        let (creates, now) = (&self.0.limits.creates, self.0.clock.now());
        let asked = if shows_key(project, caller) {
            creates.ask(&[(kind(Asker::Keyed), of_project)], now)
        } else {
            let of_address = Rate::per_minute(number);
            let address = kind(Asker::Address(subscriber(from)));
            creates.ask(&[(kind(Asker::Public), of_project), (address, of_address)], now)
        };
        asked.map_err(AuthError::TooManySessions)
    }

    /// Counts a key that is not the project's. Programs on this machine fill no log with them, and are not slowed.
    ///
    /// # Errors
    /// There were too many of these.
    pub(super) fn wrong_key(&self, project: &Project, caller: &Caller) -> Result<(), AuthError> {
        let from = caller.from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        match self.0.limits.keys.wrong_secret(from, self.0.clock.now()) {
            Ok(()) => {}
            Err(_) if caller.here => return Ok(()),
            Err(wait) => return Err(AuthError::TooManyAttempts(wait)),
        }
        let refused = Audit::Project { act: ProjectAct::SecretRefused, project: &project.id, detail: None };
        audit::record(&Who::Stranger(caller.from), &refused);
        Ok(())
    }
}
