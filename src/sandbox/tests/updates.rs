//! Updates of chats on the wire: who is told what, what a cut or a lost push leaves to the difference, and what a restart
//! keeps.

use grammers_tl_types as tl;
use serde_json::json;
use tl::Identifiable;
use tl::enums as e;
use tl::functions as f;
use tl::types as t;

use super::support::ALICE;
use super::support::Grammers;
use super::support::Running;
use super::support::bare_peer;
use super::support::edit_message;
use super::support::full;
use super::support::get_self;
use super::support::inline;
use super::support::send_message;
use super::support::sent_id;
use super::support::soon;

async fn state(client: &Grammers) -> t::updates::State {
    let e::updates::State::State(state) = client.call(2, &f::updates::GetState {}).await.unwrap();
    state
}

fn since(state: &t::updates::State) -> f::updates::GetDifference {
    f::updates::GetDifference {
        pts: state.pts,
        pts_limit: None,
        pts_total_limit: None,
        date: state.date,
        qts: state.qts,
        qts_limit: None,
    }
}

/// New messages, other updates, and where the client then stands; a slice or the whole.
type Missed = (Vec<t::Message>, Vec<e::Update>, t::updates::State, Vec<e::User>);

async fn missed(client: &Grammers, from: &t::updates::State) -> (Missed, bool) {
    let (missed, last) = match client.call(2, &since(from)).await.unwrap() {
        e::updates::Difference::Difference(all) => {
            ((all.new_messages, all.other_updates, all.state, all.users), true)
        }
        e::updates::Difference::Slice(part) => {
            ((part.new_messages, part.other_updates, part.intermediate_state, part.users), false)
        }
        none @ (e::updates::Difference::Empty(_) | e::updates::Difference::TooLong(_)) => panic!("{none:?}"),
    };
    let (messages, others, e::updates::State::State(state), users) = missed;
    ((messages.into_iter().map(full).collect(), others, state, users), last)
}

/// A bot that Alice has started, signed in.
async fn started(sandbox: &Running) -> (Grammers, e::InputPeer) {
    let alice = sandbox.person(ALICE);
    let some_bot = sandbox.bot("some_bot");
    let bot = sandbox.bot_client(&some_bot).await;
    sandbox.play(ALICE, "send", json!({"to": "some_bot", "text": "/start"})).await;
    (bot, bare_peer(alice.id))
}

#[tokio::test]
async fn lost_pushes_of_new_and_changed_messages_are_in_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let (bot, peer) = started(&sandbox).await;
    let alice = sandbox.person_client(ALICE).await;
    let old = sent_id(bot.call(2, &send_message(peer.clone(), "old", 1)).await.unwrap());
    let start = state(&alice).await;
    sandbox.fault(json!({"drop_pushes": 3})).await;
    sandbox.fault(json!({"difference_slice": 1})).await;
    let mut new = send_message(peer.clone(), "new", 2);
    new.reply_markup = Some(inline(&[("Yes", "y")]));
    let new = sent_id(bot.call(2, &new).await.unwrap());
    for (id, text) in [(old, "old, changed"), (new, "new, changed")] {
        bot.call(2, &edit_message(peer.clone(), id, text, None)).await.unwrap();
    }
    let (_, faults) = sandbox.control("GET", "/api/faults", None).await;
    assert_eq!(faults.as_array().unwrap().len(), 1, "three pushes were dropped: {faults}");

    let ((first, _, at, users), last) = missed(&alice, &start).await;
    assert_eq!((first.len(), last), (1, false));
    assert_eq!((first[0].message.as_str(), first[0].reply_markup.as_ref()), ("new, changed", None));
    let bot_id = bot.me(2).await.unwrap().id;
    let known = |user: &&e::User| matches!(user, e::User::User(user) if user.id == bot_id && !user.min);
    assert!(users.iter().find(known).is_some());
    let ((none, second, at, _), last) = missed(&alice, &at).await;
    assert_eq!((none.len(), last), (0, false));
    let [e::Update::EditMessage(edit)] = &second[..] else { panic!("{second:?}") };
    assert_eq!(full(edit.message.clone()).message, "old, changed");
    assert!(full(edit.message.clone()).edit_date.is_some());
    let ((_, third, at, _), last) = missed(&alice, &at).await;
    let [e::Update::EditMessage(edit)] = &third[..] else { panic!("{third:?}") };
    assert_eq!((full(edit.message.clone()).id, last), (first[0].id, true));
    assert_eq!(at.pts, state(&alice).await.pts);
    sandbox.stop().await;
}

