//! How often apps and others may ask, and how many may be held: who overdoes it waits, nobody else does.

use std::time::Duration;

use serde_json::json;
use telegram_connector::app::AppSettings;
use telegram_connector::flows::auth::{AppLimits, HeldLimits};

use crate::support::{ALICE, Answer, App, Attempt, BOB, Options, World, eventually};

/// A world behind a proxy, so that a request is from whom it says, with a bot and an app.
async fn behind_proxy(limits: AppLimits) -> (World, App) {
    let apps = AppSettings { demo: true, limits, ..AppSettings::default() };
    let (world, _) = World::with_bot(Options { apps, behind_proxy: true, ..Options::default() }).await;
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    (world, app)
}

async fn create(app: &App, from: &str) -> Answer {
    let body = json!({ "project_id": app.id });
    app.call("/api/v1/generate/public", &body, &[("x-forwarded-for", from)]).await
}

/// Asks until it is refused: how often it was not, and the refusal. Who asks slowly is refused later.
async fn until_refused<F: Future<Output = Answer>>(ask: impl Fn(usize) -> F) -> (usize, Answer) {
    for times in 0..5_000 {
        let answer = ask(times).await;
        if answer.status == 429 {
            return (times, answer);
        }
    }
    panic!("nothing is ever refused");
}

