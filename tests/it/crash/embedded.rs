//! kill -9 of the real program, again and again, while people sign in and the receiver fails half the time: every decision
//! is told, nothing is told that did not happen, and a repetition keeps its id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::support::{App, Attempt, Client, Process, Received, Receiver, Reply, eventually, random};

/// How often it is killed.
const LIVES: u32 = 8;
const PEOPLE: usize = 6;

/// A service with a sandbox of its own, in this folder.
fn service(folder: &std::path::Path) -> (Process, Client) {
    let data = folder.to_str().unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--sandbox-listen", "127.0.0.1:0"];
    let process = Process::start(&[&["serve", "--sandbox", "--data-dir", data][..], &listen].concat(), &[]);
    let log = process.log();
    let line = log.lines().find(|line| line.contains("Sandbox control")).unwrap();
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    (process, Client::new(address))
}

/// A call of something that may be killed meanwhile.
async fn try_post(client: &Client, path: &str, body: &Value) -> Option<Value> {
    let headers = [("content-type", "application/json")];
    let answer = client.try_send("POST", path, &headers, Some(&body.to_string())).await.ok()?;
    (answer.status == 200).then(|| answer.json())
}

fn phone(n: usize) -> String {
    format!("+155504{n:05}")
}

/// One person signs in, again and again, until the service is killed. Every attempt is noted.
async fn sign_in_until_killed(app: &App, sandbox: &Client, n: usize, attempts: &Mutex<Vec<Attempt>>) {
    let mut round = n;
    while sign_in(app, sandbox, n, round, attempts).await.is_some() {
        round += 1;
    }
}

async fn sign_in(
    app: &App,
    sandbox: &Client,
    n: usize,
    round: usize,
    attempts: &Mutex<Vec<Attempt>>,
) -> Option<()> {
    let phone = phone(n);
    let generate = json!({ "project_id": app.id });
    let attempt = Attempt::of(try_post(&app.service, "/api/v1/generate/public", &generate).await?);
    attempts.lock().unwrap().push(attempt.clone());
    let open = format!("/api/accounts/{phone}/open");
    let opened = try_post(sandbox, &open, &json!({ "link": attempt.link })).await?["message_id"].clone();
    let prompt = loop {
        let path = format!("/api/accounts/{phone}/messages?after={opened}&wait=10");
        let messages = sandbox.try_send("GET", &path, &[], None).await.ok()?;
        let messages = serde_json::from_str::<Value>(&messages.body).ok()?;
        if let Some(prompt) = messages.as_array()?.iter().find(|message| message["out"] == false) {
            break prompt["id"].clone();
        }
    };
    let button = if round % 4 == 3 { "❌ Cancel" } else { "✅ Confirm" };
    let tap = json!({ "message_id": prompt, "button": button, "wait": 5 });
    try_post(sandbox, &format!("/api/accounts/{phone}/tap"), &tap).await?;
    Some(())
}

/// The developer of the demo.
struct Developer {
    client: Client,
    bearer: String,
}

