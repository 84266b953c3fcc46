//! How fast is too fast.

use super::*;

const OWNER: &str = "owner@example.com";
const HOME: &str = "203.0.113.7";

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
}

fn fail(slowing: &Slowing, email: &str, from: &str, now: u64) -> Result<(), u64> {
    slowing.sign_in(email, from.parse().unwrap(), at(now)).map(drop).map_err(|wait| wait.as_secs())
}

fn succeed(slowing: &Slowing, email: &str, from: &str, now: u64) -> Result<(), u64> {
    let attempt = slowing.sign_in(email, from.parse().unwrap(), at(now)).map_err(|wait| wait.as_secs())?;
    slowing.succeeded(attempt, at(now));
    Ok(())
}

#[test]
fn after_five_failures_each_attempt_waits_twice_as_long_up_to_a_quarter_of_an_hour() {
    let slowing = Slowing::default();
    for _ in 0..5 {
        assert_eq!(fail(&slowing, OWNER, HOME, 0), Ok(()));
    }
    let mut now = 0;
    for wait in [15, 30, 60, 120, 240, 480, 900, 900, 900] {
        assert_eq!(fail(&slowing, " Owner@Example.com", HOME, now), Err(wait), "the same account");
        assert_eq!(fail(&slowing, OWNER, HOME, now + wait - 1), Err(1), "asking does not lengthen it");
        now += wait;
        assert_eq!(fail(&slowing, OWNER, HOME, now), Ok(()));
    }
    assert_eq!(fail(&slowing, "nobody@example.com", HOME, now), Ok(()), "another account");
    assert_eq!(fail(&slowing, OWNER, "203.0.113.8", now), Ok(()), "another address");
    // Forgotten a quarter of an hour after the last wait.
    assert_eq!(fail(&slowing, OWNER, HOME, now + 1_800), Ok(()));
    assert_eq!(fail(&slowing, OWNER, HOME, now + 1_800), Ok(()));
}

#[test]
fn success_clears_the_address_and_leaves_what_others_did() {
    let slowing = Slowing::default();
    for _ in 0..4 {
        fail(&slowing, OWNER, HOME, 0).unwrap();
    }
    for _ in 0..46 {
        fail(&slowing, &format!("{}@example.com", random()), HOME, 0).unwrap();
    }
    assert_eq!(fail(&slowing, "fifty-first@example.com", HOME, 0), Err(15), "the address has had fifty");
    succeed(&slowing, OWNER, HOME, 15).unwrap();
    assert_eq!(fail(&slowing, "fifty-first@example.com", HOME, 15), Ok(()), "success cost nothing");
    assert_eq!(fail(&slowing, "fifty-second@example.com", HOME, 15), Err(15), "and cleared nothing");
    for _ in 0..5 {
        assert_eq!(fail(&slowing, OWNER, HOME, 15), Ok(()), "where the owner is known the pair alone counts");
    }
    assert_eq!(fail(&slowing, OWNER, HOME, 15), Err(15));
}

fn random() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn a_botnet_is_slowed_and_does_not_keep_the_owner_out() {
    let slowing = Slowing::default();
    succeed(&slowing, OWNER, HOME, 0).unwrap();
    for bot in 0..100 {
        assert_eq!(fail(&slowing, OWNER, &format!("10.0.{bot}.1"), 1), Ok(()));
    }
    assert_eq!(fail(&slowing, OWNER, "10.1.0.1", 1), Err(5), "all of them together");
    assert_eq!(succeed(&slowing, OWNER, HOME, 1), Ok(()), "known here");
    for later in 1..50 {
        assert_eq!(fail(&slowing, OWNER, &format!("10.1.{later}.1"), 1 + 5 * later), Ok(()));
    }
    assert_eq!(succeed(&slowing, OWNER, "203.0.113.99", 1 + 5 * 50), Ok(()), "5 s and no more elsewhere");
}

