//! What goes into a step of the sign-in and what comes out: the request, the progress, the refusals, the view.

use std::time::Duration;

use crate::audit;
use crate::audit::Audit;
use crate::audit::SignInAct;
use crate::audit::Who;
use crate::domain::account::AccountUser;
use crate::domain::ids::Secret;
use crate::domain::login::CodeDelivery;
use crate::domain::login::LoginCode;
use crate::domain::login::Phone;
use crate::flows::developers::seconds;
use crate::store::StoreError;
use crate::telegram::GatewayError;
use crate::telegram::TelegramError;

/// What the caller brings.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub who: Who,
    /// Whose sign-in.
    pub phone: Phone,
    /// The login code.
    pub code: Option<LoginCode>,
    /// The 2FA password.
    pub two_factor_password: Option<Secret<String>>,
    /// Send another code now.
    pub resend: bool,
}

impl Request {
    /// Tells the audit log what became of a step.
    pub(super) fn note(&self, act: SignInAct, outcome: &'static str) {
        audit::record(&self.who, &Audit::SignIn { act, phone: Some(&self.phone), outcome });
    }
}

/// How far the sign-in is after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An account is signed in, and its session is saved.
    SignedIn,
    /// A code is under way.
    CodeSent,
}

/// Why a step was not taken. A step that fails loses nothing, unless its variant says so.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// A code or password came, but none was asked for.
    #[error("no code has been requested for this number: send `phone` alone first")]
    NoCodeRequested,
    /// Another number's sign-in is pending.
    #[error("the sign-in of another number is pending: finish it, or abandon it with DELETE /sign_in")]
    InProgress,
    /// A 2FA password came while the code is still missing.
    #[error("the login code comes first: send it as `password`")]
    CodeMissing,
    /// Too many codes were asked for, of this number or of any.
    #[error("too many login codes were asked for here: try again in {} s", seconds(*.0))]
    TooManyCodes(Duration),
    /// The code is wrong; the attempt stays open.
    #[error("the code is wrong; `password` is the login code that Telegram sent, not the 2FA password")]
    CodeInvalid,
    /// The code is no longer good; the attempt is over.
    #[error(
        "the code has expired: send `phone` alone for a new one; \
         note that Telegram cancels a code that is sent through a Telegram chat"
    )]
    CodeExpired,
    /// The 2FA password is needed.
    #[error("this account has a 2FA password: send it as `two_factor_password`")]
    TwoFactorRequired,
    /// The 2FA password is wrong; the attempt stays open.
    #[error("the 2FA password is wrong")]
    TwoFactorInvalid,
    /// The session is not saved, or it is not known whether one exists. Retried; repeat the call.
    #[error("{0}")]
    SessionStore(String),
    /// Another process owns the session.
    #[error("{text}: sign in and out there")]
    NotOwner {
        /// Who it is.
        text: String,
        /// How long it may take at most until the session has another owner, should that one be gone.
        wait: Duration,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whatever else Telegram answered.
    #[error(transparent)]
    Telegram(TelegramError),
    /// The service is being stopped; nothing was begun.
    #[error("the service is shutting down: repeat the request")]
    ShuttingDown,
    /// The step's task died.
    #[error("the sign-in step was interrupted")]
    Interrupted,
}

impl SignInError {
    /// Its name in the audit log: the code that the edge answers with.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoCodeRequested => "NO_CODE_REQUESTED",
            Self::InProgress => "SIGN_IN_IN_PROGRESS",
            Self::CodeMissing => "INVALID_REQUEST",
            Self::TooManyCodes(_) => "FLOOD_WAIT",
            Self::CodeInvalid => "PHONE_CODE_INVALID",
            Self::CodeExpired => "PHONE_CODE_EXPIRED",
            Self::TwoFactorRequired => "TWO_FACTOR_REQUIRED",
            Self::TwoFactorInvalid => "TWO_FACTOR_INVALID",
            Self::SessionStore(_) => "SESSION_STORE_UNAVAILABLE",
            Self::NotOwner { .. } => "NOT_OWNER",
            Self::Store(_) | Self::ShuttingDown => "UNAVAILABLE",
            Self::Interrupted => "INTERNAL",
            Self::Telegram(error) => telegram_code(error),
        }
    }
}

const fn telegram_code(error: &TelegramError) -> &'static str {
    match error {
        TelegramError::PhoneNumberInvalid => "PHONE_NUMBER_INVALID",
        TelegramError::PhoneNumberBanned => "PHONE_NUMBER_BANNED",
        TelegramError::SignUpRequired => "SIGN_UP_REQUIRED",
        TelegramError::CodeInvalid => "PHONE_CODE_INVALID",
        TelegramError::CodeExpired => "PHONE_CODE_EXPIRED",
        TelegramError::TwoFactorRequired => "TWO_FACTOR_REQUIRED",
        TelegramError::TwoFactorInvalid => "TWO_FACTOR_INVALID",
        TelegramError::EmailSetupRequired => "EMAIL_SETUP_REQUIRED",
        TelegramError::PaymentRequired => "PAYMENT_REQUIRED",
        TelegramError::FloodWait(_) => "FLOOD_WAIT",
        TelegramError::Unreachable(_) => "TELEGRAM_UNREACHABLE",
        TelegramError::ApiIdRefused(_)
        | TelegramError::ResendUnavailable
        | TelegramError::ChallengeSpent
        | TelegramError::StartOver
        | TelegramError::Migrate(_)
        | TelegramError::SignedOut(_)
        | TelegramError::TokenInvalid
        | TelegramError::PeerUnreachable(_)
        | TelegramError::MessageGone
        | TelegramError::QueryExpired
        | TelegramError::AlreadyDone
        | TelegramError::Unexpected(_) => "INTERNAL",
    }
}

impl From<TelegramError> for SignInError {
    fn from(error: TelegramError) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest goes to the edge as it is")]
        match error {
            TelegramError::CodeInvalid => Self::CodeInvalid,
            // A key that Telegram has forgotten, or left behind in another data centre, takes its code with it.
            TelegramError::CodeExpired | TelegramError::SignedOut(_) | TelegramError::Migrate(_) => {
                Self::CodeExpired
            }
            TelegramError::TwoFactorRequired => Self::TwoFactorRequired,
            TelegramError::TwoFactorInvalid => Self::TwoFactorInvalid,
            other => Self::Telegram(other),
        }
    }
}

impl From<GatewayError> for SignInError {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Telegram(error) => Self::Telegram(error),
            GatewayError::NotOwner { owner, wait } => Self::NotOwner { text: owner.to_string(), wait },
            GatewayError::Vault(error) => Self::SessionStore(error.to_string()),
        }
    }
}

/// What `GET /sign_in` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Another process owns the session; this one stands by.
    Standby {
        /// Who it is.
        reason: String,
    },
    /// Nobody is signed in and nothing is pending.
    SignedOut {
        /// Why, where there once was an account.
        reason: Option<String>,
    },
    /// A code is under way.
    CodeSent {
        /// To this number.
        phone: Phone,
        /// In this way.
        delivery: CodeDelivery,
    },
    /// The 2FA password is awaited.
    TwoFactorRequired {
        /// For this number.
        phone: Phone,
        /// The owner's hint.
        hint: Option<String>,
    },
    /// This account is signed in.
    SignedIn(AccountUser),
}
