//! The life of one bot: its stored session is loaded, or it signs in with its token; it is supervised and kept saved;
//! when Telegram ends the session, it signs in again. A lost session costs a sign-in and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::account::Status;
use super::custody::change_worth_saving;
use super::custody::first_delay;
use super::means::Means;
use super::session::Changes;
use super::tether::is_lost;
use super::tether::lost;
use crate::domain::account::AccountUser;
use crate::domain::account::TelegramSession;
use crate::domain::account::UpdatePosition;
use crate::domain::ids::Secret;
use crate::lifecycle::network_sleep;
use crate::vault::Lease;
use crate::vault::Ownership;
use crate::vault::Vault;
use crate::vault::VaultError;

/// One bot.
pub(super) struct Bot {
    pub(super) id: i64,
    /// What it may sign in with, in the order in which it is tried: what Telegram has accepted comes first.
    pub(super) tokens: watch::Sender<Vec<Secret<String>>>,
    state: Mutex<State>,
    pub(super) means: Means,
    /// Where its session is kept.
    vault: Vault,
    /// In which epoch of its lease it runs.
    epoch: AtomicU64,
    stopping: CancellationToken,
    ended: CancellationToken,
}

pub(super) struct State {
    pub(super) phase: Phase,
    /// As last known.
    user: Option<AccountUser>,
    /// The token that Telegram has accepted in this process.
    pub(super) accepted: Option<Secret<String>>,
}

pub(super) enum Phase {
    /// The session store cannot be read.
    Unknown,
    /// Another process runs it.
    Elsewhere,
    Connecting,
    /// Telegram cannot be reached, or asks to wait.
    Reconnecting,
    TokenInvalid,
    /// Telegram has deactivated it.
    Deactivated,
    /// With a session; the account says more.
    SignedIn(Account),
}

impl Bot {
    /// A bot that does nothing before [`Bot::live`]. `account`: already signed in with the token.
    pub(super) fn new(id: i64, token: Secret<String>, account: Option<&Account>, means: &Means) -> Self {
        let state = State {
            phase: Phase::Connecting,
            user: account.and_then(Account::user),
            accepted: account.map(|_| token.clone()),
        };
        Self {
            id,
            tokens: watch::Sender::new(vec![token]),
            state: Mutex::new(state),
            means: means.clone(),
            vault: means.vault.beside(&session_name(id)),
            epoch: AtomicU64::new(0),
            stopping: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn account(&self) -> Option<Account> {
        match &self.state().phase {
            Phase::SignedIn(account) if account.signed_out().is_none() => Some(account.clone()),
            Phase::SignedIn(_)
            | Phase::Unknown
            | Phase::Elsewhere
            | Phase::Connecting
            | Phase::Reconnecting
            | Phase::TokenInvalid
            | Phase::Deactivated => None,
        }
    }

    pub(super) fn user(&self) -> Option<AccountUser> {
        self.account().and_then(|account| account.user()).or_else(|| self.state().user.clone())
    }

    pub(super) fn condition(&self) -> &'static str {
        match &self.state().phase {
            Phase::Unknown => "unknown",
            Phase::Elsewhere => "standby",
            Phase::Connecting => "connecting",
            Phase::Reconnecting => "reconnecting",
            Phase::TokenInvalid => "token_invalid",
            Phase::Deactivated => "signed_out",
            Phase::SignedIn(account) => match &*account.status().borrow() {
                Status::Connecting => "connecting",
                Status::Ready => "ok",
                // It is about to sign in again.
                Status::Reconnecting(_) | Status::SignedOut(_) => "reconnecting",
            },
        }
    }

    /// Whether another process runs it.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.state().phase, Phase::Elsewhere)
    }

    /// Whether it has been told to stop, or has died.
    pub(super) fn is_over(&self) -> bool {
        self.stopping.is_cancelled() || self.ended.is_cancelled()
    }

    /// Stops it and waits until it is saved and closed.
    pub(super) async fn stop(&self) {
        self.stopping.cancel();
        self.ended.cancelled().await;
    }

