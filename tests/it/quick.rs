//! A poll of a pending session is answered before any routing and without a look at the store. It must not be possible to
//! tell, and it must never be out of date.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{ALICE, Answer, App, Attempt, Options, World};

/// The poll that is answered quickly where that is possible.
async fn plain(app: &App, attempt: &Attempt, headers: &[(&str, &str)]) -> Answer {
    let body = json!({ "project_id": app.id, "session_token": attempt.token });
    app.call("/api/v1/verify/public", &body, headers).await
}

/// The same question with something in it that is not needed: the routes answer it.
async fn routed(app: &App, attempt: &Attempt, headers: &[(&str, &str)]) -> Answer {
    let body = json!({ "project_id": app.id, "session_token": attempt.token, "sent_by": "a test" });
    app.call("/api/v1/verify/public", &body, headers).await
}

/// What a client sees of an answer, without what differs between any two.
fn seen(mut answer: Answer) -> (u16, Vec<(String, String)>, String) {
    for differs in ["x-request-id", "date"] {
        assert!(answer.headers.remove(differs).is_some(), "{differs}: {answer:?}");
    }
    let headers = answer.headers.iter();
    let mut headers: Vec<_> =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.sort();
    (answer.status, headers, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_tell_the_quick_answer_from_the_other_one() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let other = world.app(json!({})).await;
    let attempt = app.attempt().await;
    let elsewhere = Attempt { token: attempt.token.clone(), ..other.attempt().await };
    for (app, attempt, headers, status) in [
        (&app, &attempt, &[][..], 200),
        (&app, &attempt, &[("origin", "https://shop.example")][..], 200),
        (&app, &attempt, &[("authorization", "Bearer nonsense")][..], 200),
        (&app, &attempt, &[("x-forwarded-for", "203.0.113.7")][..], 200),
        (&other, &elsewhere, &[][..], 404),
    ] {
        let (plain, routed) = (plain(app, attempt, headers).await, routed(app, attempt, headers).await);
        assert_eq!(plain.status, status, "{plain:?}");
        assert_eq!(seen(plain), seen(routed), "{headers:?}");
    }
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_poll_is_refused_as_ever() {
    let (_world, app) = World::with_app(Options::default(), json!({})).await;
    let token = app.attempt().await.token;
    let url = "/api/v1/verify/public";
    let sent = |body: String| {
        let service = app.service.clone();
        async move { service.send("POST", url, &[("content-type", "application/json")], Some(&body)).await }
    };
    let poll = json!({ "project_id": app.id, "session_token": token }).to_string();
    for (body, status, code) in [
        (String::new(), 400, "INVALID_REQUEST"),
        (poll[..poll.len() - 1].to_owned(), 400, "INVALID_REQUEST"),
        (format!("[{poll}]"), 400, "INVALID_REQUEST"),
        (json!([app.id, token]).to_string(), 400, "INVALID_REQUEST"),
        (format!("{poll}{}", " ".repeat(70_000)), 413, "BODY_TOO_LARGE"),
        (json!({ "project_id": app.id, "session_token": 7 }).to_string(), 400, "INVALID_REQUEST"),
        (
            json!({ "project_id": app.id, "session_token": token, "wait": 0 }).to_string(),
            400,
            "INVALID_REQUEST",
        ),
    ] {
        let answer = sent(body.clone()).await;
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{}", &body[..body.len().min(99)]);
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
    let escaped = poll.replacen("sess_", "\\u0073ess_", 1);
    assert_eq!(sent(escaped).await.json(), json!({ "status": "pending" }), "the same JSON in other letters");
    let twice = format!("{{\"session_token\":\"nobody's\",{}", &poll[1..]);
    assert_eq!(sent(twice).await.json(), json!({ "status": "pending" }), "the last one counts");
    let untyped = app.service.send("POST", url, &[("content-type", "text/plain")], Some(&poll)).await;
    assert_eq!(untyped.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_by_the_next_poll() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let [confirmed, cancelled, expired, closed] =
        [app.attempt().await, app.attempt().await, app.attempt().await, app.attempt().await];
    let status = async |attempt: &Attempt| plain(&app, attempt, &[]).await.json()["status"].clone();
    for attempt in [&confirmed, &cancelled, &expired, &closed] {
        assert_eq!(status(attempt).await, "pending");
    }
    let opened = world.open(ALICE, &confirmed.link).await;
    let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
    assert_eq!(status(&confirmed).await, "pending", "opened, and not decided");
    world.tap(ALICE, prompt, "✅ Confirm").await;
    assert_eq!(status(&confirmed).await, "confirmed");
    app.consume(&confirmed).await;
    assert_eq!(status(&confirmed).await, "used");
    let cancel = json!({ "project_id": app.id, "session_token": cancelled.token });
    assert_eq!(app.call_keyed("/api/v1/cancel", &cancel).await.status, 200);
    assert_eq!(status(&cancelled).await, "cancelled");

    let developer = world.developer().await;
    let settings = async |settings: Value| {
        let changed = world.dev(&developer, "PATCH", &format!("/projects/{}", app.id), Some(settings)).await;
        assert_eq!(changed.status, 200, "{changed:?}");
    };
    settings(json!({ "allowed_origins": ["https://shop.example"] })).await;
    let from = async |site: &str| plain(&app, &closed, &[("origin", site)]).await;
    assert_eq!(from("https://shop.example").await.status, 200);
    assert_eq!(from("https://elsewhere.example").await.refusal().0, 403);
    settings(json!({ "public_access": false })).await;
    assert_eq!(from("https://shop.example").await.refusal().0, 403);
    let keyed = json!({ "project_id": app.id, "session_token": closed.token });
    assert_eq!(app.call_keyed("/api/v1/verify/public", &keyed).await.json()["status"], "pending");
    settings(json!({ "public_access": true, "allowed_origins": [] })).await;

    world.clock.advance(Duration::from_secs(599));
    assert_eq!(status(&expired).await, "pending");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(status(&expired).await, "expired");
}
