//! Private chats over the wire and over the control API: what each side gets, and what it does not.

use grammers_mtsender::InvocationError;
use grammers_tl_types as tl;
use serde_json::json;
use tl::enums as e;
use tl::functions as f;
use tl::types as t;

use super::support::ALICE;
use super::support::Grammers;
use super::support::Running;
use super::support::bare_peer;
use super::support::edit_message;
use super::support::full;
use super::support::inline;
use super::support::peer_of;
use super::support::phone_keyboard;
use super::support::reply_to;
use super::support::send_message;
use super::support::sent_id;
use super::support::soon;

const BOB: &str = "+15550100002";

fn press(peer: e::InputPeer, msg_id: i32, data: &str) -> f::messages::GetBotCallbackAnswer {
    let data = Some(data.as_bytes().to_vec());
    f::messages::GetBotCallbackAnswer { game: false, peer, msg_id, data, password: None }
}

fn answer(query_id: i64, message: &str, alert: bool) -> f::messages::SetBotCallbackAnswer {
    let message = Some(message.to_owned());
    f::messages::SetBotCallbackAnswer { alert, query_id, message, url: None, cache_time: 0 }
}

async fn find(client: &Grammers, username: &str) -> t::User {
    let request = f::contacts::ResolveUsername { username: username.to_owned(), referer: None };
    let e::contacts::ResolvedPeer::Peer(mut found) = client.call(2, &request).await.unwrap();
    match found.users.remove(0) {
        e::User::User(user) => user,
        e::User::Empty(_) => panic!("nobody"),
    }
}

