//! What an opened packet holds: the rules for ids, salts and containers, the service messages, and the way of a request
//! to `rpc` and of its answer back.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use grammers_tl_types as tl;
use tl::Deserializable;
use tl::Identifiable;
use tl::Serializable;
use tokio::time::Instant;

use crate::domain::clock::Clock;
use crate::lifecycle::SystemClock;
use crate::lifecycle::network_sleep;

use super::Connection;
use super::live::LiveSession;
use super::live::Out;
use super::live::Outlet;
use crate::sandbox::hub::Hub;
use crate::sandbox::hub::KnownKey;
use crate::sandbox::rpc;
use crate::sandbox::wire::envelope;
use crate::sandbox::wire::envelope::MSG_CONTAINER;
use crate::sandbox::wire::envelope::Message;
use crate::sandbox::wire::envelope::Opened;
use crate::sandbox::wire::envelope::Unpackable;
use crate::sandbox::wire::envelope::Unpacked;
use crate::sandbox::wire::envelope::rpc_result;
use crate::sandbox::wire::salts;
use crate::sandbox::wire::session::Kind;
use crate::sandbox::wire::session::Session;
use crate::sandbox::wire::session::Verdict;
use crate::sandbox::world::Press;

/// How many delayed requests one connection may have under way.
const MAX_UNDER_WAY: usize = 256;
/// Answers longer than this leave compressed, bytes.
const COMPRESS_FROM: usize = 2048;
/// The longest delay that `ping_delay_disconnect` may ask for, seconds.
const MAX_PING_DELAY: u32 = 24 * 3600;

impl Connection {
    /// Takes an opened packet. Whether the connection goes on.
    pub(super) async fn on_opened(&mut self, key_id: i64, key: &Arc<KnownKey>, opened: Opened) -> bool {
        self.inflatable = envelope::MAX_INFLATED;
        let session = self.hub.live.session(key, key_id, opened.session, &self.outlet);
        let now = SystemClock.now();
        let head = Message {
            id: opened.message.id,
            seq_no: opened.message.seq_no,
            body: MSG_CONTAINER.to_le_bytes().to_vec(),
        };
        if let Some(code) = Session::judge_time(head.id, now.as_millis()) {
            refuse(&session, &head, code);
            return true;
        }
        if !key.accepts_salt(opened.salt, now.as_secs()) || self.hub.faults.wrong_salt() {
            let refusal = tl::enums::BadMsgNotification::BadServerSalt(tl::types::BadServerSalt {
                bad_msg_id: head.id,
                bad_msg_seqno: head.seq_no,
                error_code: 48,
                new_server_salt: salts::current(&key.key, now.as_secs()),
            });
            session.send(Kind::Reply, refusal.to_bytes());
            return true;
        }
        let messages = match envelope::unpack(opened.message, &mut self.inflatable) {
            Ok(Unpacked::Single(message)) => vec![message],
            Ok(Unpacked::Container(messages)) => {
                if let Verdict::Bad(code) = session.with(|session| session.judge(&head)) {
                    refuse(&session, &head, code);
                    return true;
                }
                messages
            }
            Err(Unpackable::BadContainer) => {
                refuse(&session, &head, 64);
                return true;
            }
            Err(Unpackable::BadGzip) => return false,
        };
        if session.announce() {
            let first = messages.iter().map(|message| message.id).min().unwrap_or(head.id);
            let announcement = tl::enums::NewSession::Created(tl::types::NewSessionCreated {
                first_msg_id: first,
                unique_id: self.hub.ids.int64(),
                server_salt: salts::current(&key.key, now.as_secs()),
            });
            session.send(Kind::Notice, announcement.to_bytes());
        }
        self.on_messages(key_id, key, &session, messages).await
    }

