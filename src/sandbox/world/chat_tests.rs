//! Chats in the world alone: differences from wherever a client stopped, what is kept and what is let go.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
}

fn person(phone: &str) -> PersonProfile {
    PersonProfile {
        phone: phone.to_owned(),
        first_name: "Somebody".to_owned(),
        last_name: None,
        username: None,
        lang_code: None,
        dc: None,
        password: None,
    }
}

/// Alice, Bob and a bot.
fn world() -> (World, [AccountId; 3]) {
    let mut world = World::new(Ids::from_seed([5; 32]));
    let alice = world.add_person(person("+15550100001")).unwrap();
    let bob = world.add_person(person("+15550100002")).unwrap();
    let bot = BotProfile { username: "some_bot".to_owned(), name: "Some".to_owned(), dc: None };
    let bot = world.add_bot(bot).unwrap();
    (world, [alice, bob, bot])
}

fn by(account: AccountId) -> Sender {
    Sender { account, device: None }
}

fn text(text: &str) -> Draft {
    Draft { text: text.to_owned(), ..Draft::default() }
}

fn buttons(data: &[&str]) -> Markup {
    let button = |data: &&str| InlineButton {
        text: (*data).to_owned(),
        action: InlineAction::Callback(data.as_bytes().to_vec()),
    };
    Markup::Inline(vec![data.iter().map(button).collect()])
}

fn rebuilt(records: impl IntoIterator<Item = Record>, max_kept: usize) -> World {
    let mut world = World::new(Ids::from_seed([8; 32]));
    world.max_kept = max_kept;
    for record in records {
        let kept = serde_json::to_string(&record).unwrap();
        world.restore(serde_json::from_str(&kept).unwrap());
    }
    world
}

fn show(world: &World) -> serde_json::Value {
    serde_json::to_value(world.all_records().collect::<Vec<_>>()).unwrap()
}

/// Everything an account has, by id.
fn all(world: &World, account: AccountId) -> BTreeMap<i32, Message> {
    world.messages_after(account, 0).map(|message| (message.id, message)).collect()
}

/// What happens while clients come and go.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send {
        who: usize,
        to: usize,
    },
    Edit {
        who: usize,
        which: usize,
    },
    Delete {
        who: usize,
        which: usize,
        revoke: bool,
    },
    /// A client asks for at most this many updates, once.
    Read {
        who: usize,
        slice: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0usize..3, 0usize..3).prop_map(|(who, to)| Step::Send { who, to }),
        4 => (0usize..3, any::<usize>()).prop_map(|(who, which)| Step::Edit { who, which }),
        1 => (0usize..3, any::<usize>(), any::<bool>())
            .prop_map(|(who, which, revoke)| Step::Delete { who, which, revoke }),
        3 => (0usize..3, 1usize..6).prop_map(|(who, slice)| Step::Read { who, slice }),
    ];
    prop::collection::vec(step, 0..120)
}

/// A client: what it has, and where it stands.
struct Client {
    account: AccountId,
    pts: i32,
    has: BTreeMap<i32, Message>,
    seen: BTreeMap<i32, u32>,
}

impl Client {
    /// One `updates.getDifference`; whether nothing more is to come.
    fn read(&mut self, world: &World, slice: usize) -> bool {
        let difference = world.difference(self.account, self.pts, slice).unwrap();
        assert!(difference.missed.len() <= slice);
        assert!(difference.complete || difference.pts > self.pts);
        for missed in difference.missed {
            match missed {
                Missed::New(message) => {
                    *self.seen.entry(message.id).or_default() += 1;
                    self.has.insert(message.id, message);
                }
                Missed::Edited(message) => {
                    let before = self.has.insert(message.id, message);
                    assert!(before.is_some(), "changed before it came");
                }
                Missed::Deleted(id, _) => {
                    self.has.remove(&id);
                }
            }
        }
        self.pts = difference.pts;
        difference.complete
    }
}

/// The id of one of an account's messages.
fn pick(world: &World, account: AccountId, which: usize) -> Option<i32> {
    let ids: Vec<i32> = all(world, account).into_keys().collect();
    ids.get(which.checked_rem(ids.len())?).copied()
}

