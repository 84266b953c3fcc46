//! One thread that flushes for all writers who wait: `sled`'s own `flush_async` hangs when many call it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::store::StoreError;

type Waiting = oneshot::Sender<Result<(), String>>;

/// Makes writes durable, many at once.
#[derive(Debug)]
pub(super) struct Flusher {
    /// `None` once it is being dropped.
    queue: Option<mpsc::Sender<Waiting>>,
    thread: Option<std::thread::JoinHandle<()>>,
    written: Arc<AtomicU64>,
    durable: Arc<AtomicU64>,
    /// Whether a write has failed: sled takes none after that, until it is opened anew.
    failed: watch::Sender<bool>,
}

impl Flusher {
    /// `file`: the database's log, which sled hands to the kernel but does not make it write down (on Linux it only calls
    /// `sync_file_range`); a power cut would undo what was acknowledged.
    pub(super) fn start(database: sled::Db, file: std::fs::File) -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel::<Waiting>();
        let (written, durable) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let failed = watch::Sender::new(false);
        let failing = failed.clone();
        let (seen, reached) = (Arc::clone(&written), Arc::clone(&durable));
        let run = move || {
            while let Ok(first) = receiver.recv() {
                let waiting: Vec<_> = std::iter::once(first).chain(receiver.try_iter()).collect();
                let up_to = seen.load(Ordering::SeqCst);
                let flushed = database.flush().map(|_| ()).map_err(|error| error.to_string());
                let outcome = flushed.and_then(|()| file.sync_data().map_err(|error| error.to_string()));
                match &outcome {
                    Ok(()) => reached.store(up_to, Ordering::SeqCst),
                    Err(_) => drop(failing.send_replace(true)),
                }
                for writer in waiting {
                    // A writer that has gone away has nobody to tell.
                    drop(writer.send(outcome.clone()));
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

impl Drop for Flusher {
    /// The directory is free for the next process, or the next test, when the store is dropped, not a moment later.
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's flusher had panicked");
        }
    }
}