    async fn on_messages(
        &mut self,
        key_id: i64,
        key: &Arc<KnownKey>,
        session: &Arc<LiveSession>,
        messages: Vec<Message>,
    ) -> bool {
        let mut acknowledged = Vec::new();
        for (position, message) in messages.into_iter().enumerate() {
            // One packet may hold a thousand requests: others have their turn in between.
            if position > 0 {
                tokio::task::yield_now().await;
            }
            if message.seq_no & 1 == 1 {
                acknowledged.push(message.id);
            }
            match session.with(|session| session.judge(&message)) {
                Verdict::Fresh => {
                    if !self.on_message(key_id, key, session, message) {
                        return false;
                    }
                }
                Verdict::Again(answer) => session.send_again(answer),
                Verdict::Known => {}
                Verdict::Bad(code) => {
                    acknowledged.retain(|id| *id != message.id);
                    refuse(session, &message, code);
                }
            }
        }
        if !acknowledged.is_empty() {
            let ack = tl::types::MsgsAck { msg_ids: acknowledged };
            session.send(Kind::Notice, tl::enums::MsgsAck::Ack(ack).to_bytes());
        }
        true
    }

    fn on_message(
        &mut self,
        key_id: i64,
        key: &Arc<KnownKey>,
        session: &Arc<LiveSession>,
        message: Message,
    ) -> bool {
        let rest = message.body.get(4..).unwrap_or_default();
        match message.constructor() {
            tl::functions::Ping::CONSTRUCTOR_ID => match tl::functions::Ping::from_bytes(rest) {
                Ok(ping) => pong(session, message.id, ping.ping_id),
                Err(_) => return false,
            },
            tl::functions::PingDelayDisconnect::CONSTRUCTOR_ID => {
                let Ok(ping) = tl::functions::PingDelayDisconnect::from_bytes(rest) else {
                    return false;
                };
                let delay = u32::try_from(ping.disconnect_delay).unwrap_or(0).min(MAX_PING_DELAY);
                self.ping_deadline = Some(Instant::now() + Duration::from_secs(u64::from(delay)));
                pong(session, message.id, ping.ping_id);
            }
            tl::functions::GetFutureSalts::CONSTRUCTOR_ID => {
                let Ok(asked) = tl::functions::GetFutureSalts::from_bytes(rest) else {
                    return false;
                };
                session.send(Kind::Reply, future_salts(key, message.id, asked.num));
            }
            tl::types::MsgsAck::CONSTRUCTOR_ID => match tl::types::MsgsAck::from_bytes(rest) {
                Ok(ack) => session.with(|session| session.acknowledged(&ack.msg_ids)),
                Err(_) => return false,
            },
            tl::types::MsgsStateReq::CONSTRUCTOR_ID => match tl::types::MsgsStateReq::from_bytes(rest) {
                Ok(asked) => send_states(session, message.id, &asked.msg_ids),
                Err(_) => return false,
            },
            tl::types::MsgResendReq::CONSTRUCTOR_ID | tl::types::MsgResendAnsReq::CONSTRUCTOR_ID => {
                // Both constructors hold the same.
                let Ok(asked) = tl::types::MsgResendReq::from_bytes(rest) else {
                    return false;
                };
                resend(session, message.id, &asked.msg_ids);
            }
            tl::functions::RpcDropAnswer::CONSTRUCTOR_ID => {
                let Ok(asked) = tl::functions::RpcDropAnswer::from_bytes(rest) else {
                    return false;
                };
                let dropped = session.with(|session| session.drop_answer(asked.req_msg_id));
                session.send(Kind::Answer(message.id), rpc_result(message.id, dropped.to_bytes()));
            }
            tl::functions::DestroySession::CONSTRUCTOR_ID => {
                let Ok(asked) = tl::functions::DestroySession::from_bytes(rest) else {
                    return false;
                };
                let reply = self.destroy_session(key_id, session, asked.session_id);
                session.send(Kind::Reply, reply);
            }
            tl::functions::DestroyAuthKey::CONSTRUCTOR_ID => {
                let forgotten = self.hub.forget_keys(&[key_id]);
                let reply = if forgotten.is_ok() {
                    tl::enums::DestroyAuthKeyRes::DestroyAuthKeyOk
                } else {
                    tl::enums::DestroyAuthKeyRes::DestroyAuthKeyFail
                };
                session.send(Kind::Answer(message.id), rpc_result(message.id, reply.to_bytes()));
                self.outlet.send(Out::Close);
            }
            tl::types::HttpWait::CONSTRUCTOR_ID
            | tl::types::MsgsStateInfo::CONSTRUCTOR_ID
            | tl::types::MsgsAllInfo::CONSTRUCTOR_ID => {}
            _ => return self.on_request(key_id, session, message),
        }
        true
    }

