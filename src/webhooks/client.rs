//! The outgoing HTTP client of webhooks. It connects to what others have named, so it trusts no name, no address and no
//! answer: the addresses that a name resolved to are checked, and exactly those are connected to, once per delivery.
//! There is no second look-up that rebinding could use, no redirect, no proxy from the environment, no cookie, no
//! connection kept open, no decompression. What to send, and when again, is decided elsewhere.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Host;
use url::Position;
use url::Url;

use super::resolver::Names;
use super::resolver::SystemNames;
use super::retry_after::retry_after;
use super::trust::Trust;
use crate::domain::webhook_target;
use crate::domain::webhook_target::BadTarget;

/// For everything: look-up, connection, TLS, request, answer and its body (contract, section 3).
const LIMIT: Duration = Duration::from_secs(10);
/// How long one of several addresses may take to accept a connection.
const ONE_ADDRESS: Duration = Duration::from_secs(3);
/// How many addresses of a name are tried.
const ADDRESSES: usize = 4;
/// How long the head of an answer may be, in bytes.
const HEAD: usize = 64 * 1024;
/// How much of an answer's body is read, in bytes.
const BODY: usize = 64 * 1024;
/// How much of it is kept, in bytes.
const KEPT: usize = 4 * 1024;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// Where to.
    pub url: &'a Url,
    /// Sent besides `Host`, `User-Agent`, `Content-Length` and `Connection`, in title case (`X-Bondify-Signature`):
    /// names have no case, but some receivers think they have.
    pub headers: &'a [(&'static str, String)],
    /// The bytes that were signed.
    pub body: &'a [u8],
}

/// What came back. The head of the answer counts: a body that is endless, stalls or breaks off is cut, and changes
/// nothing about what the status said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The HTTP status. A 3xx is an answer like the others.
    pub status: u16,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The first 4 KiB of the answer's body, as they came.
    pub body: Vec<u8>,
    /// Whether there was, or may have been, more of the body than is kept.
    pub cut: bool,
    /// From the look-up to the end of the body, in real time.
    pub took: Duration,
}

impl Exchange {
    /// The kept part of the body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why nothing came back. The texts are for the developer; none holds anything that was sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PostError {
    /// It must not go there.
    #[error(transparent)]
    Refused(#[from] BadTarget),
    /// The name has no address.
    #[error("the host name cannot be resolved: {0}")]
    Unresolved(String),
    /// The time was over.
    #[error("no answer in time, while {0}")]
    TimedOut(Stage),
    /// No trustworthy TLS connection.
    #[error("TLS: {0}")]
    Tls(String),
    /// The connection was refused, broke, or carried something that is not HTTP.
    #[error("connection: {0}")]
    Connection(String),
    /// What should be sent is not valid HTTP: a defect of ours.
    #[error("the request cannot be made: {0}")]
    Request(String),
}

/// Where the time was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The host name.
    LookingUp,
    /// TCP.
    Connecting,
    /// TLS.
    Securing,
    /// The request is out, or on its way; the head of the answer is not there.
    Waiting,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LookingUp => "looking up the host name",
            Self::Connecting => "connecting",
            Self::Securing => "setting up TLS",
            Self::Waiting => "waiting for the answer",
        })
    }
}

/// Sends webhooks.
#[derive(Debug)]
pub struct Client {
    allow: Vec<IpNet>,
    names: Arc<dyn Names>,
    trust: Trust,
    limit: Duration,
}