#[tokio::test]
async fn a_person_starts_a_bot_taps_its_button_and_sees_the_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person_with(ALICE, |person| person.lang_code = Some("ru".to_owned()));
    let some_bot = sandbox.bot("some_bot");
    let mut bot = sandbox.bot_client(&some_bot).await;

    let opened = sandbox.play(ALICE, "open", json!({"link": "https://t.me/some_bot?start=abc"})).await;
    assert_eq!(opened["chat"], json!({"id": some_bot.id, "name": "Some bot", "username": "some_bot"}));
    let (start, users) = bot.new_message().await;
    assert_eq!((start.message.as_str(), start.out), ("/start abc", false));
    let person = users.iter().find(|user| user.id == alice.id).unwrap();
    assert_eq!((person.lang_code.as_deref(), person.phone.as_deref()), (Some("ru"), None));

    let mut prompt = send_message(bare_peer(alice.id), "Sign in?", 1);
    prompt.reply_markup = Some(inline(&[("Yes", "y:1"), ("Help", "https://example.com/help")]));
    let prompt = sent_id(bot.call(2, &prompt).await.unwrap());
    let start_id = opened["message_id"].as_i64().unwrap();
    let shown = sandbox.messages(ALICE, start_id).await;
    let expected = json!([[{"text": "Yes", "kind": "callback"}, {"text": "Help", "kind": "url"}]]);
    assert_eq!(shown[0]["buttons"], expected);
    let shown_id = shown[0]["id"].as_i64().unwrap();

    let tap = sandbox.play(ALICE, "tap", json!({"message_id": shown_id, "button": "Yes"}));
    let bot_answers = async {
        let (update, users) = loop {
            let next = bot.update().await;
            if matches!(next.0, e::Update::BotCallbackQuery(_)) {
                break next;
            }
        };
        let e::Update::BotCallbackQuery(query) = update else { panic!("{update:?}") };
        assert_eq!(
            (query.user_id, query.msg_id, query.data.as_deref()),
            (alice.id, prompt, Some(&b"y:1"[..]))
        );
        assert!(users.iter().any(|user| user.id == alice.id && user.lang_code.as_deref() == Some("ru")));
        assert!(bot.call(2, &answer(query.query_id, "Done", true)).await.unwrap());
        assert_eq!(bot.refused(2, &answer(query.query_id, "Done", true)).await, "400 QUERY_ID_INVALID");
        bot.call(2, &edit_message(bare_peer(alice.id), prompt, "Signed in", None)).await.unwrap();
    };
    let (tapped, ()) = tokio::join!(tap, bot_answers);
    assert_eq!(tapped, json!({"answer": "Done", "alert": true}));
    let shown = sandbox.messages(ALICE, start_id).await;
    assert_eq!((&shown[0]["text"], &shown[0]["edited"]), (&json!("Signed in"), &json!(true)));
    assert_eq!(shown[0]["buttons"], json!([]));
    let gone = sandbox.play_refused(ALICE, "tap", json!({"message_id": shown_id, "button": "Yes"})).await;
    assert_eq!(gone, (404, "NOT_FOUND".to_owned()));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_press_over_the_wire_is_answered_over_the_wire() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let mut bot = sandbox.bot_client(&sandbox.bot("some_bot")).await;
    let mut alice = sandbox.person_client(ALICE).await;
    let some_bot = find(&alice, "some_bot").await;
    assert!(some_bot.bot);
    let start = f::messages::StartBot {
        bot: t::InputUser { user_id: some_bot.id, access_hash: some_bot.access_hash.unwrap() }.into(),
        peer: peer_of(&some_bot),
        random_id: 5,
        start_param: "x-1".to_owned(),
    };
    alice.call(2, &start).await.unwrap();
    let (start, users) = bot.new_message().await;
    assert_eq!(start.message, "/start x-1");
    let mut prompt = send_message(peer_of(users.iter().find(|user| !user.is_self).unwrap()), "?", 1);
    prompt.reply_markup = Some(inline(&[("Yes", "y"), ("No", "n")]));
    prompt.reply_to = Some(reply_to(start.id));
    bot.call(2, &prompt).await.unwrap();
    let (shown, users) = alice.new_message().await;
    assert!(users.iter().any(|user| user.id == some_bot.id && user.access_hash == some_bot.access_hash));
    assert!(
        matches!(&shown.reply_markup, Some(e::ReplyMarkup::ReplyInlineMarkup(inline)) if inline.rows.len() == 1)
    );
    let Some(e::MessageReplyHeader::Header(header)) = &shown.reply_to else { panic!("{shown:?}") };
    assert_eq!(header.reply_to_msg_id, Some(1), "her own copy");

    for (id, data, error) in [(shown.id, "z", "400 DATA_INVALID"), (99, "y", "400 MESSAGE_ID_INVALID")] {
        assert_eq!(alice.refused(2, &press(peer_of(&some_bot), id, data)).await, error);
    }
    let request = press(peer_of(&some_bot), shown.id, "n");
    let pressed = alice.call(2, &request);
    let answered = async {
        loop {
            if let (e::Update::BotCallbackQuery(query), _) = bot.update().await {
                bot.call(2, &answer(query.query_id, "as you like", false)).await.unwrap();
                break;
            }
        }
    };
    let (pressed, ()) = tokio::join!(pressed, answered);
    let e::messages::BotCallbackAnswer::Answer(pressed) = pressed.unwrap();
    assert_eq!((pressed.message.as_deref(), pressed.alert), (Some("as you like"), false));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_sent_message_whose_answer_was_lost_is_known_by_its_random_id() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let bob = sandbox.person_with(BOB, |person| person.username = Some("bob_b".to_owned()));
    sandbox.person(ALICE);
    let alice = sandbox.person_client(ALICE).await;
    let to_bob = peer_of(&find(&alice, "bob_b").await);
    sandbox.fault(json!({"cut_instead_of_answer": "messages.sendMessage", "times": 1})).await;
    let message = send_message(to_bob.clone(), "once", 77);
    let cut = alice.call(2, &message).await;
    assert!(matches!(cut, Err(InvocationError::Io(_))), "{cut:?}");
    assert_eq!(alice.refused(2, &message).await, "500 RANDOM_ID_DUPLICATE");
    let key = alice.session.options.lock().unwrap()[&2].clone();
    drop(alice);
    sandbox.stop().await;

    let sandbox = Running::start(folder.path()).await;
    let option = grammers_session::types::DcOption { ipv4: sandbox.address(2), ..key };
    let alice = Grammers::new(std::iter::once((2, option)).collect());
    assert_eq!(alice.refused(2, &message).await, "500 RANDOM_ID_DUPLICATE");
    let answer = alice.call(2, &send_message(to_bob, "twice", 78)).await.unwrap();
    let e::Updates::UpdateShortSentMessage(short) = answer else { panic!("{answer:?}") };
    assert!(short.out);
    let seen = sandbox.messages(BOB, 0).await;
    let texts: Vec<_> = seen.iter().map(|message| message["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["once", "twice"]);
    assert_eq!(seen[0]["out"], json!(false));
    assert_ne!(seen[0]["from_id"], json!(bob.id));
    sandbox.stop().await;
}

#[tokio::test]
async fn the_phone_is_shared_by_a_button_and_the_contact_tells_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let bob = sandbox.person(BOB);
    let mut bot = sandbox.bot_client(&sandbox.bot("some_bot")).await;
    let hello = json!({"to": "@some_bot", "text": "hello"});
    let hello = sandbox.play(ALICE, "send", hello).await;
    bot.new_message().await;
    let mut ask = send_message(bare_peer(alice.id), "Your number?", 1);
    ask.reply_markup = Some(phone_keyboard());
    let asked = sent_id(bot.call(2, &ask).await.unwrap());
    let shown = sandbox.messages(ALICE, hello["id"].as_i64().unwrap()).await;
    let kinds =
        json!([[{"text": "Share my number", "kind": "request_phone"}], [{"text": "No", "kind": "text"}]]);
    assert_eq!(shown[0]["buttons"], kinds);
    let id = &shown[0]["id"];
    sandbox.play(ALICE, "tap", json!({"message_id": id, "button": "Share my number"})).await;
    let (shared, _) = bot.new_message().await;
    let Some(e::MessageMedia::Contact(contact)) = shared.media else { panic!("no contact") };
    assert_eq!((contact.phone_number.as_str(), contact.user_id), ("15550100001", alice.id));
    let Some(e::MessageReplyHeader::Header(header)) = shared.reply_to else { panic!("no reply") };
    assert_eq!(header.reply_to_msg_id, Some(asked));
    sandbox.play(ALICE, "tap", json!({"message_id": id, "button": "No"})).await;
    assert_eq!(bot.new_message().await.0.message, "No");

    for (card, user_id) in [
        (json!({"phone": BOB, "first_name": "Bob"}), bob.id),
        (json!({"phone": "+15550199999", "first_name": "Nobody"}), 0),
        (json!({"phone": BOB, "first_name": "Bob", "user_id": alice.id}), alice.id),
    ] {
        sandbox.play(ALICE, "send", json!({"to": "some_bot", "contact": card})).await;
        let (shared, _) = bot.new_message().await;
        let Some(e::MessageMedia::Contact(contact)) = shared.media else { panic!("no contact") };
        assert_eq!(contact.user_id, user_id);
    }
    let mut hide = send_message(bare_peer(alice.id), "Thank you", 2);
    hide.reply_markup = Some(t::ReplyKeyboardHide { selective: false }.into());
    bot.call(2, &hide).await.unwrap();
    sandbox.stop().await;
}

