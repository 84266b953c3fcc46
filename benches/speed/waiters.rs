//! Clients that are held: polls with `wait` and streams. What each costs in memory, what all of them cost in processor time
//! while nothing happens, what is left when they are gone, and how they end when the service does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use telegram_connector::lifecycle::network_sleep;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::load::{Connection, get, post};
use super::service::{App, Service};

/// How many of each kind.
const WAITERS: usize = 10_000;
/// Gauges of the service.
const CONNECTIONS: &str = "connector_http_connections";
const HELD: &str = "connector_held";
/// How long each poll is held.
const WAIT: u64 = 25;
/// For what happens now and then, such as the tidying of metrics, to have happened.
const SETTLE: Duration = Duration::from_secs(6);
const MINUTE: Duration = Duration::from_secs(60);
/// How long connections that do nothing are looked at: before the first is ended for it, after a minute.
const IDLE: Duration = Duration::from_secs(45);

fn waiters() -> usize {
    std::env::var("WAITERS").map_or(WAITERS, |number| number.parse().unwrap())
}

/// What was seen of one kind.
struct Seen {
    name: &'static str,
    /// Kilobytes for each while they are held, and after they are gone.
    held: f64,
    left: f64,
    /// Processor time of the service over a minute.
    minute: Duration,
    /// From when all of them hung up until no place was taken.
    freed: Duration,
}

pub(crate) async fn table() {
    let limit = Rlimit { current: getrlimit(Resource::Nofile).maximum, ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    println!(
        "| {} of each | resident for each, KB | left of it afterwards, KB | processor time in a minute, ms | places free after, ms |",
        waiters()
    );
    println!("|---|---|---|---|---|");
    let nobody = Service::start(&[]).await;
    network_sleep(SETTLE).await;
    println!("| nobody | – | – | {} | – |", processor_time(&nobody, MINUTE).await.as_millis());
    drop(nobody);
    for kind in [Kind::Idle, Kind::Poll, Kind::Stream] {
        let Seen { name, held, left, minute, freed } = measure(kind).await;
        println!("| {name} | {:.1} | {:.1} | {} | {} |", held, left, minute.as_millis(), freed.as_millis());
    }
    println!();
    for kind in [Kind::Poll, Kind::Stream] {
        ending(kind).await;
    }
}

/// Who is held, and how.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A connection that has polled once and asks nothing more.
    Idle,
    /// Asks again as soon as it is answered.
    Poll,
    Stream,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle connections",
            Self::Poll => "held polls, asked again every 25 s",
            Self::Stream => "streams, a comment every 15 s",
        }
    }
}

async fn measure(kind: Kind) -> Seen {
    let service = Service::start(&[]).await;
    let tokens = service.create(waiters(), Attempt::of).await;
    network_sleep(SETTLE).await;
    let before = service.process.resident();
    let mut clients = hold(&service, kind, tokens).await;
    network_sleep(SETTLE).await;
    let held = service.process.resident();
    let minute = if kind == Kind::Idle {
        let time = processor_time(&service, IDLE).await;
        let mut asking = Connection::open(service.process.address()).await;
        assert_eq!(
            gauge(&mut asking, CONNECTIONS).await,
            Some(waiters() + 1),
            "one was ended: that costs, too"
        );
        time.mul_f64(MINUTE.div_duration_f64(IDLE))
    } else {
        processor_time(&service, MINUTE).await
    };
    let hung_up = Instant::now();
    clients.abort_all();
    while clients.join_next().await.is_some() {}
    let places = if kind == Kind::Idle { CONNECTIONS } else { HELD };
    // Who asks has a connection too.
    until(&service, places, usize::from(kind == Kind::Idle)).await;
    let freed = hung_up.elapsed();
    network_sleep(SETTLE).await;
    let kilobytes = |bytes: u64| f64::from(u32::try_from(bytes / 1024).unwrap());
    let each = |bytes| (kilobytes(bytes) - kilobytes(before)) / f64::from(u32::try_from(waiters()).unwrap());
    Seen { name: kind.name(), held: each(held), left: each(service.process.resident()), minute, freed }
}