#[tokio::test]
async fn every_device_is_told_but_the_one_that_sent_has_its_answer_only() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let (bot, peer) = started(&sandbox).await;
    let mut other = sandbox.bot_client(&sandbox_bot(&sandbox)).await;
    let mut raw = sandbox.raw(2).await;
    raw.introduce().await;
    let sign_in = f::auth::ImportBotAuthorization {
        flags: 0,
        api_id: 7,
        api_hash: super::support::API_HASH.to_owned(),
        bot_auth_token: sandbox_bot(&sandbox).token,
    };
    raw.call(&sign_in).await.unwrap();
    let answer = raw.call(&send_message(peer.clone(), "from the raw one", 1)).await.unwrap();
    let e::Updates::UpdateShortSentMessage(short) = answer else { panic!("{answer:?}") };
    let (e::Update::NewMessage(told), _) = other.update().await else { panic!("not told") };
    let told_message = full(told.message);
    assert_eq!((told_message.id, told_message.out, told.pts), (short.id, true, short.pts));

    // The next thing that the sender hears of is somebody else's message.
    sandbox.play(ALICE, "send", json!({"to": "some_bot", "text": "hello"})).await;
    let push = raw.find(t::UpdateShortMessage::CONSTRUCTOR_ID).await;
    let e::Updates::UpdateShortMessage(push) = tl::Deserializable::from_bytes(&push.body).unwrap() else {
        panic!("not short")
    };
    assert_eq!((push.message.as_str(), push.out), ("hello", false));
    drop(bot);
    sandbox.stop().await;
}

fn sandbox_bot(sandbox: &Running) -> crate::sandbox::Bot {
    sandbox.sandbox.hub.look(|world| world.bots().find_map(crate::sandbox::Bot::of)).unwrap()
}

#[tokio::test]
async fn a_deleted_message_is_gone_for_both_and_cannot_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let (mut bot, peer) = started(&sandbox).await;
    let id = sent_id(bot.call(2, &send_message(peer.clone(), "?", 1)).await.unwrap());
    let before = state(&bot).await;
    sandbox.play(ALICE, "delete", json!({"message_id": 2, "for_everyone": true})).await;
    let deleted = loop {
        if let (e::Update::DeleteMessages(deleted), _) = bot.update().await {
            break deleted;
        }
    };
    assert_eq!((deleted.messages, deleted.pts), (vec![id], before.pts + 1));
    assert_eq!(bot.refused(2, &edit_message(peer.clone(), id, "!", None)).await, "400 MESSAGE_ID_INVALID");
    let mut reply = send_message(peer.clone(), "!", 2);
    reply.reply_to = Some(super::support::reply_to(id));
    assert_eq!(bot.refused(2, &reply).await, "400 REPLY_MESSAGE_ID_INVALID");
    let ((new, others, _, _), _) = missed(&bot, &before).await;
    assert_eq!(new.len(), 0);
    assert!(matches!(&others[..], [e::Update::DeleteMessages(gone)] if gone.messages == [id]));

    let kept = sent_id(bot.call(2, &send_message(peer, "!", 3)).await.unwrap());
    let gone = f::messages::DeleteMessages { revoke: false, id: vec![kept, 999] };
    let e::messages::AffectedMessages::Messages(affected) = bot.call(2, &gone).await.unwrap();
    assert_eq!(affected.pts_count, 1);
    let left: Vec<_> = sandbox.messages(ALICE, 0).await;
    assert_eq!(left.len(), 1, "what a bot deletes is deleted for both: {left:?}");
    sandbox.stop().await;
}

