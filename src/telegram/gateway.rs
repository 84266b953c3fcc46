//! The account of this service: whether one is signed in, the steps of signing one in and out, and the custody of its
//! session. A sign-in is complete here when the session is in the vault; what is pending between steps the caller keeps.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Settings;
use super::account::Account;
use super::account::Status;
use super::answers::AccountState;
use super::answers::CodeRequest;
use super::answers::Custody;
use super::answers::GatewayError;
use super::answers::Submission;
use super::conversation::EventSink;
use super::errors::TelegramError;
use super::sign_in;
use super::sign_in::SentBy;
use crate::domain::account::TelegramSession;
use crate::domain::account::UnsavedSession;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;
use crate::domain::login::LoginCode;
use crate::domain::login::PendingSignIn;
use crate::domain::login::Phone;
use crate::domain::login::SignInStep;
use crate::lifecycle::Tasks;
use crate::vault::Holder;
use crate::vault::Vault;
use crate::vault::VaultError;

/// The service's account. Cloning shares it.
#[derive(Clone)]
pub struct Gateway(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) vault: Vault,
    pub(super) ids: Ids,
    pub(super) tasks: Tasks,
    pub(super) events: EventSink,
    pub(super) slot: Mutex<Slot>,
    /// The account that is being signed in; its connection outlives a step.
    pub(super) signing_in: tokio::sync::Mutex<Option<SigningIn>>,
    /// Whether the vault holds the login as it is now.
    pub(super) saved: watch::Sender<bool>,
    /// Whether the vault's last step succeeded.
    pub(super) vault_reached: AtomicBool,
    /// Held while the vault is written: what is written must still be the account when it is.
    pub(super) custody: tokio::sync::Mutex<()>,
    /// In which epoch the session was taken up; held while a change of owner is followed.
    pub(super) taken_up: tokio::sync::Mutex<Option<u64>>,
    /// A session that the vault has not taken, while this process may not use it.
    pub(super) carried: Mutex<Option<UnsavedSession>>,
}

/// A sign-in under way.
pub(super) struct SigningIn {
    pub(super) account: Account,
    /// Whether it is certain that Telegram has not said yes to this key already: an answer that never came, to this
    /// process or to one before it, may have been a yes.
    asked: bool,
}

/// Where a sign-in stands once that is certain.
enum Standing {
    Open(Account),
    SignedIn(Custody),
}

pub(super) enum Slot {
    Unknown(String),
    /// Another process owns the session.
    Elsewhere(Holder),
    SignedOut(Option<String>),
    SignedIn(Account),
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl Gateway {
    /// Opens the account with what the vault holds, or with `unsaved`, a newer session the vault has not taken yet.
    ///
    /// # Errors
    /// What the vault holds cannot be used ([`VaultError`]). That it cannot be *reached* is no error: the gateway
    /// starts not knowing, and keeps asking.
    pub async fn open(
        settings: Settings,
        vault: Vault,
        unsaved: Option<UnsavedSession>,
        ids: Ids,
        tasks: Tasks,
        events: EventSink,
    ) -> Result<Self, VaultError> {
        let slot = Mutex::new(Slot::Unknown("the session store has not been read yet".to_owned()));
        let signing_in = tokio::sync::Mutex::default();
        let shared = Shared {
            settings,
            vault,
            ids,
            tasks,
            events,
            slot,
            signing_in,
            saved: watch::Sender::new(unsaved.is_none()),
            vault_reached: AtomicBool::new(true),
            custody: tokio::sync::Mutex::default(),
            taken_up: tokio::sync::Mutex::default(),
            carried: Mutex::new(unsaved),
        };
        let gateway = Self(Arc::new(shared));
        let begun = match gateway.0.vault.lease().cloned() {
            Some(lease) => gateway.stand_by(&lease).await,
            None => gateway.take_up().await,
        };
        match begun {
            Ok(()) => {}
            Err(error) if error.is_unavailable() => {
                tracing::error!(%error, "starting without the session store");
            }
            Err(error) => {
                gateway.close().await;
                return Err(error);
            }
        }
        Ok(gateway)
    }

    /// Whether an account is signed in, as far as is known without asking anyone.
    pub fn state(&self) -> AccountState {
        match &*self.slot() {
            Slot::Unknown(why) => AccountState::Unknown(why.clone()),
            Slot::Elsewhere(holder) => AccountState::Elsewhere(holder.clone()),
            Slot::SignedOut(reason) => AccountState::SignedOut(reason.clone()),
            Slot::SignedIn(account) => match (account.signed_out(), account.session().user) {
                (None, Some(user)) => AccountState::SignedIn(user),
                (None, None) => AccountState::Unverified,
                (reason, _) => AccountState::SignedOut(reason),
            },
        }
    }

    /// The signed-in account's session as it is now.
    pub fn session(&self) -> Option<TelegramSession> {
        self.signed_in().map(|account| account.session())
    }

    /// The signed-in user account.
    pub fn account(&self) -> Option<Account> {
        self.signed_in().filter(|account| account.signed_out().is_none())
    }

    /// Telegram's name for why it has ended the account's session, where it has.
    pub fn ended(&self) -> Option<String> {
        self.signed_in().and_then(|account| account.signed_out())
    }

    /// One word for `/readyz`.
    pub fn condition(&self) -> &'static str {
        match &*self.slot() {
            Slot::Unknown(_) => "unknown",
            Slot::Elsewhere(_) => "standby",
            Slot::SignedOut(_) => "signed_out",
            Slot::SignedIn(account) => match &*account.status().borrow() {
                Status::Connecting => "connecting",
                Status::Ready => "ok",
                Status::Reconnecting(_) => "reconnecting",
                Status::SignedOut(_) => "signed_out",
            },
        }
    }

