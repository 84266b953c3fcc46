//! Where every random value comes from, and the wrapper that keeps a secret out of logs.
//! The seed is handed in: `lifecycle::os_seed` in production, a constant in tests.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use subtle::ConstantTimeEq as _;

/// A shared, cryptographically strong generator (`ChaCha20`). Cloning shares the stream.
#[derive(Clone)]
pub struct Ids(Arc<Mutex<ChaCha20Rng>>);

impl Ids {
    /// A generator that yields the same values for the same seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Arc::new(Mutex::new(ChaCha20Rng::from_seed(seed))))
    }

    /// Overwrites `buffer` with random bytes.
    pub fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buffer);
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random 64-bit number.
    pub fn int64(&self) -> i64 {
        i64::from_le_bytes(self.bytes())
    }

    /// A uniform number below `bound` (at least 1).
    pub fn below(&self, bound: u32) -> u32 {
        let bound = u64::from(bound.max(1));
        let zone = (1u64 << 32) / bound * bound;
        loop {
            let value = u64::from(u32::from_le_bytes(self.bytes()));
            if value < zone {
                return u32::try_from(value % bound).unwrap_or(0);
            }
        }
    }

    /// `length` characters of `0-9A-Za-z`, 5.95 bits each.
    pub fn base62(&self, length: usize) -> String {
        let mut text = String::with_capacity(length);
        // All bytes in one go: each look takes the lock. Six bits of each, of which 62 in 64 values are letters.
        let mut bytes = [0; 64];
        while text.len() < length {
            self.fill(&mut bytes);
            let letters = bytes.iter().filter_map(|byte| BASE62.get(usize::from(byte & 63)));
            text.extend(letters.take(length - text.len()).map(|&letter| char::from(letter)));
        }
        text
    }
}

/// Digits and letters, in the order of their bytes.
pub(crate) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl fmt::Debug for Ids {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ids")
    }
}

/// A value that must not be printed. Read it with [`Secret::reveal`], where the reader can see that it happens.
#[derive(Clone)]
pub struct Secret<T>(T);

/// In constant time, whoever compares: how long it takes tells nothing but whether the lengths differ.
impl<T: AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl<T: AsRef<[u8]>> Eq for Secret<T> {}

impl<T: AsRef<[u8]>> Secret<T> {
    /// Whether somebody who shows this knows the secret; in constant time.
    pub fn is(&self, shown: impl AsRef<[u8]>) -> bool {
        self.0.as_ref().ct_eq(shown.as_ref()).into()
    }
}

impl<T> Secret<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// `#[serde(with = "revealed")]`: a secret inside a record that is sealed as a whole. Nothing else may serialise one.
pub mod revealed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Secret;

    /// Writes the value itself.
    pub fn serialize<T: Serialize, S: Serializer>(
        secret: &Secret<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        secret.reveal().serialize(serializer)
    }

    /// Reads the value itself.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Secret<T>, D::Error> {
        T::deserialize(deserializer).map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_values_and_clones_share_the_stream() {
        let (one, two) = (Ids::from_seed([7; 32]), Ids::from_seed([7; 32]));
        assert_eq!(one.base62(22), two.base62(22));
        assert_ne!(one.clone().int64(), one.int64());
        assert!((0..1_000).all(|_| one.below(3) < 3));
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }
}
