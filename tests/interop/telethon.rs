//! An unmodified Telethon joins the sandbox with nothing but addresses and RSA key: full key exchange, sign-in, 2FA,
//! migration, updates, log-out, a saved session. `telethon_driver.py` is its hands.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::equipment;
use crate::support::{ALICE, BOB, CAROL, Client, Options, PASSWORD, Process, World, eventually};

/// A Python process with Telethon clients in it, each called a device.
pub(crate) struct Telethon {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Telethon {
    pub(crate) async fn joining(sandbox: &Client) -> Self {
        let server = sandbox.get("/api/server").await;
        assert_eq!(server.status, 200, "{server:?}");
        let mut child = Command::new(equipment(".venv/bin/python3"))
            .arg(equipment("telethon_driver.py"))
            .arg(server.body)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { commands: child.stdin.take(), answers: BufReader::new(child.stdout.take().unwrap()), child }
    }

    /// Carries a command out; what Telegram refuses is the name of Telethon's exception.
    pub(crate) fn try_to(&mut self, action: &str, device: &str, arguments: Value) -> Result<Value, String> {
        let mut command = arguments;
        command["do"] = action.into();
        command["device"] = device.into();
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{command}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("telethon_driver.py ended while it was to {action}: {line:?}"));
        if let Some(failed) = answer["failed"].as_str() {
            panic!("Telethon could not {action}: {failed}");
        }
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["ok"].clone()),
        }
    }

    /// Carries a command out that must succeed.
    pub(crate) fn does(&mut self, action: &str, device: &str, arguments: Value) -> Value {
        self.try_to(action, device, arguments).unwrap_or_else(|error| panic!("{action} on {device}: {error}"))
    }

    /// Carries a command out that Telegram must refuse.
    fn is_refused(&mut self, action: &str, device: &str, arguments: Value) -> String {
        self.try_to(action, device, arguments).expect_err("Telegram refuses this")
    }
}