    /// Ends the session of a bot that has been stopped.
    pub(super) async fn forget(&self) {
        if let Err(error) = self.end_session().await {
            tracing::warn!(bot = self.id, %error, "the session of a bot that nobody uses stays stored");
        }
    }

    async fn end_session(&self) -> Result<(), VaultError> {
        // The bot that was stopped has given its lease up, and takes none any more.
        let vault = self.means.vault.beside(&session_name(self.id));
        if let Some(lease) = vault.lease() {
            lease.attempt().await?;
            vault.owned()?;
        }
        let ended = async {
            let session = vault.load().await?.filter(|session| self.is_ours(session));
            if session.is_some() {
                vault.delete().await?;
            }
            Ok(session)
        };
        match (ended.await, vault.lease()) {
            (Ok(Some(session)), lease) => self.means.discard(self.means.account(session, lease), true),
            (Ok(None), Some(lease)) => lease.give_up().await,
            (Err(error), Some(lease)) => {
                lease.give_up().await;
                return Err(error);
            }
            (Ok(None), None) => {}
            (Err(error), None) => return Err(error),
        }
        Ok(())
    }

    /// Lives until it is stopped. `account`: see [`Bot::new`].
    pub(super) async fn live(&self, account: Option<Account>) {
        let _ended = self.ended.clone().drop_guard();
        let Some(lease) = self.vault.lease() else { return self.run(account).await };
        if let Some(Err(error)) = self.unless_stopped(lease.attempt()).await {
            tracing::warn!(bot = self.id, %error, "the bot's lease could not be taken yet");
        }
        lease.keep(&self.means.tasks);
        let mut account = account;
        while !self.stopping.is_cancelled() && self.unless_stopped(self.owned(lease)).await.is_some() {
            if let Some(account) = &account {
                account.live_session().bind(Some(lease));
            }
            self.run(account.take()).await;
        }
        if let Some(account) = account {
            self.means.discard(account, false); // it never was the bot's session
        }
        lease.release().await;
    }

