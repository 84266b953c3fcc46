//! Sessions that Telegram has ended, in every way that it has: told with the reason, left alone, replaced by the next sign-in;
//! and what the service goes on answering meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use telegram_connector::lifecycle::network_sleep;
use telegram_connector::telegram::Proxy;

use crate::proxy::socks5_server;
use crate::support::{ALICE, App, Attempt, BOB, Options, Process, World, eventually};

/// Whose account the service uses.
const OWNER: &str = "+15550100008";
/// Who owns the next one, where the first is banned.
const HEIR: &str = "+15550100009";

/// One way in which Telegram ends a session.
struct Way {
    orders: Vec<Value>,
    /// Part of Telegram's name for it.
    reason: &'static str,
    /// Who signs in afterwards.
    next: &'static str,
}

/// A service whose user account has a prompt open and a sign-in confirmed, behind a proxy that counts its connections.
struct Stage {
    world: World,
    app: App,
    open: Attempt,
    confirmed: Attempt,
    connections: std::sync::Arc<AtomicUsize>,
}

impl Stage {
    async fn set() -> Self {
        let (address, connections) = socks5_server().await;
        let options = Options {
            watchdog_interval: Duration::from_millis(50),
            proxy: Some(Proxy::parse(&format!("socks5://user:planted@{address}")).unwrap()),
            ..Options::default()
        };
        let world = World::with(options).await;
        for (phone, username) in [(OWNER, "olga_owner"), (HEIR, "henry_heir")] {
            let person = json!({ "phone": phone, "first_name": "Owner", "username": username });
            assert_eq!(world.sandbox.post("/api/accounts", &person).await.status, 200);
        }
        world.signed_in_as(OWNER).await;
        telegram_is(&world, "ok").await;
        let app = world.app(json!({ "name": "Shop" })).await;
        let (open, confirmed) = (app.attempt().await, app.attempt().await);
        let opened = world.open(ALICE, &open.link).await;
        world.answer_to(ALICE, opened).await;
        decide(&world, &app, BOB, "olga_owner", &confirmed).await;
        Self { world, app, open, confirmed, connections }
    }

    /// What the service says while nobody is signed in.
    async fn goes_on_answering(&self) {
        let Self { world, app, open, confirmed, .. } = self;
        assert_eq!(app.poll(open).await["status"], "pending");
        assert_eq!(app.poll(confirmed).await["status"], "confirmed");
        let refused = app.call("/api/v1/generate/public", &json!({ "project_id": app.id }), &[]).await;
        assert_eq!(refused.refusal(), (503, "NO_TELEGRAM_ACCOUNT".into()));
        assert_eq!(world.service.get("/readyz").await.status, 200);
        assert_eq!(world.service.get("/healthz").await.status, 200);
    }

    /// Calls made and connections opened so far.
    async fn traffic(&self) -> (u64, usize) {
        let calls = self.world.sandbox.get("/api/calls").await.json();
        let calls = calls.as_array().unwrap().iter().filter_map(|call| call["count"].as_u64()).sum();
        (calls, self.connections.load(Ordering::SeqCst))
    }

    /// Twenty looks of the watchdog and five longest pauses go by without a call or a connection.
    async fn telegram_is_left_alone(&self) {
        let before = self.traffic().await;
        for _ in 0..10 {
            network_sleep(Duration::from_millis(100)).await;
            self.goes_on_answering().await;
        }
        assert_eq!(self.traffic().await, before, "calls and connections");
    }
}

async fn telegram_is(world: &World, state: &str) {
    eventually(state, || async { world.service.get("/readyz").await.json()["telegram"] == state }).await;
}

/// Somebody opens the link, says yes, and is told what came of it.
async fn decide(world: &World, app: &App, phone: &str, to: &str, attempt: &Attempt) {
    let opened = world.open(phone, &attempt.link).await;
    world.answer_to(phone, opened).await;
    let said = world.say(phone, to, "yes", None).await;
    assert_eq!(app.wait(attempt).await["status"], "confirmed");
    world.answer_to(phone, said).await;
}

