//! Custody of the account's session: loaded at the start, in the vault before anybody hears of a sign-in, saved again
//! whenever it changes, kept out of harm's way while the vault cannot be reached. Signing in is `gateway`'s part.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::account::Account;
use super::answers::Custody;
use super::answers::GatewayError;
use super::gateway::Gateway;
use super::gateway::SigningIn;
use super::gateway::Slot;
use super::session::Changes;
use super::sign_in;
use crate::domain::account::TelegramSession;
use crate::domain::account::UnsavedSession;
use crate::lifecycle::network_sleep;
use crate::vault::Lease;
use crate::vault::Ownership;
use crate::vault::VaultError;

impl Gateway {
    /// Whether the vault is known and holds the newest login.
    pub fn is_saved(&self) -> bool {
        *self.0.saved.borrow() && !matches!(&*self.slot(), Slot::Unknown(_))
    }

    /// Whether the vault could be read or written the last time.
    pub fn reaches_vault(&self) -> bool {
        let renewed = self.0.vault.lease().is_none_or(Lease::is_renewed);
        renewed && self.0.vault_reached.load(Ordering::SeqCst)
    }

    /// Tells when the vault has failed to take the newest login, and when it has taken it.
    pub fn saved(&self) -> watch::Receiver<bool> {
        self.0.saved.subscribe()
    }

    /// The newest login, while the vault has not taken it.
    pub fn unsaved(&self) -> Option<UnsavedSession> {
        if let Some(carried) = &*self.carried() {
            return Some(carried.clone());
        }
        let session = self.session().filter(|_| !*self.0.saved.borrow())?;
        Some(self.0.vault.unsaved(session))
    }

    /// Writes the signed-in account's session to the vault; nothing to do when nobody is signed in, or it is not known
    /// yet who.
    pub async fn save(&self) -> Result<(), VaultError> {
        let _custody = self.0.custody.lock().await;
        let session = self.session().filter(|session| session.user.is_some());
        if let Some(session) = session {
            self.write(&session).await?;
            self.set_saved(true);
        }
        Ok(())
    }

    /// Saves what is not saved and closes the connections, for shutdown. See [`Gateway::unsaved`] afterwards.
    pub async fn close(&self) {
        if let Some(account) = self.signed_in() {
            account.close().await;
            if let Err(error) = self.save().await {
                tracing::error!(%error, "the session was not saved at shutdown");
                self.set_saved(false);
            }
        }
        if let Some(current) = self.0.signing_in.lock().await.take() {
            current.account.close().await;
        }
        if let Some(lease) = self.0.vault.lease() {
            lease.release().await;
        }
    }

    /// Signs out at Telegram and deletes the stored session, also one that Telegram has already ended.
    pub async fn sign_out(&self) -> Result<(), GatewayError> {
        self.claim().await?;
        if matches!(&*self.slot(), Slot::Unknown(_)) {
            self.load().await?;
        }
        if let Some(account) = self.signed_in() {
            if account.signed_out().is_none() {
                sign_in::log_out(&account).await?;
            }
            account.close().await;
        }
        let _custody = self.0.custody.lock().await;
        *self.slot() = Slot::SignedOut(Some("signed out".to_owned()));
        match self.0.vault.delete().await {
            // What is there now is another's.
            Err(error @ VaultError::ChangedElsewhere { .. }) => {
                tracing::warn!(%error, "signed out, nothing deleted");
            }
            deleted => deleted?,
        }
        self.set_saved(true);
        *self.slot() = Slot::SignedOut(None);
        Ok(())
    }

