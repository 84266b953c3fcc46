//! An app whose people sign in: what its browser and its server call, and what its people do in the sandbox.

use base64::Engine as _;
use serde_json::{Value, json};

use super::{Answer, Client, Options, World, eventually};

/// A project and how to call for it.
pub(crate) struct App {
    pub(crate) service: Client,
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// One attempt to sign in, as the app sees it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) token: String,
    pub(crate) link: String,
    pub(crate) created: Value,
}

impl World {
    /// A developer's token.
    pub(crate) async fn developer(&self) -> String {
        let login = json!({ "email": "demo@example.com", "password": "demo-password" });
        let answer = self.service.post("/api/v1/dev/login", &login).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// Another developer's token, where anybody may register.
    pub(crate) async fn register(&self, email: &str) -> String {
        let new = json!({ "email": email, "password": "a-long-password" });
        let answer = self.service.post("/api/v1/dev/register", &new).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// A call as a developer, with the headers of Bondify's Node client: a content type also where there is no body.
    pub(crate) async fn dev(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let body = body.map(|body| body.to_string());
        self.service.send(method, &format!("/api/v1/dev{path}"), &headers, body.as_deref()).await
    }

    /// A new project with these settings.
    pub(crate) async fn app(&self, settings: Value) -> App {
        let answer = self.try_app(settings).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let project = answer.json();
        let text = |field: &str| project[field].as_str().unwrap().to_owned();
        App { service: self.service.clone(), id: text("id"), secret: text("secret_key") }
    }

    pub(crate) async fn try_app(&self, mut settings: Value) -> Answer {
        if settings["name"].is_null() {
            settings["name"] = "Test app".into();
        }
        let bearer = format!("Bearer {}", self.developer().await);
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        self.service.send("POST", "/api/v1/dev/projects", &headers, Some(&settings.to_string())).await
    }

    /// A world with a bot that is there, and an app with these settings.
    pub(crate) async fn with_app(options: Options, settings: Value) -> (Self, App) {
        let (world, _) = Self::with_bot(options).await;
        world.bot_is("ok").await;
        let app = world.app(settings).await;
        (world, app)
    }

    /// Opens a link in a person's Telegram; the id of the message that this sent, on their side.
    pub(crate) async fn open(&self, phone: &str, link: &str) -> i64 {
        let answer =
            self.sandbox.post(&format!("/api/accounts/{phone}/open"), &json!({ "link": link })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["message_id"].as_i64().unwrap()
    }

    /// Everything in a person's Telegram after a message, oldest first.
    pub(crate) async fn messages(&self, phone: &str, after: i64) -> Vec<Value> {
        let answer = self.sandbox.get(&format!("/api/accounts/{phone}/messages?after={after}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json().as_array().unwrap().clone()
    }

    /// The first message after `after` that somebody else wrote.
    pub(crate) async fn answer_to(&self, phone: &str, after: i64) -> Value {
        let path = format!("/api/accounts/{phone}/messages?after={after}&wait=10");
        for _ in 0..50 {
            let answer = self.sandbox.get(&path).await.json();
            if let Some(message) = answer.as_array().unwrap().iter().find(|message| message["out"] == false) {
                return message.clone();
            }
        }
        panic!("nobody answered message {after} of {phone}");
    }

    /// The message with this id as it is now.
    pub(crate) async fn message(&self, phone: &str, id: i64) -> Value {
        let messages = self.messages(phone, id - 1).await;
        messages.into_iter().find(|message| message["id"] == id).unwrap()
    }

    /// Waits until the message reads like this.
    pub(crate) async fn becomes(&self, phone: &str, id: i64, part: &str) -> Value {
        let text = || async { self.message(phone, id).await["text"].as_str().unwrap().to_owned() };
        eventually(part, || async { text().await.contains(part) }).await;
        self.message(phone, id).await
    }

    /// Presses a button; the bot's answer and whether it is an alert.
    pub(crate) async fn tap(&self, phone: &str, message: i64, button: &str) -> (String, bool) {
        let answer = self.tap_and_wait(phone, message, button, 15).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        (answer["answer"].as_str().unwrap_or_default().to_owned(), answer["alert"] == true)
    }

    /// As [`World::tap`], by a person who soon taps again: Telegram drops a tap while the bot is away.
    pub(crate) async fn try_tap(&self, phone: &str, message: i64, button: &str) -> Answer {
        self.tap_and_wait(phone, message, button, 3).await
    }

    async fn tap_and_wait(&self, phone: &str, message: i64, button: &str, seconds: u32) -> Answer {
        let body = json!({ "message_id": message, "button": button, "wait": seconds });
        self.sandbox.post(&format!("/api/accounts/{phone}/tap"), &body).await
    }

    /// Sends a message, perhaps as a reply; its id on the sender's side.
    pub(crate) async fn say(&self, phone: &str, to: &str, text: &str, reply_to: Option<i64>) -> i64 {
        let mut body = json!({ "to": to, "text": text });
        if let Some(reply_to) = reply_to {
            body["reply_to"] = reply_to.into();
        }
        let answer = self.sandbox.post(&format!("/api/accounts/{phone}/send"), &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["id"].as_i64().unwrap()
    }
}

impl App {
    /// The same app at a service that listens elsewhere now.
    pub(crate) fn at(&self, service: &Client) -> Self {
        Self { service: service.clone(), id: self.id.clone(), secret: self.secret.clone() }
    }

    /// A new attempt from a browser.
    pub(crate) async fn attempt(&self) -> Attempt {
        self.attempt_with(json!({}), &[]).await
    }

    pub(crate) async fn attempt_with(&self, mut body: Value, headers: &[(&str, &str)]) -> Attempt {
        body["project_id"] = self.id.clone().into();
        let answer = self.call("/api/v1/generate/public", &body, headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Attempt::of(answer.json())
    }

    pub(crate) async fn call(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.service.send("POST", path, &headers, Some(&body.to_string())).await
    }

    /// As the app's server.
    pub(crate) async fn call_keyed(&self, path: &str, body: &Value) -> Answer {
        self.call(path, body, &[("authorization", &format!("Bearer {}", self.secret))]).await
    }

    pub(crate) async fn poll(&self, attempt: &Attempt) -> Value {
        let body = json!({ "project_id": self.id, "session_token": attempt.token });
        let answer = self.call("/api/v1/verify/public", &body, &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Holds a poll until the status changes.
    pub(crate) async fn wait(&self, attempt: &Attempt) -> Value {
        let body = json!({ "project_id": self.id, "session_token": attempt.token, "wait": 25 });
        let answer = self.call("/api/v1/verify/public", &body, &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Takes the confirmation by token.
    pub(crate) async fn consume(&self, attempt: &Attempt) -> Value {
        let body = json!({ "project_id": self.id, "session_token": attempt.token });
        let answer = self.call_keyed("/api/v1/verify", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Takes the confirmation by proof.
    pub(crate) async fn consume_proof(&self, proof: &str) -> Answer {
        self.call_keyed("/api/v1/verify", &json!({ "project_id": self.id, "proof": proof })).await
    }
}

impl Attempt {
    pub(crate) fn of(created: Value) -> Self {
        let text = |field: &str| created[field].as_str().unwrap().to_owned();
        Self { token: text("session_token"), link: text("deeplink"), created }
    }

    /// The session's id, as the link carries it.
    pub(crate) fn id(&self) -> String {
        self.link[self.link.len() - 28..].to_owned()
    }
}

/// A part of a JWT: 0 the header, 1 the claims.
pub(crate) fn jwt_part(jwt: &str, part: usize) -> Value {
    let part = jwt.split('.').nth(part).unwrap();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
    serde_json::from_slice(&json).unwrap()
}
