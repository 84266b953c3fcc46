//! Private chats over the wire: what people write and tap reaches us, what we say reaches them, each once, whatever
//! happens to connections, processes and the store in between.

use std::time::Duration;

use serde_json::{Value, json};
use telegram_connector::domain::account::AccountUser;
use telegram_connector::telegram::{
    Account, AccountEvent, Button, Keyboard, Outgoing, Peer, SharedContact, TelegramError,
};

use crate::account::{Host, quick_world};
use crate::bots::{Stable, secret};
use crate::support::{ALICE, BOB, Options, Recorder, World, eventually};

/// A person of the sandbox, played over the control API.
struct Person<'a> {
    world: &'a World,
    phone: &'static str,
}

impl Person<'_> {
    async fn does(&self, what: &str, body: Value) -> Value {
        let answer = self.world.sandbox.post(&format!("/api/accounts/{}/{what}", self.phone), &body).await;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        answer.json()
    }

    async fn writes(&self, to: impl std::fmt::Display, text: &str) -> i64 {
        self.world.send(self.phone, to, text).await
    }

    /// Everything in the person's chats.
    async fn reads(&self) -> Vec<Value> {
        let messages = self.world.sandbox.get(&format!("/api/accounts/{}/messages", self.phone)).await;
        messages.json().as_array().unwrap().clone()
    }

    /// Waits for a message to the person with this text.
    async fn gets(&self, text: &str) -> Value {
        let found = || async {
            self.reads().await.into_iter().find(|message| message["text"] == text && message["out"] == false)
        };
        eventually(text, || async { found().await.is_some() }).await;
        found().await.unwrap()
    }

    async fn texts_from(&self, id: i64) -> Vec<String> {
        let messages = self.reads().await;
        let theirs = messages.iter().filter(|message| message["from_id"] == id);
        theirs.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
    }
}

fn bob(world: &World) -> Person<'_> {
    Person { world, phone: BOB }
}

/// A bot that Bob has started, in a process of its own.
struct Scene {
    stable: Stable,
    bot: Account,
    bob: Peer,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(world: &World) -> Self {
        let (_, token) = world.new_bot("login_bot").await;
        let folder = tempfile::tempdir().unwrap();
        let stable = Stable::open(world, folder.path());
        let id = stable.run(&token, "ok").await;
        let bot = stable.bots.account(id).unwrap();
        bob(world).does("open", json!({ "link": "https://t.me/login_bot?start=abc_123" })).await;
        let (bob, text) = stable.told.sees("the start", incoming).await;
        assert_eq!(text, "/start abc_123");
        Self { stable, bot, bob, _folder: folder }
    }

    fn says(&self, random_id: i64, text: &str, keyboard: Keyboard) -> Outgoing {
        Outgoing { to: self.bob.id, access_hash: 0, random_id, text: text.into(), reply_to: None, keyboard }
    }

    async fn end(self, world: World) {
        self.stable.close().await;
        world.end().await;
    }
}

fn incoming(event: AccountEvent) -> Option<(Peer, String)> {
    match event {
        AccountEvent::Message { from, text, .. } => Some((from, text)),
        AccountEvent::Sent { .. } | AccountEvent::Tap { .. } | AccountEvent::Renamed { .. } => None,
    }
}

fn sent(event: AccountEvent) -> Option<(i32, i64, String)> {
    match event {
        AccountEvent::Sent { id, to, text, .. } => Some((id, to, text)),
        AccountEvent::Message { .. } | AccountEvent::Tap { .. } | AccountEvent::Renamed { .. } => None,
    }
}

fn tap(event: AccountEvent) -> Option<(i64, i32, i64, Vec<u8>)> {
    match event {
        AccountEvent::Tap { query_id, message_id, from, data } => Some((query_id, message_id, from.id, data)),
        AccountEvent::Message { .. } | AccountEvent::Sent { .. } | AccountEvent::Renamed { .. } => None,
    }
}