    /// Takes the lease, or stands by until it can be had; from then on follows whose it is.
    pub(super) async fn stand_by(&self, lease: &Lease) -> Result<(), VaultError> {
        let attempt = lease.attempt().await;
        let mut ownership = lease.ownership();
        let first = ownership.borrow_and_update().clone();
        let begun = match attempt {
            Ok(()) => self.follow(&first).await,
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
        let gateway = self.clone();
        self.0.tasks.spawn("account owner", async move {
            let stopping = gateway.0.tasks.stopping();
            loop {
                tokio::select! {
                    changed = ownership.changed() => if changed.is_err() { return },
                    () = stopping.cancelled() => return, // `close` gives it up
                }
                let now = ownership.borrow_and_update().clone();
                if let Err(error) = gateway.follow(&now).await {
                    tracing::error!(%error, "the session cannot be taken up");
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
            let now = lease.ownership().borrow().clone();
            self.follow(&now).await?;
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

    /// Does what a change of owner demands.
    async fn follow(&self, now: &Ownership) -> Result<(), VaultError> {
        let _following = self.0.following.lock().await;
        let vacant = matches!(&*self.slot(), Slot::Unknown(_) | Slot::Elsewhere(_));
        match now {
            // Where what it held is still there, nobody else has had it.
            Ownership::Held { .. } if !vacant => Ok(()),
            Ownership::Held { .. } => self.take_up().await,
            Ownership::Standby(holder) => {
                let before = self.unsaved();
                let signed_in = self.signed_in();
                *self.slot() = Slot::Elsewhere(holder.clone());
                *self.carried() = before;
                if let Some(account) = signed_in {
                    account.close().await;
                }
                if let Some(current) = self.0.signing_in.lock().await.take() {
                    current.account.close().await;
                }
                // What cannot be read now could not be taken up either: better to know before it is needed.
                self.0.vault.look().await.map(drop)
            }
            Ownership::Unknown(_) | Ownership::Lapsed => Ok(()),
        }
    }

    /// Goes on with what the vault has not taken, else with what it holds.
    pub(super) async fn take_up(&self) -> Result<(), VaultError> {
        *self.slot() = Slot::Unknown("the session store has not been read yet".to_owned());
        let carried = self.carried().take();
        if let Some(unsaved) = carried {
            self.0.vault.resume(&unsaved);
            self.set_saved(false);
            self.adopt(self.open_account(unsaved.session));
            return Ok(());
        }
        let loaded = self.load().await;
        if loaded.as_ref().is_err_and(VaultError::is_unavailable) {
            self.keep_loading();
        }
        loaded
    }

    fn carried(&self) -> MutexGuard<'_, Option<UnsavedSession>> {
        self.0.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the vault and notes whether it could be reached.
    async fn write(&self, session: &TelegramSession) -> Result<(), VaultError> {
        let written = self.0.vault.save(session).await;
        self.0.vault_reached.store(written.is_ok(), Ordering::SeqCst);
        written
    }

    /// The session goes to the vault before anybody hears of it.
    pub(super) async fn complete(&self, signing_in: &mut Option<SigningIn>, account: Account) -> Custody {
        *signing_in = None;
        let session = account.session();
        let custody = self.0.custody.lock().await;
        let saved = self.write(&session).await;
        self.set_saved(saved.is_ok());
        self.adopt(account);
        drop(custody);
        match saved {
            Ok(()) => Custody::Saved,
            Err(error) => {
                tracing::error!(%error, "signed in, but the session is not saved yet");
                Custody::Unsaved
            }
        }
    }

    /// Announces what is not saved each time, because it may be newer than what was kept.
    pub(super) fn set_saved(&self, saved: bool) {
        self.0.saved.send_if_modified(|known| !(std::mem::replace(known, saved) && saved));
    }

    pub(super) fn adopt(&self, account: Account) {
        self.adopt_into(&mut self.slot(), account);
    }

    fn adopt_into(&self, slot: &mut Slot, account: Account) {
        // What changes from here on is not saved yet.
        let changes = account.live_session().changes();
        let saved = *changes.borrow();
        account.supervise();
        self.0.tasks.spawn("session saver", self.clone().keep_saving(account.clone(), changes, saved));
        *slot = Slot::SignedIn(account);
    }

    /// Saves changes of the login at once and progress after a delay, for as long as the account is the service's.
    /// What the vault does not take is tried again, for hours if need be.
    async fn keep_saving(self, account: Account, mut changes: watch::Receiver<Changes>, mut saved: Changes) {
        let stopping = self.0.tasks.stopping();
        let (shortest, longest) = self.0.settings.back_off;
        let (mut failed, mut pause) = (!*self.0.saved.borrow(), shortest);
        let mut delay = first_delay(self.0.settings.save_delay);
        loop {
            let due = async {
                if failed {
                    network_sleep(pause).await;
                } else {
                    change_worth_saving(&mut changes, saved, delay).await;
                }
            };
            tokio::select! {
                () = due => {}
                () = account.closed() => return,
                () = stopping.cancelled() => return, // `close` saves for the last time
            }
            let now = *changes.borrow_and_update();
            if now.login != saved.login {
                // An old position costs a repetition, an old login is lost: until the vault has it, it is kept
                // elsewhere, and nobody is told that it is saved.
                self.set_saved(false);
            }
            match self.save().await {
                Ok(()) => {
                    (saved, failed, pause) = (now, false, shortest);
                    delay = self.0.settings.save_delay;
                }
                Err(error) => {
                    tracing::warn!(%error, retry_in_ms = pause.as_millis(), "the session was not saved");
                    pause = if failed { (pause * 2).min(longest) } else { shortest };
                    failed = true;
                }
            }
        }
    }

    pub(super) async fn load(&self) -> Result<(), VaultError> {
        self.0.vault.owned()?;
        let loaded = self.0.vault.load().await;
        self.0.vault_reached.store(loaded.is_ok(), Ordering::SeqCst);
        match loaded {
            Ok(session) => {
                let mut slot = self.slot();
                // Somebody may have been quicker.
                if matches!(&*slot, Slot::Unknown(_)) {
                    match session.filter(|session| session.home_key().is_some()) {
                        Some(session) => self.adopt_into(&mut slot, self.open_account(session)),
                        None => *slot = Slot::SignedOut(None),
                    }
                }
                Ok(())
            }
            Err(error) => {
                let mut slot = self.slot();
                if matches!(&*slot, Slot::Unknown(_)) {
                    *slot = Slot::Unknown(error.to_string());
                }
                Err(error)
            }
        }
    }

    pub(super) fn keep_loading(&self) {
        let gateway = self.clone();
        self.0.tasks.spawn("session loader", async move {
            let stopping = gateway.0.tasks.stopping();
            let (mut pause, longest) = gateway.0.settings.back_off;
            loop {
                tokio::select! { () = network_sleep(pause) => {}, () = stopping.cancelled() => return }
                if !matches!(&*gateway.slot(), Slot::Unknown(_)) {
                    return;
                }
                match gateway.load().await {
                    Ok(()) => return tracing::info!("the session store can be read again"),
                    Err(VaultError::NotOwner(_)) => return,
                    Err(error) => tracing::warn!(%error, "still no session store"),
                }
                pause = (pause * 2).min(longest);
            }
        });
    }
}

/// How long a process waits before it saves its first progress: a process that is killed again and again must get on, or
/// each would begin further back than the one before has come.
pub(super) fn first_delay(delay: Duration) -> Duration {
    delay.min(Duration::from_secs(1))
}

/// Resolves when something has changed since `saved` that is to be saved now: a login at once, progress after `delay`.
pub(super) async fn change_worth_saving(
    changes: &mut watch::Receiver<Changes>,
    saved: Changes,
    delay: Duration,
) {
    if *changes.borrow_and_update() == saved && changes.changed().await.is_err() {
        return std::future::pending().await;
    }
    if changes.borrow_and_update().login == saved.login {
        tokio::select! {
            _ = changes.wait_for(|now| now.login != saved.login) => {}
            () = network_sleep(delay) => {}
        }
    }
}
