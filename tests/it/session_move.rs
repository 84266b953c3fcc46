//! Moving a session in and out as a Telethon `StringSession`: the commands of the real binary, and
//! `CONNECTOR_IMPORT_SESSION` at the start of a service.

use std::path::Path;

use serde_json::json;

use crate::support::{ALICE, BOB, BUCKET, Fault, Options, Process, S3Server, World, eventually, run};

/// The arguments of `command` in the world's sandbox, with data and sessions in `folder`.
fn arguments(world: &World, folder: &Path, command: &[&str]) -> Vec<String> {
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let (data, store) = (folder.join("data"), format!("file:{}", folder.join("sessions").display()));
    let places = ["--data-dir", data.to_str().unwrap(), "--session-store", &store, &sandbox];
    command.iter().chain(&places).map(|&argument| argument.to_owned()).collect()
}

/// Exit code, standard output, standard error.
fn session(world: &World, folder: &Path, command: &[&str], input: &str) -> (Option<i32>, String, String) {
    let arguments = arguments(world, folder, &[&["session"], command].concat());
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[], input)
}

fn serve(world: &World, folder: &Path, environment: &[(&str, &str)]) -> Process {
    let arguments = arguments(world, folder, &["serve", "--listen", "127.0.0.1:0"]);
    Process::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), environment)
}

fn fails_to_serve(world: &World, folder: &Path, environment: &[(&str, &str)]) -> String {
    let arguments = arguments(world, folder, &["serve", "--listen", "127.0.0.1:0"]);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (status, log) = Process::spawn(&arguments, environment).ended();
    assert_eq!(status, Some(1), "{log}");
    log
}

async fn signs_in(world: &World, process: &Process, phone: &str) {
    assert!(process.client.post("/sign_in", &json!({ "phone": phone })).await.is_empty(206));
    let code = world.code(phone).await;
    let body = json!({ "phone": phone, "password": code });
    assert!(process.client.post("/sign_in", &body).await.is_empty(200));
}

async fn is_signed_in(process: &Process, phone: &str) -> bool {
    process.client.post("/sign_in", &json!({ "phone": phone })).await.is_empty(200)
}

