//! What is written at rest is sealed here: XChaCha20-Poly1305 under the master key, bound to where it belongs.
//! Sealed bytes: version (1), key id (4), nonce (24), ciphertext and tag. Header and context are authenticated.

use std::convert::Infallible;
use std::fmt;

use chacha20::R20;
use chacha20::hchacha;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::ids::Ids;

const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const NONCE: usize = 24;
/// How much of a nonce makes the key; the rest is the nonce of the cipher below it.
const OF_KEY: usize = 16;
const TAG: usize = 16;
/// What sealing puts before the ciphertext and behind it, bytes.
const AROUND: usize = 1 + KEY_ID + NONCE + TAG;

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
    key: Zeroizing<[u8; 32]>,
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
            key: Zeroizing::new(*master_key),
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
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(AROUND + plaintext.len());
        let Ok(()) = self.seal_onto(&mut sealed, context, |sealed| -> Result<(), Infallible> {
            sealed.extend_from_slice(plaintext);
            Ok(())
        });
        sealed
    }

    /// As [`Self::seal`], of what `write` appends, behind what is in `record`. Where there is room for it no plaintext
    /// stays behind in memory.
    ///
    /// # Errors
    /// What `write` fails with; the record is of no use then.
    #[expect(clippy::missing_panics_doc, reason = "it does not")]
    pub fn seal_onto<E>(
        &self,
        record: &mut Vec<u8>,
        context: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let nonce: [u8; NONCE] = self.ids.bytes();
        let header = header(self.key_id);
        record.extend_from_slice(&header);
        record.extend_from_slice(&nonce);
        let start = record.len();
        write(record)?;
        let (key, nonce) = self.cipher(&nonce);
        let plaintext = record.get_mut(start..).unwrap_or_default();
        #[expect(clippy::expect_used, reason = "fails only past 256 GiB of plaintext")]
        let tag =
            key.seal_in_place_separate_tag(nonce, aad(header, context), plaintext).expect("plaintext fits");
        record.extend_from_slice(tag.as_ref());
        Ok(())
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
        let (key, nonce) = self.cipher(nonce);
        let mut contents = Zeroizing::new(ciphertext.to_vec());
        let opened = key.open_in_place(nonce, aad(header(sealed_with), context), &mut contents);
        let length = opened.map_err(|_| UnsealError::Damaged)?.len();
        contents.truncate(length);
        Ok(contents)
    }

    /// XChaCha20-Poly1305 is ChaCha20-Poly1305 (RFC 8439) with a key of its own for each of the first 16 bytes of a nonce,
    /// and four zeros and the other 8 bytes as its nonce (draft-irtf-cfrg-xchacha-03, section 2).
    fn cipher(&self, nonce: &[u8; NONCE]) -> (LessSafeKey, Nonce) {
        let (mut of_key, mut rest) = ([0; OF_KEY], [0; 12]);
        of_key.iter_mut().chain(rest.iter_mut().skip(4)).zip(nonce).for_each(|(to, from)| *to = *from);
        let key = Zeroizing::new(<[u8; 32]>::from(hchacha::<R20>((&*self.key).into(), (&of_key).into())));
        #[expect(clippy::expect_used, reason = "it fails only for a key of another length")]
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*key).expect("32 bytes");
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(rest))
    }
}

/// What is authenticated besides the ciphertext.
fn aad(header: [u8; 1 + KEY_ID], context: &str) -> Aad<Vec<u8>> {
    Aad::from([&header[..], context.as_bytes()].concat())
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

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn the_cipher_is_the_one_of_the_draft() {
        let bytes = |from: u8| std::array::from_fn::<u8, 32, _>(|place| from + u8::try_from(place).unwrap());
        let nonce: [u8; NONCE] = bytes(0x40)[..NONCE].try_into().unwrap();
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let mut text =
            *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
            future, sunscreen would be it.";
        let (key, nonce) = Sealer::new(&bytes(0x80), Ids::from_seed([1; 32])).cipher(&nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut text).unwrap();
        assert_eq!(text[..8], [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]);
        assert_eq!(
            tag.as_ref(),
            [0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a, 0xcf, 0x49]
        );
    }

    #[test]
    fn what_is_sealed_in_its_place_stands_behind_what_was_there() {
        let mut record = b"before".to_vec();
        let write = |record: &mut Vec<u8>| {
            record.extend_from_slice(b"contents");
            Ok::<(), ()>(())
        };
        sealer(1).seal_onto(&mut record, "x", write).unwrap();
        let sealed = record.strip_prefix(b"before").unwrap();
        assert_eq!(&**sealer(1).open("x", sealed).unwrap(), b"contents");
        assert_eq!(sealer(1).seal_onto(&mut record, "x", |_| Err("unwritten")), Err("unwritten"));
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
