//! Why an app is refused. Which status and code that is, `http/error` says.

use std::time::Duration;

use crate::flows::developers::seconds;
use crate::store::StoreError;

/// Why an app does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is no such project.
    #[error("there is no project with this id")]
    ProjectNotFound,
    /// The project is paused.
    #[error("the project is paused: no new sign-ins")]
    ProjectInactive,
    /// The project demands its secret key.
    #[error("the project's public access is off: send its secret key as a Bearer token")]
    PublicAccessDisabled,
    /// A page that may not call.
    #[error("this origin is not among the project's allowed_origins")]
    OriginNotAllowed,
    /// The secret key is missing or not this project's.
    #[error("the secret key is missing or not this project's")]
    SecretWrong,
    /// There is no such session in this project.
    #[error("there is no session with this token in this project")]
    SessionNotFound,
    /// Not a proof of this project.
    #[error("the proof is not one, or its signature is not this project's")]
    InvalidProof,
    /// A phone number can only be asked for by a bot.
    #[error("req_phone needs a bot: set TELEGRAM_BOT_TOKEN or the project's bot_token")]
    PhoneNeedsBot,
    /// Nobody can deliver the prompt.
    #[error(
        "no Telegram account delivers prompts: sign one in with POST /sign_in, or set TELEGRAM_BOT_TOKEN"
    )]
    NoTelegramAccount,
    /// The user account has no username, so there is no link to it.
    #[error(
        "the signed-in Telegram account has no username: give it one in Telegram, or set CONNECTOR_DEEPLINK_BY_PHONE"
    )]
    NoUsername,
    /// The account that delivers the prompts has never been reached.
    #[error("Telegram has not been reached yet, so the account that delivers the prompts is not known")]
    TelegramUnreachable,
    /// Another process owns the account that delivers the prompts. How long it may take at most until somebody else does,
    /// should that one be gone.
    #[error(
        "another process owns the Telegram account that delivers the prompts, and this one stands by: ask that one, \
         or repeat the request"
    )]
    NotOwner(Duration),
    /// Too many wrong keys in too short a time.
    #[error("too many wrong keys: try again in {} s", seconds(*.0))]
    TooManyAttempts(Duration),
    /// Too many sessions in too short a time, of this project or for this address.
    #[error("too many new sessions: try again in {} s", seconds(*.0))]
    TooManySessions(Duration),
    /// Too many polls of one session in a second.
    #[error("this session is polled too often: every 2 s is enough, and `wait` holds the answer")]
    TooManyPolls(Duration),
    /// Too many streams and held polls.
    #[error("too many streams: poll, or try again later")]
    TooManyHeld,
    /// The service is out of ids or cannot sign: our fault.
    #[error("the proof could not be signed")]
    Unsigned,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}
