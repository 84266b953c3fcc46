//! The peer that a Node user would pick: the device flow of the npm package oidc-provider, which also shows a code, is
//! polled, and answers `authorization_pending`. As its documentation starts it: one process, its own store in memory (ours is
//! on disk).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::load::{CLIENTS, CREATED, CROWD, Connection, Expected, PENDING, Rate, Requests, THRONG, load};
use super::median;
use super::process::Process;
use super::service::Service;

const ROUNDS: usize = 5;
const LASTS: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(2);
/// Sessions of either, polled in turn. The peer's store forgets all but the newest thousand, so its are made anew each round.
const SESSIONS: usize = 500;
const CLIENT: &str = "bench";
/// The peer's answers (RFC 8628, sections 3.5 and 3.2).
const UNDECIDED: Expected = Expected { status: 400, part: "authorization_pending" };
const BEGUN: Expected = Expected { status: 200, part: r#""device_code":"# };

pub(crate) async fn table() {
    let Some(folder) = installed() else {
        println!("Left out: `node` and `npm` are needed for it.");
        return;
    };
    let (peer, service) = (start(&folder), Service::start(&[]).await);
    let begin = form("/device/auth", &format!("client_id={CLIENT}"));
    let devices = Arc::new(Requests::same(begin.clone()));
    let polls = Requests::each(&service.sessions(SESSIONS).await, |token| service.app.poll(token));
    let (polls, creates) = (Arc::new(polls), Arc::new(Requests::same(service.app.create())));
    let mut rounds: Vec<[Rate; 6]> = Vec::new();
    for round in 0..=ROUNDS {
        let lasts = if round == 0 { WARM_UP } else { LASTS };
        let tokens = Arc::new(device_codes(&peer, &begin).await);
        let measured = [
            load(&peer, &tokens, UNDECIDED, CLIENTS, lasts).await,
            load(&service.process, &polls, PENDING, CLIENTS, lasts).await,
            load(&peer, &devices, BEGUN, CROWD, lasts).await,
            load(&service.process, &creates, CREATED, CROWD, lasts).await,
            load(&peer, &devices, BEGUN, THRONG, lasts).await,
            load(&service.process, &creates, CREATED, THRONG, lasts).await,
        ];
        if round > 0 {
            rounds.push(measured);
        }
    }
    println!("| | clients | per second | of the peer | processor time, µs | of the peer |");
    println!("|---|---|---|---|---|---|");
    let operations = [("poll", CLIENTS), ("create", CROWD), ("create", THRONG)];
    let rows = operations.iter().flat_map(|operation| {
        ["oidc-provider (in memory)", "ours (on disk)"].map(|whose| (*operation, whose))
    });
    for (row, ((operation, clients), whose)) in rows.enumerate() {
        let of = |figure: fn(&Rate, &Rate) -> f64| {
            median(rounds.iter().map(|round| figure(&round[row], &round[row / 2 * 2])).collect())
        };
        println!(
            "| {operation}, {whose} | {clients} | {:.0} | {:.1} | {:.1} | {:.3} |",
            of(|rate, _| rate.per_second),
            of(|rate, peer| rate.per_second / peer.per_second),
            of(|rate, _| rate.server_micros),
            of(|rate, peer| rate.server_micros / peer.server_micros),
        );
    }
    println!("\nNode is one process and answers on one thread; ours uses every core that it is given.");
}

/// Polls of codes that nobody will ever enter.
async fn device_codes(peer: &Process, request: &[u8]) -> Requests {
    let mut connection = Connection::open(peer.address()).await;
    let mut codes = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        let begun = connection.json(request).await;
        codes.push(begun["device_code"].as_str().unwrap().to_owned());
    }
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
    let poll =
        |code: &str| form("/token", &format!("client_id={CLIENT}&grant_type={grant}&device_code={code}"));
    assert_eq!(connection.ask(&poll(&codes[0])).await, 400);
    let answer = String::from_utf8_lossy(connection.body()).into_owned();
    assert!(answer.contains("authorization_pending"), "{answer}");
    Requests::each(&codes, poll)
}

fn form(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0\r\n\
         Accept: application/json\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The peer with its packages, under `target/tmp`; `None` without node.
fn installed() -> Option<PathBuf> {
    let there = |name| Command::new(name).arg("--version").output().is_ok_and(|asked| asked.status.success());
    if !there("node") || !there("npm") {
        return None;
    }
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/speed/peer");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["package.json", "package-lock.json", "server.mjs"] {
        std::fs::copy(from.join(file), folder.join(file)).unwrap();
    }
    let npm =
        Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).output().unwrap();
    assert!(npm.status.success(), "{}", String::from_utf8_lossy(&npm.stderr));
    Some(folder)
}

fn start(folder: &Path) -> Process {
    let mut command = Command::new("node");
    command.arg("server.mjs").current_dir(folder).env("NODE_ENV", "production");
    Process::start(command, |line| line.strip_prefix("peer ")?.parse().ok())
}