    /// Whether an account is signed in, confirmed by Telegram at least once in this process.
    ///
    /// # Errors
    /// The vault cannot be read, or Telegram cannot be asked.
    pub async fn is_signed_in(&self) -> Result<bool, GatewayError> {
        self.claim().await?;
        if matches!(&*self.slot(), Slot::Unknown(_)) {
            self.load().await?;
        }
        let Some(account) = self.signed_in() else {
            return Ok(false);
        };
        if account.signed_out().is_some() || account.is_verified() {
            return Ok(account.signed_out().is_none());
        }
        match account.whoami().await {
            Ok(user) => {
                if account.user().is_none() {
                    // It was moved in.
                    account.live_session().set_user(user);
                    self.save().await?;
                }
                Ok(true)
            }
            Err(TelegramError::SignedOut(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks Telegram for a code in a fresh session.
    pub async fn request_code(&self, phone: &Phone) -> Result<CodeRequest, TelegramError> {
        let mut signing_in = self.0.signing_in.lock().await;
        let account = self.open_account(TelegramSession::default());
        *signing_in = Some(SigningIn { account: account.clone(), asked: true });
        let outcome = sign_in::send_code(&account, phone).await;
        if outcome.is_err() {
            *signing_in = None;
        }
        self.code_requested(&mut signing_in, account, outcome).await
    }

    /// Asks Telegram to send the pending code in the next way; a new code when there is none left, or when the account
    /// has moved to another data centre.
    pub async fn resend_code(&self, pending: &PendingSignIn) -> Result<CodeRequest, TelegramError> {
        let mut signing_in = self.0.signing_in.lock().await;
        let account = match self.standing(&mut signing_in, &pending.session).await? {
            Standing::SignedIn(custody) => return Ok(CodeRequest::SignedIn(custody)),
            Standing::Open(account) => account,
        };
        let resent = match &pending.step {
            SignInStep::CodeSent { phone_code_hash, .. } => {
                sign_in::resend_code(&account, &pending.phone, phone_code_hash).await
            }
            SignInStep::TwoFactorRequired { .. } => Err(TelegramError::ResendUnavailable),
        };
        let outcome = match resent {
            Err(
                TelegramError::ResendUnavailable | TelegramError::CodeExpired | TelegramError::Migrate(_),
            ) => sign_in::send_code(&account, &pending.phone).await,
            outcome => outcome,
        };
        let outcome = outcome.map_err(|error| doubt(&mut signing_in, error));
        self.code_requested(&mut signing_in, account, outcome).await
    }

    /// Submits the code. Once this says "signed in", a crash cannot undo it (see [`Custody`]).
    pub async fn submit_code(
        &self,
        pending: &PendingSignIn,
        code: &LoginCode,
    ) -> Result<Submission, TelegramError> {
        let SignInStep::CodeSent { phone_code_hash, delivery, .. } = &pending.step else {
            return Err(TelegramError::CodeExpired);
        };
        let mut signing_in = self.0.signing_in.lock().await;
        let account = match self.standing(&mut signing_in, &pending.session).await? {
            Standing::SignedIn(custody) => return Ok(Submission::SignedIn(custody)),
            Standing::Open(account) => account,
        };
        let by_email = delivery.by_email();
        match sign_in::sign_in(&account, &pending.phone, phone_code_hash, code, by_email).await {
            Ok(_) => Ok(Submission::SignedIn(self.complete(&mut signing_in, account).await)),
            Err(TelegramError::TwoFactorRequired) => Ok(Submission::TwoFactorRequired {
                // The hint is a courtesy: without it the password can still be given.
                hint: sign_in::two_factor_hint(&account).await.unwrap_or_default(),
                session: account.session(),
            }),
            Err(error) => Err(doubt(&mut signing_in, error)),
        }
    }

    /// Submits the 2FA password. Once this succeeds, a crash cannot undo it (see [`Custody`]).
    pub async fn submit_two_factor(
        &self,
        pending: &PendingSignIn,
        password: &Secret<String>,
    ) -> Result<Custody, TelegramError> {
        let mut signing_in = self.0.signing_in.lock().await;
        let account = match self.standing(&mut signing_in, &pending.session).await? {
            Standing::SignedIn(custody) => return Ok(custody),
            Standing::Open(account) => account,
        };
        match sign_in::check_password(&account, password).await {
            Ok(_) => Ok(self.complete(&mut signing_in, account).await),
            Err(error) => Err(doubt(&mut signing_in, error)),
        }
    }

    /// Takes the pending code back (`auth.cancelCode`): a courtesy. Where Telegram does not hear or heed it, the code
    /// expires by itself, and the operator is free all the same.
    pub async fn cancel_code(&self, pending: &PendingSignIn) {
        let mut signing_in = self.0.signing_in.lock().await;
        let account = self.resume(&mut signing_in, &pending.session).account.clone();
        if let SignInStep::CodeSent { phone_code_hash, .. } = &pending.step
            && let Err(error) = sign_in::cancel_code(&account, &pending.phone, phone_code_hash).await
        {
            tracing::warn!(%error, "the abandoned code could not be taken back; it expires by itself");
        }
        *signing_in = None;
        account.close().await;
    }

    pub(super) fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.0.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn signed_in(&self) -> Option<Account> {
        match &*self.slot() {
            Slot::SignedIn(account) => Some(account.clone()),
            Slot::Unknown(_) | Slot::Elsewhere(_) | Slot::SignedOut(_) => None,
        }
    }

    pub(super) fn open_account(&self, session: TelegramSession) -> Account {
        let Shared { settings, ids, tasks, events, .. } = &*self.0;
        let account = Account::new(session, settings.clone(), ids.clone(), tasks.clone(), Arc::clone(events));
        account.live_session().bind(self.0.vault.lease());
        account
    }

    /// The sign-in that goes on: the one whose connection is open, or one opened anew from what was stored.
    fn resume<'a>(
        &self,
        signing_in: &'a mut Option<SigningIn>,
        session: &TelegramSession,
    ) -> &'a mut SigningIn {
        signing_in.take_if(|open| {
            let open = open.account.session();
            open.home_dc != session.home_dc || open.home_key() != session.home_key()
        });
        signing_in
            .get_or_insert_with(|| SigningIn { account: self.open_account(session.clone()), asked: false })
    }

    /// Makes certain that Telegram has not said yes already.
    async fn standing(
        &self,
        signing_in: &mut Option<SigningIn>,
        session: &TelegramSession,
    ) -> Result<Standing, TelegramError> {
        let current = self.resume(signing_in, session);
        let account = current.account.clone();
        if current.asked {
            return Ok(Standing::Open(account));
        }
        match account.whoami().await {
            Ok(user) => {
                sign_in::record(&account, user).await;
                Ok(Standing::SignedIn(self.complete(signing_in, account).await))
            }
            Err(TelegramError::SignedOut(name)) if name == "AUTH_KEY_UNREGISTERED" => {
                current.asked = true;
                Ok(Standing::Open(account))
            }
            Err(TelegramError::TwoFactorRequired) => {
                current.asked = true;
                Ok(Standing::Open(account))
            }
            Err(error) => Err(error),
        }
    }

    async fn code_requested(
        &self,
        signing_in: &mut Option<SigningIn>,
        account: Account,
        outcome: Result<SentBy, TelegramError>,
    ) -> Result<CodeRequest, TelegramError> {
        match outcome {
            Ok(SentBy::Code { phone_code_hash, delivery }) => {
                Ok(CodeRequest::Sent { phone_code_hash, delivery, session: account.session() })
            }
            Ok(SentBy::Nothing) => Ok(CodeRequest::SignedIn(self.complete(signing_in, account).await)),
            Err(error) => Err(error),
        }
    }
}

/// After an answer that never came, nothing is certain.
fn doubt(signing_in: &mut Option<SigningIn>, error: TelegramError) -> TelegramError {
    if let Some(current) = signing_in.as_mut().filter(|_| error.is_unreachable()) {
        current.asked = false;
    }
    error
}
