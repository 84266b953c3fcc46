//! `/api/v1/dev/{sessions,analytics,users}`: what developers look up about sign-ins. Parse, call one flow, render.

use poem::web::Data;
use poem_openapi::param::{Path, Query as Parameter};
use poem_openapi::{Enum, Object, OpenApi, Tags};
use serde::Serialize;

use super::answer::JsonAnswer;
use super::caller::Bearer;
use super::caller::DEVELOPER;
use super::developers::holder;
use super::error::ApiError;
use super::error::AppError;
use super::standing::iso8601;
use crate::domain::account::user_id;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::Canceller;
use crate::domain::auth_session::Happening;
use crate::domain::auth_session::Milestone;
use crate::domain::auth_session::State;
use crate::domain::auth_session::Status;
use crate::domain::clock::Timestamp;
use crate::domain::ledger::Cursor;
use crate::domain::ledger::Day;
use crate::domain::ledger::Tally;
use crate::flows::developers::Developers;
use crate::flows::ledger::Analytics;
use crate::flows::ledger::Found;
use crate::flows::ledger::Ledger;
use crate::flows::ledger::Listed;
use crate::flows::ledger::Query;

/// How many sessions a page has unless asked otherwise, and at most.
const PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 200;
/// The window of the analytics, days, unless asked otherwise, and at most (protocol, section 5.4; conflict C22).
const WINDOW: u32 = 7;
const LONGEST_WINDOW: u32 = 90;

#[derive(Tags)]
enum Group {
    /// Look up sign-ins and what was counted of them.
    #[oai(rename = "Sessions and analytics")]
    Sessions,
}

/// A status to look for.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "lowercase")]
enum StatusFilter {
    Pending,
    /// Also those whose confirmation was used.
    Confirmed,
    Cancelled,
    Expired,
    Used,
}

/// A sign-in, as its project's owner sees it.
#[derive(Serialize, Object)]
#[oai(rename = "Session")]
struct SessionView {
    id: String,
    session_token: String,
    project_id: String,
    project_name: String,
    /// `pending`, `confirmed`, `cancelled`, `expired` or `used`. A confirmation that nobody fetched stays `confirmed` here.
    status: String,
    /// Telegram's user id, a string of digits; null until confirmed, and again once the person was forgotten.
    telegram_id: Option<String>,
    /// Null as `telegram_id`.
    telegram_name: Option<String>,
    /// Without the @, `""` when there is none; null as `telegram_id`.
    telegram_username: Option<String>,
    /// E.164, where the project asks for it; else null.
    telegram_phone: Option<String>,
    /// ISO 8601.
    created_at: String,
    /// Unix milliseconds.
    created_at_ms: i64,
    /// ISO 8601; null until confirmed.
    confirmed_at: Option<String>,
    /// Unix milliseconds; null until confirmed.
    confirmed_at_ms: Option<i64>,
    /// Unix milliseconds; null unless cancelled.
    cancelled_at: Option<i64>,
    /// Unix milliseconds.
    expires_at: i64,
    /// Whether what was known of the person has been erased.
    forgotten: bool,
}

/// A part of the list.
#[derive(Serialize, Object)]
struct SessionsView {
    /// Newest first.
    sessions: Vec<SessionView>,
    /// Send it as `cursor` for what follows; null: that was all.
    next_cursor: Option<String>,
}

/// A sign-in and what happened to it.
#[derive(Serialize, Object)]
struct SessionDetail {
    #[serde(flatten)]
    #[oai(flatten)]
    session: SessionView,
    /// Oldest first.
    timeline: Vec<MilestoneView>,
}

/// Something that happened to a sign-in.
#[derive(Serialize, Object)]
struct MilestoneView {
    /// `created`, `opened`, `prompt_sent`, `prompt_failed`, `prompt_delayed`, `contact_asked`, `confirmed`, `cancelled`,
    /// `expired`, `first_read` or `consumed`.
    event: String,
    /// ISO 8601.
    at: String,
    /// Unix milliseconds.
    at_ms: i64,
    /// Of `prompt_failed`: Telegram's name for why; else null.
    error: Option<String>,
    /// Of `prompt_delayed`: how long Telegram asked to wait, seconds; else null.
    wait_seconds: Option<u64>,
    /// Of `cancelled`: `person`, `wrong_number` or `server`; else null.
    by: Option<String>,
}

/// What was counted in a window of days (UTC), today included. A sign-in counts on the day of its creation.
#[derive(Serialize, Object)]
struct AnalyticsView {
    /// Created.
    total_sessions: u64,
    /// Confirmed, used ones too.
    confirmed_sessions: u64,
    /// Different people who confirmed. Exact while they are few, within about 2 % beyond some hundreds a day.
    unique_users: u64,
    /// Confirmed ones of all, per cent, to one decimal.
    conversion_rate: f64,
    /// A row a day, oldest first, none left out.
    daily: Vec<DayView>,
    funnel: FunnelView,
    /// All your projects, whichever is asked for.
    projects: Vec<ProjectName>,
}

