//! Bots: how they sign in and stay signed in, beside a service and several in one process.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use telegram_connector::domain::account::Mode;
use telegram_connector::domain::ids::Secret;
use telegram_connector::domain::seal::Sealer;
use telegram_connector::lifecycle::Tasks;
use telegram_connector::telegram::{Bots, TelegramError};
use telegram_connector::vault::Vault;

use crate::support::{
    ALICE, BUCKET, Options, Process, Recorder, S3Server, World, eventually, finish, random,
};

/// The bots of a process of their own, with what they have told.
pub(crate) struct Stable {
    pub(crate) bots: Bots,
    pub(crate) told: Recorder,
    tasks: Tasks,
}

impl Stable {
    pub(crate) fn open(world: &World, folder: &Path) -> Self {
        let (tasks, told) = (Tasks::new(), Recorder::default());
        let vault = Vault::folder(folder, "account.session", Mode::Sandbox, Sealer::new(&[7; 32], random()));
        let bots = Bots::new(world.telegram(), vault, random(), tasks.clone(), told.sink());
        Self { bots, told, tasks }
    }

    /// Runs a bot until it is as it should be.
    pub(crate) async fn run(&self, token: &str, condition: &str) -> i64 {
        let id = self.bots.run(secret(token)).unwrap();
        self.is(id, condition).await;
        id
    }

    pub(crate) async fn is(&self, id: i64, condition: &str) {
        eventually(condition, || async { self.bots.condition(id) == condition }).await;
    }

    pub(crate) async fn close(self) {
        self.tasks.stop();
        self.bots.close().await;
        finish(&self.tasks).await;
    }
}

pub(crate) fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

async fn sign_ins(world: &World) -> u64 {
    world.calls("auth.importBotAuthorization").await
}

