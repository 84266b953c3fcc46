//! Connections: how many there may be, how long a head may take, how long a silent reader is borne. HTTP/1.1 only; what a
//! request means is the routes' business. Our own loop around hyper, because poem's server sets none of these limits.

mod activity;
mod patient;
mod places;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use poem::Request;
use poem::Response;
use poem::http::HeaderValue;
use poem::http::header::CONNECTION;
use poem::http::uri::Scheme;
use poem::web::LocalAddr;
use poem::web::RemoteAddr;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

use self::activity::Activity;
use self::activity::Connections;
use self::activity::End;
use self::activity::Opened;
use self::patient::Patient;
use self::places::Place;
use self::places::Places;
use super::request_id::RequestId;
use super::request_id::RequestIds;
use crate::domain::ids::Ids;
use crate::flows::auth::Held;
use crate::lifecycle::Tasks;
use crate::lifecycle::network_sleep;

/// How long requests under way may take after shutdown has begun.
const DRAIN: Duration = Duration::from_secs(3);
/// The most connections that the system is asked to keep for us to accept; Linux keeps no more than `somaxconn`, 4,096.
const QUEUE: u32 = 4096;
/// How long nothing is accepted after the system has refused a connection: it is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest head, bytes: a browser with many cookies has a tenth of it. hyper takes 100 lines of it.
const LONGEST_HEAD: usize = 32 * 1024;
/// What is read ahead of a connection at most, bytes.
const READ_AHEAD: usize = 64 * 1024;

/// What a client who has no place is told, as far as they read it.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\n\
    Retry-After: 5\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: 70\r\n\r\n\
    {\"error\":\"too many connections: try again later\",\"code\":\"UNAVAILABLE\"}";

/// What answers the requests of all connections.
pub(crate) trait Answers: Send + Sync + 'static {
    /// `id`: names the request. `held`: tells its connection when the answer is held.
    fn answer(&self, request: Request, id: RequestId, held: &Held) -> impl Future<Output = Response> + Send;
}

/// How much the HTTP server bears.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. A sixteenth of them is kept for this machine and for trusted proxies.
    pub connections: usize,
    /// Connections of one address (of IPv6: one /64); programs on this machine and trusted proxies may have more.
    pub connections_per_address: usize,
    /// How long a connection may go on without a whole request head, slow or idle; it is ended at most half of that later.
    /// A stream lives on what it sends, a comment every 15 s at least (`http::apps`): half of this must be longer than that.
    pub head: Duration,
    /// How long a request's body may take.
    pub body: Duration,
    /// How long a client may read nothing of what it is sent.
    pub stalled: Duration,
    /// How long a stopping service goes on accepting, and keeps connections without a request: what was sent before its
    /// sender could know is answered, and probes see that the service is leaving.
    pub last_request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 512,
            head: Duration::from_secs(60),
            body: Duration::from_secs(30),
            stalled: Duration::from_secs(30),
            last_request: Duration::from_millis(300),
        }
    }
}

impl Limits {
    /// The same, with no more connections than the system lets this process have files; it is asked for as many as it
    /// gives.
    #[must_use]
    pub fn within_open_files(self) -> Self {
        self.within(most_open_files())
    }

    fn within(self, files: Option<usize>) -> Self {
        // The rest is for the store, Telegram, S3 and webhooks.
        let connections = files.map_or(self.connections, |files| self.connections.min(files - files / 4));
        if connections < self.connections {
            tracing::info!(files, connections, "the limit of open files allows fewer connections");
        }
        // One address must not have half of few.
        let connections_per_address = self.connections_per_address.min((connections / 8).max(1));
        Self { connections, connections_per_address, ..self }
    }
}

/// Raises the limit of open files (`ulimit -n`) as far as the system permits it: many start a process with 1,024, because
/// of programs that use select(2). `None`: there is no limit.
fn most_open_files() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, ..limit };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
    getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok())
}

/// Listens at `address`. tokio would have the system keep 128 connections: who comes in a larger crowd tries again after a
/// second.
///
/// # Errors
/// When the address cannot be had.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What remains of the connections of a process before this one holds the address no longer. (On Windows it would let
    // two processes have it.)
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

