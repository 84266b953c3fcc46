//! Bytes on the wire: framing, the encrypted envelope, the key exchange, the state of an MTProto session.
//! Nothing here knows an API method or what happens in the world; nothing here waits except for bytes.

pub(crate) mod envelope;
pub(crate) mod framing;
pub(crate) mod keyex;
pub(crate) mod rsa_key;
pub(crate) mod salts;
pub(crate) mod session;
pub(crate) mod srp;

use sha1::Digest as _;

/// SHA-256 over several parts as if they were one.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// SHA-1 over several parts as if they were one.
pub(crate) fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = sha1::Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The eight bytes of `bytes` from `from` on, as TL writes a `long`; zero past the end.
pub(crate) fn long_at(bytes: &[u8], from: usize) -> i64 {
    bytes.get(from..).and_then(|rest| rest.first_chunk::<8>()).map_or(0, |chunk| i64::from_le_bytes(*chunk))
}

/// Reads little-endian fields off the front of untrusted bytes.
#[derive(Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// The next `length` bytes, or `None` when there are not that many.
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// The next `int`.
    pub(crate) fn int(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    /// The next `long`.
    pub(crate) fn long(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// The next `int` as a length: `None` when negative.
    pub(crate) fn length(&mut self) -> Option<usize> {
        self.int().and_then(|value| usize::try_from(value).ok())
    }
}
