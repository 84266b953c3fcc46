//! Learning of a decision: a poll that is held, a stream of statuses, and many callers at once for one confirmation.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use telegram_connector::app::AppSettings;
use telegram_connector::flows::auth::{AppLimits, HeldLimits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{ALICE, App, Attempt, Options, World, eventually, jwt_part};

const CONFIRM: &str = "✅ Confirm";

/// Opens the link and taps Confirm.
async fn confirm(world: &World, attempt: &Attempt) {
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    world.tap(ALICE, prompt["id"].as_i64().unwrap(), CONFIRM).await;
}

/// A stream of events: what has come so far, and the rest when it ends.
struct Stream(reqwest::Response, String);

impl Stream {
    async fn open(attempt: &Attempt) -> Self {
        let url = attempt.created["events_url"].as_str().unwrap();
        let response = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert_eq!(response.headers()["x-accel-buffering"], "no", "a proxy passes each event on");
        Self(response, String::new())
    }

    /// Reads until this many events have come.
    async fn until(&mut self, events: usize) -> &str {
        while self.1.matches("\n\n").count() < events {
            let chunk = self.0.chunk().await.unwrap().expect("the stream goes on");
            self.1.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        &self.1
    }

    async fn the_rest(mut self) -> String {
        while let Some(chunk) = self.0.chunk().await.unwrap() {
            self.1.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        self.1
    }
}

/// A poll that is known to be in the service's hands.
struct HeldPoll(TcpStream);

impl HeldPoll {
    async fn begin(app: &App, attempt: &Attempt) -> Self {
        Self::begin_with(app, attempt, "close", "").await
    }

    /// `connection` is what is to come of it; `more` follows the request, in the same piece.
    async fn begin_with(app: &App, attempt: &Attempt, connection: &str, more: &str) -> Self {
        let address = app.service.url().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        // What is sent later goes when it is sent, not with the end.
        stream.set_nodelay(true).unwrap();
        let body = json!({ "project_id": app.id, "session_token": attempt.token, "wait": 25 }).to_string();
        let head = format!(
            "POST /api/v1/verify/public HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Connection: {connection}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Comes when the handler wants the body.
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(format!("{body}{more}").as_bytes()).await.unwrap();
        Self(stream)
    }

    async fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

const PENDING: &str = "event: status\ndata: {\"status\":\"pending\"}\n\n";
const OPENED: &str = "event: opened\ndata: {\"status\":\"pending\"}\n\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_held_poll_answers_when_the_person_decides() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    let (answer, ()) = tokio::join!(app.wait(&attempt), confirm(&world, &attempt));
    assert_eq!(answer["status"], "confirmed");
    // What is decided is not held.
    assert_eq!(app.wait(&attempt).await["status"], "confirmed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_poll_answers_as_the_project_is_then() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let token = world.developer().await;
    let path = format!("/projects/{}", app.id);
    let attempt = app.attempt().await;
    let mut held = HeldPoll::begin(&app, &attempt).await;
    let new = world.dev(&token, "POST", &format!("{path}/regenerate"), None).await.json();
    confirm(&world, &attempt).await;
    let answer = held.answer().await;
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let app = App { secret: new["secret_key"].as_str().unwrap().to_owned(), ..app };
    let consumed = app.consume_proof(body["proof"].as_str().unwrap()).await;
    assert_eq!((consumed.status, &consumed.json()["status"]), (200, &json!("confirmed")), "{consumed:?}");

    let attempt = app.attempt().await;
    let mut held = HeldPoll::begin(&app, &attempt).await;
    let closed = world.dev(&token, "PATCH", &path, Some(json!({ "public_access": false }))).await;
    assert_eq!(closed.status, 200, "{closed:?}");
    confirm(&world, &attempt).await;
    let answer = held.answer().await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("PUBLIC_ACCESS_DISABLED"), "{answer}");
    assert!(!answer.contains("proof"), "{answer}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_poll_ends_with_its_time_with_the_session_and_with_the_service() {
    let (mut world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    let body = json!({ "project_id": app.id, "session_token": attempt.token, "wait": 1 });
    let begun = std::time::Instant::now();
    let answer = app.call("/api/v1/verify/public", &body, &[]).await.json();
    assert_eq!(answer, json!({ "status": "pending" }));
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let mut held = HeldPoll::begin(&app, &attempt).await;
    world.clock.advance(Duration::from_secs(601));
    assert!(held.answer().await.contains("{\"status\":\"expired\"}"));

    let attempt = app.attempt().await;
    let mut stream = Stream::open(&attempt).await;
    stream.until(1).await;
    let mut held = HeldPoll::begin_with(&app, &attempt, "keep-alive", "").await;
    let ((), answer, streamed) = tokio::join!(world.stop(), held.answer(), stream.the_rest());
    assert!(
        answer.ends_with("{\"status\":\"pending\"}"),
        "so that the client asks the next process: {answer}"
    );
    assert!(answer.contains("connection: close\r\n"), "nor waits for this one to answer another: {answer}");
    assert_eq!(streamed, PENDING);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_leaves_its_place_at_once_whatever_it_sent_last() {
    let held = HeldLimits { all: 2, ..HeldLimits::default() };
    let limits = AppLimits { held, ..AppLimits::default() };
    let apps = AppSettings { demo: true, limits, ..AppSettings::default() };
    let (world, app) = World::with_app(Options { apps, ..Options::default() }, json!({})).await;
    let (attempt, other) = (app.attempt().await, app.attempt().await);
    let has_room = || async {
        let url = attempt.created["events_url"].as_str().unwrap();
        reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().status() == 200
    };
    let another = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // What it sends right after its request, what when it is held, and whether it goes on reading.
    for sent in [
        ("", "", false),
        ("\r\n", "", false),
        (another, "", false),
        ("", "\r\n", false),
        ("", another, false),
        (another, another, false),
        ("", "", true),
        ("", "\r\n", true),
    ] {
        let (with_it, later, reads_on) = sent;
        // It begins first, so it ends before a poll that would be held although nobody is there.
        let mut stays = HeldPoll::begin(&app, &other).await;
        let mut goes = loop {
            let mut answer = [0];
            let goes = HeldPoll::begin_with(&app, &attempt, "keep-alive", with_it).await;
            tokio::select! {
                () = eventually("both are held", || async { !has_room().await }) => break goes,
                // Who looked had its place, so it was answered soon.
                _ = goes.0.peek(&mut answer) => {}
            }
        };
        if !later.is_empty() {
            goes.0.write_all(later.as_bytes()).await.unwrap();
            // Others are served meanwhile, so it is likely that this was seen before it goes.
            has_room().await;
        }
        goes.0.shutdown().await.unwrap();
        let reads_on = reads_on.then_some(goes);
        tokio::select! {
            () = eventually("there is room", has_room) => {}
            _ = stays.answer() => panic!("after {sent:?} it kept its place until its time was over"),
        }
        drop(reads_on);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_status_at_once_then_what_happens_then_ends() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    let mut stream = Stream::open(&attempt).await;
    assert_eq!(stream.until(1).await, PENDING);
    let opened = world.open(ALICE, &attempt.link).await;
    assert_eq!(stream.until(2).await, format!("{PENDING}{OPENED}"));
    let prompt = world.answer_to(ALICE, opened).await;
    world.tap(ALICE, prompt["id"].as_i64().unwrap(), CONFIRM).await;
    let all = stream.the_rest().await;
    let confirmed = "event: status\ndata: {\"status\":\"confirmed\"}\n\n";
    assert_eq!(
        all,
        format!("{PENDING}{OPENED}{confirmed}"),
        "nothing about the person: the token fetches that"
    );
    // Who comes late learns how it stands, and no more.
    assert_eq!(Stream::open(&attempt).await.the_rest().await, confirmed);
    app.consume(&attempt).await;
    let used = Stream::open(&attempt).await.the_rest().await;
    assert_eq!(used, "event: status\ndata: {\"status\":\"used\"}\n\n");

    let closed = world.app(json!({ "allowed_origins": ["https://shop.example"] })).await;
    let url = closed.attempt().await.created["events_url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(world.service.url()).unwrap();
    let stranger = world.service.send("GET", path, &[("origin", "https://evil.example")], None).await;
    assert_eq!(stranger.refusal(), (403, "ORIGIN_NOT_ALLOWED".into()));

    // The link alone does not let anybody watch.
    let url = attempt.created["events_url"].as_str().unwrap();
    let path = url.strip_prefix(world.service.url()).unwrap();
    for guess in [
        format!("/api/v1/events/{}", attempt.id()),
        format!("{}{}", &path[..path.len() - 1], if path.ends_with('x') { 'y' } else { 'x' }),
        "/api/v1/events/x".to_owned(),
    ] {
        assert_eq!(world.service.get(&guess).await.refusal(), (404, "SESSION_NOT_FOUND".into()), "{guess}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_callers_with_the_same_proof_one_wins() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    confirm(&world, &attempt).await;
    let proof = app.poll(&attempt).await["proof"].as_str().unwrap().to_owned();
    let answers = join_all((0..64).map(|_| app.consume_proof(&proof))).await;
    let won = answers.iter().filter(|answer| answer.json()["status"] == "confirmed").count();
    let lost = answers.iter().filter(|answer| answer.json() == json!({ "status": "used" })).count();
    assert_eq!((won, lost), (1, 63));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_consumption_with_its_key_gets_the_first_answer_for_a_minute() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    confirm(&world, &attempt).await;
    let body = json!({ "project_id": app.id, "session_token": attempt.token });
    let bearer = format!("Bearer {}", app.secret);
    let keyed = |key: &'static str| {
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
        let (app, body) = (&app, &body);
        async move { app.call("/api/v1/verify", body, &headers).await }
    };
    let first = keyed("order-1").await;
    assert_eq!(first.json()["status"], "confirmed");
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(keyed("order-1").await.body, first.body, "the same to the byte");
    assert_eq!(keyed("order-2").await.json(), json!({ "status": "used" }));
    assert_eq!(app.consume(&attempt).await, json!({ "status": "used" }));
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(keyed("order-1").await.json(), json!({ "status": "used" }));

    // By a proof whose time ran out in between.
    let attempt = app.attempt().await;
    confirm(&world, &attempt).await;
    let proof = app.poll(&attempt).await["proof"].as_str().unwrap().to_owned();
    let body = json!({ "project_id": app.id, "proof": proof });
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "order-3")];
    world.clock.advance(Duration::from_secs(280));
    let first = app.call("/api/v1/verify", &body, &headers).await;
    assert_eq!(first.json()["status"], "confirmed");
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(app.call("/api/v1/verify", &body, &headers).await.body, first.body);
    assert_eq!(app.consume_proof(&proof).await.json(), json!({ "status": "expired" }));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_is_told_for_ten_minutes_and_a_proof_is_good_for_five() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let (attempt, other) = (app.attempt().await, app.attempt().await);
    confirm(&world, &attempt).await;
    confirm(&world, &other).await;
    let first = app.poll(&attempt).await["proof"].as_str().unwrap().to_owned();
    let claims = jwt_part(&first, 1);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    world.clock.advance(Duration::from_secs(301));
    assert_eq!(app.consume_proof(&first).await.json(), json!({ "status": "expired" }));
    // A fresh one is made when it is asked for.
    let second = app.poll(&attempt).await["proof"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(jwt_part(&second, 1)["jti"], claims["jti"], "the same sign-in");
    world.clock.advance(Duration::from_secs(250));
    assert_eq!(app.poll(&other).await["status"], "confirmed");
    world.clock.advance(Duration::from_secs(50));
    assert_eq!(app.poll(&attempt).await, json!({ "status": "expired" }), "nobody fetched it in time");
    assert_eq!(app.consume(&other).await, json!({ "status": "expired" }));
    assert_eq!(app.consume_proof(&second).await.json()["status"], "expired", "300 s after it was made");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_still_good_is_consumable_after_the_poll_says_expired() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    confirm(&world, &attempt).await;
    world.clock.advance(Duration::from_secs(570));
    let proof = app.poll(&attempt).await["proof"].as_str().unwrap().to_owned();
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(app.poll(&attempt).await, json!({ "status": "expired" }));
    assert_eq!(app.consume_proof(&proof).await.json()["status"], "confirmed");
    let other = world.app(json!({ "name": "Other" })).await;
    assert_eq!(other.consume_proof(&proof).await.refusal(), (404, "SESSION_NOT_FOUND".into()));
    let bent = format!("{}x", &proof[..proof.len() - 1]);
    assert_eq!(app.consume_proof(&bent).await.refusal(), (400, "INVALID_PROOF".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_written_as_each_client_reads_them() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    confirm(&world, &attempt).await;
    let body = json!({ "project_id": app.id, "session_token": attempt.token });
    let poll = |agent: &'static str| {
        let (app, body) = (&app, &body);
        async move { app.call("/api/v1/verify/public", body, &[("user-agent", agent)]).await.json() }
    };
    let web = poll("Mozilla/5.0").await;
    let (at, millis) = (web["confirmed_at"].as_str().unwrap(), web["confirmed_at_ms"].as_i64().unwrap());
    assert!(at.ends_with('Z') && at.len() == "2026-01-15T10:30:00.000Z".len(), "{at}");
    let dart = poll("Dart/3.5 (dart:io)").await;
    assert_eq!(dart["confirmed_at"].as_i64(), Some(millis), "Flutter casts it to an int");
    assert_eq!(dart["created_at"], dart["created_at_ms"]);
    assert_eq!(jwt_part(web["proof"].as_str().unwrap(), 1)["confirmed_at"].as_i64(), Some(millis));

    for (setting, is_text) in [("iso8601", true), ("unix_ms", false)] {
        let app = world.app(json!({ "client_timestamps": setting })).await;
        let attempt = app.attempt().await;
        confirm(&world, &attempt).await;
        let body = json!({ "project_id": app.id, "session_token": attempt.token });
        let answer = app.call("/api/v1/verify/public", &body, &[("user-agent", "Dart/3.5")]).await.json();
        assert_eq!(answer["confirmed_at"].is_string(), is_text, "{setting}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_has_its_exact_body() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    let keys = |answer: &Value| answer.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&app.poll(&attempt).await), ["status"]);
    confirm(&world, &attempt).await;
    let mut expected = [
        "status",
        "id",
        "project_id",
        "project_name",
        "telegram_id",
        "telegram_name",
        "telegram_username",
        "telegram_phone",
        "created_at",
        "confirmed_at",
        "created_at_ms",
        "confirmed_at_ms",
        "proof",
    ];
    expected.sort_unstable();
    let mut found = keys(&app.poll(&attempt).await);
    found.sort_unstable();
    assert_eq!(found, expected);
    app.consume(&attempt).await;
    assert_eq!(keys(&app.poll(&attempt).await), ["status"], "no proof key, not even null, unless confirmed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_an_expiry_and_a_consumption_that_race_have_one_winner_each() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    for round in 0..10 {
        let attempt = app.attempt().await;
        let opened = world.open(ALICE, &attempt.link).await;
        let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
        let cancel = json!({ "project_id": app.id, "session_token": attempt.token });
        let expire = async {
            if round % 2 == 0 {
                world.clock.advance(Duration::from_secs(595));
                world.clock.advance(Duration::from_secs(10));
            }
        };
        let (_, answer, consumed, ()) = tokio::join!(
            world.try_tap(ALICE, prompt, CONFIRM),
            app.call_keyed("/api/v1/cancel", &cancel),
            app.consume(&attempt),
            expire,
        );
        let said = answer.json()["status"].as_str().unwrap().to_owned();
        let last = app.poll(&attempt).await["status"].as_str().unwrap().to_owned();
        // Whoever took it back was told what came of it, and that stays; a confirmation may be used by who consumed it.
        let stays = said == last || (said == "confirmed" && ["used", "expired"].contains(&last.as_str()));
        assert!(stays, "round {round}: cancel was told {said}, then it was {last}");
        assert_eq!(
            consumed["status"] == "confirmed",
            last == "used",
            "round {round}: {consumed}, then {last}"
        );
    }
    world.end().await;
}
