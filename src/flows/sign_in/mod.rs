//! Signing the service's account in and out (contract, section 2): which call in which state does what.
//! One step at a time, each in a task of its own, so that a caller who hangs up does not cut it in half.

mod codes;
mod custody;
mod outcome;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use self::outcome::Progress;
pub use self::outcome::Request;
pub use self::outcome::SignInError;
pub use self::outcome::View;
use crate::audit;
use crate::audit::Audit;
use crate::audit::SignInAct;
use crate::audit::Who;
use crate::domain::clock::Clock;
use crate::domain::ids::Secret;
use crate::domain::login::PendingSignIn;
use crate::domain::login::Phone;
use crate::domain::login::SignInStep;
use crate::flows::slowing::Slowing;
use crate::lifecycle::Tasks;
use crate::store::Store;
use crate::store::StoreError;
use crate::telegram::AccountState;
use crate::telegram::Custody;
use crate::telegram::Gateway;
use crate::telegram::Submission;
use crate::telegram::TelegramError;

/// A second request for a code within this time sends nothing.
const RESEND_AFTER: Duration = Duration::from_secs(60);

/// The outcome of a step that went well, in the audit log.
const OK: &str = "ok";

/// The sign-in of the service's account. Cloning shares it.
#[derive(Clone)]
pub struct SignIn(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    gateway: Gateway,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// How often codes are asked for.
    slowing: Slowing,
    /// One step at a time.
    turn: tokio::sync::Mutex<()>,
    /// What the store holds; written after the store.
    pending: Mutex<Option<PendingSignIn>>,
    /// One look at what is unsaved at a time.
    custody: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SignIn").finish_non_exhaustive()
    }
}

impl SignIn {
    /// Takes up what the store holds of an earlier process.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(
        store: Arc<dyn Store>,
        gateway: Gateway,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Result<Self, StoreError> {
        let mut pending = store.pending_sign_in().await?;
        let key = gateway.session().and_then(|session| session.home_key().cloned());
        if pending.as_ref().is_some_and(|pending| key.is_some() && pending.session.home_key() == key.as_ref())
        {
            // It is done: a process died after saving its session and before clearing its table. The session of a
            // sign-in that replaces a revoked one has another key, and stays pending.
            store.delete_pending_sign_in().await?;
            pending = None;
        }
        let pending = Mutex::new(pending);
        let (slowing, turn, custody) = Default::default();
        let sign_in =
            Self(Arc::new(Shared { store, gateway, clock, tasks, slowing, turn, pending, custody }));
        sign_in.watch_custody();
        Ok(sign_in)
    }

    /// Whether an account is signed in and its session saved: then there is nothing to do, whatever the request says.
    ///
    /// # Errors
    /// The session store cannot be reached, or Telegram cannot be asked.
    pub async fn is_signed_in(&self) -> Result<bool, SignInError> {
        self.in_turn(|sign_in| async move { sign_in.signed_in().await }).await
    }

