//! One MTProto session of one key: message ids, sequence numbers, what came in, what is not acknowledged yet.
//! Pure state; who sends the bytes is `conn`'s business. All times are real time.

use std::collections::BTreeMap;

use grammers_tl_types as tl;
use tl::Identifiable;

use super::envelope::GZIP_PACKED;
use super::envelope::MSG_CONTAINER;
use super::envelope::Message;

/// How many incoming message ids are remembered; older ones get error 20.
const MAX_REMEMBERED: usize = 2048;
/// How many unacknowledged messages are kept for re-sending, and their total size in bytes.
const MAX_UNACKED: usize = 512;
const MAX_UNACKED_BYTES: usize = 4 << 20;

/// What happened to a message that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Being worked on.
    Running,
    /// Answered by our message with this id.
    Answered(i64),
    /// Needs no answer, or its answer was acknowledged or dropped.
    Settled,
}

#[derive(Debug)]
struct Received {
    seq_no: i32,
    fate: Fate,
}

/// What to do with a message that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// New: carry it out.
    Fresh,
    /// Seen before and answered: send that answer again.
    Again(Message),
    /// Seen before; nothing to send but an acknowledgement.
    Known,
    /// Refuse with this `error_code` of `bad_msg_notification`.
    Bad(i32),
}

/// How a message leaves, which decides the low bits of its id and its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The `rpc_result` for this request: kept until acknowledged.
    Answer(i64),
    /// An update: kept until acknowledged.
    Push,
    /// A service message that answers one of the client's.
    Reply,
    /// A service message of our own accord.
    Notice,
}

/// The state of a session.
#[derive(Debug, Default)]
pub(crate) struct Session {
    last_id: i64,
    content: i32,
    received: BTreeMap<i64, Received>,
    /// Ids up to here were forgotten.
    forgotten: i64,
    unacked: BTreeMap<i64, Message>,
    unacked_bytes: usize,
}

impl Session {
    /// A fresh message id: Unix seconds in the high half, a fraction below, the low bits as the kind demands.
    pub(crate) fn next_id(&mut self, now_millis: i64, response: bool) -> i64 {
        let fraction = now_millis.rem_euclid(1000) * 4_294_967;
        let base = ((now_millis.div_euclid(1000) << 32) | fraction) & !3;
        let base = base.max((self.last_id & !3) + 4);
        self.last_id = base | if response { 1 } else { 3 };
        self.last_id
    }

    /// The sequence number of the container that carries other messages: it is not content-related.
    pub(crate) fn container_seq_no(&self) -> i32 {
        self.content * 2
    }

    /// Gives an outgoing body its id and sequence number, and keeps it if it needs acknowledgement.
    pub(crate) fn outgoing(&mut self, now_millis: i64, kind: Kind, body: Vec<u8>) -> Message {
        let response = matches!(kind, Kind::Answer(_) | Kind::Reply);
        let content = matches!(kind, Kind::Answer(_) | Kind::Push);
        let message = Message {
            id: self.next_id(now_millis, response),
            seq_no: self.content * 2 + i32::from(content),
            body,
        };
        self.content += i32::from(content);
        if let Kind::Answer(request) = kind
            && let Some(received) = self.received.get_mut(&request)
        {
            received.fate = Fate::Answered(message.id);
        }
        if content {
            self.keep(message.clone());
        }
        message
    }

    fn keep(&mut self, message: Message) {
        self.unacked_bytes += message.body.len();
        self.unacked.insert(message.id, message);
        while self.unacked.len() > MAX_UNACKED || self.unacked_bytes > MAX_UNACKED_BYTES {
            let Some((_, oldest)) = self.unacked.pop_first() else {
                break;
            };
            self.unacked_bytes = self.unacked_bytes.saturating_sub(oldest.body.len());
        }
    }

