//! What the HTTP server bears: heads, bodies, connections, readers. Who overdoes it is refused; everybody else is served
//! meanwhile. How often something may be asked is in `pace`.

use std::time::Duration;

use serde_json::{Value, json};
use telegram_connector::http::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Options, World, eventually};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3_600);
/// Soon, and long enough for what is done in time on a busy machine.
const SOON: Duration = Duration::from_secs(2);

/// How long a test waits for what must come; only one that has failed waits to the end.
const PATIENCE: Duration = Duration::from_secs(60);

async fn world(limits: Limits) -> World {
    World::with(Options { limits, ..Options::default() }).await
}

fn patient() -> Limits {
    Limits { head: NEVER, body: NEVER, stalled: NEVER, ..Limits::default() }
}

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.service.url().strip_prefix("http://").unwrap()).await.unwrap()
}

/// Everything that comes until the other side closes, or breaks off.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut part).await {
            bytes.extend_from_slice(&part[..read]);
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "it stays open");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first bytes that come.
async fn begins(stream: &mut TcpStream, with: &str) {
    let mut bytes = vec![0; with.len()];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut bytes)).await;
    read.expect("nothing comes").expect("it is closed");
    assert_eq!(String::from_utf8_lossy(&bytes), with);
}

/// What comes up to the end of a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await.expect("it is closed"));
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "the head does not end");
    String::from_utf8(bytes).unwrap()
}

