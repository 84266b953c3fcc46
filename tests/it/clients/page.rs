//! Clients that run in a page: React 2 and 3 (polls each 1.5 s that may overlap, error codes in 3), and `TGAuth` (every 2 s).
//! The browser in front of them decides by CORS what they may see.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{CANCEL, CONFIRM, KNOWN_CODES, change, code_by_status, decide, refusing, world_with_app};
use crate::support::{Answer, App, Client};

const ORIGIN: &str = "https://shop.example";
const BROWSER: &str =
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/140.0 Safari/537.36";

/// What a script gets of a fetch.
enum Fetched {
    Ok(Value),
    /// The status, and the body if it is JSON.
    Refused(u16, Value),
}

/// A page's script with the browser around it.
struct Page {
    service: Client,
    project: String,
}

/// What `generate` must hold for React and `TGAuth`.
struct Session {
    token: String,
    link: String,
    expires_at: f64,
}

impl Page {
    fn of(app: &App) -> Self {
        // Both strip one slash at the end of the base.
        Self { service: app.service.clone(), project: app.id.clone() }
    }

    /// `fetch(url, {method: "POST", cache: "no-store", headers: {"Content-Type": "application/json"}, body})`.
    async fn fetch(&self, path: &str, body: Value) -> Fetched {
        let asks = [
            ("origin", ORIGIN),
            ("user-agent", BROWSER),
            ("sec-fetch-mode", "cors"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        let preflight = self.service.send("OPTIONS", path, &asks, None).await;
        assert!((200..300).contains(&preflight.status), "the browser stops here: {preflight:?}");
        lets_read(&preflight);
        let allowed = preflight.headers["access-control-allow-headers"].to_str().unwrap().to_lowercase();
        assert!(allowed.split(", ").any(|header| header == "content-type"), "{allowed}");
        let headers = [
            ("origin", ORIGIN),
            ("user-agent", BROWSER),
            ("content-type", "application/json"),
            ("cache-control", "no-cache"),
            ("pragma", "no-cache"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-site", "cross-site"),
            ("referer", "https://shop.example/"),
        ];
        let answer = self.service.send("POST", path, &headers, Some(&body.to_string())).await;
        lets_read(&answer);
        if (200..300).contains(&answer.status) {
            Fetched::Ok(answer.json())
        } else {
            Fetched::Refused(answer.status, answer.json())
        }
    }

    async fn generate(&self) -> Fetched {
        self.fetch("/api/v1/generate/public", json!({ "project_id": self.project })).await
    }

    async fn begin(&self) -> Session {
        let Fetched::Ok(body) = self.generate().await else { panic!("refused") };
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        let expires_at = body["expires_at"].as_f64().expect("a number: NaN in the countdown otherwise");
        Session { token: text("session_token"), link: text("deeplink"), expires_at }
    }

    async fn poll(&self, session: &Session) -> Fetched {
        let body = json!({ "project_id": self.project, "session_token": session.token });
        self.fetch("/api/v1/verify/public", body).await
    }

    /// What a poll makes of its answer: none while pending.
    async fn outcome(&self, session: &Session) -> Option<Outcome> {
        let Fetched::Ok(body) = self.poll(session).await else { panic!("a poll was refused") };
        match body["status"].as_str().unwrap() {
            "pending" => None,
            // Both are a success to React, which copies the fields unseen.
            "confirmed" | "used" => {
                for field in ["telegram_id", "telegram_name", "proof"] {
                    assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {body}");
                }
                for field in ["telegram_username", "telegram_phone"] {
                    assert!(body[field].is_string() || body[field].is_null(), "{field}: {body}");
                }
                Some(Outcome::Success(body))
            }
            "cancelled" => {
                let at = &body["cancelled_at"];
                assert!(at.is_number() || at.is_null(), "{body}");
                Some(Outcome::Cancelled)
            }
            "expired" => Some(Outcome::Expired),
            other => panic!("React does not know {other}"),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Success(Value),
    Cancelled,
    Expired,
}

/// Without this header the script learns nothing but "network error", and repeats for ever.
fn lets_read(answer: &Answer) {
    let allowed = answer.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
    assert!([Some("*"), Some(ORIGIN)].contains(&allowed), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn react_signs_somebody_in_although_its_polls_overlap() {
    let (world, app) = world_with_app(json!({ "name": "Shop" })).await;
    let page = Page::of(&app);
    let session = page.begin().await;
    assert!(session.link.starts_with("https://t.me/"), "window.open");
    assert!(session.expires_at > 1e12, "milliseconds, not seconds");
    for _ in 0..4 {
        world.clock.advance(Duration::from_millis(1_500));
        assert_eq!(page.outcome(&session).await, None);
    }
    // setInterval does not wait for the poll before: three are under way when the person taps.
    let polls = async { join_all((0..3).map(|_| page.outcome(&session))).await };
    let (early, ()) = tokio::join!(polls, decide(&world, &session.link, CONFIRM));
    let late = join_all((0..3).map(|_| page.outcome(&session))).await;
    let told: Vec<Value> = early
        .into_iter()
        .chain(late)
        .flatten()
        .map(|outcome| match outcome {
            Outcome::Success(body) => body,
            Outcome::Cancelled | Outcome::Expired => panic!("{outcome:?}"),
        })
        .collect();
    assert!(told.len() >= 3, "every poll after the tap succeeds");
    for body in &told {
        for field in ["status", "telegram_id", "telegram_name", "telegram_username", "confirmed_at"] {
            assert_eq!(body[field], told[0][field], "the same whichever comes first");
        }
    }
    assert_eq!((&told[0]["status"], &told[0]["telegram_name"]), (&json!("confirmed"), &json!("Alice")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn react_is_told_of_every_other_end() {
    let (world, app) = world_with_app(json!({})).await;
    let page = Page::of(&app);
    let cancelled = page.begin().await;
    decide(&world, &cancelled.link, CANCEL).await;
    assert_eq!(page.outcome(&cancelled).await, Some(Outcome::Cancelled));
    let expired = page.begin().await;
    world.clock.advance(Duration::from_secs(601));
    assert_eq!(page.outcome(&expired).await, Some(Outcome::Expired));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn react_can_tell_why_it_is_refused() {
    let (world, app) = world_with_app(json!({})).await;
    let nowhere = Page { service: app.service.clone(), project: "proj_nothere".to_owned() };
    let mut refusals = vec![(nowhere, "PROJECT_NOT_FOUND", "PROJECT_NOT_FOUND")];
    for (settings, code, by_status) in refusing() {
        let app = world.app(json!({})).await;
        change(&world, &app, settings).await;
        refusals.push((Page::of(&app), code, by_status));
    }
    for (page, code, by_status) in refusals {
        let Fetched::Refused(status, body) = page.generate().await else { panic!("{code}") };
        // React 3 reads the code, React 2 the status; both show the text.
        assert_eq!((&body["code"], code_by_status(status)), (&json!(code), by_status));
        assert!(KNOWN_CODES.contains(&code) && body["error"].is_string());
    }
    // A token that was never issued: the text is what the person sees, since the code is not one that React knows.
    let unknown = Session { token: "sess_never".to_owned(), link: String::new(), expires_at: 0.0 };
    let Fetched::Refused(404, body) = Page::of(&app).poll(&unknown).await else { panic!("not found") };
    assert!(body["error"].as_str().unwrap().contains("session"), "{body}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tgauth_polls_every_two_seconds_until_its_ten_minutes_are_over() {
    let (world, app) = world_with_app(json!({})).await;
    let page = Page::of(&app);
    let (signed_in, given_up) = (page.begin().await, page.begin().await);
    for _ in 0..5 {
        world.clock.advance(Duration::from_secs(2));
        assert_eq!(page.outcome(&signed_in).await, None);
    }
    decide(&world, &signed_in.link, CONFIRM).await;
    world.clock.advance(Duration::from_secs(2));
    let Some(Outcome::Success(body)) = page.outcome(&signed_in).await else { panic!("signed in") };
    assert_eq!(body["status"], "confirmed");
    world.clock.advance(Duration::from_secs(589));
    assert_eq!(page.outcome(&given_up).await, Some(Outcome::Expired), "TIMEOUT is its own word for it");
    world.end().await;
}
