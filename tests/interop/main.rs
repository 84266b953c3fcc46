//! Do others understand us? An unmodified Telethon, JWT and Standard Webhooks libraries, schemathesis and a real browser,
//! which `.ci/setup` puts in place; and an empty root file system.
#![cfg(test)]

#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "made for tests/it; here only some of it is needed")]
mod support;

mod container;
mod custody;
mod pages;
mod person;
mod proof;
mod schemathesis;
mod swagger;
mod telethon;
mod verify_proof;
mod webhook;

/// The path of something that `.ci/setup` installs: a path of the machine, or one below `tests/interop`.
fn equipment(path: &str) -> std::path::PathBuf {
    let path = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop")).join(path);
    assert!(
        path.exists(),
        "{} is missing: run `.ci/setup`, which installs what the interop tests need",
        path.display()
    );
    path
}

/// What a driver in another language makes of tasks: JSON in, JSON out, in a process of its own.
fn carried_out(mut command: std::process::Command, tasks: &serde_json::Value) -> Vec<serde_json::Value> {
    use std::io::Write as _;
    use std::process::Stdio;
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{error}; run `.ci/setup`"));
    child.stdin.take().unwrap().write_all(tasks.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaints}");
    serde_json::from_slice(&output.stdout).unwrap()
}
