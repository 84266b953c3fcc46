//! The session in a bucket: a real S3 server over HTTP that checks signatures, the real binary, and what goes wrong
//! between them. A process that is gone takes its data directory with it unless a test says otherwise.

use serde_json::{Value, json};
use std::path::Path;

use crate::support::{
    ACCESS_KEY, ALICE, BUCKET, CAROL, Client, Conditions, Fault, MASTER_KEY, Options, PASSWORD, Process,
    S3Server, SECRET_KEY, World, eventually, files_with,
};

/// Where the tests keep the session.
const OBJECT: &str = "a/prefix/account.session";

/// The arguments of a service in a bucket, joined to the world's sandbox, with its data in `data`.
fn arguments(world: &World, data: &Path) -> Vec<String> {
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let store = format!("s3://{BUCKET}/a/prefix");
    let data = data.to_str().unwrap();
    ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--session-store", &store, &sandbox]
        .map(str::to_owned)
        .to_vec()
}

fn spawn(world: &World, data: &Path, environment: &[(&str, &str)]) -> Process {
    let arguments = arguments(world, data);
    Process::spawn(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), environment)
}

fn start(world: &World, s3: &S3Server, machine: &str) -> Process {
    let arguments = arguments(world, &world.folder.path().join(machine));
    Process::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &s3.environment())
}

/// As [`start`], on a machine that has to wait until the lease of one that is gone has ended.
async fn start_elsewhere(world: &World, s3: &S3Server, machine: &str) -> Process {
    let process = start(world, s3, machine);
    eventually("it owns the session", || async { state(&process.client).await != "standby" }).await;
    process
}

/// Nothing is left of a machine but what was elsewhere.
fn lose(world: &World, machine: &str) {
    std::fs::remove_dir_all(world.folder.path().join(machine)).unwrap();
}

async fn state(client: &Client) -> Value {
    let answer = client.get("/sign_in").await;
    if answer.status == 200 { answer.json()["state"].clone() } else { answer.code().into() }
}

async fn ready(client: &Client) -> Value {
    let answer = client.get("/readyz").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["session_store"].clone()
}