#[tokio::test]
async fn a_person_has_no_buttons_and_learns_no_language() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    sandbox.person_with(BOB, |person| {
        person.username = Some("bob_b".to_owned());
        person.lang_code = Some("ru".to_owned());
    });
    let mut alice = sandbox.person_client(ALICE).await;
    let bob = find(&alice, "bob_b").await;
    assert_eq!((bob.lang_code.as_deref(), bob.phone.as_deref()), (None, None));
    let mut message = send_message(peer_of(&bob), "buttons?", 1);
    message.reply_markup = Some(inline(&[("", "")]));
    let answer = alice.call(2, &message).await.unwrap();
    assert!(matches!(answer, e::Updates::UpdateShortSentMessage(_)), "even bad buttons are passed over");
    let seen = sandbox.messages(BOB, 0).await;
    assert_eq!(seen[0]["buttons"], json!([]));

    let reply = json!({"to": ALICE, "text": "none", "reply_to": seen[0]["id"]});
    sandbox.play(BOB, "send", reply).await;
    let (reply, users) = alice.new_message().await;
    assert_eq!((reply.message.as_str(), reply.out), ("none", false));
    assert!(users.iter().all(|user| user.id != bob.id || user.lang_code.is_none() && user.phone.is_none()));
    let stranger = send_message(bare_peer(bob.id), "no hash", 2);
    assert_eq!(alice.refused(2, &stranger).await, "400 PEER_ID_INVALID");
    sandbox.stop().await;
}