proptest! {
    #[test]
    fn however_a_client_is_cut_off_each_message_comes_once_and_in_its_last_form(steps in steps()) {
        let (mut world, accounts) = world();
        let mut clients = accounts.map(|account| Client { account, pts: 1, has: BTreeMap::new(), seen: BTreeMap::new() });
        for (number, step) in steps.into_iter().enumerate() {
            let now = at(i64::try_from(number).unwrap());
            // What the world refuses has not happened.
            match step {
                Step::Send { who, to } => {
                    let mut draft = text(&format!("message {number}"));
                    draft.markup = Some(buttons(&["yes", "no"]));
                    let _ = world.send(by(accounts[who]), accounts[to], draft, now);
                }
                Step::Edit { who, which } => {
                    if let Some(id) = pick(&world, accounts[who], which) {
                        let changed = Some(format!("changed {number}"));
                        let _ = world.edit(by(accounts[who]), id, changed, None, now);
                    }
                }
                Step::Delete { who, which, revoke } => {
                    if let Some(id) = pick(&world, accounts[who], which) {
                        world.delete(by(accounts[who]), &[id], revoke);
                    }
                }
                Step::Read { who, slice } => {
                    clients[who].read(&world, slice);
                }
            }
        }
        let (told, _) = world.take_changes();
        prop_assert_eq!(show(&rebuilt(told, mailbox::MAX_KEPT)), show(&world));
        let again = rebuilt(world.all_records(), mailbox::MAX_KEPT);
        prop_assert_eq!(show(&again), show(&world));
        for mut client in clients {
            // The rest comes from the world after a restart.
            while !client.read(&again, 3) {}
            prop_assert_eq!(&client.has, &all(&world, client.account));
            prop_assert!(client.seen.values().all(|times| *times == 1));
            prop_assert_eq!(client.pts, world.account(client.account).unwrap().pts);
        }
    }
}

#[test]
fn what_came_and_was_changed_while_nobody_looked_comes_once() {
    let (mut world, [alice, bob, _]) = world();
    let id = world.send(by(alice), bob, text("one"), at(0)).unwrap();
    let missed = |world: &World, pts| world.difference(bob, pts, 100).unwrap().missed;
    world.edit(by(alice), id, Some("two".to_owned()), None, at(1)).unwrap();
    world.edit(by(alice), id, Some("three".to_owned()), None, at(2)).unwrap();
    let [Missed::New(new)] = &missed(&world, 1)[..] else { panic!("not once") };
    assert_eq!((new.content.text.as_str(), new.edited), ("three", Some(at(2))));
    let [Missed::Edited(edited)] = &missed(&world, 2)[..] else { panic!("not changed") };
    assert_eq!(edited.content.text, "three");
    assert!(matches!(missed(&world, 3)[..], [Missed::Edited(_)]), "a change that it has not seen, either");
    assert_eq!(missed(&world, 4), []);
}

#[test]
fn a_random_id_is_good_once_for_each_sender() {
    let (mut world, [alice, bob, _]) = world();
    let draft = |text: &str| Draft { text: text.to_owned(), random_id: Some(7), ..Draft::default() };
    let id = world.send(by(alice), bob, draft("one"), at(0)).unwrap();
    assert_eq!(world.send(by(alice), bob, draft("two"), at(0)), Err(Refusal::RandomIdDuplicate));
    world.send(by(bob), alice, draft("another's"), at(0)).unwrap();
    world.edit(by(alice), id, Some("three".to_owned()), None, at(0)).unwrap();
    let mut again = rebuilt(world.all_records(), mailbox::MAX_KEPT);
    assert_eq!(again.send(by(alice), bob, draft("four"), at(0)), Err(Refusal::RandomIdDuplicate));
    assert_eq!(again.random_ids.len(), 2);
}

#[test]
fn replies_lead_to_each_sides_own_copy() {
    let (mut world, [alice, bob, bot]) = world();
    world.send(by(alice), bot, text("makes the ids differ"), at(0)).unwrap();
    let question = world.send(by(alice), bob, text("?"), at(0)).unwrap();
    assert_eq!(question, 2);
    let reply = Draft { text: "!".to_owned(), reply_to: Some(1), ..Draft::default() };
    let id = world.send(by(bob), alice, reply, at(0)).unwrap();
    assert_eq!(world.message(bob, id).unwrap().reply_to, Some(1));
    assert_eq!(world.message(alice, 3).unwrap().reply_to, Some(2));
    let elsewhere = Draft { text: "!".to_owned(), reply_to: Some(question), ..Draft::default() };
    assert_eq!(world.send(by(alice), bot, elsewhere, at(0)), Err(Refusal::ReplyInvalid), "in another chat");
    world.delete(by(alice), &[question], false);
    assert_eq!(world.message(alice, 3).unwrap().reply_to, None);
    assert_eq!(world.message(bob, id).unwrap().reply_to, Some(1), "he still has it");
}