#[test]
fn a_clock_that_is_set_back_lengthens_no_wait() {
    let slowing = Slowing::default();
    let day = 24 * 3600;
    for _ in 0..5 {
        fail(&slowing, OWNER, HOME, day).unwrap();
    }
    fail(&slowing, "twice@example.com", HOME, day).unwrap();
    assert_eq!(fail(&slowing, "twice@example.com", HOME, 0), Ok(()), "who need not wait, need not now");
    assert_eq!(fail(&slowing, OWNER, HOME, 0), Err(15), "as long as if the last one were now");
    assert_eq!(fail(&slowing, OWNER, HOME, 14), Err(1), "and it ends");
    assert_eq!(fail(&slowing, OWNER, HOME, 15), Ok(()));
    assert_eq!(fail(&slowing, OWNER, HOME, 15), Err(30));
}

#[test]
fn behind_an_untrusted_proxy_strangers_cost_everybody_a_quarter_of_a_minute_and_no_more() {
    let slowing = Slowing::default();
    for n in 0..50 {
        fail(&slowing, &format!("{n}@example.com"), HOME, 0).unwrap();
    }
    for n in 0..20 {
        let (email, now) = (format!("again-{n}@example.com"), 15 * n);
        assert_eq!(fail(&slowing, &email, HOME, now), Err(15));
        assert_eq!(fail(&slowing, &email, HOME, now + 15), Ok(()));
    }
    assert_eq!(succeed(&slowing, OWNER, HOME, 15 * 21), Ok(()));
}

#[test]
fn many_at_once_gain_nothing_and_what_was_not_made_does_not_count() {
    let slowing = Slowing::default();
    let begun: Vec<_> =
        (0..5).map(|_| slowing.sign_in(OWNER, HOME.parse().unwrap(), at(0)).unwrap()).collect();
    assert_eq!(fail(&slowing, OWNER, HOME, 0), Err(15), "none of the five has ended");
    for attempt in begun.into_iter().rev() {
        slowing.withdrawn(attempt);
    }
    assert_eq!(slowing.table().counts.len(), 0);
}

#[test]
fn a_subscriber_of_ipv6_is_one_address_and_the_table_stays_small() {
    let slowing = Slowing::default();
    for host in 0..5 {
        fail(&slowing, OWNER, &format!("2001:db8:1:2::{host:x}"), 0).unwrap();
    }
    assert_eq!(fail(&slowing, OWNER, "2001:db8:1:2:ffff::1", 0), Err(15));
    for _ in 0..20 {
        fail(&slowing, OWNER, HOME, 0).ok();
    }
    let place = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0b00_0000 + n));
    for n in 0..50_000 {
        drop(slowing.registration(place(n), at(1)).unwrap());
        assert!(slowing.table().counts.len() <= MOST + 3);
    }
    assert_eq!(fail(&slowing, OWNER, HOME, 2), Err(13), "who waits is forgotten last");
}

#[test]
fn registrations_are_counted_by_address() {
    let slowing = Slowing::default();
    for _ in 0..10 {
        drop(slowing.registration(HOME.parse().unwrap(), at(0)).unwrap());
    }
    assert_eq!(slowing.registration(HOME.parse().unwrap(), at(0)).unwrap_err().as_secs(), 60);
    assert!(slowing.registration("203.0.113.8".parse().unwrap(), at(0)).is_ok());
}

#[test]
fn a_phone_gets_five_codes_then_fewer_and_fewer_and_all_phones_together_get_twenty() {
    let slowing = Slowing::default();
    let phone = |n: u32| Phone::parse(&format!("+155501{n:05}")).unwrap();
    let code = |n: u32, now: u64| slowing.code(&phone(n), at(now)).map(drop).map_err(|wait| wait.as_secs());
    for _ in 0..5 {
        assert_eq!(code(1, 0), Ok(()));
    }
    let mut now = 0;
    for wait in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
        assert_eq!(code(1, now), Err(wait));
        now += wait;
        assert_eq!(code(1, now), Ok(()));
    }
    assert_eq!(code(2, now), Ok(()), "another number");
    for other in 3..9 {
        assert_eq!(code(other, now), Ok(()));
    }
    assert_eq!(code(9, now), Err(60), "twenty in all");
    // Telegram was not reached: nobody was told anything.
    now += 60;
    slowing.withdrawn(slowing.code(&phone(9), at(now)).unwrap());
    assert_eq!(code(9, now), Ok(()));
    assert_eq!(code(10, now), Err(120));
    assert_eq!(code(10, now + 120 + 6 * 3600), Ok(()), "forgotten");
}
