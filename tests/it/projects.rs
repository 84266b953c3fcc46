//! A developer's projects over HTTP: every field in every answer, what a change changes, whose they are, and how
//! they end. Secrets are in `project_secrets`, bots in `project_bots`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use telegram_connector::app::AppSettings;

use crate::support::{ALICE, App, Attempt, Options, World};

fn open_to_all() -> Options {
    let apps = AppSettings { demo: true, registration_open: true, ..AppSettings::default() };
    Options { apps, ..Options::default() }
}

const FIELDS: [&str; 22] = [
    "id",
    "project_id",
    "name",
    "secret_key",
    "secret_preview",
    "webhook_url",
    "webhook_expired",
    "webhook_disabled_reason",
    "is_active",
    "active",
    "public_access",
    "req_phone",
    "match_code",
    "allowed_origins",
    "client_timestamps",
    "return_url",
    "has_bot",
    "bot_username",
    "created_at",
    "created_at_ms",
    "sessions_count",
    "confirmed_count",
];

pub(crate) fn fields(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_is_in_every_answer_and_the_secret_in_one() {
    let world = World::new().await;
    let token = world.developer().await;
    let created = world.dev(&token, "POST", "/projects", Some(json!({ "name": "Bare", "unknown": 1 }))).await;
    assert_eq!(created.status, 200, "{created:?}");
    let created = created.json();
    assert_eq!(fields(&created), FIELDS.into());
    let (id, secret) = (created["id"].as_str().unwrap(), created["secret_key"].as_str().unwrap());
    assert!(id.starts_with("proj_") && secret.starts_with("sk_test_") && secret.len() == 51, "{created}");
    let masked = format!("sk_test_••••••••{}", &secret[47..]);
    let at = created["created_at_ms"].as_i64().unwrap();
    let mut expected = json!({
        "id": id, "project_id": id, "name": "Bare", "secret_key": masked, "secret_preview": &secret[..12],
        "webhook_url": "", "webhook_expired": false, "webhook_disabled_reason": null, "is_active": true, "active": true,
        "public_access": true, "req_phone": false, "match_code": false, "allowed_origins": [],
        "client_timestamps": "auto", "return_url": null, "has_bot": false, "bot_username": null,
        "created_at": created["created_at"], "created_at_ms": at, "sessions_count": 0, "confirmed_count": 0,
    });
    let listed = world.dev(&token, "GET", "/projects", None).await.json();
    assert_eq!(listed["projects"][1], expected, "after the demo");
    assert_eq!(world.dev(&token, "GET", &format!("/projects/{id}"), None).await.json(), expected);
    let changed = world.dev(&token, "PATCH", &format!("/projects/{id}"), Some(json!({}))).await.json();
    expected["ok"] = true.into();
    assert_eq!(changed, expected);

    let all = json!({
        "name": " Shop ", "webhook_url": "https://shop.example/hook", "webhook_expired": true, "is_active": false,
        "active": false, "public_access": false, "req_phone": true, "match_code": true, "bot_token": null,
        "allowed_origins": ["https://shop.example"], "client_timestamps": "unix_ms",
        "return_url": "https://shop.example/back", "secret_key": "correct-horse-battery-staple-correct-horse",
    });
    let created = world.dev(&token, "POST", "/projects", Some(all.clone())).await.json();
    let shown = |project: &Value| {
        let mut shown = all.as_object().unwrap().clone();
        shown.retain(|field, _| field != "bot_token" && field != "secret_key" && field != "name");
        for (field, value) in shown {
            assert_eq!(project[&field], value, "{field}");
        }
        assert_eq!(project["name"], "Shop");
    };
    shown(&created);
    assert_eq!(created["secret_key"], all["secret_key"]);
    assert_eq!(created["secret_preview"], "••••••••orse", "of what was brought no word is shown");
    let read =
        world.dev(&token, "GET", &format!("/projects/{}", created["id"].as_str().unwrap()), None).await;
    shown(&read.json());
    assert_eq!(read.json()["secret_key"], "••••••••orse");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_changes_what_it_names() {
    let world = World::new().await;
    let (app, token) = (world.app(json!({})).await, world.developer().await);
    let path = format!("/projects/{}", app.id);
    let url = "https://shop.example/hook";
    let back = "https://shop.example/back";
    let origin = |bytes: usize| format!("https://{}.example", "a".repeat(bytes - 16));
    // What is sent, and what the project says then of the fields it is about.
    for (change, then) in [
        (json!({ "name": "Shop" }), json!({ "name": "Shop", "is_active": true })),
        (json!({ "name": null }), json!({ "name": "Shop" })),
        (
            json!({ "webhook_url": url, "return_url": back }),
            json!({ "webhook_url": url, "return_url": back }),
        ),
        (json!({ "unknown": [] }), json!({ "webhook_url": url, "return_url": back })),
        (json!({ "webhook_url": null }), json!({ "webhook_url": "", "return_url": back })),
        (json!({ "return_url": "" }), json!({ "webhook_url": "", "return_url": null })),
        (
            json!({ "webhook_url": url, "return_url": back }),
            json!({ "webhook_url": url, "return_url": back }),
        ),
        (json!({ "webhook_url": "", "return_url": null }), json!({ "webhook_url": "", "return_url": null })),
        (json!({ "active": false }), json!({ "active": false, "is_active": false })),
        (json!({ "is_active": true }), json!({ "active": true, "is_active": true })),
        (json!({ "is_active": false, "active": false }), json!({ "active": false, "is_active": false })),
        (json!({ "active": true, "is_active": null }), json!({ "active": true, "is_active": true })),
        (
            json!({ "public_access": false, "req_phone": true, "match_code": true, "webhook_expired": true }),
            json!({ "public_access": false, "req_phone": true, "match_code": true, "webhook_expired": true }),
        ),
        (json!({ "bot_token": null }), json!({ "has_bot": false, "bot_username": null })),
        (json!({ "bot_token": "" }), json!({ "has_bot": false, "bot_username": null })),
        (
            json!({ "allowed_origins": ["https://a.example"], "client_timestamps": "iso8601" }),
            json!({ "allowed_origins": ["https://a.example"], "client_timestamps": "iso8601" }),
        ),
        (json!({ "allowed_origins": [origin(255)] }), json!({ "allowed_origins": [origin(255)] })),
        (json!({ "allowed_origins": [] }), json!({ "allowed_origins": [], "client_timestamps": "iso8601" })),
    ] {
        let answer = world.dev(&token, "PATCH", &path, Some(change.clone())).await;
        assert_eq!((answer.status, answer.json()["ok"].clone()), (200, true.into()), "{change}: {answer:?}");
        let read = world.dev(&token, "GET", &path, None).await.json();
        for (field, value) in then.as_object().unwrap() {
            assert_eq!((&answer.json()[field], &read[field]), (value, value), "{change}: {field}");
        }
    }
    let before = world.dev(&token, "GET", &path, None).await.json();
    for (change, code) in [
        (json!({ "is_active": true, "active": false }), "INVALID_REQUEST"),
        (json!({ "name": "" }), "INVALID_REQUEST"),
        (json!({ "name": "New", "client_timestamps": "" }), "INVALID_REQUEST"),
        (json!({ "name": "New", "return_url": "http://shop.example" }), "INVALID_REQUEST"),
        (json!({ "name": "New", "allowed_origins": "https://a.example" }), "INVALID_REQUEST"),
        (json!({ "name": "New", "allowed_origins": [origin(256)] }), "INVALID_REQUEST"),
        (json!({ "name": "New", "req_phone": "yes" }), "INVALID_REQUEST"),
        (json!({ "name": "New", "webhook_url": "http://shop.example/hook" }), "INVALID_WEBHOOK_URL"),
        (json!({ "name": "New", "webhook_url": "https://10.0.0.1/hook" }), "INVALID_WEBHOOK_URL"),
        (json!({ "name": "New", "secret_key": "short" }), "WEAK_SECRET"),
        (json!({ "name": "New", "secret_key": "" }), "WEAK_SECRET"),
        (json!({ "name": "New", "bot_token": "nonsense" }), "BOT_TOKEN_INVALID"),
        (json!({ "name": "New", "bot_token": "123456789:nobody" }), "BOT_TOKEN_INVALID"),
        (json!({ "name": "New", "grace_seconds": 60 }), "INVALID_REQUEST"),
        (json!({ "secret_key": "x".repeat(32), "grace_seconds": 604_801 }), "INVALID_REQUEST"),
    ] {
        let answer = world.dev(&token, "PATCH", &path, Some(change.clone())).await;
        assert_eq!(answer.refusal(), (400, code.into()), "{change}");
    }
    assert_eq!(
        world.dev(&token, "GET", &path, None).await.json(),
        before,
        "all of a change or nothing of it"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_project_refuses_new_sessions_and_lets_the_others_finish() {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let (app, token) = (world.app(json!({})).await, world.developer().await);
    let attempt = app.attempt().await;
    let path = format!("/projects/{}", app.id);
    world.dev(&token, "PATCH", &path, Some(json!({ "is_active": false }))).await;
    let refused = app.call("/api/v1/generate/public", &json!({ "project_id": app.id }), &[]).await;
    assert_eq!(refused.refusal(), (403, "PROJECT_INACTIVE".into()));
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));
    confirm(&world, &attempt).await;
    assert_eq!(app.wait(&attempt).await["status"], "confirmed");
    world.dev(&token, "PATCH", &path, Some(json!({ "active": true }))).await;
    app.attempt().await;
    world.end().await;
}

pub(crate) async fn confirm(world: &World, attempt: &Attempt) {
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
    world.tap(ALICE, prompt, "✅ Confirm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_developers_project_is_not_there() {
    let world = World::with(open_to_all()).await;
    let (app, owner, eve) =
        (world.app(json!({})).await, world.developer().await, world.register("eve@example.com").await);
    let path = format!("/projects/{}", app.id);
    let before = world.dev(&owner, "GET", &path, None).await.json();
    let calls = [
        ("GET", path.clone(), None),
        ("PATCH", path.clone(), Some(json!({ "name": "Mine" }))),
        ("PATCH", path.clone(), Some(json!({ "name": "" }))),
        ("DELETE", path.clone(), None),
        ("POST", format!("{path}/regenerate"), Some(json!({}))),
        ("POST", format!("{path}/regenerate"), Some(json!({ "grace_seconds": 604_801 }))),
        ("GET", format!("{path}/webhook-secret"), None),
    ];
    for (method, path, body) in &calls {
        let answer = world.dev(&eve, method, path, body.clone()).await;
        assert_eq!(answer.refusal(), (404, "PROJECT_NOT_FOUND".into()), "{method} {path}");
        let nowhere = path.replace(&app.id, "proj_nothere");
        let unknown = world.dev(&owner, method, &nowhere, body.clone()).await;
        assert_eq!(unknown.json(), answer.json(), "as one that there is not: {method} {path}");
        let odd = world.dev(&owner, method, &path.replace(&app.id, "%00"), body.clone()).await;
        assert_eq!(odd.refusal(), (404, "PROJECT_NOT_FOUND".into()), "{method} {path}");
        let stranger = world.service.send(method, &format!("/api/v1/dev{path}"), &[], None).await;
        assert_eq!(stranger.refusal(), (401, "UNAUTHORIZED".into()), "{method} {path}");
        let keyed = world.dev(&app.secret, method, path, body.clone()).await;
        assert_eq!(keyed.refusal(), (401, "UNAUTHORIZED".into()), "a project's key is no developer's token");
    }
    assert_eq!(world.dev(&eve, "GET", "/projects", None).await.json(), json!({ "projects": [] }));
    assert_eq!(world.dev(&owner, "GET", &path, None).await.json(), before);
    let secret = world.dev(&owner, "GET", &format!("{path}/webhook-secret"), None).await.json();
    assert_eq!(secret["webhook_secret"], app.secret);
    world.end().await;
}

pub(crate) async fn world_with_app() -> (World, App, String) {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let (app, token) = (world.app(json!({})).await, world.developer().await);
    (world, app, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_is_gone_for_everybody_and_for_good() {
    let (mut world, app, token) = world_with_app().await;
    let attempt = app.attempt().await;
    let path = format!("/projects/{}", app.id);
    let deleted = world.dev(&token, "DELETE", &path, None).await;
    assert_eq!((deleted.status, deleted.json()), (200, json!({ "ok": true })));
    for round in 0..2 {
        let app = app.at(&world.service);
        let body = json!({ "project_id": app.id, "session_token": attempt.token });
        for call in ["/api/v1/generate/public", "/api/v1/verify/public"] {
            let answer = app.call(call, &body, &[]).await;
            assert_eq!(answer.refusal(), (404, "PROJECT_NOT_FOUND".into()), "{call}, round {round}");
        }
        for call in ["/api/v1/generate", "/api/v1/verify", "/api/v1/cancel"] {
            let answer = app.call_keyed(call, &body).await;
            assert_eq!(answer.refusal(), (404, "PROJECT_NOT_FOUND".into()), "{call}, round {round}");
        }
        for method in ["GET", "DELETE"] {
            let answer = world.dev(&token, method, &path, None).await;
            assert_eq!(answer.refusal(), (404, "PROJECT_NOT_FOUND".into()), "{method}, round {round}");
        }
        let listed = world.dev(&token, "GET", "/projects", None).await.json();
        assert_eq!(listed["projects"].as_array().unwrap().len(), 1, "only the demo");
        world.restart().await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_developer_has_a_hundred_projects_and_no_more_however_they_ask() {
    let world = World::with(open_to_all()).await;
    let (owner, eve) = (world.developer().await, world.register("eve@example.com").await);
    let create = || world.dev(&eve, "POST", "/projects", Some(json!({ "name": "One of many" })));
    let answers = futures_util::future::join_all((0..103).map(|_| create())).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(made.len(), 100);
    for answer in refused {
        assert_eq!(answer.refusal(), (409, "TOO_MANY_PROJECTS".into()));
    }
    let listed = world.dev(&eve, "GET", "/projects", None).await.json();
    assert_eq!(listed["projects"].as_array().unwrap().len(), 100);
    let others = world.dev(&owner, "POST", "/projects", Some(json!({ "name": "Not hers" }))).await;
    assert_eq!(others.status, 200, "{others:?}");
    let one = format!("/projects/{}", made[0].json()["id"].as_str().unwrap());
    assert_eq!(world.dev(&eve, "DELETE", &one, None).await.status, 200);
    assert_eq!(create().await.status, 200);
    world.end().await;
}