#[tokio::test]
async fn chats_survive_a_restart_with_their_buttons_changes_and_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let (bot, peer) = started(&sandbox).await;
    let mut prompt = send_message(peer.clone(), "?", 1);
    prompt.reply_markup = Some(inline(&[("Yes", "y"), ("Help", "https://example.com/")]));
    let prompt_id = sent_id(bot.call(2, &prompt).await.unwrap());
    let mut keyboard = send_message(peer.clone(), "Your number?", 2);
    keyboard.reply_markup = Some(super::support::phone_keyboard());
    bot.call(2, &keyboard).await.unwrap();
    let plain = sent_id(bot.call(2, &send_message(peer.clone(), "one", 3)).await.unwrap());
    bot.call(2, &edit_message(peer.clone(), plain, "two", None)).await.unwrap();
    sandbox.play(ALICE, "tap", json!({"message_id": 3, "button": "Share my number"})).await;
    let before = sandbox.messages(ALICE, 0).await;
    let start = state(&bot).await;
    let options = bot.session.options.lock().unwrap().clone();
    sandbox.play(ALICE, "block", json!({"who": "some_bot", "blocked": true})).await;
    drop(bot);
    sandbox.stop().await;

    let sandbox = Running::start(folder.path()).await;
    assert_eq!(sandbox.messages(ALICE, 0).await, before);
    let option = grammers_session::types::DcOption { ipv4: sandbox.address(2), ..options[&2].clone() };
    let mut bot = Grammers::new(std::iter::once((2, option)).collect());
    assert_eq!(state(&bot).await.pts, start.pts);
    assert_eq!(bot.refused(2, &send_message(peer.clone(), "x", 4)).await, "400 USER_IS_BLOCKED");
    sandbox.play(ALICE, "block", json!({"who": "some_bot", "blocked": false})).await;
    let tap = sandbox.play(ALICE, "tap", json!({"message_id": 2, "button": "Yes"}));
    let answered = async {
        let (e::Update::BotCallbackQuery(query), _) = bot.update().await else { panic!("no query") };
        assert_eq!(query.msg_id, prompt_id);
        let answer = f::messages::SetBotCallbackAnswer {
            alert: false,
            query_id: query.query_id,
            message: None,
            url: None,
            cache_time: 0,
        };
        bot.call(2, &answer).await.unwrap();
    };
    let (tapped, ()) = tokio::join!(tap, answered);
    assert_eq!(tapped, json!({"answer": null, "alert": false}));
    bot.call(2, &edit_message(peer, prompt_id, "Done", None)).await.unwrap();
    assert_eq!(sandbox.messages(ALICE, 1).await[0]["text"], json!("Done"));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_journal_of_things_long_past_is_written_anew_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let (bot, peer) = started(&sandbox).await;
    let id = sent_id(bot.call(2, &send_message(peer.clone(), "0", 1)).await.unwrap());
    let length = || std::fs::metadata(folder.path().join("journal")).unwrap().len();
    let before = length();
    sandbox.sandbox.hub.let_journal_grow_to(before);
    let mut longest = before;
    for number in 1..100 {
        bot.call(2, &edit_message(peer.clone(), id, &number.to_string(), None)).await.unwrap();
        longest = longest.max(length());
    }
    assert!(longest < 3 * before, "{longest} bytes, {before} before");
    let seen = sandbox.messages(ALICE, 0).await;
    assert_eq!(seen[1]["text"], json!("99"));
    sandbox.stop().await;
    let sandbox = Running::start(folder.path()).await;
    assert_eq!(sandbox.messages(ALICE, 0).await, seen);
    sandbox.stop().await;
}

#[tokio::test]
async fn who_was_away_too_long_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let (bot, peer) = started(&sandbox).await;
    sandbox.sandbox.hub.transact(|world, _| world.keep_at_most(3)).unwrap();
    let start = state(&bot).await;
    for number in 0..5 {
        bot.call(2, &send_message(peer.clone(), "x", number)).await.unwrap();
    }
    let now = state(&bot).await;
    let missed = bot.call(2, &since(&start)).await.unwrap();
    assert!(matches!(missed, e::updates::Difference::TooLong(too_long) if too_long.pts == now.pts));
    let missed = bot.call(2, &since(&now)).await.unwrap();
    assert!(matches!(missed, e::updates::Difference::Empty(_)));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_page_waits_for_changes_and_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let version = async |query: &str| {
        let (status, answer) = sandbox.control("GET", &format!("/api/changes{query}"), None).await;
        assert_eq!(status, 200, "{answer}");
        answer["version"].as_u64().unwrap()
    };
    let now = version("").await;
    assert_eq!(version(&format!("?after={now}")).await, now, "nothing has changed");
    assert_eq!(version(&format!("?after={}&wait=20", now - 1)).await, now, "another one is known at once");
    let waited = format!("?after={now}&wait=20");
    let (changed, _) = soon(async {
        tokio::join!(version(&waited), sandbox.play(ALICE, "send", json!({"to": ALICE, "text": "note"})))
    })
    .await;
    assert_ne!(changed, now);
    sandbox.stop().await;
}

