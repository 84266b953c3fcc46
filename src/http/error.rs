//! The only place that picks a status and a code: every error becomes `{"error","code"}` (contract, section 2).
//! What the client reads and what the log says are different texts; the log gets the cause, once, here.

mod app;

use poem::IntoResponse as _;
use poem::http::StatusCode;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object};

pub(super) use self::app::AppError;
use crate::flows::developers::seconds;
use crate::flows::sign_in::SignInError;
use crate::telegram::TelegramError;

/// The body of every error.
#[derive(Clone, Debug, Object)]
pub(super) struct ErrorBody {
    /// What went wrong, for people.
    #[oai(read_only)]
    pub(super) error: String,
    /// What went wrong, for programs. Never absent.
    #[oai(read_only)]
    pub(super) code: String,
}

/// An error as the client sees it.
#[derive(Clone, Debug, ApiResponse)]
pub(super) enum ApiError {
    /// The request is malformed, or Telegram refuses what it holds.
    #[oai(status = 400)]
    BadRequest(Json<ErrorBody>),
    /// The operator's token is missing or wrong, or a 2FA password is needed or wrong.
    #[oai(status = 401)]
    Unauthorized(Json<ErrorBody>),
    /// Telegram does not let this number sign in.
    #[oai(status = 403)]
    Forbidden(Json<ErrorBody>),
    /// There is no Telegram account with this number.
    #[oai(status = 404)]
    NotFound(Json<ErrorBody>),
    /// The request does not fit what is pending.
    #[oai(status = 409)]
    Conflict(Json<ErrorBody>),
    /// The login code has expired.
    #[oai(status = 410)]
    Gone(Json<ErrorBody>),
    /// The body has not come in time.
    #[oai(status = 408)]
    TooSlow(Json<ErrorBody>),
    /// The body is larger than 64 KiB.
    #[oai(status = 413)]
    TooLarge(Json<ErrorBody>),
    /// The body is not `application/json`.
    #[oai(status = 415)]
    UnsupportedMediaType(Json<ErrorBody>),
    /// Telegram asks to wait.
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
    /// Telegram, the store or the session store cannot be reached now. Nothing is lost; repeat the request.
    #[oai(status = 503)]
    Unavailable(
        Json<ErrorBody>,
        /// Seconds to wait, where that is known.
        #[oai(header = "Retry-After")]
        Option<u64>,
    ),
}

/// An error of an operation that takes no body and asks for no code: what of [`ApiError`] it can answer.
#[derive(Clone, Debug, ApiResponse)]
pub(super) enum OperatorError {
    /// The operator's token is missing or wrong.
    #[oai(status = 401)]
    Unauthorized(Json<ErrorBody>),
    /// Telegram asks to wait.
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
    /// Telegram, the store or the session store cannot be reached now. Nothing is lost; repeat the request.
    #[oai(status = 503)]
    Unavailable(
        Json<ErrorBody>,
        /// Seconds to wait, where that is known.
        #[oai(header = "Retry-After")]
        Option<u64>,
    ),
}

impl From<SignInError> for OperatorError {
    fn from(error: SignInError) -> Self {
        match ApiError::from(error) {
            ApiError::Unauthorized(body) => Self::Unauthorized(body),
            ApiError::TooManyRequests(body, wait) => Self::TooManyRequests(body, wait),
            ApiError::Unavailable(body, wait) => Self::Unavailable(body, wait),
            ApiError::Internal(body)
            | ApiError::BadRequest(body)
            | ApiError::Forbidden(body)
            | ApiError::NotFound(body)
            | ApiError::Conflict(body)
            | ApiError::Gone(body)
            | ApiError::TooSlow(body)
            | ApiError::TooLarge(body)
            | ApiError::UnsupportedMediaType(body) => Self::Internal(body),
        }
    }
}

fn body(code: &str, error: impl Into<String>) -> Json<ErrorBody> {
    Json(ErrorBody { error: error.into(), code: code.to_owned() })
}

impl ApiError {
    /// A request that cannot be understood.
    pub(super) fn invalid_request(error: impl Into<String>) -> Self {
        Self::BadRequest(body("INVALID_REQUEST", error))
    }

