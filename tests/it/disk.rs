//! A disk that is full, or takes no writes, under the real program: what can be read is told, nothing is acknowledged that
//! is not durable, and once there is space again a new process goes on.
//!
//! The first test lowers the limit of file sizes of the running process (`prlimit`), which needs no privilege; the second
//! one fills a small file system of its own (`unshare`, `mount`). Where that is not allowed they fail, unless `ALLOW_SKIP`
//! is set: nobody sees what a test prints that passes.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use telegram_connector::lifecycle::network_sleep;

use crate::quick::seen;
use crate::support::{ALICE, App, Attempt, BOB, Options, Process, World, eventually};

const OWNER: &str = "+15550100008";

/// The program's arguments: everything it keeps is below `folder`.
fn arguments(world: &World, folder: &Path) -> Vec<String> {
    let sessions = format!("file:{}", folder.join("sessions").display());
    let (data, sandbox) = (folder.join("data"), format!("--sandbox={}", world.sandbox.url()));
    let data = data.to_str().unwrap();
    ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--session-store", &sessions, &sandbox]
        .map(str::to_owned)
        .to_vec()
}

fn environment(bot_token: &str) -> [(&str, &str); 3] {
    [
        ("CONNECTOR_BOOTSTRAP_EMAIL", "demo@example.com"),
        ("CONNECTOR_BOOTSTRAP_PASSWORD", "demo-password"),
        ("TELEGRAM_BOT_TOKEN", bot_token),
    ]
}

/// What was there before the disk was full.
struct Before {
    app: App,
    confirmed: Attempt,
    pending: Attempt,
    prompt: i64,
}

/// Two sign-ins, one of them decided. Nothing is on its way to the disk when this returns: a session whose last change is
/// not durable is not told of.
async fn before(world: &mut World, process: &Process) -> Before {
    world.service = process.client.clone();
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    let (confirmed, pending) = (app.attempt().await, app.attempt().await);
    let opened = world.open(ALICE, &confirmed.link).await;
    let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
    world.tap(ALICE, prompt, "✅ Confirm").await;
    let opened = world.open(BOB, &pending.link).await;
    let prompt = world.answer_to(BOB, opened).await["id"].as_i64().unwrap();
    // What is done by now is not disturbed by what comes.
    world
        .becomes(ALICE, world.messages(ALICE, 0).await.last().unwrap()["id"].as_i64().unwrap(), "signed in")
        .await;
    assert_eq!(app.poll(&confirmed).await["status"], "confirmed");
    let developer = world.developer().await;
    let path = format!("/sessions/{}", confirmed.id());
    let read = || async { world.dev(&developer, "GET", &path, None).await.body.contains("first_read") };
    eventually("that it was read is written", read).await;
    Before { app, confirmed, pending, prompt }
}

/// While nothing can be written.
async fn meanwhile(world: &World, process: &Process, before: &Before) {
    let Before { app, confirmed, pending, prompt } = before;
    let request = json!({ "project_id": app.id });
    let generate = || app.call("/api/v1/generate/public", &request, &[]);
    // The first one may be refused because its flush fails, all after it because one did.
    let first = Mutex::new(None);
    let refused = || async {
        let answer = generate().await;
        let refused = answer.status == 503;
        *first.lock().unwrap() = Some(answer);
        refused
    };
    eventually("the store fails", refused).await;
    let first = seen(first.into_inner().unwrap().unwrap());
    for _ in 0..20 {
        assert_eq!(generate().await.refusal(), (503, "UNAVAILABLE".to_owned()));
        // Refused with what an answer would have had, and the same by the routes.
        let routed = json!({ "project_id": app.id, "sent_by": "a test" });
        let routed =
            app.call("/api/v1/generate/public", &routed, &[("authorization", "Bearer nonsense")]).await;
        let routed = seen(routed);
        assert_eq!((&seen(generate().await), &first), (&routed, &routed));
        let consume = json!({ "project_id": app.id, "session_token": confirmed.token });
        assert_eq!(
            app.call_keyed("/api/v1/verify", &consume).await.refusal(),
            (503, "UNAVAILABLE".to_owned())
        );
        assert_eq!(app.poll(confirmed).await["status"], "confirmed", "a poll is answered all the same");
        let ready = process.client.get("/readyz").await;
        assert_eq!((ready.status, &ready.json()["store"]), (503, &json!("unavailable")));
        assert_eq!(process.client.get("/healthz").await.status, 200);
    }
    // It has tried the disk meanwhile, and stays because it could not be opened anew.
    network_sleep(Duration::from_millis(2_500)).await;
    assert_eq!(process.client.get("/healthz").await.status, 200);
    let owner = json!({ "phone": OWNER });
    assert_eq!(process.client.post("/sign_in", &owner).await.refusal(), (503, "UNAVAILABLE".to_owned()));
    // The person is not told of what is not kept.
    let tapped = world.try_tap(BOB, *prompt, "✅ Confirm").await;
    assert!(tapped.status != 200 || tapped.json()["answer"] != "Signed in", "{tapped:?}");
    let poll = json!({ "project_id": app.id, "session_token": pending.token });
    let poll = app.call("/api/v1/verify/public", &poll, &[]).await;
    assert!(poll.status == 503 || poll.json() == json!({ "status": "pending" }), "{poll:?}");
}

