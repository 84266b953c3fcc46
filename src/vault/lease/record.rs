//! What a lease says: who owns the session, since when, until when. In the clear, because it is for people and for other
//! processes, and there is nothing secret in it.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::Terms;

/// The process that owns a session, as those who stand by see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Where it can be reached.
    pub url: String,
    /// Which time it is that the session has found an owner.
    pub epoch: u64,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("another process owns the session")?;
        if self.url.is_empty() { Ok(()) } else { write!(formatter, ", at {}", self.url) }
    }
}

/// The lease as it lies beside the session, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The owner's data directory.
    pub(super) owner: String,
    /// The owner's process.
    pub(super) run: String,
    /// The machine it runs on, since its last start.
    #[serde(default)]
    pub(super) boot: Option<String>,
    /// Where the owner can be reached.
    pub(super) url: String,
    /// Grows with each change of owner.
    pub(super) epoch: u64,
    /// Grows with each renewal.
    pub(super) renewal: u64,
    /// How long it lasts unless it is renewed.
    pub(super) millis: u64,
    /// When it ends unless it is renewed, Unix milliseconds by the owner's clock: for people. Nobody goes by it.
    pub(super) ends_at_ms: Option<i64>,
    /// Whether the owner has given it up.
    #[serde(default)]
    pub(super) released: bool,
}

impl Record {
    /// The first record of a new owner.
    pub(super) fn new(terms: &Terms, epoch: u64) -> Self {
        let Terms { lasts, instance, run, url, .. } = terms;
        Self {
            owner: instance.clone(),
            run: run.clone(),
            boot: boot(),
            url: url.clone(),
            epoch,
            renewal: 0,
            millis: u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX),
            ends_at_ms: None,
            released: false,
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(std::io::Error::other)
    }

    pub(super) fn holder(&self) -> Holder {
        Holder { url: self.url.clone(), epoch: self.epoch }
    }

    /// How long it lasts unless it is renewed; at most a day, whatever it says.
    pub(super) fn lasts(&self) -> Duration {
        Duration::from_millis(self.millis.min(86_400_000))
    }

    /// Whether it is this process's.
    pub(super) fn is_ours(&self, terms: &Terms) -> bool {
        self.run == terms.run
    }

    /// Whether it is that of a process before this one in the same data directory, which only one process at a time has
    /// open, on a machine that has not been started anew since: then that process is gone, and so are its connections.
    pub(super) fn is_of_our_predecessor(&self, terms: &Terms) -> bool {
        self.owner == terms.instance && self.boot == boot()
    }
}

/// Which start of which machine this is, where the system tells.
fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}
