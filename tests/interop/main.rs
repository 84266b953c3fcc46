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