#[tokio::test]
async fn who_may_write_to_whom() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let bob = sandbox.person(BOB);
    let some_bot = sandbox.bot("some_bot");
    let bot = sandbox.bot_client(&some_bot).await;
    let to_alice = |random_id| send_message(bare_peer(alice.id), "hello", random_id);
    assert_eq!(bot.refused(2, &to_alice(1)).await, "400 PEER_ID_INVALID", "never started");
    sandbox.play(ALICE, "open", json!({"link": "https://t.me/some_bot?start="})).await;
    bot.call(2, &to_alice(2)).await.unwrap();
    sandbox.play(ALICE, "block", json!({"who": "some_bot", "blocked": true})).await;
    assert_eq!(bot.refused(2, &to_alice(3)).await, "400 USER_IS_BLOCKED");
    let written = json!({"to": "some_bot", "text": "x"});
    let refused = sandbox.play_refused(ALICE, "send", written).await;
    assert_eq!(refused, (400, "YOU_BLOCKED_USER".to_owned()));
    sandbox.play(ALICE, "open", json!({"link": "tg://resolve?domain=some_bot&start=again"})).await;
    bot.call(2, &to_alice(3)).await.unwrap();

    sandbox.play(ALICE, "block", json!({"who": bob.id, "blocked": true})).await;
    sandbox.play(BOB, "send", json!({"to": ALICE, "text": "do you hear me?"})).await;
    let heard = sandbox.messages(ALICE, 0).await;
    assert!(heard.iter().all(|message| message["text"] != "do you hear me?"), "and Bob is not told");

    let other = sandbox.bot("other_bot");
    let to_bot = send_message(bare_peer(other.id), "hello", 4);
    assert_eq!(bot.refused(2, &to_bot).await, "400 PEER_ID_INVALID");
    for (what, body, refusal) in [
        ("send", json!({"to": "nobody_here", "text": "x"}), (404, "NOT_FOUND")),
        ("send", json!({"to": "some_bot", "text": " "}), (400, "MESSAGE_EMPTY")),
        ("send", json!({"to": "some_bot", "text": "x".repeat(4097)}), (400, "MESSAGE_TOO_LONG")),
        ("send", json!({"to": "some_bot", "text": "x", "reply_to": 99}), (400, "REPLY_MESSAGE_ID_INVALID")),
        ("send", json!({"to": true, "text": "x"}), (400, "INVALID_REQUEST")),
        ("open", json!({"link": "https://example.com/"}), (400, "INVALID_REQUEST")),
        ("open", json!({"link": "https://t.me/nobody_here?start=1"}), (404, "NOT_FOUND")),
        ("open", json!({"link": "https://t.me/some_bot?start=a.b"}), (400, "START_PARAM_INVALID")),
        ("tap", json!({"message_id": 99, "button": "x"}), (404, "MESSAGE_ID_INVALID")),
        ("forward", json!({"message_id": 99, "to": BOB}), (404, "MESSAGE_ID_INVALID")),
        ("delete", json!({"message_id": 99}), (404, "MESSAGE_ID_INVALID")),
        ("block", json!({"who": "nobody_here", "blocked": true}), (404, "NOT_FOUND")),
        ("username", json!({"username": "1"}), (400, "USERNAME_INVALID")),
        ("username", json!({"username": "some_bot"}), (409, "USERNAME_OCCUPIED")),
    ] {
        let refused = sandbox.play_refused(ALICE, what, body.clone()).await;
        assert_eq!(refused, (refusal.0, refusal.1.to_owned()), "{what} {body}");
    }
    sandbox.play(ALICE, "block", json!({"who": "some_bot", "blocked": true})).await;
    let bad = json!({"link": "https://t.me/some_bot?start=a.b"});
    assert_eq!(sandbox.play_refused(ALICE, "open", bad).await.1, "START_PARAM_INVALID");
    let (_, people) = sandbox.control("GET", "/api/accounts", None).await;
    let alice = people.as_array().unwrap().iter().find(|person| person["phone"] == json!(ALICE)).unwrap();
    let blocked = alice["blocked"].as_array().unwrap().len();
    assert_eq!(blocked, 2, "Bob, and the bot: a link that does nothing unblocks nobody");
    sandbox.stop().await;
}

