//! What surrounds the endpoints: probes, documents, the shape of every error.

use serde_json::{Value, json};
use telegram_connector::app::AppSettings;

use crate::support::{ALICE, Options, World};

#[tokio::test(flavor = "multi_thread")]
async fn probes_tell_how_each_part_is() {
    let world = World::new().await;
    assert_eq!(world.service.get("/healthz").await.json(), json!({ "ok": true }));
    let ready = world.service.get("/readyz").await;
    assert_eq!(ready.status, 200);
    let parts = json!({
        "store": "ok", "session_store": "ok", "telegram": "signed_out", "telegram_reason": null, "bot": "none"
    });
    assert_eq!(ready.json(), parts);
    world.signed_in_as(ALICE).await;
    crate::support::eventually("connected", || async {
        world.service.get("/readyz").await.json()["telegram"] == "ok"
    })
    .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happens_and_are_the_operators() {
    let world = World::new().await;
    world.fail("auth.sendCode", "FLOOD_WAIT_9").await;
    assert_eq!(world.sign_in(json!({ "phone": ALICE })).await.status, 429);
    world.request_code(ALICE).await;
    let foreign = world.service.send("GET", "/metrics", &[("origin", "https://evil.example")], None).await;
    assert_eq!(foreign.refusal(), (401, "UNAUTHORIZED".into()));
    let text = world.service.get("/metrics").await.body;
    for line in [
        "connector_http_requests_total{method=\"POST\",route=\"/sign_in\",status=\"206\"}",
        "connector_telegram_calls_total{method=\"auth.sendCode\",outcome=\"flood\"}",
        "connector_flood_waits_total{method=\"auth.sendCode\"}",
        "connector_telegram_call_seconds_bucket",
        "connector_store_seconds_count",
        "connector_session_store_seconds_count",
        "connector_account_state{state=\"signed_out\"}",
        "connector_sign_in_pending",
        "connector_store_up 1",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    // More of it than a sum of seconds may hold by chance.
    assert!(!text.contains("5550100001"), "no phone number");
    world.service.send("INVENTED", "/nowhere-at-all", &[], None).await;
    let text = world.service.get("/metrics").await.body;
    assert!(!text.contains("INVENTED") && !text.contains("nowhere-at-all"), "labels are closed sets");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ops_listener_has_probes_and_metrics_and_nothing_else() {
    let options = Options { admin_token: Some("token"), loopback: false, ..Options::default() };
    let world = World::with(options).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(world.ops.get(path).await.status, 200, "{path}");
    }
    assert_eq!(world.service.get("/metrics").await.status, 401);
    for path in ["/sign_in", "/docs", "/openapi.json", "/", "/llms.txt"] {
        assert_eq!(world.ops.get(path).await.refusal(), (404, "NOT_FOUND".into()), "{path}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_json_with_a_code() {
    let world = World::new().await;
    assert_eq!(world.service.get("/nowhere").await.refusal(), (404, "NOT_FOUND".into()));
    let put = world.service.send("PUT", "/sign_in", &[], None).await;
    assert_eq!(put.refusal(), (405, "METHOD_NOT_ALLOWED".into()));
    assert_eq!(put.headers["allow"], "POST, GET, DELETE");
    let put = world.service.send("PUT", "/api/v1/dev/sessions/some", &[], None).await;
    assert_eq!(
        (put.refusal(), &put.headers["allow"]),
        ((405, "METHOD_NOT_ALLOWED".into()), &"GET".parse().unwrap())
    );
    let large = format!("{{\"phone\":\"{}\"}}", "1".repeat(70_000));
    let headers = [("content-type", "application/json")];
    let answer = world.service.send("POST", "/sign_in", &headers, Some(&large)).await;
    assert_eq!(answer.refusal(), (413, "BODY_TOO_LARGE".into()));
    assert!(answer.headers.contains_key("x-request-id"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_are_served_and_current() {
    let world = World::new().await;
    let document = world.service.get("/openapi.json").await;
    assert_eq!(document.headers["content-type"], "application/json; charset=utf-8");
    let served: Value = document.json();
    let kept: Value = serde_json::from_str(include_str!("../../openapi/telegram-connector.json")).unwrap();
    assert_eq!(served, kept, "run: cargo run -- openapi > openapi/telegram-connector.json");
    for (status, code) in [("200", "post"), ("206", "post"), ("410", "post"), ("429", "post"), ("503", "get")]
    {
        assert!(kept["paths"]["/sign_in"][code]["responses"][status].is_object(), "{status} {code}");
    }
    let docs = world.service.get("/docs").await;
    assert!(docs.body.contains("SwaggerUIBundle") && docs.body.contains(&document.body), "the same document");
    assert!(world.service.get("/").await.body.contains("/docs"));
    assert!(world.service.get("/llms.txt").await.body.contains("/sign_in"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_is_served_beside_an_embedded_sandbox_only() {
    let world = World::new().await;
    for (path, holds) in [
        ("/demo", "Sign in with Telegram"),
        ("/demo/", "Sign in with Telegram"),
        ("/demo/demo.js", "EventSource"),
        ("/demo/demo.css", "color-scheme"),
        ("/demo/qr?text=https%3A%2F%2Ft.me%2Fsome_bot", "<svg"),
    ] {
        let answer = world.service.get(path).await;
        assert!(answer.status == 200 && answer.body.contains(holds), "{path}: {answer:?}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
    }
    assert_eq!(world.service.get("/demo/qr").await.refusal(), (400, "INVALID_REQUEST".into()));
    world.end().await;

    let apps = AppSettings { demo: false, ..AppSettings::default() };
    let world = World::with(Options { apps, ..Options::default() }).await;
    for path in ["/demo", "/demo/qr?text=a", "/demo/demo.js"] {
        assert_eq!(world.service.get(path).await.refusal(), (404, "NOT_FOUND".into()), "{path}");
    }
    world.end().await;
}