    /// Judges the packet's own message: id bits, and its time against `now_millis`.
    pub(crate) fn judge_time(id: i64, now_millis: i64) -> Option<i32> {
        let now = now_millis.div_euclid(1000);
        match id >> 32 {
            _ if id & 3 != 0 => Some(18),
            sent if sent < now - 300 => Some(16),
            sent if sent > now + 30 => Some(17),
            _ => None,
        }
    }

    /// Judges a message (a container too) by its id and sequence number, and remembers it when it is fresh.
    pub(crate) fn judge(&mut self, message: &Message) -> Verdict {
        let container = message.constructor() == MSG_CONTAINER;
        if message.id & 3 != 0 {
            return Verdict::Bad(18);
        }
        if let Some(known) = self.received.get(&message.id) {
            if container {
                return Verdict::Bad(19);
            }
            return match known.fate {
                Fate::Answered(answer) => {
                    self.unacked.get(&answer).map_or(Verdict::Known, |answer| Verdict::Again(answer.clone()))
                }
                Fate::Running | Fate::Settled => Verdict::Known,
            };
        }
        if message.id <= self.forgotten {
            return Verdict::Bad(20);
        }
        if let Some(code) = self.judge_sequence(message) {
            return Verdict::Bad(code);
        }
        let fate = match importance(message.constructor()) {
            Importance::Always => Fate::Running,
            Importance::Never | Importance::Either => Fate::Settled,
        };
        let seq_no = message.seq_no;
        self.received.insert(message.id, Received { seq_no, fate });
        if self.received.len() > MAX_REMEMBERED
            && let Some((id, _)) = self.received.pop_first()
        {
            self.forgotten = self.forgotten.max(id);
        }
        Verdict::Fresh
    }

    /// Error codes 32 to 35: parity by importance, order by message id
    /// (<https://core.telegram.org/mtproto/service_messages_about_messages>).
    fn judge_sequence(&self, message: &Message) -> Option<i32> {
        let odd = message.seq_no & 1 == 1;
        match importance(message.constructor()) {
            Importance::Never if odd => return Some(34),
            Importance::Always if !odd => return Some(35),
            Importance::Never | Importance::Always | Importance::Either => {}
        }
        let clash = |other: i32| other == message.seq_no && odd;
        let earlier = self.received.range(..message.id).next_back();
        if earlier.is_some_and(|(_, earlier)| earlier.seq_no > message.seq_no || clash(earlier.seq_no)) {
            return Some(32);
        }
        let later = self.received.range(message.id..).next();
        if later.is_some_and(|(_, later)| later.seq_no < message.seq_no || clash(later.seq_no)) {
            return Some(33);
        }
        None
    }

    /// The client has these of ours.
    pub(crate) fn acknowledged(&mut self, ids: &[i64]) {
        for id in ids {
            if let Some(message) = self.unacked.remove(id) {
                self.unacked_bytes = self.unacked_bytes.saturating_sub(message.body.len());
            }
        }
    }

    /// What the client may not have, oldest first: for a new connection of this session.
    pub(crate) fn unacknowledged(&self) -> Vec<Message> {
        self.unacked.values().cloned().collect()
    }

    /// One of ours by its id, for `msg_resend_req`; or the answer to one of the client's, for `msg_resend_ans_req`.
    pub(crate) fn find(&self, id: i64) -> Option<Message> {
        let answer = match self.received.get(&id).map(|received| received.fate) {
            Some(Fate::Answered(answer)) => answer,
            Some(Fate::Running | Fate::Settled) | None => id,
        };
        self.unacked.get(&answer).cloned()
    }

