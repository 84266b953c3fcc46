//! An S3 server for a test: s3s-fs over real HTTP on a free port, which checks signatures, behind a layer that knows
//! buckets and conditional writes and that can be told to fail.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3ServiceBuilder, SharedS3Service};
use s3s_fs::FileSystem;
use telegram_connector::lifecycle::Tasks;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The server's credentials.
pub(crate) const ACCESS_KEY: &str = "PLANTEDACCESSKEY0001";
pub(crate) const SECRET_KEY: &str = "planted/secret+access/key";
/// 32 bytes, base64.
pub(crate) const MASTER_KEY: &str = "cGxhbnRlZC1tYXN0ZXIta2V5LTAxMjM0NTY3ODlhYi4=";
pub(crate) const BUCKET: &str = "sessions";

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status, with this code in an S3 error where there is one.
    Answer(u16, &'static str),
    /// No answer, ever.
    Hang,
    /// The connection is closed.
    Close,
    /// The request is carried out, and the connection closed instead of an answer.
    CutAnswer,
}

/// What the server makes of `If-Match` and `If-None-Match` on a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conditions {
    Honoured,
    Ignored,
    Rejected,
}

struct Shared {
    service: SharedS3Service,
    root: PathBuf,
    conditions: Conditions,
    script: Mutex<Script>,
    /// One write at a time.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Script {
    /// For requests with this method (`*`: any), as many times.
    fault: Option<(&'static str, Fault, usize)>,
    /// Whether it befalls requests for leases, and only those.
    fault_of_leases: bool,
    /// Another process is quicker: written just before the next write that is carried out.
    quicker: Option<Vec<u8>>,
    seen: Vec<String>,
}

/// A way of its own to the server, for one process.
pub(crate) struct Door {
    pub(crate) address: String,
    open: tokio::sync::watch::Sender<bool>,
}

impl Door {
    /// Cuts what goes through, and lets nothing more through, until [`Door::open`].
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

/// A running server with one empty bucket.
pub(crate) struct S3Server {
    folder: TempDir,
    address: String,
    shared: Arc<Shared>,
    tasks: Tasks,
}

impl S3Server {
    pub(crate) async fn new() -> Self {
        Self::with(Conditions::Honoured).await
    }

    pub(crate) async fn with(conditions: Conditions) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let shared = Arc::new(Shared {
            service: builder.build().into_shared(),
            root: folder.path().to_owned(),
            conditions,
            script: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let tasks = Tasks::new();
        let (_, always) = tokio::sync::watch::channel(true);
        tasks.spawn("s3", accept(listener, Arc::clone(&shared), tasks.clone(), always));
        Self { folder, address, shared, tasks }
    }

    /// What a process needs to use it.
    pub(crate) fn environment(&self) -> [(&str, &str); 8] {
        [
            ("AWS_ENDPOINT_URL", &self.address),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", "eu-central-2"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("CONNECTOR_MASTER_KEY", MASTER_KEY),
            // Another machine need not wait longer for what a killed one had.
            ("CONNECTOR_LEASE_SECONDS", "3"),
            (
                "CONNECTOR_ALLOW_UNLEASED",
                if self.shared.conditions == Conditions::Honoured { "false" } else { "true" },
            ),
        ]
    }

    /// Another way to the server.
    pub(crate) async fn door(&self) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (open, is_open) = tokio::sync::watch::channel(true);
        self.tasks.spawn("s3 door", accept(listener, Arc::clone(&self.shared), self.tasks.clone(), is_open));
        Door { address, open }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    /// An object's bytes.
    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.file(key)).ok()
    }

    /// Puts an object there behind everybody's back.
    pub(crate) fn put(&self, key: &str, object: &[u8]) {
        std::fs::create_dir_all(self.file(key).parent().unwrap()).unwrap();
        std::fs::write(self.file(key), object).unwrap();
    }

    /// Requests with `method` (`*`: any) for anything but leases fail like this until [`S3Server::heal`].
    pub(crate) fn fail(&self, method: &'static str, fault: Fault) {
        self.script().fault = Some((method, fault, usize::MAX));
    }