#[tokio::test]
async fn people_block_over_the_wire_and_methods_keep_to_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let (bot, peer) = started(&sandbox).await;
    let alice = sandbox.person_client(ALICE).await;
    let request = f::contacts::ResolveUsername { username: "some_bot".to_owned(), referer: None };
    let e::contacts::ResolvedPeer::Peer(found) = alice.call(2, &request).await.unwrap();
    let e::User::User(some_bot) = &found.users[0] else { panic!("nobody") };
    let to_bot = super::support::peer_of(some_bot);
    alice.call(2, &f::contacts::Block { my_stories_from: false, id: to_bot.clone() }).await.unwrap();
    assert_eq!(bot.refused(2, &send_message(peer.clone(), "x", 1)).await, "400 USER_IS_BLOCKED");
    assert_eq!(alice.refused(2, &send_message(to_bot.clone(), "x", 1)).await, "400 YOU_BLOCKED_USER");
    alice.call(2, &f::contacts::Unblock { my_stories_from: false, id: to_bot.clone() }).await.unwrap();
    bot.call(2, &send_message(peer.clone(), "x", 1)).await.unwrap();

    let read = f::messages::ReadHistory { peer: to_bot, max_id: 0 };
    let e::messages::AffectedMessages::Messages(affected) = alice.call(2, &read).await.unwrap();
    assert_eq!((affected.pts, affected.pts_count), (state(&alice).await.pts, 0));
    let as_bot = f::messages::ReadHistory { peer: peer.clone(), max_id: 0 };
    assert_eq!(bot.refused(2, &as_bot).await, "400 BOT_METHOD_INVALID");
    let as_person = f::messages::SetBotCallbackAnswer {
        alert: false,
        query_id: 1,
        message: None,
        url: None,
        cache_time: 0,
    };
    assert_eq!(alice.refused(2, &as_person).await, "400 USER_BOT_REQUIRED");
    let typing = e::SendMessageAction::SendMessageTypingAction;
    let typing = f::messages::SetTyping { peer: peer.clone(), top_msg_id: None, action: typing };
    assert!(bot.call(2, &typing).await.unwrap());
    let commands = f::bots::SetBotCommands {
        scope: e::BotCommandScope::Default,
        lang_code: String::new(),
        commands: vec![],
    };
    assert!(bot.call(2, &commands).await.unwrap());
    sandbox.fault(json!({"method": "messages.sendMessage", "error": "FLOOD_WAIT_7", "times": 1})).await;
    assert_eq!(bot.refused(2, &send_message(peer, "x", 2)).await, "420 FLOOD_WAIT 7");
    let (_, calls) = sandbox.control("GET", "/api/calls", None).await;
    assert!(calls.as_array().unwrap().iter().all(|call| call["unknown"] == json!(false)), "{calls}");
    bot.call(2, &get_self()).await.unwrap();
    sandbox.stop().await;
}

#[tokio::test]
async fn after_a_write_that_failed_nothing_happens_until_everything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let _client = started(&sandbox).await;
    // Where the journal would be written anew.
    let obstacle = folder.path().join("journal.new");
    std::fs::create_dir(&obstacle).unwrap();
    sandbox.sandbox.hub.break_journal();
    let note = |text: &str| json!({"to": ALICE, "text": text});
    for text in ["lost at first", "refused"] {
        assert_eq!(sandbox.play_refused(ALICE, "send", note(text)).await.0, 500);
    }
    let advance = json!({"advance_seconds": 5});
    assert_eq!(sandbox.control("POST", "/api/clock", Some(advance)).await.0, 500);
    assert!(sandbox.clock.offset_millis() < 5_000);
    std::fs::remove_dir(&obstacle).unwrap();
    sandbox.play(ALICE, "send", note("kept")).await;
    let seen = sandbox.messages(ALICE, 0).await;
    let texts: Vec<_> = seen.iter().map(|message| message["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["/start", "lost at first", "kept"]);
    sandbox.stop().await;
    let sandbox = Running::start(folder.path()).await;
    assert_eq!(sandbox.messages(ALICE, 0).await, seen);
    sandbox.stop().await;
}

#[tokio::test]
async fn the_list_of_chats_has_the_newest_first_and_goes_on_from_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let (bot, peer) = started(&sandbox).await;
    for phone in ["+15550100002", "+15550100003"] {
        sandbox.person(phone);
        sandbox.play(phone, "send", json!({"to": ALICE, "text": "hello"})).await;
    }
    bot.call(2, &send_message(peer, "last", 1)).await.unwrap();
    let alice = sandbox.person_client(ALICE).await;
    let ask = |offset_id, limit| f::messages::GetDialogs {
        exclude_pinned: false,
        folder_id: None,
        offset_date: 0,
        offset_id,
        offset_peer: e::InputPeer::Empty,
        limit,
        hash: 0,
    };
    let texts = |messages: Vec<e::Message>| -> Vec<String> {
        messages.into_iter().map(|message| full(message).message).collect()
    };
    let e::messages::Dialogs::Dialogs(all) = alice.call(2, &ask(0, 50)).await.unwrap() else {
        panic!("all of them")
    };
    assert_eq!(texts(all.messages.clone()), ["last", "hello", "hello"]);
    assert_eq!((all.dialogs.len(), all.users.len()), (3, 4), "she is among the users");
    let e::messages::Dialogs::Slice(two) = alice.call(2, &ask(0, 2)).await.unwrap() else { panic!("two") };
    assert_eq!((two.count, two.dialogs.len()), (3, 2));
    let last = full(two.messages[1].clone()).id;
    let e::messages::Dialogs::Slice(rest) = alice.call(2, &ask(last, 50)).await.unwrap() else {
        panic!("the rest")
    };
    assert_eq!(texts(rest.messages), ["hello"]);
    assert_eq!(bot.refused(2, &ask(0, 1)).await, "400 BOT_METHOD_INVALID");
    sandbox.stop().await;
}
