//! A flood on every method that we call: what asks for it by HTTP answers 429 with Telegram's own number, what asks for it
//! by itself waits exactly that long; nothing asks again meanwhile.
//!
//! Elsewhere: `auth.sendCode`, `auth.signIn` and `auth.cancelCode` in `sign_in.rs`, `auth.importBotAuthorization` in
//! `bots.rs`, `updates.getDifference` and the watchdog's `updates.getState` in `account.rs`, `messages.sendMessage` in
//! `confirm.rs`, `messages.getDialogs` and `messages.getHistory` in `missed.rs`, and who wrote (`updates.getDifference` of the reader's) beside `telegram/reader.rs`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::id;
use crate::support::{ALICE, BOB, CAROL, Options, PASSWORD, World, eventually};

/// Every method that `src/telegram` calls, and `help.getConfig`, with which grammers opens each connection.
const METHODS: [&str; 16] = [
    "account.getPassword",
    "auth.cancelCode",
    "auth.checkPassword",
    "auth.importBotAuthorization",
    "auth.logOut",
    "auth.resendCode",
    "auth.sendCode",
    "auth.signIn",
    "messages.editMessage",
    "messages.getDialogs",
    "messages.getHistory",
    "messages.sendMessage",
    "messages.setBotCallbackAnswer",
    "updates.getDifference",
    "updates.getState",
    "users.getUsers",
];

/// Asks, is told to wait, asks again.
async fn is_429_once(world: &World, method: &str, body: &Value, then: u16) {
    world.fail(method, "FLOOD_WAIT_9").await;
    let before = world.calls(method).await;
    let refused = world.sign_in(body.clone()).await;
    assert_eq!(refused.refusal(), (429, "FLOOD_WAIT".into()), "{method}");
    assert_eq!(refused.headers["retry-after"], "9", "{method}");
    assert_eq!(world.calls(method).await, before + 1, "{method}: nothing is retried behind our back");
    let answer = world.sign_in(body.clone()).await;
    assert!(answer.is_empty(then), "{method}: {answer:?}");
}

