//! What tells an operator, a probe or a reader where things are: health, readiness, metrics, the list of links.

use poem::web::Data;
use poem_openapi::payload::{Html, Json, PlainText};
use poem_openapi::{ApiResponse, Object, OpenApi, Tags};

use super::error::OperatorError;
use super::guard::Operator;
use crate::flows::readiness::Ending;
use crate::flows::readiness::Readiness;
use crate::flows::sign_in::SignIn;
use crate::flows::sign_in::View;
use crate::telemetry;

#[derive(Tags)]
enum Group {
    /// Probes and metrics.
    Operations,
}

/// The process lives.
#[derive(Debug, Object)]
struct Health {
    ok: bool,
}

/// A state for each part.
#[derive(Debug, Object)]
struct ReadyView {
    /// `ok` or `unavailable`.
    store: String,
    /// `ok`, or `degraded`: out of reach, or a session waits to be saved.
    session_store: String,
    /// `ok`, `signed_out`, `connecting`, `reconnecting` or `unknown`.
    telegram: String,
    /// Why Telegram has ended the account's session, in Telegram's word; null while it has not.
    telegram_reason: Option<String>,
    /// `none`: no bot is configured.
    bot: String,
}

#[derive(ApiResponse)]
enum ReadyResponse {
    /// Send requests.
    #[oai(status = 200)]
    Ready(Json<ReadyView>),
    /// Starting, draining, or the store fails.
    #[oai(status = 503)]
    Unready(Json<ReadyView>),
}

/// Health and readiness, for anyone.
pub(super) struct ProbesApi;

#[expect(clippy::unused_async, reason = "poem-openapi wants every operation async")]
#[OpenApi(tag = "Group::Operations")]
impl ProbesApi {
    /// Whether the process lives
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth")]
    async fn health(&self) -> Json<Health> {
        Json(Health { ok: true })
    }

    /// Whether requests should be sent here, and how each part is
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness")]
    async fn ready(&self, readiness: Data<&Readiness>) -> ReadyResponse {
        let report = readiness.check().await;
        let view = ReadyView {
            store: report.store.to_owned(),
            session_store: report.session_store.to_owned(),
            telegram: report.telegram.to_owned(),
            telegram_reason: report.telegram_reason,
            bot: report.bot.to_owned(),
        };
        if report.ready { ReadyResponse::Ready(Json(view)) } else { ReadyResponse::Unready(Json(view)) }
    }
}

/// Metrics for the operator.
pub(super) struct MetricsApi;

#[OpenApi(tag = "Group::Operations")]
impl MetricsApi {
    /// Metrics, as Prometheus text
    #[oai(path = "/metrics", method = "get", operation_id = "getMetrics")]
    async fn metrics(
        &self,
        _operator: Operator,
        readiness: Data<&Readiness>,
        sign_in: Data<&SignIn>,
    ) -> Result<PlainText<String>, OperatorError> {
        Ok(PlainText(metrics(&readiness, &sign_in).await))
    }
}

/// Metrics for whoever reaches the ops listener, where a scraper has no token.
pub(super) struct OpenMetricsApi;

#[OpenApi]
impl OpenMetricsApi {
    #[oai(path = "/metrics", method = "get")]
    async fn metrics(&self, readiness: Data<&Readiness>, sign_in: Data<&SignIn>) -> PlainText<String> {
        PlainText(metrics(&readiness, &sign_in).await)
    }
}

/// Pages for readers.
pub(super) struct PagesApi;

#[expect(clippy::unused_async, reason = "poem-openapi wants every operation async")]
#[OpenApi]
impl PagesApi {
    #[oai(path = "/", method = "get", hidden)]
    async fn links(&self) -> Html<&'static str> {
        Html(include_str!("links.html"))
    }

    #[oai(path = "/llms.txt", method = "get", hidden)]
    async fn documents(&self) -> PlainText<&'static str> {
        PlainText(include_str!("llms.txt"))
    }
}

/// States are read when somebody asks; counters and latencies were kept as things happened.
async fn metrics(readiness: &Readiness, sign_in: &SignIn) -> String {
    let report = readiness.check().await;
    let gauge = |name: &'static str, on: bool| metrics::gauge!(name).set(if on { 1.0 } else { 0.0 });
    gauge("connector_store_up", report.store == "ok");
    gauge("connector_session_store_up", report.session_store == "ok");
    for state in ["ok", "signed_out", "connecting", "reconnecting", "unknown"] {
        let value = if report.telegram == state { 1.0 } else { 0.0 };
        metrics::gauge!("connector_account_state", "state" => state).set(value);
    }
    let ended = report.telegram_reason.as_deref().map(Ending::of);
    for ending in Ending::ALL {
        let value = if ended == Some(ending) { 1.0 } else { 0.0 };
        metrics::gauge!("connector_account_ended", "reason" => ending.word()).set(value);
    }
    let pending = matches!(sign_in.view(), Ok(View::CodeSent { .. } | View::TwoFactorRequired { .. }));
    gauge("connector_sign_in_pending", pending);
    telemetry::metrics_text()
}
