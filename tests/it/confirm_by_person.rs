//! The prompt by the signed-in user account, which Telegram gives no buttons: links with a text, answers in words, and
//! silence towards everything that is not for us, because the account belongs to a person.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{ALICE, App, BOB, World, eventually};

/// A world whose user account is Olga, and an app.
async fn world_with_app(settings: Value) -> (World, App) {
    let world = World::new().await;
    let person = "+15550100008";
    let owner = json!({ "phone": person, "first_name": "Olga", "username": "olga_owner" });
    assert_eq!(world.sandbox.post("/api/accounts", &owner).await.status, 200);
    world.signed_in_as(person).await;
    let app = world.app(settings).await;
    (world, app)
}

fn id(message: &Value) -> i64 {
    message["id"].as_i64().unwrap()
}

fn text(message: &Value) -> &str {
    message["text"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_asked_in_words_and_answers_in_words() {
    let (world, app) = world_with_app(json!({ "name": "Shop" })).await;
    for (phone, said, status, outcome) in [
        (ALICE, "✅", "confirmed", "You are signed in to Shop"),
        (ALICE, "no", "cancelled", "You declined"),
        (BOB, "Да", "confirmed", "You are signed in to Shop"),
        (BOB, "❌", "cancelled", "You declined"),
    ] {
        let attempt = app.attempt().await;
        assert!(attempt.link.starts_with("https://t.me/olga_owner?text=Sign%20in%20"), "{}", attempt.link);
        let opened = world.open(phone, &attempt.link).await;
        let prompt = world.answer_to(phone, opened).await;
        assert!(text(&prompt).starts_with("Sign in to Shop?") && text(&prompt).contains("✅"), "{prompt}");
        assert_eq!(prompt["buttons"], json!([]));
        let answer = world.say(phone, "olga_owner", said, None).await;
        assert!(text(&world.answer_to(phone, answer).await).contains(outcome));
        assert_eq!(app.poll(&attempt).await["status"], status, "{said}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_open_prompt_is_meant_unless_the_answer_replies_to_another() {
    let (world, app) = world_with_app(json!({})).await;
    let (first, second, third) = (app.attempt().await, app.attempt().await, app.attempt().await);
    let mut prompts = Vec::new();
    for attempt in [&first, &second, &third] {
        let opened = world.open(ALICE, &attempt.link).await;
        prompts.push(id(&world.answer_to(ALICE, opened).await));
    }
    let reply = world.say(ALICE, "olga_owner", "yes", Some(prompts[0])).await;
    world.answer_to(ALICE, reply).await;
    let app = &app;
    let status = |attempt| async move { app.poll(attempt).await["status"].clone() };
    assert_eq!(status(&first).await, "confirmed");
    let plain = world.say(ALICE, "olga_owner", "no", None).await;
    world.answer_to(ALICE, plain).await;
    assert_eq!(status(&third).await, "cancelled");
    assert_eq!(status(&second).await, "pending");
    // An answer to one that is decided does not fall on another.
    let late = world.say(ALICE, "olga_owner", "yes", Some(prompts[2])).await;
    assert!(text(&world.answer_to(ALICE, late).await).contains("answered already"));
    assert_eq!(status(&second).await, "pending");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_for_us_is_never_answered() {
    let (world, app) = world_with_app(json!({})).await;
    for said in [
        "Hi Olga!",
        "yes",
        "да",
        "❌",
        "42",
        "K7QM-3X0A",
        "password",
        "/start",
        "see you at 0000000000000000000000000000",
    ] {
        world.say(ALICE, "olga_owner", said, None).await;
    }
    // A link of ours, though unknown, is for us.
    let unknown =
        world.open(ALICE, "https://t.me/olga_owner?text=Sign%20in%200000000000000000000000000000").await;
    assert!(text(&world.answer_to(ALICE, unknown).await).contains("not known here"));
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    for said in ["who is this?", "wait", "yes please call me", "42", "ok", "y", "confirm"] {
        world.say(ALICE, "olga_owner", said, None).await;
    }
    // A yes to another question of the account's owner, or of anybody's.
    let earlier = world.messages(ALICE, 0).await[0]["id"].as_i64();
    world.say(ALICE, "olga_owner", "yes", earlier).await;
    assert_eq!(app.poll(&attempt).await["status"], "pending");
    let done = world.say(ALICE, "olga_owner", "yes", None).await;
    world.answer_to(ALICE, done).await;
    let answers = world
        .messages(ALICE, 0)
        .await
        .into_iter()
        .filter(|message| message["out"] == false && message["chat"]["username"] == "olga_owner");
    let texts: Vec<String> = answers.map(|message| text(&message).to_owned()).collect();
    assert_eq!(texts.len(), 3, "the unknown link, the prompt, the outcome: {texts:?}");
    assert!(id(&prompt) > 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_wanted_where_the_project_asks_for_one() {
    let (world, app) = world_with_app(json!({ "match_code": true })).await;
    let attempt = app.attempt().await;
    let right = attempt.created["match_code"].as_u64().unwrap();
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    assert!(text(&prompt).contains("Send the number") && !text(&prompt).contains(&right.to_string()));
    let yes = world.say(ALICE, "olga_owner", "yes", None).await;
    assert!(text(&world.answer_to(ALICE, yes).await).contains("send the number"));
    assert_eq!(app.poll(&attempt).await["status"], "pending");
    let number = world.say(ALICE, "olga_owner", &right.to_string(), None).await;
    world.answer_to(ALICE, number).await;
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_language_is_that_of_the_request() {
    let (world, app) = world_with_app(json!({ "name": "Shop" })).await;
    let headers = [("accept-language", "ru-RU,ru;q=0.9,en;q=0.8")];
    let attempt = app.attempt_with(json!({}), &headers).await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    assert!(text(&prompt).starts_with("Войти в Shop?"), "{prompt}");
    let answer = world.say(ALICE, "olga_owner", "да", None).await;
    assert!(text(&world.answer_to(ALICE, answer).await).contains("Вы вошли в Shop"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_code_and_an_expired_prompt_work_for_a_person_too() {
    let (world, app) = world_with_app(json!({ "name": "Shop" })).await;
    let attempt = app.attempt().await;
    let code = attempt.created["typed_code"].as_str().unwrap().to_owned();
    let typed = world.say(ALICE, "olga_owner", &code, None).await;
    let prompt = world.answer_to(ALICE, typed).await;
    world.clock.advance(Duration::from_secs(601));
    world.becomes(ALICE, id(&prompt), "has expired").await;
    assert_eq!(app.poll(&attempt).await, json!({ "status": "expired" }));
    // Nothing is open any more, so a late yes is somebody's yes to a person.
    let before = world.messages(ALICE, 0).await.len();
    let late = world.say(ALICE, "olga_owner", "yes", None).await;
    let again = app.attempt().await;
    let opened = world.open(ALICE, &again.link).await;
    world.answer_to(ALICE, opened).await;
    let after = world.messages(ALICE, 0).await.len();
    assert_eq!(after - before, 3, "the late yes {late}, the link, the prompt");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_username_is_in_the_next_link() {
    let (world, app) = world_with_app(json!({})).await;
    let body = json!({ "username": "olga_renamed" });
    let renamed = world.sandbox.post("/api/accounts/+15550100008/username", &body).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    eventually("the new name", || async { app.attempt().await.link.contains("/olga_renamed?") }).await;
    let attempt = app.attempt().await;
    let opened = world.open(BOB, &attempt.link).await;
    world.answer_to(BOB, opened).await;
    world.end().await;
}
