//! How tables look up keys that are hashes already.

use std::hash::{BuildHasherDefault, Hasher};

/// For keys that are a hash of 64 bits under a key of this process: hashing them once more would spread them no better.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hashed(u64);

/// Makes the hashers of such a table.
pub type BuildHashed = BuildHasherDefault<Hashed>;

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Not what this is for; right all the same.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}