    /// A phone number that is not one.
    pub(super) fn phone_number_invalid(error: impl Into<String>) -> Self {
        Self::BadRequest(body("PHONE_NUMBER_INVALID", error))
    }

    /// A caller who is not the operator.
    pub(super) fn unauthorized(error: impl Into<String>) -> Self {
        Self::Unauthorized(body("UNAUTHORIZED", error))
    }

    /// A body that is not JSON by its own word.
    pub(super) fn unsupported_media_type() -> Self {
        Self::UnsupportedMediaType(body(
            "UNSUPPORTED_MEDIA_TYPE",
            "send the body as Content-Type: application/json",
        ))
    }

    /// A body over the limit.
    pub(super) fn too_large(limit: usize) -> Self {
        Self::TooLarge(body("BODY_TOO_LARGE", format!("the body is larger than {limit} bytes")))
    }

    /// A body that takes too long.
    pub(super) fn too_slow(limit: std::time::Duration) -> Self {
        Self::TooSlow(body("REQUEST_TIMEOUT", format!("the body has not come within {} s", limit.as_secs())))
    }

    /// Too often.
    pub(super) fn rate_limited(wait: std::time::Duration) -> Self {
        let text = format!("too many attempts: try again in {} s", seconds(wait));
        Self::TooManyRequests(body("RATE_LIMITED", text), seconds(wait))
    }

    fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(error = %cause, "internal error");
        Self::Internal(body("INTERNAL", "internal error; x-request-id finds it in the log"))
    }
}

impl From<SignInError> for ApiError {
    fn from(error: SignInError) -> Self {
        let text = error.to_string();
        match error {
            SignInError::NoCodeRequested => Self::Conflict(body("NO_CODE_REQUESTED", text)),
            SignInError::InProgress => Self::Conflict(body("SIGN_IN_IN_PROGRESS", text)),
            SignInError::CodeMissing => Self::invalid_request(text),
            SignInError::TooManyCodes(wait) => Self::TooManyRequests(body("FLOOD_WAIT", text), seconds(wait)),
            SignInError::CodeInvalid => Self::BadRequest(body("PHONE_CODE_INVALID", text)),
            SignInError::CodeExpired => Self::Gone(body("PHONE_CODE_EXPIRED", text)),
            SignInError::TwoFactorRequired => Self::Unauthorized(body("TWO_FACTOR_REQUIRED", text)),
            SignInError::TwoFactorInvalid => Self::Unauthorized(body("TWO_FACTOR_INVALID", text)),
            SignInError::SessionStore(cause) => {
                tracing::error!(error = %cause, "the session store is unavailable");
                Self::Unavailable(body("SESSION_STORE_UNAVAILABLE", text), None)
            }
            SignInError::Store(cause) => {
                tracing::error!(error = %cause, "the store is unavailable");
                Self::Unavailable(
                    body("UNAVAILABLE", "the store is unavailable; x-request-id finds it in the log"),
                    None,
                )
            }
            SignInError::NotOwner { wait, .. } => {
                Self::Unavailable(body("NOT_OWNER", text), Some(seconds(wait)))
            }
            SignInError::ShuttingDown => Self::Unavailable(body("UNAVAILABLE", text), None),
            SignInError::Interrupted => Self::internal(&error),
            SignInError::Telegram(error) => error.into(),
        }
    }
}