impl Client {
    /// A client that reaches public targets by `https`, and the networks of `allow` (`CONNECTOR_WEBHOOK_ALLOW`).
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow, names: Arc::new(SystemNames::default()), trust: Trust::default(), limit: LIMIT }
    }

    /// Asks somebody else for the addresses of names.
    #[must_use]
    pub fn with_names(self, names: Arc<dyn Names>) -> Self {
        Self { names, ..self }
    }

    /// Another limit than 10 s for the whole exchange.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Believes one more certificate authority (DER).
    #[must_use]
    pub fn trusting(mut self, authority: Vec<u8>) -> Self {
        self.trust.add(authority);
        self
    }

    /// Sends one request and takes the answer, all within the limit, which is real time.
    ///
    /// # Errors
    /// When there is no answer with a status, or nothing may be sent there.
    pub async fn post(&self, post: Post<'_>) -> Result<Exchange, PostError> {
        let begun = Instant::now();
        let deadline = begun + self.limit;
        let url = post.url;
        webhook_target::check(url, &self.allow)?;
        let request = request(&post)?;
        let addresses = in_time(deadline, Stage::LookingUp, self.addresses(url)).await?;
        let tcp = connect(url, &addresses, deadline).await?;
        let came = if url.scheme() == "https" {
            let tls = in_time(deadline, Stage::Securing, self.secure(url, tcp)).await?;
            exchange(tls, request, deadline).await?
        } else {
            exchange(tcp, request, deadline).await?
        };
        Ok(Exchange { took: begun.elapsed(), ..came })
    }

    /// The addresses to connect to, each of them permitted. One bad address spoils the name: an honest name has none.
    async fn addresses(&self, url: &Url) -> Result<Vec<IpAddr>, PostError> {
        let name = match url.host() {
            Some(Host::Domain(name)) => name,
            // Checked with the URL; checked again like the others, so that nothing is connected to unchecked.
            Some(Host::Ipv4(address)) => return self.permitted(url, vec![address.into()]),
            Some(Host::Ipv6(address)) => return self.permitted(url, vec![address.into()]),
            None => return Err(BadTarget::HostName.into()),
        };
        let found = self.names.addresses(name).await.map_err(PostError::Unresolved)?;
        if found.is_empty() {
            return Err(PostError::Unresolved("it has no address".to_owned()));
        }
        self.permitted(url, found)
    }

    fn permitted(&self, url: &Url, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, PostError> {
        for address in &addresses {
            let checked = webhook_target::check_address(url, *address, &self.allow);
            checked.inspect_err(|refused| {
                // The developer is not told the address; the operator may have to look into it.
                tracing::info!(%refused, %address, "a webhook leads where none may go");
            })?;
        }
        Ok(addresses)
    }

    async fn secure(
        &self,
        url: &Url,
        tcp: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, PostError> {
        let name = match url.host().ok_or(BadTarget::HostName)? {
            Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|_| BadTarget::HostName)?,
            Host::Ipv4(address) => ServerName::from(IpAddr::from(address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::from(address)),
        };
        let connector = self.trust.connector().await.map_err(PostError::Tls)?;
        connector.connect(name, tcp).await.map_err(|error| failure(&error))
    }
}

async fn in_time<T>(
    deadline: Instant,
    stage: Stage,
    step: impl Future<Output = Result<T, PostError>> + Send,
) -> Result<T, PostError> {
    tokio::time::timeout_at(deadline, step).await.map_err(|_| PostError::TimedOut(stage))?
}

fn request(post: &Post<'_>) -> Result<Request<Full<Bytes>>, PostError> {
    let url = post.url;
    let mut request = Request::post(&url[Position::BeforePath..Position::AfterQuery])
        .header(header::HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(header::USER_AGENT, concat!("telegram-connector/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close");
    for (name, value) in post.headers {
        request = request.header(*name, value);
    }
    let body = Full::new(Bytes::copy_from_slice(post.body));
    request.body(body).map_err(|error| PostError::Request(error.to_string()))
}

/// Connects to the first address that answers. The kinds take turns, so that a network whose IPv6 is broken costs one
/// try and not all of them.
async fn connect(url: &Url, addresses: &[IpAddr], deadline: Instant) -> Result<TcpStream, PostError> {
    let port = url.port_or_known_default().ok_or(BadTarget::Scheme)?;
    let first_kind = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (same, other): (Vec<&IpAddr>, Vec<&IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv4() == first_kind);
    let longest = same.len().max(other.len());
    // Collected, because whoever boxes this future cannot hold a lazy one across an await.
    let turns = (0..longest).flat_map(|n| [same.get(n), other.get(n)]).flatten();
    let turns: Vec<IpAddr> = turns.map(|address| **address).take(ADDRESSES).collect();
    let mut left = addresses.len().min(ADDRESSES);
    let mut failed = PostError::TimedOut(Stage::Connecting);
    for address in turns {
        left -= 1;
        let now = Instant::now();
        let patience = if left == 0 { deadline - now } else { ONE_ADDRESS.min((deadline - now) / 2) };
        // An IPv4 address in IPv6 notation was judged as the IPv4 address.
        let connecting = TcpStream::connect(SocketAddr::new(address.to_canonical(), port));
        failed = match tokio::time::timeout_at(now + patience, connecting).await {
            Ok(Ok(stream)) => {
                // Only speed: head and body may be two writes.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => failure(&error),
            Err(_) => PostError::TimedOut(Stage::Connecting),
        };
    }
    Err(failed)
}

/// The request and its answer, on a connection that ends with them. `took` is for the caller to fill in.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<Exchange, PostError> {
    let mut settings = hyper::client::conn::http1::Builder::new();
    settings.max_buf_size(HEAD).title_case_headers(true);
    let (mut sender, connection) =
        settings.handshake(TokioIo::new(stream)).await.map_err(|error| failure(&error))?;
    // Polled beside each step, not in a task: whoever drops this future closes the connection.
    let mut connection = pin!(connection.fuse());
    let sending = async { sender.send_request(request).await.map_err(|error| failure(&error)) };
    let response = in_time(deadline, Stage::Waiting, alongside(connection.as_mut(), sending)).await?;
    let (status, retry_after) = (response.status().as_u16(), asked_to_wait(&response));
    let mut body = Vec::new();
    let reading = alongside(connection.as_mut(), read(response.into_body(), &mut body));
    let whole = tokio::time::timeout_at(deadline, reading).await.unwrap_or(false);
    Ok(Exchange { status, retry_after, body, cut: !whole, took: Duration::ZERO })
}

/// Drives the connection until `step` is done.
async fn alongside<T: Send>(
    mut connection: std::pin::Pin<&mut (impl FusedFuture + Send)>,
    step: impl Future<Output = T> + Send,
) -> T {
    let mut step = pin!(step);
    if !connection.is_terminated() {
        tokio::select! {
            biased;
            done = &mut step => return done,
            _ = connection.as_mut() => {}
        }
    }
    // The connection has ended, and has told the step so.
    step.await
}

fn asked_to_wait(response: &Response<Incoming>) -> Option<Duration> {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    retry_after(text(header::RETRY_AFTER)?, text(header::DATE))
}

/// Reads a body to its end or to its limit; returns whether all of it was kept.
async fn read(mut body: Incoming, kept: &mut Vec<u8>) -> bool {
    let mut seen = 0_usize;
    while seen < BODY {
        match body.frame().await {
            None => return seen <= KEPT,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(&[][..], |data| data.as_ref());
                seen = seen.saturating_add(data.len());
                kept.extend(data.iter().take(KEPT.saturating_sub(kept.len())));
            }
        }
    }
    false
}

/// What broke, in words. TLS errors arrive wrapped in those of the layers above.
fn failure(error: &(dyn std::error::Error + 'static)) -> PostError {
    let mut text = error.to_string();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let wrapped = wrapped.map(|inner| inner as &(dyn std::error::Error + 'static));
        if let Some(tls) = wrapped.unwrap_or(error).downcast_ref::<rustls::Error>() {
            return PostError::Tls(tls.to_string());
        }
        cause = error.source();
        if let Some(source) = cause.map(ToString::to_string).filter(|source| !text.contains(source)) {
            text = format!("{text}: {source}");
        }
    }
    PostError::Connection(text)
}
