//! How who waits for a session learns that it changed.

use std::fmt;

use tokio::sync::watch;

/// Becomes ready when something changes. Dropping it stops waiting.
pub struct Wakeup {
    changes: watch::Receiver<()>,
    leave: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Wakeup {
    pub(super) fn new(changes: watch::Receiver<()>, leave: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { changes, leave: Some(Box::new(leave)) }
    }

    /// Resolves at the first change since it was made or last resolved.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The store is gone, and with it whatever could change.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Wakeup {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave();
        }
    }
}

impl fmt::Debug for Wakeup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Wakeup")
    }
}
