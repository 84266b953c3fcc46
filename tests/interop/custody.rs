//! The session in other hands: an S3 server that is not ours (moto), and a Telethon that gives and takes an account.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::equipment;
use crate::support::{ALICE, Client, Options, Process, World};

/// moto's S3 server, over HTTP on a free port.
struct Moto {
    child: Child,
    client: Client,
}

impl Moto {
    async fn start() -> Self {
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let child = Command::new(equipment(".venv/bin/python3"))
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { child, client: Client::new(format!("127.0.0.1:{port}")) };
        let answers = || async { moto.client.try_send("GET", "/moto-api/", &[], None).await.is_ok() };
        crate::support::eventually("moto answers", answers).await;
        moto
    }

    fn environment(&self) -> [(&str, &str); 7] {
        [
            ("AWS_ENDPOINT_URL", self.client.url()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("CONNECTOR_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
            ("CONNECTOR_SESSION_STORE", "s3://connector/telegram"),
            ("CONNECTOR_LEASE_SECONDS", "3"),
        ]
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_somebody_elses_s3_server_survives_the_machine_it_was_made_on() {
    let world = World::without_service(Options::default()).await;
    let moto = Moto::start().await;
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let data = |machine: &str| world.folder.path().join(machine).to_str().unwrap().to_owned();
    let run = |command: &str, machine: &str| {
        let (data, listen) = (data(machine), ["--listen", "127.0.0.1:0"]);
        let arguments = [&[command, "--data-dir", &data, &sandbox][..], &listen].concat();
        if command == "serve" {
            (Some(Process::start(&arguments, &moto.environment())), String::new())
        } else {
            (None, Process::spawn(&arguments, &moto.environment()).ended().1)
        }
    };

    // No bucket yet: doctor says so.
    let (_, findings) = run("doctor", "a");
    assert!(findings.contains("FAIL session store"), "{findings}");
    assert_eq!(moto.client.send("PUT", "/connector", &[], None).await.status, 200);
    let (_, findings) = run("doctor", "a");
    assert!(findings.contains("ok   session store"), "{findings}");

    let (first, _) = run("serve", "a");
    let first = first.unwrap();
    assert!(first.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(206));
    let code = world.code(ALICE).await;
    assert!(first.client.post("/sign_in", &json!({ "phone": ALICE, "password": code })).await.is_empty(200));
    let listing = moto.client.get("/connector?list-type=2").await.body;
    assert!(listing.contains("<Key>telegram/account.session</Key>"), "{listing}");
    first.kill();

    let (second, _) = run("serve", "b");
    let second = second.unwrap();
    // The lease of the machine that is gone has to end first.
    let owns = || async { second.client.get("/readyz").await.json()["telegram"] != "standby" };
    crate::support::eventually("it owns the session", owns).await;
    assert!(second.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(200));
    assert_eq!(world.calls("auth.sendCode").await, 1);
    drop(second);
    world.end().await;
}

#[test]
fn telethon_and_the_connector_hand_each_other_an_account_without_a_code() {
    let output = Command::new(equipment(".venv/bin/python3"))
        .arg(equipment("telethon_string_session.py"))
        .arg(env!("CARGO_BIN_EXE_telegram-connector"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
}
