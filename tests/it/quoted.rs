//! What apps say of themselves stays words: a name or a host that looks like an address is sent as code, so Telegram makes
//! no link of it, in prompts, in what they become, and in answers.

use serde_json::{Value, json};

use crate::support::{ALICE, App, Options, World};

/// Looks like an address, and counts differently in bytes, characters and UTF-16.
const NAME: &str = "𝕊hop 🛍.example";
const OWNER: &str = "+15550100008";

/// The parts of a message that are code.
fn code(message: &Value) -> Vec<String> {
    let units: Vec<u16> = message["text"].as_str().unwrap().encode_utf16().collect();
    let part = |entity: &Value| {
        assert_eq!(entity["type"], "code", "{message}");
        let at = |field: &str| usize::try_from(entity[field].as_u64().unwrap()).unwrap();
        String::from_utf16(&units[at("offset")..at("offset") + at("length")]).unwrap()
    };
    message["entities"].as_array().map(|entities| entities.iter().map(part).collect()).unwrap_or_default()
}

fn id(message: &Value) -> i64 {
    message["id"].as_i64().unwrap()
}

async fn opened(world: &World, app: &App) -> (i64, Value) {
    let headers = [
        ("origin", "https://xn--80aafkjeq2bm.example"),
        ("user-agent", "Mozilla/5.0 (Windows NT 10.0) Chrome/130.0"),
        ("x-forwarded-for", "203.0.113.77"),
    ];
    let attempt = app.attempt_with(json!({}), &headers).await;
    let opened = world.open(ALICE, &attempt.link).await;
    (opened, world.answer_to(ALICE, opened).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bots_prompt_and_what_it_becomes() {
    let (world, _) = World::with_bot(Options { behind_proxy: true, ..Options::default() }).await;
    world.bot_is("ok").await;
    let app = world.app(json!({ "name": NAME })).await;
    for (button, becomes) in [("✅ Confirm", "You are signed in"), ("❌ Cancel", "You declined")] {
        let (_, prompt) = opened(&world, &app).await;
        assert_eq!(code(&prompt), [NAME, "203.0.113.x", "xn--80aafkjeq2bm.example"], "{prompt}");
        world.tap(ALICE, id(&prompt), button).await;
        let outcome = world.becomes(ALICE, id(&prompt), becomes).await;
        assert_eq!(code(&outcome), [NAME], "{outcome}");
    }
    let (_, prompt) = opened(&world, &app).await;
    world.clock.advance(std::time::Duration::from_secs(601));
    assert_eq!(code(&world.becomes(ALICE, id(&prompt), "has expired").await), [NAME]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_question_for_a_number() {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let app = world.app(json!({ "name": NAME, "req_phone": true })).await;
    let (_, prompt) = opened(&world, &app).await;
    world.tap(ALICE, id(&prompt), "✅ Confirm").await;
    let question = world.answer_to(ALICE, id(&prompt)).await;
    assert_eq!(code(&question), [NAME], "{question}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_persons_account_says() {
    let world = World::new().await;
    let owner = json!({ "phone": OWNER, "first_name": "Olga", "username": "olga_owner" });
    assert_eq!(world.sandbox.post("/api/accounts", &owner).await.status, 200);
    world.signed_in_as(OWNER).await;
    let app = world.app(json!({ "name": NAME })).await;
    let (_, prompt) = opened(&world, &app).await;
    assert_eq!(code(&prompt), [NAME, "xn--80aafkjeq2bm.example"], "{prompt}");
    let said = world.say(ALICE, "olga_owner", "yes", None).await;
    assert_eq!(code(&world.answer_to(ALICE, said).await), [NAME]);
    // Our own short answers quote nobody.
    let said = world.say(ALICE, "olga_owner", "Sign in 0123456789abcdefghjkmnpqrstv", None).await;
    assert_eq!(code(&world.answer_to(ALICE, said).await), Vec::<String>::new());
    world.end().await;
}
