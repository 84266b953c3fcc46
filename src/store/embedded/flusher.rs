//! One thread that makes writes durable for all writers who wait, many at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use metrics::Histogram;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::watch;

use super::creations::Creations;
use super::engine::Engine;
use super::engine::Tree;
use super::journal::Journal;
use crate::store::StoreError;

/// How long writers wait when the files do not keep up with what they write.
const PAUSE: Duration = Duration::from_millis(10);

/// Where so many wrote at once before, a moment is given to those who will now: each flush costs the same, however many share
/// it.
const MANY: usize = 8;
/// How long it is from one flush to the next for each of those who wait, and at most.
const OF_EACH: Duration = Duration::from_micros(5);
const LONGEST: Duration = Duration::from_millis(2);

/// Those who wait for one flush, and what became of it.
#[derive(Debug)]
struct Group {
    outcome: OnceLock<Result<(), String>>,
    told: Notify,
    /// How long they waited.
    seconds: Histogram,
}

/// Tells a group when it is dropped: also where no thread is left to do it.
struct Telling {
    group: Arc<Group>,
    outcome: Result<(), String>,
}

/// Who waits.
#[derive(Debug)]
struct Queue {
    /// For the flush that is under way.
    flushing: Arc<Group>,
    /// For the next one.
    next: Arc<Group>,
    /// How many these are.
    waiting: usize,
    /// Nobody may come any more.
    ended: bool,
}

#[derive(Debug)]
struct Queued {
    queue: Mutex<Queue>,
    /// Tells the thread that somebody waits, or that it is to end.
    comes: Condvar,
}

/// What the thread works with.
struct Thread {
    engine: Engine,
    trees: [Tree; 3],
    creations: Arc<Creations>,
    journal: Journal,
    runtime: Handle,
    queued: Arc<Queued>,
    written: Arc<AtomicU64>,
    durable: Arc<AtomicU64>,
    failing: Failing,
}

/// What the thread does where a write may be lost, and also when it panics: none is taken after that.
struct Failing {
    engine: Engine,
    failed: watch::Sender<bool>,
    queued: Arc<Queued>,
}

/// Makes writes durable, many at once.
#[derive(Debug)]
pub(super) struct Flusher {
    queued: Arc<Queued>,
    thread: Option<std::thread::JoinHandle<()>>,
    written: Arc<AtomicU64>,
    durable: Arc<AtomicU64>,
    /// Whether a write has failed: none is taken after that, until the store is opened anew.
    failed: watch::Sender<bool>,
}

impl Group {
    fn new(seconds: Histogram) -> Arc<Self> {
        Arc::new(Self { outcome: OnceLock::new(), told: Notify::new(), seconds })
    }

    /// Tells all who wait what became of their writes. Only the first word counts.
    fn tell(&self, outcome: Result<(), String>) {
        drop(self.outcome.set(outcome));
        self.told.notify_waiters();
    }

    async fn outcome(self: Arc<Self>, begun: Instant) -> Result<(), StoreError> {
        let mut told = std::pin::pin!(self.told.notified());
        // From here on nothing that is told is missed.
        told.as_mut().enable();
        if self.outcome.get().is_none() {
            told.await;
        }
        self.seconds.record(begun.elapsed().as_secs_f64());
        let gone = || Err("the flusher has ended".to_owned());
        self.outcome.get().cloned().unwrap_or_else(gone).map_err(StoreError::Unavailable)
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.group.tell(self.outcome.clone());
    }
}