    /// `rpc_drop_answer`: the answer to `request` is not wanted any more.
    pub(crate) fn drop_answer(&mut self, request: i64) -> tl::enums::RpcDropAnswer {
        let Some(received) = self.received.get_mut(&request) else {
            return tl::enums::RpcDropAnswer::RpcAnswerUnknown;
        };
        match std::mem::replace(&mut received.fate, Fate::Settled) {
            Fate::Settled => tl::enums::RpcDropAnswer::RpcAnswerUnknown,
            Fate::Running => tl::enums::RpcDropAnswer::RpcAnswerDroppedRunning,
            Fate::Answered(answer) => match self.unacked.remove(&answer) {
                None => tl::enums::RpcDropAnswer::RpcAnswerUnknown,
                Some(message) => {
                    self.unacked_bytes = self.unacked_bytes.saturating_sub(message.body.len());
                    tl::enums::RpcDropAnswer::RpcAnswerDropped(tl::types::RpcAnswerDropped {
                        msg_id: message.id,
                        seq_no: message.seq_no,
                        bytes: i32::try_from(message.body.len()).unwrap_or(i32::MAX),
                    })
                }
            },
        }
    }

    /// One byte of `msgs_state_info` for each id: 1 unknown, 2 not received, 3 too high, 4 received (8: needs no
    /// answer, 16: answer running, 32: answer sent).
    pub(crate) fn states(&self, ids: &[i64]) -> Vec<u8> {
        let highest = self.received.last_key_value().map_or(0, |(id, _)| *id);
        ids.iter()
            .map(|id| match self.received.get(id).map(|received| received.fate) {
                Some(Fate::Running) => 4 | 16,
                Some(Fate::Answered(_)) => 4 | 32,
                Some(Fate::Settled) => 4 | 8,
                None if *id <= self.forgotten => 1,
                None if *id > highest => 3,
                None => 2,
            })
            .collect()
    }
}

enum Importance {
    Always,
    Never,
    Either,
}

