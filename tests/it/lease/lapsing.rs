//! Leases that end while their owner lives: because the bucket is out of reach, because somebody removes them, or because the
//! owner is stopped.

use std::time::Duration;

use serde_json::json;
use telegram_connector::lifecycle::network_sleep;

use super::standing_by::{DEVELOPER, project};
use super::{account, becomes, sign_in, start, start_under};
use crate::support::{ALICE, BOB, BUCKET, Options, Process, S3Server, World, eventually, signal};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_made_while_the_account_waits_ends_with_the_lease_too() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let door = s3.door().await;
    let through = [&DEVELOPER[..], &[("AWS_ENDPOINT_URL", door.address.as_str())]].concat();
    let first = start(&world, &s3, "first", &through);
    sign_in(&world, &first.client).await;
    becomes(&first.client, "ok").await;
    let app = project(&first.client).await;
    let asked = first.client.post("/api/v1/generate/public", &json!({ "project_id": app })).await.json();
    let opened = world.open(BOB, asked["deeplink"].as_str().unwrap()).await;
    world.answer_to(BOB, opened).await;
    let second = start(&world, &s3, "second", &[]);
    assert_eq!(account(&second.client).await, "standby");

    // Telegram cuts the connection and asks to wait for a minute; meanwhile there is something to tell.
    world.fault(json!({ "method": "users.getUsers", "error": "FLOOD_WAIT_60" })).await;
    world.fault(json!({ "disconnect": "now" })).await;
    becomes(&first.client, "reconnecting").await;
    let before = world.calls("messages.editMessage").await;
    let cancel = json!({ "project_id": app, "session_token": asked["session_token"] });
    let secret = super::standing_by::secret(&first.client, &app).await;
    let headers = [("authorization", secret.as_str()), ("content-type", "application/json")];
    let answer = first.client.send("POST", "/api/v1/cancel", &headers, Some(&cancel.to_string())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    eventually("it is told", || async { world.calls("messages.editMessage").await > before }).await;

    door.close();
    world.heal().await;
    becomes(&second.client, "ok").await;
    door.open();
    becomes(&first.client, "standby").await;
    becomes(&second.client, "ok").await;
    drop((first, second));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_somebody_removes_is_not_free_for_whoever_stands_by() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let first = start(&world, &s3, "first", &[]);
    sign_in(&world, &first.client).await;
    let second = start(&world, &s3, "second", &[]);
    assert_eq!(account(&second.client).await, "standby");
    let lease = || s3.object("prefix/account.lease");
    for _ in 0..5 {
        std::fs::remove_file(s3.folder().join(BUCKET).join("prefix/account.lease")).unwrap();
        eventually("it is made anew", || async { lease().is_some() }).await;
        let record: serde_json::Value = serde_json::from_slice(&lease().unwrap()).unwrap();
        assert_eq!(record["url"], first.client.url(), "by its owner");
        // Somebody looks at it, so that the next removal has been watched.
        network_sleep(Duration::from_millis(700)).await;
    }
    becomes(&first.client, "ok").await;
    assert_eq!(account(&second.client).await, "standby");
    drop((first, second));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_owns_again_what_another_has_owned_meanwhile_begins_with_what_that_one_left() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let door = s3.door().await;
    let first = start(&world, &s3, "first", &[("AWS_ENDPOINT_URL", &door.address)]);
    sign_in(&world, &first.client).await;
    let mut second = start(&world, &s3, "second", &[]);
    assert_eq!(account(&second.client).await, "standby");
    door.close();
    becomes(&second.client, "ok").await;
    // There somebody else signs in, and then it stops; all this the first one cannot see.
    assert_eq!(second.client.delete("/sign_in").await.status, 200);
    assert!(second.client.post("/sign_in", &json!({ "phone": BOB })).await.is_empty(206));
    let body = json!({ "phone": BOB, "password": world.code(BOB).await });
    assert!(second.client.post("/sign_in", &body).await.is_empty(200));
    second.terminate();
    assert_eq!(second.ended().0, Some(0));

    door.open();
    let name = || async { first.client.get("/sign_in").await.json()["account"]["name"] == "Bob" };
    eventually("it goes on with the other's session", name).await;
    becomes(&first.client, "ok").await;
    let saved = || async { first.client.get("/readyz").await.json()["session_store"] == "ok" };
    eventually("and can save it", saved).await;
    assert!(first.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(200));
    drop(first);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_stopped_for_longer_than_its_lease_lives_on_and_stands_by() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let mut first = start(&world, &s3, "first", &[]);
    sign_in(&world, &first.client).await;
    becomes(&first.client, "ok").await;
    let second = start(&world, &s3, "second", &[]);
    assert_eq!(account(&second.client).await, "standby");
    first.pause();
    becomes(&second.client, "ok").await;
    first.resume();
    becomes(&first.client, "standby").await;
    assert!(!first.has_ended());
    assert!(second.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(200));
    drop((first, second));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_waits_for_its_code_ends_no_process_that_cannot_reach_its_bucket() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let door = s3.door().await;
    let mut process = start(&world, &s3, "first", &[("AWS_ENDPOINT_URL", &door.address)]);
    // Its connection to the second data centre is made in the middle of a call, and then nobody uses it for a while.
    world.fault(json!({ "migrate": { "phone": ALICE, "dc": 4 } })).await;
    assert!(process.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(206));
    door.close();
    process.wait_for_line("the lease has ended before it could be renewed: the session is not used");
    network_sleep(Duration::from_secs(1)).await;
    assert!(!process.has_ended(), "{}", process.log());
    door.open();
    let body = json!({ "phone": ALICE, "password": world.code(ALICE).await });
    eventually("it goes on", || async { process.client.post("/sign_in", &body).await.status == 200 }).await;
    becomes(&process.client, "ok").await;
    drop(process);
    world.end().await;
}

