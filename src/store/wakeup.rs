//! How who waits for a session learns that it changed.

use std::fmt;

use tokio::sync::watch;

/// Becomes ready when something changes. Dropping it stops waiting.
pub struct Wakeup {
    /// `None` once it is being dropped.
    changes: Option<watch::Receiver<()>>,
    leave: Option<Box<dyn FnOnce(watch::Receiver<()>) + Send + Sync>>,
}

impl Wakeup {
    /// `leave` takes the receiver back when nobody waits with it any more.
    pub(super) fn new(
        changes: watch::Receiver<()>,
        leave: impl FnOnce(watch::Receiver<()>) + Send + Sync + 'static,
    ) -> Self {
        Self { changes: Some(changes), leave: Some(Box::new(leave)) }
    }

    /// Resolves at the first change since it was made or last resolved.
    pub async fn changed(&mut self) {
        let told = match &mut self.changes {
            Some(changes) => changes.changed().await.is_ok(),
            None => false,
        };
        if !told {
            // The store is gone, and with it whatever could change.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Wakeup {
    fn drop(&mut self) {
        if let (Some(leave), Some(changes)) = (self.leave.take(), self.changes.take()) {
            leave(changes);
        }
    }
}

impl fmt::Debug for Wakeup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Wakeup")
    }
}
