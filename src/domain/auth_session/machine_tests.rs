//! A test per transition of the session's life, and of what does not lead anywhere.

use std::time::Duration;

use super::*;
use crate::domain::auth_session::MatchCode;
use crate::domain::auth_session::REPEAT;
use crate::domain::auth_session::Request;
use crate::domain::auth_session::SessionToken;
use crate::domain::auth_session::Status;
use crate::domain::ids::Ids;
use crate::domain::project::ProjectId;

const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BOT: Via = Via { account: 500, bot: true };
const ALICE: i64 = 7;
const MALLORY: i64 = 8;

fn at(seconds: u64) -> Timestamp {
    BEGIN.plus(Duration::from_secs(seconds))
}

fn session(wants_phone: bool, match_code: Option<MatchCode>) -> AuthSession {
    let request =
        Request { wants_phone, match_code, ..Request::new(ProjectId::parse("proj_demo").unwrap(), BOT) };
    AuthSession::new(SessionToken::new(&Ids::from_seed([1; 32])), "w".to_owned(), request, BEGIN)
}

fn open(person: i64, message: i32) -> Event {
    let person = Person { id: person, access_hash: 0, name: "Alice".to_owned(), username: None };
    Event::Open { person, via: BOT, message, language: Language::En }
}

fn tap(person: i64) -> Answer {
    Answer { person, via: BOT, message: 20, tapped: true }
}

fn words(person: i64) -> Answer {
    Answer { person, via: BOT, message: 30, tapped: false }
}

fn yes(person: i64) -> Event {
    Event::Confirm { answer: tap(person), number: None }
}

fn done(session: &AuthSession, event: &Event, now: Timestamp) -> AuthSession {
    session.apply(event, now).unwrap().session
}

fn opened() -> AuthSession {
    let opened = done(&session(false, None), &open(ALICE, 10), at(1));
    done(&opened, &Event::PromptSent(Some(20)), at(2))
}

fn confirmed() -> AuthSession {
    done(&opened(), &yes(ALICE), at(3))
}

#[test]
fn the_first_to_open_owns_it_and_is_asked_once() {
    let step = session(false, None).apply(&open(ALICE, 10), at(1)).unwrap();
    assert!(matches!(step.errands.as_slice(), [Errand { task: Task::Prompt { .. }, person: ALICE, .. }]));
    let opened = step.session;
    assert_eq!(opened.apply(&open(ALICE, 10), at(2)), Err(Refused::Unchanged), "told twice");
    assert_eq!(opened.apply(&open(ALICE, 11), at(2)), Err(Refused::AlreadyOpen));
    assert_eq!(opened.apply(&open(MALLORY, 12), at(2)), Err(Refused::NotYours));
    assert_eq!(opened.apply(&yes(MALLORY), at(2)), Err(Refused::NotYours));
    assert_eq!(opened.apply(&Event::Cancel(tap(MALLORY)), at(2)), Err(Refused::NotYours));
    let Event::Open { person, message, language, .. } = open(ALICE, 10) else { unreachable!() };
    let elsewhere = Event::Open { person, via: Via { account: 501, bot: true }, message, language };
    assert_eq!(session(false, None).apply(&elsewhere, at(1)), Err(Refused::OtherAccount));
    let by_another_account = Answer { via: Via { account: 501, bot: true }, ..tap(ALICE) };
    assert_eq!(opened.apply(&Event::Cancel(by_another_account), at(2)), Err(Refused::NotYours));
}

#[test]
fn nobody_confirms_what_nobody_opened() {
    assert_eq!(session(false, None).apply(&yes(ALICE), at(1)), Err(Refused::NotYours));
}

#[test]
fn only_its_own_prompt_decides() {
    let elsewhere = Answer { message: 21, ..tap(ALICE) };
    let event = Event::Confirm { answer: elsewhere, number: None };
    assert_eq!(opened().apply(&event, at(3)), Err(Refused::NotYours));
    // Where the answer to sending it was lost, the tap tells which message it is.
    let unsent = done(&session(false, None), &open(ALICE, 10), at(1));
    assert_eq!(done(&unsent, &event, at(3)).opening.unwrap().prompt, Some(21));
}

#[test]
fn words_said_before_the_prompt_was_shown_answer_something_else() {
    let unseen = done(&session(false, None), &open(ALICE, 10), at(1));
    let say = |message| Event::Confirm { answer: Answer { message, ..words(ALICE) }, number: None };
    assert_eq!(unseen.apply(&say(30), at(2)), Err(Refused::NotShown));
    assert_eq!(opened().apply(&say(19), at(3)), Err(Refused::NotShown));
    assert_eq!(
        opened().apply(&Event::Cancel(Answer { message: 19, ..words(ALICE) }), at(3)),
        Err(Refused::NotShown)
    );
    assert!(opened().apply(&say(21), at(3)).is_ok());
    let lost = done(&unseen, &Event::PromptSent(None), at(2));
    assert!(lost.apply(&say(30), at(3)).is_ok(), "sent, though nobody knows as which message");
}

