//! The rules of MTProto, packet by packet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use grammers_tl_types as tl;
use serde_json::json;
use tl::Deserializable;
use tl::Identifiable;
use tl::Serializable;
use tl::functions as f;

use super::support::ALICE;
use super::support::Grammers;
use super::support::Raw;
use super::support::Running;
use super::support::read_result;
use super::support::send_code;
use crate::domain::clock::Clock;
use crate::lifecycle::SystemClock;
use crate::sandbox::host::Host;
use crate::sandbox::host::Hosts;
use crate::sandbox::wire::envelope;
use crate::sandbox::wire::envelope::Message;
use crate::sandbox::wire::salts;

async fn bad_message(client: &mut Raw) -> (i64, i32) {
    let notice = client.find(tl::types::BadMsgNotification::CONSTRUCTOR_ID).await;
    let tl::enums::BadMsgNotification::Notification(notice) =
        tl::enums::BadMsgNotification::from_bytes(&notice.body).unwrap()
    else {
        panic!("another notice")
    };
    (notice.bad_msg_id, notice.error_code)
}

#[tokio::test]
async fn a_wrong_salt_is_answered_with_the_right_one_and_nothing_is_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut client = sandbox.raw(2).await;
    let right = std::mem::replace(&mut client.salt, 1234);
    let message = client.introduction();
    client.send(&message).await;
    let notice = client.find(tl::types::BadServerSalt::CONSTRUCTOR_ID).await;
    let tl::enums::BadMsgNotification::BadServerSalt(notice) =
        tl::enums::BadMsgNotification::from_bytes(&notice.body).unwrap()
    else {
        panic!("another notice")
    };
    assert_eq!((notice.bad_msg_id, notice.error_code), (message.id, 48));
    assert_eq!(notice.new_server_salt, right);
    client.salt = notice.new_server_salt;
    client.send(&message).await;
    let created = client.next().await.unwrap();
    let tl::enums::NewSession::Created(created) = tl::enums::NewSession::from_bytes(&created.body).unwrap();
    assert_eq!((created.first_msg_id, created.server_salt), (message.id, right));
    client.answer_to(message.id).await;
    let (_, calls) = sandbox.control("GET", "/api/calls", None).await;
    assert_eq!(calls, json!([{"method": "help.getConfig", "count": 1, "unknown": false}]));
    sandbox.stop().await;
}

#[tokio::test]
async fn future_salts_are_told_and_the_next_one_is_accepted_in_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut client = sandbox.raw(2).await;
    let ask = client.message(f::GetFutureSalts { num: 3 }.to_bytes(), true);
    client.send(&ask).await;
    let answer = client.find(tl::types::FutureSalts::CONSTRUCTOR_ID).await;
    let tl::enums::FutureSalts::Salts(told) = tl::enums::FutureSalts::from_bytes(&answer.body).unwrap();
    assert_eq!((told.req_msg_id, told.salts.0.len()), (ask.id, 3));
    let now = SystemClock.now().as_secs();
    assert_eq!(told.salts.0[0].salt, salts::current(&client.key, now));
    assert!(i64::from(told.salts.0[1].valid_since) > now);
    sandbox.stop().await;
}

