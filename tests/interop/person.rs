//! A person with an unmodified Telethon confirms, from the link to the outcome: over real MTProto they sign in, open the
//! link, are asked, answer, and see what became of it. The app's side is ours.

use serde_json::{Value, json};

use crate::proof::accepted;
use crate::support::{ALICE, App, BOB, Options, World};
use crate::telethon::Telethon;

const CONFIRM: &str = "✅ Confirm";
const CANCEL: &str = "❌ Cancel";
/// Who owns the user account that delivers where there is no bot.
const OLGA: &str = "+15550100008";

/// A person's Telegram, signed in.
struct Phone<'a> {
    telethon: &'a mut Telethon,
    device: String,
    /// As Telegram knows them.
    me: Value,
}

impl<'a> Phone<'a> {
    async fn of(number: &str, telethon: &'a mut Telethon, world: &World) -> Self {
        telethon.does("connect", number, json!({}));
        telethon.does("send_code", number, json!({ "phone": number }));
        let code = json!({ "phone": number, "code": world.code(number).await });
        let me = telethon.does("sign_in", number, code);
        Self { telethon, device: number.to_owned(), me }
    }

    fn does(&mut self, action: &str, arguments: Value) -> Value {
        self.telethon.does(action, &self.device, arguments)
    }

    /// Opens a link as apps do; the message that comes back.
    fn opens(&mut self, link: &str) -> Value {
        self.does("open", json!({ "link": link }));
        self.is_written_to()
    }

    fn is_written_to(&mut self) -> Value {
        self.does("next_message", json!({}))
    }

    /// Waits until a message has changed; what it says now.
    fn sees_change_of(&mut self, message: &Value) -> Value {
        let changed = self.does("next_edit", json!({}));
        assert_eq!(changed["id"], message["id"]);
        changed
    }

    /// Presses a button; what pops up, and whether as an alert.
    fn clicks(&mut self, message: &Value, button: &str) -> (String, bool) {
        let done = self.does("click", json!({ "message": message["id"], "button": button }));
        let answer = done["answer"].as_str().unwrap_or_else(|| panic!("no answer: {done}"));
        (answer.to_owned(), done["alert"] == true)
    }

    /// Writes to somebody, who answers.
    fn says(&mut self, to: &str, text: &str) -> Value {
        self.does("say", json!({ "to": to, "text": text }));
        self.is_written_to()
    }

    /// What a chat holds, oldest first: who said it, and the text.
    fn chat_with(&mut self, whom: &str) -> Vec<(bool, String)> {
        let messages = self.does("history", json!({ "chat": whom }));
        let messages = messages.as_array().unwrap().iter();
        messages.map(|message| (message["out"] == true, text(message).to_owned())).collect()
    }
}

fn text(message: &Value) -> &str {
    message["text"].as_str().unwrap()
}

/// The sandbox with a bot, and an app whose people that bot asks.
async fn asked_by_a_bot(settings: Value) -> (World, App, Telethon) {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let app = world.app(settings).await;
    let telethon = Telethon::joining(&world.sandbox).await;
    (world, app, telethon)
}

