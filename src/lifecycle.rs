//! Running and stopping: tasks that shutdown waits for, the clocks, the system's randomness.
//! The only place that calls `tokio::spawn`, `tokio::time::sleep` and the system clock.

mod kill_timer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::kill_timer::Deadline;
pub use self::kill_timer::KillTimer;
use crate::domain::clock::Clock;
use crate::domain::clock::Timestamp;

/// The tasks of a running service. Cloning shares them.
///
/// Two kinds: a task that serves until it is told to stop watches [`Tasks::stopping`]; a task that does one piece of
/// work that must finish (a sign-in) does not, and shutdown waits for it.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    stopping_flag: Arc<AtomicBool>,
    failed: Arc<std::sync::Mutex<Option<&'static str>>>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` to its end in a task of its own: it goes on when the caller is dropped.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let span = tracing::debug_span!("task", name);
        tokio::spawn(self.tracker.track_future(tracing::Instrument::instrument(future, span)))
    }

    /// Runs a task that the service cannot live without. When it ends before shutdown, or panics, the service stops
    /// with a failure rather than living on half dead.
    pub fn spawn_essential<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        let run = self.spawn(name, future);
        self.spawn("essential", async move {
            let ended = run.await;
            if !tasks.stopping.is_cancelled() {
                tracing::error!(task = name, panicked = ended.is_err(), "an essential task ended, stopping");
                tasks.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(name);
                tasks.stop();
            }
        });
    }

    /// Resolves when shutdown has begun.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Whether shutdown has begun, for whoever asks often: asking the token takes a lock. It says so before anybody whom the
    /// token wakes can ask.
    pub fn stopping_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stopping_flag)
    }

    /// Begins shutdown: servers stop accepting, loops end.
    pub fn stop(&self) {
        self.stopping_flag.store(true, Ordering::SeqCst);
        self.stopping.cancel();
    }

    /// Begins shutdown and waits for every task, at most `limit`. Returns whether all ended.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.stop();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }

    /// The essential task that died, if one did.
    pub fn failed(&self) -> Option<&'static str> {
        *self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Waits on real time, which no clock moves: time limits on the wire, back-off between connections.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub async fn network_sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Time since this machine was started, sleep of the machine included (`CLOCK_BOOTTIME`): what leases go by. Nobody sets
/// it, and the movable clock has no say in it.
pub fn boot_time() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    // Elsewhere this one goes on while the machine sleeps.
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// 32 bytes from the operating system, to seed `Ids`.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn os_seed() -> Result<[u8; 32], std::io::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    Ok(seed)
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the real clock is read here only")]
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(0).plus(since_epoch)
    }

    fn sleep_until(&self, instant: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // The wall clock can be set back while we sleep, so look again.
            while self.now() < instant {
                network_sleep(instant.since(self.now()).min(Duration::from_secs(60))).await;
            }
        })
    }
}

/// The system's clock plus an offset that `POST /api/clock` of the sandbox moves forward. Sleepers wake on a move.
#[derive(Clone, Debug, Default)]
pub struct OffsetClock(Arc<Offset>);

#[derive(Debug, Default)]
struct Offset {
    millis: AtomicI64,
    moved: Notify,
}

impl OffsetClock {
    /// A clock that starts `offset` milliseconds ahead of the system's.
    pub fn ahead_by(offset: i64) -> Self {
        Self(Arc::new(Offset { millis: AtomicI64::new(offset), moved: Notify::new() }))
    }

    /// Moves the clock forward and wakes who sleeps on it.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.millis.fetch_add(millis, Ordering::SeqCst);
        self.0.moved.notify_waiters();
    }

    /// How far ahead of the system's clock this one is, in milliseconds.
    pub fn offset_millis(&self) -> i64 {
        self.0.millis.load(Ordering::SeqCst)
    }
}

impl Clock for OffsetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis().saturating_add(self.offset_millis()))
    }

    fn sleep_until(&self, instant: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let moved = self.0.moved.notified();
                let now = self.now();
                if now >= instant {
                    return;
                }
                let rest = instant.since(now).min(Duration::from_secs(60));
                tokio::select! { () = moved => {}, () = network_sleep(rest) => {} }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moving_the_clock_wakes_a_sleeper() {
        let clock = OffsetClock::default();
        let until = clock.now().plus(Duration::from_secs(3_600));
        let sleeper = Tasks::new().spawn("sleeper", {
            let clock = clock.clone();
            async move { clock.sleep_until(until).await }
        });
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(3_601));
        sleeper.await.unwrap();
        assert!(clock.now() >= until);
    }

    #[tokio::test]
    async fn an_essential_task_that_dies_stops_the_service() {
        let tasks = Tasks::new();
        tasks.spawn_essential("dies", async {});
        tasks.stopping().cancelled().await;
        assert_eq!(tasks.failed(), Some("dies"));
        assert!(tasks.finish(Duration::from_secs(1)).await);
    }
}