impl Drop for Telethon {
    fn drop(&mut self) {
        // The end of its input is the end of the driver, unless it hangs in a test that has failed.
        drop(self.commands.take());
        if std::thread::panicking() {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}

async fn made(sandbox: &Client, path: &str, what: Value) -> Value {
    let answer = sandbox.post(path, &what).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_a_password_signs_in_and_is_followed_to_another_data_centre() {
    const PHONE: &str = "+15550100044";
    let world = World::without_service(Options::default()).await;
    let person = json!({ "phone": PHONE, "first_name": "Dora", "two_factor_password": "hunter2 ü", "dc": 4 });
    let person = made(&world.sandbox, "/api/accounts", person).await;
    let mut telethon = Telethon::joining(&world.sandbox).await;

    telethon.does("connect", "laptop", json!({ "dc": 2 }));
    assert_eq!(telethon.does("is_authorised", "laptop", json!({})), false);
    let sent = telethon.does("send_code", "laptop", json!({ "phone": PHONE }));
    assert_eq!(sent, json!({ "type": "SentCodeTypeSms", "length": 5 }));
    assert_eq!(telethon.does("data_centre", "laptop", json!({})), 4);

    let wrong = json!({ "phone": PHONE, "code": world.wrong_code(PHONE).await });
    assert_eq!(telethon.is_refused("sign_in", "laptop", wrong), "PhoneCodeInvalidError");
    let code = json!({ "phone": PHONE, "code": world.code(PHONE).await });
    assert_eq!(telethon.is_refused("sign_in", "laptop", code), "SessionPasswordNeededError");
    let wrong = json!({ "password": "hunter3 ü" });
    assert_eq!(telethon.is_refused("sign_in", "laptop", wrong), "PasswordHashInvalidError");
    assert_eq!(telethon.does("is_authorised", "laptop", json!({})), false);
    let dora = telethon.does("sign_in", "laptop", json!({ "password": "hunter2 ü" }));
    assert_eq!(dora, json!({ "id": person["id"], "phone": PHONE[1..], "first_name": "Dora", "bot": false }));
    assert_eq!(telethon.does("who", "laptop", json!({})), dora);
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_without_a_password_signs_in_with_the_code_alone_and_out_again() {
    let world = World::without_service(Options::default()).await;
    let mut telethon = Telethon::joining(&world.sandbox).await;
    for device in ["laptop", "tablet"] {
        telethon.does("connect", device, json!({}));
        telethon.does("send_code", device, json!({ "phone": BOB }));
        let code = json!({ "phone": BOB, "code": world.code(BOB).await });
        assert_eq!(telethon.does("sign_in", device, code)["first_name"], "Bob");
    }

    let kept = telethon.does("save", "laptop", json!({}));
    assert_eq!(telethon.does("log_out", "laptop", json!({})), true);
    telethon.does("connect", "thief", json!({ "session": kept }));
    assert_eq!(telethon.does("is_authorised", "thief", json!({})), false);
    assert_eq!(telethon.does("who", "tablet", json!({}))["phone"], BOB[1..], "the other device stays");
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_every_framing_join_side_by_side() {
    let world = World::without_service(Options::default()).await;
    let mut telethon = Telethon::joining(&world.sandbox).await;
    for framing in ["Full", "Abridged", "Intermediate"] {
        telethon.does("connect", framing, json!({ "framing": framing }));
        telethon.does("send_code", framing, json!({ "phone": BOB }));
        let code = json!({ "phone": BOB, "code": world.code(BOB).await });
        assert_eq!(telethon.does("sign_in", framing, code)["first_name"], "Bob", "{framing}");
    }
    for framing in ["Full", "Abridged", "Intermediate"] {
        assert_eq!(telethon.does("who", framing, json!({}))["phone"], BOB[1..], "{framing}");
    }
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_nobody_can_sign_in_with_are_refused_by_the_name_that_telethon_knows() {
    const NOBODY: &str = "+15550199999";
    let world = World::without_service(Options::default()).await;
    let mut telethon = Telethon::joining(&world.sandbox).await;
    telethon.does("connect", "laptop", json!({}));
    assert_eq!(
        telethon.is_refused("send_code", "laptop", json!({ "phone": "+12" })),
        "PhoneNumberInvalidError"
    );
    telethon.does("send_code", "laptop", json!({ "phone": NOBODY }));
    let code = json!({ "phone": NOBODY, "code": world.code(NOBODY).await });
    assert_eq!(telethon.is_refused("sign_in", "laptop", code), "PhoneNumberUnoccupiedError");
    world.fail("auth.sendCode", "FLOOD_WAIT_4000").await;
    assert_eq!(telethon.is_refused("send_code", "laptop", json!({ "phone": ALICE })), "FloodWaitError");
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_signs_in_with_its_token_and_is_followed_to_another_data_centre() {
    let world = World::without_service(Options::default()).await;
    let bot = json!({ "username": "greeting_bot", "name": "Greeter", "dc": 5 });
    let bot = made(&world.sandbox, "/api/bots", bot).await;
    let mut telethon = Telethon::joining(&world.sandbox).await;
    telethon.does("connect", "server", json!({ "dc": 2 }));
    let forged = json!({ "bot_token": format!("{}x", bot["token"].as_str().unwrap()) });
    let refusal = telethon.is_refused("sign_in", "server", forged);
    assert!(["AccessTokenInvalidError", "AccessTokenExpiredError"].contains(&refusal.as_str()), "{refusal}");
    telethon.does("sign_in", "server", json!({ "bot_token": bot["token"] }));
    let greeter = telethon.does("who", "server", json!({}));
    assert_eq!(greeter["id"], bot["id"]);
    assert_eq!(greeter["bot"], true);
    assert_eq!(telethon.does("data_centre", "server", json!({})), 5);
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_that_the_service_asks_for_arrives_in_telethon() {
    let world = World::with(Options::default()).await;
    world.carol().await;
    let mut telethon = Telethon::joining(&world.sandbox).await;
    telethon.does("connect", "phone", json!({}));
    telethon.does("send_code", "phone", json!({ "phone": CAROL }));
    let code = json!({ "phone": CAROL, "code": world.code(CAROL).await });
    assert_eq!(telethon.is_refused("sign_in", "phone", code), "SessionPasswordNeededError");
    telethon.does("sign_in", "phone", json!({ "password": PASSWORD }));

    world.request_code(CAROL).await;
    assert_eq!(world.view().await["code_delivery"]["type"], "app");
    let message = telethon.does("next_message", "phone", json!({}));
    assert_eq!(message["from"], 777_000);
    let text = message["text"].as_str().unwrap();
    let code = text
        .split(|letter: char| !letter.is_ascii_digit())
        .find(|digits| digits.len() == 5)
        .unwrap_or_else(|| panic!("no code in {text:?}"));
    let answer = world.sign_in(json!({ "phone": CAROL, "password": code })).await;
    assert_eq!(answer.refusal(), (401, "TWO_FACTOR_REQUIRED".into()));
    let answer = world.sign_in(json!({ "phone": CAROL, "two_factor_password": PASSWORD })).await;
    assert!(answer.is_empty(200), "{answer:?}");
    drop(telethon);
    world.end().await;
}

/// The real program, running only a sandbox.
async fn sandbox_process(folder: &Path) -> (Process, Client) {
    let arguments = ["sandbox", "--sandbox-listen", "127.0.0.1:0", "--data-dir"];
    let process = Process::spawn(&[&arguments[..], &[folder.to_str().unwrap()]].concat(), &[]);
    let address = || {
        let log = process.log();
        let (_, rest) = log.split_once("Sandbox Telegram: http://")?;
        rest.split_once("/docs").map(|(address, _)| address.to_owned())
    };
    eventually("the sandbox says where it is", || async { address().is_some() }).await;
    let control = Client::new(address().unwrap());
    (process, control)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_session_comes_back_without_a_code_after_the_sandbox_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (first, control) = sandbox_process(folder.path()).await;
    let alice = json!({ "phone": ALICE, "first_name": "Alice", "dc": 1 });
    made(&control, "/api/accounts", alice).await;
    let mut telethon = Telethon::joining(&control).await;
    telethon.does("connect", "laptop", json!({}));
    telethon.does("send_code", "laptop", json!({ "phone": ALICE }));
    let code = control.get(&format!("/api/accounts/{ALICE}/code?wait=5")).await;
    let code = json!({ "phone": ALICE, "code": code.json()["code"] });
    telethon.does("sign_in", "laptop", code);
    let kept = telethon.does("save", "laptop", json!({}));
    drop(telethon);
    first.kill();

    let (_second, control) = sandbox_process(folder.path()).await;
    let mut telethon = Telethon::joining(&control).await;
    telethon.does("connect", "laptop", json!({ "session": kept }));
    assert_eq!(telethon.does("who", "laptop", json!({}))["first_name"], "Alice");
    let calls = control.get("/api/calls").await.json();
    let calls = calls.as_array().unwrap();
    assert!(calls.iter().all(|call| call["unknown"] == false), "{calls:?}");
    assert!(calls.iter().all(|call| call["method"] != "auth.sendCode"), "no code was needed: {calls:?}");
}