#[test]
fn yes_confirms_and_no_cancels_and_neither_can_be_taken_back() {
    let step = opened().apply(&yes(ALICE), at(3)).unwrap();
    assert!(matches!(step.errands.as_slice(), [Errand { task: Task::Outcome { .. }, .. }]));
    let confirmed = step.session;
    assert_eq!((confirmed.status(at(3)), confirmed.confirmed_at()), (Status::Confirmed, Some(at(3))));
    assert_eq!(confirmed.apply(&yes(ALICE), at(4)), Err(Refused::Confirmed));
    assert_eq!(confirmed.apply(&Event::Cancel(tap(ALICE)), at(4)), Err(Refused::Confirmed));
    assert_eq!(confirmed.apply(&Event::CancelByServer, at(4)), Err(Refused::Confirmed));
    assert_eq!(confirmed.apply(&Event::Expire, at(700)), Err(Refused::Unchanged));

    let cancelled = done(&opened(), &Event::Cancel(words(ALICE)), at(3));
    assert_eq!(cancelled.status(at(3)), Status::Cancelled);
    assert_eq!(cancelled.opening.as_ref().unwrap().answered_by, [30]);
    assert_eq!(cancelled.apply(&yes(ALICE), at(4)), Err(Refused::Cancelled));
}

#[test]
fn the_server_cancels_opened_or_not() {
    let step = session(false, None).apply(&Event::CancelByServer, at(1)).unwrap();
    assert!(step.errands.is_empty(), "nobody to tell");
    assert_eq!(step.session.status(at(1)), Status::Cancelled);
    assert_eq!(step.session.apply(&open(ALICE, 10), at(2)), Err(Refused::Cancelled));
    assert_eq!(opened().apply(&Event::CancelByServer, at(3)).unwrap().errands.len(), 1);
}

#[test]
fn after_ten_minutes_it_is_expired_whether_or_not_anybody_noticed() {
    assert_eq!(opened().status(at(599)), Status::Pending);
    assert_eq!(opened().status(at(600)), Status::Expired);
    assert_eq!(opened().apply(&Event::Expire, at(599)), Err(Refused::Unchanged));
    for event in [yes(ALICE), Event::Cancel(tap(ALICE)), Event::CancelByServer, open(ALICE, 11)] {
        assert_eq!(opened().apply(&event, at(600)), Err(Refused::Expired));
    }
    let step = opened().apply(&Event::Expire, at(600)).unwrap();
    assert_eq!((step.errands.len(), step.session.status(at(600))), (1, Status::Expired));
    assert_eq!(step.session.apply(&yes(ALICE), at(601)), Err(Refused::Expired));
    assert_eq!(step.session.apply(&Event::Expire, at(601)), Err(Refused::Unchanged));
}

#[test]
fn the_right_number_confirms_and_a_wrong_one_cancels() {
    let code = MatchCode { right: 42, offered: [17, 42, 63] };
    let opened = done(&session(false, Some(code)), &open(ALICE, 10), at(1));
    let say = |number| Event::Confirm { answer: tap(ALICE), number };
    assert_eq!(opened.apply(&say(None), at(2)), Err(Refused::NumberNeeded));
    assert_eq!(done(&opened, &say(Some(42)), at(2)).status(at(2)), Status::Confirmed);
    let wrong = done(&opened, &say(Some(17)), at(2));
    assert!(matches!(wrong.state, State::Cancelled { by: Canceller::WrongMatch, .. }));
}

#[test]
fn a_wanted_phone_number_keeps_it_pending_until_it_is_given() {
    let opened = done(&session(true, None), &open(ALICE, 10), at(1));
    let opened = done(&opened, &Event::PromptSent(Some(20)), at(1));
    let give =
        |person| Event::Contact { answer: words(person), phone: Secret::new("+15550100001".to_owned()) };
    assert_eq!(opened.apply(&give(ALICE), at(2)), Err(Refused::NoContactAsked));
    let step = opened.apply(&yes(ALICE), at(2)).unwrap();
    assert!(matches!(step.errands.as_slice(), [Errand { task: Task::AskContact { .. }, .. }]));
    let asked = step.session;
    assert_eq!(asked.status(at(2)), Status::Pending);
    assert_eq!(asked.apply(&yes(ALICE), at(3)), Err(Refused::Unchanged));
    assert_eq!(asked.apply(&give(MALLORY), at(3)), Err(Refused::NotYours));
    let confirmed = done(&asked, &give(ALICE), at(3));
    assert_eq!((confirmed.status(at(3)), confirmed.phone()), (Status::Confirmed, Some("+15550100001")));
    assert_eq!(asked.apply(&give(ALICE), at(600)), Err(Refused::Expired));
    assert_eq!(done(&asked, &Event::Cancel(words(ALICE)), at(3)).status(at(3)), Status::Cancelled);
}

