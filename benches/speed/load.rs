//! Load over HTTP/1.1 that costs as little as it can: requests are written as they stand, of an answer only what is needed
//! is read. A client library would measure itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memchr::memmem;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::process::Process;

/// Clients at once.
pub(crate) const CLIENTS: usize = 64;
/// A durable create waits for the disk, so it takes more of them to keep the processors busy.
pub(crate) const CROWD: usize = 256;

/// A connection that asks one thing after another.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    body: std::ops::Range<usize>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::with_capacity(16 * 1024), body: 0..0 }
    }

    /// Sends a request; the status. The body is there until the next one.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.unwrap();
        self.read.clear();
        loop {
            let read = self.stream.read_buf(&mut self.read).await.unwrap();
            assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&self.read));
            if let Some((status, body)) = whole(&self.read) {
                self.body = body;
                return status;
            }
        }
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.read[self.body.clone()]
    }

    /// Sends a request that must succeed; the answer.
    pub(crate) async fn json(&mut self, request: &[u8]) -> Value {
        let status = self.ask(request).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&self.read));
        serde_json::from_slice(self.body()).unwrap()
    }
}

/// Status and place of the body, once all of it is there. Only what answers with a `Content-Length` is asked here.
fn whole(read: &[u8]) -> Option<(u16, std::ops::Range<usize>)> {
    const LENGTH: usize = "content-length: ".len();
    let head = memmem::find(read, b"\r\n\r\n")?;
    let (status, head_text) = (read.get(9..12)?, &read[..head]);
    // hyper and Node write names in lower case and in their own; nobody else is asked.
    let length =
        memmem::find(head_text, b"content-length: ").or_else(|| memmem::find(head_text, b"Content-Length: "));
    let length =
        length.map_or(0, |at| number(head_text[at + LENGTH..].split(|byte| *byte == b'\r').next().unwrap()));
    let (from, to) = (head + 4, head + 4 + length);
    (read.len() >= to).then(|| (u16::try_from(number(status)).unwrap(), from..to))
}

fn number(digits: &[u8]) -> usize {
    digits
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .fold(0, |all, digit| all * 10 + usize::from(digit - b'0'))
}

/// A POST with a JSON body, as a browser's `fetch` would send it, shortened.
pub(crate) fn post(path: &str, body: &str, authorization: Option<&str>) -> Vec<u8> {
    let authorization =
        authorization.map_or_else(String::new, |key| format!("Authorization: Bearer {key}\r\n"));
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0\r\n\
         Accept: application/json\r\nContent-Type: application/json\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// What a load came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    /// Answers per second.
    pub(crate) per_second: f64,
    /// Processor time of the server for one answer, microseconds.
    pub(crate) server_micros: f64,
}

/// What every answer of a load must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    /// In the body.
    pub(crate) part: &'static str,
}

/// A poll of what nobody has decided.
pub(crate) const PENDING: Expected = Expected { status: 200, part: r#""status":"pending""# };
/// A new session.
pub(crate) const CREATED: Expected = Expected { status: 200, part: r#""session_token":"sess_"# };

/// `connections` of them ask for as long as `lasts`: each the requests from its own place on, again from the beginning after
/// the last.
pub(crate) async fn load(
    server: &Process,
    requests: &Arc<Vec<Vec<u8>>>,
    expected: Expected,
    connections: usize,
    lasts: Duration,
) -> Rate {
    let answered = Arc::new(AtomicU64::new(0));
    let address = server.address();
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(address).await);
    }
    let (cpu, begun) = (server.cpu(), Instant::now());
    let asking: Vec<_> = open
        .into_iter()
        .enumerate()
        .map(|(index, mut connection)| {
            let (requests, answered) = (Arc::clone(requests), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut next = requests.len() / connections * index;
                while begun.elapsed() < lasts {
                    let status = connection.ask(&requests[next]).await;
                    let fits = memmem::find(connection.body(), expected.part.as_bytes()).is_some();
                    let body = || String::from_utf8_lossy(connection.body());
                    assert!(status == expected.status && fits, "{status}: {}", body());
                    answered.fetch_add(1, Ordering::Relaxed);
                    next = if next + 1 == requests.len() { 0 } else { next + 1 };
                }
            })
        })
        .collect();
    for connection in asking {
        connection.await.unwrap();
    }
    let (took, cpu) = (begun.elapsed(), server.cpu().saturating_sub(cpu));
    let answered = f64::from(u32::try_from(answered.load(Ordering::Relaxed)).unwrap());
    Rate { per_second: answered / took.as_secs_f64(), server_micros: cpu.as_secs_f64() * 1e6 / answered }
}
