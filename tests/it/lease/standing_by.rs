//! What a process does that does not own the session: all but what needs it.

use serde_json::json;

use super::{account, becomes, sign_in, start};
use crate::support::{ALICE, Client, Options, Process, S3Server, World, eventually};

pub(super) const DEVELOPER: [(&str, &str); 2] = [
    ("CONNECTOR_BOOTSTRAP_EMAIL", "owner@example.com"),
    ("CONNECTOR_BOOTSTRAP_PASSWORD", "a long enough password"),
];

/// The header with a project's secret.
pub(super) async fn secret(client: &Client, project: &serde_json::Value) -> String {
    let token = token(client).await;
    let path = format!("/api/v1/dev/projects/{}/webhook-secret", project.as_str().unwrap());
    let answer = client.send("GET", &path, &[("authorization", &token)], None).await;
    format!("Bearer {}", answer.json()["webhook_secret"].as_str().unwrap())
}

/// The header with the developer's token.
async fn token(client: &Client) -> String {
    let login = json!({ "email": DEVELOPER[0].1, "password": DEVELOPER[1].1 });
    let answer = client.post("/api/v1/dev/login", &login).await;
    format!("Bearer {}", answer.json()["token"].as_str().unwrap())
}

/// A project of the service's developer.
pub(super) async fn project(client: &Client) -> serde_json::Value {
    let token = token(client).await;
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let answer = client.send("POST", "/api/v1/dev/projects", &headers, Some(r#"{"name":"An app"}"#)).await;
    answer.json()["id"].clone()
}

async fn poll(client: &Client, project: &serde_json::Value, token: &serde_json::Value) -> serde_json::Value {
    let body = json!({ "project_id": project, "session_token": token });
    let answer = client.post("/api/v1/verify/public", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["status"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_by_answers_what_it_can_and_says_who_answers_the_rest() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let first = start(&world, &s3, "first", &DEVELOPER);
    sign_in(&world, &first.client).await;
    becomes(&first.client, "ok").await;
    let app = project(&first.client).await;
    let asked = first.client.post("/api/v1/generate/public", &json!({ "project_id": app })).await.json();
    let second = start(&world, &s3, "second", &DEVELOPER);
    refuses(&second, &first).await;

    // The owner is paused for longer than its lease, and finds the session taken.
    first.pause();
    becomes(&second.client, "ok").await;
    first.resume();
    becomes(&first.client, "standby").await;
    becomes(&second.client, "ok").await;
    refuses(&first, &second).await;
    assert_eq!(poll(&first.client, &app, &asked["session_token"]).await, "pending");
    assert!(second.client.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(200));
    let app = project(&second.client).await;
    let asked = second.client.post("/api/v1/generate/public", &json!({ "project_id": app })).await.json();
    world.open(ALICE, asked["deeplink"].as_str().unwrap()).await;
    assert_eq!(poll(&second.client, &app, &asked["session_token"]).await, "pending");
    drop((first, second));
    world.end().await;
}

/// What `standby` refuses while `owner` owns the session.
async fn refuses(standby: &Process, owner: &Process) {
    let client = &standby.client;
    let ready = client.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["telegram"]), (200, &json!("standby")), "{ready:?}");
    let view = client.get("/sign_in").await.json();
    assert_eq!(view["state"], "standby");
    assert!(view["reason"].as_str().unwrap().contains(owner.client.url()), "{view}");
    let app = project(client).await;
    let generate = json!({ "project_id": app });
    for refused in [
        client.post("/sign_in", &json!({ "phone": ALICE })).await,
        client.post("/sign_in", &json!({ "phone": ALICE, "password": "12345" })).await,
        client.delete("/sign_in").await,
        client.post("/api/v1/generate/public", &generate).await,
    ] {
        assert_eq!(refused.refusal(), (503, "NOT_OWNER".into()));
        assert_eq!(refused.headers["retry-after"], "3");
    }
    let told = client.post("/api/v1/generate/public", &generate).await;
    assert!(!told.body.contains(owner.client.url()), "apps need not know our machines: {told:?}");
    assert_eq!(account(client).await, "standby");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_is_run_by_one_process_and_goes_on_in_the_next_without_signing_in_again() {
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let (_, token) = world.new_bot("login_bot").await;
    let settings = [&DEVELOPER[..], &[("TELEGRAM_BOT_TOKEN", token.as_str())]].concat();
    let bot = |process: &Process| {
        let client = process.client.clone();
        move |condition: &'static str| {
            let client = client.clone();
            async move {
                let now = || async { client.get("/readyz").await.json()["bot"] == condition };
                eventually(condition, now).await;
            }
        }
    };
    let first = start(&world, &s3, "first", &settings);
    bot(&first)("ok").await;
    let second = start(&world, &s3, "second", &settings);
    bot(&second)("standby").await;
    let app = project(&second.client).await;
    let generate = json!({ "project_id": app });
    let refused = second.client.post("/api/v1/generate/public", &generate).await;
    assert_eq!(refused.refusal(), (503, "NOT_OWNER".into()));
    assert_eq!(refused.headers["retry-after"], "3");

    // Paused for longer than its lease; then killed.
    first.pause();
    bot(&second)("ok").await;
    first.resume();
    bot(&first)("standby").await;
    let asked = second.client.post("/api/v1/generate/public", &generate).await.json();
    world.open(ALICE, asked["deeplink"].as_str().unwrap()).await;
    second.kill();
    bot(&first)("ok").await;
    // It was asked of the one that is gone, whose store knows the session.
    let second = start(&world, &s3, "second", &settings);
    bot(&second)("standby").await;
    assert_eq!(poll(&second.client, &app, &asked["session_token"]).await, "pending");
    first.terminate();
    bot(&second)("ok").await;
    let prompt = || async { !world.messages(ALICE, 0).await.iter().all(|message| message["out"] == true) };
    eventually("its person is asked", prompt).await;
    assert_eq!(world.calls("auth.importBotAuthorization").await, 1);
    drop((first, second));
    world.end().await;
}