    /// Takes the next step of the sign-in.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub async fn submit(&self, request: Request) -> Result<Progress, SignInError> {
        self.in_turn(|sign_in| async move { sign_in.step(request).await }).await
    }

    /// Signs out, or abandons the pending sign-in; nothing happens when there is neither.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub async fn abandon(&self, who: Who) -> Result<(), SignInError> {
        self.in_turn(|sign_in| async move { sign_in.end(&who).await }).await
    }

    /// How far the sign-in is.
    ///
    /// # Errors
    /// Nobody knows while the session store has not been read.
    pub fn view(&self) -> Result<View, SignInError> {
        let reason = match self.0.gateway.state() {
            AccountState::SignedIn(user) => return Ok(View::SignedIn(user)),
            AccountState::Elsewhere(owner) => return Ok(View::Standby { reason: owner.to_string() }),
            AccountState::Unknown(why) => return Err(SignInError::SessionStore(why)),
            AccountState::Unverified => {
                let text = "the imported session has not been verified with Telegram yet";
                return Err(TelegramError::Unreachable(text.to_owned()).into());
            }
            AccountState::SignedOut(reason) => reason,
        };
        Ok(match self.pending() {
            None => View::SignedOut { reason },
            Some(PendingSignIn { phone, step, .. }) => match step {
                SignInStep::CodeSent { delivery, .. } => View::CodeSent { phone, delivery },
                SignInStep::TwoFactorRequired { hint } => View::TwoFactorRequired { phone, hint },
            },
        })
    }

    /// Runs one step in a task of its own, after the steps before it.
    async fn in_turn<T, F, R>(&self, step: F) -> Result<T, SignInError>
    where
        F: FnOnce(Self) -> R + Send + 'static,
        R: Future<Output = Result<T, SignInError>> + Send,
        T: Send + 'static,
    {
        let sign_in = self.clone();
        let task = self.0.tasks.spawn("sign-in step", async move {
            let _turn = sign_in.0.turn.lock().await;
            if sign_in.0.tasks.stopping().is_cancelled() {
                return Err(SignInError::ShuttingDown);
            }
            sign_in.0.gateway.claim().await?;
            step(sign_in.clone()).await
        });
        task.await.map_err(|_| SignInError::Interrupted)?
    }

    /// Resolves when the step under way is done; once shutdown has begun, none follows it.
    pub async fn drained(&self) {
        drop(self.0.turn.lock().await);
    }

    fn pending(&self) -> Option<PendingSignIn> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn signed_in(&self) -> Result<bool, SignInError> {
        if !self.0.gateway.is_signed_in().await? {
            return Ok(false);
        }
        if !self.0.gateway.is_saved() {
            self.save().await?;
        }
        Ok(true)
    }

    async fn step(&self, request: Request) -> Result<Progress, SignInError> {
        if self.signed_in().await? {
            return Ok(Progress::SignedIn);
        }
        let refused = |error: SignInError| {
            request.note(SignInAct::Refused, error.code());
            Err(error)
        };
        let Some(pending) = self.pending() else {
            return match (&request.code, &request.two_factor_password) {
                (None, None) => self.request_code(&request).await,
                _ => refused(SignInError::NoCodeRequested),
            };
        };
        if pending.phone != request.phone {
            return refused(SignInError::InProgress);
        }
        match pending.step.clone() {
            SignInStep::CodeSent { sent_at, .. } => match (&request.code, &request.two_factor_password) {
                (Some(_), _) => self.submit_code(pending, &request).await,
                (None, Some(_)) => refused(SignInError::CodeMissing),
                (None, None) if !request.resend && self.0.clock.now().since(sent_at) < RESEND_AFTER => {
                    Ok(Progress::CodeSent)
                }
                (None, None) => self.resend_code(&pending, &request).await,
            },
            SignInStep::TwoFactorRequired { .. } => match (&request.code, &request.two_factor_password) {
                (_, Some(password)) => self.submit_two_factor(&pending, password, &request).await,
                (Some(_), None) => refused(SignInError::TwoFactorRequired),
                (None, None) => self.resend_code(&pending, &request).await,
            },
        }
    }

    async fn submit_code(&self, pending: PendingSignIn, request: &Request) -> Result<Progress, SignInError> {
        let Some(code) = &request.code else { return Err(SignInError::CodeMissing) };
        match self.0.gateway.submit_code(&pending, code).await {
            Ok(Submission::SignedIn(custody)) => {
                request.note(SignInAct::CodeSubmitted, OK);
                self.finish(custody, request).await
            }
            Ok(Submission::TwoFactorRequired { hint, session }) => {
                request.note(SignInAct::CodeSubmitted, SignInError::TwoFactorRequired.code());
                let step = SignInStep::TwoFactorRequired { hint };
                let pending = PendingSignIn { step, session, ..pending };
                self.put(pending.clone()).await?;
                match &request.two_factor_password {
                    Some(password) => self.submit_two_factor(&pending, password, request).await,
                    None => Err(SignInError::TwoFactorRequired),
                }
            }
            Err(error) => Err(self.failed(error, SignInAct::CodeSubmitted, request).await),
        }
    }

    async fn submit_two_factor(
        &self,
        pending: &PendingSignIn,
        password: &Secret<String>,
        request: &Request,
    ) -> Result<Progress, SignInError> {
        match self.0.gateway.submit_two_factor(pending, password).await {
            Ok(custody) => {
                request.note(SignInAct::PasswordSubmitted, OK);
                self.finish(custody, request).await
            }
            Err(error) => Err(self.failed(error, SignInAct::PasswordSubmitted, request).await),
        }
    }

    /// Forgets the attempt when Telegram's answer has ended it.
    async fn failed(&self, error: TelegramError, act: SignInAct, request: &Request) -> SignInError {
        let over = matches!(
            error,
            TelegramError::CodeExpired
                | TelegramError::SignedOut(_)
                | TelegramError::Migrate(_)
                | TelegramError::SignUpRequired
                | TelegramError::PhoneNumberBanned
        );
        let error = SignInError::from(error);
        request.note(act, error.code());
        if over && let Err(store) = self.forget().await {
            return store.into();
        }
        error
    }

    async fn finish(&self, custody: Custody, request: &Request) -> Result<Progress, SignInError> {
        request.note(SignInAct::SignedIn, OK);
        match custody {
            Custody::Saved => {}
            Custody::Unsaved => {
                // Ends the pending sign-in in the same step.
                self.settle_custody().await?;
                *self.0.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
        if !self.0.gateway.is_saved() {
            let text = "signed in, but the session could not be saved yet; it is kept safe and saved as soon as \
                        the session store can be reached: repeat the call";
            return Err(SignInError::SessionStore(text.to_owned()));
        }
        self.settle_custody().await?;
        self.forget().await?;
        Ok(Progress::SignedIn)
    }

    async fn end(&self, who: &Who) -> Result<(), SignInError> {
        let record = |act, phone: &Phone| {
            audit::record(who, &Audit::SignIn { act, phone: Some(phone), outcome: OK });
        };
        if let Some(pending) = self.pending() {
            self.0.gateway.cancel_code(&pending).await;
            self.forget().await?;
            record(SignInAct::Abandoned, &pending.phone);
        }
        let before = self.0.gateway.state();
        self.0.gateway.sign_out().await?;
        if let AccountState::SignedIn(user) = before {
            audit::record(
                who,
                &Audit::SignIn { act: SignInAct::SignedOut, phone: user.phone.as_ref(), outcome: OK },
            );
        }
        Ok(self.settle_custody().await?)
    }

    async fn put(&self, pending: PendingSignIn) -> Result<(), SignInError> {
        self.0.store.put_pending_sign_in(&pending).await?;
        *self.0.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(pending);
        Ok(())
    }

    async fn forget(&self) -> Result<(), StoreError> {
        self.0.store.delete_pending_sign_in().await?;
        *self.0.pending.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}
