//! One thread that makes writes durable for all writers who wait, many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
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
const GATHERED: Duration = Duration::from_micros(100);

type Waiting = oneshot::Sender<Result<(), String>>;

/// Makes writes durable, many at once.
#[derive(Debug)]
pub(super) struct Flusher {
    /// `None` once it is being dropped.
    queue: Option<mpsc::Sender<Waiting>>,
    thread: Option<std::thread::JoinHandle<()>>,
    written: Arc<AtomicU64>,
    durable: Arc<AtomicU64>,
    /// Whether a write has failed: none is taken after that, until the store is opened anew.
    failed: watch::Sender<bool>,
}

impl Flusher {
    /// `trees`: what is written to.
    pub(super) fn start(
        engine: Engine,
        trees: [Tree; 3],
        creations: Arc<Creations>,
    ) -> Result<Self, StoreError> {
        let journal = Journal::of(engine.directory());
        let mut journal =
            journal.map_err(|error| StoreError::Unavailable(format!("the database's log: {error}")))?;
        let (sender, receiver) = mpsc::channel::<Waiting>();
        let (written, durable) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let failed = watch::Sender::new(false);
        let failing = failed.clone();
        let runtime = Handle::try_current();
        let runtime = runtime.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let (seen, reached) = (Arc::clone(&written), Arc::clone(&durable));
        let run = move || {
            // What the kernel could not write down it may have forgotten: a second try would succeed without it.
            let (mut outcome, mut before) = (Ok(()), 0);
            while let Ok(first) = receiver.recv() {
                let mut waiting: Vec<_> = std::iter::once(first).chain(receiver.try_iter()).collect();
                if before >= MANY && waiting.len() < before / 2 {
                    std::thread::sleep(GATHERED);
                    waiting.extend(receiver.try_iter());
                }
                before = waiting.len();
                let up_to = seen.load(Ordering::SeqCst);
                if outcome.is_ok() {
                    outcome = flush(&engine, &creations, &mut journal);
                }
                if outcome.is_ok() {
                    reached.store(up_to, Ordering::SeqCst);
                } else {
                    engine.halt();
                    failing.send_replace(true);
                }
                tell(&runtime, waiting, &outcome);
                if outcome.is_ok() {
                    outcome = keep_up(&trees);
                }
            }
        };
        let thread = std::thread::Builder::new().name("store-flusher".to_owned()).spawn(run);
        let thread =
            thread.map_err(|error| StoreError::Unavailable(format!("no thread for the flusher: {error}")))?;
        Ok(Self { queue: Some(sender), thread: Some(thread), written, durable, failed })
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
        let begun = std::time::Instant::now();
        let (sender, receiver) = oneshot::channel();
        let gone = || StoreError::Unavailable("the flusher has ended".to_owned());
        self.queue.as_ref().ok_or_else(gone)?.send(sender).map_err(|_| gone())?;
        let flushed = receiver.await.map_err(|_| gone())?;
        metrics::histogram!("connector_store_seconds").record(begun.elapsed().as_secs_f64());
        flushed.map_err(StoreError::Unavailable)
    }
}

/// Tells writers what became of their writes. Many are told by the threads that they run on: waking each of them from here
/// costs a call of the system.
fn tell(runtime: &Handle, waiting: Vec<Waiting>, outcome: &Result<(), String>) {
    let outcome = outcome.clone();
    let telling = move || {
        for writer in waiting {
            // A writer that has gone away has nobody to tell.
            drop(writer.send(outcome.clone()));
        }
    };
    drop(runtime.spawn(async move { telling() }));
}

fn flush(engine: &Engine, creations: &Creations, journal: &mut Journal) -> Result<(), String> {
    creations.write().map_err(|error| error.to_string())?;
    engine.hand_over().map_err(|error| error.to_string())?;
    journal.sync().map_err(|error| error.to_string())
}

fn keep_up(trees: &[Tree]) -> Result<(), String> {
    for tree in trees {
        if !tree.keep_up().map_err(|error| error.to_string())? {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

impl Drop for Flusher {
    /// The directory is free for the next process, or the next test, when the store is dropped, not a moment later.
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's flusher had panicked");
        }
    }
}
