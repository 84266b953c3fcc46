//! The bots of projects as projects come, change and go: a bot runs while a project has it, and no longer.

use serde_json::{Value, json};

use crate::support::{ALICE, Answer, Options, World, eventually};

const SIGN_IN: &str = "auth.importBotAuthorization";

/// Whether the bot runs: a token that Telegram has accepted from a running bot is not shown to Telegram again.
async fn runs(world: &World, token: &str) -> bool {
    let before = world.calls(SIGN_IN).await;
    let probe = world.app(json!({ "bot_token": token })).await;
    let ran = world.calls(SIGN_IN).await == before;
    let developer = world.developer().await;
    let gone = world.dev(&developer, "DELETE", &format!("/projects/{}", probe.id), None).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    ran
}

async fn change(world: &World, project: &str, change: Value) -> Answer {
    let developer = world.developer().await;
    world.dev(&developer, "PATCH", &format!("/projects/{project}"), Some(change)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_runs_while_a_project_has_it() {
    let world = World::new().await;
    let ((_, first), (second_id, second)) =
        (world.new_bot("first_bot").await, world.new_bot("second_bot").await);
    let app = world.app(json!({ "bot_token": first })).await;
    let other = world.app(json!({ "bot_token": first })).await;
    assert_eq!(world.calls(SIGN_IN).await, 1, "two projects share one bot");

    let changed = change(&world, &app.id, json!({ "bot_token": second })).await.json();
    assert_eq!((&changed["has_bot"], &changed["bot_username"]), (&json!(true), &json!("second_bot")));
    let attempt = app.attempt().await;
    assert!(attempt.link.contains("/second_bot?start="), "{attempt:?}");
    let opened = world.open(ALICE, &attempt.link).await;
    world.answer_to(ALICE, opened).await;
    assert!(runs(&world, &first).await, "the other project has it");

    let changed = change(&world, &other.id, json!({ "bot_token": null })).await.json();
    assert_eq!((&changed["has_bot"], &changed["bot_username"]), (&json!(false), &Value::Null));
    assert!(!runs(&world, &first).await, "nobody has it");
    assert!(!runs(&world, &first).await, "and the project that was there to see has not kept it");

    // One that Telegram does not know changes nothing, nor does a Telegram that cannot be asked.
    let bad = change(&world, &app.id, json!({ "name": "New", "bot_token": "77:unknown" })).await;
    assert_eq!(bad.refusal(), (400, "BOT_TOKEN_INVALID".into()));
    world.fail(SIGN_IN, "FLOOD_WAIT_30").await;
    let flooded = change(&world, &app.id, json!({ "name": "New", "bot_token": first })).await;
    assert_eq!(flooded.refusal(), (429, "FLOOD_WAIT".into()));
    world.heal().await;
    world.fail(SIGN_IN, "PLANTED_TROUBLE").await;
    let odd = change(&world, &app.id, json!({ "name": "New", "bot_token": first })).await;
    assert_eq!(odd.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    assert_eq!(odd.json()["error"], "Telegram cannot be asked about the bot_token now: try again later");
    world.heal().await;
    let developer = world.developer().await;
    let project = world.dev(&developer, "GET", &format!("/projects/{}", app.id), None).await.json();
    assert_eq!((&project["name"], &project["bot_username"]), (&json!("Test app"), &json!("second_bot")));
    assert!(runs(&world, &second).await);

    let session = world.session_folder().join(format!("bot-{second_id}.session"));
    eventually("its session is stored", || async { session.exists() }).await;
    let ended = world.calls("auth.logOut").await;
    world.dev(&developer, "DELETE", &format!("/projects/{}", app.id), None).await;
    assert!(!session.exists(), "nothing secret is kept");
    eventually("Telegram is told", || async { world.calls("auth.logOut").await > ended }).await;
    assert!(!runs(&world, &second).await, "the project is gone");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_bot_runs_whatever_projects_do() {
    let mut world = World::without_service(Options::default()).await;
    let (_, token) = world.new_bot("login_bot").await;
    world.set_bot_token(&token);
    world.start().await.unwrap();
    world.bot_is("ok").await;
    let own = world.app(json!({ "bot_token": token })).await;
    let developer = world.developer().await;
    world.dev(&developer, "DELETE", &format!("/projects/{}", own.id), None).await;
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    let opened = world.open(ALICE, &app.attempt().await.link).await;
    world.answer_to(ALICE, opened).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_leaves_neither_half_a_project_nor_a_bot_without_one() {
    let world = World::new().await;
    let (_, token) = world.new_bot("own_bot").await;
    let developer = world.developer().await;
    world.hold(SIGN_IN).await;
    let body = Some(json!({ "name": "Shop", "bot_token": token }));
    tokio::select! {
        answer = world.dev(&developer, "POST", "/projects", body) => panic!("{answer:?}"),
        () = world.faults_are_spent() => {}
    }
    world.heal().await;
    let shop = || async {
        let listed = world.dev(&developer, "GET", "/projects", None).await.json();
        listed["projects"].as_array().unwrap().iter().find(|project| project["name"] == "Shop").cloned()
    };
    eventually("the project is made to its end", || async { shop().await.is_some() }).await;
    assert_eq!(shop().await.unwrap()["bot_username"], "own_bot");
    assert!(runs(&world, &token).await);
    world.end().await;
}
