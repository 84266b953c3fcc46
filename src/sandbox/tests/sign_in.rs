//! Signing in with grammers as published: codes, passwords, bots, moved accounts, what survives a restart.

use grammers_session::updates::UpdatesLike;
use grammers_tl_types as tl;
use serde_json::json;
use tl::functions as f;

use super::support::ALICE;
use super::support::Grammers;
use super::support::Running;
use super::support::get_self;
use super::support::password_proof;
use super::support::send_code;
use super::support::sign_in;
use super::support::soon;
use super::support::user;
use crate::sandbox::NewBot;
use crate::sandbox::world::AccountId;

#[tokio::test]
async fn grammers_signs_a_person_in_and_out() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;

    assert_eq!(client.refused(2, &get_self()).await, "401 AUTH_KEY_UNREGISTERED");
    let sent = client.send_code(2, ALICE).await;
    assert_eq!(
        sent.r#type,
        tl::enums::auth::SentCodeType::Sms(tl::types::auth::SentCodeTypeSms { length: 5 })
    );
    assert_eq!(sent.next_type, Some(tl::enums::auth::CodeType::Call));
    assert!(sent.timeout.is_some());
    let code = sandbox.code(ALICE).await;
    let hash = &sent.phone_code_hash;
    let wrong = if code == "00000" { "00001" } else { "00000" };
    assert_eq!(client.refused(2, &sign_in(ALICE, hash, wrong)).await, "400 PHONE_CODE_INVALID");
    assert_eq!(client.refused(2, &sign_in(ALICE, hash, "")).await, "400 PHONE_CODE_EMPTY");
    let me = user(client.call(2, &sign_in(ALICE, hash, &code)).await.unwrap());
    assert_eq!((me.id, me.is_self, me.phone.as_deref()), (alice.id, true, Some("15550100001")));
    assert_eq!(client.refused(2, &sign_in(ALICE, hash, &code)).await, "400 PHONE_CODE_EXPIRED", "used up");
    assert_eq!(client.me(2).await.unwrap().id, alice.id);
    client.call(2, &f::updates::GetState {}).await.unwrap();

    client.call(2, &f::auth::LogOut {}).await.unwrap();
    assert_eq!(client.refused(2, &get_self()).await, "401 AUTH_KEY_UNREGISTERED");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_code_also_comes_as_a_message_to_devices_that_are_signed_in() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let mut old = sandbox.grammers(&[2]).await;
    old.sign_in(&sandbox, 2, ALICE).await;
    let tl::enums::updates::State::State(before) = old.call(2, &f::updates::GetState {}).await.unwrap();

    let new = sandbox.grammers(&[2]).await;
    let sent = new.send_code(2, ALICE).await;
    assert!(matches!(sent.r#type, tl::enums::auth::SentCodeType::App(_)));
    let code = sandbox.code(ALICE).await;
    let Some(UpdatesLike::Updates(tl::enums::Updates::Updates(pushed))) = soon(old.updates.recv()).await
    else {
        panic!("no update")
    };
    let [tl::enums::Update::NewMessage(update)] = &pushed.updates[..] else { panic!("{pushed:?}") };
    let tl::enums::Message::Message(message) = &update.message else { panic!("no message") };
    assert!(message.message.contains(&code));
    assert_eq!((update.pts, update.pts_count), (before.pts + 1, 1));
    assert!(
        pushed
            .users
            .iter()
            .any(|user| matches!(user, tl::enums::User::User(user) if user.id == 777_000 && user.verified))
    );

    let difference = f::updates::GetDifference {
        pts: before.pts,
        pts_limit: None,
        pts_total_limit: None,
        date: before.date,
        qts: before.qts,
        qts_limit: None,
    };
    let tl::enums::updates::Difference::Difference(missed) = old.call(2, &difference).await.unwrap() else {
        panic!("no difference")
    };
    assert_eq!(missed.new_messages, std::slice::from_ref(&update.message));
    let (status, messages) = sandbox.control("GET", &format!("/api/accounts/{ALICE}/messages"), None).await;
    assert_eq!((status, &messages[0]["chat"]["id"]), (200, &json!(777_000)));
    assert!(messages[0]["text"].as_str().unwrap().contains(&code));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_second_factor_stands_between_code_and_account() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person_with(ALICE, |person| {
        person.two_factor_password = Some("correct horse".to_owned());
    });
    assert!(alice.two_factor);
    let client = sandbox.grammers(&[2]).await;
    assert_eq!(client.refused(2, &f::account::GetPassword {}).await, "401 AUTH_KEY_UNREGISTERED");
    let hash = client.send_code(2, ALICE).await.phone_code_hash;
    let code = sandbox.code(ALICE).await;
    assert_eq!(client.refused(2, &sign_in(ALICE, &hash, &code)).await, "401 SESSION_PASSWORD_NEEDED");
    assert_eq!(client.refused(2, &get_self()).await, "401 AUTH_KEY_UNREGISTERED");

    let ask = || async {
        let tl::enums::account::Password::Password(password) =
            client.call(2, &f::account::GetPassword {}).await.unwrap();
        assert!(password.has_password && password.hint.is_some());
        password
    };
    let (_, wrong) = password_proof(&ask().await, "wrong horse");
    assert_eq!(client.refused(2, &wrong).await, "400 PASSWORD_HASH_INVALID");
    let (_, right) = password_proof(&ask().await, "correct horse");
    let (_, newer) = password_proof(&ask().await, "correct horse");
    assert_eq!(client.refused(2, &right).await, "400 SRP_ID_INVALID", "a newer challenge voids it");
    let me = user(client.call(2, &newer).await.unwrap());
    assert_eq!(me.id, alice.id);
    sandbox.stop().await;
}

#[tokio::test]
async fn an_account_that_lives_elsewhere_is_asked_for_there() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person_with(ALICE, |person| person.dc = Some(4));
    let bot = sandbox
        .sandbox
        .add_bot(NewBot { username: "far_bot".to_owned(), name: "Far".to_owned(), dc: Some(5) })
        .unwrap();
    let client = sandbox.grammers(&[2, 4, 5]).await;
    assert_eq!(client.refused(2, &send_code(ALICE)).await, "303 PHONE_MIGRATE 4");
    assert_eq!(client.sign_in(&sandbox, 4, ALICE).await.id, alice.id);

    let import = |token: &str| f::auth::ImportBotAuthorization {
        flags: 0,
        api_id: 7,
        api_hash: "x".to_owned(),
        bot_auth_token: token.to_owned(),
    };
    assert_eq!(client.refused(2, &import(&bot.token)).await, "303 USER_MIGRATE 5");
    assert_eq!(client.refused(2, &import(&format!("{}:wrong", bot.id))).await, "400 ACCESS_TOKEN_INVALID");
    let me = user(client.call(5, &import(&bot.token)).await.unwrap());
    assert_eq!((me.id, me.bot), (bot.id, true));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_signed_in_client_takes_its_authorisation_to_another_data_centre() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let client = sandbox.grammers(&[2, 4]).await;
    client.sign_in(&sandbox, 2, ALICE).await;
    let export = f::auth::ExportAuthorization { dc_id: 4 };
    let tl::enums::auth::ExportedAuthorization::Authorization(exported) =
        client.call(2, &export).await.unwrap();
    let import = f::auth::ImportAuthorization { id: exported.id, bytes: exported.bytes };
    assert_eq!(client.refused(2, &import).await, "400 AUTH_BYTES_INVALID");
    assert_eq!(user(client.call(4, &import).await.unwrap()).id, alice.id);
    assert_eq!(client.me(4).await.unwrap().id, alice.id);
    sandbox.stop().await;
}