/// Serves `routes` until soon after shutdown has begun. A connection ends by itself soon after that.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: impl Answers,
    limits: Limits,
    trusted: Arc<[IpNet]>,
    ids: Ids,
    tasks: Tasks,
) {
    let stopping = tasks.stopping();
    let routes = Arc::new(routes);
    let (places, connections) = (Places::new(limits, trusted), Connections::new(tasks.stopping_flag()));
    tasks.spawn("connections", connections.clone().watch(limits.head, stopping.clone()));
    let admit = |stream: TcpStream, peer: SocketAddr| match places.take(peer.ip()) {
        Some(place) => {
            let (ids, opened) = (RequestIds::new(&ids), connections.add());
            let connection = connection(stream, peer, Arc::clone(&routes), limits, ids, opened);
            tasks.spawn("connection", held(place, connection));
        }
        None => refuse(&stream),
    };
    // Who comes while the answers say that they are the last ones hears it, too.
    let over = async {
        stopping.cancelled().await;
        network_sleep(limits.last_request).await;
    };
    tokio::select! { () = accept(&listener, &admit) => {}, () = over => {} }
    take_over(listener, admit);
}

/// Admits whoever comes.
async fn accept(listener: &TcpListener, admit: impl Fn(TcpStream, SocketAddr)) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(stream, peer),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                network_sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Closes a listener. Who is in its queue has connected and may have asked, so everybody there is admitted.
fn take_over(listener: TcpListener, mut admit: impl FnMut(TcpStream, SocketAddr)) {
    // Not by tokio: there a look costs a share of what one task may do, and then nobody is there until later.
    let Ok(queue) = listener.into_std() else { return };
    for _ in 0..=QUEUE {
        let accepted = queue.accept().and_then(|(stream, peer)| {
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, peer))
        });
        match accepted {
            Ok((stream, peer)) => admit(stream, peer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // That was one; the next is another's.
            Err(error) => tracing::debug!(%error, "a connection in the queue cannot be accepted"),
        }
    }
}

async fn held(place: Place, connection: impl Future<Output = ()>) {
    connection.await;
    drop(place);
}

fn refuse(stream: &TcpStream) {
    metrics::counter!("connector_http_connections_refused_total").increment(1);
    // Nobody waits for who does not read.
    if let Err(error) = stream.try_write(NO_PLACE) {
        tracing::debug!(%error, "a refused connection is not told why");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Arc<impl Answers>,
    limits: Limits,
    ids: RequestIds,
    opened: Opened,
) {
    // Without it a small event of a stream waits for the acknowledgement of the one before it, which the other side holds
    // back for 40 ms (RFC 9293, section 3.7.4).
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays slow to send");
    }
    let local = stream.local_addr().map_or_else(|_| LocalAddr::default(), |local| LocalAddr(local.into()));
    let remote = RemoteAddr(peer.into());
    let stream = Patient::new(stream, limits.stalled, Arc::clone(&opened.0));
    let answering = Arc::clone(&opened.0);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (routes, local, remote) = (Arc::clone(&routes), local.clone(), remote.clone());
        let (id, answering) = (ids.next(), Activity::begin(&answering));
        async move {
            let request = Request::from((request, local, remote, Scheme::HTTP));
            let mut response = routes.answer(request, id, answering.held()).await;
            if answering.is_last() {
                // The next request is for the next process: this one may be gone when it comes.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            drop(answering);
            Ok::<hyper::Response<_>, io::Error>(response.into())
        }
    });
    let mut builder = http1::Builder::new();
    // That a client has gone is seen by `Patient`: hyper would keep a buffer for it, and look no further than what is read.
    builder.max_header_size(LONGEST_HEAD).max_buf_size(READ_AHEAD).half_close(true);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    tokio::select! {
        biased;
        _ = served.as_mut() => return,
        end = opened.0.end() => match end {
            End::Ceased => return,
            End::Stopping => {}
        }
    }
    tokio::select! {
        _ = served.as_mut() => return,
        () = network_sleep(limits.last_request) => {}
    }
    served.as_mut().graceful_shutdown();
    tokio::select! { _ = served => {}, () = network_sleep(DRAIN) => {} }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_few_connections_and_one_address_has_an_eighth_of_them() {
        let of = |files| {
            let Limits { connections, connections_per_address, .. } = Limits::default().within(files);
            (connections, connections_per_address)
        };
        assert_eq!(of(None), (16_384, 512));
        assert_eq!(of(Some(1_048_576)), (16_384, 512));
        assert_eq!(of(Some(1_024)), (768, 96));
        assert_eq!(of(Some(8)), (6, 1));
    }

    /// More than tokio would have the system keep, and more than one task of it may do in one go.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_crowd_connects_before_anybody_is_accepted_and_all_of_it_is_taken_over() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let crowd: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let mut taken = Vec::new();
        take_over(listener, |stream, peer| taken.push((stream, peer)));
        assert_eq!(taken.len(), crowd.len());
        std::net::TcpStream::connect(address).expect_err("nobody listens any more");
    }

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
        let files = most_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!((limit.current, files.map(|files| files as u64)), (limit.maximum, limit.maximum));
    }
}
