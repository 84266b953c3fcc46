//! Load over HTTP/1.1 that costs as little as it can: requests are written as they stand, of an answer only what is needed
//! is read. A client library would measure itself.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memchr::memmem;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::process::Process;

/// Clients at once.
pub(crate) const CLIENTS: usize = 64;
/// A durable create waits for the disk, so it takes more of them to keep the processors busy, and where the disk now and then
/// takes milliseconds still more.
pub(crate) const CROWD: usize = 256;
pub(crate) const THRONG: usize = 512;

/// A connection that asks one thing after another.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    body: Range<usize>,
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
fn whole(read: &[u8]) -> Option<(u16, Range<usize>)> {
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

/// Requests that differ in one part, or not at all. Each is put together when it is sent: a million whole ones would be
/// memory that is in no cache, and the load would measure itself.
pub(crate) struct Requests {
    like: Vec<u8>,
    /// The parts, one behind the other, and where in the request they belong.
    parts: Vec<u8>,
    place: Range<usize>,
    /// How many each connection of the loads so far has sent: the next load goes on from there.
    sent: AtomicUsize,
}

impl Requests {
    /// Always the same.
    pub(crate) const fn same(request: Vec<u8>) -> Self {
        Self { like: request, parts: Vec::new(), place: 0..0, sent: AtomicUsize::new(0) }
    }

    /// One with each part; these are equally long.
    pub(crate) fn each(parts: &[String], request: impl Fn(&str) -> Vec<u8>) -> Self {
        let (first, like) = (&parts[0], request(&parts[0]));
        let at = memmem::find(&like, first.as_bytes()).unwrap();
        assert!(parts.iter().all(|part| part.len() == first.len()));
        Self {
            like,
            parts: parts.concat().into_bytes(),
            place: at..at + first.len(),
            sent: AtomicUsize::new(0),
        }
    }

    fn number(&self) -> usize {
        self.parts.len().checked_div(self.place.len()).unwrap_or(1)
    }

    /// Writes one of them over another.
    fn write(&self, index: usize, request: &mut [u8]) {
        let length = self.place.len();
        request[self.place.clone()].copy_from_slice(&self.parts[index * length..][..length]);
    }
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

/// `connections` of them ask for as long as `lasts`: each the requests from its own place on, which is where the last load left
/// off, again from the beginning after the last.
pub(crate) async fn load(
    server: &Process,
    requests: &Arc<Requests>,
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
    let sent = requests.sent.load(Ordering::Relaxed);
    let (cpu, begun) = (server.cpu(), Instant::now());
    let asking: Vec<_> = open
        .into_iter()
        .enumerate()
        .map(|(index, mut connection)| {
            let (requests, answered) = (Arc::clone(requests), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut request = requests.like.clone();
                let number = requests.number();
                let mut next = (number / connections * index + sent) % number;
                while begun.elapsed() < lasts {
                    requests.write(next, &mut request);
                    let status = connection.ask(&request).await;
                    let fits = memmem::find(connection.body(), expected.part.as_bytes()).is_some();
                    let body = || String::from_utf8_lossy(connection.body());
                    assert!(status == expected.status && fits, "{status}: {}", body());
                    answered.fetch_add(1, Ordering::Relaxed);
                    next = if next + 1 == number { 0 } else { next + 1 };
                }
            })
        })
        .collect();
    for connection in asking {
        connection.await.unwrap();
    }
    let (took, cpu) = (begun.elapsed(), server.cpu().saturating_sub(cpu));
    let answered = u32::try_from(answered.load(Ordering::Relaxed)).unwrap();
    requests.sent.fetch_add(usize::try_from(answered).unwrap() / connections, Ordering::Relaxed);
    let answered = f64::from(answered);
    Rate { per_second: answered / took.as_secs_f64(), server_micros: cpu.as_secs_f64() * 1e6 / answered }
}