/// What a counter of this process says.
async fn counter(world: &World, name: &str) -> u64 {
    let metrics = world.ops.get("/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map_or(0, |number| number.parse().unwrap())
}

async fn poll_from(app: &App, attempt: &Attempt, wait: Option<u32>, from: &str) -> Answer {
    let mut body = json!({ "project_id": app.id, "session_token": attempt.token });
    if let Some(wait) = wait {
        body["wait"] = wait.into();
    }
    app.call("/api/v1/verify/public", &body, &[("x-forwarded-for", from)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_creates_too_many_sessions_waits_and_nobody_else() {
    let (world, app) = behind_proxy(AppLimits { creates_per_minute: 2, ..AppLimits::default() }).await;
    let (created, refused) = until_refused(|_| create(&app, "203.0.113.7")).await;
    assert!(created >= 4, "{created}");
    assert_eq!(refused.refusal(), (429, "RATE_LIMITED".into()));
    assert_eq!(refused.headers["access-control-allow-origin"], "*", "a page must be able to read it");
    assert_eq!(refused.headers["access-control-expose-headers"], "Retry-After, X-Request-Id");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");

    assert_eq!(create(&app, "203.0.113.8").await.status, 200, "another address");
    assert_eq!(create(&world.app(json!({})).await, "203.0.113.7").await.status, 200, "another project");
    for _ in 0..10 {
        let here = app.call("/api/v1/generate/public", &json!({ "project_id": app.id }), &[]).await;
        assert_eq!(here.status, 200, "this machine");
    }
    let body = json!({ "project_id": app.id });
    let (bearer, from) = (format!("Bearer {}", app.secret), ("x-forwarded-for", "203.0.113.7"));
    for path in ["/api/v1/generate", "/api/v1/generate/public"] {
        let answer = app.call(path, &body, &[("authorization", &bearer), from]).await;
        assert_eq!(answer.status, 200, "the app's server asks for others: {answer:?}");
    }
    world.clock.advance(Duration::from_secs(wait));
    assert!(until_refused(|_| create(&app, "203.0.113.7")).await.0 >= 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_addresses_together_do_not_flood_a_project() {
    let (world, app) = behind_proxy(AppLimits { creates_per_minute: 1, ..AppLimits::default() }).await;
    let from = |n: usize| format!("198.51.{}.{}", n / 250, n % 250);
    let app_of = &app;
    let (created, refused) = until_refused(|n| async move { create(app_of, &from(n)).await }).await;
    assert!(created >= 200, "{created}");
    assert_eq!(refused.refusal(), (429, "RATE_LIMITED".into()));
    let keyed = [("authorization", &*format!("Bearer {}", app.secret)), ("x-forwarded-for", "198.51.0.1")];
    let body = json!({ "project_id": app.id });
    let server = app.call("/api/v1/generate", &body, &keyed).await;
    assert_eq!(server.status, 200, "the app's own server has an allowance of its own: {server:?}");
    assert_eq!(create(&app, "::1").await.status, 429, "who only claims to be this machine");
    let here = app.call("/api/v1/generate/public", &json!({ "project_id": app.id }), &[]).await;
    assert_eq!(here.status, 200, "this machine");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_beyond_twenty_a_second_come_late_and_beyond_two_hundred_not_at_all() {
    let (world, app) = behind_proxy(AppLimits { polls_per_second: 2, ..AppLimits::default() }).await;
    let (attempt, other) = (app.attempt().await, app.attempt().await);
    let (app_of, attempt_of) = (&app, &attempt);
    let many = || async move {
        let polls = (0..60).map(|_| poll_from(app_of, attempt_of, None, "127.0.0.1"));
        let answers = futures_util::future::join_all(polls).await;
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(answer.refusal(), (429, "RATE_LIMITED".into()));
            assert_eq!(answer.headers["retry-after"], "1");
            assert_eq!(answer.headers["access-control-allow-origin"], "*");
        }
        let answered = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(answered >= 20, "ten times as many as are permitted, and twenty are answered: {answered}");
        answered < 60
    };
    eventually("some are refused", many).await;
    assert!(counter(&world, "connector_polls_delayed_total").await >= 18);
    assert_eq!(poll_from(&app, &other, None, "127.0.0.1").await.status, 200, "another session");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(poll_from(&app, &attempt, None, "127.0.0.1").await.json(), json!({ "status": "pending" }));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_place_to_wait_is_answered_after_a_second_and_a_stream_is_refused() {
    let held = HeldLimits { per_address: 1, ..HeldLimits::default() };
    let (world, app) = behind_proxy(AppLimits { held, ..AppLimits::default() }).await;
    let attempt = app.attempt().await;
    let url = attempt.created["events_url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(world.service.url()).unwrap().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut stream = client.get(&url).header("x-forwarded-for", "203.0.113.7").send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());

    // Its address has one place: a poll that could wait for 25 s answers as a plain one, but late, or it would come again
    // and again.
    let before = counter(&world, "connector_held_refused_total").await;
    let asked = std::time::Instant::now();
    let answer = poll_from(&app, &attempt, Some(25), "203.0.113.7").await;
    assert!(asked.elapsed() >= Duration::from_millis(900), "at once");
    assert_eq!((answer.status, answer.json()), (200, json!({ "status": "pending" })));
    assert_eq!(counter(&world, "connector_held_refused_total").await, before + 1);
    let refused = world.service.send("GET", &path, &[("x-forwarded-for", "203.0.113.7")], None).await;
    assert_eq!(refused.refusal(), (503, "UNAVAILABLE".into()));
    assert_eq!(refused.headers["access-control-allow-origin"], "*");
    assert_eq!(refused.headers["retry-after"], "5");

    drop(stream);
    let free = || async {
        let answer = client.get(&url).header("x-forwarded-for", "203.0.113.7").send().await.unwrap();
        answer.status() == 200
    };
    // A stream learns that its reader has gone when it next has something to say.
    let touched = async {
        let opened = world.open(ALICE, &attempt.link).await;
        world.answer_to(ALICE, opened).await;
    };
    touched.await;
    eventually("its place is free", free).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_floods_a_phone_with_codes_through_us() {
    let world = World::new().await;
    let ask = |_| async {
        let answer = world.sign_in(json!({ "phone": BOB })).await;
        assert!(answer.status == 429 || world.service.delete("/sign_in").await.status == 200);
        answer
    };
    let (asked, refused) = until_refused(ask).await;
    assert_eq!(refused.code(), "FLOOD_WAIT");
    assert!(asked >= 5, "{asked}");
    assert_eq!(world.calls("auth.sendCode").await, asked as u64, "Telegram is not asked then");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // Another number may still be signed in, and once it is, nothing is refused.
    world.signed_in_as(ALICE).await;
    for _ in 0..30 {
        assert!(world.sign_in(json!({ "phone": BOB })).await.is_empty(200));
    }
    assert_eq!(world.service.delete("/sign_in").await.status, 200);
    world.clock.advance(Duration::from_secs(wait));
    assert_eq!(world.sign_in(json!({ "phone": BOB })).await.status, 206);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_the_operators_token_or_a_secret_waits() {
    let apps = AppSettings { demo: true, ..AppSettings::default() };
    let options =
        Options { admin_token: Some("planted-token"), behind_proxy: true, apps, ..Options::default() };
    let world = World::with(options).await;
    let app = world.app(json!({})).await;
    let operator = |token: &'static str, from: &'static str| {
        let bearer = format!("Bearer {token}");
        let service = world.service.clone();
        async move {
            let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", from)];
            service.send("GET", "/sign_in", &headers, None).await
        }
    };
    // In the end it is 15 s, however slowly they guess.
    let patience = |answer: &Answer| answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap();
    let refused = loop {
        let (_, refused) = until_refused(|_| operator("guess", "203.0.113.7")).await;
        if patience(&refused) > 10 {
            break refused;
        }
        world.clock.advance(Duration::from_secs(patience(&refused)));
    };
    assert_eq!(refused.refusal(), (429, "RATE_LIMITED".into()));
    assert_eq!(operator("planted-token", "203.0.113.7").await.status, 429, "a lucky guess learns nothing");
    assert_eq!(operator("planted-token", "203.0.113.8").await.status, 200);
    world.clock.advance(Duration::from_secs(15));
    assert_eq!(operator("planted-token", "203.0.113.7").await.status, 200);
    for _ in 0..100 {
        assert_eq!(
            operator("planted-token", "203.0.113.8").await.status,
            200,
            "the operator is never slowed"
        );
    }

    let body = json!({ "project_id": app.id, "session_token": "sess_none" });
    let from = ("x-forwarded-for", "203.0.113.7");
    let guess = [("authorization", "Bearer sk_test_no"), from];
    let wrong = || app.call("/api/v1/verify", &body, &guess);
    let (refused, slowed) = until_refused(|_| wrong()).await;
    assert!(refused >= 20, "{refused}");
    assert_eq!(slowed.refusal(), (429, "RATE_LIMITED".into()));
    let right = format!("Bearer {}", app.secret);
    let right = app.call("/api/v1/verify", &body, &[("authorization", &right), from]).await;
    assert_eq!(right.refusal(), (404, "SESSION_NOT_FOUND".into()), "who has the secret is never slowed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_counts_though_nobody_heard_that_it_was_sent() {
    let world = World::new().await;
    let mut asked = 0;
    loop {
        world.fault(json!({ "cut_instead_of_answer": "auth.sendCode", "times": 1 })).await;
        let answer = world.sign_in(json!({ "phone": BOB })).await;
        if answer.status == 429 {
            assert_eq!(answer.code(), "FLOOD_WAIT");
            break;
        }
        assert_eq!(answer.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
        asked += 1;
        assert!(asked <= 6, "codes are sent and sent");
    }
    assert!(asked >= 5, "{asked}");
    assert_eq!(world.calls("auth.sendCode").await, asked);
    world.heal().await;
    // What Telegram refuses to send does not count.
    for _ in 0..10 {
        world.fail("auth.sendCode", "PHONE_NUMBER_BANNED").await;
        let answer = world.sign_in(json!({ "phone": ALICE })).await;
        assert_eq!(answer.refusal(), (403, "PHONE_NUMBER_BANNED".into()));
    }
    world.end().await;
}