/// The first process ends when the disk takes writes again; the next one knows what was acknowledged, and goes on.
async fn afterwards(world: &World, mut first: Process, second: &Process, before: &Before) {
    let (status, log) = first.ended();
    assert_eq!(status, Some(1), "a supervisor must start it anew: {log}");
    assert!(log.contains("stopped because the task `store` ended"), "{log}");
    assert!(log.contains("the store failed and takes no more writes"), "{log}");
    // It does not spin, whatever is to be repeated.
    assert!(log.lines().count() < 3_000, "{} lines", log.lines().count());
    assert!(!log.contains("a task panicked"), "{log}");
    let Before { app, confirmed, pending, prompt } = before;
    let app = app.at(&second.client);
    let ready = || async { second.client.get("/readyz").await.json()["bot"] == "ok" };
    eventually("the bot is back", ready).await;
    assert_eq!(app.consume(confirmed).await["status"], "confirmed", "nobody had consumed it");
    assert_eq!(app.consume(confirmed).await["status"], "used");
    // A tap that was offered again may have been taken by now.
    let tapped = || async {
        let decided = app.poll(pending).await["status"] == "confirmed";
        decided || world.try_tap(BOB, *prompt, "✅ Confirm").await.status == 200
    };
    eventually("the tap is taken", tapped).await;
    assert_eq!(app.poll(pending).await["status"], "confirmed");
    app.attempt().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_reads_on_and_ends_once_it_could_be_opened_anew() {
    let mut world = World::without_service(Options::default()).await;
    let owner = json!({ "phone": OWNER, "first_name": "Olga", "username": "olga_owner" });
    assert_eq!(world.sandbox.post("/api/accounts", &owner).await.status, 200);
    let (_, token) = world.new_bot("login_bot").await;
    let arguments = arguments(&world, world.folder.path());
    let start = || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::spawn(&arguments, &environment(&token)).serving()
    };
    let process = start();
    let before = before(&mut world, &process).await;
    let limit = |bytes: &str| {
        let of = process.id().to_string();
        Command::new("prlimit")
            .args(["--pid", &of, &format!("--fsize={bytes}:")])
            .status()
            .is_ok_and(|it| it.success())
    };
    if !limit("1") {
        return skipped("prlimit does not work here, so no disk can fail in this test");
    }
    meanwhile(&world, &process, &before).await;
    assert!(limit("unlimited"));
    has_ended(&process).await;
    // As if it had been killed in the middle of trying the disk.
    let left_over = world.folder.path().join("data/store/probe");
    std::fs::write(&left_over, "0").unwrap();
    let second = start();
    assert!(!left_over.exists());
    afterwards(&world, process, &second, &before).await;
    drop(second);
    world.end().await;
}

/// Fails, unless whoever runs it knows that this machine cannot do it.
fn skipped(why: &str) {
    assert!(std::env::var_os("ALLOW_SKIP").is_some(), "{why}; set ALLOW_SKIP=1 to go on without it");
    eprintln!("SKIPPED: {why}");
}

/// Waits until it has ended of its own accord: only then can the next one have the folder.
async fn has_ended(process: &Process) {
    let program = format!("/proc/{}/exe", process.id());
    eventually("it has ended", || async { !Path::new(&program).exists() }).await;
}

/// The program on a small file system.
struct SmallDisk {
    process: Process,
    /// Keeps it when the process that has it mounted is gone.
    held: std::fs::File,
}

impl SmallDisk {
    /// Where everybody finds it.
    fn root(&self) -> std::path::PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&self.held)).into()
    }
}

