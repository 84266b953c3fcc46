//! How a session stands, as JSON: exact bodies by status (protocol, section 2.1; contract, section 3).

use poem_openapi::{Object, Union};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::domain::auth_session::Status;
use crate::domain::clock::Timestamp;
use crate::domain::project::ClientTimestamps;
use crate::flows::auth::Confirmed;
use crate::flows::auth::Standing;

/// How a session stands.
#[derive(Serialize, Union)]
#[serde(untagged)]
#[oai(one_of)]
pub(super) enum StandingView {
    Pending(PendingView),
    Confirmed(Box<ConfirmedView>),
    Cancelled(CancelledView),
    Expired(ExpiredView),
    Used(UsedView),
}

/// The person has not decided: ask again.
#[derive(Serialize, Object)]
#[oai(rename = "Pending")]
pub(super) struct PendingView {
    /// `pending`
    #[oai(validator(pattern = "^pending$"))]
    status: String,
}

/// The person said yes.
#[derive(Serialize, Object)]
#[oai(rename = "Confirmed")]
pub(super) struct ConfirmedView {
    /// `confirmed`
    #[oai(validator(pattern = "^confirmed$"))]
    status: String,
    /// The session's id, which is also the proof's `jti`.
    id: String,
    /// The project.
    project_id: String,
    /// Its name.
    project_name: String,
    /// Telegram's user id, a string of digits.
    telegram_id: String,
    /// Never empty.
    telegram_name: String,
    /// Without the @; null when there is none.
    telegram_username: Option<String>,
    /// E.164, where the project asks for it; else null.
    telegram_phone: Option<String>,
    /// ISO 8601, or Unix milliseconds (see the project's `client_timestamps`).
    created_at: Time,
    /// ISO 8601, or Unix milliseconds (see the project's `client_timestamps`).
    confirmed_at: Time,
    /// Unix milliseconds.
    created_at_ms: i64,
    /// Unix milliseconds.
    confirmed_at_ms: i64,
    /// A JWT for your server, good for 300 s.
    proof: String,
}

/// Somebody said no.
#[derive(Serialize, Object)]
#[oai(rename = "Cancelled")]
pub(super) struct CancelledView {
    /// `cancelled`
    #[oai(validator(pattern = "^cancelled$"))]
    status: String,
    /// Unix milliseconds.
    cancelled_at: i64,
}

/// Too late.
#[derive(Serialize, Object)]
#[oai(rename = "Expired")]
pub(super) struct ExpiredView {
    /// `expired`
    #[oai(validator(pattern = "^expired$"))]
    status: String,
}

/// The confirmation was taken before.
#[derive(Serialize, Object)]
#[oai(rename = "Used")]
pub(super) struct UsedView {
    /// `used`
    #[oai(validator(pattern = "^used$"))]
    status: String,
}

/// A time in the form a client reads.
#[derive(Serialize, Union)]
#[serde(untagged)]
#[oai(one_of)]
enum Time {
    Iso8601(String),
    UnixMs(i64),
}

impl StandingView {
    /// The body for a client with this `User-Agent`.
    pub(super) fn new(standing: Standing, user_agent: Option<&str>) -> Self {
        let status = |status: Status| status.name().to_owned();
        match standing {
            Standing::Pending => Self::Pending(PendingView { status: status(Status::Pending) }),
            Standing::Cancelled { at } => Self::Cancelled(CancelledView {
                status: status(Status::Cancelled),
                cancelled_at: at.as_millis(),
            }),
            Standing::Expired => Self::Expired(ExpiredView { status: status(Status::Expired) }),
            Standing::Used => Self::Used(UsedView { status: status(Status::Used) }),
            Standing::Confirmed(confirmed) => match ConfirmedView::new(*confirmed, user_agent) {
                Some(view) => Self::Confirmed(Box::new(view)),
                // Nobody confirms what nobody opened.
                None => Self::Expired(ExpiredView { status: status(Status::Expired) }),
            },
        }
    }
}

impl ConfirmedView {
    fn new(confirmed: Confirmed, user_agent: Option<&str>) -> Option<Self> {
        let Confirmed { session, project, proof } = confirmed;
        let confirmed_at = session.confirmed_at()?;
        let telegram_phone = session.phone().map(str::to_owned);
        let person = session.opening?.person;
        let integers = match project.settings.client_timestamps {
            // Dart casts to int and fails on anything else.
            ClientTimestamps::Auto => user_agent.is_some_and(|agent| agent.starts_with("Dart/")),
            ClientTimestamps::Iso8601 => false,
            ClientTimestamps::UnixMs => true,
        };
        let time =
            |at: Timestamp| if integers { Time::UnixMs(at.as_millis()) } else { Time::Iso8601(iso8601(at)) };
        Some(Self {
            status: Status::Confirmed.name().to_owned(),
            id: session.id.as_str().to_owned(),
            project_id: project.id.as_str().to_owned(),
            project_name: project.settings.name.clone(),
            telegram_id: person.id.to_string(),
            telegram_name: person.name,
            telegram_username: person.username,
            telegram_phone,
            created_at: time(session.created_at),
            confirmed_at: time(confirmed_at),
            created_at_ms: session.created_at.as_millis(),
            confirmed_at_ms: confirmed_at.as_millis(),
            proof,
        })
    }
}

/// `2026-01-15T10:30:00.000Z` (ISO 8601, RFC 3339).
pub(super) fn iso8601(at: Timestamp) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let nanos = i128::from(at.as_millis()) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00.000Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_millisecond() {
        assert_eq!(iso8601(Timestamp::from_millis(1_768_473_012_034)), "2026-01-15T10:30:12.034Z");
        assert_eq!(iso8601(Timestamp::from_millis(0)), "1970-01-01T00:00:00.000Z");
    }
}
