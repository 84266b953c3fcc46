//! What a person sees in a browser: the sign-in in Swagger UI, without internet, and what a hostile page cannot do.
//! `browser.mjs` drives a headless Chromium.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::equipment;
use crate::support::{Client, Process};

/// Screenshots stay here, for a person to look at.
const PICTURES: &str = env!("CARGO_TARGET_TMPDIR");

/// The real program with a sandbox of its own, in a temporary folder.
pub(crate) struct Demo {
    process: Process,
    _folder: tempfile::TempDir,
    service: String,
    control: Client,
}

impl Demo {
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let arguments = ["serve", "--sandbox", "--listen", "127.0.0.1:0"];
        let control = ["--sandbox-listen", "127.0.0.1:0"];
        let place = ["--data-dir", data.to_str().unwrap()];
        let process = Process::start(&[&arguments[..], &control, &place].concat(), environment);
        let log = process.log();
        let address = log
            .split_once("Sandbox control")
            .and_then(|(_, rest)| rest.split_once("http://")?.1.split_once("/docs"))
            .unwrap_or_else(|| panic!("it does not say where the sandbox is:\n{log}"))
            .0;
        Self {
            // As the README calls it.
            service: process.client.url().replace("127.0.0.1", "localhost"),
            control: Client::new(address.replace("127.0.0.1", "localhost")),
            process,
            _folder: folder,
        }
    }

    /// Does a task in the browser; no page may break or ask for anything from elsewhere.
    pub(crate) fn in_a_browser(&self, task: &str, token: Option<&str>) -> Value {
        equipment("/usr/bin/chromium");
        equipment("node_modules/playwright-core");
        let told = json!({ "service": self.service, "control": self.control.url(), "pictures": PICTURES, "token": token });
        let output = Command::new("node")
            .arg(equipment("browser.mjs"))
            .args([task, &told.to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("node is missing: run `.ci/setup`");
        let (seen, complaints) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{task}: {complaints}\nthe program said:\n{}", self.process.log());
        let seen: Value = serde_json::from_str(&seen).unwrap_or_else(|_| panic!("{task}: {seen}"));
        assert_eq!(seen["elsewhere"], json!([]), "the page needs the internet");
        assert_eq!(seen["broken"], json!([]), "scripts of the page broke");
        seen
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_in_swagger_ui_without_internet() {
    let demo = Demo::start(&[]);
    let seen = demo.in_a_browser("signIn", None);
    assert_eq!(seen["codeSent"], json!({ "status": "206", "body": "" }));
    assert_eq!(seen["signedIn"], json!({ "status": "200", "body": "" }));
    assert_eq!(seen["view"]["status"], "200");
    let view: Value = serde_json::from_str(seen["view"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(view["state"], "signed_in");
    assert_eq!(view["account"]["username"], "alice_sandbox");
    assert_eq!(demo.process.client.get("/sign_in").await.json()["state"], "signed_in");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_a_token_gets_in_through_the_authorize_button() {
    let demo = Demo::start(&[("CONNECTOR_ADMIN_TOKEN", "token-of-the-operator")]);
    let seen = demo.in_a_browser("authorise", Some("token-of-the-operator"));
    assert_eq!(seen["before"]["status"], "401");
    assert!(seen["before"]["body"].as_str().unwrap().contains("UNAUTHORIZED"));
    assert_eq!(seen["after"]["status"], "200");
    assert!(seen["after"]["body"].as_str().unwrap().contains("signed_out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_shows_its_control_api_in_the_browser() {
    let demo = Demo::start(&[]);
    let seen = demo.in_a_browser("sandboxDocs", None);
    assert!(seen["title"].as_str().unwrap().contains("Sandbox Telegram"), "{seen}");
    let paths: Vec<String> = seen["paths"]
        .as_array()
        .unwrap()
        .iter()
        // Swagger UI lets long paths break after a slash by a character of no width.
        .map(|path| path.as_str().unwrap().replace('\u{200b}', ""))
        .collect();
    for path in ["/api/accounts", "/api/bots", "/api/faults", "/api/clock", "/api/server", "/api/calls"] {
        assert!(paths.iter().any(|shown| shown == path), "{path}: {paths:?}");
    }
    assert_eq!(seen["people"]["status"], "200");
    let people: Value = serde_json::from_str(seen["people"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(people.as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_on_another_port_of_this_machine_cannot_sign_in_or_look() {
    let demo = Demo::start(&[]);
    let seen = demo.in_a_browser("attack", None);
    for stopped in ["plain", "form", "json", "read"] {
        assert_eq!(seen[stopped], "blocked", "no answer is for this page: {seen}");
    }
    // A browser sends what needs no preflight all the same: refusing it is the service's part.
    let metrics = demo.process.client.get("/metrics").await.body;
    let refused = |line: &&str| {
        let labels = [r#"method="POST""#, r#"route="/sign_in""#, r#"status="401""#];
        line.starts_with("connector_http_requests_total") && labels.iter().all(|label| line.contains(label))
    };
    let refused = metrics.lines().find(refused).unwrap_or_else(|| panic!("{metrics}"));
    assert!(refused.ends_with(" 2"), "the plain one and the form: {refused}");
    assert_eq!(demo.process.client.get("/sign_in").await.json()["state"], "signed_out");
    let calls = demo.control.get("/api/calls").await.json();
    assert!(calls.as_array().unwrap().iter().all(|call| call["method"] != "auth.sendCode"), "{calls}");
}