/// A world, and the `StringSession` of Alice signed in to it by a service that is gone.
async fn exported() -> (World, String) {
    let world = World::without_service(Options::default()).await;
    let old = world.folder.path().join("old");
    let process = serve(&world, &old, &[]);
    signs_in(&world, &process, ALICE).await;

    // While it runs, only by force.
    let (status, output, error) = session(&world, &old, &["export"], "");
    assert!(status == Some(1) && output.is_empty() && error.contains("--force"), "{error}");
    let (status, forced, error) = session(&world, &old, &["export", "--force"], "");
    assert!(status == Some(0) && error.contains("destroys a session that two programs use"), "{error}");
    process.kill();

    let (status, text, error) = session(&world, &old, &["export"], "");
    assert_eq!(status, Some(0), "{error}");
    assert_eq!(text, forced);
    let text = text.trim().to_owned();
    assert!(text.starts_with('1') && text.len() == 353, "{}", text.len());
    assert!(!error.contains(&text[..40]));
    (world, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_session_imported_into_an_empty_service_is_signed_in_without_a_code() {
    let (world, text) = exported().await;
    let new = world.folder.path().join("new");
    let (status, output, error) = session(&world, &new, &["import"], &format!("{text}\n"));
    assert!(status == Some(0) && output.is_empty(), "{error}");
    let process = serve(&world, &new, &[]);
    assert!(is_signed_in(&process, ALICE).await);
    let account = process.client.get("/sign_in").await.json()["account"].clone();
    assert_eq!((&account["name"], &account["username"]), (&json!("Alice"), &json!("alice_sandbox")));
    process.kill();
    let process = serve(&world, &new, &[]);
    assert!(is_signed_in(&process, ALICE).await);
    assert_eq!(world.calls("auth.sendCode").await, 1);
    assert_eq!(process.client.delete("/sign_in").await.status, 200);
    process.kill();
    // What has been signed out is no longer good.
    let (status, _, error) = session(&world, &new, &["import"], &text);
    assert_eq!(status, Some(0), "{error}");
    let process = serve(&world, &new, &[]);
    eventually("Telegram has refused it", || async {
        process.client.get("/sign_in").await.json()["state"] == "signed_out"
    })
    .await;
    signs_in(&world, &process, BOB).await;
    drop(process);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_refuses_what_would_lose_something_and_what_is_no_session() {
    let (world, text) = exported().await;
    let old = world.folder.path().join("old");
    let session_file = old.join("sessions/account.session");
    let before = std::fs::read(&session_file).unwrap();
    for (input, says) in [
        ("", "it is empty"),
        ("hello", "begins with 1"),
        (&text[..200], "begins with 1"),
        ("SQLite format 3\0…", "StringSession.save"),
    ] {
        let (status, _, error) = session(&world, &old, &["import", "--replace"], input);
        assert!(status == Some(1) && error.contains(says), "{input}: {error}");
    }
    let (status, _, error) = session(&world, &old, &["import"], &text);
    assert!(status == Some(1) && error.contains("--replace"), "{error}");
    assert_eq!(std::fs::read(&session_file).unwrap(), before);

    let process = serve(&world, &old, &[]);
    let (status, _, error) = session(&world, &old, &["import", "--replace"], &text);
    assert!(status == Some(1) && error.contains("stop it first"), "{error}");
    process.kill();
    let (status, _, error) = session(&world, &old, &["import", "--replace"], &text);
    assert_eq!(status, Some(0), "{error}");
    let process = serve(&world, &old, &[]);
    assert!(is_signed_in(&process, ALICE).await);
    drop(process);

    let nowhere = world.folder.path().join("nowhere");
    let (status, _, error) = session(&world, &nowhere, &["export"], "");
    assert!(status == Some(1) && error.contains("CONNECTOR_MASTER_KEY"), "{error}");
    assert!(!nowhere.join("data").exists(), "an export makes nothing");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_named_at_the_start_is_taken_where_there_is_none_and_never_written_over() {
    let (world, text) = exported().await;
    let (new, file) = (world.folder.path().join("new"), world.folder.path().join("old.txt"));
    std::fs::write(&file, format!("{text}\n")).unwrap();
    let environment = [("CONNECTOR_IMPORT_SESSION", file.to_str().unwrap())];

    // Telegram cannot be asked yet: it is not known whose the session is, and nothing else is begun meanwhile.
    world.fault(json!({ "silent": true })).await;
    let process = serve(&world, &new, &environment);
    assert_eq!(process.client.get("/sign_in").await.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    assert!(!new.join("sessions/account.session").exists(), "not saved before it is verified");
    process.kill();
    world.heal().await;

    let process = serve(&world, &new, &environment);
    assert!(is_signed_in(&process, ALICE).await);
    assert!(new.join("sessions/account.session").exists());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{text}\n"));
    process.kill();
    // It is not read again, even if it is no longer good.
    std::fs::write(&file, "something else").unwrap();
    let process = serve(&world, &new, &environment);
    assert!(is_signed_in(&process, ALICE).await);
    assert_eq!(world.calls("auth.sendCode").await, 1);
    process.kill();

    let other = world.folder.path().join("other");
    assert!(fails_to_serve(&world, &other, &environment).contains("begins with 1"));
    std::fs::remove_file(&file).unwrap();
    assert!(fails_to_serve(&world, &other, &environment).contains("unset CONNECTOR_IMPORT_SESSION"));
    std::fs::write(&file, "SQLite format 3\0").unwrap();
    assert!(fails_to_serve(&world, &other, &environment).contains("python3 -c"));
    assert!(!other.join("sessions/account.session").exists());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_moved_from_one_bucket_place_to_another_survives_an_outage_before_its_first_save() {
    let (world, text) = exported().await;
    let s3 = S3Server::new().await;
    s3.put("original/session.txt", text.as_bytes());
    let (from, store) = (format!("s3://{BUCKET}/original/session.txt"), format!("s3://{BUCKET}/new"));
    let places = [("CONNECTOR_IMPORT_SESSION", from.as_str()), ("CONNECTOR_SESSION_STORE", store.as_str())];
    let environment = [&s3.environment()[..], &places].concat();
    let (data, sandbox) = (world.folder.path().join("new"), format!("--sandbox={}", world.sandbox.url()));
    let serve = || {
        let data = data.to_str().unwrap();
        Process::start(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data, &sandbox], &environment)
    };

    s3.fail("PUT", Fault::Answer(503, ""));
    let process = serve();
    eventually("it waits to be saved", || async {
        process.client.get("/readyz").await.json()["session_store"] == "degraded"
    })
    .await;
    let answer = process.client.post("/sign_in", &json!({ "phone": ALICE })).await;
    assert_eq!(answer.refusal(), (503, "SESSION_STORE_UNAVAILABLE".into()));
    process.kill();

    // The old place is gone, the outage is not.
    std::fs::remove_file(s3.folder().join(BUCKET).join("original/session.txt")).unwrap();
    let process = serve();
    assert_eq!(process.client.get("/sign_in").await.json()["account"]["name"], "Alice");
    s3.heal();
    eventually("it is saved", || async { s3.object("new/account.session").is_some() }).await;
    assert!(is_signed_in(&process, ALICE).await);
    drop(process);
    world.end().await;
}