async fn ends(way: Way) {
    let mut stage = Stage::set().await;
    for order in &way.orders {
        stage.world.fault(order.clone()).await;
    }
    telegram_is(&stage.world, "signed_out").await;
    let view = stage.world.view().await;
    assert_eq!((&view["state"], &view["account"]), (&json!("signed_out"), &Value::Null));
    let reason = view["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(way.reason), "{reason}");
    assert_eq!(stage.world.service.get("/readyz").await.json()["telegram_reason"], reason);
    stage.telegram_is_left_alone().await;

    // A program that is started again and again asks once each time; after a 404 grammers dials twice.
    for _ in 0..3 {
        let before = stage.traffic().await;
        stage.world.restart().await;
        stage.app = stage.app.at(&stage.world.service);
        telegram_is(&stage.world, "signed_out").await;
        let after = stage.traffic().await;
        let (calls, connections) = (after.0 - before.0, after.1 - before.1);
        assert!(calls <= 2 && connections <= 2, "{calls} calls on {connections} connections");
    }
    stage.telegram_is_left_alone().await;
    assert!(stage.world.view().await["reason"].is_string(), "it is told after a restart too");
    assert_eq!(stage.app.consume(&stage.confirmed).await["status"], "confirmed");

    // The next sign-in makes everything good, also what was begun before.
    let Stage { world, app, open, .. } = stage;
    world.signed_in_as(way.next).await;
    telegram_is(&world, "ok").await;
    assert_eq!(world.view().await["reason"], Value::Null);
    assert_eq!(world.service.get("/readyz").await.json()["telegram_reason"], Value::Null);
    let username = if way.next == OWNER { "olga_owner" } else { "henry_heir" };
    decide(&world, &app, BOB, username, &app.attempt().await).await;
    if way.next == OWNER {
        world.say(ALICE, username, "yes", None).await;
        assert_eq!(app.wait(&open).await["status"], "confirmed");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_revoked() {
    Box::pin(ends(Way { orders: vec![json!({ "revoke": OWNER })], reason: "SESSION_REVOKED", next: OWNER }))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_banned() {
    Box::pin(ends(Way { orders: vec![json!({ "ban": OWNER })], reason: "USER_DEACTIVATED_BAN", next: HEIR }))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_forgotten() {
    let orders = vec![json!({ "forget_key": OWNER }), json!({ "disconnect": "now" })];
    Box::pin(ends(Way { orders, reason: "AUTH_KEY_UNKNOWN", next: OWNER })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_moves_to_another_data_centre() {
    let orders = vec![json!({ "migrate": { "phone": OWNER, "dc": 4 } })];
    Box::pin(ends(Way { orders, reason: "USER_MIGRATE_4", next: OWNER })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_number_cannot_sign_in_and_the_next_one_can() {
    let stage = Stage::set().await;
    let world = &stage.world;
    world.fault(json!({ "ban": OWNER })).await;
    telegram_is(world, "signed_out").await;
    let answer = world.sign_in(json!({ "phone": OWNER })).await;
    assert_eq!(answer.refusal(), (403, "PHONE_NUMBER_BANNED".into()));
    world.request_code(HEIR).await;
    world.fault(json!({ "ban": HEIR })).await;
    let code = json!({ "phone": HEIR, "password": "12345" });
    assert_eq!(world.sign_in(code).await.refusal(), (403, "PHONE_NUMBER_BANNED".into()));
    assert_eq!(world.state().await, "signed_out", "the attempt is over");
    world.signed_in_as(BOB).await;
    stage.world.end().await;
}

/// A bot signs in again by itself when its session ends; where Telegram refuses that, it is left alone too.
#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_deactivated_or_whose_token_is_refused() {
    for (refusal, condition) in
        [("USER_DEACTIVATED_BAN", "signed_out"), ("ACCESS_TOKEN_INVALID", "token_invalid")]
    {
        let options = Options { watchdog_interval: Duration::from_millis(50), ..Options::default() };
        let (mut world, _) = World::with_bot(options).await;
        world.bot_is("ok").await;
        let app = world.app(json!({})).await;
        let attempt = app.attempt().await;
        let opened = world.open(ALICE, &attempt.link).await;
        world.answer_to(ALICE, opened).await;
        world.fault(json!({ "method": "auth.importBotAuthorization", "error": refusal })).await;
        world.fail("updates.getState", "SESSION_REVOKED").await;
        world.bot_is(condition).await;
        let tried = world.calls("auth.importBotAuthorization").await;
        network_sleep(Duration::from_millis(500)).await;
        assert_eq!(
            world.calls("auth.importBotAuthorization").await,
            tried,
            "it is not asked again and again"
        );
        assert_eq!(app.poll(&attempt).await["status"], "pending");
        let refused = app.call("/api/v1/generate/public", &json!({ "project_id": app.id }), &[]).await;
        assert_eq!(refused.refusal(), (503, "NO_TELEGRAM_ACCOUNT".into()), "a link would lead to nobody");
        // What Telegram says at the next start counts.
        world.heal().await;
        world.restart().await;
        world.bot_is("ok").await;
        let app = app.at(&world.service);
        let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
        world.tap(ALICE, prompt, "✅ Confirm").await;
        assert_eq!(app.poll(&attempt).await["status"], "confirmed");
        world.end().await;
    }
}

/// The real program, whose metrics are its own.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_name_the_reason_from_a_closed_set() {
    let world = World::without_service(Options::default()).await;
    let (_, token) = world.new_bot("login_bot").await;
    let (data, sandbox) = (world.folder.path().join("data"), format!("--sandbox={}", world.sandbox.url()));
    let store = format!("file:{}", world.session_folder().display());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox];
    let arguments = [&arguments[..], &["--session-store", &store]].concat();
    let process = Process::start(&arguments, &[("TELEGRAM_BOT_TOKEN", &token)]);
    let (mut world, client) = (world, process.client.clone());
    world.service = client.clone();
    world.bot_is("ok").await;
    world.signed_in_as(ALICE).await;
    telegram_is(&world, "ok").await;
    let metrics = || async { client.get("/metrics").await.body };
    assert!(metrics().await.contains("connector_account_ended{reason=\"revoked\"} 0"));
    assert!(!metrics().await.contains("connector_sessions_ended_total"));

    world.fault(json!({ "revoke": ALICE })).await;
    world
        .fault(json!({ "method": "updates.getDifference", "error": "SOMETHING_ELSE", "code": 401,
                        "account": "login_bot", "times": 1 }))
        .await;
    world.fault(json!({ "disconnect": "now" })).await;
    telegram_is(&world, "signed_out").await;
    let bots = "connector_sessions_ended_total{account=\"bot\",reason=\"other\"} 1";
    eventually("the bot's end is counted", || async { metrics().await.contains(bots) }).await;
    let text = metrics().await;
    for line in [
        "connector_account_ended{reason=\"revoked\"} 1",
        "connector_account_ended{reason=\"banned\"} 0",
        "connector_sessions_ended_total{account=\"user\",reason=\"revoked\"} 1",
        "connector_account_state{state=\"signed_out\"} 1",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("SOMETHING_ELSE"), "what Telegram calls it is no label");
    world.bot_is("ok").await;
    drop(process);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_used_twice_and_one_that_authorises_nobody() {
    for (error, times) in [("AUTH_KEY_DUPLICATED", 1), ("AUTH_KEY_UNREGISTERED", 1)] {
        let stage = Stage::set().await;
        stage.world.fault(json!({ "method": "updates.getState", "error": error, "times": times })).await;
        telegram_is(&stage.world, "signed_out").await;
        assert_eq!(stage.world.view().await["reason"], error);
        stage.telegram_is_left_alone().await;
        stage.world.signed_in_as(OWNER).await;
        stage.world.end().await;
    }
}