async fn lives(world: &World) {
    assert_eq!(world.service.get("/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_and_a_connection_without_one_are_closed() {
    let world = world(Limits { head: SOON, ..patient() }).await;
    let mut slow = connect(&world).await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
    let mut silent = connect(&world).await;
    let mut idle = connect(&world).await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    begins(&mut idle, "HTTP/1.1 200 OK\r\n").await;
    for stream in [&mut slow, &mut silent, &mut idle] {
        rest(stream).await;
    }
    // Each byte in time does not help.
    let mut drip = connect(&world).await;
    let dripping = async {
        while drip.write_all(b"G").await.is_ok() {
            telegram_connector::lifecycle::network_sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, dripping).await.is_ok(), "it may go on for ever");
    lives(&world).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_giant_head_and_ten_thousand_headers_are_refused() {
    let world = world(patient()).await;
    let many: String = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect();
    for head in [
        format!("X-Giant: {}\r\n", "a".repeat(40_000)),
        format!("X-Giant: {}\r\n", "a".repeat(10_000_000)),
        many,
        (0..101).map(|n| format!("X-{n}: y\r\n")).collect(),
    ] {
        let mut stream = connect(&world).await;
        let whole = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{head}\r\n");
        // It may be refused before it is whole.
        drop(stream.write_all(whole.as_bytes()).await);
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut ordinary = connect(&world).await;
    let cookies: String = (0..60).map(|n| format!("X-{n}: {}\r\n", "y".repeat(200))).collect();
    let whole = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{cookies}\r\n");
    ordinary.write_all(whole.as_bytes()).await.unwrap();
    assert!(rest(&mut ordinary).await.starts_with("HTTP/1.1 200 OK"), "a browser with many cookies");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_answered_and_the_connection_closed() {
    let world = world(Limits { body: SOON, ..patient() }).await;
    let app = world.app(json!({})).await;
    let head = "Host: localhost\r\nContent-Type: application/json\r\n";
    for body in [
        format!("{head}Content-Length: 60000\r\n\r\n{{\"project_id\":"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"pro\r\n"),
    ] {
        for path in ["/api/v1/generate/public", "/sign_in", "/api/v1/dev/login"] {
            let mut stream = connect(&world).await;
            stream.write_all(format!("POST {path} HTTP/1.1\r\n{body}").as_bytes()).await.unwrap();
            let answer = rest(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
            assert!(answer.contains("\"code\":\"REQUEST_TIMEOUT\""), "{answer}");
        }
    }
    // A body that nobody wants is not waited for.
    let mut unwanted = connect(&world).await;
    unwanted
        .write_all(format!("GET /healthz HTTP/1.1\r\n{head}Content-Length: 60000\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert!(rest(&mut unwanted).await.starts_with("HTTP/1.1 200 OK"));
    let unknown = json!({ "project_id": app.id, "session_token": "x" });
    let known = app.call("/api/v1/verify/public", &unknown, &[]);
    assert_eq!(known.await.refusal(), (404, "SESSION_NOT_FOUND".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_is_cut_off() {
    let world = world(Limits { stalled: SOON, ..patient() }).await;
    let mut deaf = connect(&world).await;
    // More answers than any buffer on the way takes.
    let ask = "GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(64);
    let asking = async { while deaf.write_all(ask.as_bytes()).await.is_ok() {} };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "it may go on for ever");
    lives(&world).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_before_their_answers_are_answered_in_their_order() {
    let world = world(patient()).await;
    let mut stream = connect(&world).await;
    let paths = ["/healthz", "/nowhere", "/readyz"];
    let many: String =
        (0..600).map(|n| format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", paths[n % 3])).collect();
    let last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let (mut reading, mut writing) = stream.split();
    let (sent, answers) =
        tokio::join!(async { writing.write_all(format!("{many}{last}").as_bytes()).await }, async {
            let mut answers = String::new();
            reading.read_to_string(&mut answers).await.map(|_| answers)
        });
    sent.unwrap();
    let answers = answers.unwrap();
    let statuses: Vec<&str> = answers.matches("HTTP/1.1 ").map(|_| "").collect();
    assert_eq!(statuses.len(), 601);
    let found: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert!(found[..600].chunks(3).all(|three| three == ["200", "404", "200"]), "{found:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_its_side_once_it_has_asked_gets_its_answers() {
    let (world, app) = World::with_app(Options { limits: patient(), ..Options::default() }, json!({})).await;
    let body = json!({ "project_id": app.id }).to_string();
    let length = body.len();
    let request = format!(
        "POST /api/v1/generate/public HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    for requests in [1, 2, 3, 1, 2, 3] {
        let mut stream = connect(&world).await;
        stream.write_all(request.repeat(requests).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answers = rest(&mut stream).await;
        assert_eq!(answers.matches("\"session_token\":").count(), requests, "{answers}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_connections_and_who_leaves_makes_room() {
    let world = world(Limits { connections: 20, ..patient() }).await;
    let mut taken = Vec::new();
    for _ in 0..20 {
        let mut stream = connect(&world).await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        begins(&mut stream, "HTTP/1.1 200 OK\r\n").await;
        taken.push(stream);
    }
    let mut refused = connect(&world).await;
    let answer = rest(&mut refused).await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())) && head.contains("Retry-After: 5"));
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["code"], "UNAVAILABLE");
    drop(taken.pop());
    let served = || async {
        world.service.try_send("GET", "/healthz", &[], None).await.is_ok_and(|a| a.status == 200)
    };
    eventually("there is room again", served).await;
    assert_eq!(world.ops.get("/healthz").await.status, 200, "the ops listener has its own");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_to_a_stopping_service_is_answered_and_told_that_it_leaves() {
    let mut world = world(Limits { last_request: NEVER, ..patient() }).await;
    let address = world.service.url().strip_prefix("http://").unwrap().to_owned();
    let asking = async {
        let mut told = 0;
        // The first of them may have connected before.
        while told < 5 {
            let mut stream = TcpStream::connect(&address).await.expect("it is refused");
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            let head = head(&mut stream).await;
            if told > 0 || !head.starts_with("HTTP/1.1 200 OK\r\n") {
                assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
                assert!(head.contains("connection: close\r\n"), "{head}");
                assert!(rest(&mut stream).await.contains("\"store\":\"ok\""), "all is well, but for that");
                told += 1;
            }
        }
    };
    tokio::select! {
        biased;
        () = asking => {}
        // It ends without waiting for ever, and goes on answering.
        () = async { world.stop().await; std::future::pending().await } => {}
    }
    world.end().await;
}