#[tokio::test]
async fn ids_sequence_numbers_and_containers_must_be_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut client = sandbox.raw(2).await;
    client.introduce().await;
    let body = f::help::GetConfig {}.to_bytes();
    let with_id = |id| Message { id, seq_no: 9, body: body.clone() };
    for (id, code) in [(client.id_at(-400), 16), (client.id_at(60), 17), (client.id() + 1, 18)] {
        client.send(&with_id(id)).await;
        assert_eq!(bad_message(&mut client).await, (id, code));
    }
    let low = Message { id: client.id(), seq_no: 1, body: body.clone() };
    client.send(&low).await;
    assert_eq!(bad_message(&mut client).await, (low.id, 32));
    let even = Message { id: client.id(), seq_no: 4, body: body.clone() };
    client.send(&even).await;
    assert_eq!(bad_message(&mut client).await, (even.id, 35));

    let (outer, inner) = (client.id(), client.message(body.clone(), true));
    let backwards = Message { id: outer, seq_no: client.seq_no(false), body: envelope::container(&[inner]) };
    client.send(&backwards).await;
    assert_eq!(bad_message(&mut client).await, (outer, 64), "contents newer than the container");

    let inner = [client.message(body.clone(), true), client.message(body.clone(), true)];
    let container = client.message(envelope::container(&inner), false);
    client.send(&container).await;
    client.answer_to(inner[0].id).await;
    client.answer_to(inner[1].id).await;
    client.send(&container).await;
    assert_eq!(bad_message(&mut client).await, (container.id, 19), "a container sent twice");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_request_sent_again_is_answered_again_but_carried_out_once() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let mut client = sandbox.raw(2).await;
    client.introduce().await;
    let ask = client.message(send_code(ALICE).to_bytes(), true);
    client.send(&ask).await;
    let first = client.answer_to(ask.id).await;
    client.send(&ask).await;
    assert_eq!(client.answer_to(ask.id).await, first);
    assert_eq!(count(&sandbox, "auth.sendCode").await, 1);

    // On a new connection of the same session what was not acknowledged comes by itself.
    let mut again = sandbox.raw_with(2, client.key.clone()).await;
    again.session = client.session;
    let ping = Message { id: again.id(), seq_no: 4, body: f::Ping { ping_id: 5 }.to_bytes() };
    drop(client);
    again.send(&ping).await;
    assert_eq!(again.answer_to(ask.id).await, first);
    again.find(tl::types::Pong::CONSTRUCTOR_ID).await;

    let ack = tl::enums::MsgsAck::Ack(tl::types::MsgsAck { msg_ids: vec![first.0] });
    let ack = Message { id: again.id(), seq_no: 4, body: ack.to_bytes() };
    again.send(&ack).await;
    let state = tl::enums::MsgsStateReq::Req(tl::types::MsgsStateReq { msg_ids: vec![ask.id] });
    let state = Message { id: again.id(), seq_no: 4, body: state.to_bytes() };
    again.send(&state).await;
    let info = again.find(tl::types::MsgsStateInfo::CONSTRUCTOR_ID).await;
    let tl::enums::MsgsStateInfo::Info(info) = tl::enums::MsgsStateInfo::from_bytes(&info.body).unwrap();
    assert_eq!((info.req_msg_id, info.info), (state.id, vec![36]));
    sandbox.stop().await;
}

async fn count(sandbox: &Running, method: &str) -> u64 {
    let (_, calls) = sandbox.control("GET", "/api/calls", None).await;
    calls
        .as_array()
        .unwrap()
        .iter()
        .find(|call| call["method"] == method)
        .map_or(0, |call| call["count"].as_u64().unwrap())
}

#[tokio::test]
async fn a_promised_ping_that_does_not_come_closes_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut client = sandbox.raw(2).await;
    client.introduce().await;
    let ping = |delay| f::PingDelayDisconnect { ping_id: 1, disconnect_delay: delay };
    let long = client.message(ping(75).to_bytes(), true);
    client.send(&long).await;
    client.find(tl::types::Pong::CONSTRUCTOR_ID).await;
    let short = client.message(ping(1).to_bytes(), true);
    let sent = SystemClock.now();
    client.send(&short).await;
    client.find(tl::types::Pong::CONSTRUCTOR_ID).await;
    assert!(client.is_closed().await);
    assert!(SystemClock.now().since(sent).as_millis() >= 900);
    sandbox.stop().await;
}

#[tokio::test]
async fn several_sessions_and_connections_share_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut one = sandbox.raw(2).await;
    one.introduce().await;
    let mut two = sandbox.raw_with(2, one.key.clone()).await;
    let ask = two.message(f::help::GetConfig {}.to_bytes(), true);
    two.send(&ask).await;
    two.answer_to(ask.id).await;
    // A second session on the first connection. Its numbers start anew.
    let other = sandbox.ids.int64();
    let first = std::mem::replace(&mut one.session, other);
    let ask = Message { id: one.id(), seq_no: 1, body: f::help::GetConfig {}.to_bytes() };
    one.send(&ask).await;
    one.answer_to(ask.id).await;
    let destroy =
        Message { id: one.id(), seq_no: 3, body: f::DestroySession { session_id: first }.to_bytes() };
    one.send(&destroy).await;
    one.find(tl::types::DestroySessionOk::CONSTRUCTOR_ID).await;
    sandbox.stop().await;
}

#[tokio::test]
async fn an_unknown_key_is_told_so_and_a_key_is_good_in_one_data_centre() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let key = sandbox.new_key(2).await;
    let mut elsewhere = sandbox.raw_with(3, key).await;
    let hello = elsewhere.introduction();
    elsewhere.send(&hello).await;
    assert_eq!(elsewhere.transport_error().await, Some(404));
    assert!(elsewhere.is_closed().await);
    sandbox.stop().await;
}