fn quick() -> Options {
    Options { watchdog_interval: Duration::from_millis(50), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_signs_in_once_and_goes_on_with_its_stored_session_after_restarts() {
    let (mut world, id) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let session = world.session_folder().join(format!("bot-{id}.session"));
    eventually("its session is stored", || async { session.exists() }).await;
    for _ in 0..2 {
        world.restart().await;
        world.bot_is("ok").await;
    }
    assert_eq!(sign_ins(&world).await, 1);
    assert_eq!(world.service.get("/readyz").await.json()["telegram"], "signed_out", "nobody else is");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_bot_says_so() {
    let world = World::new().await;
    world.bot_is("none").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bot_and_account_share_a_process_and_a_session_store() {
    let (mut world, _) = World::with_bot(Options::default()).await;
    world.signed_in_as(ALICE).await;
    world.bot_is("ok").await;
    world.restart().await;
    world.bot_is("ok").await;
    assert_eq!(world.view().await["account"]["name"], "Alice");
    assert_eq!(world.service.delete("/sign_in").await.status, 200);
    world.bot_is("ok").await;
    assert_eq!(sign_ins(&world).await, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_whose_session_telegram_ends_signs_in_again_by_itself() {
    let (mut world, _) = World::with_bot(quick()).await;
    world.bot_is("ok").await;
    // Revoked.
    world.fail("updates.getState", "SESSION_REVOKED").await;
    eventually("a second sign-in", || async { sign_ins(&world).await == 2 }).await;
    world.bot_is("ok").await;
    // Its key forgotten.
    world.fault(json!({ "forget_key": "all" })).await;
    world.fault(json!({ "disconnect": "now" })).await;
    eventually("a third sign-in", || async { sign_ins(&world).await == 3 }).await;
    world.bot_is("ok").await;
    // Revoked while nobody was there.
    world.stop().await;
    world.fault(json!({ "forget_key": "all" })).await;
    world.start().await.unwrap();
    eventually("a fourth sign-in", || async { sign_ins(&world).await == 4 }).await;
    world.bot_is("ok").await;
    // The newest session is the stored one.
    world.restart().await;
    world.bot_is("ok").await;
    assert_eq!(sign_ins(&world).await, 4);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_telegram_refuses_is_told_and_not_tried_again_and_again() {
    let world = World::without_service(Options::default()).await;
    let (id, token) = world.new_bot("login_bot").await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    stable.run(&format!("{id}:{}", "x".repeat(35)), "token_invalid").await;
    assert!(stable.bots.account(id).is_none() && stable.bots.user(id).is_none());
    let tried = sign_ins(&world).await;
    // The same once more changes nothing, another one is tried at once.
    stable.run(&format!("{id}:{}", "x".repeat(35)), "token_invalid").await;
    assert_eq!(sign_ins(&world).await, tried);
    stable.run(&token, "ok").await;
    assert_eq!(stable.bots.user(id).unwrap().username.as_deref(), Some("login_bot"));
    assert!(stable.bots.run(secret("no token")).is_err());
    assert_eq!(stable.bots.condition(7), "none");
    stable.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_bots_live_in_one_process_and_stop_one_by_one() {
    let world = World::without_service(Options::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    let mut tokens = Vec::new();
    for n in 0..5 {
        tokens.push(world.new_bot(&format!("bot_number_{n}_bot")).await);
    }
    for (id, token) in &tokens {
        assert_eq!(stable.bots.run(secret(token)), Ok(*id));
    }
    for (n, (id, _)) in tokens.iter().enumerate() {
        stable.is(*id, "ok").await;
        assert_eq!(stable.bots.user(*id).unwrap().username, Some(format!("bot_number_{n}_bot")));
        assert_eq!(stable.bots.account(*id).unwrap().id(), Some(*id));
    }
    let (first, token) = &tokens[0];
    stable.bots.stop(*first).await;
    assert_eq!((stable.bots.condition(*first), stable.bots.condition(tokens[1].0)), ("none", "ok"));
    assert!(folder.path().join(format!("bot-{first}.session")).exists(), "its session stays");
    stable.run(token, "ok").await;
    assert_eq!(sign_ins(&world).await, 5);
    stable.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_lives_in_another_data_centre_is_followed() {
    let world = World::without_service(Options::default()).await;
    let far = json!({ "username": "far_bot", "name": "Far", "dc": 4 });
    let token = world.sandbox.post("/api/bots", &far).await.json()["token"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let stable = Stable::open(&world, folder.path());
        stable.run(&token, "ok").await;
        stable.close().await;
    }
    assert_eq!(sign_ins(&world).await, 2, "once to be sent on, once to sign in, and not after the restart");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_sign_in_is_waited_out() {
    let world = World::without_service(quick()).await;
    let (id, token) = world.new_bot("login_bot").await;
    let folder = tempfile::tempdir().unwrap();
    world.fault(json!({ "refuse_connections": true })).await;
    let stable = Stable::open(&world, folder.path());
    stable.run(&token, "reconnecting").await;
    world.fail("auth.importBotAuthorization", "FLOOD_WAIT_1").await;
    let begun = Instant::now();
    world.fault(json!({ "refuse_connections": false })).await;
    world.faults_are_spent().await;
    world.fault(json!({ "cut_instead_of_answer": "auth.importBotAuthorization", "times": 1 })).await;
    stable.is(id, "ok").await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "a flood is waited out");
    stable.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_store_out_of_reach_is_waited_for_before_and_after_the_sign_in() {
    let (mut world, id) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    world.stop().await;
    let (folder, aside) = (world.session_folder(), world.folder.path().join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    world.start().await.unwrap();
    world.bot_is("unknown").await;
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    world.bot_is("ok").await;
    assert_eq!(sign_ins(&world).await, 1, "it waited for its session");

    // A bot works while its session waits to be stored.
    world.stop().await;
    std::fs::remove_dir_all(&folder).unwrap();
    world.hold("auth.importBotAuthorization").await;
    world.start().await.unwrap();
    // It knows that nothing is stored, and its sign-in is under way.
    world.faults_are_spent().await;
    let session = folder.join(format!("bot-{id}.session"));
    std::fs::create_dir_all(session.join("in the way")).unwrap();
    world.heal().await;
    world.bot_is("ok").await;
    std::fs::remove_dir_all(&session).unwrap();
    eventually("its session is stored", || async { session.is_file() }).await;
    world.restart().await;
    world.bot_is("ok").await;
    assert_eq!(sign_ins(&world).await, 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_verified_by_telegram_and_not_by_a_session_that_happens_to_be_there() {
    let world = World::without_service(Options::default()).await;
    let (id, token) = world.new_bot("login_bot").await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    let forged = secret(&format!("{id}:{}", "x".repeat(35)));

    // Nothing runs yet.
    assert_eq!(stable.bots.verify(forged.clone()).await, Err(TelegramError::TokenInvalid));
    assert_eq!(stable.bots.verify(secret("nonsense")).await, Err(TelegramError::TokenInvalid));
    assert_eq!(stable.bots.condition(id), "none");
    let user = stable.bots.verify(secret(&token)).await.unwrap();
    assert_eq!((user.id, user.bot), (id, true));
    stable.is(id, "ok").await;
    // What has been accepted is not asked again.
    let asked = sign_ins(&world).await;
    stable.bots.verify(secret(&token)).await.unwrap();
    assert_eq!(sign_ins(&world).await, asked);
    stable.close().await;

    // Now it runs by its stored session.
    let stable = Stable::open(&world, folder.path());
    stable.run(&token, "ok").await;
    assert_eq!(sign_ins(&world).await, asked);
    assert_eq!(stable.bots.verify(forged.clone()).await, Err(TelegramError::TokenInvalid));
    assert_eq!(stable.bots.condition(id), "ok", "the bot goes on");
    stable.bots.verify(secret(&token)).await.unwrap();
    eventually("the second session is ended", || async { world.calls("auth.logOut").await == 1 }).await;
    stable.is(id, "ok").await;

    // A bot whose token was refused takes the verified one.
    stable.bots.stop(id).await;
    std::fs::remove_file(folder.path().join(format!("bot-{id}.session"))).unwrap();
    stable.bots.run(forged).unwrap();
    stable.is(id, "token_invalid").await;
    stable.bots.verify(secret(&token)).await.unwrap();
    stable.is(id, "ok").await;
    stable.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_token_does_not_displace_the_one_that_telegram_accepts() {
    let world = World::without_service(Options::default()).await;
    let (id, token) = world.new_bot("login_bot").await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    stable.run(&token, "ok").await;
    let outdated = secret(&format!("{id}:{}", "x".repeat(35)));
    stable.bots.run(outdated.clone()).unwrap();
    // The session ends, and the bot needs its token again.
    world.fault(json!({ "forget_key": "all" })).await;
    world.fault(json!({ "disconnect": "now" })).await;
    eventually("a second sign-in", || async { sign_ins(&world).await == 2 }).await;
    stable.is(id, "ok").await;
    assert_eq!(sign_ins(&world).await, 2, "the accepted token was tried first");
    stable.bots.stop(id).await;
    std::fs::remove_file(folder.path().join(format!("bot-{id}.session"))).unwrap();
    // Where nothing is known, both are tried.
    stable.bots.run(outdated).unwrap();
    stable.bots.run(secret(&token)).unwrap();
    stable.is(id, "ok").await;
    stable.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_verified_after_the_end() {
    let world = World::without_service(Options::default()).await;
    let (id, token) = world.new_bot("login_bot").await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    stable.bots.close().await;
    let refused = stable.bots.verify(secret(&token)).await.unwrap_err();
    assert!(matches!(refused, TelegramError::Unreachable(_)), "{refused}");
    assert_eq!(stable.bots.condition(id), "none");
    stable.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_does_not_cut_a_flood_short() {
    let world = World::without_service(Options::default()).await;
    let (id, token) = world.new_bot("login_bot").await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    world.fail("auth.importBotAuthorization", "FLOOD_WAIT_2").await;
    let begun = Instant::now();
    stable.run(&token, "reconnecting").await;
    stable.bots.run(secret(&format!("{id}:{}", "x".repeat(35)))).unwrap();
    stable.is(id, "ok").await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    stable.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_a_token_takes_no_longer_than_a_call_may() {
    let options = Options { call_limit: Duration::from_millis(500), ..Options::default() };
    let world = World::without_service(options).await;
    let (id, token) = world.new_bot("login_bot").await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    world.fault(json!({ "silent": true })).await;
    let begun = Instant::now();
    let unreachable = stable.bots.verify(secret(&token)).await.unwrap_err();
    assert!(matches!(unreachable, TelegramError::Unreachable(_)), "{unreachable}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(stable.bots.condition(id), "none");
    stable.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_of_a_process_that_is_killed_or_told_to_stop_goes_on_in_the_next() {
    let world = World::without_service(Options::default()).await;
    let (id, token) = world.new_bot("login_bot").await;
    let file = world.folder.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let (data, sandbox) = (world.folder.path().join("data"), format!("--sandbox={}", world.sandbox.url()));
    let sessions = world.session_folder();
    let store = format!("--session-store=file:{}", sessions.display());
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox, &store];
    let serve = || Process::start(&arguments, &[("TELEGRAM_BOT_TOKEN_FILE", file.to_str().unwrap())]);
    let is_ok = |process: &Process| {
        let client = process.client.clone();
        async move {
            eventually("ok", || async { client.get("/readyz").await.json()["bot"] == "ok" }).await;
        }
    };
    let session = sessions.join(format!("bot-{id}.session"));

    let first = serve();
    is_ok(&first).await;
    eventually("stored", || async { session.exists() }).await;
    first.kill();
    let mut second = serve();
    is_ok(&second).await;
    second.terminate();
    let (status, log) = second.ended();
    assert_eq!(status, Some(0), "{log}");
    assert!(!log.contains(token.split(':').nth(1).unwrap()), "no token in the log");
    let third = serve();
    is_ok(&third).await;
    assert_eq!(sign_ins(&world).await, 1);
    drop(third);
    let stored = std::fs::read(&session).unwrap();
    assert!(!stored.windows(9).any(|window| window == b"login_bot"), "it is sealed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_s_session_is_kept_in_a_bucket_too() {
    let world = World::without_service(Options::default()).await;
    let s3 = S3Server::new().await;
    let (id, token) = world.new_bot("login_bot").await;
    let (store, sandbox) = (format!("s3://{BUCKET}/prefix"), format!("--sandbox={}", world.sandbox.url()));
    let settings = [("CONNECTOR_SESSION_STORE", store.as_str()), ("TELEGRAM_BOT_TOKEN", token.as_str())];
    let environment = [&s3.environment()[..], &settings].concat();
    // Each process comes with nothing but the bucket.
    for process in ["first", "second"] {
        let data = world.folder.path().join(process);
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox];
        let process = Process::start(&arguments, &environment);
        eventually("ok", || async { process.client.get("/readyz").await.json()["bot"] == "ok" }).await;
        eventually("stored", || async { s3.object(&format!("prefix/bot-{id}.session")).is_some() }).await;
        process.kill();
    }
    assert_eq!(sign_ins(&world).await, 1);
    assert!(s3.object("prefix/account.session").is_none(), "nobody else has signed in");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_while_telegram_is_silent_does_not_hang() {
    let options = Options { call_limit: Duration::from_secs(600), ..Options::default() };
    let world = World::without_service(options).await;
    let (_, token) = world.new_bot("login_bot").await;
    let (_, another) = world.new_bot("another_bot").await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    let id = stable.run(&token, "ok").await;
    world.fault(json!({ "silent": true })).await;
    stable.bots.run(secret(&another)).unwrap();
    let account = stable.bots.account(id).unwrap();
    let asking = tokio::spawn(async move { account.whoami().await });
    let begun = Instant::now();
    stable.bots.close().await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(asking.await.unwrap().is_err());
    assert!(stable.bots.run(secret(&another)).is_ok(), "and nothing happens");
    stable.close().await;
    world.end().await;
}
