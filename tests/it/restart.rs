//! A process that dies, or is told to stop, between any two steps: the next one goes on where it was.

use std::time::{Duration, Instant};

use serde_json::json;
use telegram_connector::lifecycle::network_sleep;

use crate::support::{ALICE, BOB, CAROL, Client, Options, PASSWORD, Process, World};

/// A service process that joins the world's sandbox over the network, in the world's folders.
fn service(world: &World) -> Process {
    let folder = world.folder.path();
    let (data, sessions) = (folder.join("data"), format!("file:{}", world.session_folder().display()));
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox];
    Process::start(&[&arguments[..], &["--session-store", &sessions]].concat(), &[])
}

async fn state(client: &Client) -> String {
    client.get("/sign_in").await.json()["state"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_after_each_step_loses_nothing() {
    let world = World::without_service(Options::default()).await;
    world.carol().await;

    let first = service(&world);
    assert!(first.client.post("/sign_in", &json!({ "phone": CAROL })).await.is_empty(206));
    first.kill();

    let second = service(&world);
    assert_eq!(state(&second.client).await, "code_sent");
    assert_eq!(second.client.get("/sign_in").await.json()["code_delivery"]["type"], "sms");
    let wrong = world.wrong_code(CAROL).await;
    let answer = second.client.post("/sign_in", &json!({ "phone": CAROL, "password": wrong })).await;
    assert_eq!(answer.refusal(), (400, "PHONE_CODE_INVALID".into()));
    second.kill();

    let third = service(&world);
    assert_eq!(state(&third.client).await, "code_sent");
    let code = world.code(CAROL).await;
    let answer = third.client.post("/sign_in", &json!({ "phone": CAROL, "password": code })).await;
    assert_eq!(answer.refusal(), (401, "TWO_FACTOR_REQUIRED".into()));
    third.kill();

    let fourth = service(&world);
    assert_eq!(state(&fourth.client).await, "two_factor_required");
    let answer = fourth.client.post("/sign_in", &json!({ "phone": CAROL, "password": code })).await;
    assert_eq!(answer.refusal(), (401, "TWO_FACTOR_REQUIRED".into()));
    let answer =
        fourth.client.post("/sign_in", &json!({ "phone": CAROL, "two_factor_password": PASSWORD })).await;
    assert!(answer.is_empty(200), "{answer:?}");
    fourth.kill();

    let fifth = service(&world);
    assert_eq!(state(&fifth.client).await, "signed_in");
    assert!(fifth.client.post("/sign_in", &json!({ "phone": CAROL })).await.is_empty(200));
    assert_eq!(world.calls("auth.sendCode").await, 1, "one code for the whole story");
    drop(fifth);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_telegrams_yes_and_its_own_is_signed_in_afterwards() {
    let world = World::without_service(Options::default()).await;
    let first = service(&world);
    assert!(first.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(206));
    let code = world.code(ALICE).await;
    // Telegram says yes, and the answer never arrives.
    world.fault(json!({ "cut_instead_of_answer": "auth.signIn", "times": 1 })).await;
    let body = json!({ "phone": ALICE, "password": code });
    assert_eq!(first.client.post("/sign_in", &body).await.status, 503);
    first.kill();
    let second = service(&world);
    assert!(second.client.post("/sign_in", &body).await.is_empty(200));
    assert_eq!(world.calls("auth.signIn").await, 1);
    drop(second);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_under_way_and_exits_0() {
    let world = World::without_service(Options::default()).await;
    let mut process = service(&world);
    world.fault(json!({ "method": "auth.sendCode", "delay_ms": 300 })).await;
    let client = process.client.clone();
    let request = tokio::spawn(async move { client.post("/sign_in", &json!({ "phone": BOB })).await });
    crate::support::eventually("the call is under way", || async { world.calls("auth.sendCode").await == 1 })
        .await;
    let begun = Instant::now();
    process.terminate();
    assert!(request.await.unwrap().is_empty(206));
    let (status, log) = process.ended();
    assert_eq!(status, Some(0), "{log}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{log}");
    assert_eq!(state(&service(&world).client).await, "code_sent");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once() {
    let world = World::without_service(Options::default()).await;
    let mut process = service(&world);
    world.hold("auth.sendCode").await;
    let client = process.client.clone();
    let request = tokio::spawn(async move {
        client
            .try_send(
                "POST",
                "/sign_in",
                &[("content-type", "application/json")],
                Some("{\"phone\":\"+15550100002\"}"),
            )
            .await
    });
    let spent = || async { world.sandbox.get("/api/faults").await.json() == json!([]) };
    crate::support::eventually("the call is under way", spent).await;
    process.terminate();
    process.wait_for_line("stopping; a second signal ends the process at once");
    // Those that come along with the first are no second one.
    while !process.has_ended() {
        process.terminate();
        network_sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(process.ended().0, Some(1), "it did not finish what was under way");
    assert!(request.await.unwrap().is_err(), "nobody answered");
    world.heal().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_sandbox_alone_needs_nothing_and_survives_kill_nine_with_its_people() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap().to_owned();
    let arguments = [
        "serve",
        "--sandbox",
        "--data-dir",
        &data,
        "--listen",
        "127.0.0.1:0",
        "--sandbox-listen",
        "127.0.0.1:0",
    ];
    let control = |process: &Process| {
        let log = process.log();
        let line =
            log.lines().find(|line| line.contains("Sandbox control")).unwrap_or_else(|| panic!("{log}"));
        let url = line.split("http://").nth(1).unwrap();
        Client::new(url.split('/').next().unwrap())
    };
    let code = |sandbox: Client| async move {
        sandbox.get(&format!("/api/accounts/{ALICE}/code?wait=25")).await.json()["code"]
            .as_str()
            .unwrap()
            .to_owned()
    };

    let bot_is = |process: &Process, condition: &'static str| {
        let client = process.client.clone();
        async move {
            let bot = || async { client.get("/readyz").await.json()["bot"].clone() };
            crate::support::eventually(condition, || async { bot().await == condition }).await;
        }
    };
    let sign_ins = |process: &Process| {
        let sandbox = control(process);
        async move {
            let calls = sandbox.get("/api/calls").await.json();
            let of_bots = |call: &&serde_json::Value| call["method"] == "auth.importBotAuthorization";
            calls.as_array().unwrap().iter().find(of_bots).map_or(0, |call| call["count"].as_u64().unwrap())
        }
    };

    let first = Process::start(&arguments, &[]);
    bot_is(&first, "ok").await;
    let stored = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().path().extension().is_some_and(|extension| extension == "session")
    };
    let sessions = || {
        let files = std::fs::read_dir(folder.path().join("sessions"));
        files.map_or(0, |files| files.map(stored).filter(|stored| *stored).count())
    };
    crate::support::eventually("the bot's session is stored", || async { sessions() == 1 }).await;
    assert_eq!(control(&first).get("/api/accounts").await.json().as_array().unwrap().len(), 3);
    assert!(first.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(206));
    let sent = code(control(&first)).await;
    first.kill();

    let second = Process::start(&arguments, &[]);
    bot_is(&second, "ok").await;
    assert_eq!(sign_ins(&second).await, 0, "the bot goes on with its session");
    assert_eq!(code(control(&second)).await, sent);
    assert!(second.client.post("/sign_in", &json!({ "phone": ALICE, "password": sent })).await.is_empty(200));
    second.kill();

    let third = Process::start(&arguments, &[]);
    assert!(third.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(200));
    assert_eq!(third.client.get("/sign_in").await.json()["account"]["name"], "Alice");
    assert_eq!(control(&third).get("/api/accounts").await.json().as_array().unwrap().len(), 3);
    bot_is(&third, "ok").await;
    third.kill();

    // The sandbox itself knows the bot's token, and one that is given explicitly wins.
    std::fs::remove_dir_all(folder.path().join("sessions")).unwrap();
    let fourth = Process::start(&arguments, &[]);
    bot_is(&fourth, "ok").await;
    assert_eq!(sign_ins(&fourth).await, 1);
    fourth.kill();
    let fifth = Process::start(&arguments, &[("TELEGRAM_BOT_TOKEN", "7:another-bot")]);
    bot_is(&fifth, "token_invalid").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_belong_together_stops_the_start_and_says_what_to_do() {
    let mut world = World::new().await;
    world.signed_in_as(ALICE).await;
    world.stop().await;
    let folder = world.folder.path().to_owned();
    let (data, sessions) = (folder.join("data"), world.session_folder());
    let session = sessions.join("account.session");
    let good = std::fs::read(&session).unwrap();
    let start = |data: &std::path::Path, mode: &str, environment: &[(&str, &str)]| {
        let store = format!("file:{}", sessions.display());
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
        let arguments = [&arguments[..], &["--session-store", &store, mode]].concat();
        let (status, log) = Process::spawn(&arguments, environment).ended();
        assert_eq!(status, Some(1), "{log}");
        log
    };
    let joined = format!("--sandbox={}", world.sandbox.url());
    let real = [("TELEGRAM_API_ID", "1"), ("TELEGRAM_API_HASH", "hash")];
    let no_sandbox = "--sandbox=0";
    let other_key = [("CONNECTOR_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")];

    // Another mode, another master key: told of the store, and of the session where the store is another.
    let fresh = folder.join("fresh");
    assert!(start(&data, no_sandbox, &real).contains("made in sandbox mode"));
    assert!(start(&data, &joined, &other_key).contains("set CONNECTOR_MASTER_KEY"));
    assert!(start(&fresh, &joined, &other_key).contains("account.session was sealed with master key"));
    let key = std::fs::read_to_string(data.join("master.key")).unwrap();
    let same_key = [("CONNECTOR_MASTER_KEY", key.trim()), real[0], real[1]];
    let another = folder.join("another");
    assert!(start(&another, no_sandbox, &same_key).contains("account.session was made in sandbox mode"));
    assert_eq!(std::fs::read(&session).unwrap(), good, "nothing was overwritten");

    // A damaged session.
    std::fs::write(&session, &good[..good.len() / 2]).unwrap();
    assert!(start(&data, &joined, &[]).contains("is damaged"));
    assert_eq!(std::fs::read(&session).unwrap(), &good[..good.len() / 2]);
    std::fs::write(&session, &good).unwrap();

    // The store is in use.
    let holder = service(&world);
    assert!(start(&data, &joined, &[]).contains("in use by another process"));
    drop(holder);
    world.end().await;
}