    /// Resolves when this process may run the bot.
    async fn owned(&self, lease: &Lease) {
        let mut ownership = lease.ownership();
        loop {
            let now = ownership.borrow_and_update().clone();
            match now {
                Ownership::Held { epoch } => {
                    self.epoch.store(epoch, Ordering::SeqCst);
                    self.state().phase = Phase::Connecting;
                    return;
                }
                Ownership::Standby(_) => self.state().phase = Phase::Elsewhere,
                Ownership::Unknown(_) | Ownership::Lapsed => self.state().phase = Phase::Unknown,
            }
            if ownership.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Runs until it is stopped or another process has it.
    async fn run(&self, account: Option<Account>) {
        let mut saved = None;
        let mut account = match account {
            Some(account) => {
                // Only to go on where it was: what cannot be read now is not waited for.
                if let Some(Ok(Some(session))) = self.unless_over(self.vault.load()).await {
                    self.go_on(&account, &session);
                }
                account
            }
            None => match self.unless_over(self.load()).await {
                None => return,
                Some(Some(session)) => {
                    let account = self.means.account(session, self.vault.lease());
                    saved = Some(*account.live_session().changes().borrow());
                    account
                }
                Some(None) => match self.unless_over(self.sign_in(Duration::ZERO)).await {
                    None => return,
                    Some(account) => account,
                },
            },
        };
        let (shortest, longest) = self.means.settings.back_off;
        let mut pause = Duration::ZERO;
        loop {
            self.adopt(&account);
            let begun = Instant::now();
            self.keep_saved(&account, saved.take()).await;
            account.close().await;
            if self.stopping.is_cancelled() || self.is_lost() {
                return;
            }
            tracing::warn!(bot = self.id, "Telegram has ended the bot's session; it signs in again");
            // Whoever ends each session at once is not to be asked for the next at once.
            let lasted = begun.elapsed() >= longest;
            pause = if lasted { Duration::ZERO } else { (pause * 2).clamp(shortest, longest) };
            let ended = account.session();
            account = match self.unless_over(self.sign_in(pause)).await {
                Some(account) => account,
                None => return,
            };
            self.go_on(&account, &ended);
        }
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Does the work unless the bot is stopped or lost before it is done.
    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.over() => None,
        }
    }

    /// Resolves when it is stopped, or another process has it.
    async fn over(&self) {
        let epoch = self.epoch.load(Ordering::SeqCst);
        tokio::select! { () = self.stopping.cancelled() => {}, () = lost(self.vault.lease(), epoch) => {} }
    }

    fn is_lost(&self) -> bool {
        let epoch = self.epoch.load(Ordering::SeqCst);
        self.vault.lease().is_some_and(|lease| is_lost(&lease.ownership().borrow(), epoch))
    }

    /// The stored session, once the vault has said whether there is one.
    async fn load(&self) -> Option<TelegramSession> {
        let (mut pause, longest) = self.means.settings.back_off;
        loop {
            match self.vault.load().await {
                Ok(session) => {
                    self.state().phase = Phase::Connecting;
                    return session.filter(|session| self.is_ours(session) && session.home_key().is_some());
                }
                Err(error) => {
                    tracing::error!(bot = self.id, %error, "the bot waits for its stored session");
                    self.state().phase = Phase::Unknown;
                }
            }
            network_sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn is_ours(&self, session: &TelegramSession) -> bool {
        session.user.as_ref().is_some_and(|user| user.id == self.id)
    }

    /// Continues an ended session in a fresh one. The update position is the bot's, not the session's: from there on
    /// comes what was written meanwhile. A changed name is learnt once more when the bot connects, because then it is
    /// told.
    fn go_on(&self, account: &Account, ended: &TelegramSession) {
        let live = account.live_session();
        if ended.updates.pts > 0 && self.is_ours(ended) {
            // The rest belongs to the session.
            let UpdatePosition { pts, date, .. } = ended.updates;
            live.set_updates(UpdatePosition { pts, date, ..live.updates() });
        }
        if let (Some(known), Some(user)) = (&ended.user, account.user()) {
            live.set_user(AccountUser { username: known.username.clone(), ..user });
        }
    }

    /// From here on it is this account.
    fn adopt(&self, account: &Account) {
        let mut state = self.state();
        state.user = account.user();
        state.phase = Phase::SignedIn(account.clone());
        drop(state);
        account.live_session().bind(self.vault.lease());
        account.supervise();
    }

    /// Saves changes of the login at once and progress after a delay, until the account is signed out or the bot is
    /// stopped. `saved`: what the vault holds.
    async fn keep_saved(&self, account: &Account, mut saved: Option<Changes>) {
        let settings = &self.means.settings;
        let (shortest, longest) = settings.back_off;
        let mut changes = account.live_session().changes();
        let mut pause = Duration::ZERO;
        // The session is saved when it is new; progress is what follows.
        let mut delay = first_delay(settings.save_delay);
        loop {
            let due = async {
                match saved {
                    None => network_sleep(pause).await,
                    Some(saved) => {
                        change_worth_saving(&mut changes, saved, delay).await;
                        delay = settings.save_delay;
                    }
                }
            };
            tokio::select! {
                () = due => {}
                () = account.closed() => return,
                () = self.over() => break,
            }
            let now = *changes.borrow_and_update();
            let mut saving = std::pin::pin!(self.save(account, now));
            tokio::select! {
                done = &mut saving => saved = done,
                () = self.stopping.cancelled() => {
                    // The connection does not wait for the store; the last save does, because two must not meet.
                    account.close().await;
                    saved = saving.await;
                    break;
                }
            }
            pause = if saved.is_some() { Duration::ZERO } else { (pause * 2).clamp(shortest, longest) };
        }
        account.close().await;
        let now = *changes.borrow();
        if saved != Some(now) && !self.is_lost() {
            self.save(account, now).await;
        }
    }

    async fn save(&self, account: &Account, now: Changes) -> Option<Changes> {
        match self.vault.save(&account.session()).await {
            Ok(()) => Some(now),
            Err(error) => {
                tracing::warn!(bot = self.id, %error, "the bot's session was not saved");
                None
            }
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Under which name its session is kept (contract, section 2).
fn session_name(bot: i64) -> String {
    format!("bot-{bot}.session")
}
