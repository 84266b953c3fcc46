//! What can happen to a connection while it is used: it freezes, its salt is refused, everything takes its time. Cuts,
//! silence and dropped pushes are in `account.rs`, `conversation.rs` and `confirm_restart.rs`.

use std::time::Duration;

use serde_json::json;

use crate::account::{Host, quick_world};
use crate::support::{ALICE, BOB, Options, World, eventually};

/// For calls that are to be given up. Whatever is to succeed must not depend on it.
const SHORT: Duration = Duration::from_millis(800);

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_freezes_is_noticed_and_replaced_and_nothing_is_lost() {
    let mut world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    host.close().await;
    world.limit_calls(SHORT);
    let host = Host::open(&world, folder.path(), None).await;
    host.is(&world, "ok").await;
    // It stays open, says nothing more, and nobody heals it; only a new one helps.
    world.fault(json!({ "freeze": "now" })).await;
    world.send(BOB, ALICE, "while it is frozen").await;
    host.sees(1).await;
    assert_eq!(host.told.texts(), ["while it is frozen"]);
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_whose_connection_freezes_between_the_steps_goes_on() {
    let world = World::with(Options { call_limit: SHORT, ..Options::default() }).await;
    let phone = json!({ "phone": ALICE });
    assert!(world.sign_in_after_a_cut(phone).await.is_empty(206));
    let code = world.code(ALICE).await;
    world.fault(json!({ "freeze": "now" })).await;
    let body = json!({ "phone": ALICE, "password": code });
    let first = world.sign_in(body.clone()).await;
    assert_eq!(first.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    let answer = world.sign_in_after_a_cut(body).await;
    assert!(answer.is_empty(200), "{answer:?}");
    assert_eq!(world.calls("auth.sendCode").await, 1, "the same code");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_whose_connection_freezes_is_sent_once_by_the_next() {
    let (mut world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    world.stop().await;
    world.limit_calls(SHORT);
    world.start().await.unwrap();
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    let attempt = app.attempt().await;
    // It freezes while the prompt is being sent: Telegram has it, and the answer never comes.
    world.hold("messages.sendMessage").await;
    let opened = world.open(ALICE, &attempt.link).await;
    world.faults_are_spent().await;
    world.fault(json!({ "freeze": "now" })).await;
    world.heal().await;
    let prompt = world.answer_to(ALICE, opened).await;
    let tapped =
        || async { world.try_tap(ALICE, prompt["id"].as_i64().unwrap(), "✅ Confirm").await.status == 200 };
    eventually("a tap is answered", tapped).await;
    let prompt = world.becomes(ALICE, prompt["id"].as_i64().unwrap(), "You are signed in").await;
    assert_eq!(world.messages(ALICE, opened).await, [prompt], "one prompt, and nothing else");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_salts_cost_nothing_but_repetitions() {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    let connected = world.calls("help.getConfig").await;
    for _ in 0..5 {
        world.fault(json!({ "wrong_salt": 3 })).await;
        let attempt = app.attempt().await;
        let opened = world.open(ALICE, &attempt.link).await;
        let prompt = world.answer_to(ALICE, opened).await;
        world.tap(ALICE, prompt["id"].as_i64().unwrap(), "✅ Confirm").await;
        assert_eq!(app.poll(&attempt).await["status"], "confirmed");
        world.becomes(ALICE, prompt["id"].as_i64().unwrap(), "You are signed in").await;
    }
    assert_eq!(world.calls("help.getConfig").await, connected, "on the same connection");
    assert_eq!(world.calls("messages.sendMessage").await, 5, "nothing is done twice");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_centre_that_refuses_every_salt_is_out_of_reach_and_not_for_ever() {
    let world = World::with(Options { call_limit: SHORT, ..Options::default() }).await;
    world.fault(json!({ "wrong_salt": u32::MAX })).await;
    let refused = world.sign_in(json!({ "phone": ALICE })).await;
    assert_eq!(refused.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    world.heal().await;
    assert!(world.sign_in_after_a_cut(json!({ "phone": ALICE })).await.is_empty(206));
    world.end().await;
}

/// Half a second for every call: slow, and nothing that a connection would be given up for.
#[tokio::test(flavor = "multi_thread")]
async fn latency_slows_and_breaks_nothing() {
    let options = Options { watchdog_interval: Duration::from_millis(100), ..Options::default() };
    let (world, _) = World::with_bot(options).await;
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    world.fault(json!({ "method": "*", "delay_ms": 500 })).await;
    let connected = world.calls("help.getConfig").await;
    for (button, status) in [("✅ Confirm", "confirmed"), ("❌ Cancel", "cancelled")] {
        let attempt = app.attempt().await;
        let opened = world.open(ALICE, &attempt.link).await;
        let prompt = world.answer_to(ALICE, opened).await;
        world.tap(ALICE, prompt["id"].as_i64().unwrap(), button).await;
        assert_eq!(app.poll(&attempt).await["status"], status);
    }
    assert_eq!(world.calls("help.getConfig").await, connected, "the same connection");
    world.signed_in_as(BOB).await;
    world.end().await;
}
