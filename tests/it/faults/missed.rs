//! What Telegram leaves out because it is too much (`updates.differenceTooLong`): for a user account it is read again from
//! its chats, so that no sign-in is lost; a bot may read no history, goes on from where Telegram is, and people start again.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use telegram_connector::telegram::EventSink;

use crate::account::{Host, quick_world};
use crate::support::{ALICE, BOB, CAROL, Options, Recorder, World, eventually};

const OWNER: &str = "+15550100008";

async fn person(world: &World, phone: &str, username: &str) {
    let person = json!({ "phone": phone, "first_name": "Somebody", "username": username });
    assert_eq!(world.sandbox.post("/api/accounts", &person).await.status, 200);
}

async fn too_long(world: &World) {
    world.fault(json!({ "difference_too_long": 1 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_wrote_meanwhile_is_read_from_their_chats() {
    let world = quick_world().await;
    person(&world, CAROL, "carol_c").await;
    let bot = world.new_bot("some_bot").await.0;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    world.send(CAROL, ALICE, "long ago").await;
    host.sees(1).await;
    host.close().await;
    // Nobody waits any more for an answer to what was said two hours ago.
    world.clock.advance(std::time::Duration::from_secs(7200));
    let said = [(BOB, "one"), (CAROL, "two"), (BOB, "three"), (CAROL, "four"), (BOB, "five")];
    for (phone, text) in said {
        world.send(phone, ALICE, text).await;
    }
    world.send(ALICE, bot, "/start").await;
    too_long(&world).await;
    // Floods on the way are waited out.
    for method in ["messages.getDialogs", "messages.getHistory"] {
        world.fail(method, "FLOOD_WAIT_1").await;
    }
    let before = host_pts(&world).await;
    let host = Host::open(&world, folder.path(), None).await;
    host.sees(5).await;
    // In their order for each person; who wrote last comes first.
    assert_eq!(host.told.texts(), ["one", "three", "five", "two", "four"]);
    let position = || host.gateway.session().unwrap().updates.pts;
    eventually("the position is Telegram's", || async { position() == before }).await;
    assert_eq!(world.calls("messages.getDialogs").await, 2, "refused, answered");
    assert_eq!(world.calls("messages.getHistory").await, 3, "refused, Bob's, Carol's; of no bot");
    // What comes next comes as ever.
    world.send(BOB, ALICE, "six").await;
    host.sees(6).await;
    assert_eq!(world.calls("messages.getDialogs").await, 2);
    host.close().await;
    world.end().await;
}

/// Where Alice's account stands in the sandbox: everything that she has, counted from 1.
async fn host_pts(world: &World) -> i32 {
    1 + i32::try_from(world.messages(ALICE, 0).await.len()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_it_is_read_again_repeats_and_never_loses() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let gone = host.gateway.session().unwrap();
    host.close().await;
    world.send(BOB, ALICE, "one").await;
    world.send(BOB, ALICE, "two").await;
    too_long(&world).await;
    // The session as it is while what was left out is being taken: what a crash there would leave.
    let at_the_crash = Arc::new(Mutex::new(None));
    let told = Recorder::default();
    let sink: EventSink = {
        let (at_the_crash, taken) = (Arc::clone(&at_the_crash), told.sink());
        Arc::new(move |account, events| {
            at_the_crash.lock().unwrap().get_or_insert(account.session());
            taken(account, events)
        })
    };
    let host = Host::with_sink(&world, folder.path(), None, sink, told).await;
    host.sees(2).await;
    host.close().await;
    let left = at_the_crash.lock().unwrap().take().unwrap();
    assert_eq!(left.updates.pts, gone.updates.pts, "the position moves only when all is taken");
    let next = Host::open(&world, tempfile::tempdir().unwrap().path(), Some(left)).await;
    next.sees(2).await;
    next.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_while_it_is_read_again_begins_anew() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    host.close().await;
    world.send(BOB, ALICE, "one").await;
    world.fault(json!({ "difference_too_long": 2 })).await;
    world.fault(json!({ "cut_instead_of_answer": "messages.getHistory", "times": 1 })).await;
    let host = Host::open(&world, folder.path(), None).await;
    host.sees(1).await;
    host.close().await;
    world.end().await;
}

/// A sign-in in progress, on an account of a person.
#[tokio::test(flavor = "multi_thread")]
async fn sign_ins_in_progress_are_not_lost() {
    let mut world = World::new().await;
    person(&world, OWNER, "olga_owner").await;
    world.signed_in_as(OWNER).await;
    let app = world.app(json!({})).await;
    let (shown, unopened) = (app.attempt().await, app.attempt().await);
    let opened = world.open(ALICE, &shown.link).await;
    world.answer_to(ALICE, opened).await;
    assert_eq!(world.calls("messages.getDialogs").await, 0, "nothing was left out so far");
    world.stop().await;
    world.say(ALICE, "olga_owner", "yes", None).await;
    let late = world.open(BOB, &unopened.link).await;
    too_long(&world).await;
    world.start().await.unwrap();
    let app = app.at(&world.service);
    assert_eq!(app.wait(&shown).await["status"], "confirmed");
    world.answer_to(BOB, late).await;
    world.say(BOB, "olga_owner", "no", None).await;
    assert_eq!(app.wait(&unopened).await["status"], "cancelled");
    let answers = |messages: &[Value]| messages.iter().filter(|message| message["out"] == false).count();
    assert_eq!(answers(&world.messages(ALICE, opened).await), 2, "a prompt and its outcome, nothing twice");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_goes_on_and_its_people_start_again() {
    let (mut world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    let attempt = app.attempt().await;
    // The position has to be saved where the bot is.
    world.stop().await;
    world.open(ALICE, &attempt.link).await;
    too_long(&world).await;
    world.start().await.unwrap();
    world.bot_is("ok").await;
    world.faults_are_spent().await;
    let app = app.at(&world.service);
    assert_eq!(app.poll(&attempt).await["status"], "pending");
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    world.tap(ALICE, prompt["id"].as_i64().unwrap(), "✅ Confirm").await;
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");
    assert_eq!(world.calls("messages.getDialogs").await, 0, "a bot may not");
    world.end().await;
}