#[tokio::test]
async fn others_are_named_by_their_hash_and_do_not_show_their_number() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let bob = sandbox.person("+15550100002");
    let client = sandbox.grammers(&[2]).await;
    client.sign_in(&sandbox, 2, ALICE).await;
    let (alice, bob) = (AccountId(alice.id), AccountId(bob.id));
    let hash = sandbox.sandbox.hub.look(|world| world.access_hash(alice, bob));
    let named =
        |access_hash| tl::enums::InputUser::User(tl::types::InputUser { user_id: bob.0, access_hash });
    let ask = f::users::GetUsers { id: vec![named(hash), named(hash ^ 1)] };
    let seen = client.call(2, &ask).await.unwrap();
    let [tl::enums::User::User(seen)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((seen.id, &seen.phone, seen.is_self), (bob.0, &None, false));
    let full = f::users::GetFullUser { id: named(hash) };
    let tl::enums::users::UserFull::Full(full) = client.call(2, &full).await.unwrap();
    let tl::enums::UserFull::Full(full) = full.full_user;
    assert_eq!(full.id, bob.0);
    let full = f::users::GetFullUser { id: named(0) };
    assert_eq!(client.refused(2, &full).await, "400 USER_ID_INVALID");
    sandbox.stop().await;
}

#[tokio::test]
async fn whatever_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    assert!(sandbox.sandbox.is_new());
    let alice = sandbox.person_with(ALICE, |person| {
        person.two_factor_password = Some("horse".to_owned());
    });
    let bob = sandbox.person("+15550100002");
    sandbox.sandbox.hub.advance_clock(std::time::Duration::from_secs(1000)).unwrap();
    let signed_in = sandbox.grammers(&[2]).await;
    signed_in.sign_in(&sandbox, 2, "+15550100002").await;
    let pending = sandbox.grammers(&[2]).await;
    let hash = pending.send_code(2, "+15550100002").await.phone_code_hash;
    let at_password = sandbox.grammers(&[2]).await;
    let alice_hash = at_password.send_code(2, ALICE).await.phone_code_hash;
    let code = sandbox.code(ALICE).await;
    at_password.refused(2, &sign_in(ALICE, &alice_hash, &code)).await;
    let addresses = sandbox.sandbox.network().dcs;
    let keep = |client: &Grammers| client.session.options.lock().unwrap().clone();
    let (one, two, three) = (keep(&signed_in), keep(&pending), keep(&at_password));
    drop((signed_in, pending, at_password));
    sandbox.stop().await;

    let sandbox = Running::start(folder.path()).await;
    assert!(!sandbox.sandbox.is_new());
    assert_eq!(sandbox.sandbox.network().dcs, addresses, "the same ports");
    assert!(sandbox.clock.offset_millis() >= 1_000_000);
    let (_, people) = sandbox.control("GET", "/api/accounts", None).await;
    assert_eq!(people[0]["id"], json!(alice.id));
    assert_eq!(Grammers::new(one).me(2).await.unwrap().id, bob.id);
    let (_, messages) = sandbox.control("GET", "/api/accounts/15550100002/messages", None).await;
    let code = sandbox.code("+15550100002").await;
    assert!(messages[0]["text"].as_str().unwrap().contains(&code));
    let pending = Grammers::new(two);
    let me = user(pending.call(2, &sign_in("+15550100002", &hash, &code)).await.unwrap());
    assert_eq!(me.id, bob.id);
    let at_password = Grammers::new(three);
    let tl::enums::account::Password::Password(password) =
        at_password.call(2, &f::account::GetPassword {}).await.unwrap();
    let (_, proof) = password_proof(&password, "horse");
    assert_eq!(user(at_password.call(2, &proof).await.unwrap()).id, alice.id);
    sandbox.stop().await;
}
