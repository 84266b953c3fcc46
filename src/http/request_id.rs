//! What names a request in the log and in `X-Request-Id`: ten random characters of its connection, six that count.

use std::sync::atomic::{AtomicU64, Ordering};

use poem::Request;
use poem::http::HeaderValue;

use crate::domain::ids::BASE62;
use crate::domain::ids::Ids;

const RANDOM: usize = 10;
const LENGTH: usize = 16;

/// The ids of a connection's requests. Making one takes no lock: requests of all connections would share it.
#[derive(Debug)]
pub(super) struct RequestIds {
    connection: [u8; LENGTH],
    next: AtomicU64,
}

/// Names a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestId([u8; LENGTH]);

impl RequestIds {
    pub(super) fn new(ids: &Ids) -> Self {
        let mut connection = [b'0'; LENGTH];
        connection.iter_mut().zip(ids.base62(RANDOM).bytes()).for_each(|(place, letter)| *place = letter);
        Self { connection, next: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> RequestId {
        let mut number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = self.connection;
        for place in id.iter_mut().skip(RANDOM).rev() {
            let digit = usize::try_from(number % 62).unwrap_or_default();
            *place = BASE62.get(digit).copied().unwrap_or(b'0');
            number /= 62;
        }
        RequestId(id)
    }
}

impl RequestId {
    /// The id that the server gave this request.
    pub(super) fn of(request: &Request) -> Self {
        request.extensions().get::<Self>().copied().unwrap_or(Self([b'0'; LENGTH]))
    }

    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_connection_count_and_those_of_two_differ() {
        let ids = Ids::from_seed([1; 32]);
        let (one, other) = (RequestIds::new(&ids), RequestIds::new(&ids));
        let first = one.next();
        assert!(
            first.as_str().ends_with("000000")
                && first.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric())
        );
        assert_eq!(first.header(), first.as_str());
        assert_ne!(first.as_str(), other.next().as_str());
        let later: Vec<_> = (0..63).map(|_| one.next().as_str().to_owned()).collect();
        assert!(later[60].ends_with("00000z") && later[61].ends_with("000010"), "{later:?}");
    }
}
