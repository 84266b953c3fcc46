//! Custody of the account's session: loaded at the start, in the vault before anybody hears of a sign-in, saved again
//! whenever it changes, kept out of harm's way while the vault cannot be reached. Signing in is `gateway`'s part.

use std::sync::atomic::Ordering;
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
use crate::vault::VaultError;

/// How long the end waits for a step of a sign-in.
const STEP: Duration = Duration::from_millis(500);

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
        if let Some(lease) = self.0.vault.lease() {
            lease.release().await;
        }
        // What is being signed in is no session of the vault's yet, and a step of it may wait for Telegram for long.
        if let Ok(mut current) = tokio::time::timeout(STEP, self.0.signing_in.lock()).await
            && let Some(current) = current.take()
        {
            current.account.close().await;
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
        self.vacate(Slot::SignedOut(Some("signed out".to_owned())));
        match self.0.vault.delete().await {
            // What is there now is another's, and now this process's to use.
            Err(error @ VaultError::ChangedElsewhere { .. }) => {
                tracing::warn!(%error, "signed out, nothing deleted");
                self.set_saved(true);
                self.vacate(Slot::Unknown("the session store has not been read yet".to_owned()));
                return Ok(self.load().await?);
            }
            deleted => deleted?,
        }
        self.set_saved(true);
        self.vacate(Slot::SignedOut(None));
        Ok(())
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

    /// Nobody is signed in any more; unless the session has gone to another process meanwhile.
    fn vacate(&self, to: Slot) {
        let mut slot = self.slot();
        if !matches!(&*slot, Slot::Elsewhere(_)) {
            *slot = to;
        }
    }

    /// Makes this the service's account; where the session has gone to another process meanwhile, it is kept for later.
    pub(super) fn adopt(&self, account: Account) {
        let mut slot = self.slot();
        if matches!(&*slot, Slot::Elsewhere(_)) {
            *self.carried() = Some(self.0.vault.unsaved(account.session()));
            self.0.tasks.spawn("closing", async move { account.close().await });
            return;
        }
        self.adopt_into(&mut slot, account);
    }

    pub(super) fn adopt_into(&self, slot: &mut Slot, account: Account) {
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
