//! The service as it is shipped, with a sandbox Telegram in the same process, and an app in it.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::load::{Connection, get, post};
use super::process::Process;

/// A running service and an app of its demo developer.
pub(crate) struct Service {
    pub(crate) process: Process,
    /// The control API of its sandbox.
    pub(crate) sandbox: SocketAddr,
    pub(crate) app: App,
    #[expect(dead_code, reason = "the folder is removed when nobody holds it")]
    pub(crate) data: Arc<TempDir>,
}

/// An app, as it calls.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// The program, with nothing of our environment: settings are named by who measures.
pub(crate) fn program(arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_telegram-connector"));
    command.args(arguments).env_clear().env("CONNECTOR_LOG_FORMAT", "json").envs(settings.iter().copied());
    command
}

/// Where the service listens, if this line of its log tells that.
pub(crate) fn served(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "serving").then(|| line["address"].as_str().unwrap().parse().unwrap())
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Service {
    /// A service with a fresh store. The limit on polls counts but never bites: in a bench one token is asked for more
    /// often than any app would.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let data = Arc::new(tempfile::tempdir().unwrap());
        let sandbox = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (folder, control) = (data.path().to_str().unwrap(), sandbox.to_string());
        let all = [
            ("CONNECTOR_LISTEN", "127.0.0.1:0"),
            ("CONNECTOR_DATA_DIR", folder),
            ("CONNECTOR_SANDBOX_LISTEN", &control),
            ("CONNECTOR_POLLS_PER_SECOND", "1000000"),
        ];
        let all = [&all[..], settings].concat();
        let process = Process::start(program(&["serve", "--sandbox"], &all), served);
        let mut connection = Connection::open(process.address()).await;
        while connection.ask(&get("/readyz")).await != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let app = App::new(&mut connection).await;
        Self { process, sandbox, app, data }
    }

    /// Creates sessions, many at once; their tokens.
    pub(crate) async fn sessions(&self, number: usize) -> Vec<String> {
        self.create(number, |created| created["session_token"].as_str().unwrap().to_owned()).await
    }

    /// Creates sessions, many at once; of each what `keep` keeps of the answer.
    pub(crate) async fn create<T: Send + 'static>(&self, number: usize, keep: fn(&Value) -> T) -> Vec<T> {
        const AT_ONCE: usize = 256;
        let request = Arc::new(self.app.create());
        let address = self.process.address();
        let creating: Vec<_> = (0..AT_ONCE.min(number))
            .map(|index| {
                let share = number / AT_ONCE.min(number) + usize::from(index < number % AT_ONCE.min(number));
                let request = Arc::clone(&request);
                tokio::spawn(async move {
                    let mut connection = Connection::open(address).await;
                    let mut kept = Vec::with_capacity(share);
                    for _ in 0..share {
                        kept.push(keep(&connection.json(&request).await));
                    }
                    kept
                })
            })
            .collect();
        let mut kept = Vec::with_capacity(number);
        for creating in creating {
            kept.extend(creating.await.unwrap());
        }
        kept
    }
}

impl App {
    /// A new project of the demo developer.
    pub(crate) async fn new(connection: &mut Connection) -> Self {
        Self::with(connection, &json!({ "name": "Bench" })).await
    }

    /// A new project with these settings.
    pub(crate) async fn with(connection: &mut Connection, settings: &Value) -> Self {
        let login = json!({ "email": "demo@example.com", "password": "demo-password" }).to_string();
        let developer = connection.json(&post("/api/v1/dev/login", &login, None)).await;
        let project = connection
            .json(&post("/api/v1/dev/projects", &settings.to_string(), developer["token"].as_str()))
            .await;
        let text = |field: &str| project[field].as_str().unwrap().to_owned();
        Self { id: text("id"), secret: text("secret_key") }
    }

    /// The request that creates a session.
    pub(crate) fn create(&self) -> Vec<u8> {
        post("/api/v1/generate/public", &json!({ "project_id": self.id }).to_string(), None)
    }

    /// The request that asks how a session stands.
    pub(crate) fn poll(&self, token: &str) -> Vec<u8> {
        let body = json!({ "project_id": self.id, "session_token": token });
        post("/api/v1/verify/public", &body.to_string(), None)
    }

    /// The request that consumes a session, from its proof.
    pub(crate) fn consume(&self, proof: &str) -> Vec<u8> {
        let body = json!({ "project_id": self.id, "proof": proof });
        post("/api/v1/verify", &body.to_string(), Some(&self.secret))
    }
}
