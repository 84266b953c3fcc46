//! A person opens the link, a bot asks, the person decides, the app learns of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{ALICE, BOB, Options, World, eventually, jwt_part};

const CONFIRM: &str = "✅ Confirm";
const CANCEL: &str = "❌ Cancel";

/// A world with a default bot, and an app.
fn id(message: &Value) -> i64 {
    message["id"].as_i64().unwrap()
}

fn text(message: &Value) -> &str {
    message["text"].as_str().unwrap()
}

fn buttons(message: &Value) -> Vec<String> {
    let rows = message["buttons"].as_array().unwrap().iter();
    rows.flat_map(|row| row.as_array().unwrap()).map(|one| one["text"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_on_confirm_gives_the_app_a_proof_that_is_good_once() {
    let (world, app) = World::with_app(Options::default(), json!({ "name": "Shop" })).await;
    let attempt = app.attempt_with(json!({ "nonce": "n-0S6_WzA2Mj" }), &[]).await;
    assert!(attempt.link.starts_with("https://t.me/login_bot?start="));
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));

    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    assert!(text(&prompt).starts_with("Sign in to Shop?"), "{prompt}");
    assert!(text(&prompt).contains("Confirm only if you started this yourself just now."));
    assert_eq!(buttons(&prompt), [CONFIRM, CANCEL]);
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));

    assert_eq!(world.tap(ALICE, id(&prompt), CONFIRM).await, ("Signed in".to_owned(), false));
    let confirmed = app.poll(&attempt).await;
    let person = json!({ "name": "Alice", "username": "alice_sandbox" });
    assert_eq!(confirmed["status"], "confirmed");
    assert_eq!(confirmed["telegram_name"], person["name"]);
    assert_eq!(confirmed["telegram_username"], person["username"]);
    assert_eq!(confirmed["telegram_phone"], Value::Null);
    assert_eq!((&confirmed["project_id"], &confirmed["project_name"]), (&json!(app.id), &json!("Shop")));
    assert_eq!(confirmed["id"], attempt.id());
    assert!(confirmed["telegram_id"].as_str().unwrap().parse::<i64>().is_ok(), "a string of digits");
    let outcome = world.becomes(ALICE, id(&prompt), "You are signed in to Shop").await;
    assert_eq!((buttons(&outcome), &outcome["edited"]), (vec![], &json!(true)));

    // Polls may overlap: asking again changes nothing.
    let again = app.poll(&attempt).await;
    assert_eq!((&again["status"], &again["id"]), (&confirmed["status"], &confirmed["id"]));

    let proof = confirmed["proof"].as_str().unwrap();
    let claims = jwt_part(proof, 1);
    assert_eq!(jwt_part(proof, 0)["alg"], "HS256");
    assert_eq!(claims["nonce"], "n-0S6_WzA2Mj");
    assert_eq!((&claims["session_token"], &claims["sandbox"]), (&json!(attempt.token), &json!(true)));

    let used = app.consume_proof(proof).await.json();
    assert_eq!((&used["status"], &used["telegram_id"]), (&json!("confirmed"), &confirmed["telegram_id"]));
    assert_eq!(app.consume_proof(proof).await.json(), json!({ "status": "used" }));
    assert_eq!(app.consume(&attempt).await, json!({ "status": "used" }));
    assert_eq!(app.poll(&attempt).await, json!({ "status": "used" }));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_on_cancel_is_told_and_cannot_be_taken_back() {
    let (world, app) = World::with_app(Options::default(), json!({ "name": "Shop" })).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    assert_eq!(world.tap(ALICE, id(&prompt), CANCEL).await, ("Declined".to_owned(), false));
    let cancelled = app.poll(&attempt).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["cancelled_at"].as_i64().is_some(), "an integer: {cancelled}");
    assert_eq!(cancelled.as_object().unwrap().len(), 2, "nothing else: {cancelled}");
    let outcome = world.becomes(ALICE, id(&prompt), "You declined").await;
    assert_eq!(buttons(&outcome), Vec::<String>::new());
    assert_eq!(app.consume(&attempt).await["status"], "cancelled");

    // The link is spent.
    let opened = world.open(ALICE, &attempt.link).await;
    assert!(text(&world.answer_to(ALICE, opened).await).contains("answered already"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_decides_expires_and_its_prompt_says_so() {
    let (world, app) = World::with_app(Options::default(), json!({ "name": "Shop" })).await;
    let (attempt, unopened) = (app.attempt().await, app.attempt().await);
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    world.clock.advance(Duration::from_secs(570));
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));
    world.clock.advance(Duration::from_secs(31));
    for attempt in [&attempt, &unopened] {
        assert_eq!(app.poll(attempt).await, json!({ "status": "expired" }));
    }
    let outcome = world.becomes(ALICE, id(&prompt), "has expired").await;
    assert_eq!(buttons(&outcome), Vec::<String>::new());
    let opened = world.open(ALICE, &unopened.link).await;
    assert!(text(&world.answer_to(ALICE, opened).await).contains("expired"));
    assert_eq!(app.consume(&attempt).await, json!({ "status": "expired" }));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_tap_gets_an_alert_and_changes_nothing() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    // The edit that takes the buttons away is held back, so that there is something to tap.
    world.fault(json!({ "method": "messages.editMessage", "error": "INTERNAL" })).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    world.tap(ALICE, id(&prompt), CONFIRM).await;
    let (said, alert) = world.tap(ALICE, id(&prompt), CANCEL).await;
    assert_eq!((said.contains("answered already"), alert), (true, true), "{said}");
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");
    world.heal().await;
    world.becomes(ALICE, id(&prompt), "You are signed in").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_to_open_a_link_owns_it() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    let too_late = world.open(BOB, &attempt.link).await;
    let answer = world.answer_to(BOB, too_late).await;
    assert!(text(&answer).contains("already opened by another account"), "{answer}");
    assert_eq!(buttons(&answer), Vec::<String>::new());
    // Bob's yes is nothing to anybody.
    world.say(BOB, "login_bot", "yes", None).await;
    // Opening it again shows the owner where the question is.
    let again = world.open(ALICE, &attempt.link).await;
    let pointer = world.answer_to(ALICE, again).await;
    assert!(text(&pointer).contains("asked above"), "{pointer}");
    assert_eq!(app.poll(&attempt).await["status"], "pending");
    world.tap(ALICE, id(&prompt), CONFIRM).await;
    assert_eq!(app.poll(&attempt).await["telegram_name"], "Alice");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_lead_nowhere_get_a_kind_answer_and_other_starts_none() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let unknown = world.open(ALICE, "https://t.me/login_bot?start=0000000000000000000000000000").await;
    assert!(text(&world.answer_to(ALICE, unknown).await).contains("not known here"));
    // The owner of the bot may use /start for other things.
    for theirs in ["/start", "/start ref_42", "/help", "hello", "password"] {
        world.say(ALICE, "login_bot", theirs, None).await;
    }
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    world.answer_to(ALICE, opened).await;
    let messages = world.messages(ALICE, unknown).await;
    let answers = messages.iter().filter(|message| message["out"] == false).count();
    assert_eq!(answers, 2, "one for the unknown link, one prompt: {messages:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_understands_words_too() {
    let (world, app) = World::with_app(Options::default(), json!({ "name": "Shop" })).await;
    for (said, status, outcome) in
        [("yes", "confirmed", "You are signed in"), ("Нет", "cancelled", "You declined")]
    {
        let attempt = app.attempt().await;
        let opened = world.open(ALICE, &attempt.link).await;
        let prompt = world.answer_to(ALICE, opened).await;
        let answer = world.say(ALICE, "login_bot", said, None).await;
        assert!(text(&world.answer_to(ALICE, answer).await).contains(outcome));
        assert_eq!(app.poll(&attempt).await["status"], status);
        let prompt = world.becomes(ALICE, id(&prompt), outcome).await;
        assert_eq!(buttons(&prompt), Vec::<String>::new());
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_code_does_what_the_link_does() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    let attempt = app.attempt().await;
    let code = attempt.created["typed_code"].as_str().unwrap();
    assert_eq!(code.len(), 9, "{code}");
    // A bot may only write to who has started it.
    world.say(ALICE, "login_bot", "/start", None).await;
    let typed = world.say(ALICE, "login_bot", &code.to_lowercase(), None).await;
    let prompt = world.answer_to(ALICE, typed).await;
    world.tap(ALICE, id(&prompt), CONFIRM).await;
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_that_the_browser_shows_confirms_and_another_cancels() {
    let (world, app) = World::with_app(Options::default(), json!({ "match_code": true })).await;
    for right in [true, false] {
        let attempt = app.attempt().await;
        let shown = attempt.created["match_code"].as_u64().unwrap().to_string();
        let opened = world.open(ALICE, &attempt.link).await;
        let prompt = world.answer_to(ALICE, opened).await;
        let offered = buttons(&prompt);
        assert_eq!(offered.len(), 4, "three numbers and {CANCEL}: {offered:?}");
        let chosen = offered.iter().find(|one| (**one == shown) == right).unwrap();
        world.tap(ALICE, id(&prompt), chosen).await;
        let status = app.poll(&attempt).await["status"].clone();
        assert_eq!(status, if right { "confirmed" } else { "cancelled" });
    }
    // In words a plain yes is not enough.
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    let yes = world.say(ALICE, "login_bot", "yes", None).await;
    assert!(text(&world.answer_to(ALICE, yes).await).contains("send the number"));
    let shown = attempt.created["match_code"].as_u64().unwrap().to_string();
    world.say(ALICE, "login_bot", &shown, None).await;
    world.becomes(ALICE, id(&prompt), "You are signed in").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_number_is_taken_from_the_persons_own_contact_only() {
    let (world, app) =
        World::with_app(Options::default(), json!({ "req_phone": true, "name": "Shop" })).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    assert!(text(&prompt).contains("phone number"), "the prompt says what is asked for: {prompt}");
    world.tap(ALICE, id(&prompt), CONFIRM).await;
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));
    let question = world.answer_to(ALICE, id(&prompt)).await;
    let share = buttons(&question).into_iter().find(|one| one.contains("phone")).unwrap();

    // Somebody else's number does not count.
    let foreign = json!({ "to": "login_bot", "text": "",
        "contact": { "phone": BOB, "first_name": "Bob" } });
    let sent = world.sandbox.post(&format!("/api/accounts/{ALICE}/send"), &foreign).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let refusal = world.answer_to(ALICE, sent.json()["id"].as_i64().unwrap()).await;
    assert!(text(&refusal).contains("your own phone number"), "{refusal}");
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));

    world.tap(ALICE, id(&question), &share).await;
    let confirmed = app.wait(&attempt).await;
    assert_eq!((&confirmed["status"], &confirmed["telegram_phone"]), (&json!("confirmed"), &json!(ALICE)));
    assert_eq!(jwt_part(confirmed["proof"].as_str().unwrap(), 1)["telegram_phone"], ALICE);
    world.becomes(ALICE, id(&prompt), "You are signed in").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_has_its_own_bot_and_a_way_back() {
    let (world, _) = World::with_bot(Options::default()).await;
    let (_, token) = world.new_bot("shop_login_bot").await;
    let settings = json!({ "name": "Shop", "bot_token": token, "return_url": "https://shop.example/back" });
    let app = world.app(settings).await;
    let attempt = app.attempt().await;
    assert!(attempt.link.starts_with("https://t.me/shop_login_bot?start="), "{}", attempt.link);
    // The link of one bot is nothing to another.
    let elsewhere = world.open(ALICE, &attempt.link.replace("shop_login_bot", "login_bot")).await;
    assert!(text(&world.answer_to(ALICE, elsewhere).await).contains("not known here"));
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    world.tap(ALICE, id(&prompt), CONFIRM).await;
    let outcome = world.becomes(ALICE, id(&prompt), "You are signed in").await;
    assert_eq!(buttons(&outcome), ["↩ Back to Shop"]);
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");

    let refused =
        world.try_app(json!({ "bot_token": "5000000099:wrongwrongwrongwrongwrongwrongwrongw" })).await;
    assert_eq!(refused.refusal(), (400, "BOT_TOKEN_INVALID".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_tells_where_the_request_came_from_in_the_persons_language() {
    let (world, app) = World::with_app(Options::default(), json!({ "name": "Shop" })).await;
    let dora = "+15550100009";
    let person = json!({ "phone": dora, "first_name": "Dora", "lang_code": "ru" });
    assert_eq!(world.sandbox.post("/api/accounts", &person).await.status, 200);
    let browser = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0";
    let headers = [("user-agent", browser), ("origin", "https://shop.example")];
    let attempt = app.attempt_with(json!({}), &headers).await;
    let opened = world.open(dora, &attempt.link).await;
    let prompt = world.answer_to(dora, opened).await;
    for part in ["Войти в Shop?", "Firefox on Linux", "shop.example", "только если вы сами"]
    {
        assert!(text(&prompt).contains(part), "{part}: {prompt}");
    }
    assert!(!text(&prompt).contains("127.0.0"), "an address that means nothing: {prompt}");
    assert_eq!(buttons(&prompt), ["✅ Подтвердить", "❌ Отмена"]);

    // The app's server tells of its own caller, whose language counts where Telegram tells none.
    let client = json!({ "ip": "203.0.113.77", "user_agent": "Dart/3.5 (dart:io)", "lang": "ru" });
    let body = json!({ "project_id": app.id, "client": client });
    let created = app.call_keyed("/api/v1/generate", &body).await;
    assert_eq!(created.status, 200, "{created:?}");
    let opened = world.open(ALICE, created.json()["deeplink"].as_str().unwrap()).await;
    let prompt = world.answer_to(ALICE, opened).await;
    for part in ["Войти в Shop?", "мобильного приложения", "203.0.113.x"] {
        assert!(text(&prompt).contains(part), "{part}: {prompt}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_takes_a_request_back() {
    let (world, app) = World::with_app(Options::default(), json!({ "name": "Shop" })).await;
    let attempt = app.attempt().await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    let body = json!({ "project_id": app.id, "session_token": attempt.token });
    let answer = app.call_keyed("/api/v1/cancel", &body).await;
    assert_eq!((answer.status, answer.json()["status"].clone()), (200, json!("cancelled")));
    world.becomes(ALICE, id(&prompt), "took the request back").await;
    assert_eq!(app.poll(&attempt).await["status"], "cancelled");
    assert_eq!(app.call("/api/v1/cancel", &body, &[]).await.refusal(), (401, "UNAUTHORIZED".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_nobody_can_be_sent_is_waited_for_or_given_up() {
    let (world, app) = World::with_app(Options::default(), json!({})).await;
    // A flood is waited out.
    world.fail("messages.sendMessage", "FLOOD_WAIT_1").await;
    let attempt = app.attempt().await;
    let begun = std::time::Instant::now();
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(world.calls("messages.sendMessage").await, 2, "once refused, once sent");
    world.tap(ALICE, id(&prompt), CONFIRM).await;
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");

    // Somebody who blocked the bot gets nothing, and that stops nobody else.
    let attempt = app.attempt().await;
    world.fail("messages.sendMessage", "USER_IS_BLOCKED").await;
    world.open(BOB, &attempt.link).await;
    let called = || async { world.calls("messages.sendMessage").await >= 3 };
    eventually("the prompt was tried", called).await;
    let other = app.attempt().await;
    let opened = world.open(ALICE, &other.link).await;
    world.answer_to(ALICE, opened).await;
    assert_eq!(app.poll(&attempt).await["status"], "pending");
    world.end().await;
}
