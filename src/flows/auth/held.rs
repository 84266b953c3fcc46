//! Whether an answer is held, for who serves the connection that it goes to: nobody needs to be held who has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What is held for a connection. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<AtomicU32>);

/// Something is held, until this is dropped.
#[derive(Debug)]
pub(super) struct Holding(Arc<AtomicU32>);

impl Held {
    /// Whether something is held now: nothing is done for it but to wait.
    pub(crate) fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub(super) fn begin(&self) -> Holding {
        self.0.fetch_add(1, Ordering::Relaxed);
        Holding(Arc::clone(&self.0))
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
