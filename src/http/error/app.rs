//! Errors of what apps and developers call, as statuses and codes; the second half of `error`.

use poem_openapi::ApiResponse;
use poem_openapi::payload::Json;

use super::ApiError;
use super::ErrorBody;
use super::body;
use crate::domain::project_wishes::BadWish;
use crate::flows::auth::AuthError;
use crate::flows::deliveries::DeliveryError;
use crate::flows::developers::DeveloperError;
use crate::flows::developers::seconds;
use crate::flows::ledger::LedgerError;
use crate::store::StoreError;

/// An error of what apps and developers call.
#[derive(Clone, Debug, ApiResponse)]
pub(in crate::http) enum AppError {
    /// The request is malformed.
    #[oai(status = 400)]
    BadRequest(Json<ErrorBody>),
    /// The key, token or password is missing or wrong.
    #[oai(status = 401)]
    Unauthorized(Json<ErrorBody>),
    /// The project does not permit this.
    #[oai(status = 403)]
    Forbidden(Json<ErrorBody>),
    /// There is no such project or session.
    #[oai(status = 404)]
    NotFound(Json<ErrorBody>),
    /// There is one already.
    #[oai(status = 409)]
    Conflict(Json<ErrorBody>),
    /// The body has not come in time.
    #[oai(status = 408)]
    TooSlow(Json<ErrorBody>),
    /// The body is larger than 64 KiB.
    #[oai(status = 413)]
    TooLarge(Json<ErrorBody>),
    /// The body is not `application/json`.
    #[oai(status = 415)]
    UnsupportedMediaType(Json<ErrorBody>),
    /// Too often.
    #[oai(status = 429)]
    TooManyRequests(
        Json<ErrorBody>,
        /// Seconds to wait.
        #[oai(header = "Retry-After")]
        u64,
    ),
    /// Our fault; `x-request-id` finds it in the log.
    #[oai(status = 500)]
    Internal(Json<ErrorBody>),
    /// Nobody can deliver the prompt now, or the store is unavailable. Repeat the request later.
    #[oai(status = 503)]
    Unavailable(
        Json<ErrorBody>,
        /// Seconds to wait, where that is known.
        #[oai(header = "Retry-After")]
        Option<u64>,
    ),
}

impl From<ApiError> for AppError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::BadRequest(body) | ApiError::Gone(body) => Self::BadRequest(body),
            ApiError::Conflict(body) => Self::Conflict(body),
            ApiError::Unauthorized(body) => Self::Unauthorized(body),
            ApiError::Forbidden(body) => Self::Forbidden(body),
            ApiError::NotFound(body) => Self::NotFound(body),
            ApiError::TooSlow(body) => Self::TooSlow(body),
            ApiError::TooLarge(body) => Self::TooLarge(body),
            ApiError::UnsupportedMediaType(body) => Self::UnsupportedMediaType(body),
            ApiError::TooManyRequests(body, wait) => Self::TooManyRequests(body, wait),
            ApiError::Internal(body) => Self::Internal(body),
            ApiError::Unavailable(body, wait) => Self::Unavailable(body, wait),
        }
    }
}

impl From<AuthError> for AppError {
    fn from(error: AuthError) -> Self {
        let text = error.to_string();
        match error {
            AuthError::ProjectNotFound => Self::NotFound(body("PROJECT_NOT_FOUND", text)),
            AuthError::SessionNotFound => Self::NotFound(body("SESSION_NOT_FOUND", text)),
            AuthError::ProjectInactive => Self::Forbidden(body("PROJECT_INACTIVE", text)),
            AuthError::PublicAccessDisabled => Self::Forbidden(body("PUBLIC_ACCESS_DISABLED", text)),
            AuthError::OriginNotAllowed => Self::Forbidden(body("ORIGIN_NOT_ALLOWED", text)),
            AuthError::TooManyAttempts(wait)
            | AuthError::TooManySessions(wait)
            | AuthError::TooManyPolls(wait) => {
                Self::TooManyRequests(body("RATE_LIMITED", text), seconds(wait))
            }
            AuthError::TooManyHeld => Self::Unavailable(body("UNAVAILABLE", text), Some(5)),
            AuthError::SecretWrong => Self::Unauthorized(body("UNAUTHORIZED", text)),
            AuthError::InvalidProof => Self::BadRequest(body("INVALID_PROOF", text)),
            AuthError::PhoneNeedsBot => Self::BadRequest(body("PHONE_NEEDS_BOT", text)),
            AuthError::NoTelegramAccount => Self::Unavailable(body("NO_TELEGRAM_ACCOUNT", text), None),
            AuthError::NoUsername => Self::Unavailable(body("ACCOUNT_HAS_NO_USERNAME", text), None),
            AuthError::NotOwner(wait) => Self::Unavailable(body("NOT_OWNER", text), Some(seconds(wait))),
            AuthError::TelegramUnreachable => Self::Unavailable(body("TELEGRAM_UNREACHABLE", text), None),
            AuthError::Unsigned => ApiError::internal(&error).into(),
            AuthError::Store(error) => error.into(),
        }
    }
}

