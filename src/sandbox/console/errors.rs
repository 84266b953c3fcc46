//! Refusals of the control API: always JSON `{"error","code"}`, whoever refuses.

use poem::IntoResponse;
use poem::Response;
use poem::http::StatusCode;
use poem_openapi::ApiResponse;
use poem_openapi::Object;
use poem_openapi::payload::Json;

use crate::sandbox::journal::JournalError;
use crate::sandbox::rpc::RpcError;
use crate::sandbox::world;
use crate::sandbox::world::WorldError;

/// An error's body.
#[derive(Debug, Object)]
pub(super) struct ErrorBody {
    /// For people.
    error: String,
    /// For programs.
    code: String,
}

/// Why a call is refused.
#[derive(Debug, ApiResponse)]
pub(super) enum Refusal {
    /// The request is not understood.
    #[oai(status = 400)]
    Invalid(Json<ErrorBody>),
    /// There is no such thing (yet).
    #[oai(status = 404)]
    NotFound(Json<ErrorBody>),
    /// Taken by another account.
    #[oai(status = 409)]
    Taken(Json<ErrorBody>),
    /// The sandbox failed.
    #[oai(status = 500)]
    Internal(Json<ErrorBody>),
    /// The bot did not answer in time.
    #[oai(status = 504)]
    NoAnswer(Json<ErrorBody>),
}

impl Refusal {
    pub(super) fn body(code: &str, error: impl std::fmt::Display) -> Json<ErrorBody> {
        Json(ErrorBody { error: error.to_string(), code: code.to_owned() })
    }

    pub(super) fn invalid(error: impl std::fmt::Display) -> Self {
        Self::Invalid(Self::body("INVALID_REQUEST", error))
    }

    pub(super) fn not_found(error: impl std::fmt::Display) -> Self {
        Self::NotFound(Self::body("NOT_FOUND", error))
    }
}

impl From<WorldError> for Refusal {
    fn from(error: WorldError) -> Self {
        match error {
            WorldError::PhoneInvalid => Self::Invalid(Self::body("PHONE_NUMBER_INVALID", error)),
            WorldError::PhoneOccupied => Self::Taken(Self::body("PHONE_NUMBER_OCCUPIED", error)),
            WorldError::UsernameOccupied => Self::Taken(Self::body("USERNAME_OCCUPIED", error)),
            WorldError::UsernameInvalid | WorldError::NameInvalid | WorldError::DataCentreInvalid => {
                Self::invalid(error)
            }
            WorldError::NoSuchAccount => Self::not_found(error),
            WorldError::NotKept => Self::Internal(Self::body("INTERNAL", "internal error")),
        }
    }
}

impl From<world::Refusal> for Refusal {
    /// With Telegram's name for it.
    fn from(refusal: world::Refusal) -> Self {
        let name = RpcError::from(refusal).name;
        let body = Self::body(&name, format_args!("Telegram refuses this: {name}"));
        if refusal == world::Refusal::ResponseTimeout {
            Self::NoAnswer(body)
        } else if refusal == world::Refusal::MessageIdInvalid {
            Self::NotFound(body)
        } else if refusal == world::Refusal::UsernameOccupied {
            Self::Taken(body)
        } else {
            Self::Invalid(body)
        }
    }
}

impl From<JournalError> for Refusal {
    fn from(_: JournalError) -> Self {
        WorldError::NotKept.into()
    }
}

/// A refusal outside the described calls: by the guard, or for a path that there is not.
pub(super) struct Refused {
    status: StatusCode,
    body: ErrorBody,
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let code = match status {
            StatusCode::FORBIDDEN => "FORBIDDEN",
            StatusCode::NOT_FOUND => "NOT_FOUND",
            StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
            StatusCode::PAYLOAD_TOO_LARGE => "BODY_TOO_LARGE",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "UNSUPPORTED_MEDIA_TYPE",
            status if status.is_server_error() => "INTERNAL",
            _ => "INVALID_REQUEST",
        };
        let body = ErrorBody { error: error.into(), code: code.to_owned() };
        Self { status, body }
    }

    pub(super) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "only from this machine, and not from another web page")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Json(self.body).with_status(self.status).into_response()
    }
}

impl From<Refused> for poem::Error {
    fn from(refused: Refused) -> Self {
        Self::from_response(refused.into_response())
    }
}

pub(super) async fn json_errors(error: poem::Error) -> Response {
    if error.is_from_response() {
        return error.into_response();
    }
    let status = error.status();
    let text = if status.is_server_error() {
        tracing::error!(%error, "unmapped error");
        "internal error".to_owned()
    } else {
        error.to_string()
    };
    Refused::new(status, text).into_response()
}