/// The new name; empty for none.
fn renamed(event: AccountEvent) -> Option<String> {
    match event {
        AccountEvent::Renamed { username } => Some(username.unwrap_or_default()),
        AccountEvent::Message { .. } | AccountEvent::Sent { .. } | AccountEvent::Tap { .. } => None,
    }
}

fn callback(text: &str, data: &[u8]) -> Button {
    Button::Callback { text: text.to_owned(), data: data.to_vec() }
}

fn confirm_or_cancel() -> Keyboard {
    Keyboard::Inline(vec![vec![callback("✅ Confirm", b"yes")], vec![callback("❌ Cancel", b"no")]])
}

fn labels(message: &Value) -> Vec<Vec<(String, String)>> {
    let text = |button: &Value, field: &str| button[field].as_str().unwrap().to_owned();
    let rows = message["buttons"].as_array().unwrap().iter();
    rows.map(|row| row.as_array().unwrap().iter().map(|b| (text(b, "text"), text(b, "kind"))).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_starts_a_bot_taps_its_button_and_sees_the_outcome() {
    let world = quick_world().await;
    let scene = Scene::new(&world).await;
    let bot_id = scene.bot.id().unwrap();
    assert_eq!((scene.bob.name.as_str(), scene.bob.username.as_deref()), ("Bob", Some("bob_sandbox")));
    assert!(!scene.bob.bot);

    let id = scene.bot.send(&scene.says(1, "Sign in?", confirm_or_cancel())).await.unwrap().unwrap();
    let prompt = bob(&world).gets("Sign in?").await;
    let row = |text: &str| vec![(text.to_owned(), "callback".to_owned())];
    assert_eq!(labels(&prompt), [row("✅ Confirm"), row("❌ Cancel")]);
    assert_eq!(prompt["from_id"], bot_id);

    let person = bob(&world);
    let tapped = person.does("tap", json!({ "message_id": prompt["id"], "button": "✅ Confirm" }));
    let answered = async {
        let (query, message, who, data) = scene.stable.told.sees("the tap", tap).await;
        assert_eq!((message, who, data.as_slice()), (id, scene.bob.id, &b"yes"[..]));
        scene.bot.answer_tap(query, Some("Confirmed"), true).await.unwrap();
        let again = scene.bot.answer_tap(query, None, false).await;
        assert_eq!(again, Err(TelegramError::QueryExpired));
    };
    let (seen, ()) = tokio::join!(tapped, answered);
    assert_eq!((&seen["answer"], &seen["alert"]), (&json!("Confirmed"), &json!(true)));

    // The prompt becomes the outcome; to make it so twice is no error.
    for _ in 0..2 {
        scene.bot.edit(scene.bob.id, 0, id, &"You are signed in.".into(), &[]).await.unwrap();
    }
    let outcome = bob(&world).gets("You are signed in.").await;
    assert_eq!(
        (&outcome["id"], &outcome["buttons"], &outcome["edited"]),
        (&prompt["id"], &json!([]), &json!(true))
    );
    let back = Button::Url { text: "↩ Back".to_owned(), url: "https://app.example/".to_owned() };
    scene.bot.edit(scene.bob.id, 0, id, &"You are signed in.".into(), &[vec![back]]).await.unwrap();
    let outcome = bob(&world).gets("You are signed in.").await;
    assert_eq!(labels(&outcome), [[("↩ Back".to_owned(), "url".to_owned())]]);
    let gone = scene.bot.edit(scene.bob.id, 0, 4_242, &"Nothing there".into(), &[]).await;
    assert_eq!(gone, Err(TelegramError::MessageGone));
    scene.end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_shares_their_number_or_another_s() {
    let world = quick_world().await;
    let scene = Scene::new(&world).await;
    let keyboard =
        Keyboard::RequestPhone { share: "Share my number".to_owned(), cancel: "Cancel".to_owned() };
    let asked = scene.bot.send(&scene.says(1, "Your number, please", keyboard)).await.unwrap().unwrap();
    let prompt = bob(&world).gets("Your number, please").await;
    let kinds: Vec<String> = labels(&prompt).into_iter().flatten().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, ["request_phone", "text"]);
    let tap = |button: &str| json!({ "message_id": prompt["id"], "button": button });
    bob(&world).does("tap", tap("Share my number")).await;
    let shared = |event| match event {
        AccountEvent::Message { contact: Some(contact), from, reply_to, .. } => {
            Some((contact, from, reply_to))
        }
        AccountEvent::Message { .. }
        | AccountEvent::Sent { .. }
        | AccountEvent::Tap { .. }
        | AccountEvent::Renamed { .. } => None,
    };
    let (contact, from, reply_to) = scene.stable.told.sees("the contact", shared).await;
    let number = |phone: &str| phone.trim_start_matches('+').to_owned();
    assert_eq!(contact, SharedContact { user_id: Some(from.id), phone: number(BOB) });
    assert_eq!((from.id, reply_to), (scene.bob.id, Some(asked)));

    let card = json!({ "to": "login_bot", "contact": { "phone": ALICE, "first_name": "Alice" } });
    bob(&world).does("send", card).await;
    let another = |event| shared(event).filter(|(contact, ..)| contact.phone == number(ALICE));
    let (contact, from, _) = scene.stable.told.sees("another's contact", another).await;
    assert!(contact.user_id.is_some_and(|owner| owner != from.id));

    bob(&world).does("tap", tap("Cancel")).await;
    let cancelled = |event| incoming(event).filter(|(_, text)| text == "Cancel");
    scene.stable.told.sees("the other button's text", cancelled).await;
    scene.bot.send(&scene.says(2, "Never mind", Keyboard::Hide)).await.unwrap();
    assert_eq!(bob(&world).gets("Never mind").await["buttons"], json!([]));
    scene.end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_is_lost_is_sent_once_and_its_id_is_learnt() {
    let world = quick_world().await;
    let scene = Scene::new(&world).await;
    let message = scene.says(77, "Only once", confirm_or_cancel());
    world.fault(json!({ "cut_instead_of_answer": "messages.sendMessage", "times": 1 })).await;
    let lost = scene.bot.send(&message).await.unwrap_err();
    assert!(matches!(lost, TelegramError::Unreachable(_)), "{lost}");
    assert_eq!(scene.bot.send(&message).await, Ok(None));
    let ours = |event| sent(event).filter(|(_, _, text)| text == "Only once");
    let (id, to, _) = scene.stable.told.sees("our own message", ours).await;
    assert_eq!(to, scene.bob.id);
    assert_eq!(bob(&world).texts_from(scene.bot.id().unwrap()).await, ["Only once"]);
    scene.bot.edit(scene.bob.id, 0, id, &"It is this one".into(), &[]).await.unwrap();
    bob(&world).gets("It is this one").await;
    scene.end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_all_the_time_neither_lose_nor_double_a_message() {
    let world = quick_world().await;
    let scene = Scene::new(&world).await;
    world.fault(json!({ "disconnect_every": 3 })).await;
    let texts: Vec<String> = (0..30).map(|n| format!("number {n}")).collect();
    for (random_id, text) in (100..).zip(&texts) {
        let message = scene.says(random_id, text, Keyboard::None);
        let arrives = || async { scene.bot.send(&message).await.is_ok() };
        eventually("it is sent", arrives).await;
        bob(&world).writes("login_bot", text).await;
    }
    world.heal().await;
    assert_eq!(bob(&world).texts_from(scene.bot.id().unwrap()).await, texts);
    eventually("all answers", || async { scene.stable.told.texts().len() > texts.len() }).await;
    assert_eq!(scene.stable.told.texts()[1..], texts);
    scene.end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_message_that_is_gone_is_sent_all_the_same() {
    let world = quick_world().await;
    let scene = Scene::new(&world).await;
    let answering =
        |id, random_id, text| Outgoing { reply_to: Some(id), ..scene.says(random_id, text, Keyboard::None) };
    let started = |event| match event {
        AccountEvent::Message { id, .. } => Some(id),
        AccountEvent::Sent { .. } | AccountEvent::Tap { .. } | AccountEvent::Renamed { .. } => None,
    };
    let start = scene.stable.told.sees("the start", started).await;
    scene.bot.send(&answering(start, 1, "an answer")).await.unwrap().unwrap();
    assert!(bob(&world).gets("an answer").await["reply_to"].is_i64());
    scene.bot.send(&answering(4_242, 2, "an answer to nothing")).await.unwrap().unwrap();
    assert_eq!(bob(&world).gets("an answer to nothing").await["reply_to"], Value::Null);
    // What a person answers comes with what it answers.
    let to = bob(&world).gets("an answer").await["id"].clone();
    bob(&world).does("send", json!({ "to": "login_bot", "text": "thanks", "reply_to": to })).await;
    let thanks = |event| match event {
        AccountEvent::Message { text, reply_to, .. } if text == "thanks" => reply_to,
        AccountEvent::Message { .. }
        | AccountEvent::Sent { .. }
        | AccountEvent::Tap { .. }
        | AccountEvent::Renamed { .. } => None,
    };
    let ours = |event| sent(event).filter(|(_, _, text)| text == "an answer");
    let (id, ..) = scene.stable.told.sees("our answer", ours).await;
    assert_eq!(scene.stable.told.sees("the reply", thanks).await, id);
    scene.end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_written_to_and_how_long_to_wait_is_told_apart() {
    let world = quick_world().await;
    let scene = Scene::new(&world).await;
    let unreachable = |name: &str| Err(TelegramError::PeerUnreachable(name.to_owned()));
    bob(&world).does("block", json!({ "who": "login_bot", "blocked": true })).await;
    let message = scene.says(1, "Hello", Keyboard::None);
    assert_eq!(scene.bot.send(&message).await, unreachable("USER_IS_BLOCKED"));
    bob(&world).does("block", json!({ "who": "login_bot", "blocked": false })).await;
    let stranger = Outgoing { to: 987_654_321, ..message.clone() };
    assert_eq!(scene.bot.send(&stranger).await, unreachable("PEER_ID_INVALID"));

    let built = world.calls("help.getConfig").await;
    world.fail("messages.sendMessage", "FLOOD_WAIT_7").await;
    assert_eq!(scene.bot.send(&message).await, Err(TelegramError::FloodWait(Duration::from_secs(7))));
    world.fail("messages.sendMessage", "INTERNAL").await;
    let refused = scene.bot.send(&message).await.unwrap_err();
    assert!(matches!(refused, TelegramError::Unreachable(_)), "{refused}");
    assert!(scene.bot.send(&message).await.unwrap().is_some());
    assert_eq!(world.calls("help.getConfig").await, built, "nothing of this is the connection's fault");
    scene.end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_the_store_does_not_take_are_offered_again() {
    let world = quick_world().await;
    let (_, token) = world.new_bot("login_bot").await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    let id = stable.run(&token, "ok").await;
    let position = || stable.bots.account(id).unwrap().session().updates.pts;
    let before = position();
    stable.told.fail(true);
    for text in ["one", "two", "three"] {
        bob(&world).writes("login_bot", text).await;
    }
    eventually("offered again and again", || async { stable.told.refused().len() >= 3 }).await;
    assert_eq!((position(), stable.told.texts().len()), (before, 0));
    assert_eq!(stable.bots.condition(id), "ok");
    // A connection that fails meanwhile changes nothing.
    world.fault(json!({ "disconnect": "now" })).await;
    stable.told.fail(false);
    eventually("all taken", || async { stable.told.texts().len() >= 3 }).await;
    let mut texts = stable.told.texts();
    texts.dedup();
    assert_eq!(texts, ["one", "two", "three"]);
    eventually("the position moves on", || async { position() == before + 3 }).await;
    stable.told.fail(true);
    bob(&world).writes("login_bot", "four").await;
    eventually("offered", || async {
        stable.told.refused().into_iter().filter_map(incoming).any(|(_, text)| text == "four")
    })
    .await;
    stable.close().await;

    // Not taken by this process, it comes to the next.
    let next = Stable::open(&world, folder.path());
    next.run(&token, "ok").await;
    next.told.sees("the fourth", incoming).await;
    assert_eq!(next.told.texts(), ["four"]);
    next.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_between_two_sessions_of_a_bot_is_not_lost() {
    let world = quick_world().await;
    let (id, token) = world.new_bot("login_bot").await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    stable.run(&token, "ok").await;
    bob(&world).writes("login_bot", "one").await;
    stable.told.sees("the first", incoming).await;
    stable.close().await;

    // Its session is ended while nobody is there, and found so by the next process.
    bob(&world).writes("login_bot", "two").await;
    world.fault(json!({ "forget_key": "all" })).await;
    let stable = Stable::open(&world, folder.path());
    stable.run(&token, "ok").await;
    stable.told.sees("the second", incoming).await;
    assert_eq!(stable.told.texts(), ["two"]);
    assert_eq!(world.calls("auth.importBotAuthorization").await, 2);

    // Or it is stopped, and comes back with a token that is verified.
    stable.bots.stop(id).await;
    bob(&world).writes("login_bot", "three").await;
    stable.bots.verify(secret(&token)).await.unwrap();
    stable.is(id, "ok").await;
    eventually("the third", || async { stable.told.texts().len() == 2 }).await;
    assert_eq!(stable.told.texts(), ["two", "three"]);
    stable.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_takes_its_time_is_not_taken_for_a_dead_reader() {
    let world = quick_world().await;
    let scene = Scene::new(&world).await;
    let (built, asked) = (world.calls("help.getConfig").await, world.calls("updates.getState").await);
    let held = scene.stable.told.gate.lock().await;
    bob(&world).writes("login_bot", "patience").await;
    eventually("the watchdog looks several times", || async {
        world.calls("updates.getState").await >= asked + 5
    })
    .await;
    drop(held);
    eventually("taken", || async { scene.stable.told.texts().len() == 2 }).await;
    assert_eq!(world.calls("help.getConfig").await, built, "the same connection all the time");
    scene.end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_account_talks_without_buttons_and_hears_its_other_devices() {
    let world = quick_world().await;
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    bob(&world).writes(ALICE, "login 12345").await;
    let (peer, text) = host.told.sees("Bob's message", incoming).await;
    assert_eq!((text.as_str(), peer.name.as_str(), peer.lang_code.as_deref()), ("login 12345", "Bob", None));
    assert!(peer.access_hash != 0);

    let alice = host.gateway.account().unwrap();
    let answer = |access_hash, random_id: i64| Outgoing {
        to: peer.id,
        access_hash,
        random_id,
        text: format!("Sign in? {random_id}").as_str().into(),
        reply_to: None,
        keyboard: confirm_or_cancel(),
    };
    assert!(alice.send(&answer(peer.access_hash, 1)).await.unwrap().is_some());
    assert_eq!(bob(&world).gets("Sign in? 1").await["buttons"], json!([]), "Telegram ignores them");
    assert!(alice.send(&answer(0, 2)).await.unwrap().is_some(), "it remembers whom it met");
    let ours = |event| sent(event).filter(|(_, _, text)| text == "Sign in? 2");
    assert_eq!(host.told.sees("our own message", ours).await.1, peer.id);

    // Another device of hers.
    let device = Host::open(&world, elsewhere.path(), None).await;
    device.sign_in(&world).await;
    let person = Person { world: &world, phone: ALICE };
    person.writes(BOB, "typed on the phone").await;
    let typed = |event| sent(event).filter(|(_, _, text)| text == "typed on the phone");
    for host in [&host, &device] {
        assert_eq!(host.told.sees("what another device sent", typed).await.1, peer.id);
    }
    device.close().await;

    // The next process remembers, too.
    host.close().await;
    let host = Host::open(&world, folder.path(), None).await;
    host.is(&world, "ok").await;
    assert!(host.gateway.account().unwrap().send(&answer(0, 3)).await.unwrap().is_some());
    bob(&world).gets("Sign in? 3").await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bots_and_telegram_write_to_the_account_is_its_owner_s_business() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let scene = Scene::new(&world).await;
    let alice = Person { world: &world, phone: ALICE };
    alice.does("open", json!({ "link": "https://t.me/login_bot?start=hello" })).await;
    let hello = |event| incoming(event).filter(|(_, text)| text == "/start hello");
    let (peer, _) = scene.stable.told.sees("Alice's start", hello).await;
    let message = Outgoing { to: peer.id, ..scene.says(1, "beep", Keyboard::None) };
    scene.bot.send(&message).await.unwrap();
    alice.gets("beep").await;
    let other = World::gateway_elsewhere(&world).await;
    other.request_code(&telegram_connector::domain::login::Phone::parse(ALICE).unwrap()).await.unwrap();
    other.close().await;
    bob(&world).writes(ALICE, "hi").await;
    host.sees(1).await;
    assert_eq!(host.told.texts(), ["hi"]);
    host.close().await;
    scene.end(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_account_s_user_name_is_told_also_when_nobody_was_there() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let alice = Person { world: &world, phone: ALICE };
    let name = |user: Option<AccountUser>| user.and_then(|user| user.username);
    let known = |host: &Host| name(host.gateway.account().unwrap().user());
    assert_eq!(known(&host).as_deref(), Some("alice_sandbox"));
    alice.does("username", json!({ "username": "alice_renamed" })).await;
    assert_eq!(host.told.sees("renamed", renamed).await, "alice_renamed");
    eventually("it is known", || async { known(&host).as_deref() == Some("alice_renamed") }).await;
    host.close().await;

    // Without one, and nobody there; the store that is to hear of it fails at first.
    alice.does("username", json!({ "username": null })).await;
    let told = Recorder::default();
    told.fail(true);
    let host = Host::with_sink(&world, folder.path(), None, told.sink(), told).await;
    eventually("offered", || async { !host.told.refused().is_empty() }).await;
    host.told.fail(false);
    assert_eq!(host.told.sees("renamed", renamed).await, "");
    eventually("it is known", || async { known(&host).is_none() }).await;
    host.close().await;
    let host = Host::open(&world, folder.path(), None).await;
    host.is(&world, "ok").await;
    bob(&world).writes(ALICE, "hi").await;
    host.sees(1).await;
    assert!(host.told.all().into_iter().find_map(renamed).is_none(), "told once");
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_bots_of_one_process_are_not_mixed_up() {
    let world = World::without_service(Options::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let stable = Stable::open(&world, folder.path());
    let mut ids = Vec::new();
    for name in ["first_bot", "second_bot"] {
        let (_, token) = world.new_bot(name).await;
        ids.push(stable.run(&token, "ok").await);
        bob(&world).writes(name, &format!("to {name}")).await;
        Person { world: &world, phone: ALICE }.writes(name, "from Alice").await;
    }
    eventually("all", || async { stable.told.texts().len() == 4 }).await;
    for (id, name) in ids.iter().zip(["first_bot", "second_bot"]) {
        let texts: Vec<String> =
            stable.told.of(*id).into_iter().filter_map(incoming).map(|(_, text)| text).collect();
        assert_eq!(texts, [format!("to {name}"), "from Alice".to_owned()]);
    }
    assert!(stable.bots.run(secret("1:x")).is_ok(), "and a third that will not do does no harm");
    stable.close().await;
    world.end().await;
}
