//! Faults of the control API that a client meets on the wire: frozen connections, refused salts, differences that are too
//! long, errors for one account. The others are in `control` and `updates`.

use std::time::Duration;

use grammers_tl_types as tl;
use serde_json::json;
use tl::Identifiable as _;
use tl::Serializable as _;
use tl::functions as f;

use super::support::ALICE;
use super::support::Running;
use super::support::get_self;

const BOB: &str = "+15550100002";

#[tokio::test]
async fn what_is_frozen_stays_open_and_silent_and_what_comes_later_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut frozen = sandbox.raw(2).await;
    frozen.introduce().await;
    sandbox.fault(json!({"freeze": "now"})).await;
    assert_eq!(sandbox.control("GET", "/api/faults", None).await.1, json!([]), "it is done, not in force");
    let ask = frozen.message(f::help::GetConfig {}.to_bytes(), true);
    frozen.send(&ask).await;
    let mut fresh = sandbox.raw(2).await;
    fresh.introduce().await;
    fresh.call(&f::help::GetConfig {}).await.unwrap();
    sandbox.control("DELETE", "/api/faults", None).await;
    frozen.send(&ask).await;
    let nothing = tokio::time::timeout(Duration::from_millis(200), frozen.next_frame()).await;
    assert!(nothing.is_err(), "neither an answer nor an end");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_salt_is_refused_as_often_as_ordered_and_clients_say_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut raw = sandbox.raw(2).await;
    raw.introduce().await;
    sandbox.fault(json!({"wrong_salt": 2})).await;
    let ask = raw.message(f::help::GetConfig {}.to_bytes(), true);
    for _ in 0..2 {
        raw.send(&ask).await;
        raw.find(tl::types::BadServerSalt::CONSTRUCTOR_ID).await;
    }
    raw.send(&ask).await;
    raw.answer_to(ask.id).await;

    sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;
    client.sign_in(&sandbox, 2, ALICE).await;
    sandbox.fault(json!({"wrong_salt": 3})).await;
    client.call(2, &get_self()).await.unwrap();
    sandbox.stop().await;
}

#[tokio::test]
async fn a_difference_can_be_too_long_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;
    client.sign_in(&sandbox, 2, ALICE).await;
    let tl::enums::updates::State::State(start) = client.call(2, &f::updates::GetState {}).await.unwrap();
    sandbox.grammers(&[2]).await.send_code(2, ALICE).await;
    let ask = f::updates::GetDifference {
        pts: start.pts,
        pts_limit: None,
        pts_total_limit: None,
        date: start.date,
        qts: start.qts,
        qts_limit: None,
    };
    sandbox.fault(json!({"difference_too_long": 1})).await;
    let tl::enums::updates::Difference::TooLong(long) = client.call(2, &ask).await.unwrap() else {
        panic!("it is too long")
    };
    assert_eq!(long.pts, start.pts + 1);
    let tl::enums::updates::Difference::Difference(known) = client.call(2, &ask).await.unwrap() else {
        panic!("once only")
    };
    assert_eq!(known.new_messages.len(), 1);
    sandbox.stop().await;
}

#[tokio::test]
async fn an_error_for_one_account_befalls_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    sandbox.person(BOB);
    let bot = sandbox.bot("some_bot");
    let (alice, bob) = (sandbox.person_client(ALICE).await, sandbox.person_client(BOB).await);
    let bot = sandbox.bot_client(&bot).await;
    for (name, flooded, others) in [(ALICE, &alice, [&bob, &bot]), ("some_bot", &bot, [&alice, &bob])] {
        sandbox.fault(json!({"method": "users.getUsers", "error": "FLOOD_WAIT_7", "account": name})).await;
        assert_eq!(flooded.refused(2, &get_self()).await, "420 FLOOD_WAIT 7");
        for other in others {
            other.call(2, &get_self()).await.unwrap();
        }
        sandbox.control("DELETE", "/api/faults", None).await;
    }
    sandbox.stop().await;
}
