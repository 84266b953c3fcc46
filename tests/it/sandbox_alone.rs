//! The sandbox as a program of its own (its own container), and a service that joins it over the network.

use serde_json::{Value, json};

use crate::support::{ALICE, Client, Process};

/// A base port whose next five ports are free just now.
fn free_base() -> u16 {
    let taken = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_err();
    let free = |base: &u16| (1..=5).all(|dc| !taken(base + dc));
    // Below the ports that the system hands out; each test process begins elsewhere.
    let skipped = usize::try_from(std::process::id() % 500).unwrap();
    (20_000..32_000).step_by(10).skip(skipped).find(free).unwrap()
}

/// The sandbox program; waits until it says where its control API is.
async fn sandbox(data: &std::path::Path, more: &[&str]) -> (Process, Client) {
    let arguments = ["sandbox", "--data-dir", data.to_str().unwrap(), "--sandbox-listen", "127.0.0.1:0"];
    let process = Process::spawn(&[&arguments[..], more].concat(), &[]);
    let place = || {
        process.log().split_once("http://").and_then(|(_, rest)| Some(rest.split_once("/docs")?.0.to_owned()))
    };
    crate::support::eventually("it says where it is", || async { place().is_some() }).await;
    let client = Client::new(place().unwrap());
    (process, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_joins_a_sandbox_elsewhere_and_outlives_its_restart() {
    let folder = tempfile::tempdir().unwrap();
    let base = free_base();
    let listen = format!("--sandbox-dc-listen=127.0.0.1:{base}");
    let more = [listen.as_str(), "--sandbox-advertise=127.0.0.1"];
    let (first, control) = sandbox(&folder.path().join("sandbox"), &more).await;
    let server = control.get("/api/server").await.json();
    let addresses: Vec<Value> =
        (1..=5).map(|dc| json!({ "id": dc, "address": format!("127.0.0.1:{}", base + dc) })).collect();
    assert_eq!(server["dcs"], json!(addresses));
    assert_eq!(control.get("/api/accounts").await.json(), json!([]), "alone it is empty at first");
    let person = json!({ "phone": ALICE, "first_name": "Alice" });
    assert_eq!(control.post("/api/accounts", &person).await.status, 200);

    let data = folder.path().join("data");
    let sessions = format!("--session-store=file:{}", folder.path().join("sessions").display());
    let joined = format!("--sandbox={}", control.url());
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sessions, &joined];
    let service = Process::start(&arguments, &[]);
    assert!(service.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(206));
    let code = control.get(&format!("/api/accounts/{ALICE}/code?wait=25")).await.json()["code"].clone();
    first.kill();

    // The same data centres, the same pending code.
    let (_second, _) = sandbox(&folder.path().join("sandbox"), &more).await;
    let answer = service.client.post("/sign_in", &json!({ "phone": ALICE, "password": code })).await;
    let answer = if answer.status == 503 {
        // Its connection died with the first sandbox, which it may have learnt only now.
        service.client.post("/sign_in", &json!({ "phone": ALICE, "password": code })).await
    } else {
        answer
    };
    assert!(answer.is_empty(200), "{answer:?}");
    assert_eq!(service.client.get("/sign_in").await.json()["account"]["name"], "Alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_not_opened_to_the_world_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for open in ["--sandbox-listen=0.0.0.0:0", "--sandbox-dc-listen=0.0.0.0:30000"] {
        let (status, log) = Process::spawn(&["sandbox", "--data-dir", data, open], &[]).ended();
        assert!(status == Some(1) && log.contains("--sandbox-public"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_centre_port_that_is_taken_stops_the_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let base = free_base();
    let _holder = std::net::TcpListener::bind(("127.0.0.1", base + 3)).unwrap();
    let arguments =
        ["sandbox", "--data-dir", folder.path().to_str().unwrap(), "--sandbox-listen=127.0.0.1:0"];
    let listen = format!("--sandbox-dc-listen=127.0.0.1:{base}");
    let (status, log) = Process::spawn(&[&arguments[..], &[&listen]].concat(), &[]).ended();
    assert!(status == Some(1) && log.contains(&format!("127.0.0.1:{}", base + 3)), "{log}");
}
