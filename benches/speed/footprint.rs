//! What the process costs where it does nothing, and how long it takes to come and to go: resident memory with one account
//! signed in, after work, and with many sessions in the store; start after SIGTERM and after SIGKILL; drain under load. The
//! sandbox is a process of its own here, so that it is not counted.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use telegram_connector::lifecycle::network_sleep;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::load::{CLIENTS, Connection, PENDING, Requests, get, load, post};
use super::process::Process;
use super::requests::how_many;
use super::service::{App, Service, free_port, program, served};

const PHONE: &str = "+15550100009";
/// For what happens now and then to have happened.
const SETTLE: Duration = Duration::from_secs(10);
/// How many sessions are created for the rows after work.
const WORK: usize = 100_000;
const DEVELOPER: [(&str, &str); 2] =
    [("CONNECTOR_BOOTSTRAP_EMAIL", "demo@example.com"), ("CONNECTOR_BOOTSTRAP_PASSWORD", "demo-password")];

pub(crate) async fn table() {
    println!("| | resident, MB | ready after, ms |");
    println!("|---|---|---|");
    let telegram = Telegram::start();
    let plain = telegram.serve(&[]);
    telegram.sign_in(&plain).await;
    network_sleep(SETTLE).await;
    row("idle, one account signed in", &plain, None);
    drop(plain);

    let telegram = Telegram::start();
    let process = telegram.serve(&DEVELOPER);
    telegram.sign_in(&process).await;
    let app = App::new(&mut Connection::open(process.address()).await).await;
    network_sleep(SETTLE).await;
    row("and a developer, who has signed in and made a project", &process, None);
    let service = Service { process, sandbox: telegram.control, app, data: Arc::clone(&telegram.data) };
    drop(service.sessions(WORK.min(how_many())).await);
    network_sleep(SETTLE).await;
    row(&format!("and {} sessions created since", WORK.min(how_many())), &service.process, None);
    drop(service.sessions(how_many().saturating_sub(WORK)).await);
    network_sleep(SETTLE).await;
    row(&format!("and {} sessions", how_many()), &service.process, None);

    let Service { process, app, .. } = service;
    let ended = process.terminate();
    let (process, took) = telegram.serve_again().await;
    network_sleep(SETTLE).await;
    row(&format!("started with {} sessions, after SIGTERM", how_many()), &process, Some(took));
    // Killed, not told.
    drop(process);
    let (process, took) = telegram.serve_again().await;
    network_sleep(SETTLE).await;
    row("the same after SIGKILL", &process, Some(took));
    println!("\nSIGTERM with nothing to do: ended after {} ms", ended.as_millis());
    drain(process, &app).await;
}

fn row(name: &str, process: &Process, ready: Option<Duration>) {
    let resident = f64::from(u32::try_from(process.resident() / 1024).unwrap()) / 1024.0;
    let ready = ready.map_or_else(|| "–".to_owned(), |ready| ready.as_millis().to_string());
    println!("| {name} | {resident:.1} | {ready} |");
}

/// A sandbox in a process of its own, and the folder of a service that joins it.
struct Telegram {
    _process: Process,
    control: SocketAddr,
    data: Arc<TempDir>,
}

impl Telegram {
    fn start() -> Self {
        let data = Arc::new(tempfile::tempdir().unwrap());
        let control = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (listen, folder) = (control.to_string(), path(data.path(), "telegram"));
        let arguments = ["sandbox", "--sandbox-listen", &listen, "--data-dir", &folder];
        let process = Process::start(program(&arguments, &[]), |line| {
            line.starts_with("Sandbox Telegram: ").then_some(control)
        });
        Self { _process: process, control, data }
    }

    fn command(&self, settings: &[(&str, &str)]) -> Command {
        let sandbox = format!("--sandbox=http://{}", self.control);
        let (data, sessions) =
            (path(self.data.path(), "data"), format!("file:{}", path(self.data.path(), "sessions")));
        let all = [
            ("CONNECTOR_LISTEN", "127.0.0.1:0"),
            ("CONNECTOR_DATA_DIR", data.as_str()),
            ("CONNECTOR_SESSION_STORE", sessions.as_str()),
            ("CONNECTOR_POLLS_PER_SECOND", "1000000"),
        ];
        program(&["serve", &sandbox], &[&all[..], settings].concat())
    }

    fn serve(&self, settings: &[(&str, &str)]) -> Process {
        Process::start(self.command(settings), served)
    }

    /// Starts the service again; how long until it is alive and ready.
    async fn serve_again(&self) -> (Process, Duration) {
        let begun = Instant::now();
        let process = self.serve(&DEVELOPER);
        let mut connection = Connection::open(process.address()).await;
        for probe in ["/healthz", "/readyz"] {
            while connection.ask(&get(probe)).await != 200 {
                network_sleep(Duration::from_millis(1)).await;
            }
        }
        (process, begun.elapsed())
    }

    /// A person of the sandbox becomes the service's account.
    async fn sign_in(&self, service: &Process) {
        let mut phone = Connection::open(self.control).await;
        let person = json!({ "phone": PHONE, "first_name": "Operator", "username": "operator_sandbox" });
        phone.json(&post("/api/accounts", &person.to_string(), None)).await;
        let mut service = Connection::open(service.address()).await;
        let mut body = json!({ "phone": PHONE });
        assert_eq!(service.ask(&post("/sign_in", &body.to_string(), None)).await, 206);
        let code = phone.json(&get(&format!("/api/accounts/{PHONE}/code?wait=20"))).await;
        body["password"] = code["code"].clone();
        assert_eq!(service.ask(&post("/sign_in", &body.to_string(), None)).await, 200);
    }
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// SIGTERM while clients poll as fast as they can.
async fn drain(process: Process, app: &App) {
    let mut connection = Connection::open(process.address()).await;
    let created = connection.json(&app.create()).await;
    let poll = app.poll(created["session_token"].as_str().unwrap());
    let warm =
        load(&process, &Arc::new(Requests::same(poll.clone())), PENDING, CLIENTS, Duration::from_secs(1))
            .await;
    let address = process.address();
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::spawn(poll_until_told_to_stop(address, poll.clone()))).collect();
    network_sleep(Duration::from_secs(1)).await;
    let took = tokio::task::spawn_blocking(move || process.terminate()).await.unwrap();
    let (mut answered, mut cut) = (0, 0);
    for client in clients {
        let (answers, whole) = client.await.unwrap();
        answered += answers;
        cut += usize::from(!whole);
    }
    println!(
        "SIGTERM while {CLIENTS} clients poll ({:.0} polls a second): ended after {} ms; of {answered} polls sent \
         {cut} were not answered",
        warm.per_second,
        took.as_millis()
    );
}

/// Asks on one connection until an answer says that it is the last. How many were asked, and whether all were answered.
async fn poll_until_told_to_stop(address: SocketAddr, request: Vec<u8>) -> (usize, bool) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::with_capacity(2048);
    for asked in 1.. {
        if stream.write_all(&request).await.is_err() {
            return (asked, false);
        }
        answer.clear();
        while !answer.ends_with(b"{\"status\":\"pending\"}") {
            if !matches!(stream.read_buf(&mut answer).await, Ok(1..)) {
                return (asked, false);
            }
        }
        if answer.windows(17).any(|part| part.eq_ignore_ascii_case(b"connection: close")) {
            return (asked, true);
        }
    }
    unreachable!("it asks until the service ends")
}
