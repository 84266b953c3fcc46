//! Whether a connection does anything: hyper's own time limit on heads costs two changes of the runtime's timers for every
//! request, this one a glance now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::flows::auth::Held;
use crate::lifecycle::network_sleep;

/// What a connection has done so far. Its own task alone counts, so that no two ever do at once.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests begun and answered, and pieces of answers that were taken.
    changes: AtomicU64,
    /// Requests that are being answered.
    answering: AtomicU64,
    /// Whether the one that is being answered is held: a poll that waits, a stream.
    held: Held,
    stopping: CancellationToken,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Activity>);

fn add(count: &AtomicU64, number: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

impl Activity {
    /// `stopping`: of this connection alone.
    pub(super) fn new(stopping: CancellationToken) -> Self {
        Self {
            changes: AtomicU64::default(),
            answering: AtomicU64::default(),
            held: Held::default(),
            stopping,
        }
    }

    /// Something happens.
    pub(super) fn note(&self) {
        add(&self.changes, 1);
    }

    /// A request's head is there.
    pub(super) fn begin(activity: &Arc<Self>) -> Answering {
        activity.note();
        add(&activity.answering, 1);
        Answering(Arc::clone(activity))
    }

    /// What tells this connection that an answer is held.
    pub(super) const fn held(&self) -> &Held {
        &self.held
    }

    /// Returns when the connection has waited for a request's head for as long as this, or half as long again.
    pub(super) async fn ceases(&self, limit: Duration) {
        let (mut seen, mut quiet) = (self.changes.load(Ordering::Relaxed), 0);
        while quiet < 2 {
            network_sleep(limit / 2).await;
            let changes = self.changes.load(Ordering::Relaxed);
            let busy = changes != seen || self.answering.load(Ordering::Relaxed) > 0;
            (seen, quiet) = (changes, if busy { 0 } else { quiet + 1 });
        }
    }
}

impl Answering {
    /// What tells its connection that the answer is held.
    pub(super) fn held(&self) -> &Held {
        self.0.held()
    }

    /// Whether the answer is the connection's last, because the service stops.
    pub(super) fn is_last(&self) -> bool {
        self.0.stopping.is_cancelled()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.note();
        add(&self.0.answering, u64::MAX);
    }
}
