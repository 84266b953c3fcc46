//! kill -9 and cut connections between the steps of a sign-in: nothing lost, nothing sent twice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{ALICE, App, BOB, Client, Options, Process, World, eventually};

const OWNER: &str = "+15550100008";

/// A service process that joins the world's sandbox over the network, in the world's folders.
fn service(world: &World, bot_token: Option<&str>) -> Process {
    let folder = world.folder.path();
    let (data, sessions) = (folder.join("data"), format!("file:{}", world.session_folder().display()));
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox];
    let mut environment = vec![
        ("CONNECTOR_BOOTSTRAP_EMAIL", "demo@example.com"),
        ("CONNECTOR_BOOTSTRAP_PASSWORD", "demo-password"),
    ];
    environment.extend(bot_token.map(|token| ("TELEGRAM_BOT_TOKEN", token)));
    Process::start(&[&arguments[..], &["--session-store", &sessions]].concat(), &environment)
}

async fn ready(client: &Client, part: &str) {
    let state = || async { client.get("/readyz").await.json()[part].clone() };
    eventually(part, || async { state().await == "ok" }).await;
}

/// Who delivers the prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    DefaultBot,
    OwnBot,
    Person,
}

/// The whole flow with kill -9 between prompt and answer, and between answer and poll.
async fn survives(by: By) {
    let mut world = World::without_service(Options::default()).await;
    let default_bot = (by == By::DefaultBot).then_some(world.new_bot("login_bot").await.1);
    let own_bot = (by == By::OwnBot).then_some(world.new_bot("shop_login_bot").await.1);
    let token = default_bot.as_deref();
    let mut process = service(&world, token);
    world.service = process.client.clone();
    if by == By::Person {
        let owner = json!({ "phone": OWNER, "first_name": "Olga", "username": "olga_owner" });
        assert_eq!(world.sandbox.post("/api/accounts", &owner).await.status, 200);
        world.signed_in_as(OWNER).await;
    }
    let settings = own_bot.map_or(json!({}), |token| json!({ "bot_token": token }));
    let app = world.app(settings).await;
    if by == By::DefaultBot {
        ready(&process.client, "bot").await;
    }
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    let prompt_id = prompt["id"].as_i64().unwrap();
    process.kill();

    process = service(&world, token);
    let app = app.at(&process.client);
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));
    if by != By::Person {
        // Its name is remembered: a new link needs no call first.
        assert_eq!(app.attempt().await.link.split('?').next(), attempt.link.split('?').next());
    }
    if by == By::Person {
        ready(&process.client, "telegram").await;
        world.say(ALICE, "olga_owner", "yes", None).await;
    } else {
        // A tap that Telegram drops while the bot is away works once it is back.
        let tapped = || async { world.try_tap(ALICE, prompt_id, "✅ Confirm").await.status == 200 };
        eventually("a tap is answered", tapped).await;
    }
    let confirmed = app.wait(&attempt).await;
    assert_eq!(confirmed["status"], "confirmed");
    process.kill();

    process = service(&world, token);
    let app = app.at(&process.client);
    let confirmed = app.poll(&attempt).await;
    assert_eq!((&confirmed["status"], &confirmed["telegram_name"]), (&json!("confirmed"), &json!("Alice")));
    let proof = confirmed["proof"].as_str().unwrap();
    assert_eq!(app.consume_proof(proof).await.json()["status"], "confirmed");
    process.kill();

    process = service(&world, token);
    let app = app.at(&process.client);
    assert_eq!(app.consume_proof(proof).await.json(), json!({ "status": "used" }));
    let outcome = "You are signed in";
    let said = || async {
        world
            .messages(ALICE, opened)
            .await
            .iter()
            .any(|message| message["text"].as_str().unwrap().contains(outcome))
    };
    eventually("the outcome is told", said).await;
    let prompts = |messages: &[Value]| {
        messages
            .iter()
            .filter(|message| message["text"].as_str().unwrap().contains("only if you started"))
            .count()
    };
    let messages = world.messages(ALICE, opened).await;
    // A bot turns the prompt into the outcome; a person says it in another message.
    let expected = if by == By::Person { (1, 3) } else { (0, 1) };
    assert_eq!((prompts(&messages), messages.len()), expected, "nothing twice: {messages:?}");
    drop(process);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_between_prompt_tap_and_poll_with_the_default_bot() {
    survives(By::DefaultBot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_between_prompt_tap_and_poll_with_a_projects_own_bot() {
    survives(By::OwnBot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_between_prompt_answer_and_poll_with_the_user_account() {
    survives(By::Person).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_while_the_service_is_away_is_taken_up() {
    let mut world = World::without_service(Options::default()).await;
    let (_, token) = world.new_bot("login_bot").await;
    let process = service(&world, Some(&token));
    world.service = process.client.clone();
    let app = world.app(json!({})).await;
    ready(&process.client, "bot").await;
    let (first, second) = (app.attempt().await, app.attempt().await);
    let opened = world.open(ALICE, &first.link).await;
    world.answer_to(ALICE, opened).await;
    process.kill();
    // A yes for the one that is open, and a link that nobody has seen yet.
    world.say(ALICE, "login_bot", "yes", None).await;
    let late = world.open(BOB, &second.link).await;
    let process = service(&world, Some(&token));
    let app = app.at(&process.client);
    assert_eq!(app.wait(&first).await["status"], "confirmed");
    world.answer_to(BOB, late).await;
    world.say(BOB, "login_bot", "no", None).await;
    assert_eq!(app.wait(&second).await["status"], "cancelled");
    drop(process);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_sent_exactly_once_when_the_answer_to_sending_it_is_lost() {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    world.fault(json!({ "cut_instead_of_answer": "messages.sendMessage", "times": 1 })).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    let tapped =
        || async { world.try_tap(ALICE, prompt["id"].as_i64().unwrap(), "✅ Confirm").await.status == 200 };
    eventually("a tap is answered", tapped).await;
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");
    let prompt = world.becomes(ALICE, prompt["id"].as_i64().unwrap(), "You are signed in").await;
    let messages = world.messages(ALICE, opened).await;
    assert_eq!(messages, [prompt], "one prompt, and nothing else");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_words_counts_when_the_answer_to_sending_the_prompt_is_lost() {
    for by in [By::DefaultBot, By::Person] {
        let (world, to) = if by == By::DefaultBot {
            let (world, _) = World::with_bot(Options::default()).await;
            world.bot_is("ok").await;
            (world, "login_bot")
        } else {
            let world = World::new().await;
            let owner = json!({ "phone": OWNER, "first_name": "Olga", "username": "olga_owner" });
            assert_eq!(world.sandbox.post("/api/accounts", &owner).await.status, 200);
            world.signed_in_as(OWNER).await;
            (world, "olga_owner")
        };
        let app = world.app(json!({})).await;
        world.fault(json!({ "cut_instead_of_answer": "messages.sendMessage", "times": 1 })).await;
        let attempt = app.attempt().await;
        let opened = world.open(ALICE, &attempt.link).await;
        world.answer_to(ALICE, opened).await;
        world.say(ALICE, to, "yes", None).await;
        assert_eq!(app.wait(&attempt).await["status"], "confirmed", "{by:?}");
        world.end().await;
    }
}

/// 200 sign-ins while every connection is cut after every message, and now and then instead of the answer to one: all
/// decided, no prompt twice.
#[tokio::test(flavor = "multi_thread")]
async fn sign_ins_are_decided_although_every_message_is_followed_by_a_cut() {
    const SIGN_INS: usize = 200;
    const PEOPLE: usize = 10;
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    for n in 0..PEOPLE {
        let person = json!({ "phone": phone(n), "first_name": format!("Person {n}") });
        assert_eq!(world.sandbox.post("/api/accounts", &person).await.status, 200);
    }
    let people = (0..PEOPLE).map(|n| sign_in_again_and_again(&world, &app, n, SIGN_INS / PEOPLE));
    futures_util::future::join_all(people).await;
    world.heal().await;
    for n in 0..PEOPLE {
        let mut answers = BTreeMap::new();
        for message in world.messages(&phone(n), 0).await.iter().filter(|message| message["out"] == false) {
            *answers.entry(message["reply_to"].as_i64()).or_insert(0) += 1;
        }
        assert!(answers.values().all(|times| *times == 1), "person {n}: answered twice: {answers:?}");
        assert_eq!(answers.len(), SIGN_INS / PEOPLE, "person {n}: every link was answered");
    }
    world.end().await;
}

fn phone(n: usize) -> String {
    format!("+155502{n:05}")
}

/// One person's sign-ins, one after another; every third is cancelled.
async fn sign_in_again_and_again(world: &World, app: &App, n: usize, times: usize) {
    let cut = || world.fault(json!({ "disconnect": "now" }));
    for round in 0..times {
        let (button, status) =
            if round % 3 == 2 { ("❌ Cancel", "cancelled") } else { ("✅ Confirm", "confirmed") };
        if round % 5 == 0 {
            world.fault(json!({ "cut_instead_of_answer": "messages.sendMessage", "times": 1 })).await;
        }
        let attempt = app.attempt().await;
        let opened = world.open(&phone(n), &attempt.link).await;
        cut().await;
        let prompt = world.answer_to(&phone(n), opened).await["id"].as_i64().unwrap();
        cut().await;
        // A tap that Telegram drops while the bot is away is tapped again, sooner than Telegram says that it was dropped.
        let decided = || async {
            let phone = phone(n);
            let tap = world.try_tap(&phone, prompt, button);
            drop(tokio::time::timeout(Duration::from_millis(500), tap).await);
            app.poll(&attempt).await["status"] == status
        };
        eventually(status, decided).await;
        cut().await;
    }
}