#[test]
fn a_confirmation_is_consumed_once_and_not_for_ever() {
    let consume = |by_proof| Event::Consume { by_proof, receipt: None };
    assert_eq!(opened().apply(&consume(false), at(3)), Err(Refused::Pending));
    assert_eq!(opened().apply(&consume(false), at(600)), Err(Refused::Expired));
    let used = done(&confirmed(), &consume(false), at(4));
    assert_eq!((used.status(at(4)), used.confirmed_at()), (Status::Used, Some(at(3))));
    assert_eq!(used.apply(&consume(true), at(5)), Err(Refused::Used));
    assert_eq!(confirmed().status(at(602)), Status::Confirmed);
    assert_eq!(confirmed().status(at(603)), Status::Expired, "600 s after confirmation");
    assert_eq!(confirmed().apply(&consume(false), at(603)), Err(Refused::Expired));
    assert!(confirmed().apply(&consume(true), at(603)).is_ok(), "the proof is still good");
    assert!(REPEAT < LIFETIME);
}

#[test]
fn the_timeline_tells_each_thing_once_and_in_order() {
    let mut session = done(&confirmed(), &Event::FirstRead, at(4));
    assert_eq!(session.apply(&Event::FirstRead, at(5)), Err(Refused::Unchanged));
    assert_eq!(session.apply(&Event::PromptSent(Some(20)), at(5)), Err(Refused::Unchanged));
    session = done(&session, &Event::Consume { by_proof: false, receipt: None }, at(6));
    let whats: Vec<_> = session.timeline.iter().map(|milestone| milestone.what.clone()).collect();
    assert_eq!(
        whats,
        [
            Happening::Created,
            Happening::Opened,
            Happening::PromptSent,
            Happening::Confirmed,
            Happening::FirstRead,
            Happening::Consumed
        ]
    );
}

#[test]
fn a_prompt_whose_answer_was_lost_learns_its_message_later() {
    let opened = done(&session(false, None), &open(ALICE, 10), at(1));
    let sent = done(&opened, &Event::PromptSent(None), at(2));
    assert_eq!(sent.opening.as_ref().unwrap().prompt, None);
    let known = done(&sent, &Event::PromptFound(20), at(3));
    assert_eq!(known.opening.as_ref().unwrap().prompt, Some(20));
    assert_eq!(known.timeline.len(), sent.timeline.len());
    // Decided in between: the message that turns up late becomes the outcome too.
    let answer = Answer { message: 30, ..words(ALICE) };
    let decided = done(&sent, &Event::Confirm { answer, number: None }, at(3));
    // Its own errand is followed by the outcome's.
    assert_eq!(decided.apply(&Event::PromptSent(Some(20)), at(4)).unwrap().errands, []);
    let step = decided.apply(&Event::PromptFound(20), at(4)).unwrap();
    assert!(matches!(step.errands.as_slice(), [Errand { task: Task::Outcome { .. }, .. }]));
}

#[test]
fn who_is_forgotten_proves_nothing_any_more() {
    let confirmed = done(&confirmed(), &Event::Forget, at(4));
    assert_eq!(
        (confirmed.status(at(5)), confirmed.recorded_status(at(5))),
        (Status::Expired, Status::Confirmed)
    );
    for by_proof in [false, true] {
        let consume = Event::Consume { by_proof, receipt: None };
        assert_eq!(confirmed.apply(&consume, at(5)), Err(Refused::Expired));
    }
    assert_eq!(confirmed.apply(&Event::Forget, at(6)), Err(Refused::Unchanged));
    let pending = opened().apply(&Event::Forget, at(4)).unwrap();
    assert_eq!(pending.session.status(at(4)), Status::Cancelled);
    assert!(matches!(pending.errands.as_slice(), [Errand { task: Task::Outcome { .. }, person: ALICE, .. }]));
    let late = opened().apply(&Event::Forget, at(700)).unwrap().session;
    assert_eq!(late.state, State::Expired { at: at(700) });
    let used = done(&self::confirmed(), &Event::Consume { by_proof: false, receipt: None }, at(4));
    let used = done(&used, &Event::Forget, at(5));
    assert_eq!((used.status(at(6)), used.phone()), (Status::Used, None));
    for session in [confirmed, pending.session, late, used] {
        let person = &session.opening.as_ref().unwrap().person;
        assert_eq!((person.id, person.name.as_str(), session.nonce.as_deref()), (0, "", None));
        assert!(
            crate::domain::proof::claims(&session, crate::domain::account::Mode::Telegram, at(7)).is_none()
        );
    }
}
