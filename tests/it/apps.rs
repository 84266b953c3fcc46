//! What apps and their servers may call, and what they are told when they may not: statuses, codes, bodies, CORS.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::support::{ALICE, Attempt, Options, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_session_is_what_published_clients_read() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let body = json!({ "project_id": app.id });
    let answer = app.call("/api/v1/generate/public", &body, &[]).await;
    assert_eq!(answer.status, 200, "Flutter takes nothing else");
    let created = answer.json();
    let fields: BTreeSet<&str> = created.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["session_token", "deeplink", "expires_at", "tg_link", "web_link", "typed_code", "events_url"];
    assert_eq!(fields, expected.into());
    assert!(created["expires_at"].is_i64(), "an integer of milliseconds: {created}");
    let token = created["session_token"].as_str().unwrap();
    assert!(token.len() <= 64 && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)));
    // Who sees the QR code cannot poll.
    let start = created["deeplink"].as_str().unwrap().rsplit('=').next().unwrap();
    assert!(
        (22..=43).contains(&start.len())
            && !token.contains(start)
            && !created["events_url"].as_str().unwrap().contains(token)
    );
    let with_start = json!({ "project_id": app.id, "session_token": start });
    let answer = app.call("/api/v1/verify/public", &with_start, &[]).await;
    assert_eq!(answer.refusal(), (404, "SESSION_NOT_FOUND".into()));
    // Clients that join a base URL with a slash at its end.
    let answer = app.call("//api/v1/generate/public", &body, &[("user-agent", "Dart/3.5 (dart:io)")]).await;
    assert_eq!(answer.status, 200);
    let charset = [("content-type", "application/json; charset=utf-8")];
    let answer = app.service.send("POST", "/api/v1/generate/public", &charset, Some(&body.to_string())).await;
    assert_eq!(answer.status, 200);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_code() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let other = world.app(json!({ "name": "Other" })).await;
    let attempt = app.attempt().await;
    let (generate, verify) = ("/api/v1/generate/public", "/api/v1/verify/public");
    let long = "x".repeat(129);
    for (path, body, status, code) in [
        (generate, json!({}), 400, "INVALID_REQUEST"),
        (generate, json!({ "project_id": 7 }), 400, "INVALID_REQUEST"),
        // An array of the fields in their order is no object.
        (generate, json!([app.id]), 400, "INVALID_REQUEST"),
        (generate, json!({ "project_id": app.id, "nonce": long }), 400, "INVALID_REQUEST"),
        (generate, json!({ "project_id": "proj_nothere" }), 404, "PROJECT_NOT_FOUND"),
        (generate, json!({ "project_id": "" }), 404, "PROJECT_NOT_FOUND"),
        (verify, json!({ "project_id": app.id }), 400, "INVALID_REQUEST"),
        (verify, json!({ "project_id": app.id, "session_token": "sess_no" }), 404, "SESSION_NOT_FOUND"),
        (verify, json!({ "project_id": app.id, "session_token": "" }), 404, "SESSION_NOT_FOUND"),
        (verify, json!({ "project_id": other.id, "session_token": attempt.token }), 404, "SESSION_NOT_FOUND"),
        (
            verify,
            json!({ "project_id": "proj_no", "session_token": attempt.token }),
            404,
            "PROJECT_NOT_FOUND",
        ),
        (
            verify,
            json!({ "project_id": app.id, "session_token": attempt.token, "wait": 0 }),
            400,
            "INVALID_REQUEST",
        ),
        (
            verify,
            json!({ "project_id": app.id, "session_token": attempt.token, "wait": 26 }),
            400,
            "INVALID_REQUEST",
        ),
        (
            verify,
            json!({ "project_id": app.id, "session_token": attempt.token, "wait": "5" }),
            400,
            "INVALID_REQUEST",
        ),
    ] {
        let answer = app.call(path, &body, &[("origin", "https://any.example")]).await;
        assert_eq!(answer.refusal(), (status, code.into()), "{path} {body}");
        assert_eq!(answer.headers["access-control-allow-origin"], "*", "on errors too");
    }
    let bad_json =
        app.service.send("POST", generate, &[("content-type", "application/json")], Some("{")).await;
    assert_eq!(bad_json.refusal(), (400, "INVALID_REQUEST".into()));
    let no_json = app.service.send("POST", generate, &[("content-type", "text/plain")], Some("{}")).await;
    assert_eq!(no_json.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".into()));
    assert_eq!(app.service.get(generate).await.refusal(), (405, "METHOD_NOT_ALLOWED".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_site_may_call_what_is_public_and_nothing_else() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    for path in ["/api/v1/generate/public", "/api/v1/verify/public", "/api/v1/events/abc"] {
        let headers = [("origin", "https://shop.example"), ("access-control-request-method", "POST")];
        let preflight = app.service.send("OPTIONS", path, &headers, None).await;
        assert_eq!(preflight.status, 204, "{path}");
        assert_eq!(preflight.headers["access-control-allow-origin"], "*");
        let allowed = preflight.headers["access-control-allow-headers"].to_str().unwrap().to_lowercase();
        assert!(allowed.contains("content-type"), "{allowed}");
    }
    for path in
        ["/api/v1/verify", "/api/v1/generate", "/api/v1/dev/projects", "/sign_in", "/metrics", "/healthz"]
    {
        for method in ["OPTIONS", "GET", "POST"] {
            let answer = app.service.send(method, path, &[("origin", "https://shop.example")], None).await;
            assert!(answer.headers.get("access-control-allow-origin").is_none(), "{method} {path}");
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_decides_who_may_call_for_it() {
    let (world, app) =
        World::with_app(Options::default(), json!({ "allowed_origins": ["https://shop.example"] })).await;
    let body = json!({ "project_id": app.id });
    let generate = "/api/v1/generate/public";
    let stranger = app.call(generate, &body, &[("origin", "https://evil.example")]).await;
    assert_eq!(stranger.refusal(), (403, "ORIGIN_NOT_ALLOWED".into()));
    assert_eq!(stranger.headers["access-control-allow-origin"], "*", "so that the page can read why");
    assert_eq!(app.call(generate, &body, &[("origin", "https://shop.example")]).await.status, 200);
    assert_eq!(app.call(generate, &body, &[]).await.status, 200, "apps and servers have no origin");

    let closed = world.app(json!({ "public_access": false })).await;
    let body = json!({ "project_id": closed.id });
    assert_eq!(closed.call(generate, &body, &[]).await.refusal(), (403, "PUBLIC_ACCESS_DISABLED".into()));
    let keyed = closed.call_keyed(generate, &body).await;
    assert_eq!(keyed.status, 200, "{keyed:?}");
    let attempt = Attempt::of(keyed.json());
    let poll = json!({ "project_id": closed.id, "session_token": attempt.token });
    assert_eq!(
        closed.call_keyed("/api/v1/verify/public", &poll).await.json(),
        json!({ "status": "pending" })
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_projects_own_key_opens_the_servers_side() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let other = world.app(json!({ "name": "Other" })).await;
    let attempt = app.attempt().await;
    for path in ["/api/v1/generate", "/api/v1/verify", "/api/v1/cancel"] {
        let body = json!({ "project_id": app.id, "session_token": attempt.token });
        assert_eq!(app.call(path, &body, &[]).await.refusal(), (401, "UNAUTHORIZED".into()), "{path}");
        let foreign = format!("Bearer {}", other.secret);
        let answer = app.call(path, &body, &[("authorization", &foreign)]).await;
        assert_eq!(answer.refusal(), (401, "UNAUTHORIZED".into()), "{path}");
        let unknown = json!({ "project_id": "proj_nothere", "session_token": attempt.token });
        assert_eq!(
            app.call_keyed(path, &unknown).await.refusal(),
            (404, "PROJECT_NOT_FOUND".into()),
            "{path}"
        );
    }
    let pending = app.consume(&attempt).await;
    assert_eq!(pending, json!({ "status": "pending" }), "asking before the person decided changes nothing");
    let foreign = json!({ "project_id": other.id, "session_token": attempt.token });
    assert_eq!(
        other.call_keyed("/api/v1/verify", &foreign).await.refusal(),
        (404, "SESSION_NOT_FOUND".into())
    );
    for client in [json!([null, null]), json!("me"), json!({ "ip": "somewhere" })] {
        let body = json!({ "project_id": app.id, "client": client });
        assert_eq!(
            app.call_keyed("/api/v1/generate", &body).await.refusal(),
            (400, "INVALID_REQUEST".into()),
            "{body}"
        );
    }
    let both = json!({ "project_id": app.id, "session_token": attempt.token, "proof": "x" });
    assert_eq!(app.call_keyed("/api/v1/verify", &both).await.refusal(), (400, "INVALID_REQUEST".into()));
    assert_eq!(app.consume_proof("not.a.proof").await.refusal(), (400, "INVALID_PROOF".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn developers_sign_in_and_keep_their_projects_to_themselves() {
    let (world, app) = World::with_app(Options::default(), json!({ "secret_key": "whsec_".repeat(8) })).await;
    assert_eq!(app.secret, "whsec_".repeat(8), "an app's own secret stays as it is");
    let projects = "/api/v1/dev/projects";
    for bearer in [None, Some("Bearer nonsense"), Some("Basic abc")] {
        let headers: Vec<(&str, &str)> = bearer.map(|bearer| ("authorization", bearer)).into_iter().collect();
        let answer = world.service.send("GET", projects, &headers, None).await;
        assert_eq!(answer.refusal(), (401, "UNAUTHORIZED".into()));
    }
    for (email, password) in [("demo@example.com", "wrong-password"), ("nobody@example.com", "demo-password")]
    {
        let login = json!({ "email": email, "password": password });
        let answer = world.service.post("/api/v1/dev/login", &login).await;
        assert_eq!(answer.refusal(), (401, "UNAUTHORIZED".into()));
    }
    let bearer = format!("Bearer {}", world.developer().await);
    // Node's client sends a content type and no body.
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = world.service.send("GET", projects, &headers, None).await;
    let listed = answer.json()["projects"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2, "the demo and the new one");
    assert!(!answer.body.contains(&app.secret), "masked in lists");
    let path = format!("{projects}/{}/webhook-secret", app.id);
    let secret = world.service.send("GET", &path, &headers, None).await.json();
    assert_eq!(secret["webhook_secret"], app.secret);
    assert_eq!(
        world.service.send("GET", &format!("{projects}/proj_no/webhook-secret"), &headers, None).await.status,
        404
    );
    for (settings, code) in [
        (json!({ "secret_key": "short" }), "WEAK_SECRET"),
        (json!({ "name": " " }), "INVALID_REQUEST"),
        (json!({ "name": "Shop\nConfirm now" }), "INVALID_REQUEST"),
        (json!({ "name": "\u{3164}" }), "INVALID_REQUEST"),
        (json!({ "name": "Shop\u{202e}pohS" }), "INVALID_REQUEST"),
        (json!({ "name": "x".repeat(65) }), "INVALID_REQUEST"),
        (json!({ "return_url": "javascript:alert(1)" }), "INVALID_REQUEST"),
        (json!({ "return_url": "https://localhost/back" }), "INVALID_REQUEST"),
        (json!({ "return_url": "https://user@shop.example/back" }), "INVALID_REQUEST"),
        (json!({ "allowed_origins": ["https://shop.example/path"] }), "INVALID_REQUEST"),
        (json!({ "client_timestamps": "later" }), "INVALID_REQUEST"),
        (json!({ "webhook_url": "https://127.0.0.1/hook" }), "INVALID_WEBHOOK_URL"),
        (json!({ "bot_token": "nonsense" }), "BOT_TOKEN_INVALID"),
    ] {
        assert_eq!(world.try_app(settings.clone()).await.refusal(), (400, code.into()), "{settings}");
    }
    let out = world.service.send("POST", "/api/v1/dev/logout", &headers, None).await;
    assert_eq!((out.status, out.json()), (200, json!({ "ok": true })));
    assert_eq!(world.service.send("GET", projects, &headers, None).await.status, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_when_it_was_said_to() {
    let (world, _) = World::with_app(Options::default(), json!({})).await;
    let login = json!({ "email": "Demo@Example.com", "password": "demo-password", "expires_in": 60 });
    let answer = world.service.post("/api/v1/dev/login", &login).await.json();
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let list = || world.service.send("GET", "/api/v1/dev/projects", &[], None);
    assert_eq!(list().await.status, 401);
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(world.service.send("GET", "/api/v1/dev/projects", &headers, None).await.status, 200);
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.service.send("GET", "/api/v1/dev/projects", &headers, None).await.status, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_deliver_a_prompt_is_said_and_how_to_mend_it() {
    let world = World::new().await;
    let app = world.app(json!({})).await;
    let body = json!({ "project_id": app.id });
    let generate = "/api/v1/generate/public";
    let answer = app.call(generate, &body, &[]).await;
    assert_eq!(answer.refusal(), (503, "NO_TELEGRAM_ACCOUNT".into()));
    assert!(answer.json()["error"].as_str().unwrap().contains("POST /sign_in"), "{answer:?}");
    let phone = world.app(json!({ "req_phone": true })).await;
    let answer = phone.call(generate, &json!({ "project_id": phone.id }), &[]).await;
    assert_eq!(answer.refusal(), (400, "PHONE_NEEDS_BOT".into()));
    world.signed_in_as(ALICE).await;
    let created = app.call(generate, &body, &[]).await;
    assert_eq!(created.status, 200, "{created:?}");
    assert!(created.json()["deeplink"].as_str().unwrap().starts_with("https://t.me/alice_sandbox?text="));
    world.end().await;
}