/// The same without a bot: the service is signed in as Olga.
async fn asked_by_olga(settings: Value) -> (World, App, Telethon) {
    let world = World::new().await;
    let olga = json!({ "phone": OLGA, "first_name": "Olga", "username": "olga_owner" });
    assert_eq!(world.sandbox.post("/api/accounts", &olga).await.status, 200);
    world.signed_in_as(OLGA).await;
    let app = world.app(settings).await;
    let telethon = Telethon::joining(&world.sandbox).await;
    (world, app, telethon)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_opens_the_link_taps_confirm_and_the_app_holds_a_proof() {
    // Looks like an address, and counts differently in characters and in UTF-16.
    let name = "𝕊hop 🛍.example";
    let (world, app, mut telethon) = asked_by_a_bot(json!({ "name": name })).await;
    let mut alice = Phone::of(ALICE, &mut telethon, &world).await;
    let attempt = app.attempt_with(json!({}), &[("origin", "https://shop.example")]).await;
    let prompt = alice.opens(&attempt.link);
    assert!(text(&prompt).starts_with(&format!("Sign in to {name}?")), "{prompt}");
    assert_eq!(prompt["code"], json!([name, "shop.example"]), "no links");
    assert_eq!(prompt["buttons"], json!([[CONFIRM, CANCEL]]));
    assert_eq!(prompt["markup"], "ReplyInlineMarkup");
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));

    assert_eq!(alice.clicks(&prompt, CONFIRM), ("Signed in".to_owned(), false));
    let poll = app.poll(&attempt).await;
    assert_eq!((&poll["status"], &poll["telegram_name"]), (&json!("confirmed"), &json!("Alice")));
    assert_eq!(poll["telegram_id"], alice.me["id"].to_string());
    let outcome = alice.sees_change_of(&prompt);
    assert_eq!(text(&outcome), format!("✅ You are signed in to {name}."));
    assert_eq!(outcome["code"], json!([name]));
    assert_eq!((&outcome["buttons"], &outcome["markup"]), (&json!([]), &Value::Null));
    let start = format!("/start {}", attempt.id());
    let chat = [(true, start), (false, text(&outcome).to_owned())];
    assert_eq!(alice.chat_with("login_bot"), chat, "asked once, and that became the outcome");

    let claims = accepted(poll["proof"].as_str().unwrap(), &app.secret);
    assert_eq!(claims["telegram_id"], poll["telegram_id"]);
    assert_eq!(app.consume(&attempt).await["status"], "confirmed");
    assert_eq!(app.poll(&attempt).await, json!({ "status": "used" }));
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_without_an_app_types_the_start_and_taps_cancel() {
    let (world, app, mut telethon) = asked_by_a_bot(json!({ "name": "Shop" })).await;
    let mut bob = Phone::of(BOB, &mut telethon, &world).await;
    let attempt = app.attempt().await;
    let link = attempt.created["tg_link"].as_str().unwrap();
    bob.does("open", json!({ "link": link, "typed": true }));
    let prompt = bob.is_written_to();
    assert_eq!(bob.clicks(&prompt, CANCEL), ("Declined".to_owned(), false));
    let poll = app.poll(&attempt).await;
    assert_eq!(poll["status"], "cancelled");
    assert!(poll["cancelled_at"].is_i64() && poll["proof"].is_null(), "{poll}");
    let outcome = bob.sees_change_of(&prompt);
    assert_eq!((text(&outcome), &outcome["buttons"]), ("❌ You declined to sign in to Shop.", &json!([])));
    let refusal = bob.opens(&attempt.link);
    assert!(text(&refusal).contains("answered already"), "{refusal}");
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_shares_their_own_number_with_telegrams_own_button() {
    let (world, app, mut telethon) = asked_by_a_bot(json!({ "name": "Shop", "req_phone": true })).await;
    // With a name that is no ASCII, and no username.
    let number = "+15550100077";
    let zoe = json!({ "phone": number, "first_name": "Zoë 🦊" });
    assert_eq!(world.sandbox.post("/api/accounts", &zoe).await.status, 200);
    let mut zoe = Phone::of(number, &mut telethon, &world).await;
    let attempt = app.attempt().await;
    let prompt = zoe.opens(&attempt.link);
    assert!(text(&prompt).contains("Telegram ID and phone number"), "{prompt}");
    let (said, _) = zoe.clicks(&prompt, CONFIRM);
    assert!(said.contains("share your phone number"), "{said}");
    let question = zoe.is_written_to();
    assert_eq!(question["markup"], "ReplyKeyboardMarkup");
    let share = question["buttons"][0][0].as_str().unwrap();
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));

    zoe.does("send_contact", json!({ "to": "login_bot", "phone": BOB, "first_name": "Zoë 🦊" }));
    let refusal = zoe.is_written_to();
    assert!(text(&refusal).contains("your own phone number"), "{refusal}");
    assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));

    let click = json!({ "message": question["id"], "button": share });
    assert!(zoe.does("click", click)["sent"].is_i64());
    let poll = app.wait(&attempt).await;
    assert_eq!((&poll["status"], &poll["telegram_phone"]), (&json!("confirmed"), &json!(number)));
    assert!(text(&zoe.sees_change_of(&prompt)).contains("You are signed in"));
    let thanks = zoe.is_written_to();
    assert_eq!(thanks["markup"], "ReplyKeyboardHide", "the keyboard goes away: {thanks}");
    let claims = accepted(poll["proof"].as_str().unwrap(), &app.secret);
    assert_eq!((&claims["telegram_name"], &claims["telegram_phone"]), (&json!("Zoë 🦊"), &json!(number)));
    assert_eq!(claims["telegram_username"], Value::Null);
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_comes_without_its_plus_counts_too() {
    let (world, app, mut telethon) = asked_by_a_bot(json!({ "req_phone": true })).await;
    let mut alice = Phone::of(ALICE, &mut telethon, &world).await;
    let attempt = app.attempt().await;
    let prompt = alice.opens(&attempt.link);
    alice.clicks(&prompt, CONFIRM);
    alice.is_written_to();
    // Apps send the number as they have it: some without the plus.
    alice.does("send_contact", json!({ "to": "login_bot", "phone": &ALICE[1..], "first_name": "Alice" }));
    let poll = app.wait(&attempt).await;
    assert_eq!((&poll["status"], &poll["telegram_phone"]), (&json!("confirmed"), &json!(ALICE)));
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_whom_a_user_account_asks_answers_in_words() {
    let (world, app, mut telethon) = asked_by_olga(json!({ "name": "Shop" })).await;
    let mut alice = Phone::of(ALICE, &mut telethon, &world).await;
    let mut expected = Vec::new();
    for (field, said, status, outcome) in [
        ("deeplink", "yes", "confirmed", "✅ You are signed in to Shop."),
        ("tg_link", "❌", "cancelled", "❌ You declined to sign in to Shop."),
    ] {
        let attempt = app.attempt().await;
        let prompt = alice.opens(attempt.created[field].as_str().unwrap());
        assert!(text(&prompt).starts_with("Sign in to Shop?"), "{prompt}");
        assert_eq!(prompt["markup"], Value::Null, "Telegram gives user accounts no buttons");
        let answer = alice.says("olga_owner", said);
        assert_eq!(text(&answer), outcome);
        let poll = app.poll(&attempt).await;
        assert_eq!(poll["status"], status);
        if let Some(proof) = poll["proof"].as_str() {
            assert_eq!(accepted(proof, &app.secret)["telegram_id"], alice.me["id"].to_string());
        }
        expected.extend([
            (true, format!("Sign in {}", attempt.id())),
            (false, text(&prompt).to_owned()),
            (true, said.to_owned()),
            (false, outcome.to_owned()),
        ]);
    }
    assert_eq!(alice.chat_with("olga_owner"), expected);
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_answers_the_prompt_it_replies_to() {
    let (world, app, mut telethon) = asked_by_olga(json!({})).await;
    let mut alice = Phone::of(ALICE, &mut telethon, &world).await;
    let (first, second) = (app.attempt().await, app.attempt().await);
    let prompt = alice.opens(&first.link);
    alice.opens(&second.link);
    let reply = json!({ "to": "olga_owner", "text": "да", "reply_to": prompt["id"] });
    alice.does("say", reply);
    alice.is_written_to();
    assert_eq!(app.poll(&first).await["status"], "confirmed");
    assert_eq!(app.poll(&second).await["status"], "pending");
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_picks_the_number_that_the_browser_shows() {
    let (world, app, mut telethon) = asked_by_a_bot(json!({ "match_code": true })).await;
    let mut alice = Phone::of(ALICE, &mut telethon, &world).await;
    for (right, said, alert, status) in [
        (true, "Signed in", false, "confirmed"),
        (false, "Not the number that the app shows: nobody was signed in.", true, "cancelled"),
    ] {
        let attempt = app.attempt().await;
        let shown = attempt.created["match_code"].as_u64().unwrap().to_string();
        let prompt = alice.opens(&attempt.link);
        assert!(!text(&prompt).contains(&shown), "the number is the browser's to tell: {prompt}");
        let rows = prompt["buttons"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[1]), (2, &json!([CANCEL])));
        let numbers: Vec<&str> =
            rows[0].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        assert_eq!(numbers.len(), 3, "{numbers:?}");
        let chosen = numbers.iter().find(|number| (**number == shown) == right).unwrap();
        assert_eq!(alice.clicks(&prompt, chosen), (said.to_owned(), alert));
        assert_eq!(app.poll(&attempt).await["status"], status);
        assert_eq!(alice.sees_change_of(&prompt)["buttons"], json!([]));
    }
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_types_the_number_where_there_are_no_buttons() {
    let (world, app, mut telethon) = asked_by_olga(json!({ "match_code": true })).await;
    let mut alice = Phone::of(ALICE, &mut telethon, &world).await;
    for (right, status) in [(true, "confirmed"), (false, "cancelled")] {
        let attempt = app.attempt().await;
        let shown = attempt.created["match_code"].as_u64().unwrap();
        let prompt = alice.opens(&attempt.link);
        assert!(text(&prompt).contains("Send the number"), "{prompt}");
        let more = alice.says("olga_owner", "yes");
        assert!(text(&more).contains("send the number"), "{more}");
        assert_eq!(app.poll(&attempt).await, json!({ "status": "pending" }));
        let typed = if right { shown } else { (shown - 9) % 90 + 10 };
        alice.says("olga_owner", &typed.to_string());
        assert_eq!(app.poll(&attempt).await["status"], status);
    }
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_was_away_finds_the_prompt_and_what_became_of_it() {
    let (world, app, mut telethon) = asked_by_a_bot(json!({ "name": "Shop" })).await;
    let mut alice = Phone::of(ALICE, &mut telethon, &world).await;
    let attempt = app.attempt().await;
    alice.does("leave", json!({}));
    let opened = world.open(ALICE, &attempt.link).await;
    world.answer_to(ALICE, opened).await;
    alice.does("come_back", json!({}));
    let prompt = alice.is_written_to();
    assert_eq!(prompt["buttons"], json!([[CONFIRM, CANCEL]]));

    alice.does("leave", json!({}));
    let body = json!({ "project_id": app.id, "session_token": attempt.token });
    assert_eq!(app.call_keyed("/api/v1/cancel", &body).await.json()["status"], "cancelled");
    world.becomes(ALICE, prompt["id"].as_i64().unwrap(), "took the request back").await;
    alice.does("come_back", json!({}));
    // No event: Telethon passes over what a difference says of changed messages.
    let messages = alice.does("history", json!({ "chat": "login_bot" }));
    assert_eq!(text(&messages[1]), "❌ Shop took the request back.");
    assert_eq!((&messages[1]["id"], &messages[1]["buttons"]), (&prompt["id"], &json!([])));
    drop(telethon);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_bot_runs_their_own_program_beside_ours() {
    let (world, _) = World::with_bot(Options::default()).await;
    let (_, token) = world.new_bot("shop_bot").await;
    let app = world.app(json!({ "name": "Shop", "bot_token": token })).await;
    let mut telethon = Telethon::joining(&world.sandbox).await;
    telethon.does("connect", "server", json!({}));
    telethon.does("sign_in", "server", json!({ "bot_token": token }));
    let mut alice = Phone::of(ALICE, &mut telethon, &world).await;

    alice.does("say", json!({ "to": "shop_bot", "text": "/start ref_42" }));
    let order = alice.telethon.does("next_message", "server", json!({}));
    assert_eq!((text(&order), &order["from"]), ("/start ref_42", &alice.me["id"]));
    let welcome = json!({ "to": alice.me["id"], "text": "Welcome, 42!" });
    alice.telethon.does("say", "server", welcome);
    assert_eq!(text(&alice.is_written_to()), "Welcome, 42!");

    let attempt = app.attempt().await;
    let prompt = alice.opens(&attempt.link);
    assert_eq!(alice.clicks(&prompt, CONFIRM), ("Signed in".to_owned(), false));
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");
    let outcome = alice.sees_change_of(&prompt);
    let expected = [
        (true, "/start ref_42".to_owned()),
        (false, "Welcome, 42!".to_owned()),
        (true, format!("/start {}", attempt.id())),
        (false, text(&outcome).to_owned()),
    ];
    assert_eq!(alice.chat_with("shop_bot"), expected, "ours said nothing to what is the owner's");
    drop(telethon);
    world.end().await;
}
