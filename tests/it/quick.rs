//! A poll of a pending session, and a browser's wish for one, are answered before any routing. It must not be possible to
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
pub(crate) fn seen(mut answer: Answer) -> (u16, Vec<(String, String)>, String) {
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

/// A wish for a session, quickly granted where that is possible, or by the routes.
async fn create(app: &App, project: &str, routed: bool, headers: &[(&str, &str)], nonce: &str) -> Answer {
    let mut body = json!({ "project_id": project, "nonce": nonce });
    if routed {
        body["sent_by"] = "a test".into();
    }
    // Not looked for by the quick way: a key.
    let key = [("authorization", "Bearer nonsense")];
    let headers = if routed { [headers, &key].concat() } else { headers.to_vec() };
    app.call("/api/v1/generate/public", &body, &headers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_the_same_whoever_granted_it() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let closed = world.app(json!({ "active": false })).await;
    let shop = world.app(json!({ "allowed_origins": ["https://shop.example"] })).await;
    let long = "n".repeat(129);
    for (project, headers, nonce, status, code) in [
        (&*app.id, &[][..], "7", 200, ""),
        (&*app.id, &[("origin", "https://shop.example"), ("user-agent", "curl/8")][..], "7", 200, ""),
        (&*app.id, &[][..], &*long, 400, "INVALID_REQUEST"),
        ("proj_nobody", &[][..], "7", 404, "PROJECT_NOT_FOUND"),
        ("nobody", &[][..], "7", 404, "PROJECT_NOT_FOUND"),
        (&*closed.id, &[][..], "7", 403, "PROJECT_INACTIVE"),
        (&*shop.id, &[("origin", "https://elsewhere.example")][..], "7", 403, "ORIGIN_NOT_ALLOWED"),
    ] {
        let quick = create(&app, project, false, headers, nonce).await;
        let routed = create(&app, project, true, headers, nonce).await;
        assert_eq!((quick.status, routed.status), (status, status), "{quick:?} {routed:?}");
        if status == 200 {
            let fields =
                |answer: &Answer| -> Vec<_> { answer.json().as_object().unwrap().keys().cloned().collect() };
            assert_eq!(fields(&quick), fields(&routed));
            let names = |answer: &Answer| -> std::collections::BTreeSet<_> {
                answer.headers.keys().map(ToString::to_string).collect()
            };
            assert_eq!(names(&quick), names(&routed));
            let prompted = Attempt::of(quick.json());
            assert_eq!(app.poll(&prompted).await["status"], "pending");
        } else {
            assert_eq!(quick.refusal(), (status, code.to_owned()));
            assert_eq!(seen(quick), seen(routed));
        }
    }
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