#[tokio::test]
async fn what_telegram_refuses_of_a_bots_messages() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let bot = sandbox.bot_client(&sandbox.bot("some_bot")).await;
    let started = sandbox.play(ALICE, "open", json!({"link": "t.me/some_bot?start=1"})).await;
    assert_eq!(started["message_id"], json!(1));
    let peer = bare_peer(alice.id);
    let long = "x".repeat(65);
    for (buttons, error) in [
        (inline(&[("Yes", "")]), "400 BUTTON_DATA_INVALID"),
        (inline(&[("Yes", &long)]), "400 BUTTON_DATA_INVALID"),
        (inline(&[("Go", "https://nowhere")]), "400 BUTTON_URL_INVALID"),
        (inline(&[("Go", "javascript://a.b/")]), "400 BUTTON_URL_INVALID"),
        (inline(&[(" ", "y")]), "400 BUTTON_TEXT_INVALID"),
        (inline(&[]), "400 REPLY_MARKUP_INVALID"),
        (inline(&[("Yes", "y"); 101]), "400 REPLY_MARKUP_TOO_LONG"),
    ] {
        let mut message = send_message(peer.clone(), "?", 9);
        message.reply_markup = Some(buttons);
        assert_eq!(bot.refused(2, &message).await, error);
    }
    for (text, error) in [("", "400 MESSAGE_EMPTY"), (&"ы".repeat(4097), "400 MESSAGE_TOO_LONG")] {
        assert_eq!(bot.refused(2, &send_message(peer.clone(), text, 9)).await, error);
    }
    bot.call(2, &send_message(peer.clone(), &"ы".repeat(4096), 8)).await.unwrap();

    let mut prompt = send_message(peer.clone(), "one", 9);
    prompt.reply_markup = Some(inline(&[("Yes", &"y".repeat(64))]));
    let id = sent_id(bot.call(2, &prompt).await.unwrap());
    let edit = |id, text: &str, markup| edit_message(peer.clone(), id, text, markup);
    let same = edit(id, "one", prompt.reply_markup.clone());
    assert_eq!(bot.refused(2, &same).await, "400 MESSAGE_NOT_MODIFIED");
    assert_eq!(bot.refused(2, &edit(1, "mine now", None)).await, "403 MESSAGE_AUTHOR_REQUIRED");
    assert_eq!(bot.refused(2, &edit(99, "nothing", None)).await, "400 MESSAGE_ID_INVALID");
    assert_eq!(bot.refused(2, &edit(id, "", None)).await, "400 MESSAGE_EMPTY");
    assert_eq!(bot.refused(2, &edit(id, "two", Some(phone_keyboard()))).await, "400 REPLY_MARKUP_INVALID");
    bot.call(2, &edit(id, "one", None)).await.unwrap();
    assert_eq!(bot.refused(2, &edit(id, "one", None)).await, "400 MESSAGE_NOT_MODIFIED");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_press_that_no_bot_hears_times_out_and_is_in_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let some_bot = sandbox.bot("some_bot");
    sandbox.play(ALICE, "send", json!({"to": some_bot.id, "text": "hello"})).await;
    let bot = sandbox.bot_client(&some_bot).await;
    let mut prompt = send_message(bare_peer(alice.id), "?", 1);
    prompt.reply_markup = Some(inline(&[("Yes", "y")]));
    bot.call(2, &prompt).await.unwrap();
    let state = bot.call(2, &f::updates::GetState {}).await.unwrap();
    let options = bot.session.options.lock().unwrap().clone();
    drop(bot);
    let tap = json!({"message_id": 2, "button": "Yes", "wait": 1});
    let refused = sandbox.play_refused(ALICE, "tap", tap).await;
    assert_eq!(refused, (504, "BOT_RESPONSE_TIMEOUT".to_owned()));

    let mut bot = Grammers::new(options);
    let e::updates::State::State(state) = state;
    let missed = f::updates::GetDifference {
        pts: state.pts,
        pts_limit: None,
        pts_total_limit: None,
        date: state.date,
        qts: state.qts,
        qts_limit: None,
    };
    let missed = bot.call(2, &missed).await.unwrap();
    assert!(matches!(missed, e::updates::Difference::Empty(_)), "{missed:?}");
    let tap = sandbox.play(ALICE, "tap", json!({"message_id": 2, "button": "Yes"}));
    let answered = async {
        let (e::Update::BotCallbackQuery(query), _) = bot.update().await else { panic!("no query") };
        bot.call(2, &answer(query.query_id, "now", false)).await.unwrap();
    };
    let (tapped, ()) = Box::pin(soon(async { tokio::join!(tap, answered) })).await;
    assert_eq!(tapped["answer"], json!("now"));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_forwarded_keyboard_stays_only_when_it_is_all_links() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    sandbox.person(BOB);
    let bot = sandbox.bot_client(&sandbox.bot("some_bot")).await;
    sandbox.play(ALICE, "send", json!({"to": "some_bot", "text": "hello"})).await;
    for (random_id, buttons) in [
        (1, inline(&[("Yes", "y"), ("Help", "https://example.com/")])),
        (2, inline(&[("Help", "https://example.com/")])),
    ] {
        let mut prompt = send_message(bare_peer(alice.id), "?", random_id);
        prompt.reply_markup = Some(buttons);
        bot.call(2, &prompt).await.unwrap();
    }
    sandbox.play(ALICE, "forward", json!({"message_id": 2, "to": BOB})).await;
    sandbox.play(ALICE, "forward", json!({"message_id": 3, "to": BOB})).await;
    let seen = sandbox.messages(BOB, 0).await;
    assert_eq!(seen[0]["buttons"], json!([]));
    assert_eq!(seen[0]["forwarded"], json!(true));
    assert_eq!(seen[1]["buttons"], json!([[{"text": "Help", "kind": "url"}]]));
    let opened = sandbox.play(BOB, "tap", json!({"message_id": 2, "button": "Help"})).await;
    assert_eq!(opened, json!({"answer": null, "alert": false, "url": "https://example.com/"}));
    sandbox.stop().await;
}