impl Developer {
    async fn at(client: &Client) -> Self {
        let login = json!({ "email": "demo@example.com", "password": "demo-password" });
        let token = client.post("/api/v1/dev/login", &login).await.json()["token"].clone();
        Self { client: client.clone(), bearer: format!("Bearer {}", token.as_str().unwrap()) }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let headers = [("authorization", self.bearer.as_str()), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string());
        let answer = self.client.send(method, path, &headers, body.as_deref()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Everything that was to be told.
    async fn log(&self, app: &App) -> Vec<Value> {
        let path = format!("/api/v1/dev/projects/{}/deliveries?limit=200", app.id);
        let (mut deliveries, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.call("GET", &format!("{path}{cursor}"), None).await;
            deliveries.extend(page["deliveries"].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return deliveries,
            }
        }
    }
}

/// Moves the clock from one attempt to the next until no delivery is pending, and returns all.
async fn all_delivered(app: &App, sandbox: &Client) -> Vec<Value> {
    let developer = Developer::at(&app.service).await;
    let over = || async {
        let pending = developer.log(app).await;
        let due = pending.iter().filter_map(|one| one["next_attempt_at_ms"].as_i64()).min();
        let Some(due) = due else { return true };
        let ahead = sandbox.post("/api/clock", &json!({ "advance_seconds": 1 })).await;
        let seconds = (due - ahead.json()["now"].as_i64().unwrap()) / 1_000;
        if seconds > 0 {
            sandbox.post("/api/clock", &json!({ "advance_seconds": seconds })).await;
        }
        false
    };
    eventually("nothing is pending", over).await;
    developer.log(app).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_told_through_kill_nine_and_a_receiver_that_fails_half_the_time() {
    let (folder, receiver, ids) = (tempfile::tempdir().unwrap(), Receiver::new().await, random());
    for _ in 0..5_000 {
        for reply in [Reply::status(500), Reply::status(200), Reply::hang_up(), Reply::status(204)] {
            receiver.answer_next(reply);
        }
    }
    let (process, sandbox) = service(folder.path());
    let settings = json!({ "name": "Shop", "webhook_url": receiver.url("/hook") });
    let developer = Developer::at(&process.client).await;
    let project = developer.call("POST", "/api/v1/dev/projects", Some(settings)).await;
    let text = |field: &str| project[field].as_str().unwrap().to_owned();
    let app = App { service: process.client.clone(), id: text("id"), secret: text("secret_key") };
    for n in 0..PEOPLE {
        let person = json!({ "phone": phone(n), "first_name": format!("Person {n}") });
        assert_eq!(sandbox.post("/api/accounts", &person).await.status, 200);
    }
    process.kill();

    let attempts = Mutex::new(Vec::new());
    for _ in 0..LIVES {
        let (process, sandbox) = service(folder.path());
        let app = app.at(&process.client);
        let bot = || async { process.client.get("/readyz").await.json()["bot"] == "ok" };
        eventually("the bot is there", bot).await;
        let enough = receiver.requests().len() + 3 + usize::try_from(ids.below(12)).unwrap();
        let told = || async { receiver.requests().len() >= enough };
        let people = (0..PEOPLE).map(|n| sign_in_until_killed(&app, &sandbox, n, &attempts));
        let killing = async {
            eventually("some are told", told).await;
            process.kill();
        };
        tokio::join!(futures_util::future::join_all(people), killing);
    }

    let (process, sandbox) = service(folder.path());
    let app = app.at(&process.client);
    let mut decided = BTreeMap::new();
    let attempts = attempts.into_inner().unwrap();
    let attempts_made = attempts.len();
    for attempt in attempts {
        let status = app.poll(&attempt).await["status"].as_str().unwrap().to_owned();
        if status != "pending" {
            decided.insert(attempt.token.clone(), format!("auth.{status}"));
        }
    }
    assert!(decided.len() >= 20, "{}", decided.len());
    for kind in ["auth.confirmed", "auth.cancelled"] {
        assert!(decided.values().any(|one| one == kind), "{decided:?}");
    }
    let log = all_delivered(&app, &sandbox).await;
    assert!(log.iter().all(|one| one["state"] == "delivered"), "{log:?}");
    assert!(log.iter().any(|one| one["attempts"].as_array().unwrap().len() > 1), "it did fail");

    // What the receiver saw: each decision, nothing else, and what came again was the same.
    let mut seen: BTreeMap<String, (String, Vec<u8>)> = BTreeMap::new();
    for request in receiver.requests() {
        let body = request.json();
        let (token, event) = (body["session_token"].as_str().unwrap(), body["event"].as_str().unwrap());
        assert_eq!(decided.get(token).map(String::as_str), Some(event), "told of what did not happen");
        let this = (request.header("webhook-id").unwrap().to_owned(), request.body.clone());
        let first = seen.entry(token.to_owned()).or_insert_with(|| this.clone());
        assert_eq!(*first, this, "the same id and body again");
    }
    let lost: Vec<_> = decided.keys().filter(|token| !seen.contains_key(*token)).collect();
    assert_eq!(lost, Vec::<&String>::new(), "none is lost");
    let taken = |request: &&Received| matches!(request.status, Some(200 | 204));
    let requests = receiver.requests();
    let taken: BTreeSet<_> =
        requests.iter().filter(taken).map(|one| one.header("webhook-id").unwrap()).collect();
    assert_eq!(taken.len(), decided.len(), "each was taken once at least");
    assert_eq!(log.len(), decided.len());
    let moved = sandbox.post("/api/clock", &json!({ "advance_seconds": 601 })).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    everything_is_counted_once(&app, attempts_made, &decided).await;
    process.kill();
}

/// Through all those deaths: each sign-in that was acknowledged is counted, and listed, once, and so is what came of it.
async fn everything_is_counted_once(app: &App, made: usize, decided: &BTreeMap<String, String>) {
    let developer = Developer::at(&app.service).await;
    let path = format!("/api/v1/dev/analytics?days=90&project_id={}", app.id);
    let counted = async || developer.call("GET", &path, None).await["funnel"].clone();
    let of = |event: &str| decided.values().filter(|one| *one == event).count();
    let over = async || {
        let funnel = counted().await;
        let number = |field: &str| usize::try_from(funnel[field].as_u64().unwrap()).unwrap();
        assert_eq!(number("confirmed"), of("auth.confirmed"), "{funnel}");
        assert_eq!(number("cancelled"), of("auth.cancelled"), "{funnel}");
        // What nobody decided has expired, or is about to.
        number("requested") == number("confirmed") + number("cancelled") + number("expired")
    };
    eventually("every sign-in is over and counted", over).await;
    let requested = usize::try_from(counted().await["requested"].as_u64().unwrap()).unwrap();
    // One that was written when the service died, and never acknowledged, counts too: it is there.
    assert!(requested >= made, "{requested} of {made}");
    let (mut listed, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("/api/v1/dev/sessions?limit=50&project_id={}{cursor}", app.id);
        let page = developer.call("GET", &path, None).await;
        for session in page["sessions"].as_array().unwrap() {
            assert!(listed.insert(session["id"].as_str().unwrap().to_owned()), "listed twice: {session}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(listed.len(), requested);
}
