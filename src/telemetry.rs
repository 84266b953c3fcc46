//! Logs and metrics. Logs: text for people at a terminal, JSON elsewhere. Libraries are held below the level at which they print what
//! they carry, whatever the operator asks for; our own lines never hold a secret.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets};
use tracing_subscriber::layer::{Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The target of the audit log.
const AUDIT: &str = "telegram_connector::audit";

/// Libraries and the most talkative level each may have, whatever is asked for: beyond it they print packets, records,
/// whole updates or headers.
const HELD_DOWN: [(&str, LevelFilter); 14] = [
    ("grammers_mtproto", LevelFilter::WARN),
    ("grammers_mtsender", LevelFilter::WARN),
    ("grammers_session", LevelFilter::WARN),
    ("grammers_crypto", LevelFilter::WARN),
    ("fjall", LevelFilter::WARN),
    ("lsm_tree", LevelFilter::WARN),
    ("sled", LevelFilter::WARN),
    ("poem", LevelFilter::WARN),
    ("hyper", LevelFilter::INFO),
    ("h2", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("reqwest", LevelFilter::INFO),
    ("aws", LevelFilter::WARN),
    ("mio", LevelFilter::INFO),
];

/// Which lines are written. Both filters as one, which knows that nothing below `info` is asked for: the engine of the store
/// calls `log` for each write, and the filters would be asked about each otherwise.
fn filter(directives: &str) -> impl Filter<Registry> + use<> {
    // The audit log is left out only by its own name: `off` leaves it alone. What comes later wins.
    let asked_for = EnvFilter::builder().parse_lossy(format!("{AUDIT}=info,{directives}"));
    // A filter of its own, because a longer target in the directives would win over a shorter one of ours.
    asked_for.and(Targets::new().with_default(LevelFilter::TRACE).with_targets(HELD_DOWN))
}

/// Starts logging to standard error; a second call does nothing. Panics become log lines too.
pub fn start(format: LogFormat, directives: &str) {
    let filter = filter(directives);
    let registry = tracing_subscriber::registry();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => registry.with(lines.with_target(false).with_filter(filter)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_filter(filter)).try_init(),
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "a task panicked");
        }));
    }
}

/// The one recorder of this process; what is recorded before it exists is lost.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to keep metrics; a second call does nothing.
pub fn keep_metrics() {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&[0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 20.0])
            .unwrap_or_default()
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("metrics are recorded elsewhere already");
        }
        describe();
        handle
    });
}

/// Folds samples into their histograms; to be called now and then, or they pile up between two scrapes.
pub fn upkeep_metrics() {
    if let Some(recorder) = RECORDER.get() {
        recorder.run_upkeep();
    }
}

/// Everything recorded so far, as Prometheus text (exposition format 0.0.4).
pub fn metrics_text() -> String {
    RECORDER.get().map_or_else(String::new, PrometheusHandle::render)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("connector_http_requests_total", "HTTP requests answered, by method, route and status");
    describe_histogram!("connector_http_request_seconds", "Time to answer an HTTP request");
    describe_counter!("connector_telegram_calls_total", "Calls to Telegram, by method and outcome");
    describe_histogram!("connector_telegram_call_seconds", "Time Telegram took to answer a call");
    describe_counter!("connector_flood_waits_total", "Calls that Telegram answered with a flood wait");
    describe_counter!("connector_updates_skipped_total", "Updates that Telegram left out as too many");
    describe_histogram!("connector_store_seconds", "Time of a durable write to the store");
    describe_histogram!("connector_session_store_seconds", "Time of a step in the session store, by step");
    describe_gauge!("connector_store_up", "1 while the store can be written");
    describe_gauge!("connector_session_store_up", "1 while the session store holds the newest login");
    describe_gauge!("connector_account_state", "1 for the state the Telegram account is in");
    describe_gauge!("connector_sign_in_pending", "1 while a sign-in is between its steps");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_is_passed_over_before_any_filter_is_asked() {
        assert_eq!(filter("info").max_level_hint(), Some(LevelFilter::INFO));
        assert_eq!(filter("info,telegram_connector=debug").max_level_hint(), Some(LevelFilter::DEBUG));
    }
}
