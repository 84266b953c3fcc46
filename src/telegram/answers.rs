//! What the gateway answers: whether an account is signed in, what a step of the sign-in led to, why it could not be
//! taken.

use std::time::Duration;

use super::errors::TelegramError;
use crate::domain::account::AccountUser;
use crate::domain::account::TelegramSession;
use crate::domain::login::CodeDelivery;
use crate::vault::Holder;
use crate::vault::VaultError;

/// Whether an account is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// The session store has not been read yet, so nobody knows.
    Unknown(String),
    /// Another process owns the session: what is signed in is signed in there.
    Elsewhere(Holder),
    /// No account, and why it was signed out if it once was.
    SignedOut(Option<String>),
    /// A session was moved in, and Telegram has not said yet whose it is, or whether it is still good.
    Unverified,
    /// This account.
    SignedIn(AccountUser),
}

/// Whether a new session is in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Custody {
    /// It is.
    Saved,
    /// The vault did not take it: the caller keeps what [`Gateway::unsaved`](super::Gateway::unsaved) gives. The gateway tries again.
    Unsaved,
}

/// What asking for a code led to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and only passed on")]
pub enum CodeRequest {
    /// Telegram has sent a code. The parts are what [`PendingSignIn`](crate::domain::login::PendingSignIn) is made of.
    Sent {
        /// Telegram's handle for the code.
        phone_code_hash: String,
        /// What it said of the code.
        delivery: CodeDelivery,
        /// The session to go on with.
        session: TelegramSession,
    },
    /// No code was needed.
    SignedIn(Custody),
}

/// What submitting a code led to.
#[derive(Debug)]
pub enum Submission {
    /// Signed in.
    SignedIn(Custody),
    /// The code was right; the 2FA password is needed too.
    TwoFactorRequired {
        /// The owner's hint.
        hint: Option<String>,
        /// The session to go on with.
        session: TelegramSession,
    },
}

/// Why the gateway could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Telegram said no, or nothing.
    #[error(transparent)]
    Telegram(#[from] TelegramError),
    /// Another process owns the session.
    #[error("{owner}")]
    NotOwner {
        /// Who it is.
        owner: Holder,
        /// How long it may take at most until the session has another owner, should that one be gone.
        wait: Duration,
    },
    /// The session store did.
    #[error(transparent)]
    Vault(#[from] VaultError),
}
