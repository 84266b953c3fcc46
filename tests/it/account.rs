//! The account's connection, trap by trap of `mtproto.md` section 5, over the wire to a real data centre.
//!
//! Where the traps not named here are tested: in-flight calls and no retries in `sign_in.rs`; 9 (session futures never wait) beside `telegram/pool_session.rs`; 10 (our own snapshot) beside
//! `domain/account.rs`; 12 (no programs started) and 11 (no retry policy) in `architecture.rs`; 13 and 14 concern
//! grammers' high-level client, which we do not use.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use telegram_connector::domain::account::{Mode, TelegramSession, UnsavedSession};
use telegram_connector::domain::ids::Ids;
use telegram_connector::domain::login::{LoginCode, PendingSignIn, Phone, SignInStep};
use telegram_connector::domain::seal::Sealer;
use telegram_connector::lifecycle::{Tasks, os_seed};
use telegram_connector::telegram::{
    AccountEvent, AccountState, CodeRequest, EventSink, Gateway, Submission, TelegramError,
};
use telegram_connector::vault::Vault;

use crate::support::{ALICE, BOB, Options, Recorder, World, eventually, finish};

/// A gateway of its own, as another host would have one, with what it has seen.
pub(crate) struct Host {
    pub(crate) gateway: Gateway,
    pub(crate) told: Recorder,
    tasks: Tasks,
}

impl Host {
    pub(crate) async fn open(world: &World, folder: &Path, unsaved: Option<TelegramSession>) -> Self {
        let told = Recorder::default();
        Self::with_sink(world, folder, unsaved, told.sink(), told).await
    }

    pub(crate) async fn with_sink(
        world: &World,
        folder: &Path,
        unsaved: Option<TelegramSession>,
        sink: EventSink,
        told: Recorder,
    ) -> Self {
        let ids = Ids::from_seed(os_seed().unwrap());
        let vault =
            Vault::folder(folder, "account.session", Mode::Sandbox, Sealer::new(&[7; 32], ids.clone()));
        let tasks = Tasks::new();
        let unsaved = unsaved.map(|session| UnsavedSession { session, replaces: None });
        let gateway =
            Gateway::open(world.telegram(), vault, unsaved, ids, tasks.clone(), sink).await.unwrap();
        Self { gateway, told, tasks }
    }

    /// Signs Alice in.
    pub(crate) async fn sign_in(&self, world: &World) {
        let phone = Phone::parse(ALICE).unwrap();
        let request = self.gateway.request_code(&phone).await.unwrap();
        let CodeRequest::Sent { phone_code_hash, delivery, session } = request else { panic!("{request:?}") };
        let sent_at = telegram_connector::domain::clock::Timestamp::from_millis(0);
        let step = SignInStep::CodeSent { phone_code_hash, delivery, sent_at };
        let code = LoginCode::parse(&world.code(ALICE).await).unwrap();
        let submission =
            self.gateway.submit_code(&PendingSignIn { phone, step, session }, &code).await.unwrap();
        assert!(matches!(submission, Submission::SignedIn(_)), "{submission:?}");
        self.is(world, "ok").await;
    }

    pub(crate) async fn is(&self, _: &World, condition: &str) {
        eventually(condition, || async { self.gateway.condition() == condition }).await;
    }

    fn seen(&self) -> usize {
        self.told.texts().len()
    }

    pub(crate) async fn sees(&self, count: usize) {
        eventually("messages arrive", || async { self.seen() >= count }).await;
        assert_eq!(self.seen(), count);
    }

    pub(crate) async fn close(self) {
        self.tasks.stop();
        self.gateway.close().await;
        finish(&self.tasks).await;
    }
}

/// Bob writes `count` messages to Alice; returns what he wrote.
async fn send_messages(world: &World, count: usize) -> Vec<String> {
    let texts: Vec<String> = (0..count).map(|n| format!("message {n} of {count}")).collect();
    for text in &texts {
        world.send(BOB, ALICE, text).await;
    }
    texts
}

