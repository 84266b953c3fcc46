//! The rules of ARCHITECTURE.md, as tests: who may import whom, which library is named where, how long a file may be.

use std::collections::BTreeMap;
use std::path::Path;

/// Module, and the modules of ours that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("store", &["domain", "lifecycle"]),
    ("vault", &["audit", "domain", "lifecycle"]),
    ("telegram", &["audit", "domain", "vault", "lifecycle"]),
    ("webhooks", &["audit", "domain", "store", "lifecycle"]),
    ("flows", &["audit", "domain", "store", "telegram", "webhooks", "lifecycle"]),
    // Error types of the layers below become statuses in `http/error.rs` and nowhere else.
    ("http", &["audit", "domain", "flows", "lifecycle", "telemetry"]),
    ("sandbox", &["domain", "lifecycle"]),
    ("config", &["domain"]),
    ("master_key", &["domain"]),
    ("doctor", &["app", "domain", "master_key", "store", "telegram", "vault"]),
    ("audit", &["domain"]),
    ("lifecycle", &["domain"]),
    ("telemetry", &["domain"]),
    (
        "app",
        &[
            "audit",
            "config",
            "telemetry",
            "master_key",
            "domain",
            "flows",
            "http",
            "lifecycle",
            "store",
            "telegram",
            "vault",
            "webhooks",
        ],
    ),
];

/// Exceptions, file by file.
const ALSO: &[(&str, &str)] =
    &[("http/error.rs", "telegram"), ("http/error.rs", "store"), ("http/error/app.rs", "store")];

/// A library (as it is written in paths) and where it may be named.
const NAMED_ONLY_IN: &[(&str, &[&str])] = &[
    ("grammers_", &["telegram/", "sandbox/"]),
    ("poem", &["http/", "sandbox/console", "telemetry.rs"]),
    ("fjall", &["store/embedded/", "telemetry.rs"]),
    ("sled::", &["store/embedded/former.rs"]),
    ("rmp_serde", &["store/records.rs"]),
    ("ring::aead", &["domain/seal.rs"]),
    ("xxhash_rust", &["store/embedded/damage.rs"]),
    ("jsonwebtoken", &["domain/proof.rs"]),
    ("argon2", &["domain/developer.rs"]),
    ("hmac", &["domain/delivery/signature.rs", "domain/seal.rs", "sandbox/"]),
    ("qrcode", &["http/demo.rs"]),
    ("chacha20", &["domain/seal.rs"]),
    ("reqwest", &["main.rs", "telemetry.rs"]),
    // Whatever else goes out goes to Telegram or to S3.
    ("hyper", &["http/server.rs", "webhooks/client.rs", "telemetry.rs"]),
    ("tokio_rustls", &["webhooks/client.rs", "webhooks/trust.rs"]),
    ("rustls_native_certs", &["webhooks/trust.rs"]),
    ("to_socket_addrs", &["webhooks/resolver.rs"]),
    ("aws_", &["vault/", "telemetry.rs"]),
    ("toml::", &["config/projects.rs"]),
    ("std::env::", &["config.rs", "main.rs", "main/init.rs", "telegram/connection.rs"]),
    ("nix::", &["lifecycle/kill_timer.rs"]),
    // The allocator is the program's affair: what is linked with the library keeps its own.
    ("tikv_jemallocator", &["main.rs"]),
    ("global_allocator", &["main.rs"]),
    ("SystemTime::now", &["lifecycle.rs"]),
    ("getrandom", &["lifecycle.rs"]),
    // Both start programs or retry behind our back (mtproto.md section 5, traps 11 and 12).
    ("ConnectionParams::default", &[]),
    ("SenderPool::new", &[]),
    ("AutoSleep", &[]),
];

/// Lines of a file without its tests.
const LONGEST_FILE: usize = 400;
const MAY_BE_LONGER: &[(&str, usize)] = &[];

/// Every source file below `src` with its text, tests cut off.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                let is_test = name.contains("tests/") || name.ends_with("tests.rs");
                let text = std::fs::read_to_string(&path).unwrap();
                let marks = [
                    "#[cfg(test)]
mod tests {",
                    "#[cfg(test)]
pub(crate) mod tests {",
                ];
                let end = marks.iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
                let code = text[..end].to_owned();
                if !is_test {
                    found.push((name, code));
                }
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 20, "where are the sources?");
    found
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(n, line)| (n + 1, line))
}

#[test]
fn modules_import_only_what_they_may() {
    let rule: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut broken = Vec::new();
    for (file, text) in sources() {
        let module = file.split(['/', '.']).next().unwrap();
        let Some(allowed) = rule.get(module) else { continue };
        for (n, line) in code_lines(&text) {
            if line.contains("crate::{") {
                broken.push(format!("src/{file}:{n}: one `use crate::x` per line"));
            }
            for target in line.split("crate::").skip(1) {
                let name: String = target.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let exception = ALSO.contains(&(file.as_str(), name.as_str()));
                if !name.is_empty() && name != module && !allowed.contains(&name.as_str()) && !exception {
                    broken.push(format!("src/{file}:{n} imports {name}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn libraries_are_named_only_where_they_live() {
    let mut broken = Vec::new();
    for (file, text) in sources() {
        for (library, places) in NAMED_ONLY_IN {
            if places.iter().any(|place| file.starts_with(place)) {
                continue;
            }
            let uses = |line: &str| {
                line.match_indices(library).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"' || c == ':')
                        && !line[..at].contains('"')
                })
            };
            broken.extend(
                code_lines(&text)
                    .filter(|(_, line)| uses(line))
                    .map(|(n, _)| format!("src/{file}:{n} names {library}")),
            );
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// `Secret` and what is made of it compare in constant time; a text that was taken out of one does not.
#[test]
fn secrets_are_compared_in_constant_time() {
    let mut broken = Vec::new();
    for (file, text) in sources() {
        for (n, line) in code_lines(&text) {
            let compares = [" == ", " != ", ".eq(", "starts_with(", ".contains("];
            let revealed = line.replace(".reveal().is_empty()", "").replace(".reveal().chars().count()", "");
            let revealed = revealed.contains(".reveal()");
            // A prefix that everybody knows is no secret.
            if revealed && compares.iter().any(|one| line.contains(one)) {
                broken.push(format!("src/{file}:{n}: {}", line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_stay_short_and_say_what_they_are() {
    let longer: BTreeMap<_, _> = MAY_BE_LONGER.iter().copied().collect();
    let mut broken = Vec::new();
    for (file, text) in sources() {
        let (lines, limit) = (text.lines().count(), *longer.get(file.as_str()).unwrap_or(&LONGEST_FILE));
        if lines > limit {
            broken.push(format!("src/{file}: {lines} lines, {limit} allowed"));
        }
        if !text.starts_with("//!") {
            broken.push(format!("src/{file} does not say what lives there"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
