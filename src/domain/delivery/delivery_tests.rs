//! Rules of deliveries: bytes and signatures against vectors of Python's `hmac`, the schedule, when a receiver is given up.

use std::time::Duration;

use super::*;
use crate::domain::auth_session::Answer;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::Person;
use crate::domain::auth_session::Request;
use crate::domain::auth_session::SessionToken;
use crate::domain::auth_session::Via;
use crate::domain::developer::DeveloperId;
use crate::domain::language::Language;
use crate::domain::project::ProjectSettings;
use crate::domain::project::RetiringSecret;
use crate::domain::project::SigningSecret;

const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BOT: Via = Via { account: 500, bot: true };
const URL: &str = "https://shop.example/hook";
const HOUR: u64 = 3600;

fn at(seconds: u64) -> Timestamp {
    BEGIN.plus(Duration::from_secs(seconds))
}

fn ids() -> Ids {
    Ids::from_seed([5; 32])
}

fn project() -> Project {
    let secret = "sk_live_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg".to_owned();
    let secret = SigningSecret::brought(secret, &ids()).unwrap();
    let settings =
        ProjectSettings { webhook_url: Some(URL.to_owned()), ..ProjectSettings::named("Shop".to_owned()) };
    let id = ProjectId::parse("proj_vector").unwrap();
    Project::new(id, DeveloperId::new(&ids()), secret, settings, BEGIN)
}

fn session() -> AuthSession {
    let request = Request::new(project().id, BOT);
    AuthSession::new(SessionToken::claimed("sess_abc"), "watch".to_owned(), request, BEGIN)
}

fn after(session: &AuthSession, event: &Event, now: Timestamp) -> AuthSession {
    session.apply(event, now).unwrap().session
}

fn opened(name: &str) -> AuthSession {
    let person = Person { id: 7, access_hash: 3, name: name.to_owned(), username: None };
    after(&session(), &Event::Open { person, via: BOT, message: 10, language: Language::En }, at(1))
}

fn answer() -> Answer {
    Answer { person: 7, via: BOT, message: 20, tapped: true }
}

fn confirmed(before: &AuthSession) -> AuthSession {
    after(before, &Event::Confirm { answer: answer(), number: None }, at(60))
}

/// A delivery of a confirmation, due at once.
fn delivery() -> Delivery {
    let before = opened("Alice");
    Delivery::of(&before, &confirmed(&before), &project(), Mode::Telegram).unwrap()
}

fn answered(status: u16, at: Timestamp) -> Attempt {
    Attempt { at, status: Some(status), error: None, took_ms: 100 }
}

#[test]
fn bytes_and_signatures_are_those_of_the_protocol() {
    // All of this was made by Python's hmac, hashlib, base64 and json, not by us.
    const BODY: &str = concat!(
        r#"{"event":"auth.confirmed","session_token":"sess_abc","telegram_id":"7","#,
        r#""telegram_name":"Алиса \"A\" </p> 🦊\u0001","telegram_username":null,"telegram_phone":null,"#,
        r#""confirmed_at":1700000060000,"id":"az2dpbsr7jp90ha3whgbkrtnqknq","project_id":"proj_vector","#,
        r#""created_at":1700000000000}"#,
    );
    const ID: &str = "msg_1cf57cbc254f60ad7d8fe9b8da45dd23";
    let before = opened("Алиса \"A\" </p> 🦊\u{1}");
    let delivery = Delivery::of(&before, &confirmed(&before), &project(), Mode::Telegram).unwrap();
    assert_eq!((delivery.id.as_str(), delivery.body.reveal().as_str()), (ID, BODY));
    let mut project = project();
    let send = |project: &Project| headers(project, &delivery.id, "auth.confirmed", BODY, at(61));
    let expected = [
        ("Content-Type", "application/json"),
        ("X-Bondify-Signature", "ea772005f66af7535305e825f01d92b67dbcf85b4dd2f5a1c4e720c15e59adf1"),
        ("X-Bondify-Event", "auth.confirmed"),
        ("X-Bondify-Delivery", ID),
        ("X-Bondify-Timestamp", "1700000061"),
        ("webhook-id", ID),
        ("webhook-timestamp", "1700000061"),
        ("webhook-signature", "v1,PZ5ujVGmlduQ9vZWPflbCYVuo8oqasqOPCX3WxE0bgg="),
    ];
    let told = send(&project);
    assert_eq!(told.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);

    // A secret that is retiring signs too, after the present one, until its end.
    let old = SigningSecret::brought("sk_live_old_secret_that_is_retiring_now_0000".to_owned(), &ids());
    project.retiring = Some(RetiringSecret { secret: old.unwrap(), until: at(62) });
    let both =
        "v1,PZ5ujVGmlduQ9vZWPflbCYVuo8oqasqOPCX3WxE0bgg= v1,gUC4uWHElsZUyGwIn/XMY5ulJdl5eLDy7rCTDxRByEg=";
    assert_eq!(send(&project).last().unwrap().1, both);
    assert_eq!(send(&project)[..7], told[..7]);
    assert!(!headers(&project, &delivery.id, "", BODY, at(62)).last().unwrap().1.contains(' '));
}