impl From<TelegramError> for ApiError {
    fn from(error: TelegramError) -> Self {
        let text = error.to_string();
        match error {
            TelegramError::PhoneNumberInvalid => Self::phone_number_invalid(text),
            TelegramError::PhoneNumberBanned => Self::Forbidden(body("PHONE_NUMBER_BANNED", text)),
            TelegramError::SignUpRequired => Self::NotFound(body("SIGN_UP_REQUIRED", text)),
            TelegramError::CodeInvalid => Self::BadRequest(body("PHONE_CODE_INVALID", text)),
            TelegramError::CodeExpired => Self::Gone(body("PHONE_CODE_EXPIRED", text)),
            TelegramError::TwoFactorRequired => Self::Unauthorized(body("TWO_FACTOR_REQUIRED", text)),
            TelegramError::TwoFactorInvalid => Self::Unauthorized(body("TWO_FACTOR_INVALID", text)),
            TelegramError::EmailSetupRequired => Self::Forbidden(body("EMAIL_SETUP_REQUIRED", text)),
            TelegramError::PaymentRequired => Self::Forbidden(body("PAYMENT_REQUIRED", text)),
            TelegramError::FloodWait(wait) => Self::TooManyRequests(body("FLOOD_WAIT", text), wait.as_secs()),
            TelegramError::Unreachable(_) => Self::Unavailable(body("TELEGRAM_UNREACHABLE", text), None),
            // The operator can mend this one, so it says what is wrong.
            TelegramError::ApiIdRefused(_) => {
                tracing::error!(%error, "configuration refused");
                Self::Internal(body("INTERNAL", text))
            }
            TelegramError::ResendUnavailable
            | TelegramError::ChallengeSpent
            | TelegramError::StartOver
            | TelegramError::Migrate(_)
            | TelegramError::SignedOut(_)
            | TelegramError::TokenInvalid
            | TelegramError::PeerUnreachable(_)
            | TelegramError::MessageGone
            | TelegramError::QueryExpired
            | TelegramError::AlreadyDone
            | TelegramError::Unexpected(_) => Self::internal(&error),
        }
    }
}

/// Gives poem's own errors (unknown path, method, malformed head) the shape of ours.
pub(super) async fn render(error: poem::Error) -> poem::Response {
    if error.is_from_response() {
        return error.into_response();
    }
    let status = error.status();
    let text = if status.is_server_error() {
        tracing::error!(%error, "unmapped error");
        "internal error; x-request-id finds it in the log".to_owned()
    } else {
        error.to_string()
    };
    let body = body(code_for(status), text);
    poem::web::Json(serde_json::json!({ "error": body.error, "code": body.code }))
        .with_status(status)
        .into_response()
}

fn code_for(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UNSUPPORTED_MEDIA_TYPE",
        StatusCode::REQUEST_TIMEOUT => "REQUEST_TIMEOUT",
        StatusCode::PAYLOAD_TOO_LARGE => "BODY_TOO_LARGE",
        StatusCode::SERVICE_UNAVAILABLE => "UNAVAILABLE",
        status if status.is_server_error() => "INTERNAL",
        _ => "INVALID_REQUEST",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::StoreError;

    fn code(error: ApiError) -> String {
        let (ApiError::BadRequest(body)
        | ApiError::Unauthorized(body)
        | ApiError::Forbidden(body)
        | ApiError::NotFound(body)
        | ApiError::Conflict(body)
        | ApiError::Gone(body)
        | ApiError::TooSlow(body)
        | ApiError::TooLarge(body)
        | ApiError::UnsupportedMediaType(body)
        | ApiError::TooManyRequests(body, _)
        | ApiError::Internal(body)
        | ApiError::Unavailable(body, _)) = error;
        body.0.code
    }

    #[test]
    fn the_audit_log_names_a_refusal_as_the_answer_does() {
        let text = || "text".to_owned();
        let telegram = [
            TelegramError::PhoneNumberInvalid,
            TelegramError::PhoneNumberBanned,
            TelegramError::SignUpRequired,
            TelegramError::CodeInvalid,
            TelegramError::CodeExpired,
            TelegramError::TwoFactorRequired,
            TelegramError::TwoFactorInvalid,
            TelegramError::EmailSetupRequired,
            TelegramError::PaymentRequired,
            TelegramError::FloodWait(Duration::from_secs(9)),
            TelegramError::Unreachable(text()),
            TelegramError::ApiIdRefused(text()),
            TelegramError::ResendUnavailable,
            TelegramError::ChallengeSpent,
            TelegramError::StartOver,
            TelegramError::Migrate(4),
            TelegramError::SignedOut(text()),
            TelegramError::Unexpected(text()),
        ];
        let others = [
            SignInError::NoCodeRequested,
            SignInError::InProgress,
            SignInError::CodeMissing,
            SignInError::SessionStore(text()),
            SignInError::Store(StoreError::Unavailable(text())),
            SignInError::ShuttingDown,
            SignInError::Interrupted,
        ];
        for error in telegram.into_iter().map(SignInError::from).chain(others) {
            let audited = error.code();
            assert_eq!(audited, code(error.into()));
        }
    }
}