impl Queued {
    fn new(seconds: &Histogram) -> Self {
        let group = || Group::new(seconds.clone());
        let queue = Queue { flushing: group(), next: group(), waiting: 0, ended: false };
        Self { queue: Mutex::new(queue), comes: Condvar::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody may come any more; who is there is still served.
    fn end(&self) {
        self.queue().ended = true;
        self.comes.notify_one();
    }

    /// A place among those who wait for the next flush.
    fn join(&self) -> Result<Arc<Group>, StoreError> {
        let mut queue = self.queue();
        if queue.ended {
            return Err(StoreError::Unavailable("the flusher has ended".to_owned()));
        }
        queue.waiting += 1;
        if queue.waiting == 1 {
            self.comes.notify_one();
        }
        Ok(Arc::clone(&queue.next))
    }

    /// Returns when somebody waits: how many. `None`: nobody does, and nobody will.
    fn somebody(&self) -> Option<usize> {
        let nobody = |queue: &mut Queue| queue.waiting == 0 && !queue.ended;
        let queue = self.comes.wait_while(self.queue(), nobody).unwrap_or_else(PoisonError::into_inner);
        (queue.waiting > 0).then_some(queue.waiting)
    }

    /// Those for whom the next flush is, which begins now; how many they are.
    fn take(&self) -> (Arc<Group>, usize) {
        let mut queue = self.queue();
        let following = Group::new(queue.next.seconds.clone());
        let next = std::mem::replace(&mut queue.next, following);
        queue.flushing = Arc::clone(&next);
        (next, std::mem::take(&mut queue.waiting))
    }
}

impl Failing {
    fn fail(&self) {
        self.engine.halt();
        self.failed.send_replace(true);
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail();
            self.queued.end();
            let queue = self.queued.queue();
            for group in [&queue.flushing, &queue.next] {
                group.tell(Err("the flusher has panicked".to_owned()));
            }
        }
    }
}

impl Thread {
    fn run(mut self) {
        // What the kernel could not write down it may have forgotten: a second try would succeed without it.
        let (mut outcome, mut before) = (Ok(()), 0);
        let mut begun = Instant::now();
        while let Some(waiting) = self.queued.somebody() {
            gather(before, waiting, begun);
            begun = Instant::now();
            let (group, waiting) = self.queued.take();
            before = waiting;
            let up_to = self.written.load(Ordering::SeqCst);
            if outcome.is_ok() {
                outcome = self.flush();
            }
            if outcome.is_ok() {
                self.durable.store(up_to, Ordering::SeqCst);
            } else {
                self.failing.fail();
            }
            // They are woken by the threads that they run on: waking each of them from here costs a call of the system.
            let telling = Telling { group, outcome: outcome.clone() };
            drop(self.runtime.spawn(async move { drop(telling) }));
            if outcome.is_ok() {
                outcome = self.keep_up();
            }
            // Nobody may come who would be told.
            if outcome.is_err() {
                self.failing.fail();
            }
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        self.creations.write().map_err(|error| error.to_string())?;
        self.engine.hand_over().map_err(|error| error.to_string())?;
        self.journal.sync().map_err(|error| error.to_string())
    }

    fn keep_up(&self) -> Result<(), String> {
        for tree in &self.trees {
            if !tree.keep_up().map_err(|error| error.to_string())? {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}

/// Where many write at once, gives those a moment who will come soon. As many as wait now, and as waited before, are those
/// who are there; few of them wait for long.
fn gather(before: usize, waiting: usize, begun: Instant) {
    if before < MANY {
        return;
    }
    let there = u32::try_from(before + waiting).unwrap_or(u32::MAX);
    let between = OF_EACH.saturating_mul(there).min(LONGEST);
    std::thread::sleep(between.saturating_sub(begun.elapsed()));
}

impl Flusher {
    /// `trees`: what is written to.
    pub(super) fn start(
        engine: Engine,
        trees: [Tree; 3],
        creations: Arc<Creations>,
    ) -> Result<Self, StoreError> {
        let journal = Journal::of(engine.directory());
        let journal =
            journal.map_err(|error| StoreError::Unavailable(format!("the database's log: {error}")))?;
        let (written, durable) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        // Looked up once: the recorder would do it under a lock.
        let queued = Arc::new(Queued::new(&metrics::histogram!("connector_store_seconds")));
        let failed = watch::Sender::new(false);
        let failing = Failing { engine: engine.clone(), failed: failed.clone(), queued: Arc::clone(&queued) };
        let runtime = Handle::try_current();
        let runtime = runtime.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let thread = Thread {
            engine,
            trees,
            creations,
            journal,
            runtime,
            queued: Arc::clone(&queued),
            written: Arc::clone(&written),
            durable: Arc::clone(&durable),
            failing,
        };
        let thread = std::thread::Builder::new().name("store-flusher".to_owned()).spawn(|| thread.run());
        let thread =
            thread.map_err(|error| StoreError::Unavailable(format!("no thread for the flusher: {error}")))?;
        Ok(Self { queued, thread: Some(thread), written, durable, failed })
    }

    /// Numbers a write that was just made.
    pub(super) fn number(&self) -> u64 {
        self.written.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether the write with this number survives a crash.
    pub(super) fn is_durable(&self, number: u64) -> bool {
        self.durable.load(Ordering::SeqCst) >= number
    }

    /// Notes that a write has failed that was not flushed.
    pub(super) fn fail(&self) {
        self.failed.send_replace(true);
    }

    /// Resolves when a write has failed.
    pub(super) async fn failed(&self) {
        let mut failed = self.failed.subscribe();
        // It cannot end before this: its sender is here.
        drop(failed.wait_for(|failed| *failed).await);
    }

    /// Returns when everything written so far survives a crash.
    pub(super) async fn flushed(&self) -> Result<(), StoreError> {
        self.ask()?.await
    }

    /// Asks for a flush, which comes whether or not somebody waits for it. What is returned resolves when everything written
    /// so far survives a crash.
    pub(super) fn ask(&self) -> Result<impl Future<Output = Result<(), StoreError>> + use<>, StoreError> {
        Ok(self.queued.join()?.outcome(Instant::now()))
    }
}

impl Drop for Flusher {
    /// The directory is free for the next process, or the next test, when the store is dropped, not a moment later.
    fn drop(&mut self) {
        self.queued.end();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's flusher had panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_write_is_taken_after_the_thread_panicked() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(folder.path(), 1 << 20).unwrap();
        let tree = engine.tree("records").unwrap();
        tree.insert("before", "it").unwrap();
        let failed = watch::Sender::new(false);
        let queued = Arc::new(Queued::new(&Histogram::noop()));
        let waiting = queued.join().unwrap();
        let failing = Failing { engine, failed: failed.clone(), queued: Arc::clone(&queued) };
        let thread = std::thread::spawn(move || {
            let _failing = failing;
            panic!("for the test");
        });
        assert!(thread.join().is_err());
        assert!(waiting.outcome(Instant::now()).await.is_err(), "who waits is told");
        assert!(queued.join().is_err(), "nobody may come any more");
        assert!(*failed.borrow());
        assert!(tree.insert("after", "it").is_err());
        assert!(tree.get("before").unwrap().is_some());
    }
}