#[test]
fn a_decision_is_told_once_and_only_where_somebody_wants_to_know() {
    let told = |before: &AuthSession, after: &AuthSession, project: &Project| {
        Delivery::of(before, after, project, Mode::Sandbox).map(|delivery| delivery.body.reveal().clone())
    };
    let (project, pending) = (project(), opened("Alice"));
    let confirmed = confirmed(&pending);
    assert!(
        told(&pending, &confirmed, &project)
            .unwrap()
            .ends_with(r#""created_at":1700000000000,"sandbox":true}"#)
    );
    let read = after(&confirmed, &Event::FirstRead, at(61));
    let used = after(&confirmed, &Event::Consume { by_proof: false, receipt: None }, at(61));
    for (before, after) in [(&session(), &pending), (&confirmed, &read), (&confirmed, &used)] {
        assert_eq!(told(before, after, &project), None);
    }
    let cancelled = after(&pending, &Event::Cancel(answer()), at(60));
    let expected = concat!(
        r#"{"event":"auth.cancelled","session_token":"sess_abc","cancelled_at":1700000060000,"#,
        r#""id":"az2dpbsr7jp90ha3whgbkrtnqknq","project_id":"proj_vector","created_at":1700000000000,"sandbox":true}"#,
    );
    assert_eq!(told(&pending, &cancelled, &project).as_deref(), Some(expected));

    let expired = after(&session(), &Event::Expire, at(700));
    assert_eq!(
        told(&session(), &expired, &project),
        None,
        "Bondify has no such event: only who asks gets it"
    );
    let mut curious = project.clone();
    curious.settings.webhook_expired = true;
    let expected = concat!(
        r#"{"event":"auth.expired","session_token":"sess_abc","expired_at":1700000600000,"#,
        r#""id":"az2dpbsr7jp90ha3whgbkrtnqknq","project_id":"proj_vector","created_at":1700000000000,"sandbox":true}"#,
    );
    assert_eq!(told(&session(), &expired, &curious).as_deref(), Some(expected));

    let mut deaf = project.clone();
    deaf.webhook_disabled = Some("gone".to_owned());
    assert_eq!(told(&pending, &confirmed, &deaf), None);
    deaf = project;
    for none in [None, Some(String::new())] {
        deaf.settings.webhook_url = none;
        assert_eq!(told(&pending, &confirmed, &deaf), None);
    }
}

#[test]
fn a_failing_receiver_is_tried_for_three_days_and_no_longer() {
    const PAUSES: [u64; 13] = [
        5,
        20,
        60,
        300,
        1_800,
        2 * HOUR,
        5 * HOUR,
        10 * HOUR,
        12 * HOUR,
        12 * HOUR,
        12 * HOUR,
        12 * HOUR,
        12 * HOUR,
    ];
    for seed in 0..50 {
        let ids = Ids::from_seed([seed; 32]);
        let (mut delivery, mut tries) = (delivery(), 0);
        while let Some(due) = delivery.due() {
            let attempt = answered(500, due);
            let ended = attempt.ended();
            assert!(delivery.attempted(attempt, None, &ids));
            if let Some(next) = delivery.due() {
                let pause = u64::try_from(next.since(ended).as_millis()).unwrap();
                let expected = PAUSES[tries] * 1_000;
                assert!((expected * 9 / 10..=expected * 11 / 10).contains(&pause), "{tries}: {pause}");
            }
            tries += 1;
        }
        let State::Failed { at } = delivery.state else { panic!("{delivery:?}") };
        let lasted = at.since(delivery.created_at).as_secs();
        assert!((58 * HOUR..=72 * HOUR).contains(&lasted), "{lasted}");
        assert!((13..=14).contains(&delivery.attempts.len()), "{}", delivery.attempts.len());
        assert!(!delivery.clone().attempted(answered(200, at), None, &ids), "it is over");
    }
}

#[test]
fn any_2xx_delivers_410_ends_and_a_replay_begins_anew() {
    let ids = ids();
    for (status, state) in [(200, "delivered"), (204, "delivered"), (299, "delivered"), (410, "failed")] {
        let mut delivery = delivery();
        delivery.attempted(answered(status, at(60)), None, &ids);
        assert_eq!((delivery.state.name(), delivery.due()), (state, None), "{status}");
        let (id, body) = (delivery.id.clone(), delivery.body.clone());
        delivery.replay(at(90));
        assert_eq!((delivery.due(), delivery.id, delivery.body), (Some(at(90)), id, body));
        assert_eq!(delivery.attempts.len(), 1, "what happened before stays in the log");
    }
    for status in [100, 199, 300, 302, 400, 404, 429, 500] {
        let mut delivery = delivery();
        delivery.attempted(answered(status, at(60)), None, &ids);
        assert_eq!(delivery.state.name(), "pending", "{status}");
    }
    let mut delivery = delivery();
    for n in 0..40 {
        delivery.replay(at(n));
        delivery.attempted(answered(500, at(n)), None, &ids);
    }
    assert_eq!((delivery.attempts.len(), delivery.attempts[0].at), (30, at(10)), "the last ones");
}

#[test]
fn a_receiver_may_ask_for_time_but_not_for_ever() {
    let ids = ids();
    let waited = |asked: Option<Duration>| {
        let mut delivery = delivery();
        delivery.attempted(answered(429, at(60)), asked, &ids);
        delivery.due().unwrap().since(at(60)).as_secs()
    };
    assert_eq!(waited(Some(Duration::from_secs(120))), 120);
    assert!((4..=6).contains(&waited(Some(Duration::from_secs(1)))), "not sooner than the schedule");
    assert_eq!(waited(Some(Duration::from_secs(90 * HOUR))), 12 * HOUR);
}

#[test]
fn a_receiver_that_only_fails_for_five_days_is_given_up() {
    let mut project = project();
    let note = |project: &mut Project, status: u16, hours: u64| {
        judge(project, URL, &answered(status, at(hours * HOUR))).apply(project);
    };
    for hours in (0..120).step_by(12) {
        note(&mut project, 500, hours);
    }
    assert_eq!(project.webhook(), Some(URL), "not yet");
    note(&mut project, 200, 119);
    assert_eq!(project.webhook_failing, None, "one success, and it counts anew");
    for hours in (120..240).step_by(12) {
        note(&mut project, 500, hours);
        assert_eq!(project.webhook(), Some(URL), "{hours}");
    }
    note(&mut project, 500, 240);
    assert_eq!(project.webhook(), None);
    assert!(project.webhook_disabled.as_deref().unwrap().contains("5 days"));
    assert_eq!(project.webhook_failing, None, "when it is switched on again it counts anew");

    // Few failures long apart: nobody knows how it was in between.
    project.webhook_disabled = None;
    for hours in [300, 360, 420, 480, 540] {
        note(&mut project, 500, hours);
    }
    assert_eq!(project.webhook(), Some(URL));
    // Another receiver.
    project.settings.webhook_url = Some("https://new.example/".to_owned());
    for hours in (600..760).step_by(12) {
        note(&mut project, 410, hours);
    }
    assert_eq!(project.webhook(), Some("https://new.example/"), "what the old one says does not matter");
    let new = answered(410, at(800 * HOUR));
    judge(&project, "https://new.example/", &new).apply(&mut project);
    assert!(project.webhook_disabled.unwrap().contains("410"));
}

#[test]
fn a_webhook_that_is_switched_off_is_written_down_once_an_hour_at_most() {
    let mut project = project();
    let mut written = 0;
    for seconds in (0..2 * HOUR).step_by(60) {
        let judgement = judge(&project, URL, &answered(500, at(seconds)));
        written += usize::from(judgement != Judgement::Nothing);
        judgement.apply(&mut project);
    }
    assert_eq!(written, 2);
}

#[test]
fn an_id_is_made_from_what_it_tells_and_read_back() {
    let id = DeliveryId::of(&session().id, EventKind::Confirmed);
    assert_eq!(DeliveryId::parse(id.as_str()), Some(id.clone()));
    assert_ne!(id, DeliveryId::of(&session().id, EventKind::Cancelled));
    assert!(DeliveryId::parse(DeliveryId::new(&ids()).as_str()).is_some());
    for bad in
        ["", "msg_", "msg_1cf57cbc254f60ad7d8fe9b8da45dd2", "msg_1CF57CBC254F60AD7D8FE9B8DA45DD23", "x"]
    {
        assert_eq!(DeliveryId::parse(bad), None, "{bad}");
    }
}
