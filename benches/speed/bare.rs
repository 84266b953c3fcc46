//! The limit: poem's own server and a handler that only parses the request's JSON and answers JSON of the same size. No
//! store, no limits, no metrics, no log, none of our headers.

use std::net::SocketAddr;
use std::process::Command;

use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::web::Json;
use poem::{Route, Server, handler, post};
use serde::{Deserialize, Serialize};

use super::process::Process;

/// The argument that makes this program the bare server.
pub(crate) const ARGUMENT: &str = "serve-bare";

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing them is the point")]
struct VerifyRequest {
    project_id: String,
    session_token: String,
    wait: Option<u32>,
}

#[derive(Serialize)]
struct Pending {
    status: String,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsing them is the point")]
struct GenerateRequest {
    project_id: String,
    nonce: Option<String>,
}

#[derive(Serialize)]
struct Generated {
    session_token: String,
    deeplink: String,
    expires_at: i64,
    tg_link: String,
    web_link: String,
    typed_code: String,
    events_url: String,
}

#[handler]
fn verify(Json(_): Json<VerifyRequest>) -> Json<Pending> {
    Json(Pending { status: "pending".to_owned() })
}

#[handler]
fn generate(Json(_): Json<GenerateRequest>) -> Json<Generated> {
    Json(Generated {
        session_token: "sess_0123456789abcdefghijklmnopqrstuv".to_owned(),
        deeplink: "https://t.me/demo_login_bot?start=0123456789abcdefghijklmnopqr".to_owned(),
        expires_at: 1_800_000_000_000,
        tg_link: "tg://resolve?domain=demo_login_bot&start=0123456789abcdefghijklmnopqr".to_owned(),
        web_link: "https://web.telegram.org/k/#?tgaddr=tg%3A%2F%2Fresolve%3Fdomain%3Ddemo_login_bot"
            .to_owned(),
        typed_code: "0123-4567".to_owned(),
        events_url: "http://127.0.0.1:5000/api/v1/events/0123456789abcdefghijklmnopqr0123456789a".to_owned(),
    })
}

/// Serves until it is killed.
pub(crate) async fn serve() {
    let routes =
        Route::new().at("/api/v1/verify/public", post(verify)).at("/api/v1/generate/public", post(generate));
    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
    println!("bare {}", acceptor.local_addr()[0]);
    Server::new_with_acceptor(acceptor).run(routes).await.unwrap();
}

/// The bare server in a process of its own.
pub(crate) fn start() -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(ARGUMENT);
    Process::start(command, |line| {
        line.strip_prefix("bare ")?.trim_start_matches("socket://").parse::<SocketAddr>().ok()
    })
}
