//! `CONNECTOR_PROJECTS`: projects that a file asks for, applied at each start, and the files that stop it.

use std::path::PathBuf;

use serde_json::{Value, json};
use telegram_connector::app::StartError;
use telegram_connector::domain::developer::Email;
use telegram_connector::domain::ids::Secret;

use crate::support::{ALICE, App, Options, World};

const SECRET: &str = "planted-planted-planted-planted-planted";

fn write(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A world whose service reads `projects.toml`; nothing is started.
async fn world_with_file(text: &str) -> World {
    let mut world = World::without_service(Options::default()).await;
    write(&world, "secret", &format!("{SECRET}\n"));
    let path = write(&world, "projects.toml", text);
    world.apps().projects = Some(path);
    world
}

async fn refusal(world: &mut World) -> String {
    let error = world.start().await.unwrap_err();
    assert!(matches!(error, StartError::Projects(_)), "{error}");
    let told = error.to_string();
    assert!(told.contains("CONNECTOR_PROJECTS") && !told.contains("planted"), "{told}");
    told
}

async fn project(world: &World, id: &str) -> Value {
    let token = world.developer().await;
    world.dev(&token, "GET", &format!("/projects/{id}"), None).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_makes_projects_that_sign_people_in_and_changes_them_at_the_next_start() {
    let text = "[[project]]\nid = \"proj_shop\"\nname = \"Shop\"\nsecret_file = \"secret\"\n\
                webhook_url = \"https://shop.example/hook\"\nbot_token_file = \"bot\"\nmatch_code = false\n\
                [[project]]\nid = \"proj_bare\"\nname = \"Bare\"\n";
    let mut world = world_with_file(text).await;
    let (bot_id, bot) = world.new_bot("shop_bot").await;
    write(&world, "bot", &bot);
    world.start().await.unwrap();
    let shop = project(&world, "proj_shop").await;
    assert_eq!((&shop["name"], &shop["has_bot"]), (&json!("Shop"), &json!(true)));
    assert_eq!(shop["webhook_url"], "https://shop.example/hook");
    let app = App { service: world.service.clone(), id: "proj_shop".into(), secret: SECRET.into() };
    let body = json!({ "project_id": app.id });
    let up = || async { app.call("/api/v1/generate/public", &body, &[]).await.status == 200 };
    crate::support::eventually("the bot has signed in", up).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
    world.tap(ALICE, prompt, "✅ Confirm").await;
    app.wait(&attempt).await;
    assert_eq!(app.consume(&attempt).await["status"], "confirmed", "with the secret of the file");

    // What the file names, wins over what was changed since; what it leaves out stays.
    let token = world.developer().await;
    let changed = json!({ "name": "Renamed", "public_access": false, "client_timestamps": "unix_ms" });
    world.dev(&token, "PATCH", "/projects/proj_shop", Some(changed)).await;
    let bare = project(&world, "proj_bare").await;
    write(
        &world,
        "projects.toml",
        &text.replace("match_code = false", "match_code = true\nbot_token_file = \"\"").replacen(
            "bot_token_file = \"bot\"\n",
            "",
            1,
        ),
    );
    let session = world.session_folder().join(format!("bot-{bot_id}.session"));
    crate::support::eventually("the bot's session is stored", || async { session.exists() }).await;
    world.restart().await;
    assert!(!session.exists(), "nobody has the bot any more");
    let shop = project(&world, "proj_shop").await;
    assert_eq!(shop["name"], "Shop");
    assert_eq!((&shop["public_access"], &shop["client_timestamps"]), (&json!(false), &json!("unix_ms")));
    assert_eq!((&shop["match_code"], &shop["has_bot"]), (&json!(true), &json!(false)));
    assert_eq!(project(&world, "proj_bare").await, bare, "its secret too");
    let secret = world.dev(&token, "GET", "/projects/proj_shop/webhook-secret", None).await.json();
    assert_eq!(secret["webhook_secret"], SECRET);

    // A new secret in the file replaces the one before.
    write(&world, "secret", &SECRET.replace("planted", "changed"));
    world.restart().await;
    let secret = world.dev(&token, "GET", "/projects/proj_shop/webhook-secret", None).await.json();
    assert_eq!(secret["webhook_secret"], SECRET.replace("planted", "changed"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_mistakes_stops_the_start_and_tells_all_of_them() {
    let mut world = world_with_file(
        "[[project]]\nid = \"proj_a\"\nname = \"A\"\ncolour = \"red\"\nsecret_file = \"nothere\"\n\
         [[project]]\nid = \"b\"\nname = \"\"\nbot_token = \"planted\"\n\
         [[project]]\nid = \"proj_c\"\nname = \"C\"\nwebhook_url = \"https://127.0.0.1/\"\n",
    )
    .await;
    let told = refusal(&mut world).await;
    for expected in [
        "proj_a: unknown key `colour`",
        "proj_a: `secret_file`",
        "b: `id` is proj_",
        "b: `name` has 1 to 64",
        "b: unknown key `bot_token`",
        "proj_c: 127.0.0.1 is not a public address",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    write(&world, "projects.toml", "[[project]]\nsecret = \"planted");
    assert!(refusal(&mut world).await.contains("line 2"));
    let missing = world.folder.path().join("projects.toml");
    std::fs::remove_file(missing).unwrap();
    assert!(refusal(&mut world).await.contains("cannot be read"));
    write(&world, "projects.toml", "[[project]]\nid = \"proj_a\"\nname = \"A\"\n");
    world.start().await.unwrap();
    let token = world.developer().await;
    let listed = world.dev(&token, "GET", "/projects", None).await.json();
    assert_eq!(listed["projects"].as_array().unwrap().len(), 2, "the demo, A, and nothing of the bad files");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_belong_to_the_bootstrap_developer_and_are_not_taken_from_others() {
    let mut world =
        world_with_file("[[project]]\nid = \"proj_a\"\nname = \"A\"\nbot_token_file = \"bot\"\n").await;
    // A bot that Telegram does not know, or cannot be asked about, is no reason not to start.
    write(&world, "bot", "77:unknown-to-telegram");
    world.apps().demo = false;
    assert!(world.start().await.unwrap_err().to_string().contains("CONNECTOR_BOOTSTRAP_EMAIL"));
    let password = || Secret::new("a-long-password".to_owned());
    world.apps().bootstrap = Some((Email::parse("ops@example.com").unwrap(), password()));
    world.start().await.unwrap();
    let login = json!({ "email": "ops@example.com", "password": "a-long-password" });
    let login = world.service.post("/api/v1/dev/login", &login).await.json();
    let listed = world.dev(login["token"].as_str().unwrap(), "GET", "/projects", None).await.json();
    assert_eq!(
        (&listed["projects"][0]["id"], &listed["projects"][0]["has_bot"]),
        (&json!("proj_a"), &json!(true))
    );
    world.stop().await;
    world.apps().bootstrap = Some((Email::parse("eve@example.com").unwrap(), password()));
    assert!(refusal(&mut world).await.contains("proj_a: there is a project of another developer"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_the_file_that_was_deleted_does_not_stop_the_next_start() {
    let mut world = world_with_file("[[project]]\nid = \"proj_a\"\nname = \"A\"\n").await;
    world.start().await.unwrap();
    let token = world.developer().await;
    assert_eq!(world.dev(&token, "DELETE", "/projects/proj_a", None).await.status, 200);
    world.restart().await;
    world.end().await;
}
