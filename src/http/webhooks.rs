//! `/api/v1/dev`: the webhooks of a developer's projects: the log, replays, test deliveries. Parse, call one flow, render.

use std::collections::BTreeMap;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi, Tags};
use serde::Serialize;

use super::answer::JsonAnswer;
use super::caller::Bearer;
use super::caller::DEVELOPER;
use super::developers::holder;
use super::error::AppError;
use super::standing::iso8601;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::Attempt;
use crate::domain::delivery::Delivery;
use crate::flows::deliveries::Deliveries;
use crate::flows::deliveries::Trial;
use crate::flows::developers::Developers;

/// How many deliveries an answer has unless asked otherwise.
const PAGE: u32 = 50;

#[derive(Tags)]
enum Group {
    /// Your server is told of decisions as they fall: set a project's `webhook_url`. Requests are signed with the project's
    /// secret: `X-Bondify-Signature` is the hex HMAC-SHA256 of the body, and `webhook-id`, `webhook-timestamp` and
    /// `webhook-signature` are Standard Webhooks.
    #[oai(rename = "Webhooks")]
    Webhooks,
}

/// One attempt to deliver.
#[derive(Serialize, Object)]
struct AttemptView {
    /// When it began, ISO 8601.
    at: String,
    /// Unix milliseconds.
    at_ms: i64,
    /// The HTTP status that came back; null when none did.
    status: Option<u16>,
    /// Why none did.
    error: Option<String>,
    /// How long it took.
    took_ms: u64,
}

/// An event that is told to your server, and how that goes.
#[derive(Serialize, Object)]
#[oai(rename = "Delivery")]
struct DeliveryView {
    /// The `webhook-id`, the same on every attempt.
    id: String,
    project_id: String,
    /// `auth.confirmed`, `auth.cancelled` or `auth.expired`.
    event: String,
    /// The session it tells of.
    session_id: String,
    /// `pending`, `delivered`, `failed` (given up) or `dropped` (there was no webhook any more).
    state: String,
    /// When it happened, ISO 8601.
    created_at: String,
    /// Unix milliseconds.
    created_at_ms: i64,
    /// When it is sent next, ISO 8601; null unless it is pending.
    next_attempt_at: Option<String>,
    /// Unix milliseconds.
    next_attempt_at_ms: Option<i64>,
    /// The last 30, oldest first.
    attempts: Vec<AttemptView>,
    /// The exact bytes that are signed and sent: JSON.
    body: String,
}

/// A part of a project's log, newest first.
#[derive(Serialize, Object)]
struct DeliveriesView {
    deliveries: Vec<DeliveryView>,
    /// For the next part; null at the end.
    next_cursor: Option<String>,
}

/// What was sent.
#[derive(Serialize, Object)]
struct TestRequest {
    url: String,
    /// Those that say what it is and sign it.
    headers: BTreeMap<String, String>,
    /// The exact bytes that were signed: JSON, `"event":"webhook.test"`.
    body: String,
}

/// What came back.
#[derive(Serialize, Object)]
struct TestResponse {
    status: u16,
    /// The first 4 KiB.
    body: String,
    took_ms: u64,
}

/// A test delivery.
#[derive(Serialize, Object)]
struct TestView {
    /// Whether a status from 200 to 299 came back.
    delivered: bool,
    request: TestRequest,
    /// Null when nothing came back.
    response: Option<TestResponse>,
    /// Why nothing came back.
    error: Option<String>,
}

pub(super) struct WebhooksApi;

#[OpenApi(tag = "Group::Webhooks", prefix_path = "/api/v1/dev")]
impl WebhooksApi {
    /// List what a project's webhook was told
    #[oai(path = "/projects/:id/deliveries", method = "get", operation_id = "listDeliveries")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the request")]
    async fn deliveries(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        webhooks: Data<&Deliveries>,
        /// The project.
        id: Path<String>,
        /// How many, 1 to 200; 50 unless said otherwise.
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<Option<u32>>,
        /// `next_cursor` of the part before.
        cursor: Query<Option<String>>,
    ) -> Result<JsonAnswer<DeliveriesView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let limit = usize::try_from(limit.0.unwrap_or(PAGE)).unwrap_or(usize::MAX);
        let page = webhooks.log(&owner, &id.0, cursor.0.as_deref(), limit).await?;
        let deliveries = page.deliveries.iter().map(DeliveryView::new).collect();
        Ok(JsonAnswer(DeliveriesView { deliveries, next_cursor: page.next_cursor }))
    }

    /// Send a delivery again, with the same id and the same body
    #[oai(path = "/deliveries/:id/replay", method = "post", operation_id = "replayDelivery")]
    async fn replay(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        webhooks: Data<&Deliveries>,
        /// The delivery.
        id: Path<String>,
    ) -> Result<JsonAnswer<DeliveryView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let delivery = webhooks.replay(&owner, &id.0).await?;
        Ok(JsonAnswer(DeliveryView::new(&delivery)))
    }

    /// Send a signed test event now, and see what comes back
    #[oai(path = "/projects/:id/webhook-test", method = "post", operation_id = "testWebhook")]
    async fn test(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        webhooks: Data<&Deliveries>,
        /// The project.
        id: Path<String>,
    ) -> Result<JsonAnswer<TestView>, AppError> {
        let owner = holder(&token, &developers).await?;
        Ok(JsonAnswer(TestView::new(webhooks.test(&owner, &id.0).await?)))
    }
}

impl AttemptView {
    fn new(attempt: &Attempt) -> Self {
        let Attempt { at, status, error, took_ms } = attempt;
        let (status, error, took_ms) = (*status, error.clone(), *took_ms);
        Self { at: iso8601(*at), at_ms: at.as_millis(), status, error, took_ms }
    }
}

impl DeliveryView {
    fn new(delivery: &Delivery) -> Self {
        let due = delivery.due();
        Self {
            id: delivery.id.as_str().to_owned(),
            project_id: delivery.project.as_str().to_owned(),
            event: delivery.event.name().to_owned(),
            session_id: delivery.session.as_str().to_owned(),
            state: delivery.state.name().to_owned(),
            created_at: iso8601(delivery.created_at),
            created_at_ms: delivery.created_at.as_millis(),
            next_attempt_at: due.map(iso8601),
            next_attempt_at_ms: due.map(Timestamp::as_millis),
            attempts: delivery.attempts.iter().map(AttemptView::new).collect(),
            body: delivery.body.reveal().clone(),
        }
    }
}

impl TestView {
    fn new(trial: Trial) -> Self {
        let Trial { url, headers, body, attempt, answer } = trial;
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let delivered = attempt.succeeded();
        let took_ms = attempt.took_ms;
        let response =
            attempt.status.map(|status| TestResponse { status, body: answer.unwrap_or_default(), took_ms });
        Self { delivered, request: TestRequest { url, headers, body }, response, error: attempt.error }
    }
}
