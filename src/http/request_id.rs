//! What names a request in the log and in `X-Request-Id`: ten random characters of its connection, six that no two of its
//! requests share. They do not count: many share a proxy's connection, and none is to learn how often others ask.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use poem::http::HeaderValue;

use crate::domain::ids::BASE62;
use crate::domain::ids::Ids;

const RANDOM: usize = 10;
const LENGTH: usize = 16;
/// What half of the other six tell apart.
const HALF: u64 = 62 * 62 * 62;
/// Of a Feistel network: with three of a good function nobody sees more than that no number comes twice (Luby and Rackoff).
const ROUNDS: u64 = 3;

/// The ids of a connection's requests. Making one takes no lock: requests of all connections would share it.
#[derive(Debug)]
pub(super) struct RequestIds {
    connection: [u8; LENGTH],
    next: AtomicU64,
    key: RandomState,
}

/// Names a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId([u8; LENGTH]);

impl RequestIds {
    pub(super) fn new(ids: &Ids) -> Self {
        let mut connection = [b'0'; LENGTH];
        connection.iter_mut().zip(ids.base62(RANDOM).bytes()).for_each(|(place, letter)| *place = letter);
        Self { connection, next: AtomicU64::new(0), key: RandomState::new() }
    }

    pub(super) fn next(&self) -> RequestId {
        let mut number = self.permuted(self.next.fetch_add(1, Ordering::Relaxed));
        let mut id = self.connection;
        for place in id.iter_mut().skip(RANDOM).rev() {
            let digit = usize::try_from(number % 62).unwrap_or_default();
            *place = BASE62.get(digit).copied().unwrap_or(b'0');
            number /= 62;
        }
        RequestId(id)
    }

    /// Another number below 62^6 for each.
    fn permuted(&self, number: u64) -> u64 {
        let halves = (number / HALF % HALF, number % HALF);
        let (left, right) = (0..ROUNDS).fold(halves, |(left, right), round| {
            // One number of both: `right` has 18 bits.
            (right, (left + self.key.hash_one(round << 32 | right) % HALF) % HALF)
        });
        left * HALF + right
    }
}

impl RequestId {
    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn requests_of_a_connection_share_ten_characters_and_no_two_all() {
        let ids = Ids::from_seed([1; 32]);
        let (one, other) = (RequestIds::new(&ids), RequestIds::new(&ids));
        let first = one.next();
        assert!(first.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()), "{first:?}");
        assert_eq!((first.as_str().len(), first.header().to_str().unwrap()), (LENGTH, first.as_str()));
        assert_ne!(first.as_str()[..RANDOM], other.next().as_str()[..RANDOM]);
        assert_eq!(first.as_str()[..RANDOM], one.next().as_str()[..RANDOM]);
        // If each were another number by chance only, some of so many would be the same.
        let numbers: HashSet<_> = (0..1_000_000).map(|number| one.permuted(number)).collect();
        assert!(numbers.len() == 1_000_000 && numbers.iter().all(|&number| number < HALF * HALF));
    }

    #[test]
    fn how_many_requests_there_were_between_two_is_not_to_be_seen() {
        let ids = RequestIds::new(&Ids::from_seed([1; 32]));
        let steps: HashSet<_> =
            (0..1_000).map(|number| ids.permuted(number + 1).wrapping_sub(ids.permuted(number))).collect();
        assert!(steps.len() > 990, "{} different steps", steps.len());
    }
}
