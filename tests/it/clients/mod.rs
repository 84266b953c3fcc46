//! What the published clients do, request by request with their headers, and what they make of the answers, as strictly
//! as they do (protocol, sections 2, 4, 5, 6 and 7). `docs/compatibility.md` says the same in words.

mod conflicts;
mod dart;
mod node;
mod page;
mod webhook;

use serde_json::{Value, json};

use crate::support::{ALICE, Answer, App, Options, World};

const CONFIRM: &str = "✅ Confirm";
const CANCEL: &str = "❌ Cancel";

/// Codes that published clients know (protocol, section 2.4).
const KNOWN_CODES: [&str; 4] =
    ["PROJECT_NOT_FOUND", "PROJECT_INACTIVE", "PUBLIC_ACCESS_DISABLED", "RATE_LIMITED"];

async fn world_with_app(settings: Value) -> (World, App) {
    World::with_app(Options::default(), settings).await
}

/// What the person does with the link: opens it and presses a button.
async fn decide(world: &World, link: &str, button: &str) {
    let opened = world.open(ALICE, link).await;
    let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
    world.tap(ALICE, prompt, button).await;
}

/// Calls as a developer, without a body.
async fn as_developer(world: &World, method: &str, path: &str, body: Option<Value>) -> Answer {
    let bearer = format!("Bearer {}", world.developer().await);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = body.map(|body| body.to_string());
    world.service.send(method, &format!("/api/v1/dev{path}"), &headers, body.as_deref()).await
}

/// Changes an app's project.
async fn change(world: &World, app: &App, settings: Value) -> Value {
    let answer = as_developer(world, "PATCH", &format!("/projects/{}", app.id), Some(settings)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Projects that refuse, and how: what to set, the code, and what a client makes of the status alone.
fn refusing() -> [(Value, &'static str, &'static str); 2] {
    [
        (json!({ "public_access": false }), "PUBLIC_ACCESS_DISABLED", "PUBLIC_ACCESS_DISABLED"),
        // Which is why the code is there: by status alone the two cannot be told apart.
        (json!({ "is_active": false }), "PROJECT_INACTIVE", "PUBLIC_ACCESS_DISABLED"),
    ]
}

/// What clients that read no `code` make of a status (protocol, section 2.4).
fn code_by_status(status: u16) -> &'static str {
    match status {
        404 => "PROJECT_NOT_FOUND",
        403 => "PUBLIC_ACCESS_DISABLED",
        429 => "RATE_LIMITED",
        _ => "UNKNOWN_ERROR",
    }
}
