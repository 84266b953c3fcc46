//! Where seeds, Bondify's documentation and its clients contradict each other (protocol, section 8), what was decided
//! (contract, section 3) is what happens: C1 to C34, but for those that no server can satisfy. Each message names its row.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{CANCEL, CONFIRM, as_developer, change, decide, world_with_app};
use crate::support::{App, Attempt, jwt_part};

const GENERATE: &str = "/api/v1/generate/public";
const VERIFY: &str = "/api/v1/verify/public";

fn fields(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn is_iso8601(value: &Value) -> bool {
    let format = time::format_description::well_known::Rfc3339;
    value.as_str().is_some_and(|text| time::OffsetDateTime::parse(text, &format).is_ok())
}

/// Integer milliseconds of this century.
fn is_ms(value: &Value) -> bool {
    value.as_i64().is_some_and(|ms| ms > 1_000_000_000_000)
}

/// A poll by a client with this `User-Agent`.
async fn poll_as(app: &App, attempt: &Attempt, agent: &str) -> Value {
    let body = json!({ "project_id": app.id, "session_token": attempt.token });
    let answer = app.call(VERIFY, &body, &[("user-agent", agent)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_written_as_each_client_reads_them() {
    let (world, app) = world_with_app(json!({})).await;
    let (attempt, cancelled) = (app.attempt().await, app.attempt().await);
    assert!(is_ms(&attempt.created["expires_at"]), "C8: {}", attempt.created);
    decide(&world, &attempt.link, CONFIRM).await;
    let (page, dart) = ("Mozilla/5.0", "Dart/3.5 (dart:io)");
    for (setting, agent, integers) in
        [("auto", page, false), ("auto", dart, true), ("iso8601", dart, false), ("unix_ms", page, true)]
    {
        change(&world, &app, json!({ "client_timestamps": setting })).await;
        let poll = poll_as(&app, &attempt, agent).await;
        for field in ["created_at", "confirmed_at"] {
            let fits = if integers { is_ms(&poll[field]) } else { is_iso8601(&poll[field]) };
            assert!(fits, "C1: {setting}, {agent}: {poll}");
            assert!(is_ms(&poll[format!("{field}_ms")]), "C1: the twin is always there: {poll}");
        }
    }
    decide(&world, &cancelled.link, CANCEL).await;
    assert!(is_ms(&app.poll(&cancelled).await["cancelled_at"]), "C9");

    let sessions = as_developer(&world, "GET", "/sessions", None).await.json();
    let projects = as_developer(&world, "GET", "/projects", None).await.json();
    for listed in
        sessions["sessions"].as_array().unwrap().iter().chain(projects["projects"].as_array().unwrap())
    {
        assert!(is_iso8601(&listed["created_at"]) && is_ms(&listed["created_at_ms"]), "C16: {listed}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_username_has_null_or_nothing() {
    let (world, app) = world_with_app(json!({})).await;
    let phone = "+15550100009";
    let person = json!({ "phone": phone, "first_name": "Dora" });
    assert_eq!(world.sandbox.post("/api/accounts", &person).await.status, 200);
    let attempt = app.attempt().await;
    let opened = world.open(phone, &attempt.link).await;
    let prompt = world.answer_to(phone, opened).await["id"].as_i64().unwrap();
    world.tap(phone, prompt, CONFIRM).await;
    let poll = app.poll(&attempt).await;
    assert_eq!(poll.get("telegram_username"), Some(&Value::Null), "C2: in the poll");
    let claims = jwt_part(poll["proof"].as_str().unwrap(), 1);
    assert_eq!(claims.get("telegram_username"), Some(&Value::Null), "C2: in the proof");
    let sessions = as_developer(&world, "GET", "/sessions", None).await.json();
    assert_eq!(sessions["sessions"][0]["telegram_username"], "", "C2: in the developer's list");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_tell_all_and_change_nothing() {
    let (world, app) = world_with_app(json!({})).await;
    let attempt = app.attempt().await;
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }), "C29: a status, and no proof");
    decide(&world, &attempt.link, CONFIRM).await;
    let poll = app.poll(&attempt).await;
    let expected = [
        "status",
        "id",
        "project_id",
        "project_name",
        "telegram_id",
        "telegram_name",
        "telegram_username",
        "telegram_phone",
        "created_at",
        "created_at_ms",
        "confirmed_at",
        "confirmed_at_ms",
        "proof",
    ];
    assert_eq!(fields(&poll), expected.into(), "C3: what all sources name");
    assert_eq!(poll["status"], "confirmed", "C29");
    assert!(poll["telegram_id"].as_str().is_some_and(|id| id.parse::<i64>().is_ok()), "C26: {poll}");
    for _ in 0..5 {
        assert_eq!(app.poll(&attempt).await["status"], "confirmed", "C4, C5: no poll uses it up");
    }
    let claims = jwt_part(poll["proof"].as_str().unwrap(), 1);
    assert_eq!(claims["jti"], poll["id"], "C25: for those who check for themselves");
    for claim in ["telegram_id", "telegram_name", "telegram_username", "telegram_phone"] {
        assert_eq!(claims[claim], poll[claim], "C30: claims are called as in the poll");
    }
    let taken = app.consume_proof(poll["proof"].as_str().unwrap()).await.json();
    assert_eq!(taken["status"], "confirmed", "C4: the server takes it");
    assert_eq!(app.consume(&attempt).await, json!({ "status": "used" }), "C25: once");
    assert_eq!(app.poll(&attempt).await, json!({ "status": "used" }), "C5: and nothing else");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_status_and_the_code_that_clients_know() {
    let (world, app) = world_with_app(json!({})).await;
    let body = json!({ "project_id": app.id });
    let created = app.call(GENERATE, &body, &[]).await;
    assert_eq!(created.status, 200, "C12: 201 would break Flutter");
    let unknown = json!({ "project_id": "proj_nothere" });
    assert_eq!(app.call(GENERATE, &unknown, &[]).await.refusal(), (404, "PROJECT_NOT_FOUND".into()), "C28");
    assert_eq!(app.call(VERIFY, &unknown, &[]).await.refusal(), (400, "INVALID_REQUEST".into()), "C11");

    assert_eq!(
        as_developer(&world, "GET", "/projects", None).await.json()["projects"][0]["public_access"],
        true,
        "C27: so that the seeds hold as they stand"
    );
    change(&world, &app, json!({ "public_access": false })).await;
    let refused = app.call(GENERATE, &body, &[]).await;
    assert_eq!(refused.refusal(), (403, "PUBLIC_ACCESS_DISABLED".into()), "C11, C27");
    assert_eq!(app.call_keyed(GENERATE, &body).await.status, 200, "C27: the key opens it");
    assert_eq!(fields(&refused.json()), ["code", "error"].into(), "C10");

    for (method, path) in [("GET", "/me"), ("GET", "/nowhere"), ("PUT", "/me")] {
        let answer = world.service.send(method, &format!("/api/v1/dev{path}"), &[], None).await;
        assert_eq!(fields(&answer.json()), ["code", "error"].into(), "C10: {method} {path}");
    }
    let login = json!({ "email": "demo@example.com", "password": "wrong-password" });
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(world.service.post("/api/v1/dev/login", &login).await.status);
    }
    assert_eq!((statuses.first(), statuses.last()), (Some(&401), Some(&429)), "C11: {statuses:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_project_lets_those_finish_who_have_begun() {
    let (world, app) = world_with_app(json!({})).await;
    let attempt = app.attempt().await;
    change(&world, &app, json!({ "is_active": false })).await;
    let new = app.call(GENERATE, &json!({ "project_id": app.id }), &[]).await;
    assert_eq!(new.refusal(), (403, "PROJECT_INACTIVE".into()), "C33");
    assert_eq!(app.poll(&attempt).await["status"], "pending", "C33: PROJECT_INACTIVE would end it");
    decide(&world, &attempt.link, CONFIRM).await;
    assert_eq!(app.poll(&attempt).await["status"], "confirmed", "C33");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_of_hasty_polls_are_never_too_many() {
    let (world, app) = world_with_app(json!({})).await;
    let attempt = app.attempt().await;
    // The last half minute is left to a machine that is busy.
    for poll in 0..380 {
        world.clock.advance(Duration::from_millis(1_500));
        assert_eq!(app.poll(&attempt).await["status"], "pending", "C24: poll {poll}");
    }
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(app.poll(&attempt).await["status"], "expired", "C24: 600 s");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_secret_is_served_under_every_name() {
    use base64::Engine as _;
    let (world, app) = world_with_app(json!({})).await;
    let path = format!("/projects/{}", app.id);
    let secrets = as_developer(&world, "GET", &format!("{path}/webhook-secret"), None).await.json();
    assert_eq!(secrets["webhook_secret"], app.secret, "C6, C20: readable by its owner at any time");
    let standard = secrets["standard_webhooks_secret"].as_str().unwrap().strip_prefix("whsec_").unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(standard).unwrap();
    assert_eq!(bytes, app.secret.as_bytes(), "C6: the same key for libraries that decode");
    let listed = as_developer(&world, "GET", "/projects", None).await;
    assert!(!listed.body.contains(&app.secret), "C20: masked in lists");
    // A team that moves here keeps what its apps hold.
    let brought = "whsec_from_the_time_before_0123456789";
    let answer = change(&world, &app, json!({ "secret_key": brought })).await;
    assert_eq!(answer["ok"], true);
    let secrets = as_developer(&world, "GET", &format!("{path}/webhook-secret"), None).await.json();
    assert_eq!(secrets["webhook_secret"], brought, "C6");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_developers_objects_have_the_names_of_the_documents_and_of_the_client() {
    let (world, app) = world_with_app(json!({})).await;
    let me = as_developer(&world, "GET", "/me", None).await.json();
    assert!(me["id"].is_string() && me["email"].is_string() && is_iso8601(&me["created_at"]), "C13: flat");
    let developer = &me["developer"];
    assert_eq!((&developer["developer_id"], &developer["email"]), (&me["id"], &me["email"]), "C13: wrapped");
    assert_eq!((&developer["plan"], &developer["mau"]["limit"]), (&json!("business"), &json!(0)), "C23");

    let created = as_developer(&world, "POST", "/projects", Some(json!({ "name": "Shop" }))).await.json();
    let id = created["id"].as_str().unwrap();
    assert_eq!((&created["project_id"], &created["name"]), (&json!(id), &json!("Shop")), "C14, C17: flat");
    assert!(created["secret_key"].as_str().unwrap().starts_with("sk_test_"), "C17: whole");
    assert_eq!(created["webhook_url"], "", "C15");
    let path = format!("/projects/{id}");
    for (name, other) in [("is_active", "active"), ("active", "is_active")] {
        for value in [false, true] {
            let answer = as_developer(&world, "PATCH", &path, Some(json!({ name: value }))).await;
            assert_eq!(answer.status, 200, "C18: {name}: {answer:?}");
            let changed = answer.json();
            assert_eq!(
                (&changed["ok"], &changed[other]),
                (&json!(true), &json!(value)),
                "C14, C18, C19: {name}"
            );
        }
    }
    for none in [Value::Null, json!("")] {
        let answer = as_developer(&world, "PATCH", &path, Some(json!({ "webhook_url": none }))).await;
        assert_eq!((answer.status, &answer.json()["webhook_url"]), (200, &json!("")), "C15");
    }
    let attempt = app.attempt().await;
    let sessions = as_developer(&world, "GET", "/sessions", None).await.json();
    let session = &sessions["sessions"][0];
    assert_eq!(
        (&session["id"], &session["session_token"]),
        (&json!(attempt.id()), &json!(attempt.token)),
        "C21: wrapped, under both names"
    );
    for (days, status) in [(1, 200), (7, 200), (14, 200), (30, 200), (90, 200), (0, 400), (91, 400)] {
        let answer = as_developer(&world, "GET", &format!("/analytics?days={days}"), None).await;
        assert_eq!(answer.status, status, "C22: {days} days");
    }
    let deleted = as_developer(&world, "DELETE", &path, None).await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({ "ok": true })), "C19");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_below_the_root_of_whatever_base_a_client_is_given() {
    let (world, app) = world_with_app(json!({})).await;
    let body = json!({ "project_id": app.id });
    for path in [GENERATE, "//api/v1/generate/public", "/api//v1/generate/public"] {
        assert_eq!(app.call(path, &body, &[]).await.status, 200, "C34: {path}");
    }
    world.end().await;
}

#[test]
fn every_row_is_in_the_document_and_what_it_calls_tested_is() {
    let document = include_str!("../../../docs/compatibility.md");
    let tests = concat!(include_str!("conflicts.rs"), include_str!("webhook.rs"));
    for row in 1..=34 {
        let start = format!("| C{row} |");
        let line = document.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("docs/compatibility.md has no row C{row}"));
        let says = line.trim_end_matches('|').trim().ends_with("| yes");
        let named = tests.split('"').any(|text| {
            let names = text.split(':').next().unwrap_or_default();
            names.split(", ").any(|name| name == format!("C{row}"))
        });
        assert_eq!(says, named, "C{row}: {line}");
    }
}