/// A sandbox for accounts that are looked after by a watchdog in a hurry.
pub(crate) async fn quick_world() -> World {
    let options = Options { watchdog_interval: Duration::from_millis(100), ..Options::default() };
    World::without_service(options).await
}

/// For calls that are to be given up. Whatever is to succeed must not depend on it: a busy machine may be slower.
const SHORT: Duration = Duration::from_millis(800);

#[tokio::test(flavor = "multi_thread")]
async fn traps_1_and_2_messages_arrive_after_sign_in_and_after_a_cut() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    send_messages(&world, 1).await;
    host.sees(1).await;
    world.fault(json!({ "disconnect": "now" })).await;
    send_messages(&world, 3).await;
    host.sees(4).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_centre_that_was_down_loses_nothing() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let before = host.gateway.session().unwrap();
    host.close().await;
    send_messages(&world, 5).await;

    world.fault(json!({ "refuse_connections": true })).await;
    let host = Host::open(&world, folder.path(), None).await;
    host.is(&world, "reconnecting").await;
    assert_eq!(host.seen(), 0);
    world.heal().await;
    host.sees(5).await;
    assert_eq!(host.gateway.session().unwrap().home_key(), before.home_key());
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_3_a_crash_in_the_middle_of_a_difference_repeats_and_never_loses() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let gone = host.gateway.session().unwrap();
    host.close().await;
    send_messages(&world, 5).await;

    // The session as it is while the batch is being taken: what a crash there would leave.
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
    host.sees(5).await;
    host.close().await;

    let left = at_the_crash.lock().unwrap().take().unwrap();
    assert_eq!(left.updates.pts, gone.updates.pts, "the position moves only after the whole batch");
    let next = Host::open(&world, tempfile::tempdir().unwrap().path(), Some(left)).await;
    next.sees(5).await;
    next.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_3_a_difference_in_slices_arrives_whole_and_in_order() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    host.close().await;
    let sent = send_messages(&world, 7).await;
    world.fault(json!({ "difference_slice": 2 })).await;
    let host = Host::open(&world, folder.path(), None).await;
    host.sees(7).await;
    assert_eq!(host.told.texts(), sent);
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_4_dropped_pushes_are_noticed_and_fetched() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    world.fault(json!({ "drop_pushes": 3 })).await;
    send_messages(&world, 4).await;
    host.sees(4).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_4_a_reader_held_up_by_a_burst_loses_nothing() {
    // A watchdog in a hurry would take a reader that is held up for one that has died.
    let world = World::without_service(Options::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let held = host.told.gate.lock().await;
    let sent = send_messages(&world, 150).await;
    assert_eq!(host.seen(), 0);
    drop(held);
    host.sees(150).await;
    assert_eq!(host.told.texts(), sent);
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_5_a_data_centre_that_is_silent_from_the_start_blocks_nothing_for_ever() {
    let mut world = quick_world().await;
    world.limit_calls(SHORT);
    world.fault(json!({ "silent": true })).await;
    let host = Host::open(&world, tempfile::tempdir().unwrap().path(), None).await;
    let phone = Phone::parse(ALICE).unwrap();
    let begun = std::time::Instant::now();
    let refused = host.gateway.request_code(&phone).await.unwrap_err();
    assert!(matches!(refused, TelegramError::Unreachable(_)), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(30), "its limit is 0.8 s, dialling included");
    world.heal().await;
    eventually("a code", || async { host.gateway.request_code(&phone).await.is_ok() }).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_comes_up_and_fails_again_is_not_rebuilt_in_a_hurry() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    host.close().await;
    world.fault(json!({ "method": "updates.getDifference", "error": "INTERNAL" })).await;
    let host = Host::open(&world, folder.path(), None).await;
    let built = || async { world.calls("help.getConfig").await };
    let before = built().await;
    eventually("several attempts", || async { built().await >= before + 4 }).await;
    let (begun, from) = (std::time::Instant::now(), built().await);
    eventually("more attempts", || async { built().await >= from + 4 }).await;
    // Back-off grows to 200 ms in tests: four more take at least three pauses.
    assert!(begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
    world.heal().await;
    host.is(&world, "ok").await;
    send_messages(&world, 1).await;
    host.sees(1).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_that_never_comes_is_noticed_although_everything_else_is_answered() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    // A push is lost, and the difference that should fill the gap is answered only after an hour.
    world.fault(json!({ "method": "updates.getDifference", "delay_ms": 3_600_000 })).await;
    world.fault(json!({ "drop_pushes": 1 })).await;
    send_messages(&world, 2).await;
    host.is(&world, "reconnecting").await;
    world.heal().await;
    host.sees(2).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_5_and_6_a_connection_that_falls_silent_is_noticed_and_replaced() {
    let mut world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    host.close().await;
    world.limit_calls(SHORT);
    let host = Host::open(&world, folder.path(), None).await;
    host.is(&world, "ok").await;
    world.fault(json!({ "silent": true })).await;
    host.is(&world, "reconnecting").await;
    world.heal().await;
    host.is(&world, "ok").await;
    send_messages(&world, 1).await;
    host.sees(1).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_7_a_panic_in_the_network_task_is_survived() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let configs = world.calls("help.getConfig").await;
    world.fault(json!({ "wrong_session_id": true })).await;
    // The next answer makes grammers panic; the account is back on another connection.
    eventually("a new connection", || async { world.calls("help.getConfig").await > configs }).await;
    host.is(&world, "ok").await;
    send_messages(&world, 1).await;
    host.sees(1).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_8_a_key_that_telegram_forgot_is_not_replaced() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let key = host.gateway.session().unwrap().home_key().unwrap().clone();
    world.fault(json!({ "forget_key": ALICE })).await;
    world.fault(json!({ "disconnect": "now" })).await;
    host.is(&world, "signed_out").await;
    let AccountState::SignedOut(Some(reason)) = host.gateway.state() else {
        panic!("{:?}", host.gateway.state())
    };
    assert!(reason.contains("AUTH_KEY"), "{reason}");
    assert_eq!(host.gateway.session().unwrap().home_key(), Some(&key));
    host.close().await;
    // Nor at the next start: the vault still holds the old key.
    let host = Host::open(&world, folder.path(), None).await;
    assert_eq!(host.gateway.session().unwrap().home_key(), Some(&key));
    host.is(&world, "signed_out").await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_reaches_the_vault_by_itself() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let vault = Vault::folder(
        folder.path(),
        "account.session",
        Mode::Sandbox,
        Sealer::new(&[7; 32], Ids::from_seed([1; 32])),
    );
    let pts = || async { vault.load().await.unwrap().unwrap().updates.pts };
    let before = pts().await;
    send_messages(&world, 2).await;
    eventually("the new position is saved", || async { pts().await == before + 2 }).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_the_watchdogs_call_leaves_a_healthy_connection_alone() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let built = world.calls("help.getConfig").await;
    world.fault(json!({ "method": "updates.getState", "error": "FLOOD_WAIT_600" })).await;
    let asked = world.calls("updates.getState").await;
    eventually("the watchdog meets it twice", || async {
        world.calls("updates.getState").await >= asked + 2
    })
    .await;
    assert_eq!((host.gateway.condition(), world.calls("help.getConfig").await), ("ok", built));
    send_messages(&world, 1).await;
    host.sees(1).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_the_difference_is_waited_out_by_the_connection_that_met_it() {
    // Not so quick that the half second for which grammers waits for a missing push looks dead.
    let options = Options { watchdog_interval: Duration::from_secs(1), ..Options::default() };
    let world = World::without_service(options).await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let built = world.calls("help.getConfig").await;
    let asked = world.calls("updates.getDifference").await;
    // A push is lost, and the difference that should fill the gap has to wait for much longer than the watchdog would.
    world.fault(json!({ "method": "updates.getDifference", "error": "FLOOD_WAIT_4", "times": 1 })).await;
    world.fault(json!({ "drop_pushes": 1 })).await;
    send_messages(&world, 2).await;
    host.sees(2).await;
    assert_eq!(world.calls("help.getConfig").await, built, "the same connection");
    assert_eq!(world.calls("updates.getDifference").await, asked + 2, "once refused, once answered");
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_makes_its_taker_panic_holds_up_no_other() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    host.close().await;
    let sent = send_messages(&world, 3).await;
    let told = Recorder::default();
    let sink: EventSink = {
        let (taken, bad) = (told.sink(), sent[1].clone());
        Arc::new(move |account, events| {
            let text =
                |event: &AccountEvent| matches!(event, AccountEvent::Message { text, .. } if *text == bad);
            let is_bad = events.iter().any(text);
            let taken = taken(account, events);
            Box::pin(async move {
                assert!(!is_bad, "as planned");
                taken.await
            })
        })
    };
    let host = Host::with_sink(&world, folder.path(), None, sink, told).await;
    host.sees(2).await;
    assert_eq!(host.told.texts(), [sent[0].as_str(), sent[2].as_str()]);
    let after = send_messages(&world, 1).await;
    host.sees(3).await;
    assert_eq!(host.told.texts()[2], after[0]);
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_telegram_refuses_is_given_up_and_nothing_is_lost() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    let before = host.gateway.session().unwrap().updates.pts;
    host.close().await;
    let missed = send_messages(&world, 2).await;
    world.fault(json!({ "method": "updates.getDifference", "error": "PERSISTENT_TIMESTAMP_INVALID" })).await;
    let host = Host::open(&world, folder.path(), None).await;
    let pts = || host.gateway.session().unwrap().updates.pts;
    eventually("the position is Telegram's", || async { pts() == before + 2 }).await;
    // Read again from the chat, before the position was given up.
    assert_eq!(host.told.texts(), missed);
    let sent = send_messages(&world, 1).await;
    host.sees(3).await;
    assert_eq!(host.told.texts()[2], sent[0]);
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telegram_that_is_behind_itself_is_asked_again_and_nothing_is_lost() {
    let world = quick_world().await;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::open(&world, folder.path(), None).await;
    host.sign_in(&world).await;
    host.close().await;
    send_messages(&world, 2).await;
    let error = "PERSISTENT_TIMESTAMP_OUTDATED";
    world.fault(json!({ "method": "updates.getDifference", "error": error, "code": 500, "times": 3 })).await;
    let host = Host::open(&world, folder.path(), None).await;
    host.sees(2).await;
    host.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_used_from_two_hosts_is_destroyed_and_told() {
    let mut world =
        World::with(Options { watchdog_interval: Duration::from_millis(100), ..Options::default() }).await;
    world.signed_in_as(ALICE).await;
    eventually("connected", || async { world.service.get("/readyz").await.json()["telegram"] == "ok" }).await;
    // Another process, another "host", with a copy of everything.
    let copy = tempfile::tempdir().unwrap();
    let (data, sessions) = (copy.path().join("data"), copy.path().join("sessions"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&sessions).unwrap();
    let key = world.folder.path().join("data/master.key");
    std::fs::copy(key, data.join("master.key")).unwrap();
    std::fs::copy(world.session_folder().join("account.session"), sessions.join("account.session")).unwrap();
    let (sandbox, store) =
        (format!("--sandbox={}", world.sandbox.url()), format!("file:{}", sessions.display()));
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox];
    let thief = crate::support::Process::start(&[&arguments[..], &["--session-store", &store]].concat(), &[]);
    eventually("both are out", || async {
        let theirs = thief.client.get("/sign_in").await.json();
        world.state().await == "signed_out" && theirs["state"] == "signed_out"
    })
    .await;
    let reason = world.view().await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("AUTH_KEY"), "{reason}");
    drop(thief);
    world.stop().await;
    world.end().await;
}