/// Both steps; the answer to the second.
async fn sign_in(world: &World, client: &Client, phone: &str) -> (u16, String) {
    assert!(client.post("/sign_in", &json!({ "phone": phone })).await.is_empty(206));
    let code = world.code(phone).await;
    let answer = client.post("/sign_in", &json!({ "phone": phone, "password": code })).await;
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_with_the_bucket_and_the_master_key_alone_is_signed_in() {
    for conditions in [Conditions::Honoured, Conditions::Ignored, Conditions::Rejected] {
        let (world, s3) =
            (World::without_service(Options::default()).await, S3Server::with(conditions).await);
        world.carol().await;
        let first = start(&world, &s3, "first");
        assert_eq!(state(&first.client).await, "signed_out", "an absent object is a fresh start");
        assert_eq!(sign_in(&world, &first.client, CAROL).await.0, 401);
        let password = json!({ "phone": CAROL, "two_factor_password": PASSWORD });
        assert!(first.client.post("/sign_in", &password).await.is_empty(200));
        let log = first.kill();
        lose(&world, "first");

        let second = start_elsewhere(&world, &s3, "second").await;
        assert!(second.client.post("/sign_in", &json!({ "phone": CAROL })).await.is_empty(200));
        assert_eq!(second.client.get("/sign_in").await.json()["account"]["name"], "Carol");
        assert_eq!(world.calls("auth.sendCode").await, 1, "one code for the whole story");
        assert!(!log.contains(SECRET_KEY) && !log.contains(MASTER_KEY), "{log}");
        assert_eq!(second.client.delete("/sign_in").await.json(), json!({ "ok": true }));
        assert_eq!(s3.object(OBJECT), None);
        assert_eq!(sign_in(&world, &second.client, ALICE).await.0, 200);
        drop(second);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_is_found_in_the_bucket_or_in_the_most_talkative_log() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    world.carol().await;
    let data = world.folder.path().join("data");
    let environment =
        [&s3.environment()[..], &[("RUST_LOG", "trace"), ("AWS_SESSION_TOKEN", "planted-session-token")]]
            .concat();
    let arguments = arguments(&world, &data);
    let process = Process::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &environment);
    assert_eq!(sign_in(&world, &process.client, CAROL).await.0, 401);
    let password = json!({ "phone": CAROL, "two_factor_password": PASSWORD });
    assert!(process.client.post("/sign_in", &password).await.is_empty(200));
    let log = process.kill();
    assert!(s3.seen().contains(&format!("PUT /{BUCKET}/{OBJECT}")), "{:?}", s3.seen());
    let planted = [
        CAROL.trim_start_matches('+'),
        PASSWORD,
        MASTER_KEY,
        SECRET_KEY,
        "Carol",
        "carol_sandbox",
        "auth_key",
    ];
    for secret in planted {
        assert_eq!(files_with(s3.folder(), secret.as_bytes()), Vec::<std::path::PathBuf>::new(), "{secret}");
    }
    for secret in [
        CAROL.trim_start_matches('+'),
        PASSWORD,
        MASTER_KEY,
        SECRET_KEY,
        ACCESS_KEY,
        "planted-session-token",
        "Carol",
    ] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_bucket_does_not_take_survives_the_outage_and_a_restart_in_it() {
    for fault in [
        Fault::Answer(503, "SlowDown"),
        Fault::Answer(500, ""),
        Fault::Answer(403, "AccessDenied"),
        Fault::Close,
    ] {
        let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
        let first = start(&world, &s3, "data");
        s3.fail("PUT", fault);
        let (status, body) = sign_in(&world, &first.client, ALICE).await;
        assert!(status == 503 && body.contains("SESSION_STORE_UNAVAILABLE"), "{fault:?}: {status} {body}");
        let again = json!({ "phone": ALICE });
        let answer = first.client.post("/sign_in", &again).await;
        assert_eq!(answer.refusal(), (503, "SESSION_STORE_UNAVAILABLE".into()));
        assert_eq!(
            (state(&first.client).await, ready(&first.client).await),
            (json!("signed_in"), json!("degraded"))
        );
        first.kill();

        // The outage goes on, and nothing can be read either.
        s3.fail("*", fault);
        let second = start(&world, &s3, "data");
        assert_eq!(
            (state(&second.client).await, ready(&second.client).await),
            (json!("signed_in"), json!("degraded"))
        );
        second.kill();

        let third = start(&world, &s3, "data");
        assert_eq!(s3.object(OBJECT), None);
        s3.heal();
        assert!(third.client.post("/sign_in", &again).await.is_empty(200), "{fault:?}");
        assert_eq!(ready(&third.client).await, "ok");
        third.kill();
        lose(&world, "data");
        let elsewhere = start_elsewhere(&world, &s3, "elsewhere").await;
        assert!(elsewhere.client.post("/sign_in", &again).await.is_empty(200));
        assert_eq!(world.calls("auth.sendCode").await, 1);
        drop(elsewhere);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_waits_is_saved_without_anybody_asking() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let process = start(&world, &s3, "data");
    s3.fail("PUT", Fault::Answer(503, ""));
    assert_eq!(sign_in(&world, &process.client, ALICE).await.0, 503);
    s3.heal();
    eventually("the session is saved", || async { ready(&process.client).await == "ok" }).await;
    assert!(s3.object(OBJECT).is_some());
    process.kill();
    // What was kept is no longer needed, and does not come back over a newer session.
    let process = start(&world, &s3, "data");
    assert_eq!(process.client.delete("/sign_in").await.status, 200);
    process.kill();
    let process = start(&world, &s3, "data");
    assert_eq!(state(&process.client).await, "signed_out");
    drop(process);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_at_the_start_keeps_the_process_up_and_it_knows_again_afterwards() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let first = start(&world, &s3, "first");
    assert_eq!(sign_in(&world, &first.client, ALICE).await.0, 200);
    first.kill();
    let again = json!({ "phone": ALICE });
    for fault in [Fault::Answer(503, "ServiceUnavailable"), Fault::Answer(502, ""), Fault::Close, Fault::Hang]
    {
        s3.fail("*", fault);
        let process = start(&world, &s3, "first");
        assert_eq!(state(&process.client).await, "SESSION_STORE_UNAVAILABLE", "{fault:?}");
        assert_eq!(ready(&process.client).await, "degraded");
        s3.heal();
        eventually("it knows again", || async { state(&process.client).await == "signed_in" }).await;
        assert!(process.client.post("/sign_in", &again).await.is_empty(200), "{fault:?}");
        process.kill();
    }
    assert_eq!(world.calls("auth.sendCode").await, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_must_mend_stops_the_start_and_says_what_to_do() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let first = start(&world, &s3, "first");
    assert_eq!(sign_in(&world, &first.client, ALICE).await.0, 200);
    first.kill();
    let good = s3.object(OBJECT).unwrap();
    let fails = |change: &[(&str, &str)], advice: &str| {
        let environment: Vec<_> = s3
            .environment()
            .into_iter()
            .filter(|(name, _)| change.iter().all(|(other, _)| other != name))
            .chain(change.iter().copied())
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let fresh = tempfile::tempdir().unwrap();
        let (status, log) = spawn(&world, fresh.path(), &environment).ended();
        assert_eq!(status, Some(1), "{advice}: {log}");
        assert!(log.contains(advice), "{advice} is not in {log}");
        assert!(!log.contains(SECRET_KEY) && !log.contains(MASTER_KEY), "{log}");
    };
    fails(&[("CONNECTOR_MASTER_KEY", "")], "head -c 32 /dev/urandom | base64");
    fails(
        &[("CONNECTOR_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")],
        "was sealed with master key",
    );
    fails(&[("AWS_SECRET_ACCESS_KEY", "wrong")], "SignatureDoesNotMatch");
    fails(&[("AWS_ACCESS_KEY_ID", "UNKNOWN")], "check AWS_ACCESS_KEY_ID");
    fails(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")], "there are no AWS credentials");
    s3.fail("*", Fault::Answer(403, "AccessDenied"));
    fails(&[], "s3:GetObject");
    s3.fail("*", Fault::Answer(404, "NoSuchBucket"));
    fails(&[], "there is no such bucket");
    s3.fail("*", Fault::Answer(404, ""));
    fails(&[], "AWS_ENDPOINT_URL");
    s3.heal();
    assert_eq!(s3.object(OBJECT).unwrap(), good, "nothing was overwritten");

    // The other mode: a service of Telegram itself, on the sandbox's bucket.
    let (fresh, store) = (tempfile::tempdir().unwrap(), format!("s3://{BUCKET}/a/prefix"));
    let data = fresh.path().to_str().unwrap();
    let real = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--session-store", &store];
    let credentials = [("TELEGRAM_API_ID", "1"), ("TELEGRAM_API_HASH", "hash")];
    let (status, log) = Process::spawn(&real, &[&s3.environment()[..], &credentials].concat()).ended();
    assert!(status == Some(1) && log.contains("was made in sandbox mode"), "{log}");

    assert_eq!(s3.object(OBJECT).unwrap(), good, "nothing was overwritten");
    s3.put(OBJECT, &good[..good.len() / 2]);
    fails(&[], "is damaged");
    assert_eq!(s3.object(OBJECT).unwrap(), &good[..good.len() / 2]);
    std::fs::remove_dir_all(s3.folder().join(BUCKET)).unwrap();
    fails(&[], "there is no such bucket");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_does_not_make_our_own_object_anothers() {
    for conditions in [Conditions::Honoured, Conditions::Ignored] {
        let (world, s3) =
            (World::without_service(Options::default()).await, S3Server::with(conditions).await);
        let process = start(&world, &s3, "data");
        // The write is carried out and nobody hears of it: the SDK's second attempt finds the first one's object.
        s3.fail_once("PUT", Fault::CutAnswer);
        assert_eq!(sign_in(&world, &process.client, ALICE).await.0, 200, "{conditions:?}");
        assert_eq!(process.client.delete("/sign_in").await.status, 200);
        // Not even the second attempt is answered.
        s3.fail("PUT", Fault::CutAnswer);
        assert_eq!(sign_in(&world, &process.client, ALICE).await.0, 503, "{conditions:?}");
        assert!(s3.object(OBJECT).is_some());
        s3.heal();
        eventually("it is known to be saved", || async { ready(&process.client).await == "ok" }).await;
        process.kill();

        // And the same with a new process between the write and the knowledge.
        let process = start(&world, &s3, "data");
        assert_eq!(process.client.delete("/sign_in").await.status, 200);
        s3.fail("PUT", Fault::CutAnswer);
        assert_eq!(sign_in(&world, &process.client, ALICE).await.0, 503);
        process.kill();
        s3.heal();
        let process = start(&world, &s3, "data");
        eventually("it is known to be saved", || async { ready(&process.client).await == "ok" }).await;
        assert_eq!(state(&process.client).await, "signed_in");
        drop(process);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_wrote_is_never_written_over() {
    for give_up in [true, false] {
        what_another_wrote_stays(give_up).await;
    }
}

async fn what_another_wrote_stays(give_up: bool) {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    world.carol().await;
    let theirs = start(&world, &s3, "theirs");
    assert_eq!(sign_in(&world, &theirs.client, CAROL).await.0, 401);
    let password = json!({ "phone": CAROL, "two_factor_password": PASSWORD });
    assert!(theirs.client.post("/sign_in", &password).await.is_empty(200));
    theirs.kill();
    let object = s3.object(OBJECT).unwrap();
    std::fs::remove_file(s3.folder().join(BUCKET).join(OBJECT)).unwrap();

    // Between our reading and our writing: only a conditional write sees it.
    let mut ours = start_elsewhere(&world, &s3, "ours").await;
    s3.another_is_quicker(&object);
    let (status, body) = sign_in(&world, &ours.client, ALICE).await;
    assert!(status == 503 && body.contains("SESSION_STORE_UNAVAILABLE"), "{status} {body}");
    assert_eq!(s3.object(OBJECT).unwrap(), object);
    let answer = ours.client.post("/sign_in", &json!({ "phone": ALICE })).await;
    assert!(answer.status == 503 && answer.body.contains("was changed by another process"), "{answer:?}");

    // Giving ours up leaves theirs, and goes on with it; so does a restart.
    if give_up {
        assert_eq!(ours.client.delete("/sign_in").await.json(), json!({ "ok": true }));
    } else {
        ours.kill();
        ours = start(&world, &s3, "ours");
    }
    assert!(ours.client.post("/sign_in", &json!({ "phone": CAROL })).await.is_empty(200));
    assert_eq!(ours.client.get("/sign_in").await.json()["account"]["name"], "Carol");
    eventually("and can save it", || async { ready(&ours.client).await == "ok" }).await;
    drop(ours);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tries_a_conditional_write_and_names_what_is_wrong_with_the_bucket() {
    let world = World::without_service(Options::default()).await;
    for (conditions, text) in [
        (Conditions::Honoured, "no session yet; the bucket can be written, with conditions"),
        (Conditions::Ignored, "does not honour conditional writes"),
        (Conditions::Rejected, "does not honour conditional writes"),
    ] {
        let s3 = S3Server::with(conditions).await;
        let doctor = |fault: Option<Fault>| {
            fault.map_or_else(|| s3.heal(), |fault| s3.fail("*", fault));
            let mut arguments = arguments(&world, &world.folder.path().join("none"));
            arguments[0] = "doctor".to_owned();
            Process::spawn(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &s3.environment())
                .ended()
        };
        let (status, output) = doctor(None);
        assert!(status == Some(0) && output.contains(text), "{output}");
        let left = std::fs::read_dir(s3.folder().join(BUCKET).join("a/prefix"));
        assert_eq!(left.map_or(0, Iterator::count), 0, "the probe is removed");
        let (status, output) = doctor(Some(Fault::Answer(403, "AccessDenied")));
        assert!(status == Some(1) && output.contains("s3:PutObject"), "{output}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_hangs_does_not_hold_up_the_end() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let mut process = start(&world, &s3, "data");
    assert_eq!(sign_in(&world, &process.client, ALICE).await.0, 200);
    s3.fail("*", Fault::Hang);
    process.terminate();
    let (status, log) = process.ended();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("not everything ended in time"), "it did not wait for the bucket: {log}");
    s3.heal();
    let process = start(&world, &s3, "data");
    assert_eq!(state(&process.client).await, "signed_in");
    drop(process);
    world.end().await;
}