    fn destroy_session(&self, key_id: i64, own: &LiveSession, session_id: i64) -> Vec<u8> {
        // A session cannot destroy itself.
        if session_id != own.id && self.hub.live.destroy_session(key_id, session_id) {
            let destroyed = tl::types::DestroySessionOk { session_id };
            return tl::enums::DestroySessionRes::DestroySessionOk(destroyed).to_bytes();
        }
        let unknown = tl::types::DestroySessionNone { session_id };
        tl::enums::DestroySessionRes::DestroySessionNone(unknown).to_bytes()
    }

    fn on_request(&mut self, key_id: i64, session: &Arc<LiveSession>, message: Message) -> bool {
        let request = message.id;
        let Some(call) = rpc::Call::read(message.body, &mut self.inflatable) else {
            let refusal = rpc::RpcError::new(400, "INPUT_REQUEST_INVALID");
            session.send(Kind::Answer(request), rpc_result(request, refusal.to_bytes()));
            return true;
        };
        if !call.without_updates {
            session.want_updates();
        }
        let mut cleared = self.hub.faults.clearing();
        let device = crate::sandbox::world::DeviceId(key_id);
        let is_caller = |name: &str| self.hub.look(|world| world.is_called(device, name));
        let fate = self.hub.faults.on_call(call.method(), is_caller);
        if fate.disconnect {
            return false;
        }
        let caller = rpc::Caller { device, dc: self.dc };
        let (hub, session, outlet) = (Arc::clone(&self.hub), Arc::clone(session), self.outlet.clone());
        let under_way = Arc::clone(&self.under_way);
        let answering = Answering { hub, session, outlet, under_way, request, cut: fate.cut };
        let run = move || {
            let reply = match fate.error {
                Some((code, name)) => {
                    answering.hub.count_call(call.method());
                    rpc::Reply::Now(Err(rpc::RpcError::new(code, name)))
                }
                None => rpc::dispatch(&answering.hub, caller, &call),
            };
            match reply {
                rpc::Reply::Now(outcome) => answering.answer(outcome),
                rpc::Reply::Later(press) => answering.answer_later(press),
            }
        };
        if fate.delay.is_zero() {
            run();
            return true;
        }
        let Some(turn) = Turn::take(&self.under_way) else {
            return false;
        };
        let (ended, delay) = (self.outlet.ended.clone(), fate.delay);
        self.hub.tasks.spawn("delayed request", async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = network_sleep(delay) => run(),
                _ = cleared.changed() => run(),
            }
            drop(turn);
        });
        true
    }

    /// Answers every request in the packet with 406 `AUTH_KEY_DUPLICATED`, then closes.
    pub(super) fn refuse_duplicated(&mut self, key_id: i64, key: &Arc<KnownKey>, opened: Opened) {
        let session = self.hub.live.session(key, key_id, opened.session, &self.outlet);
        let messages = match envelope::unpack(opened.message, &mut { envelope::MAX_INFLATED }) {
            Ok(Unpacked::Single(message)) => vec![message],
            Ok(Unpacked::Container(messages)) => messages,
            Err(_) => Vec::new(),
        };
        let refusal = rpc::RpcError::new(406, "AUTH_KEY_DUPLICATED").to_bytes();
        for message in messages.iter().filter(|message| message.seq_no & 1 == 1) {
            session.send(Kind::Answer(message.id), rpc_result(message.id, refusal.clone()));
        }
        self.outlet.send(Out::Close);
    }
}

