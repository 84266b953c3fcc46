//! The secret of a project: replaced at once or with a time of grace, read by its owner only, in no log.

use std::time::Duration;

use serde_json::{Value, json};

use crate::projects::{confirm, fields, world_with_app};
use crate::support::{App, Client, Options, Process, World};

/// A proof of a fresh sign-in.
async fn proof(world: &World, app: &App) -> String {
    let attempt = app.attempt().await;
    confirm(world, &attempt).await;
    app.wait(&attempt).await["proof"].as_str().unwrap().to_owned()
}

fn with_secret(app: &App, secret: &Value) -> App {
    App { secret: secret.as_str().unwrap().to_owned(), ..app.at(&app.service) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_secret_dies_at_once() {
    let (world, old, token) = world_with_app().await;
    let proof = proof(&world, &old).await;
    let path = format!("/projects/{}/regenerate", old.id);
    let answer = world.dev(&token, "POST", &path, Some(json!({}))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!(fields(&answer), ["secret_key", "id", "project_id"].into());
    assert_eq!((&answer["id"], &answer["project_id"]), (&json!(old.id), &json!(old.id)));
    let new = with_secret(&old, &answer["secret_key"]);
    assert!(new.secret != old.secret && new.secret.starts_with("sk_test_"));
    assert_eq!(old.consume_proof(&proof).await.refusal(), (401, "UNAUTHORIZED".into()));
    assert_eq!(new.consume_proof(&proof).await.refusal(), (400, "INVALID_PROOF".into()));
    let again = world.dev(&token, "POST", &path, None).await;
    assert_eq!(again.status, 200, "without a body: {again:?}");
    assert_ne!(again.json()["secret_key"], new.secret);
    for grace in [json!(-1), json!(604_801), json!("60"), json!(1.5)] {
        let answer = world.dev(&token, "POST", &path, Some(json!({ "grace_seconds": grace }))).await;
        assert_eq!(answer.refusal(), (400, "INVALID_REQUEST".into()), "{grace}");
    }
    for (shape, told) in [
        (Value::Null, "expected an object"),
        (json!([60]), "expected an object"),
        (json!({ "grace_seconds": "60" }), "`grace_seconds`: expected a whole number, not negative"),
    ] {
        let answer = world.dev(&token, "POST", &path, Some(shape)).await;
        assert_eq!(answer.json(), json!({ "error": told, "code": "INVALID_REQUEST" }));
    }
    let bearer = format!("Bearer {token}");
    let plain = [("authorization", bearer.as_str()), ("content-type", "text/plain")];
    let path = format!("/api/v1/dev{path}");
    let answer = world.service.send("POST", &path, &plain, Some("{\"grace_seconds\":60}")).await;
    assert_eq!(answer.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".into()));
    let answer = world.service.send("POST", &path, &plain[..1], None).await;
    assert_eq!(answer.status, 200, "neither a body nor a content type: {answer:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_grace_the_secret_before_verifies_proofs_for_a_while_and_opens_nothing() {
    let (mut world, old, token) = world_with_app().await;
    let (first, second, third) =
        (proof(&world, &old).await, proof(&world, &old).await, proof(&world, &old).await);
    let path = format!("/projects/{}", old.id);
    let grace = json!({ "grace_seconds": 120 });
    let answer = world.dev(&token, "POST", &format!("{path}/regenerate"), Some(grace)).await.json();
    let new = with_secret(&old, &answer["secret_key"]);
    for call in ["/api/v1/verify", "/api/v1/generate", "/api/v1/cancel"] {
        let body = json!({ "project_id": old.id, "session_token": "x" });
        assert_eq!(old.call_keyed(call, &body).await.refusal(), (401, "UNAUTHORIZED".into()), "{call}");
    }
    world.restart().await;
    let new = new.at(&world.service);
    let consumed = new.consume_proof(&first).await;
    assert_eq!(consumed.json()["status"], "confirmed", "{consumed:?}");
    // Proofs are made anew at each reading, with the present secret.
    let fresh = consumed.json()["proof"].as_str().unwrap().to_owned();
    assert_eq!(new.consume_proof(&fresh).await.json(), json!({ "status": "used" }));
    // The clock goes on by itself, too: some seconds of the grace are left for that.
    world.clock.advance(Duration::from_secs(100));
    assert_eq!(new.consume_proof(&second).await.json()["status"], "confirmed");
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(new.consume_proof(&third).await.refusal(), (400, "INVALID_PROOF".into()), "its time is over");

    // The same with a secret that is brought.
    let brought = "whsec_brought-brought-brought-brought";
    let change = json!({ "secret_key": brought, "grace_seconds": 60 });
    let proof = proof(&world, &new).await;
    let answer = world.dev(&token, "PATCH", &path, Some(change.clone())).await;
    assert!(answer.status == 200 && !answer.body.contains(brought), "{answer:?}");
    assert_eq!(answer.json()["secret_key"], "whsec_••••••••ught");
    let again = world.dev(&token, "PATCH", &path, Some(change)).await;
    assert_eq!(again.status, 200, "a repetition is no second rotation");
    assert_eq!(new.consume_proof(&proof).await.refusal(), (401, "UNAUTHORIZED".into()));
    let brought = with_secret(&new, &brought.into());
    assert_eq!(brought.consume_proof(&proof).await.json()["status"], "confirmed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grace_ends_when_its_owner_says_so_and_a_secret_may_have_spaces() {
    let (world, old, token) = world_with_app().await;
    let (first, second) = (proof(&world, &old).await, proof(&world, &old).await);
    let path = format!("/projects/{}", old.id);
    let phrase = "correct horse battery staple, again";
    let change = json!({ "secret_key": phrase, "grace_seconds": 120 });
    assert_eq!(world.dev(&token, "PATCH", &path, Some(change)).await.status, 200);
    let new = with_secret(&old, &phrase.into());
    assert_eq!(new.consume_proof(&first).await.json()["status"], "confirmed");
    let nothing = world.dev(&token, "PATCH", &path, Some(json!({ "name": "Shop" }))).await;
    assert_eq!(nothing.status, 200, "what says nothing of it leaves it: {nothing:?}");
    let over = world.dev(&token, "PATCH", &path, Some(json!({ "grace_seconds": 0 }))).await;
    assert_eq!(over.status, 200, "{over:?}");
    assert_eq!(new.consume_proof(&second).await.refusal(), (400, "INVALID_PROOF".into()));
    assert_eq!(new.consume_proof(&proof(&world, &new).await).await.json()["status"], "confirmed");
    for weak in [format!("{phrase} "), format!(" {phrase}")] {
        let answer = world.dev(&token, "PATCH", &path, Some(json!({ "secret_key": weak }))).await;
        assert_eq!(answer.refusal(), (400, "WEAK_SECRET".into()));
    }
    world.end().await;
}

/// A call to a service process.
async fn call(client: &Client, token: &str, method: &str, path: &str, body: Value) -> Value {
    let bearer = format!("Bearer {token}");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let answer = client.send(method, &format!("/api/v1/dev{path}"), &headers, Some(&body.to_string())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_replaces_or_deletes_what_is_logged_and_no_secret_is() {
    let world = World::without_service(Options::default()).await;
    let (data, sessions) = (world.folder.path().join("data"), world.session_folder());
    let (store, sandbox) =
        (format!("file:{}", sessions.display()), format!("--sandbox={}", world.sandbox.url()));
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox];
    let environment = [
        ("RUST_LOG", "trace"),
        ("CONNECTOR_BOOTSTRAP_EMAIL", "planted@example.com"),
        ("CONNECTOR_BOOTSTRAP_PASSWORD", "planted-password"),
    ];
    let process = Process::start(&[&arguments[..], &["--session-store", &store]].concat(), &environment);
    let client = process.client.clone();
    let login = json!({ "email": "planted@example.com", "password": "planted-password" });
    let login = client.post("/api/v1/dev/login", &login).await.json();
    let token = login["token"].as_str().unwrap();
    let (_, bot) = world.new_bot("shop_bot").await;
    let webhook = "https://shop.example/hook?key=planted-in-url";
    let new = json!({ "name": "Shop", "bot_token": bot, "webhook_url": webhook });
    let created = call(&client, token, "POST", "/projects", new).await;
    let path = format!("/projects/{}", created["id"].as_str().unwrap());
    call(&client, token, "GET", &format!("{path}/webhook-secret"), Value::Null).await;
    let fresh =
        call(&client, token, "POST", &format!("{path}/regenerate"), json!({ "grace_seconds": 60 })).await;
    let brought = "planted-planted-planted-planted-planted";
    for _ in 0..2 {
        // The second time it is there already, and is not replaced.
        let change = json!({ "secret_key": brought, "webhook_url": webhook });
        call(&client, token, "PATCH", &path, change).await;
    }
    call(&client, token, "DELETE", &path, Value::Null).await;
    let log = process.kill();
    for (event, times) in [
        ("project.created", 1),
        ("project.secret_revealed", 1),
        ("project.secret_rotated", 2),
        ("project.changed", 0),
        ("project.deleted", 1),
    ] {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told: Vec<Value> = lines.filter(|line| line["event"] == event).collect();
        assert_eq!(told.len(), times, "{event}");
        for line in told {
            assert!(line["developer"].as_str().unwrap().starts_with("dev_"), "{line}");
            assert_eq!(line["project"], created["id"], "{line}");
        }
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for secret in [
        "planted".to_owned(),
        token.to_owned(),
        text(&created["secret_key"]),
        text(&fresh["secret_key"]),
        bot.split(':').nth(1).unwrap().to_owned(),
    ] {
        assert!(!log.contains(&secret), "{secret} is in the log");
        let bytes = secret.as_bytes();
        assert_eq!(crate::support::files_with(&data, bytes), Vec::<std::path::PathBuf>::new(), "{secret}");
    }
    world.end().await;
}
