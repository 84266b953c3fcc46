//! Server salts: per key, with validity windows on real time. Derived from the key, so they survive a restart without
//! being stored (<https://core.telegram.org/mtproto/description#server-salt>).

use super::envelope::AuthKey;
use super::sha256;

/// A salt is the current one for half an hour and accepted for another half, seconds.
const WINDOW: i64 = 1800;

/// One salt and when it is accepted, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt {
    pub(crate) valid_since: i64,
    pub(crate) valid_until: i64,
    pub(crate) value: i64,
}

fn of_window(key: &AuthKey, window: i64) -> Salt {
    let digest = sha256(&[b"server salt", key.bytes(), &window.to_le_bytes()]);
    Salt {
        valid_since: window * WINDOW,
        valid_until: (window + 2) * WINDOW,
        value: super::long_at(&digest, 0),
    }
}

/// The salt to use at `now` (Unix seconds, real time).
pub(crate) fn current(key: &AuthKey, now: i64) -> i64 {
    of_window(key, now.div_euclid(WINDOW)).value
}

/// Whether the server takes `salt` at `now`.
pub(crate) fn accepted(key: &AuthKey, salt: i64, now: i64) -> bool {
    let window = now.div_euclid(WINDOW);
    salt == of_window(key, window).value || salt == of_window(key, window - 1).value
}

/// `count` salts from the current one on (at least 2: with one, grammers asks again before every request; at most 64).
pub(crate) fn future(key: &AuthKey, now: i64, count: i32) -> Vec<Salt> {
    let window = now.div_euclid(WINDOW);
    (0..i64::from(count.clamp(2, 64))).map(|ahead| of_window(key, window + ahead)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::envelope::tests::test_key;
    use super::*;

    #[test]
    fn a_salt_is_accepted_for_its_window_and_the_next_one_only() {
        let key = test_key();
        let now = 10 * WINDOW + 5;
        let salt = current(&key, now);
        for (at, taken) in
            [(now, true), (now + WINDOW, true), (now + 2 * WINDOW, false), (now - WINDOW, false)]
        {
            assert_eq!(accepted(&key, salt, at), taken);
        }
        assert!(!accepted(&key, 0, now));
    }

    #[test]
    fn future_salts_start_with_the_current_one_and_are_never_fewer_than_two() {
        let key = test_key();
        let salts = future(&key, 5_000, 1);
        assert_eq!(salts.len(), 2);
        assert_eq!(salts[0].value, current(&key, 5_000));
        assert!(salts.iter().all(|salt| accepted(&key, salt.value, salt.valid_since)));
        assert_eq!(future(&key, 5_000, i32::MAX).len(), 64);
    }
}
