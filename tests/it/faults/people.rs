//! People who want nothing from our account any more, or are no more: told in the timeline, asked once, and nobody else waits.

use std::time::Duration;

use serde_json::{Value, json};
use telegram_connector::lifecycle::network_sleep;

use super::id;
use crate::support::{ALICE, App, Attempt, BOB, Options, World, eventually};

/// What the timeline says of a session's prompt that could not be sent.
async fn prompt_error(world: &World, attempt: &Attempt) -> Value {
    let token = world.developer().await;
    let detail = world.dev(&token, "GET", &format!("/sessions/{}", attempt.id()), None).await.json();
    let timeline = detail["timeline"].as_array().unwrap().clone();
    let failed = timeline.iter().find(|entry| entry["event"] == "prompt_failed");
    failed.map(|entry| entry["error"].clone()).unwrap_or_default()
}

/// Somebody signs in from beginning to end.
async fn signs_in(world: &World, app: &App, phone: &str) {
    let attempt = app.attempt().await;
    let opened = world.open(phone, &attempt.link).await;
    let prompt = id(&world.answer_to(phone, opened).await);
    world.tap(phone, prompt, "✅ Confirm").await;
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");
    world.becomes(phone, prompt, "You are signed in").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_blocks_the_bot_is_asked_once_and_can_come_back() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    world.hold("messages.sendMessage").await;
    world.open(ALICE, &attempt.link).await;
    world.faults_are_spent().await;
    let block = json!({ "who": "login_bot", "blocked": true });
    let blocked = world.sandbox.post(&format!("/api/accounts/{ALICE}/block"), &block).await;
    assert_eq!(blocked.status, 200, "{blocked:?}");
    world.heal().await;
    eventually("the refusal is noted", || async {
        prompt_error(&world, &attempt).await == "USER_IS_BLOCKED"
    })
    .await;
    assert_eq!(app.poll(&attempt).await["status"], "pending");
    signs_in(&world, &app, BOB).await;
    assert_eq!(world.calls("messages.sendMessage").await, 2, "one refused, and Bob's");
    // It ends like any other, and nobody is told who does not want to hear it.
    world.clock.advance(Duration::from_secs(601));
    eventually("expired", || async { app.poll(&attempt).await["status"] == "expired" }).await;
    // The button in the app lets the bot in again.
    signs_in(&world, &app, ALICE).await;
    assert_eq!(world.calls("messages.sendMessage").await, 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_blocks_the_bot_after_deciding_has_decided() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = id(&world.answer_to(ALICE, opened).await);
    // Telegram changes no message of somebody who has blocked the bot.
    world.fault(json!({ "method": "messages.editMessage", "error": "USER_IS_BLOCKED", "code": 403 })).await;
    world.tap(ALICE, prompt, "✅ Confirm").await;
    eventually("the outcome is tried", || async { world.calls("messages.editMessage").await == 1 }).await;
    // Time enough for what is tried again to be tried three times more.
    network_sleep(Duration::from_millis(500)).await;
    assert_eq!(app.consume(&attempt).await["status"], "confirmed");
    world.heal().await;
    signs_in(&world, &app, BOB).await;
    assert_eq!(world.calls("messages.editMessage").await, 2, "one refused and never repeated, and Bob's");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_banned_meanwhile_holds_up_nobody() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    world.hold("messages.sendMessage").await;
    world.open(ALICE, &attempt.link).await;
    world.faults_are_spent().await;
    world.fault(json!({ "ban": ALICE })).await;
    world.heal().await;
    let error = || async { prompt_error(&world, &attempt).await };
    eventually("the refusal is noted", || async { error().await == "INPUT_USER_DEACTIVATED" }).await;
    signs_in(&world, &app, BOB).await;
    assert_eq!(world.calls("messages.sendMessage").await, 2);
    world.end().await;
}