/// What was counted on one day.
#[derive(Serialize, Object)]
struct DayView {
    /// `2026-01-15`
    date: String,
    sessions: u64,
    confirmed: u64,
    unique_users: u64,
}

/// What came of the sign-ins; what is missing is still pending.
#[derive(Serialize, Object)]
struct FunnelView {
    requested: u64,
    confirmed: u64,
    expired: u64,
    cancelled: u64,
}

/// A project to choose.
#[derive(Serialize, Object)]
struct ProjectName {
    id: String,
    name: String,
}

/// Somebody was forgotten.
#[derive(Serialize, Object)]
struct ForgottenView {
    ok: bool,
    /// How many sessions knew them.
    sessions: u64,
}

pub(super) struct SessionsApi;

#[OpenApi(tag = "Group::Sessions", prefix_path = "/api/v1/dev")]
impl SessionsApi {
    /// List sessions
    ///
    /// Newest first. What follows a cursor stays the same while new sessions arrive.
    #[oai(path = "/sessions", method = "get", operation_id = "listSessions")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the request")]
    async fn sessions(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        ledger: Data<&Ledger>,
        /// Only of this project.
        project_id: Parameter<Option<String>>,
        /// Only with this status.
        status: Parameter<Option<StatusFilter>>,
        /// How many, 1 to 200; 50 unless said otherwise. A page may be shorter although more follow.
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Parameter<Option<u32>>,
        /// The `next_cursor` of the page before.
        cursor: Parameter<Option<String>>,
    ) -> Result<JsonAnswer<SessionsView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let limit = limit.0.unwrap_or(PAGE).min(LARGEST_PAGE);
        let before = cursor.0.filter(|cursor| !cursor.is_empty()).map(|cursor| {
            Cursor::parse(&cursor).ok_or_else(|| ApiError::invalid_request("`cursor` is not a `next_cursor`"))
        });
        let query = Query {
            project: project_id.0.filter(|id| !id.is_empty()),
            status: status.0.map(Status::from),
            before: before.transpose()?,
            limit: usize::try_from(limit).unwrap_or(1),
        };
        let Found { sessions, next } = ledger.sessions(&owner, query).await?;
        let now = ledger.now();
        let sessions = sessions.into_iter().map(|listed| SessionView::new(listed, now)).collect();
        Ok(JsonAnswer(SessionsView { sessions, next_cursor: next.map(|cursor| cursor.to_string()) }))
    }

    /// Read a session's timeline
    #[oai(path = "/sessions/:id", method = "get", operation_id = "getSession")]
    async fn session(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        ledger: Data<&Ledger>,
        /// The session's id (not its token).
        id: Path<String>,
    ) -> Result<JsonAnswer<SessionDetail>, AppError> {
        let owner = holder(&token, &developers).await?;
        let listed = ledger.session(&owner, &id.0).await?;
        let timeline = listed.session.timeline.iter().map(MilestoneView::new).collect();
        Ok(JsonAnswer(SessionDetail { session: SessionView::new(listed, ledger.now()), timeline }))
    }

    /// Read the analytics
    #[oai(path = "/analytics", method = "get", operation_id = "getAnalytics")]
    async fn analytics(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        ledger: Data<&Ledger>,
        /// How many days, 1 to 90, today included; 7 unless said otherwise.
        #[oai(validator(minimum(value = "1"), maximum(value = "90")))]
        days: Parameter<Option<u32>>,
        /// Only of this project.
        project_id: Parameter<Option<String>>,
    ) -> Result<JsonAnswer<AnalyticsView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let days = days.0.unwrap_or(WINDOW).min(LONGEST_WINDOW);
        let project = project_id.0.as_deref().filter(|id| !id.is_empty());
        Ok(JsonAnswer(ledger.analytics(&owner, project, days).await?.into()))
    }

    /// Forget a person
    ///
    /// Erases name, username, phone, id, address and device from all sessions of your projects, and their webhook
    /// deliveries; takes pending requests back. Totals stay. What your own server keeps is yours to erase.
    #[oai(path = "/users/:telegram_id", method = "delete", operation_id = "forgetUser")]
    async fn forget(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        ledger: Data<&Ledger>,
        /// Telegram's user id.
        telegram_id: Path<String>,
    ) -> Result<JsonAnswer<ForgottenView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let person =
            user_id(&telegram_id.0).ok_or_else(|| ApiError::invalid_request("`telegram_id` is a number"))?;
        let sessions = ledger.forget(&owner, person, token.from).await?;
        tracing::info!(developer = %owner, sessions, "a person was forgotten");
        Ok(JsonAnswer(ForgottenView { ok: true, sessions: sessions as u64 }))
    }
}

