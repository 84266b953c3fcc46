//! The bytes of an event: compact JSON, documented fields first, in the documented order (protocol, section 6), as
//! `JSON.stringify` would write them: a receiver that re-serialises before it verifies gets the same bytes.

use serde::Serialize;

use super::EventKind;
use crate::domain::account::Mode;
use crate::domain::auth_session::AuthSession;
use crate::domain::clock::Timestamp;
use crate::domain::project::ProjectId;

/// The event of a test delivery. Not one of `auth.*`: nobody has signed in.
pub const TEST_EVENT: &str = "webhook.test";

/// `auth.confirmed`. Times are Unix milliseconds.
#[derive(Serialize)]
struct ConfirmedBody<'a> {
    event: &'static str,
    session_token: &'a str,
    telegram_id: String,
    telegram_name: &'a str,
    telegram_username: Option<&'a str>,
    telegram_phone: Option<&'a str>,
    confirmed_at: i64,
    #[serde(flatten)]
    extra: Extra<'a>,
}

/// `auth.cancelled`.
#[derive(Serialize)]
struct CancelledBody<'a> {
    event: &'static str,
    session_token: &'a str,
    cancelled_at: i64,
    #[serde(flatten)]
    extra: Extra<'a>,
}

/// `auth.expired`.
#[derive(Serialize)]
struct ExpiredBody<'a> {
    event: &'static str,
    session_token: &'a str,
    expired_at: i64,
    #[serde(flatten)]
    extra: Extra<'a>,
}

/// What follows the documented fields.
#[derive(Serialize)]
struct Extra<'a> {
    /// The session's.
    id: &'a str,
    project_id: &'a str,
    /// The session's.
    created_at: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sandbox: bool,
}

#[derive(Serialize)]
struct TestBody<'a> {
    event: &'static str,
    project_id: &'a str,
    created_at: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sandbox: bool,
}

/// The body that tells this of this session. `None` cannot happen: whoever is confirmed was opened, and JSON can write
/// all of it.
pub(super) fn of(session: &AuthSession, event: EventKind, at: Timestamp, mode: Mode) -> Option<String> {
    let session_token = session.token().reveal().reveal();
    let extra = Extra {
        id: session.id.as_str(),
        project_id: session.project.as_str(),
        created_at: session.created_at.as_millis(),
        sandbox: mode == Mode::Sandbox,
    };
    let (name, at) = (event.name(), at.as_millis());
    match event {
        EventKind::Confirmed => {
            let person = &session.opening.as_ref()?.person;
            let body = ConfirmedBody {
                event: name,
                session_token,
                telegram_id: person.id.to_string(),
                telegram_name: &person.name,
                telegram_username: person.username.as_deref(),
                telegram_phone: session.phone(),
                confirmed_at: at,
                extra,
            };
            serde_json::to_string(&body).ok()
        }
        EventKind::Cancelled => {
            serde_json::to_string(&CancelledBody { event: name, session_token, cancelled_at: at, extra }).ok()
        }
        EventKind::Expired => {
            // Its time was over then, whenever that was noticed.
            let expired_at = session.expires_at.as_millis();
            serde_json::to_string(&ExpiredBody { event: name, session_token, expired_at, extra }).ok()
        }
    }
}

/// The body of a test delivery. `None` cannot happen.
pub fn test_body(project: &ProjectId, mode: Mode, now: Timestamp) -> Option<String> {
    let body = TestBody {
        event: TEST_EVENT,
        project_id: project.as_str(),
        created_at: now.as_millis(),
        sandbox: mode == Mode::Sandbox,
    };
    serde_json::to_string(&body).ok()
}