    pub(crate) fn fail_once(&self, method: &'static str, fault: Fault) {
        self.script().fault = Some((method, fault, 1));
    }

    /// The next request with `method` for a lease fails like this.
    pub(crate) fn fail_lease_once(&self, method: &'static str, fault: Fault) {
        let mut script = self.script();
        (script.fault, script.fault_of_leases) = (Some((method, fault, 1)), true);
    }

    pub(crate) fn heal(&self) {
        let mut script = self.script();
        (script.fault, script.fault_of_leases) = (None, false);
    }

    /// Another process writes this between somebody's reading and writing.
    pub(crate) fn another_is_quicker(&self, object: &[u8]) {
        self.script().quicker = Some(object.to_vec());
    }

    /// Every request so far, as in `PUT /bucket/key`.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.script().seen.clone()
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    tasks: Tasks,
    open: tokio::sync::watch::Receiver<bool>,
) {
    let stopping = tasks.stopping();
    loop {
        let accepted =
            tokio::select! { accepted = listener.accept() => accepted, () = stopping.cancelled() => return };
        let Ok((socket, _)) = accepted else { return };
        if !*open.borrow() {
            continue;
        }
        let (shared, stopping, mut open) = (Arc::clone(&shared), tasks.stopping(), open.clone());
        tasks.spawn("s3 connection", async move {
            let service = hyper::service::service_fn(|request| answer(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new();
            let connection = connection.serve_connection(TokioIo::new(socket), service);
            let closed = async move {
                if open.wait_for(|open| !open).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! { _ = connection => {}, () = stopping.cancelled() => {}, () = closed => {} }
        });
    }
}

/// `Err` closes the connection.
async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, &'static str> {
    let fault = {
        let mut script = shared.script.lock().unwrap();
        script.seen.push(format!("{} {}", request.method(), request.uri().path()));
        let is_safe = script.fault_of_leases != request.uri().path().contains(".lease");
        let hit = |(method, _, times): &&mut (&str, Fault, usize)| {
            !is_safe && *times > 0 && (*method == "*" || *method == request.method().as_str())
        };
        script.fault.as_mut().filter(hit).map(|(_, fault, times)| {
            *times -= 1;
            *fault
        })
    };
    match fault {
        Some(Fault::Answer(status, code)) => Ok(refusal(status, code)),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Close) => Err("closed"),
        Some(Fault::CutAnswer) => {
            carry_out(&shared, request).await?;
            Err("cut")
        }
        None => carry_out(&shared, request).await,
    }
}

async fn carry_out(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, &'static str> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let bucket = path.split('/').next().unwrap_or_default();
    if !shared.root.join(bucket).is_dir() {
        return Ok(refusal(404, "NoSuchBucket"));
    }
    let _turn = shared.writing.lock().await;
    if request.method() == Method::PUT {
        let file = shared.root.join(&path);
        if !path.contains(".lease")
            && let Some(object) = shared.script.lock().unwrap().quicker.take()
        {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, object).unwrap();
        }
        let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (matches, none) = (header("if-match"), header("if-none-match"));
        if matches.is_some() || none.is_some() {
            let present = std::fs::read(&file).ok().map(|object| tag(&object));
            let holds = if none.is_some() { present.is_none() } else { matches == present };
            match shared.conditions {
                Conditions::Rejected => return Ok(refusal(501, "NotImplemented")),
                // As AWS does it.
                Conditions::Honoured if present.is_none() && !holds => return Ok(refusal(404, "NoSuchKey")),
                Conditions::Honoured if !holds => return Ok(refusal(412, "PreconditionFailed")),
                Conditions::Honoured | Conditions::Ignored => {}
            }
        }
    }
    let service = hyper::service::Service::call(&shared.service, request);
    service.await.map_err(|_| "s3s failed")
}

/// As s3s-fs makes it.
fn tag(object: &[u8]) -> String {
    use md5::Digest as _;
    format!("\"{:x}\"", md5::Md5::digest(object))
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let body = match code {
        "" => "out of order".to_owned(),
        code => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
        ),
    };
    Response::builder().status(status).body(Body::from(body)).unwrap()
}
