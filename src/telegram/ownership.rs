//! Whose the account's session is: taken up when this process comes to own it, left when another does. How a lease is
//! had and kept is the vault's business; what is done with the session is `custody`'s.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::answers::GatewayError;
use super::gateway::Gateway;
use super::gateway::Slot;
use super::sign_in;
use crate::domain::account::TelegramSession;
use crate::domain::account::UnsavedSession;
use crate::vault::Lease;
use crate::vault::Ownership;
use crate::vault::VaultError;

impl Gateway {
    /// Takes the lease, or stands by until it can be had; from then on follows whose it is.
    pub(super) async fn stand_by(&self, lease: &Lease) -> Result<(), VaultError> {
        let mut ownership = lease.ownership();
        let begun = match lease.attempt().await {
            Ok(()) => self.follow(lease).await,
            Err(error) => {
                self.0.vault_reached.store(false, Ordering::SeqCst);
                *self.slot() = Slot::Unknown(error.to_string());
                Err(error)
            }
        };
        if begun.as_ref().is_err_and(|error| !error.is_unavailable()) {
            lease.give_up().await;
            lease.forsake();
            return begun;
        }
        lease.keep(&self.0.tasks);
        let (gateway, lease) = (self.clone(), lease.clone());
        self.0.tasks.spawn("account owner", async move {
            let stopping = gateway.0.tasks.stopping();
            loop {
                tokio::select! {
                    changed = ownership.changed() => if changed.is_err() { return },
                    () = stopping.cancelled() => return, // `close` gives it up
                }
                if let Err(error) = gateway.follow(&lease).await {
                    tracing::error!(%error, "the session cannot be taken up yet");
                }
            }
        });
        begun
    }

    /// Tries at once to own the session, where it is not known that another process does.
    ///
    /// # Errors
    /// [`GatewayError::NotOwner`]; or nobody can say, because the session store cannot be reached.
    pub async fn claim(&self) -> Result<(), GatewayError> {
        if let Some(lease) = self.0.vault.lease().filter(|lease| lease.is_in_doubt()) {
            lease.attempt().await?;
            self.follow(lease).await?;
        }
        match self.0.vault.owned() {
            Err(VaultError::NotOwner(owner)) => {
                Err(GatewayError::NotOwner { owner, wait: self.longest_absence() })
            }
            owned => Ok(owned?),
        }
    }

    /// How long a session can be without an owner that works, before another process takes it.
    pub fn longest_absence(&self) -> Duration {
        self.0.vault.lease().map(Lease::lasts).unwrap_or_default()
    }

    /// Does what the present owner demands.
    async fn follow(&self, lease: &Lease) -> Result<(), VaultError> {
        let mut taken_up = self.0.taken_up.lock().await;
        let now = lease.ownership().borrow().clone();
        match now {
            // In the same epoch nobody else has had it.
            Ownership::Held { epoch } if *taken_up == Some(epoch) => Ok(()),
            Ownership::Held { epoch } => {
                self.leave(Slot::Unknown("the session store has not been read yet".to_owned())).await;
                *taken_up = Some(epoch);
                self.take_up().await
            }
            Ownership::Standby(holder) => {
                *taken_up = None;
                self.leave(Slot::Elsewhere(holder)).await;
                // What cannot be read now could not be taken up either: better to know before it is needed.
                self.0.vault.look().await.map(drop)
            }
            Ownership::Unknown(_) | Ownership::Lapsed => Ok(()),
        }
    }

    /// Lets go of the account; what is not saved of it is kept for later.
    async fn leave(&self, to: Slot) {
        let unsaved = self.unsaved();
        let signed_in = self.signed_in();
        *self.slot() = to;
        *self.carried() = unsaved;
        if let Some(account) = signed_in {
            account.close().await;
        }
    }

    /// Goes on with what the vault holds, or with what it has not taken yet.
    pub(super) async fn take_up(&self) -> Result<(), VaultError> {
        let carried = self.carried().clone();
        if let Some(unsaved) = carried {
            // Where the vault cannot be read, nobody else could read it either.
            let there = self.0.vault.look().await;
            let there = there.ok().flatten();
            let superseded =
                there.as_ref().is_some_and(|there| !self.0.vault.may_be_replaced(there, &unsaved));
            *self.carried() = None;
            if !superseded {
                self.0.vault.resume(&unsaved);
                let session = newest(unsaved.session, there);
                self.set_saved(false);
                self.adopt(self.open_account(session));
                return Ok(());
            }
            tracing::error!(
                "another process has signed in since: the session that was never saved is given up"
            );
            self.set_saved(true);
            self.sign_out_orphan(unsaved.session);
        }
        let loaded = self.load().await;
        if loaded.is_err() {
            self.keep_loading();
        }
        loaded
    }

    /// Ends a session at Telegram that nobody is to use.
    fn sign_out_orphan(&self, session: TelegramSession) {
        let (account, stopping) = (self.open_account(session), self.0.tasks.stopping());
        self.0.tasks.spawn("orphan", async move {
            sign_in::log_out_unused(&account, &stopping).await;
            account.close().await;
        });
    }

    pub(super) fn carried(&self) -> MutexGuard<'_, Option<UnsavedSession>> {
        self.0.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session that was not saved, with the later update position of the two, where they have the same key.
fn newest(unsaved: TelegramSession, there: Option<TelegramSession>) -> TelegramSession {
    let later = there
        .filter(|there| there.home_key() == unsaved.home_key() && there.updates.pts > unsaved.updates.pts);
    match later {
        Some(there) => TelegramSession { updates: there.updates, ..unsaved },
        None => unsaved,
    }
}
