//! The world alone: limits, tickets, update logs, and that its records make it anew.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const PHONE: &str = "+15550100001";

fn world() -> (World, AccountId, DeviceId) {
    let mut world = World::new(Ids::from_seed([5; 32]));
    let alice = world.add_person(person(PHONE)).unwrap();
    world.meet_device(DeviceId(1), 2);
    (world, alice, DeviceId(1))
}

fn person(phone: &str) -> PersonProfile {
    PersonProfile {
        phone: phone.to_owned(),
        first_name: "Alice".to_owned(),
        last_name: None,
        username: None,
        lang_code: None,
        dc: None,
        password: None,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
}

fn sign_in(world: &mut World, device: DeviceId) -> Result<AccountId, Refusal> {
    let sent = world.send_code(device, PHONE, None, at(0))?;
    let code = world.newest_code(&Phone::parse(PHONE).unwrap(), at(0)).unwrap();
    world.sign_in(device, PHONE, &sent.hash, GivenCode::Phone(&code), at(0))
}

#[test]
fn phones_are_read_as_people_write_them() {
    for written in ["+1 (555) 010-0001", "15550100001", "+1.555.010.0001"] {
        assert_eq!(Phone::parse(written).unwrap().international(), "+15550100001");
    }
    for written in ["", "123456", "1234567890123456", "+1555o100001", "１２３４５６７８"] {
        assert!(Phone::parse(written).is_none(), "{written}");
    }
    assert_eq!(format!("{:?}", Phone::parse(PHONE).unwrap()), "Phone(…01)");
}

#[test]
fn a_number_that_asks_too_often_has_to_wait() {
    let (mut world, _, device) = world();
    for second in 0..20 {
        world.send_code(device, PHONE, None, at(second)).unwrap();
    }
    assert_eq!(world.send_code(device, PHONE, None, at(20)).unwrap_err(), Refusal::FloodWait(280));
    world.send_code(device, PHONE, None, at(300)).unwrap();
}

#[test]
fn ten_wrong_passwords_are_enough_for_five_minutes() {
    let (mut world, _, device) = world();
    let ids = Ids::from_seed([6; 32]);
    let mut bob = person("+15550100002");
    bob.password = Some(Verifier::new("horse", &ids));
    world.add_person(bob).unwrap();
    let sent = world.send_code(device, "+15550100002", None, at(0)).unwrap();
    let code = world.newest_code(&Phone::parse("+15550100002").unwrap(), at(0)).unwrap();
    let given = GivenCode::Phone(&code);
    assert_eq!(world.sign_in(device, "+15550100002", &sent.hash, given, at(0)), Err(Refusal::PasswordNeeded));
    for _ in 0..10 {
        let challenge = world.password_info(device).unwrap().challenge.unwrap();
        let refused = world.check_password(device, challenge.id, &[2; 256], &[0; 32], at(0));
        assert_eq!(refused, Err(Refusal::PasswordInvalid));
        let refused = world.check_password(device, challenge.id, &[2; 256], &[0; 32], at(0));
        assert!(
            matches!(refused, Err(Refusal::ChallengeInvalid | Refusal::FloodWait(_))),
            "good for one answer"
        );
    }
    let refused = world.check_password(device, 1, &[], &[], at(100));
    assert_eq!(refused, Err(Refusal::FloodWait(200)));
    let refused = world.check_password(device, 1, &[], &[], at(300));
    assert_eq!(refused, Err(Refusal::ChallengeInvalid));
}

#[test]
fn a_code_belongs_to_the_device_that_asked_for_it() {
    let (mut world, alice, device) = world();
    world.meet_device(DeviceId(2), 2);
    let sent = world.send_code(device, PHONE, None, at(0)).unwrap();
    let phone = Phone::parse(PHONE).unwrap();
    let code = world.newest_code(&phone, at(0)).unwrap();
    let given = GivenCode::Phone(&code);
    assert_eq!(world.sign_in(DeviceId(2), PHONE, &sent.hash, given, at(0)), Err(Refusal::CodeExpired));
    assert_eq!(world.sign_in(device, PHONE, "", given, at(0)), Err(Refusal::HashEmpty));
    let email = GivenCode::Email(&code);
    assert_eq!(
        world.sign_in(device, PHONE, &sent.hash, email, at(0)),
        Err(Refusal::CodeEmpty),
        "not a code that came by e-mail"
    );
    assert_eq!(world.sign_in(device, PHONE, &sent.hash, given, at(0)), Ok(alice));
    assert_eq!(world.newest_code(&phone, at(0)), None);
}

#[test]
fn an_exported_authorisation_is_good_once_and_in_one_data_centre() {
    let (mut world, alice, device) = world();
    sign_in(&mut world, device).unwrap();
    world.meet_device(DeviceId(3), 3);
    world.meet_device(DeviceId(4), 4);
    let ticket = world.export(alice, 3).unwrap();
    assert_eq!(world.export(alice, 6), Err(Refusal::DataCentreInvalid));
    assert_eq!(world.import(DeviceId(4), alice.0, &ticket), Err(Refusal::ImportInvalid));
    assert_eq!(world.import(DeviceId(3), alice.0, &ticket), Ok(alice));
    assert_eq!(world.import(DeviceId(3), alice.0, &ticket), Err(Refusal::ImportInvalid));
}

#[test]
fn an_access_hash_is_the_viewers_own_and_bots_may_do_without() {
    let (mut world, alice, _) = world();
    let bob = world.add_person(person("+15550100002")).unwrap();
    let bot = BotProfile { username: "some_bot".to_owned(), name: "Some".to_owned(), dc: None };
    let bot = world.add_bot(bot).unwrap();
    let hash = world.access_hash(alice, bob);
    assert_eq!(world.named_account(alice, bob, hash), Ok(bob));
    assert_eq!(world.named_account(bot, alice, hash), Err(Refusal::UserInvalid));
    assert_eq!(world.named_account(alice, bob, 0), Err(Refusal::UserInvalid));
    assert_eq!(world.named_account(bot, bob, 0), Err(Refusal::UserInvalid), "they have not met");
    let hello = Draft { text: "hello".to_owned(), ..Draft::default() };
    world.send(Sender { account: bob, device: None }, bot, hello, at(0)).unwrap();
    assert_eq!(world.named_account(bot, bob, 0), Ok(bob));
}

proptest! {
    #[test]
    fn wherever_a_client_stopped_reading_it_gets_every_message_once(
        messages in 0usize..40,
        slice in 1usize..10,
        read in 0usize..40,
    ) {
        let (mut world, alice, _) = world();
        for number in 0..messages {
            world.deliver_from_service(alice, format!("message {number}"), at(0));
        }
        let read = read.min(messages);
        let mut pts = 1 + i32::try_from(read).unwrap();
        let mut seen = Vec::new();
        loop {
            let missed = world.difference(alice, pts, slice).unwrap();
            prop_assert!(missed.missed.len() <= slice);
            seen.extend(missed.missed.iter().map(|missed| match missed {
                Missed::New(message) => message.id,
                Missed::Edited(_) | Missed::Deleted(..) => 0,
            }));
            prop_assert!(missed.complete || missed.pts > pts);
            pts = missed.pts;
            if missed.complete {
                break;
            }
        }
        let expected: Vec<i32> = (read..messages).map(|number| i32::try_from(number).unwrap() + 1).collect();
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(pts, world.account(alice).unwrap().pts);
    }
}

#[test]
fn its_records_make_the_world_anew_whether_told_one_by_one_or_at_once() {
    let (mut world, _, device) = world();
    sign_in(&mut world, device).unwrap();
    world.meet_device(DeviceId(2), 2);
    world.send_code(DeviceId(2), PHONE, None, at(1)).unwrap();
    world.send_code(DeviceId(2), "+15550199999", None, at(2)).unwrap();
    world.meet_device(DeviceId(3), 2);
    world.forget_device(DeviceId(3));
    let (told, events) = world.take_changes();
    assert!(matches!(events[..], [Event::NewMessage { .. }]));
    let show = |world: &World| serde_json::to_value(world.all_records()).unwrap();
    let rebuilt = |records: Vec<Record>| {
        let mut world = World::new(Ids::from_seed([8; 32]));
        for record in records {
            let kept = serde_json::to_string(&record).unwrap();
            world.restore(serde_json::from_str(&kept).unwrap());
        }
        world
    };
    assert_eq!(show(&rebuilt(told)), show(&world));
    let mut again = rebuilt(world.all_records());
    assert_eq!(show(&again), show(&world));
    assert!(again.knows_number(&Phone::parse("+15550199999").unwrap()));
    assert_eq!(
        again.newest_code(&Phone::parse(PHONE).unwrap(), at(2)),
        None,
        "the later request on the same device took its place"
    );
    let now = at(1).plus(Duration::from_secs(1));
    assert!(again.send_code(device, PHONE, None, now).is_ok());
}