#[test]
fn a_full_mailbox_lets_the_oldest_go_and_says_when_a_difference_is_too_long() {
    let (mut world, [alice, bob, _]) = world();
    world.max_kept = 10;
    for number in 0..25 {
        let draft = Draft { random_id: Some(number), ..text(&number.to_string()) };
        world.send(by(alice), bob, draft, at(number)).unwrap();
    }
    for account in [alice, bob] {
        assert_eq!(all(&world, account).keys().copied().collect::<Vec<_>>(), (16..=25).collect::<Vec<_>>());
    }
    assert_eq!((world.messages.len(), world.random_ids.len()), (10, 10), "nothing else is left of them");
    assert_eq!(world.difference(bob, 15, 100), None);
    assert_eq!(world.difference(bob, 16, 100).unwrap().missed.len(), 10);
    assert_eq!(
        world.edit(by(alice), 15, Some("late".to_owned()), None, at(30)),
        Err(Refusal::MessageIdInvalid)
    );

    // Only one side lets a message go when the other has room.
    let carol = world.add_person(person("+15550100003")).unwrap();
    world.send(by(carol), bob, text("hello"), at(31)).unwrap();
    assert_eq!(world.message(alice, 16).unwrap().content.text, "15");
    assert_eq!(world.message(bob, 16), None);

    // A log of deletions does not grow for ever, either.
    for _ in 0..50 {
        let id = world.send(by(alice), carol, text("gone"), at(32)).unwrap();
        world.delete(by(alice), &[id], true);
    }
    assert!(world.mailboxes.values().all(|mailbox| mailbox.deleted().count() <= 20));
    assert_eq!(world.difference(alice, 40, 100), None);
    let (told, _) = world.take_changes();
    assert_eq!(show(&rebuilt(told, 10)), show(&world));
    assert_eq!(show(&rebuilt(world.all_records(), 10)), show(&world));
}

#[test]
fn an_answer_to_a_press_comes_from_the_right_bot_and_once() {
    let (mut world, [alice, _, bot]) = world();
    let other = BotProfile { username: "other_bot".to_owned(), name: "Other".to_owned(), dc: None };
    let other = world.add_bot(other).unwrap();
    world.send(by(alice), bot, text("/start"), at(0)).unwrap();
    let prompt = Draft { markup: Some(buttons(&["yes"])), ..text("?") };
    let sent = world.send(by(bot), alice, prompt, at(0)).unwrap();
    assert_eq!(world.press(bot, sent, b"yes").unwrap_err(), Refusal::MessageIdInvalid, "its own");
    assert_eq!(world.press(alice, 2, b"no").unwrap_err(), Refusal::DataInvalid);
    let mut press = world.press(alice, 2, b"yes").unwrap();
    let answer = |text: &str| CallbackAnswer { text: Some(text.to_owned()), ..CallbackAnswer::default() };
    assert_eq!(world.answer_press(other, press.query, answer("mine")), Err(Refusal::QueryIdInvalid));
    let long = answer(&"x".repeat(201));
    assert_eq!(world.answer_press(bot, press.query, long), Err(Refusal::MessageTooLong));
    world.answer_press(bot, press.query, answer("done")).unwrap();
    assert_eq!(press.answer.try_recv().unwrap(), answer("done"));
    assert_eq!(world.answer_press(bot, press.query, answer("again")), Err(Refusal::QueryIdInvalid));
    let late = world.press(alice, 2, b"yes").unwrap();
    world.forget_press(late.query);
    assert_eq!(world.answer_press(bot, late.query, answer("late")), Err(Refusal::QueryIdInvalid));
    world.delete(by(bot), &[sent], true);
    assert_eq!(world.press(alice, 2, b"yes").unwrap_err(), Refusal::MessageIdInvalid);
}