/// Of those who are held when the service is told to stop, how many have an answer, and are so told to come back.
async fn ending(kind: Kind) {
    let service = Service::start(&[]).await;
    let tokens = service.create(waiters(), Attempt::of).await;
    let mut clients = hold(&service, kind, tokens).await;
    let took = service.process.terminate();
    let mut answered = 0;
    while let Some(ended) = clients.join_next().await {
        answered += usize::from(ended.unwrap());
    }
    println!(
        "SIGTERM with {} {}: {answered} ended with a whole answer, the process after {} ms",
        waiters(),
        if kind == Kind::Poll { "held polls" } else { "streams" },
        took.as_millis()
    );
}

async fn processor_time(service: &Service, over: Duration) -> Duration {
    let before = service.process.cpu();
    network_sleep(over).await;
    service.process.cpu().saturating_sub(before)
}

/// A client for each; returns once all of them are held.
async fn hold(service: &Service, kind: Kind, attempts: Vec<Attempt>) -> JoinSet<bool> {
    let (address, number) = (service.process.address(), attempts.len());
    let polled = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for attempt in attempts {
        let request = match kind {
            Kind::Idle => service.app.poll(&attempt.token),
            Kind::Poll => waiting(&service.app, &attempt.token),
            Kind::Stream => get(&attempt.events),
        };
        let polled = Arc::clone(&polled);
        clients.spawn(client(kind, address, request, polled));
    }
    match kind {
        Kind::Idle => {
            while polled.load(Ordering::Relaxed) < number {
                network_sleep(Duration::from_millis(10)).await;
            }
        }
        Kind::Poll | Kind::Stream => until(service, HELD, number).await,
    }
    clients
}

/// Whether it was answered to the end before the other side closed.
async fn client(kind: Kind, address: SocketAddr, request: Vec<u8>, polled: Arc<AtomicUsize>) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    loop {
        stream.write_all(&request).await.unwrap();
        answer.clear();
        loop {
            // A small buffer for as long as something comes: ten thousand of them wait here.
            if stream.readable().await.is_err() {
                return false;
            }
            let mut part = [0; 2048];
            match stream.try_read(&mut part) {
                Ok(0) => return kind == Kind::Stream && answer.ends_with(b"\r\n0\r\n\r\n"),
                Ok(read) => answer.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return false,
            }
            if kind != Kind::Stream && answer.ends_with(b"{\"status\":\"pending\"}") {
                break;
            }
        }
        if kind == Kind::Idle {
            polled.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        if answer.windows(17).any(|part| part.eq_ignore_ascii_case(b"connection: close")) {
            return true;
        }
    }
}

/// What a client needs to be held.
struct Attempt {
    token: String,
    /// Path of its stream.
    events: String,
}

impl Attempt {
    fn of(created: &Value) -> Self {
        let url = created["events_url"].as_str().unwrap();
        Self {
            token: created["session_token"].as_str().unwrap().to_owned(),
            events: url[url.find("/api/").unwrap()..].to_owned(),
        }
    }
}

fn waiting(app: &App, token: &str) -> Vec<u8> {
    let body = json!({ "project_id": app.id, "session_token": token, "wait": WAIT });
    post("/api/v1/verify/public", &body.to_string(), None)
}

/// Waits until a gauge of the service has this value.
async fn until(service: &Service, name: &str, value: usize) {
    let mut connection = Connection::open(service.process.address()).await;
    while gauge(&mut connection, name).await != Some(value) {
        network_sleep(Duration::from_millis(1)).await;
    }
}

/// What a gauge of the service says, once it is there.
async fn gauge(connection: &mut Connection, name: &str) -> Option<usize> {
    assert_eq!(connection.ask(&get("/metrics")).await, 200);
    let metrics = std::str::from_utf8(connection.body()).unwrap();
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}
