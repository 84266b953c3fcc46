//! What the open connections do, for whoever ends those that do nothing and tells all that the service stops. Nothing else is
//! known of them here.
//!
//! Somebody looks at all of them now and then: hyper's own time limit on heads costs two changes of the runtime's timers for
//! every request, and a timer and a token of each connection's own would be asked for news whenever it does anything.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio_util::sync::CancellationToken;

use crate::flows::auth::Held;
use crate::lifecycle::network_sleep;

const NEVER: u64 = u64::MAX;
/// Fewer connections than these are not worth giving room back for.
const SMALL: usize = 512;

/// The connections that are open. Cloning shares them.
#[derive(Clone, Debug)]
pub(super) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether the service stops: before anybody is told.
    stopping: Arc<AtomicBool>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: HashMap<u64, Watched>,
    /// How many there were so far.
    last: u64,
}

/// A connection as it was when it was looked at last.
#[derive(Debug)]
struct Watched {
    activity: Arc<Activity>,
    /// How much it had done then; `None`: nobody has looked yet.
    seen: Option<u64>,
    /// How often in a row it had done nothing.
    quiet: u8,
}

/// What a connection has done so far. Its own task alone counts, so that no two ever do at once.
#[derive(Debug)]
pub(super) struct Activity {
    connections: Connections,
    number: u64,
    /// Requests begun and answered, and pieces of answers that were taken.
    changes: AtomicU64,
    /// Requests that are being answered.
    answering: AtomicU64,
    /// How many changes there were when it had waited for a request's head for too long; [`NEVER`].
    ceased: AtomicU64,
    /// The connection's task.
    task: AtomicWaker,
    /// Whether the one that is being answered is held: a poll that waits, a stream.
    held: Held,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It does nothing.
    Ceased,
    /// The service stops.
    Stopping,
}

/// A connection that is open, until this is dropped.
#[derive(Debug)]
pub(super) struct Opened(pub(super) Arc<Activity>);

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Activity>);

impl Connections {
    /// None yet. `stopping`: [`crate::lifecycle::Tasks::stopping_flag`].
    pub(super) fn new(stopping: Arc<AtomicBool>) -> Self {
        Self(Arc::new(Shared { stopping, open: Mutex::default() }))
    }

    /// Ends those that have waited for a request's head for as long as `limit`, or up to half as long again; and tells all
    /// when the service stops, those too that are opened after that.
    pub(super) async fn watch(self, limit: Duration, stopping: CancellationToken) {
        while stopping.run_until_cancelled(network_sleep(limit / 2)).await.is_some() {
            self.look();
        }
        let all: Vec<_> = self.open().all.values().map(|watched| Arc::clone(&watched.activity)).collect();
        wake(&all);
    }

    /// Has those end that have done nothing for too long.
    fn look(&self) {
        let ceased: Vec<_> = self.open().all.values_mut().filter_map(Watched::look).collect();
        wake(&ceased);
    }

    /// Another one.
    pub(super) fn add(&self) -> Opened {
        let mut open = self.open();
        open.last += 1;
        let number = open.last;
        let activity = Arc::new(Activity {
            connections: self.clone(),
            number,
            changes: AtomicU64::default(),
            answering: AtomicU64::default(),
            ceased: AtomicU64::new(NEVER),
            task: AtomicWaker::default(),
            held: Held::default(),
        });
        let watched = Watched { activity: Arc::clone(&activity), seen: None, quiet: 0 };
        open.all.insert(number, watched);
        Opened(activity)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut open = self.0.connections.open();
        open.all.remove(&self.0.number);
        // After a rush, what it took is given back.
        if open.all.capacity() > SMALL && open.all.len() < open.all.capacity() / 8 {
            let twice = open.all.len() * 2;
            open.all.shrink_to(twice);
        }
    }
}

impl Watched {
    /// The connection, if it has ceased: it is to be woken.
    fn look(&mut self) -> Option<Arc<Activity>> {
        let changes = self.activity.changes.load(Ordering::Relaxed);
        let busy = self.seen != Some(changes) || self.activity.answering.load(Ordering::Relaxed) > 0;
        self.seen = Some(changes);
        self.quiet = if busy { 0 } else { self.quiet.saturating_add(1) };
        (self.quiet > 1).then(|| {
            self.activity.ceased.store(changes, Ordering::Relaxed);
            Arc::clone(&self.activity)
        })
    }
}