/// Starts the program on a file system of 24 MB of its own, mounted at `folder`.
fn on_a_small_disk(arguments: &[String], folder: &Path, bot_token: &str) -> Option<SmallDisk> {
    let allowed = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return None;
    }
    let program = format!("mount -t tmpfs -o size=24m tmpfs {} && exec \"$0\" \"$@\"", folder.display());
    let process = Process::spawn_under(
        &["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &program],
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        &environment(bot_token),
    )
    .serving();
    // What is mounted there is seen by that process only, and through it.
    let held = std::fs::File::open(format!("/proc/{}/root{}", process.id(), folder.display())).unwrap();
    let disk = SmallDisk { process, held };
    assert!(disk.root().join("data/store").exists() && !folder.join("data").exists());
    Some(disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_survived() {
    let mut world = World::without_service(Options::default()).await;
    let owner = json!({ "phone": OWNER, "first_name": "Olga", "username": "olga_owner" });
    assert_eq!(world.sandbox.post("/api/accounts", &owner).await.status, 200);
    let (_, token) = world.new_bot("login_bot").await;
    let folder = world.folder.path().join("small");
    std::fs::create_dir(&folder).unwrap();
    let arguments = arguments(&world, &folder);
    let Some(disk) = on_a_small_disk(&arguments, &folder, &token) else {
        return skipped("unshare and mount are not allowed here, so no disk can be full in this test");
    };
    let root = disk.root();
    let before = before(&mut world, &disk.process).await;
    let filler = root.join("filler");
    let fill = || {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        for size in [1 << 20, 4096, 1] {
            while std::io::Write::write_all(&mut file, &vec![7; size]).is_ok() {}
        }
    };
    fill();
    // The store's log may have a page of its own ahead: it fills that first.
    let app = &before.app;
    let no_space = || async {
        fill();
        app.call("/api/v1/generate/public", &json!({ "project_id": app.id }), &[]).await.status == 503
    };
    eventually("the store is full", no_space).await;
    meanwhile(&world, &disk.process, &before).await;
    // Two megabytes are soon full again: it would only end and start, and tell nothing meanwhile.
    let shorter = std::fs::OpenOptions::new().write(true).open(&filler).unwrap();
    shorter.set_len(shorter.metadata().unwrap().len() - (2 << 20)).unwrap();
    // Held open, it would keep its space.
    drop(shorter);
    network_sleep(Duration::from_secs(6)).await;
    assert_eq!(disk.process.client.get("/healthz").await.status, 200);
    assert_eq!(before.app.poll(&before.confirmed).await["status"], "confirmed");
    std::fs::remove_file(&filler).unwrap();
    has_ended(&disk.process).await;
    let (from, to) = (folder.to_str().unwrap(), root.to_str().unwrap());
    let arguments: Vec<String> = arguments.iter().map(|one| one.replace(from, to)).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let second = Process::spawn(&arguments, &environment(&token)).serving();
    let SmallDisk { process, held } = disk;
    afterwards(&world, process, &second, &before).await;
    drop((second, held));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_takes_no_session_keeps_the_login_in_the_store_until_it_does() {
    let world = World::without_service(Options::default()).await;
    let folder = world.folder.path();
    let arguments = arguments(&world, folder);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let first = Process::spawn(&arguments, &[]).serving();
    assert!(first.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(206));
    let code = world.code(ALICE).await;
    let again = json!({ "phone": ALICE, "password": code });
    // Something is where the session is written: whoever is root may write into a folder that is read-only.
    let in_the_way = folder.join("sessions/account.session.new");
    std::fs::create_dir_all(&in_the_way).unwrap();
    for _ in 0..3 {
        let answer = first.client.post("/sign_in", &again).await;
        assert_eq!(answer.refusal(), (503, "SESSION_STORE_UNAVAILABLE".to_owned()));
    }
    let ready = first.client.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["session_store"]), (200, &Value::from("degraded")));
    first.kill();
    let second = Process::spawn(&arguments, &[]).serving();
    assert_eq!(second.client.get("/sign_in").await.json()["state"], "signed_in", "kept in the store");
    std::fs::remove_dir(&in_the_way).unwrap();
    let saved = || async { second.client.get("/readyz").await.json()["session_store"] == "ok" };
    eventually("the session is saved without anybody asking", saved).await;
    assert!(second.client.post("/sign_in", &again).await.is_empty(200));
    assert!(folder.join("sessions/account.session").exists());
    assert_eq!(world.calls("auth.signIn").await, 1);
    drop(second);
    world.end().await;
}
