//! Flutter 1.0.0 and 1.0.1: Dart's casts fail on what is not exactly of their type, and only status 200 is an answer.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::{CANCEL, CONFIRM, change, code_by_status, decide, refusing, world_with_app};
use crate::support::{App, Client};

const AGENT: &str = "Dart/3.5 (dart:io)";

/// `value as String?` and so on: what fails in Dart is an error here.
struct Casts<'a>(&'a Map<String, Value>);

impl Casts<'_> {
    fn value(&self, field: &str) -> &Value {
        // A key that is absent reads as null.
        self.0.get(field).unwrap_or(&Value::Null)
    }

    /// `as String?`
    fn string(&self, field: &str) -> Result<Option<String>, String> {
        let value = self.value(field);
        let text = value.as_str().map(str::to_owned);
        if text.is_some() || value.is_null() {
            return Ok(text);
        }
        Err(format!("type '{value}' is not a subtype of type 'String?' of {field}"))
    }

    /// `as int?`: 1.0 is a double, and a text is no number.
    fn int(&self, field: &str) -> Result<Option<i64>, String> {
        let value = self.value(field);
        if value.is_i64() || value.is_null() {
            return Ok(value.as_i64());
        }
        Err(format!("type '{value}' is not a subtype of type 'int?' of {field}"))
    }

    /// `!`
    fn not_null<T>(found: Result<Option<T>, String>, field: &str) -> Result<T, String> {
        found?.ok_or_else(|| format!("Null check operator used on a null value of {field}"))
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Pending,
    Confirmed { id: String, name: String, proof: String, at: Option<i64> },
    Cancelled { at: Option<i64> },
    Expired,
}

/// Either version of the client.
struct Flutter {
    service: Client,
    project: String,
    /// Ends with a slash where the developer wrote one: neither version strips it.
    base: &'static str,
    agent: &'static str,
}

impl Flutter {
    fn of(app: &App) -> Self {
        Self { service: app.service.clone(), project: app.id.clone(), base: "/", agent: AGENT }
    }

    async fn post(&self, path: &str, body: Value) -> Result<Map<String, Value>, (u16, Value)> {
        let headers = [
            ("user-agent", self.agent),
            ("content-type", "application/json; charset=utf-8"),
            ("accept-encoding", "gzip"),
        ];
        let path = format!("{}{path}", self.base);
        let answer = self.service.send("POST", &path, &headers, Some(&body.to_string())).await;
        // `if (response.statusCode != 200) throw`.
        if answer.status != 200 {
            return Err((answer.status, answer.json()));
        }
        Ok(answer.json().as_object().expect("jsonDecode(…) as Map<String, dynamic>").clone())
    }

    /// Token and link; 1.0.1 also needs the end.
    async fn generate(&self) -> Result<(String, String), String> {
        let body = self.post("/api/v1/generate/public", json!({ "project_id": self.project })).await;
        let body = body.map_err(|refused| format!("{refused:?}"))?;
        let casts = Casts(&body);
        Casts::not_null(casts.int("expires_at"), "expires_at")?;
        Ok((
            Casts::not_null(casts.string("session_token"), "session_token")?,
            Casts::not_null(casts.string("deeplink"), "deeplink")?,
        ))
    }

    async fn verify(&self, token: &str) -> Result<Map<String, Value>, (u16, Value)> {
        let body = json!({ "project_id": self.project, "session_token": token });
        self.post("/api/v1/verify/public", body).await
    }

    /// A poll of 1.0.1.
    async fn poll(&self, token: &str) -> Result<Outcome, String> {
        let body = self.verify(token).await.map_err(|refused| format!("{refused:?}"))?;
        let casts = Casts(&body);
        // All are cast before the status is looked at.
        let status = Casts::not_null(casts.string("status"), "status")?;
        let (id, name) = (casts.string("telegram_id")?, casts.string("telegram_name")?);
        let proof = casts.string("proof")?;
        for field in ["telegram_username", "telegram_phone"] {
            casts.string(field)?;
        }
        let (confirmed_at, cancelled_at) = (casts.int("confirmed_at")?, casts.int("cancelled_at")?);
        Ok(match status.as_str() {
            "confirmed" | "used" => Outcome::Confirmed {
                id: Casts::not_null(Ok(id), "telegram_id")?,
                name: Casts::not_null(Ok(name), "telegram_name")?,
                proof: Casts::not_null(Ok(proof), "proof")?,
                at: confirmed_at,
            },
            "cancelled" => Outcome::Cancelled { at: cancelled_at },
            "expired" => Outcome::Expired,
            _ => Outcome::Pending,
        })
    }

