//! On what terms a process leases sessions, and what it knows of who owns one.

use std::time::Duration;

use super::Holder;
use crate::domain::ids::Ids;
use crate::domain::place::LeaseSettings;
use crate::lifecycle::KillTimer;

/// On what terms this process leases sessions.
#[derive(Clone, Debug)]
pub struct Terms {
    /// `CONNECTOR_LEASE_SECONDS`: how long a lease lasts that is not renewed.
    pub lasts: Duration,
    /// Which data directory: the next process in it need not wait for the lease of the one before.
    pub instance: String,
    /// Which process.
    pub run: String,
    /// Where this process can be reached, for those who stand by.
    pub url: String,
    /// `CONNECTOR_ALLOW_UNLEASED`: whether an S3 server will do that does not honour conditional writes.
    pub allow_unleased: bool,
    /// Ends this process with a lease that is exposed. Shared by all.
    pub kill_timer: KillTimer,
}

impl Terms {
    /// The terms of this process. `instance`: the data directory's id. `url`: where the process can be reached.
    pub fn new(settings: LeaseSettings, instance: String, url: String, ids: &Ids) -> Self {
        let LeaseSettings { lasts, allow_unleased } = settings;
        Self { lasts, instance, run: ids.base62(22), url, allow_unleased, kill_timer: KillTimer::default() }
    }
}

/// Who owns a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Not known: the place cannot be reached. Says why.
    Unknown(String),
    /// Another process.
    Standby(Holder),
    /// This process, for the `epoch`-th time that the session has found an owner.
    Held {
        /// Grows with each change of owner.
        epoch: u64,
    },
    /// This process did, and could not renew its lease in time. It is not known that another has it.
    Lapsed,
}
