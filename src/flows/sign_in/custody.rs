//! Keeps the newest login in the store for as long as the session store has not taken it.

use super::SignIn;
use super::SignInError;
use crate::store::StoreError;
use crate::telegram::GatewayError;

impl SignIn {
    pub(super) async fn save(&self) -> Result<(), SignInError> {
        self.0.gateway.save().await.map_err(GatewayError::from)?;
        self.settle_custody().await?;
        tracing::info!("the session is saved");
        Ok(())
    }

    /// Keeps the newest login in the store for as long as the session store has not taken it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn settle_custody(&self) -> Result<(), StoreError> {
        let _look = self.0.custody.lock().await;
        match self.0.gateway.unsaved() {
            Some(unsaved) => self.0.store.keep_unsaved_session(&unsaved).await,
            None => self.0.store.delete_unsaved_session().await,
        }
    }

    pub(super) fn watch_custody(&self) {
        let sign_in = self.clone();
        let mut saved = self.0.gateway.saved();
        saved.mark_changed(); // what an earlier process left may be saved by now
        self.0.tasks.spawn("unsaved session", async move {
            let stopping = sign_in.0.tasks.stopping();
            loop {
                tokio::select! {
                    changed = saved.changed() => if changed.is_err() { return },
                    () = stopping.cancelled() => return, // `App::stop` looks for the last time
                }
                if let Err(error) = sign_in.settle_custody().await {
                    tracing::error!(%error, "the store does not keep the unsaved session");
                }
            }
        });
    }
}