/// While nothing is held: whoever is woken may end at once, on another thread, and leave the table.
fn wake(connections: &[Arc<Activity>]) {
    for connection in connections {
        connection.task.wake();
    }
}

fn add(count: &AtomicU64, number: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

impl Activity {
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

    /// Returns when the connection is to end.
    pub(super) async fn end(&self) -> End {
        poll_fn(|context| self.poll_end(context)).await
    }

    fn poll_end(&self, context: &Context<'_>) -> Poll<End> {
        // From here on the task is woken for whatever is not seen below.
        self.task.register(context.waker());
        if self.is_stopping() {
            Poll::Ready(End::Stopping)
        } else if self.ceased.load(Ordering::Relaxed) == self.changes.load(Ordering::Relaxed) {
            // Nothing has come since. A request that did is answered, and looked for again later.
            Poll::Ready(End::Ceased)
        } else {
            Poll::Pending
        }
    }

    fn is_stopping(&self) -> bool {
        self.connections.0.stopping.load(Ordering::SeqCst)
    }
}

impl Answering {
    /// What tells its connection that the answer is held.
    pub(super) fn held(&self) -> &Held {
        self.0.held()
    }

    /// Whether the answer is the connection's last, because the service stops.
    pub(super) fn is_last(&self) -> bool {
        self.0.is_stopping()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.note();
        add(&self.0.answering, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::lifecycle::Tasks;

    fn connections() -> Connections {
        Connections::new(Arc::default())
    }

    fn end(opened: &Opened) -> Option<End> {
        opened.0.end().now_or_never()
    }

    #[test]
    fn who_does_nothing_between_three_looks_is_to_end() {
        let connections = connections();
        let (quiet, busy, asking) = (connections.add(), connections.add(), connections.add());
        let answering = Activity::begin(&asking.0);
        for looks in 0..3 {
            assert_eq!([&quiet, &busy, &asking].map(end), [None; 3], "{looks}");
            connections.look();
            busy.0.note();
        }
        assert_eq!([&quiet, &busy, &asking].map(end), [Some(End::Ceased), None, None]);
        drop(answering);
        for looks in 0..3 {
            assert_eq!(end(&asking), None, "{looks}");
            connections.look();
        }
        assert_eq!(end(&asking), Some(End::Ceased));
    }

    #[tokio::test]
    async fn who_waits_is_told_that_the_service_stops_and_so_is_who_comes_later() {
        let tasks = Tasks::new();
        let connections = Connections::new(tasks.stopping_flag());
        let opened = connections.add();
        let watching = connections.clone().watch(Duration::from_secs(3_600), tasks.stopping());
        let stop = async {
            tokio::task::yield_now().await;
            assert!(!Activity::begin(&opened.0).is_last());
            tasks.stop();
            assert!(Activity::begin(&opened.0).is_last(), "also before anybody is told");
        };
        let (told, (), ()) = tokio::join!(opened.0.end(), watching, stop);
        assert_eq!(told, End::Stopping);
        assert_eq!(end(&connections.add()), Some(End::Stopping));
    }

    #[test]
    fn a_request_that_comes_at_the_last_moment_is_answered() {
        let connections = connections();
        let opened = connections.add();
        (0..3).for_each(|_| connections.look());
        let answering = Activity::begin(&opened.0);
        assert_eq!(end(&opened), None);
        connections.look();
        drop(answering);
        assert_eq!(end(&opened), None, "its time begins anew");
        (0..3).for_each(|_| connections.look());
        assert_eq!(end(&opened), Some(End::Ceased));
    }

    #[test]
    fn little_room_is_kept_of_a_rush() {
        let connections = connections();
        drop((0..5_000).map(|_| connections.add()).collect::<Vec<_>>());
        assert!(connections.open().all.is_empty() && connections.open().all.capacity() <= SMALL);
    }
}
