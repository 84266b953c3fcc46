//! The other side of a webhook: a real HTTP server on a free loopback port that keeps every request, byte by byte, and
//! answers as it is told. Written on bare sockets, because most of what it is told no HTTP library would do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use telegram_connector::lifecycle::{Tasks, network_sleep};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// How long [`Receiver::next`] waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// In order, names as they were written.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What an ordinary answer to it says; `None`: it gets none.
    pub(crate) status: Option<u16>,
}

impl Received {
    /// The first header of that name, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// An ordinary answer.
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8>, held: bool },
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes, then nothing, and the connection stays open.
    Stall(Vec<u8>),
    /// The first bytes, then the second ones again and again for as long as somebody listens.
    Endless(Vec<u8>, Vec<u8>),
    /// As `Endless`, one piece every few milliseconds.
    Drip(Vec<u8>, Vec<u8>),
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new(), held: false }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(302).header("Location", to)
    }

    /// Closes the connection instead of answering.
    pub(crate) fn hang_up() -> Self {
        Self::Raw(Vec::new())
    }

    /// Never answers.
    pub(crate) fn silence() -> Self {
        Self::Stall(Vec::new())
    }

    /// Of an ordinary answer only.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Of an ordinary answer only.
    pub(crate) fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        if let Self::Answer { body, .. } = &mut self {
            bytes.as_ref().clone_into(body);
        }
        self
    }

    /// The answer waits for [`Receiver::release`]. Of an ordinary answer only.
    pub(crate) fn held(mut self) -> Self {
        if let Self::Answer { held, .. } = &mut self {
            *held = true;
        }
        self
    }
}

struct Shared {
    requests: watch::Sender<Vec<Received>>,
    taken: AtomicUsize,
    connections: AtomicUsize,
    script: Mutex<(VecDeque<Reply>, Reply)>,
    released: Semaphore,
}

/// A running server. Answers 200 with an empty body until it is told otherwise.
pub(crate) struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    /// Its self-signed certificate (DER) for `localhost`, `hook.example` and 127.0.0.1; empty without TLS.
    pub(crate) certificate: Vec<u8>,
    shared: Arc<Shared>,
    tasks: Tasks,
}

impl Receiver {
    pub(crate) async fn new() -> Self {
        Self::at("127.0.0.1:0", None, Vec::new()).await
    }

    /// Another loopback address or port.
    pub(crate) async fn listening(address: &str) -> Self {
        Self::at(address, None, Vec::new()).await
    }

    /// One that speaks `https`.
    pub(crate) async fn tls() -> Self {
        let names = ["localhost", "hook.example", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::at("127.0.0.1:0", Some(acceptor), made.cert.der().to_vec()).await
    }

    async fn at(address: &str, tls: Option<TlsAcceptor>, certificate: Vec<u8>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: watch::Sender::new(Vec::new()),
            taken: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            script: Mutex::new((VecDeque::new(), Reply::status(200))),
            released: Semaphore::new(0),
        });
        let tasks = Tasks::new();
        let scheme = if tls.is_some() { "https" } else { "http" };
        tasks.spawn("receiver", accept(listener, tls, Arc::clone(&shared), tasks.clone()));
        Self { address, scheme, certificate, shared, tasks }
    }

    /// Where it listens, as in `http://127.0.0.1:40001/hook`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers like this from now on.
    pub(crate) fn answer_with(&self, reply: Reply) {
        self.shared.script.lock().unwrap().1 = reply;
    }

    /// Answers the next request like this, and the one after that as the next call says, and so on; when these are used
    /// up, as [`Receiver::answer_with`] said.
    pub(crate) fn answer_next(&self, reply: Reply) {
        self.shared.script.lock().unwrap().0.push_back(reply);
    }

    /// Lets so many held answers go, now or when there are any.
    pub(crate) fn release(&self, answers: usize) {
        self.shared.released.add_permits(answers);
    }

    /// Every request so far, in the order in which they were complete.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.shared.requests.borrow().clone()
    }

    /// All requests, and those that come.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Vec<Received>> {
        self.shared.requests.subscribe()
    }

    /// How many connections were made to it, with or without a request.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The first request that was not returned yet, waiting for it. It may not be answered yet.
    pub(crate) async fn next(&self) -> Received {
        let index = self.shared.taken.fetch_add(1, Ordering::SeqCst);
        let mut requests = self.shared.requests.subscribe();
        let came = tokio::time::timeout(PATIENCE, requests.wait_for(|requests| requests.len() > index)).await;
        came.expect("no request came").expect("the receiver is gone")[index].clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>, tasks: Tasks) {
    let stopping = tasks.stopping();
    loop {
        let accepted =
            tokio::select! { accepted = listener.accept() => accepted, () = stopping.cancelled() => return };
        let Ok((socket, _)) = accepted else { return };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (shared, tls, stopping) = (Arc::clone(&shared), tls.clone(), tasks.stopping());
        tasks.spawn("receiver connection", async move {
            let serving = async {
                match tls {
                    None => serve(socket, &shared).await,
                    Some(tls) => serve(tls.accept(socket).await.ok()?, &shared).await,
                }
            };
            tokio::select! { _ = serving => {}, () = stopping.cancelled() => {} }
        });
    }
}

/// One request and its answer; `None` when the other side has gone.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin + Send, shared: &Shared) -> Option<()> {
    let mut request = receive(&mut stream).await?;
    let reply = {
        let (queue, otherwise) = &mut *shared.script.lock().unwrap();
        queue.pop_front().unwrap_or_else(|| otherwise.clone())
    };
    if let Reply::Answer { status, .. } = &reply {
        request.status = Some(*status);
    }
    shared.requests.send_modify(|requests| requests.push(request));
    match reply {
        Reply::Answer { status, headers, body, held } => {
            if held {
                shared.released.acquire().await.ok()?.forget();
            }
            let mut answer = format!("HTTP/1.1 {status} Told\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                answer.push_str(&[&name, ": ", &value, "\r\n"].concat());
            }
            stream.write_all(&[answer.as_bytes(), b"\r\n", &body].concat()).await.ok()?;
        }
        Reply::Raw(bytes) => stream.write_all(&bytes).await.ok()?,
        Reply::Stall(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            stream.flush().await.ok()?;
            std::future::pending::<()>().await;
        }
        Reply::Endless(first, again) => {
            stream.write_all(&first).await.ok()?;
            loop {
                stream.write_all(&again).await.ok()?;
            }
        }
        Reply::Drip(first, again) => {
            stream.write_all(&first).await.ok()?;
            loop {
                stream.write_all(&again).await.ok()?;
                stream.flush().await.ok()?;
                network_sleep(Duration::from_millis(20)).await;
            }
        }
    }
    stream.shutdown().await.ok()
}

/// A whole request, its body as long as its `Content-Length` says.
async fn receive(stream: &mut (impl AsyncRead + Unpin + Send)) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("the head is text");
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header has a name and a value");
        (name.to_owned(), value.to_owned())
    };
    let mut request =
        Received { method, path, headers: lines.map(pair).collect(), body: Vec::new(), status: None };
    let length = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    request.body = body;
    Some(request)
}