#[tokio::test]
async fn history_is_read_page_by_page_and_messages_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    sandbox.person_with(BOB, |person| person.username = Some("bob_b".to_owned()));
    let alice = sandbox.person_client(ALICE).await;
    let bob = peer_of(&find(&alice, "bob_b").await);
    for number in 1..=5 {
        sandbox.play(BOB, "send", json!({"to": ALICE, "text": number.to_string()})).await;
    }
    let page = |offset_id, add_offset, limit| f::messages::GetHistory {
        peer: bob.clone(),
        offset_id,
        offset_date: 0,
        add_offset,
        limit,
        max_id: 0,
        min_id: 0,
        hash: 0,
    };
    let listed = |messages: e::messages::Messages| {
        if let e::messages::Messages::Slice(slice) = messages {
            assert_eq!(slice.count, 5);
            return slice.messages;
        }
        let e::messages::Messages::Messages(all) = messages else { panic!("{messages:?}") };
        all.messages
    };
    let texts =
        |messages| listed(messages).into_iter().map(|message| full(message).message).collect::<Vec<_>>();
    let all = alice.call(2, &page(0, 0, 100)).await.unwrap();
    let oldest = listed(all.clone()).last().unwrap().id();
    assert_eq!(texts(all), ["5", "4", "3", "2", "1"]);
    assert_eq!(texts(alice.call(2, &page(0, 0, 2)).await.unwrap()), ["5", "4"]);
    assert_eq!(texts(alice.call(2, &page(oldest + 3, 0, 2)).await.unwrap()), ["3", "2"]);
    assert_eq!(texts(alice.call(2, &page(oldest + 3, -1, 2)).await.unwrap()), ["4", "3"]);
    let get = f::messages::GetMessages {
        id: vec![t::InputMessageId { id: oldest }.into(), t::InputMessageId { id: 999 }.into()],
    };
    let e::messages::Messages::Messages(got) = alice.call(2, &get).await.unwrap() else { panic!("none") };
    assert!(matches!(got.messages[..], [e::Message::Message(_), e::Message::Empty(_)]));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_new_username_is_told_to_the_persons_own_devices() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person_with(ALICE, |person| person.username = Some("alice_a".to_owned()));
    let mut alice = sandbox.person_client(ALICE).await;
    let renamed = sandbox.play(ALICE, "username", json!({"username": "Alice_New"})).await;
    assert_eq!(renamed["username"], json!("Alice_New"));
    let (e::Update::UserName(update), _) = alice.update().await else { panic!("not told") };
    let e::Username::Username(username) = &update.usernames[0];
    assert_eq!(username.username, "Alice_New");
    let gone = f::contacts::ResolveUsername { username: "alice_a".to_owned(), referer: None };
    assert_eq!(alice.refused(2, &gone).await, "400 USERNAME_NOT_OCCUPIED");
    find(&alice, "alice_new").await;
    let change = |username: &str| f::account::UpdateUsername { username: username.to_owned() };
    assert_eq!(alice.refused(2, &change("Alice_New")).await, "400 USERNAME_NOT_MODIFIED");
    alice.call(2, &change("")).await.unwrap();
    assert_eq!(alice.me(2).await.unwrap().username, None);
    sandbox.stop().await;
}