/// One of the requests that a connection may have waiting.
struct Turn(Arc<AtomicUsize>);

impl Turn {
    fn take(under_way: &Arc<AtomicUsize>) -> Option<Self> {
        let turn = Self(Arc::clone(under_way));
        (under_way.fetch_add(1, Ordering::SeqCst) < MAX_UNDER_WAY).then_some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The way of an answer back.
struct Answering {
    hub: Arc<Hub>,
    session: Arc<LiveSession>,
    outlet: Outlet,
    under_way: Arc<AtomicUsize>,
    request: i64,
    /// The connection is cut in place of the answer.
    cut: bool,
}

impl Answering {
    fn answer(&self, outcome: Result<Vec<u8>, rpc::RpcError>) {
        let body = match outcome {
            Ok(body) if body.len() > COMPRESS_FROM => envelope::gzip(&body).unwrap_or(body),
            Ok(body) => body,
            Err(error) => error.to_bytes(),
        };
        let result = rpc_result(self.request, body);
        if self.cut {
            self.session.keep(Kind::Answer(self.request), result);
            self.outlet.ended.cancel();
        } else {
            self.session.send(Kind::Answer(self.request), result);
        }
    }

    /// Waits for the bot, also when the connection ends meanwhile: the answer is for the session.
    fn answer_later(self, press: Press) {
        let Some(turn) = Turn::take(&self.under_way) else {
            self.answer(Err(rpc::RpcError::new(420, "FLOOD_WAIT_15")));
            return;
        };
        let tasks = self.hub.tasks.clone();
        tasks.spawn("callback answer", async move {
            let answer = self.hub.answer_to(press, self.hub.limits.callback).await;
            self.answer(rpc::pressed(answer));
            drop(turn);
        });
    }
}

/// `bad_msg_notification`
fn refuse(session: &Arc<LiveSession>, message: &Message, error_code: i32) {
    let refusal = tl::enums::BadMsgNotification::Notification(tl::types::BadMsgNotification {
        bad_msg_id: message.id,
        bad_msg_seqno: message.seq_no,
        error_code,
    });
    session.send(Kind::Reply, refusal.to_bytes());
}

fn pong(session: &Arc<LiveSession>, msg_id: i64, ping_id: i64) {
    let pong = tl::enums::Pong::Pong(tl::types::Pong { msg_id, ping_id });
    session.send(Kind::Reply, pong.to_bytes());
}

fn future_salts(key: &KnownKey, req_msg_id: i64, count: i32) -> Vec<u8> {
    let now = SystemClock.now().as_secs();
    let seconds = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
    let salts = salts::future(&key.key, now, count)
        .into_iter()
        .map(|salt| tl::types::FutureSalt {
            valid_since: seconds(salt.valid_since),
            valid_until: seconds(salt.valid_until),
            salt: salt.value,
        })
        .collect();
    tl::enums::FutureSalts::Salts(tl::types::FutureSalts {
        req_msg_id,
        now: seconds(now),
        salts: tl::RawVec(salts),
    })
    .to_bytes()
}

fn send_states(session: &Arc<LiveSession>, req_msg_id: i64, ids: &[i64]) {
    let info = session.with(|session| session.states(ids));
    let states = tl::enums::MsgsStateInfo::Info(tl::types::MsgsStateInfo { req_msg_id, info });
    session.send(Kind::Reply, states.to_bytes());
}

/// Sends what is still there again; of the rest, tells the state.
fn resend(session: &Arc<LiveSession>, request: i64, ids: &[i64]) {
    let mut missing = Vec::new();
    for id in ids {
        match session.with(|session| session.find(*id)) {
            Some(message) => session.send_again(message),
            None => missing.push(*id),
        }
    }
    if !missing.is_empty() {
        send_states(session, request, &missing);
    }
}
