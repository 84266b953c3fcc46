//! Developer accounts over HTTP: registering, signing in, who am I, and how fast passwords may be tried.

use std::time::Duration;

use serde_json::{Value, json};
use telegram_connector::app::AppSettings;
use telegram_connector::domain::developer::Email;
use telegram_connector::domain::ids::Secret;

use crate::support::{Answer, Options, World};

fn open_to_all() -> Options {
    let apps = AppSettings { demo: true, registration_open: true, ..AppSettings::default() };
    Options { apps, behind_proxy: true, ..Options::default() }
}

async fn sign_in(world: &World, from: &str, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password }).to_string();
    let headers = [("content-type", "application/json"), ("x-forwarded-for", from)];
    world.service.send("POST", "/api/v1/dev/login", &headers, Some(&body)).await
}

fn wait_of(answer: &Answer) -> u64 {
    assert_eq!(answer.refusal(), (429, "RATE_LIMITED".into()));
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_developer_registers_is_told_who_they_are_and_has_no_projects_of_others() {
    let world = World::with(open_to_all()).await;
    let new = json!({ "email": " Eve@Example.com", "password": "a-long-password", "expires_in": 60 });
    let before = world.clock_millis();
    let registered = world.service.post("/api/v1/dev/register", &new).await;
    assert_eq!(registered.status, 200, "{registered:?}");
    let ends = registered.json()["expires_at"].as_i64().unwrap();
    assert!((before + 60_000..=world.clock_millis() + 60_000).contains(&ends));
    let token = registered.json()["token"].as_str().unwrap().to_owned();

    let me = world.dev(&token, "GET", "/me", None).await.json();
    let (id, at, at_ms) = (&me["id"], &me["created_at"], &me["created_at_ms"]);
    assert!(id.as_str().unwrap().starts_with("dev_") && at_ms.as_i64().unwrap() >= before, "{me}");
    assert!(at.as_str().unwrap().ends_with('Z'), "{me}");
    let developer = json!({
        "developer_id": id, "id": id, "email": "eve@example.com", "plan": "business",
        "mau": { "current": 0, "limit": 0, "over": 0 }, "created_at": at, "created_at_ms": at_ms,
    });
    let whole = json!({
        "id": id, "email": "eve@example.com", "created_at": at, "created_at_ms": at_ms, "developer": developer,
    });
    assert_eq!(me, whole);
    assert_eq!(world.dev(&token, "GET", "/projects", None).await.json(), json!({ "projects": [] }));

    let again = json!({ "email": "eve@example.com", "password": "another-password" });
    let again = world.service.post("/api/v1/dev/register", &again).await;
    assert_eq!(again.refusal(), (409, "EMAIL_TAKEN".into()));
    assert_eq!(sign_in(&world, "198.51.100.1", "eve@example.com", "another-password").await.status, 401);
    assert_eq!(sign_in(&world, "198.51.100.1", "eve@example.com", "a-long-password").await.status, 200);
    world.clock.advance(Duration::from_secs(60));
    let late = world.dev(&token, "GET", "/me", None).await;
    assert_eq!(late.refusal(), (401, "UNAUTHORIZED".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_account_is_refused_and_a_closed_door_says_so() {
    let mut world = World::with(open_to_all()).await;
    for bad in [
        json!({ "email": "eve", "password": "a-long-password" }),
        json!({ "email": "eve@example.com", "password": "11-letters!" }),
        json!({ "email": "eve@example.com", "password": "x".repeat(257) }),
        json!({ "email": "eve@example.com" }),
        json!({ "password": "a-long-password" }),
        json!({ "email": "eve@example.com", "password": "a-long-password", "expires_in": 0 }),
        json!({ "email": "eve@example.com", "password": "a-long-password", "expires_in": 31_536_001 }),
        json!({ "email": "eve@example.com", "password": 123_456_789_012_i64 }),
    ] {
        let answer = world.service.post("/api/v1/dev/register", &bad).await;
        assert_eq!(answer.refusal(), (400, "INVALID_REQUEST".into()), "{bad}");
        assert!(!answer.body.contains("a-long-password"), "{answer:?}");
    }
    world.apps().registration_open = false;
    world.restart().await;
    let new = json!({ "email": "eve@example.com", "password": "a-long-password" });
    let answer = world.service.post("/api/v1/dev/register", &new).await;
    assert_eq!(answer.refusal(), (403, "REGISTRATION_CLOSED".into()));
    assert_eq!(sign_in(&world, "198.51.100.1", "eve@example.com", "a-long-password").await.status, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_for_who_guesses_and_for_nobody_else() {
    let world = World::with(open_to_all()).await;
    let (guesser, owner) = ("198.51.100.66", "203.0.113.7");
    for email in ["demo@example.com", "nobody@example.com", "no address"] {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(sign_in(&world, guesser, email, "a-wrong-password").await);
        }
        let refused = answers.pop().unwrap();
        assert!((1..=15).contains(&wait_of(&refused)), "{email}: whether somebody has it or not");
        let told: Vec<Value> = answers.iter().map(Answer::json).collect();
        assert!(answers.iter().all(|answer| answer.status == 401), "{email}");
        let text = "the e-mail address or the password is wrong";
        assert!(
            told.iter().all(|told| *told == json!({ "error": text, "code": "UNAUTHORIZED" })),
            "{told:?}"
        );
    }
    let right = sign_in(&world, guesser, "demo@example.com", "demo-password").await;
    assert!(wait_of(&right) > 0, "not even the right one is looked at");
    assert_eq!(sign_in(&world, owner, "demo@example.com", "demo-password").await.status, 200);

    world.clock.advance(Duration::from_secs(15));
    assert_eq!(sign_in(&world, guesser, "demo@example.com", "a-wrong-password").await.status, 401);
    let refused = sign_in(&world, guesser, "demo@example.com", "a-wrong-password").await;
    assert!((1..=30).contains(&wait_of(&refused)), "one attempt at a time");
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(sign_in(&world, guesser, "demo@example.com", "demo-password").await.status, 200);
    for _ in 0..5 {
        let wrong = sign_in(&world, guesser, "demo@example.com", "a-wrong-password").await;
        assert_eq!(wrong.status, 401, "success has cleared it");
    }
    assert!(wait_of(&sign_in(&world, guesser, "demo@example.com", "a-wrong-password").await) > 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_on_this_machine_are_slowed_too_and_registrations_by_address() {
    let apps = AppSettings { demo: true, registration_open: true, ..AppSettings::default() };
    let world = World::with(Options { apps, ..Options::default() }).await;
    for n in 0..6 {
        // Without a trusted proxy nobody is believed about where they are.
        let answer =
            sign_in(&world, &format!("198.51.100.{n}"), "demo@example.com", "a-wrong-password").await;
        assert_eq!(answer.status, if n < 5 { 401 } else { 429 }, "{answer:?}");
    }
    let taken = json!({ "email": "demo@example.com", "password": "a-long-password" });
    for n in 0..11 {
        let answer = world.service.post("/api/v1/dev/register", &taken).await;
        let expected = if n < 10 { (409, "EMAIL_TAKEN".into()) } else { (429, "RATE_LIMITED".into()) };
        assert_eq!(answer.refusal(), expected);
    }
    world.clock.advance(Duration::from_secs(60));
    world.register("eve@example.com").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_registers_the_operators_address_first_has_it_until_the_operator_comes() {
    let mut world = World::with(open_to_all()).await;
    let squatter = world.register("ops@example.com").await;
    let other = world.register("eve@example.com").await;
    let id = world.dev(&squatter, "GET", "/me", None).await.json()["id"].clone();
    let project = world.dev(&squatter, "POST", "/projects", Some(json!({ "name": "Bait" }))).await;
    assert_eq!(project.status, 200, "{project:?}");

    let password = Secret::new("the-operators-own".to_owned());
    world.apps().bootstrap = Some((Email::parse("ops@example.com").unwrap(), password));
    let mut tokens = Vec::new();
    for round in 0..2 {
        world.restart().await;
        let old = sign_in(&world, "198.51.100.66", "ops@example.com", "a-long-password").await;
        assert_eq!(old.refusal(), (401, "UNAUTHORIZED".into()), "round {round}");
        let held = world.dev(&squatter, "GET", "/projects", None).await;
        assert_eq!(held.refusal(), (401, "UNAUTHORIZED".into()), "round {round}");
        let operator = sign_in(&world, "203.0.113.7", "ops@example.com", "the-operators-own").await;
        tokens.push(operator.json()["token"].as_str().unwrap().to_owned());
        for token in &tokens {
            let me = world.dev(token, "GET", "/me", None).await;
            assert_eq!(me.json()["id"], id, "the operator's own tokens outlive a restart, round {round}");
        }
        assert_eq!(world.dev(&other, "GET", "/me", None).await.status, 200, "round {round}");
    }
    world.end().await;
}
