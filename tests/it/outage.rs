//! The bucket is slow, broken or gone, for as long as it likes: people sign in all the same, because what they need is in
//! the store and in the connections that are open. The account's own sign-in in an outage is in `session_store`.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    ALICE, App, Attempt, BOB, BUCKET, Fault, Options, Process, S3Server, World, eventually,
};

const FAULTS: [Fault; 4] =
    [Fault::Answer(503, "SlowDown"), Fault::Answer(500, ""), Fault::Close, Fault::Hang];

fn start(world: &World, s3: &S3Server, data: &Path, bot_token: &str) -> Process {
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let store = format!("s3://{BUCKET}/a/prefix");
    let data = data.to_str().unwrap();
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--session-store", &store, &sandbox];
    let more = [
        ("TELEGRAM_BOT_TOKEN", bot_token),
        ("CONNECTOR_BOOTSTRAP_EMAIL", "demo@example.com"),
        ("CONNECTOR_BOOTSTRAP_PASSWORD", "demo-password"),
    ];
    Process::start(&arguments, &[&s3.environment()[..], &more].concat())
}

/// A whole sign-in; every step is what it is without an outage.
async fn sign_in(world: &World, app: &App, phone: &str) {
    let attempt = app.attempt().await;
    let opened = world.open(phone, &attempt.link).await;
    let prompt = world.answer_to(phone, opened).await["id"].as_i64().unwrap();
    world.tap(phone, prompt, "✅ Confirm").await;
    consumed_once(app, &attempt).await;
}

async fn consumed_once(app: &App, attempt: &Attempt) {
    let confirmed = app.wait(attempt).await;
    assert_eq!(confirmed["status"], "confirmed");
    let proof = confirmed["proof"].as_str().unwrap();
    assert_eq!(app.consume_proof(proof).await.json()["status"], "confirmed");
    assert_eq!(app.consume(attempt).await["status"], "used");
    assert_eq!(app.poll(attempt).await, json!({ "status": "used" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_while_the_bucket_is_gone() {
    let (mut world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let (_, token) = world.new_bot("login_bot").await;
    let data = world.folder.path().join("data");
    let process = start(&world, &s3, &data, &token);
    world.service = process.client.clone();
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    for fault in FAULTS {
        s3.fail("*", fault);
        for phone in [ALICE, BOB] {
            sign_in(&world, &app, phone).await;
        }
        let ready = process.client.get("/readyz").await;
        assert_eq!((ready.status, &ready.json()["store"]), (200, &Value::from("ok")), "{fault:?}");
        assert_eq!(ready.json()["bot"], "ok", "{fault:?}");
        s3.heal();
    }
    let log = process.kill();
    // It repeats what it could not save, and does not spin.
    assert!(log.lines().count() < 500, "{} lines", log.lines().count());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_while_the_bucket_is_gone_answers_and_asks_people_once_it_is_back() {
    let (mut world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let (bot, token) = world.new_bot("login_bot").await;
    let data = world.folder.path().join("data");
    let first = start(&world, &s3, &data, &token);
    world.service = first.client.clone();
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
    world.tap(ALICE, prompt, "✅ Confirm").await;
    let stored = || async { s3.object(&format!("a/prefix/bot-{bot}.session")).is_some() };
    eventually("the bot's session is stored", stored).await;
    first.kill();

    for fault in FAULTS {
        s3.fail("*", fault);
        let process = start(&world, &s3, &data, &token);
        let app = app.at(&process.client);
        // What was decided is told, and consumed by the last of them; who comes now gets a link.
        assert_eq!(app.poll(&attempt).await["status"], "confirmed", "{fault:?}");
        let late = app.attempt().await;
        let opened = world.open(BOB, &late.link).await;
        assert_eq!(process.client.get("/readyz").await.status, 200, "{fault:?}");
        s3.heal();
        let prompt = world.answer_to(BOB, opened).await["id"].as_i64().unwrap();
        let tapped = || async { world.try_tap(BOB, prompt, "✅ Confirm").await.status == 200 };
        eventually("a tap is answered", tapped).await;
        consumed_once(&app, &late).await;
        if fault == Fault::Hang {
            consumed_once(&app, &attempt).await;
        }
        process.kill();
    }
    assert_eq!(world.calls("auth.importBotAuthorization").await, 1, "the bot went on with its session");
    world.end().await;
}