/// Stops a process of the owner, `stopped`, while that connects.
async fn stop_while_it_connects(world: &World, s3: &S3Server, owner: &Process, stopped: u32) {
    sign_in(world, &owner.client).await;
    becomes(&owner.client, "ok").await;
    let second = start(world, s3, "second", &[]);
    assert_eq!(account(&second.client).await, "standby");
    // Telegram has its key and its first request, and nobody has told Telegram yet when to close the connection.
    world.fault(json!({ "method": "help.getConfig", "delay_ms": 600_000, "times": 1 })).await;
    world.fault(json!({ "disconnect": "now" })).await;
    world.faults_are_spent().await;
    signal("-STOP", stopped);
    becomes(&second.client, "ok").await;
    assert!(second.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_stopped_while_it_connects_does_not_outlast_its_lease() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let mut first = start(&world, &s3, "first", &[]);
    stop_while_it_connects(&world, &s3, &first, first.id()).await;
    assert!(first.has_ended(), "the system has ended it");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_program_of_a_container_does_not_outlast_its_lease_either() {
    const CONTAINER: [&str; 6] = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    let allowed = std::process::Command::new(CONTAINER[0]).args(&CONTAINER[1..]).arg("true").status();
    if !allowed.is_ok_and(|status| status.success()) {
        return;
    }
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let mut first = start_under(&CONTAINER, &world, &s3, "first", &[]);
    let service = child_of(child_of(first.id()));
    stop_while_it_connects(&world, &s3, &first, service).await;
    assert!(!runs(service));
    let (code, log) = first.ended();
    assert!(code == Some(128 + 9) && log.contains("the service was ended by a signal"), "{code:?}: {log}");

    // What ends a container by the book reaches the service.
    let mut first = start_under(&CONTAINER, &world, &s3, "first", &[]);
    let one = child_of(first.id());
    // Some tell every process of a container, and the first one tells the service again: that is no second signal.
    signal("-TERM", child_of(one));
    signal("-TERM", one);
    let (code, log) = first.ended();
    assert!(code == Some(0) && log.contains("stopping"), "{code:?}: {log}");
    world.end().await;
}

/// Whether a process is there that has not ended.
fn runs(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains("zombie"))
}

/// The only child of a process.
fn child_of(process: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    children.trim().parse().unwrap()
}