impl From<StatusFilter> for Status {
    fn from(filter: StatusFilter) -> Self {
        match filter {
            StatusFilter::Pending => Self::Pending,
            StatusFilter::Confirmed => Self::Confirmed,
            StatusFilter::Cancelled => Self::Cancelled,
            StatusFilter::Expired => Self::Expired,
            StatusFilter::Used => Self::Used,
        }
    }
}

impl SessionView {
    fn new(listed: Listed, now: Timestamp) -> Self {
        let Listed { session, project } = listed;
        let confirmed_at = session.confirmed_at();
        let person = session.opening.as_ref().filter(|_| confirmed_at.is_some() && !session.forgotten);
        let person = person.map(|opening| opening.person.clone());
        Self {
            id: session.id.as_str().to_owned(),
            session_token: session.token().reveal().reveal().to_owned(),
            project_id: project.id.as_str().to_owned(),
            project_name: project.settings.name.clone(),
            status: session.recorded_status(now).name().to_owned(),
            telegram_id: person.as_ref().map(|person| person.id.to_string()),
            telegram_name: person.as_ref().map(|person| person.name.clone()),
            telegram_username: person.map(|person| person.username.unwrap_or_default()),
            telegram_phone: session.phone().map(str::to_owned),
            created_at: iso8601(session.created_at),
            created_at_ms: session.created_at.as_millis(),
            confirmed_at: confirmed_at.map(iso8601),
            confirmed_at_ms: confirmed_at.map(Timestamp::as_millis),
            cancelled_at: cancelled_at(&session).map(Timestamp::as_millis),
            expires_at: session.expires_at.as_millis(),
            forgotten: session.forgotten,
        }
    }
}

const fn cancelled_at(session: &AuthSession) -> Option<Timestamp> {
    match &session.state {
        State::Cancelled { at, .. } => Some(*at),
        State::Pending | State::Confirmed { .. } | State::Expired { .. } | State::Used { .. } => None,
    }
}

impl MilestoneView {
    fn new(milestone: &Milestone) -> Self {
        let (event, error, wait_seconds, by) = match &milestone.what {
            Happening::Created => ("created", None, None, None),
            Happening::Opened => ("opened", None, None, None),
            Happening::PromptSent => ("prompt_sent", None, None, None),
            Happening::PromptFailed(error) => ("prompt_failed", Some(error.clone()), None, None),
            Happening::PromptDelayed(seconds) => ("prompt_delayed", None, Some(*seconds), None),
            Happening::ContactAsked => ("contact_asked", None, None, None),
            Happening::Confirmed => ("confirmed", None, None, None),
            Happening::Cancelled(by) => ("cancelled", None, None, Some(canceller(*by))),
            Happening::Expired => ("expired", None, None, None),
            Happening::FirstRead => ("first_read", None, None, None),
            Happening::Consumed => ("consumed", None, None, None),
        };
        Self {
            event: event.to_owned(),
            at: iso8601(milestone.at),
            at_ms: milestone.at.as_millis(),
            error,
            wait_seconds,
            by: by.map(str::to_owned),
        }
    }
}

const fn canceller(by: Canceller) -> &'static str {
    match by {
        Canceller::Person => "person",
        Canceller::WrongMatch => "wrong_number",
        Canceller::Server => "server",
    }
}

impl From<Analytics> for AnalyticsView {
    fn from(analytics: Analytics) -> Self {
        let Analytics { total, people, days, projects } = analytics;
        let day = |(day, tally, people): (Day, Tally, u64)| DayView {
            date: iso8601(day.begin()).chars().take(10).collect(),
            sessions: tally.created,
            confirmed: tally.confirmed,
            unique_users: people,
        };
        let named = |project: &std::sync::Arc<crate::domain::project::Project>| ProjectName {
            id: project.id.as_str().to_owned(),
            name: project.settings.name.clone(),
        };
        Self {
            total_sessions: total.created,
            confirmed_sessions: total.confirmed,
            unique_users: people,
            conversion_rate: per_cent(total.confirmed, total.created),
            daily: days.into_iter().map(day).collect(),
            funnel: FunnelView {
                requested: total.created,
                confirmed: total.confirmed,
                expired: total.expired,
                cancelled: total.cancelled,
            },
            projects: projects.iter().map(named).collect(),
        }
    }
}

/// To one decimal; nothing of nothing is 0.
fn per_cent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    let tenths = (u128::from(part) * 2_000 + u128::from(whole)) / (u128::from(whole) * 2);
    u32::try_from(tenths).map_or(0.0, |tenths| f64::from(tenths) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_one_decimal_as_documented() {
        for (part, whole, rate) in
            [(980, 1234, 79.4), (0, 0, 0.0), (0, 7, 0.0), (7, 7, 100.0), (1, 8, 12.5), (2, 3, 66.7)]
        {
            assert!((per_cent(part, whole) - rate).abs() < 1e-9, "{part} of {whole}");
        }
    }
}