impl From<DeveloperError> for AppError {
    fn from(error: DeveloperError) -> Self {
        let text = error.to_string();
        match error {
            DeveloperError::LoginInvalid | DeveloperError::Unauthorized => {
                Self::Unauthorized(body("UNAUTHORIZED", text))
            }
            DeveloperError::ProjectNotFound => Self::NotFound(body("PROJECT_NOT_FOUND", text)),
            DeveloperError::BadWish(wish) => Self::BadRequest(body(wish_code(&wish), text)),
            DeveloperError::BotTokenInvalid => Self::BadRequest(body("BOT_TOKEN_INVALID", text)),
            DeveloperError::RegistrationClosed => Self::Forbidden(body("REGISTRATION_CLOSED", text)),
            DeveloperError::TooManyProjects => Self::Conflict(body("TOO_MANY_PROJECTS", text)),
            DeveloperError::EmailTaken => Self::Conflict(body("EMAIL_TAKEN", text)),
            DeveloperError::TooManyAttempts(wait) => {
                Self::TooManyRequests(body("RATE_LIMITED", text), seconds(wait))
            }
            DeveloperError::LifetimeInvalid
            | DeveloperError::NameMissing
            | DeveloperError::BadEmail(_)
            | DeveloperError::BadPassword(_) => Self::BadRequest(body("INVALID_REQUEST", text)),
            DeveloperError::TelegramUnreachable => {
                Self::Unavailable(body("TELEGRAM_UNREACHABLE", text), None)
            }
            DeveloperError::FloodWait(wait) => {
                Self::TooManyRequests(body("FLOOD_WAIT", text), wait.as_secs())
            }
            DeveloperError::Busy => Self::TooManyRequests(body("RATE_LIMITED", text), 1),
            DeveloperError::Store(error) => error.into(),
        }
    }
}

impl From<LedgerError> for AppError {
    fn from(error: LedgerError) -> Self {
        let text = error.to_string();
        match error {
            LedgerError::ProjectNotFound => Self::NotFound(body("PROJECT_NOT_FOUND", text)),
            LedgerError::SessionNotFound => Self::NotFound(body("SESSION_NOT_FOUND", text)),
            LedgerError::Store(error) => error.into(),
        }
    }
}

impl From<DeliveryError> for AppError {
    fn from(error: DeliveryError) -> Self {
        let text = error.to_string();
        match error {
            DeliveryError::ProjectNotFound => Self::NotFound(body("PROJECT_NOT_FOUND", text)),
            DeliveryError::DeliveryNotFound => Self::NotFound(body("DELIVERY_NOT_FOUND", text)),
            DeliveryError::NoWebhook | DeliveryError::WebhookDisabled(_) => {
                Self::Conflict(body("NO_WEBHOOK", text))
            }
            DeliveryError::CursorInvalid => Self::BadRequest(body("INVALID_REQUEST", text)),
            DeliveryError::Busy => Self::TooManyRequests(body("RATE_LIMITED", text), 1),
            DeliveryError::Store(error) => error.into(),
        }
    }
}

const fn wish_code(wish: &BadWish) -> &'static str {
    match wish {
        BadWish::WebhookUrl(_) => "INVALID_WEBHOOK_URL",
        BadWish::BotToken => "BOT_TOKEN_INVALID",
        BadWish::SecretKey => "WEAK_SECRET",
        BadWish::Name
        | BadWish::Active
        | BadWish::Origins
        | BadWish::ClientTimestamps
        | BadWish::ReturnUrl
        | BadWish::Grace
        | BadWish::GraceAlone => "INVALID_REQUEST",
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                tracing::error!(%error, "the store is unavailable");
                Self::Unavailable(
                    body("UNAVAILABLE", "the store is unavailable; repeat the request later"),
                    None,
                )
            }
            StoreError::InUse(_)
            | StoreError::Former(_)
            | StoreError::Corrupt(_)
            | StoreError::OtherMode { .. }
            | StoreError::OtherKey { .. } => ApiError::internal(&error).into(),
        }
    }
}
