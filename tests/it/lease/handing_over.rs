//! How a session finds its next owner: at once where the last one says goodbye or comes back, after the lease where it
//! does not.

use serde_json::json;

use super::{account, becomes, sign_in, start};
use crate::support::{
    ALICE, BUCKET, Conditions, Fault, MASTER_KEY, Options, Process, S3Server, World, eventually, run,
};

/// So long that nobody waits for it in a test.
const LONG: (&str, &str) = ("CONNECTOR_LEASE_SECONDS", "3600");

/// How often a process has tried to own the account's session, and found another's.
async fn looks(process: &Process) -> u64 {
    let metrics = process.client.get("/metrics").await.body;
    let counted = |line: &&str| {
        line.starts_with("connector_lease_attempts_total")
            && line.contains("account.session")
            && line.contains("standby")
    };
    metrics.lines().find(counted).map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn lease(s3: &S3Server) -> serde_json::Value {
    serde_json::from_slice(&s3.object("prefix/account.lease").unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_stops_hands_over_at_once() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let mut first = start(&world, &s3, "first", &[LONG]);
    sign_in(&world, &first.client).await;
    let record = lease(&s3);
    assert_eq!((&record["epoch"], &record["url"]), (&json!(1), &json!(first.client.url())));
    assert!(record["ends_at_ms"].as_i64().unwrap() > world.clock_millis());
    let second = start(&world, &s3, "second", &[LONG]);
    assert_eq!(account(&second.client).await, "standby");
    first.terminate();
    assert_eq!(first.ended().0, Some(0));
    becomes(&second.client, "ok").await;
    assert_eq!((&lease(&s3)["epoch"], &lease(&s3)["url"]), (&json!(2), &json!(second.client.url())));
    assert!(second.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(200));
    assert_eq!(world.calls("auth.sendCode").await, 1);
    drop(second);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_to_its_data_directory_owns_at_once_what_it_owned() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let mut process = start(&world, &s3, "data", &[LONG]);
    sign_in(&world, &process.client).await;
    let another = start(&world, &s3, "another", &[LONG]);
    for epoch in 2..5 {
        process.kill();
        process = start(&world, &s3, "data", &[LONG]);
        becomes(&process.client, "ok").await;
        assert_eq!(lease(&s3)["epoch"], epoch);
        assert_eq!(account(&another.client).await, "standby");
    }
    // An answer that got lost does not make our own lease another's.
    s3.fail_lease_once("PUT", Fault::CutAnswer);
    process.kill();
    process = start(&world, &s3, "data", &[LONG]);
    becomes(&process.client, "ok").await;
    drop((process, another));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_waits_until_the_lease_of_one_that_is_gone_has_ended() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let first = start(&world, &s3, "first", &[]);
    sign_in(&world, &first.client).await;
    let second = start(&world, &s3, "second", &[]);
    assert_eq!(account(&second.client).await, "standby");
    let renewed = lease(&s3)["renewal"].as_u64();
    eventually("the owner renews", || async { lease(&s3)["renewal"].as_u64() > renewed }).await;
    first.kill();
    becomes(&second.client, "ok").await;
    assert_eq!(lease(&s3)["epoch"], 2);
    assert_eq!(world.calls("auth.sendCode").await, 1);
    // Somebody removes the lease behind everybody's back.
    std::fs::remove_file(s3.folder().join(BUCKET).join("prefix/account.lease")).unwrap();
    eventually("it is made anew", || async { s3.object("prefix/account.lease").is_some() }).await;
    becomes(&second.client, "ok").await;
    drop(second);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_folder_the_lock_of_a_killed_owner_is_free_at_once() {
    let world = World::without_service(Options::default()).await;
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let store = format!("file:{}", world.folder.path().join("shared").display());
    let key = [("CONNECTOR_MASTER_KEY", MASTER_KEY), LONG];
    let start = |machine: &str| {
        let data = world.folder.path().join(machine);
        let data = data.to_str().unwrap();
        let arguments =
            ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--session-store", &store, &sandbox];
        Process::start(&arguments, &key)
    };
    let first = start("first");
    sign_in(&world, &first.client).await;
    let second = start("second");
    assert_eq!(account(&second.client).await, "standby");
    let refused = second.client.post("/sign_in", &json!({ "phone": ALICE })).await;
    assert_eq!(refused.refusal(), (503, "NOT_OWNER".into()));
    assert!(refused.body.contains(first.client.url()), "{refused:?}");
    // A lock does not end while its process lives, however long that does nothing.
    first.pause();
    let before = looks(&second).await;
    eventually("it has looked again", || async { looks(&second).await >= before + 2 }).await;
    assert_eq!(account(&second.client).await, "standby");
    first.kill();
    becomes(&second.client, "ok").await;
    assert_eq!(world.calls("auth.sendCode").await, 1);
    drop(second);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_conditional_writes_nobody_starts_unless_that_is_wanted() {
    let world = World::without_service(Options::default()).await;
    for conditions in [Conditions::Ignored, Conditions::Rejected] {
        let s3 = S3Server::with(conditions).await;
        let arguments = super::arguments(&world, &world.folder.path().join("data"));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let environment: Vec<_> =
            s3.environment().into_iter().filter(|(name, _)| *name != "CONNECTOR_ALLOW_UNLEASED").collect();
        let (status, log) = Process::spawn(&arguments, &environment).ended();
        assert!(status == Some(1) && log.contains("CONNECTOR_ALLOW_UNLEASED"), "{log}");
        let doctor = [&["doctor"], &arguments[1..]].concat();
        let (status, said) = Process::spawn(&doctor, &environment).ended();
        assert!(status == Some(1) && said.contains("CONNECTOR_ALLOW_UNLEASED"), "{said}");

        // Then nothing but looking keeps two apart.
        let first = start(&world, &s3, "first", &[]);
        let second = start(&world, &s3, "second", &[]);
        assert_eq!(second.client.get("/sign_in").await.json()["state"], "standby");
        first.kill();
        let owns = || async { second.client.get("/sign_in").await.json()["state"] == "signed_out" };
        eventually("the second one owns", owns).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_moved_away_from_under_its_owner() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let owner = start(&world, &s3, "owner", &[]);
    sign_in(&world, &owner.client).await;
    // From another machine, whose own store nobody has open.
    let (store, sandbox) = (format!("s3://{BUCKET}/prefix"), format!("--sandbox={}", world.sandbox.url()));
    let data = world.folder.path().join("desk");
    let session = |command: &[&str], input: &str| {
        let place = ["--data-dir", data.to_str().unwrap(), "--session-store", &store, &sandbox];
        run(&[&["session"], command, &place].concat(), &s3.environment(), input)
    };
    let (status, _, error) = session(&["export"], "");
    assert!(status == Some(1) && error.contains("--force") && error.contains(owner.client.url()), "{error}");
    let (status, text, _) = session(&["export", "--force"], "");
    assert_eq!(status, Some(0));
    let (status, _, error) = session(&["import", "--replace"], &text);
    assert!(status == Some(1) && error.contains("another process owns the session"), "{error}");
    becomes(&owner.client, "ok").await;

    // Once it is gone, they wait for as long as its lease lasts.
    owner.kill();
    let (status, exported, error) = session(&["export"], "");
    assert!(status == Some(0) && exported == text, "{error}");
    let (status, _, error) = session(&["import", "--replace"], &text);
    assert_eq!(status, Some(0), "{error}");
    let heir = start(&world, &s3, "heir", &[]);
    becomes(&heir.client, "ok").await;
    drop(heir);
    world.end().await;
}