#[test]
fn a_bot_reaches_only_who_wrote_to_it_and_has_not_blocked_it_also_after_a_restart() {
    let (mut world, [alice, bob, bot]) = world();
    assert_eq!(world.send(by(bot), alice, text("hello"), at(0)), Err(Refusal::PeerInvalid));
    assert_eq!(world.send(by(bot), SERVICE_ACCOUNT, text("hello"), at(0)), Err(Refusal::PeerInvalid));
    world.send(by(alice), bot, text("/start"), at(0)).unwrap();
    world.send(by(bob), bot, text("/start"), at(0)).unwrap();
    world.send(by(bot), alice, text("hello"), at(0)).unwrap();
    world.block(alice, bot, true).unwrap();
    assert_eq!(world.block(alice, alice, true), Err(Refusal::PeerInvalid));
    let bobs_phone = Phone::parse("+15550100002").unwrap();
    world.ban(&bobs_phone).unwrap();
    let mut again = rebuilt(world.all_records(), mailbox::MAX_KEPT);
    assert_eq!(again.send(by(bot), alice, text("hello"), at(0)), Err(Refusal::UserBlocked));
    assert_eq!(again.send(by(bot), bob, text("hello"), at(0)), Err(Refusal::UserDeactivated));
    again.block(alice, bot, false).unwrap();
    again.send(by(bot), alice, text("hello"), at(0)).unwrap();
}

#[test]
fn a_person_may_change_a_message_for_two_days_and_a_bot_for_ever() {
    let (mut world, [alice, bob, bot]) = world();
    let hers = world.send(by(alice), bob, text("one"), at(0)).unwrap();
    world.send(by(alice), bot, text("/start"), at(0)).unwrap();
    let its = world.send(by(bot), alice, text("one"), at(0)).unwrap();
    let late = at(48 * 3600 + 1);
    let changed = || Some("two".to_owned());
    assert_eq!(world.edit(by(alice), hers, changed(), None, late), Err(Refusal::MessageEditTimeExpired));
    world.edit(by(bot), its, changed(), None, late).unwrap();
    let forwarded = world.forward(by(alice), 3, bob, None, late).unwrap();
    let refused = world.edit(by(alice), forwarded, Some("mine".to_owned()), None, late);
    assert_eq!(refused, Err(Refusal::MessageAuthorRequired));
    let keyboard = Markup::Keyboard(Keyboard {
        rows: vec![vec![KeyboardButton { text: "No".to_owned(), request_phone: false }]],
        resize: true,
        one_time: true,
    });
    let asked = Draft { markup: Some(keyboard), ..text("?") };
    let asked = world.send(by(bot), alice, asked, late).unwrap();
    let refused = world.edit(by(bot), asked, changed(), None, late);
    assert_eq!(refused, Err(Refusal::MessageIdInvalid), "as the Bot API says of reply keyboards");
}

#[test]
fn a_note_to_oneself_is_one_message() {
    let (mut world, [alice, ..]) = world();
    let id = world.send(by(alice), alice, text("milk"), at(0)).unwrap();
    assert_eq!(all(&world, alice).len(), 1);
    assert_eq!(world.account(alice).unwrap().pts, 2);
    world.edit(by(alice), id, Some("bread".to_owned()), None, at(1)).unwrap();
    assert_eq!(world.account(alice).unwrap().pts, 3);
    assert_eq!(show(&rebuilt(world.all_records(), mailbox::MAX_KEPT)), show(&world));
}

#[test]
fn a_journal_from_before_there_were_chats_is_understood() {
    let (world, [alice, ..]) = world();
    let code =
        r#"{"Message":[5000000001,{"i":3,"c":777000,"t":"Login code: 12345","d":1700000000000,"p":5}]}"#;
    let record: Record = serde_json::from_str(code).unwrap();
    let again = rebuilt(world.all_records().chain([record]), mailbox::MAX_KEPT);
    let message = again.message(alice, 3).unwrap();
    assert_eq!((message.chat, message.content.text.as_str()), (SERVICE_ACCOUNT, "Login code: 12345"));
    assert_eq!(again.account(alice).unwrap().pts, 5);
    assert_eq!(show(&rebuilt(again.all_records(), mailbox::MAX_KEPT)), show(&again));
}

#[test]
fn addresses_of_buttons_are_such_that_an_app_could_open_them() {
    let link = |url: &str| {
        let action = InlineAction::Url(url.to_owned());
        Markup::Inline(vec![vec![InlineButton { text: "Go".to_owned(), action }]]).check()
    };
    for url in [
        "https://example.com/a?b=c",
        "http://127.0.0.1:5000/x",
        "example.com",
        "tg://resolve?domain=x",
        "https://[::1]/",
    ] {
        assert_eq!(link(url), Ok(()), "{url}");
    }
    let long = format!("https://example.com/{}", "x".repeat(2048));
    for url in [
        "",
        "https://localhost/",
        "nowhere",
        "https://",
        "ftp://example.com",
        "https://exa mple.com",
        "mailto:a@example.com",
        &long,
    ] {
        assert_eq!(link(url), Err(Refusal::ButtonUrlInvalid), "{url}");
    }
}