#[test]
fn no_method_is_called_that_this_table_does_not_name() {
    let mut called = BTreeSet::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/telegram");
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "rs") || file.ends_with("key_exchange.rs") {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        for call in source.split("tl::functions::").skip(1) {
            let end = call.find(|c: char| !c.is_alphanumeric() && c != ':').unwrap_or(call.len());
            // MTProto's own messages have no room, and Telegram answers them with no error.
            let Some((room, name)) = call[..end].split_once("::") else { continue };
            called.insert(format!("{room}.{}{}", name[..1].to_lowercase(), &name[1..]));
        }
    }
    assert_eq!(called.into_iter().collect::<Vec<_>>(), METHODS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_asked_for_again() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    is_429_once(&world, "auth.resendCode", &json!({ "phone": ALICE, "resend": true }), 206).await;
    assert_eq!(world.state().await, "code_sent");
    let code = world.code(ALICE).await;
    assert!(world.sign_in(json!({ "phone": ALICE, "password": code })).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_2fa_password_and_its_challenge() {
    let world = World::new().await;
    world.carol().await;
    world.request_code(CAROL).await;
    let code = world.code(CAROL).await;
    // The hint is a courtesy: a flood on it is no answer to the code.
    world.fail("account.getPassword", "FLOOD_WAIT_9").await;
    let answer = world.sign_in(json!({ "phone": CAROL, "password": code })).await;
    assert_eq!(answer.refusal(), (401, "TWO_FACTOR_REQUIRED".into()));
    assert_eq!(world.calls("account.getPassword").await, 1);
    let body = json!({ "phone": CAROL, "two_factor_password": PASSWORD });
    for method in ["account.getPassword", "auth.checkPassword"] {
        world.fail(method, "FLOOD_WAIT_9").await;
        let before = world.calls(method).await;
        let refused = world.sign_in(body.clone()).await;
        assert_eq!(refused.refusal(), (429, "FLOOD_WAIT".into()), "{method}");
        assert_eq!(refused.headers["retry-after"], "9", "{method}");
        assert_eq!(world.calls(method).await, before + 1, "{method}");
        assert_eq!(world.state().await, "two_factor_required", "{method}");
    }
    assert!(world.sign_in(body).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out() {
    let world = World::new().await;
    world.signed_in_as(ALICE).await;
    world.fail("auth.logOut", "FLOOD_WAIT_9").await;
    let refused = world.service.delete("/sign_in").await;
    assert_eq!(refused.refusal(), (429, "FLOOD_WAIT".into()));
    assert_eq!(refused.headers["retry-after"], "9");
    assert_eq!(world.state().await, "signed_in", "nothing is half done");
    assert_eq!(world.service.delete("/sign_in").await.status, 200);
    assert_eq!((world.state().await.as_str(), world.calls("auth.logOut").await), ("signed_out", 2));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_update_position_after_a_sign_in() {
    let options = Options { watchdog_interval: Duration::from_millis(200), ..Options::default() };
    let world = World::with(options).await;
    let owner = json!({ "phone": "+15550100008", "first_name": "Olga", "username": "olga_owner" });
    assert_eq!(world.sandbox.post("/api/accounts", &owner).await.status, 200);
    // Both that ask for it at the beginning are refused: the sign-in itself, and the reader.
    world.fault(json!({ "method": "updates.getState", "error": "FLOOD_WAIT_1", "times": 2 })).await;
    world.signed_in_as("+15550100008").await;
    let app = world.app(json!({})).await;
    // Without a position nothing is fetched that was missed; once it is known, people are heard.
    let heard = || async {
        let attempt = app.attempt().await;
        world.open(ALICE, &attempt.link).await;
        telegram_connector::lifecycle::network_sleep(Duration::from_millis(300)).await;
        world.messages(ALICE, 0).await.iter().any(|message| message["out"] == false)
    };
    eventually("people are heard", heard).await;
    world.end().await;
}

/// The two calls with which a connection begins.
#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_a_connection() {
    let mut world = World::new().await;
    world.signed_in_as(ALICE).await;
    for method in ["help.getConfig", "users.getUsers"] {
        world.stop().await;
        world.fail(method, "FLOOD_WAIT_2").await;
        let (before, begun) = (world.calls(method).await, Instant::now());
        world.start().await.unwrap();
        let telegram = || async { world.service.get("/readyz").await.json()["telegram"].clone() };
        eventually("told", || async { telegram().await == "reconnecting" }).await;
        // Who asks meanwhile reads how things are, without another call.
        assert_eq!(world.service.get("/readyz").await.status, 200);
        eventually("ok", || async { telegram().await == "ok" }).await;
        assert!(begun.elapsed() >= Duration::from_secs(2), "{method}: a flood is waited out");
        assert_eq!(world.calls(method).await, before + 2, "{method}: once refused, once answered");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_of_a_prompt() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = id(&world.answer_to(ALICE, opened).await);
    world.fail("messages.editMessage", "FLOOD_WAIT_2").await;
    let begun = Instant::now();
    world.tap(ALICE, prompt, "✅ Confirm").await;
    assert_eq!(app.poll(&attempt).await["status"], "confirmed", "the decision does not wait");
    world.becomes(ALICE, prompt, "You are signed in").await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(world.calls("messages.editMessage").await, 2, "once refused, once done");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_tap() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = id(&world.answer_to(ALICE, opened).await);
    world.fail("messages.setBotCallbackAnswer", "FLOOD_WAIT_9").await;
    let tap = world.try_tap(ALICE, prompt, "✅ Confirm").await;
    assert_eq!(tap.status, 504, "the button got no answer: {tap:?}");
    // What counts is decided and told all the same.
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");
    world.becomes(ALICE, prompt, "You are signed in").await;
    assert_eq!(world.calls("messages.setBotCallbackAnswer").await, 1, "an answer that is late is none");
    world.end().await;
}

/// A developer who gives a project a bot, while Telegram wants to be left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_bots_token_that_a_project_brings() {
    let world = World::new().await;
    let (_, token) = world.new_bot("own_bot").await;
    world.fail("auth.importBotAuthorization", "FLOOD_WAIT_9").await;
    let refused = world.try_app(json!({ "bot_token": token })).await;
    assert_eq!(refused.refusal(), (429, "FLOOD_WAIT".into()));
    assert_eq!(refused.headers["retry-after"], "9");
    assert_eq!(world.try_app(json!({ "bot_token": token })).await.status, 200);
    assert_eq!(world.calls("auth.importBotAuthorization").await, 2);
    world.end().await;
}

/// One account is flooded for an hour; another one goes on at once.
#[tokio::test(flavor = "multi_thread")]
async fn of_one_account_slows_no_other() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let (_, token) = world.new_bot("own_bot").await;
    let other = world.app(json!({ "bot_token": token })).await;
    world
        .fault(
            json!({ "method": "messages.sendMessage", "error": "FLOOD_WAIT_3600", "account": "login_bot" }),
        )
        .await;
    let flooded = app.attempt().await;
    world.open(ALICE, &flooded.link).await;
    eventually("it is refused", || async { world.calls("messages.sendMessage").await == 1 }).await;
    for phone in [ALICE, BOB] {
        let attempt = other.attempt().await;
        let opened = world.open(phone, &attempt.link).await;
        let prompt = id(&world.answer_to(phone, opened).await);
        world.tap(phone, prompt, "✅ Confirm").await;
        assert_eq!(other.poll(&attempt).await["status"], "confirmed");
    }
    // The flooded one asks nobody else either, until its hour is over.
    let next = app.attempt().await;
    world.open(BOB, &next.link).await;
    let attempt = other.attempt().await;
    let opened = world.open(BOB, &attempt.link).await;
    world.answer_to(BOB, opened).await;
    assert_eq!(world.calls("messages.sendMessage").await, 4, "one refused, three of the other's");
    assert_eq!(app.poll(&flooded).await["status"], "pending");
    world.end().await;
}
