//! What is written at rest is sealed here: XChaCha20-Poly1305 under the master key, bound to where it belongs.
//! Sealed bytes: version (1), key id (4), nonce (24), ciphertext and tag. Header and context are authenticated.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::ids::Ids;

const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const NONCE: usize = 24;

/// Names a master key without telling it: the start of a hash. Prints as eight hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; KEY_ID]);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// Why sealed bytes do not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Sealed with another master key.
    #[error("sealed with master key {sealed_with}, but the configured one is {configured}")]
    OtherKey {
        /// The key it was sealed with.
        sealed_with: KeyId,
        /// The key we have.
        configured: KeyId,
    },
    /// Cut, altered, or written for another place.
    #[error("damaged: it fails its authentication")]
    Damaged,
}

/// Seals and opens with one master key.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    key_id: KeyId,
    index_key: Zeroizing<[u8; 32]>,
    ids: Ids,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sealer({})", self.key_id)
    }
}

impl Sealer {
    /// A sealer for this 32-byte master key.
    pub fn new(master_key: &[u8; 32], ids: Ids) -> Self {
        let digest =
            Sha256::new_with_prefix(b"telegram-connector master key id").chain_update(master_key).finalize();
        let mut key_id = [0; KEY_ID];
        key_id.iter_mut().zip(digest).for_each(|(id, byte)| *id = byte);
        let index_key =
            Sha256::new_with_prefix(b"telegram-connector index key").chain_update(master_key).finalize();
        Self {
            cipher: XChaCha20Poly1305::new(&Key::from(*master_key)),
            key_id: KeyId(key_id),
            index_key: Zeroizing::new(index_key.into()),
            ids,
        }
    }

    /// Names a value in an index without telling it: the start of an HMAC under the master key (RFC 2104). The same for
    /// the same `context` and value.
    #[expect(clippy::missing_panics_doc, reason = "it does not")]
    pub fn blind(&self, context: &str, value: &[u8]) -> [u8; 16] {
        #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.index_key).expect("any length will do");
        mac.update(context.as_bytes());
        mac.update(&[0]);
        mac.update(value);
        let mut name = [0; 16];
        name.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
        name
    }

    /// Which master key this is.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Seals `plaintext` so that it opens only under the same `context` (where it is kept).
    #[expect(clippy::missing_panics_doc, reason = "it does not")]
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = self.ids.bytes();
        let header = header(self.key_id);
        let aad = [&header[..], context.as_bytes()].concat();
        let payload = Payload { msg: plaintext, aad: &aad };
        let ciphertext = self.cipher.encrypt(&XNonce::from(nonce), payload);
        #[expect(clippy::expect_used, reason = "fails only past 256 GiB of plaintext")]
        let ciphertext = ciphertext.expect("plaintext fits");
        [&header[..], &nonce, &ciphertext].concat()
    }

    /// Opens what [`Sealer::seal`] made under the same context.
    ///
    /// # Errors
    /// See [`UnsealError`]; nothing about the contents leaks.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (version, rest) = sealed.split_first().ok_or(UnsealError::Damaged)?;
        let (key_id, rest) = rest.split_first_chunk::<KEY_ID>().ok_or(UnsealError::Damaged)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>().ok_or(UnsealError::Damaged)?;
        if *version != VERSION {
            return Err(UnsealError::Damaged);
        }
        let sealed_with = KeyId(*key_id);
        if sealed_with != self.key_id {
            return Err(UnsealError::OtherKey { sealed_with, configured: self.key_id });
        }
        let aad = [&header(sealed_with)[..], context.as_bytes()].concat();
        let payload = Payload { msg: ciphertext, aad: &aad };
        self.cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| UnsealError::Damaged)
    }
}

fn header(key_id: KeyId) -> [u8; 1 + KEY_ID] {
    let [a, b, c, d] = key_id.0;
    [VERSION, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: u8) -> Sealer {
        Sealer::new(&[key; 32], Ids::from_seed([1; 32]))
    }

    #[test]
    fn what_is_sealed_opens_only_where_it_belongs_and_with_the_same_key() {
        let sealed = sealer(1).seal("sign_in/pending", b"secret");
        assert_eq!(&**sealer(1).open("sign_in/pending", &sealed).unwrap(), b"secret");
        assert_eq!(sealer(1).open("sessions/account", &sealed), Err(UnsealError::Damaged));
        assert!(matches!(sealer(2).open("sign_in/pending", &sealed), Err(UnsealError::OtherKey { .. })));
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn an_index_name_depends_on_key_context_and_value_and_tells_none() {
        let name = sealer(1).blind("person", b"7");
        assert_eq!(name, sealer(1).blind("person", b"7"));
        for other in
            [sealer(2).blind("person", b"7"), sealer(1).blind("email", b"7"), sealer(1).blind("person", b"8")]
        {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let sealed = sealer(1).seal("x", b"contents");
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert!(sealer(1).open("x", &altered).is_err(), "byte {index}");
            assert!(sealer(1).open("x", &sealed[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn sealing_twice_gives_different_bytes() {
        let sealer = sealer(1);
        assert_ne!(sealer.seal("x", b"same"), sealer.seal("x", b"same"));
    }
}