    /// A poll of 1.0.0: who has a proof is signed in, whatever the status says; all but 200 is pending.
    async fn poll_1_0_0(&self, token: &str) -> Outcome {
        let Ok(body) = self.verify(token).await else { return Outcome::Pending };
        let text = |field: &str| body.get(field).map(|value| value.as_str().unwrap_or_default().to_owned());
        if body.contains_key("proof") {
            return Outcome::Confirmed {
                id: text("telegram_id").unwrap(),
                name: text("telegram_name").unwrap(),
                proof: text("proof").unwrap(),
                at: body.get("confirmed_at").and_then(Value::as_i64),
            };
        }
        match text("status").as_deref() {
            Some("cancelled") => Outcome::Cancelled { at: None },
            Some("expired") => Outcome::Expired,
            _ => Outcome::Pending,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flutter_1_0_1_signs_somebody_in_without_a_failing_cast() {
    let (world, app) = world_with_app(json!({})).await;
    let flutter = Flutter::of(&app);
    let (token, link) = flutter.generate().await.unwrap();
    for _ in 0..4 {
        world.clock.advance(Duration::from_millis(1_500));
        assert_eq!(flutter.poll(&token).await, Ok(Outcome::Pending));
    }
    decide(&world, &link, CONFIRM).await;
    // Timer.periodic does not wait either.
    let told = join_all((0..3).map(|_| flutter.poll(&token))).await;
    for outcome in &told {
        let Ok(Outcome::Confirmed { id, name, proof, at }) = outcome else { panic!("{told:?}") };
        assert!(id.parse::<i64>().is_ok() && name == "Alice" && proof.split('.').count() == 3);
        assert!(at.is_some_and(|at| at > 1_000_000_000_000), "milliseconds: {at:?}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flutter_on_the_web_needs_the_projects_setting() {
    let (world, app) = world_with_app(json!({})).await;
    // There the browser names itself, and nothing tells that Dart casts what comes.
    let web = Flutter { agent: "Mozilla/5.0 (X11; Linux x86_64)", base: "", ..Flutter::of(&app) };
    let (token, link) = web.generate().await.unwrap();
    decide(&world, &link, CONFIRM).await;
    let failed = web.poll(&token).await.unwrap_err();
    assert!(failed.contains("confirmed_at") && failed.contains("int?"), "{failed}");
    change(&world, &app, json!({ "client_timestamps": "unix_ms" })).await;
    assert!(matches!(web.poll(&token).await, Ok(Outcome::Confirmed { at: Some(_), .. })));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flutter_1_0_1_is_told_of_every_other_end() {
    let (world, app) = world_with_app(json!({})).await;
    let flutter = Flutter::of(&app);
    let (cancelled, link) = flutter.generate().await.unwrap();
    decide(&world, &link, CANCEL).await;
    assert!(matches!(flutter.poll(&cancelled).await, Ok(Outcome::Cancelled { at: Some(_) })));
    let (expired, _) = flutter.generate().await.unwrap();
    world.clock.advance(Duration::from_secs(601));
    assert_eq!(flutter.poll(&expired).await, Ok(Outcome::Expired));
    for (settings, code, by_status) in refusing() {
        let app = world.app(json!({})).await;
        change(&world, &app, settings).await;
        let body = json!({ "project_id": app.id });
        let (status, body) = Flutter::of(&app).post("/api/v1/generate/public", body).await.unwrap_err();
        let body = body.as_object().unwrap();
        let casts = Casts(body);
        assert_eq!((casts.string("code"), code_by_status(status)), (Ok(Some(code.to_owned())), by_status));
        assert!(casts.string("error").unwrap().is_some());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flutter_1_0_0_takes_a_proof_for_the_whole_answer() {
    let (world, app) = world_with_app(json!({})).await;
    let flutter = Flutter::of(&app);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(flutter.generate().await.unwrap());
    }
    for (token, _) in &sessions {
        world.clock.advance(Duration::from_secs(2));
        assert_eq!(flutter.poll_1_0_0(token).await, Outcome::Pending, "no proof before there is one");
    }
    let [(confirmed, yes), (cancelled, no), (expired, _)] = sessions.as_slice() else { panic!("three") };
    decide(&world, yes, CONFIRM).await;
    decide(&world, no, CANCEL).await;
    let Outcome::Confirmed { name, at, .. } = flutter.poll_1_0_0(confirmed).await else {
        panic!("signed in")
    };
    assert_eq!((name.as_str(), at.is_some()), ("Alice", true));
    assert_eq!(flutter.poll_1_0_0(cancelled).await, Outcome::Cancelled { at: None });
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(flutter.poll_1_0_0(expired).await, Outcome::Expired);
    // Its own word for what it cannot reach: nothing there to wait for.
    assert_eq!(flutter.poll_1_0_0("sess_never").await, Outcome::Pending);
    world.end().await;
}