/// Whether a message must, must not or may be content-related. Clients differ in how they number service messages.
fn importance(constructor: u32) -> Importance {
    match constructor {
        MSG_CONTAINER | tl::types::MsgsAck::CONSTRUCTOR_ID => Importance::Never,
        GZIP_PACKED
        | tl::functions::Ping::CONSTRUCTOR_ID
        | tl::functions::PingDelayDisconnect::CONSTRUCTOR_ID
        | tl::functions::GetFutureSalts::CONSTRUCTOR_ID
        | tl::functions::DestroySession::CONSTRUCTOR_ID
        | tl::functions::DestroyAuthKey::CONSTRUCTOR_ID
        | tl::functions::RpcDropAnswer::CONSTRUCTOR_ID
        | tl::types::HttpWait::CONSTRUCTOR_ID
        | tl::types::MsgsStateReq::CONSTRUCTOR_ID
        | tl::types::MsgsStateInfo::CONSTRUCTOR_ID
        | tl::types::MsgsAllInfo::CONSTRUCTOR_ID
        | tl::types::MsgResendReq::CONSTRUCTOR_ID
        | tl::types::MsgResendAnsReq::CONSTRUCTOR_ID => Importance::Either,
        _ => Importance::Always,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tl::Serializable;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn id(number: i64) -> i64 {
        ((NOW / 1000) << 32) + number * 4
    }

    fn request(number: i64, seq_no: i32) -> Message {
        let body = tl::functions::help::GetConfig {}.to_bytes();
        Message { id: id(number), seq_no, body }
    }

    #[test]
    fn a_repeated_request_gets_the_stored_answer_until_it_is_acknowledged() {
        let mut session = Session::default();
        let asked = request(1, 1);
        assert_eq!(session.judge(&asked), Verdict::Fresh);
        assert_eq!(session.judge(&asked), Verdict::Known, "still running");
        let answer = session.outgoing(NOW, Kind::Answer(asked.id), vec![1; 8]);
        assert_eq!(answer.id & 3, 1);
        assert_eq!(session.judge(&asked), Verdict::Again(answer.clone()));
        assert_eq!(session.unacknowledged(), std::slice::from_ref(&answer));
        session.acknowledged(&[answer.id]);
        assert_eq!(session.judge(&asked), Verdict::Known);
        assert!(session.unacknowledged().is_empty());
    }

    #[test]
    fn sequence_numbers_follow_parity_and_order() {
        let mut session = Session::default();
        assert_eq!(session.judge(&request(10, 3)), Verdict::Fresh);
        for (message, code) in [
            (request(11, 3), 32),
            (request(11, 1), 32),
            (request(9, 5), 33),
            (request(9, 3), 33),
            (request(11, 4), 35),
        ] {
            assert_eq!(session.judge(&message), Verdict::Bad(code), "{message:?}");
        }
        let ack = tl::enums::MsgsAck::Ack(tl::types::MsgsAck { msg_ids: vec![] }).to_bytes();
        let odd_ack = Message { id: id(12), seq_no: 5, body: ack };
        assert_eq!(session.judge(&odd_ack), Verdict::Bad(34));
        assert_eq!(session.judge(&request(12, 5)), Verdict::Fresh);
        assert_eq!(session.judge(&request(9, 1)), Verdict::Fresh, "late but in its place");
    }

    #[test]
    fn the_clock_of_a_client_may_be_five_minutes_behind_and_half_a_minute_ahead() {
        let at = |seconds: i64| ((NOW / 1000 + seconds) << 32) + 4;
        for (sent, code) in [(-301, Some(16)), (-300, None), (0, None), (30, None), (31, Some(17))] {
            assert_eq!(Session::judge_time(at(sent), NOW), code, "{sent} s");
        }
        assert_eq!(Session::judge_time(at(0) + 1, NOW), Some(18));
    }

    #[test]
    fn the_memory_of_a_session_is_bounded() {
        let mut session = Session::default();
        for number in 0..5_000 {
            let asked = request(number, i32::try_from(number).unwrap() * 2 + 1);
            assert_eq!(session.judge(&asked), Verdict::Fresh);
            session.outgoing(NOW, Kind::Answer(asked.id), vec![0; 64]);
        }
        assert!(session.received.len() <= MAX_REMEMBERED);
        assert!(session.unacked.len() <= MAX_UNACKED);
        assert_eq!(session.judge(&request(1, 3)), Verdict::Bad(20));
        for _ in 0..10 {
            session.outgoing(NOW, Kind::Push, vec![0; 1 << 20]);
        }
        assert!(session.unacked_bytes <= MAX_UNACKED_BYTES);
    }

    #[test]
    fn states_and_dropped_answers_are_told_as_documented() {
        let mut session = Session::default();
        let (first, second) = (request(1, 1), request(3, 3));
        session.judge(&first);
        session.judge(&second);
        let answer = session.outgoing(NOW, Kind::Answer(first.id), vec![1; 12]);
        assert_eq!(session.states(&[first.id, second.id, id(2), id(9)]), [36, 20, 2, 3]);
        assert_eq!(
            session.drop_answer(first.id),
            tl::enums::RpcDropAnswer::RpcAnswerDropped(tl::types::RpcAnswerDropped {
                msg_id: answer.id,
                seq_no: answer.seq_no,
                bytes: 12
            })
        );
        assert_eq!(session.drop_answer(second.id), tl::enums::RpcDropAnswer::RpcAnswerDroppedRunning);
        assert_eq!(session.drop_answer(id(7)), tl::enums::RpcDropAnswer::RpcAnswerUnknown);
    }

    proptest! {
        #[test]
        fn ids_only_grow_and_no_two_messages_share_one(times in prop::collection::vec(NOW - 5_000..NOW + 5_000, 1..50)) {
            let mut session = Session::default();
            let mut last = 0;
            for time in times {
                let next = session.next_id(time, time % 2 == 0);
                prop_assert!(next > last && next & 1 == 1);
                last = next;
            }
        }

        #[test]
        fn any_message_is_carried_out_at_most_once(messages in prop::collection::vec((0i64..20, 0i32..40), 0..60)) {
            let mut session = Session::default();
            let mut done = std::collections::BTreeSet::new();
            for (number, seq_no) in messages {
                if session.judge(&request(number, seq_no)) == Verdict::Fresh {
                    prop_assert!(done.insert(number));
                }
            }
        }
    }
}
