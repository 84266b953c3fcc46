//! Do other people's libraries accept our webhooks? Standard Webhooks' own for Node and for Python, and the check of the
//! published Node client (protocol, section 6). Nothing is signed or checked here: `webhook.mjs` and `webhook.py` do it.

use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};
use telegram_connector::app::AppSettings;

use crate::carried_out;
use crate::equipment;
use crate::support::{App, Options, Received, Receiver, World};

const PHONE: &str = "+15550100009";
/// What JSON writers disagree about: other scripts, quotes, slashes, a backslash, an emoji, a line separator.
const NAME: &str = "Алиса \"A\\B\" </p> 🦊\u{2028}é";

#[derive(Clone, Copy, Debug)]
enum Library {
    Node,
    Python,
}

impl Library {
    /// Carries tasks out in a process of its own.
    fn does(self, tasks: &Value) -> Vec<Value> {
        let command = match self {
            Self::Python => {
                let mut python = Command::new(equipment(".venv/bin/python3"));
                python.arg(equipment("webhook.py"));
                python
            }
            Self::Node => {
                equipment("node_modules/standardwebhooks");
                let mut node = Command::new("node");
                node.arg(equipment("webhook.mjs"));
                node
            }
        };
        carried_out(command, tasks)
    }
}

/// A request as a task, by the secrets that `GET …/webhook-secret` gave.
fn task(request: &Received, secrets: &Value) -> Value {
    let headers = request.headers.iter();
    let headers: Map<_, _> = headers.map(|(name, value)| (name.to_lowercase(), json!(value))).collect();
    json!({
        "secret": secrets["standard_webhooks_secret"],
        "key": secrets["webhook_secret"],
        "headers": headers,
        "body": std::str::from_utf8(&request.body).unwrap(),
    })
}

async fn dev(world: &World, app: &App, method: &str, path: &str, body: Option<Value>) -> Value {
    let bearer = format!("Bearer {}", world.developer().await);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let path = format!("/api/v1/dev/projects/{}/{path}", app.id);
    let answer =
        world.service.send(method, &path, &headers, body.map(|body| body.to_string()).as_deref()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Somebody with a difficult name signs in; what the receiver is told.
async fn told(world: &World, app: &App, receiver: &Receiver) -> Received {
    let attempt = app.attempt().await;
    let opened = world.open(PHONE, &attempt.link).await;
    let prompt = world.answer_to(PHONE, opened).await["id"].as_i64().unwrap();
    world.tap(PHONE, prompt, "✅ Confirm").await;
    receiver.next().await
}

#[tokio::test(flavor = "multi_thread")]
async fn libraries_of_other_languages_accept_our_webhooks_and_nothing_else() {
    let webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
    let apps = AppSettings { demo: true, webhook_allow, ..AppSettings::default() };
    let (world, _) = World::with_bot(Options { apps, ..Options::default() }).await;
    world.bot_is("ok").await;
    let person = json!({ "phone": PHONE, "first_name": NAME });
    assert_eq!(world.sandbox.post("/api/accounts", &person).await.status, 200);
    let receiver = Receiver::new().await;
    // Fresh, and brought along: one that looks like base64 and must not be taken for it.
    let brought = json!({ "secret_key": "whsec_dGhpcy1pcy1ub3QtYS1yZWFsLXNlY3JldC1rZXk=" });
    for settings in [json!({}), brought] {
        let mut settings = settings;
        settings["webhook_url"] = receiver.url("/hook").into();
        let app = world.app(settings).await;
        let old = dev(&world, &app, "GET", "webhook-secret", None).await;
        let first = task(&told(&world, &app, &receiver).await, &old);
        dev(&world, &app, "POST", "regenerate", Some(json!({ "grace_seconds": 60 }))).await;
        let new = dev(&world, &app, "GET", "webhook-secret", None).await;
        assert_ne!(old, new);
        let graced = told(&world, &app, &receiver).await;
        world.clock.advance(Duration::from_secs(61));
        let late = told(&world, &app, &receiver).await;
        let forged = |field: &str, from: &str, to: &str| {
            let mut forged = first.clone();
            let text = forged.pointer(field).unwrap().as_str().unwrap().replace(from, to);
            assert_ne!(forged.pointer(field).unwrap(), &text);
            *forged.pointer_mut(field).unwrap() = text.into();
            forged
        };
        let tasks = json!([
            first,
            task(&graced, &new),
            task(&graced, &old),
            task(&late, &new),
            task(&late, &old),
            forged("/body", "Алиса", "Борис"),
            forged("/headers/webhook-id", "msg_", "msg_0"),
            forged("/headers/webhook-timestamp", "1", "2"),
        ]);
        for library in [Library::Node, Library::Python] {
            let became = library.does(&tasks);
            for good in &became[..4] {
                let payload = &good["standard"];
                assert_eq!(payload["event"], "auth.confirmed", "{library:?}: {became:?}");
                assert_eq!(payload["telegram_name"], NAME.trim(), "{library:?}");
            }
            for bad in &became[4..] {
                assert!(bad["standard"].as_str().is_some_and(|why| why.starts_with("refused: ")), "{bad}");
            }
        }
        // The hex signature is of the present secret alone; a receiver that parses first gets the same bytes again.
        let hex: Vec<_> = Library::Node
            .does(&tasks)
            .iter()
            .map(|one| (one["raw"] == true, one["reserialised"] == true))
            .collect();
        assert_eq!(hex[..5], [(true, true), (true, true), (false, false), (true, true), (false, false)]);
        assert_eq!(hex[5], (false, false));
    }
    world.end().await;
}
