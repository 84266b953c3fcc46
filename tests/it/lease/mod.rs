//! One owner per Telegram session: two real processes on one bucket or folder, one of which stands by. The sandbox
//! destroys a key that two processes use, as Telegram does: then nobody is signed in any more, and every test here fails.

mod handing_over;
mod lapsing;
mod standing_by;
mod storm;

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{ALICE, BUCKET, Client, Process, S3Server, World, eventually};

/// What a service in the bucket is started with, joined to the world's sandbox.
fn arguments(world: &World, data: &Path) -> Vec<String> {
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let store = format!("s3://{BUCKET}/prefix");
    let data = data.to_str().unwrap();
    ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--session-store", &store, &sandbox]
        .map(str::to_owned)
        .to_vec()
}

/// A service on its own machine: a data directory of its own, and nothing in common with others but the bucket.
fn start(world: &World, s3: &S3Server, machine: &str, more: &[(&str, &str)]) -> Process {
    start_under(&[], world, s3, machine, more)
}

/// As [`start`], by a program that becomes it.
fn start_under(
    wrapper: &[&str],
    world: &World,
    s3: &S3Server,
    machine: &str,
    more: &[(&str, &str)],
) -> Process {
    let arguments = arguments(world, &world.folder.path().join(machine));
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let environment: Vec<_> = s3
        .environment()
        .into_iter()
        .filter(|(name, _)| more.iter().all(|(other, _)| other != name))
        .chain(more.iter().copied())
        .collect();
    Process::spawn_under(wrapper, &arguments, &environment).serving()
}

async fn sign_in(world: &World, client: &Client) {
    assert!(client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(206));
    let code = world.code(ALICE).await;
    let answer = client.post("/sign_in", &json!({ "phone": ALICE, "password": code })).await;
    assert!(answer.is_empty(200), "{answer:?}");
}

/// How a service sees the account: `ok`, `standby`, `signed_out`, …
async fn account(client: &Client) -> Value {
    let answer = client.get("/readyz").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["telegram"].clone()
}

async fn becomes(client: &Client, condition: &str) {
    eventually(condition, || async {
        let now = account(client).await;
        assert_ne!(now, "signed_out", "Telegram has destroyed the key");
        now == condition
    })
    .await;
}