#[tokio::test]
async fn the_first_request_of_a_key_must_introduce_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut client = sandbox.raw(2).await;
    let refused = client.call(&f::help::GetConfig {}).await.unwrap_err();
    assert_eq!(refused, "400 CONNECTION_NOT_INITED");
    client.introduce().await;
    let tl::enums::Config::Config(config) = client.call(&f::help::GetConfig {}).await.unwrap();
    let of = |tl::enums::DcOption::Option(option): &tl::enums::DcOption| option.id;
    let ids: Vec<i32> = config.dc_options.iter().map(of).collect();
    assert_eq!((config.this_dc, ids), (2, vec![1, 2, 3, 4, 5]));
    let refused = client.call(&f::help::GetCdnConfig {}).await.unwrap_err();
    assert_eq!(refused, "401 AUTH_KEY_UNREGISTERED", "nobody is told what exists");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_key_used_by_two_processes_at_once_is_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    // Peers are told apart by what this list says of their port.
    let processes: Arc<Mutex<Vec<(u16, u32)>>> = Arc::default();
    let known = Arc::clone(&processes);
    let hosts = Hosts::new(move |peer: SocketAddr| {
        let known = known.lock().unwrap();
        let process = known.iter().find(|(port, _)| *port == peer.port());
        process.map_or(Host::Process(1), |(_, process)| Host::Process(*process))
    });
    let sandbox = Running::start_with_hosts(folder.path(), hosts).await;
    let mut first = sandbox.raw(2).await;
    first.introduce().await;
    let mut same = sandbox.raw_with(2, first.key.clone()).await;
    let ask = same.message(f::help::GetConfig {}.to_bytes(), true);
    same.send(&ask).await;
    same.answer_to(ask.id).await;

    let mut other = sandbox.raw_with(2, first.key.clone()).await;
    processes.lock().unwrap().push((other.local_port(), 2));
    let ask = other.message(f::help::GetConfig {}.to_bytes(), true);
    other.send(&ask).await;
    let (_, answer) = other.answer_to(ask.id).await;
    assert_eq!(read_result::<f::help::GetConfig>(&answer).unwrap_err(), "406 AUTH_KEY_DUPLICATED");
    assert!(other.is_closed().await);
    let refused = first.call(&f::help::GetConfig {}).await.unwrap_err();
    assert_eq!(refused, "406 AUTH_KEY_DUPLICATED");
    assert!(first.is_closed().await);
    let mut later = sandbox.raw_with(2, first.key.clone()).await;
    let hello = later.introduction();
    later.send(&hello).await;
    assert_eq!(later.transport_error().await, Some(404));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_dropped_answer_and_a_wish_to_hear_it_again_are_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut client = sandbox.raw(2).await;
    client.introduce().await;
    let ask = client.message(f::help::GetNearestDc {}.to_bytes(), true);
    client.send(&ask).await;
    let first = client.answer_to(ask.id).await;
    let again = tl::enums::MsgResendReq::Req(tl::types::MsgResendReq { msg_ids: vec![first.0] });
    let again = client.message(again.to_bytes(), false);
    client.send(&again).await;
    assert_eq!(client.answer_to(ask.id).await, first);
    let dropped = client.call(&f::RpcDropAnswer { req_msg_id: ask.id }).await.unwrap();
    assert!(matches!(
        dropped,
        tl::enums::RpcDropAnswer::RpcAnswerDropped(dropped) if dropped.msg_id == first.0
    ));
    let dropped = client.call(&f::RpcDropAnswer { req_msg_id: 44 }).await.unwrap();
    assert_eq!(dropped, tl::enums::RpcDropAnswer::RpcAnswerUnknown);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_destroyed_key_is_unknown_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut client = sandbox.raw(2).await;
    client.introduce().await;
    let destroyed = client.call(&f::DestroyAuthKey {}).await.unwrap();
    assert_eq!(destroyed, tl::enums::DestroyAuthKeyRes::DestroyAuthKeyOk);
    let key = client.key.clone();
    drop(client);
    let mut later = sandbox.raw_with(2, key).await;
    let hello = later.introduction();
    later.send(&hello).await;
    assert_eq!(later.transport_error().await, Some(404));
    sandbox.stop().await;
}

#[tokio::test]
async fn a_minted_key_serves_grammers_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let (status, minted) = sandbox.control("POST", "/api/keys", Some(json!({"dc": 2}))).await;
    assert_eq!(status, 200, "{minted}");
    let bytes = grammers_crypto::hex::from_hex(minted["auth_key"].as_str().unwrap());
    let key = envelope::AuthKey::new(bytes.try_into().unwrap());
    let client = Grammers::new([(2, sandbox.option(2, &key))].into());
    client.sign_in(&sandbox, 2, ALICE).await;
    sandbox.stop().await;
}

#[tokio::test]
async fn long_requests_come_compressed_and_long_answers_leave_so() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;
    client.sign_in(&sandbox, 2, ALICE).await;
    // grammers compresses from 512 bytes on; 100 times oneself is a long answer.
    let users = f::users::GetUsers { id: vec![tl::enums::InputUser::UserSelf; 150] };
    assert_eq!(client.call(2, &users).await.unwrap().len(), 150);
    sandbox.stop().await;
}
