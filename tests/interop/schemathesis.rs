//! Does the service do what its OpenAPI document says? Schemathesis makes some 1,500 requests of it, kept to or broken on
//! purpose, and holds each answer against it: no 5xx, no status, header, body or code that is not there, nothing accepted
//! that it forbids, nothing refused that it permits, no key that need not be right. `schemathesis.toml` says how,
//! `schemathesis_hooks.py` what it meets. The same requests each time; all of it on loopback.

use std::collections::BTreeMap;
use std::process::Command;

use crate::equipment;
use crate::support::Process;

/// What it said, for `.ci/run` to quote.
const REPORT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/schemathesis.txt");

#[test]
fn the_service_does_what_its_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let arguments = [
        "serve",
        "--sandbox",
        "--listen",
        "127.0.0.1:0",
        "--sandbox-listen",
        "127.0.0.1:0",
        // So that its log-ins can come from many addresses.
        "--trusted-proxies",
        "127.0.0.1/32",
        "--data-dir",
        data.to_str().unwrap(),
    ];
    let process = Process::start(&arguments, &[]);
    let log = process.log();
    let control = log.split_once("Sandbox control").unwrap().1.split_once("http://").unwrap().1;
    let control = format!("http://{}", control.split_once("/docs").unwrap().0);
    let seen = folder.path().join("seen.json");
    let output = Command::new(equipment(".venv/bin/schemathesis"))
        .args(["--no-color", "--config-file"])
        .arg(equipment("schemathesis.toml"))
        .arg("run")
        .arg(format!("{}/openapi.json", process.client.url()))
        // It keeps what it found in the folder it runs in, and another run would begin with that.
        .current_dir(folder.path())
        .env("PYTHONPATH", equipment("."))
        .env("SERVICE", process.client.url())
        .env("CONTROL", control)
        .env("SEEN", &seen)
        .env("NO_PROXY", "*")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("schemathesis does not start: run `.ci/setup`");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    std::fs::write(REPORT, &said).unwrap();
    assert!(output.status.success(), "{said}\nthe service said:\n{}", process.log());
    // A run that tests nothing passes too.
    for sign in ["Coverage", "Fuzzing", "Stateful"] {
        assert!(said.contains(&format!("✅ {sign}")), "{sign} did not run:\n{said}");
    }
    let (_, cases) = said.split_once("Test cases:").unwrap();
    let cases: usize = cases.split_whitespace().next().unwrap().replace(',', "").parse().unwrap();
    assert!(cases > 1_000, "only {cases}");
    let seen: BTreeMap<String, Vec<u16>> = serde_json::from_slice(&std::fs::read(seen).unwrap()).unwrap();
    let document = include_str!("../../openapi/telegram-connector.json");
    assert_eq!(seen.len(), document.matches("\"operationId\"").count(), "{seen:?}");
    for (operation, statuses) in seen {
        assert!(
            statuses.iter().any(|status| (200..300).contains(status)),
            "{operation} only refused: {statuses:?}"
        );
    }
}
