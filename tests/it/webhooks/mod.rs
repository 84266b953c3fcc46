//! What a developer's server is told of decisions. What may be reached is in `webhook_targets`, what is exchanged in
//! `webhook_client`.

mod dispatching;
mod repeating;
mod restarting;
mod telling;

use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use telegram_connector::app::AppSettings;
use telegram_connector::domain::clock::{Clock as _, Timestamp};

use crate::support::{Answer, App, Attempt, Options, Received, Receiver, World, eventually};

/// A service that may reach receivers on this machine.
fn options() -> Options {
    let webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
    Options {
        apps: AppSettings { demo: true, webhook_allow, ..AppSettings::default() },
        ..Options::default()
    }
}

/// A developer who looks after the webhooks of a project.
struct Owner<'a> {
    world: &'a World,
    bearer: String,
}

impl<'a> Owner<'a> {
    async fn of(world: &'a World) -> Self {
        Self { world, bearer: format!("Bearer {}", world.developer().await) }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let headers = [("authorization", self.bearer.as_str()), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string());
        self.world.service.send(method, &format!("/api/v1/dev{path}"), &headers, body.as_deref()).await
    }

    async fn log(&self, app: &App) -> Vec<Value> {
        let answer = self.call("GET", &format!("/projects/{}/deliveries", app.id), None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["deliveries"].as_array().unwrap().clone()
    }

    /// The newest delivery, once it is like this.
    async fn newest(&self, app: &App, is: impl Fn(&Value) -> bool + Send + Sync) -> Value {
        let newest = || async { self.log(app).await.first().cloned().unwrap_or_default() };
        eventually("the newest delivery", || async { is(&newest().await) }).await;
        newest().await
    }

    /// The newest delivery, once so many attempts were made at it.
    async fn tried(&self, app: &App, times: usize) -> Value {
        self.newest(app, |one| one["attempts"].as_array().is_some_and(|tries| tries.len() >= times)).await
    }

    async fn delivered(&self, app: &App) -> Value {
        self.newest(app, |one| one["state"] == "delivered").await
    }

    async fn replay(&self, id: &str) -> Answer {
        self.call("POST", &format!("/deliveries/{id}/replay"), None).await
    }

    async fn change(&self, app: &App, change: Value) -> Value {
        let answer = self.call("PATCH", &format!("/projects/{}", app.id), Some(change)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    async fn project(&self, app: &App) -> Value {
        let projects = self.call("GET", "/projects", None).await.json();
        let found = projects["projects"].as_array().unwrap().iter().find(|one| one["id"] == app.id.as_str());
        found.unwrap().clone()
    }

    /// Moves the clock to when a delivery is sent next, which must not be now.
    fn move_to_next_attempt(&self, delivery: &Value) -> Duration {
        let next = Timestamp::from_millis(delivery["next_attempt_at_ms"].as_i64().unwrap());
        let pause = next.since(self.world.clock.now());
        self.world.clock.advance(pause);
        pause
    }
}

async fn world() -> World {
    let (world, _) = World::with_bot(options()).await;
    world.bot_is("ok").await;
    world
}

/// An app whose server is this receiver.
async fn app_of(world: &World, receiver: &Receiver) -> App {
    world.app(json!({ "webhook_url": receiver.url("/hook?from=tg") })).await
}

/// Something happens that the webhook is told: the quickest that there is.
async fn something_happens(app: &App) -> Attempt {
    let attempt = app.attempt().await;
    let body = json!({ "project_id": app.id, "session_token": attempt.token });
    assert_eq!(app.call_keyed("/api/v1/cancel", &body).await.status, 200);
    attempt
}

fn mac(secret: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Checks the signatures of a request as a receiver with these secrets, the present one first.
fn assert_signed(request: &Received, secrets: &[&str]) {
    let header = |name: &str| request.header(name).unwrap_or_else(|| panic!("no {name}: {request:?}"));
    let body = std::str::from_utf8(&request.body).unwrap();
    let hex: String = mac(secrets[0], body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("x-bondify-signature"), hex);
    let signed = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
    let standard = |secret: &&str| {
        format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac(secret, &signed)))
    };
    assert_eq!(header("webhook-signature"), secrets.iter().map(standard).collect::<Vec<_>>().join(" "));
    assert_eq!(header("x-bondify-delivery"), header("webhook-id"));
    assert_eq!(header("x-bondify-timestamp"), header("webhook-timestamp"));
    assert_eq!(header("content-type"), "application/json");
}
