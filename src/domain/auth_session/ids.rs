//! The names of a session: the token that only the app knows, the id that the world may see, the code that people type.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::ids::Ids;

/// Crockford's base 32, lower case: no letter that is taken for another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of an id: 140 bits. Longer than a ULID, which others put into start parameters.
pub(crate) const ID_LENGTH: usize = 28;
/// Characters of a typed code: 40 bits.
const CODE_LENGTH: usize = 8;

/// The secret by which an app polls: `sess_` and 32 characters, 190 bits. At most 64 characters, `A-Za-z0-9_-`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionToken(String);

impl AsRef<[u8]> for SessionToken {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// In constant time, as every secret.
impl PartialEq for SessionToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SessionToken {}

impl SessionToken {
    /// A fresh token.
    pub fn new(ids: &Ids) -> Self {
        Self(format!("sess_{}", ids.base62(32)))
    }

    /// A token as a caller sends it: anything may be tried.
    pub fn claimed(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, for the app that asked for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The session's id: the start of SHA-256 of the token, from which the token cannot be had.
    pub fn id(&self) -> SessionId {
        let digest = Sha256::digest(self.0.as_bytes());
        let mut id = String::with_capacity(ID_LENGTH.next_multiple_of(8));
        // Five bytes are eight letters of five bits.
        for five in digest.as_chunks::<5>().0.iter().take(ID_LENGTH.div_ceil(8)) {
            let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            let letters = (0..8).rev().filter_map(|place| ALPHABET.get((bits >> (5 * place) & 31) as usize));
            id.extend(letters.map(|letter| char::from(*letter)));
        }
        id.truncate(ID_LENGTH);
        SessionId(id)
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionToken(…)")
    }
}

/// What everybody may see of a session: 28 characters of `0-9a-z`. Start parameter, callback data, `jti`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(String);

impl SessionId {
    /// Reads an id; `None` when it cannot be one. Case is forgiven: some keyboards begin with a capital.
    pub fn parse(text: &str) -> Option<Self> {
        normalised(text, ID_LENGTH).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The short form for people whose app ignores the link.
    pub fn typed_code(&self) -> TypedCode {
        TypedCode(self.0.get(..CODE_LENGTH).unwrap_or_default().to_owned())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The start of an id, shown as `K7QM-3XPA`, for people whose app ignores the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedCode(String);

impl TypedCode {
    /// Reads what a person typed: case, a missing dash and look-alikes (`O` for `0`, `I` and `L` for `1`) are forgiven.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let joined: String = match text.split_once(['-', '–', '—', ' ']) {
            Some((first, second)) if first.len() == CODE_LENGTH / 2 => format!("{first}{second}"),
            Some(_) => return None,
            None => text.to_owned(),
        };
        normalised(&joined, CODE_LENGTH).map(Self)
    }

    /// What ids with this code begin with.
    pub fn prefix(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TypedCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.0.split_at_checked(CODE_LENGTH / 2).unwrap_or((&self.0, ""));
        formatter.write_str(&[first, "-", second].concat().to_ascii_uppercase())
    }
}

/// A letter of the alphabet as it is typed: in either case, or as the one that it looks like.
const fn letter(typed: u8) -> Option<u8> {
    match typed.to_ascii_lowercase() {
        b'o' => Some(b'0'),
        b'i' | b'l' => Some(b'1'),
        // The alphabet. Not searched for: a start reads the ids of all that is not counted yet.
        letter @ (b'0'..=b'9' | b'a'..=b'h' | b'j' | b'k' | b'm' | b'n' | b'p'..=b't' | b'v'..=b'z') => {
            Some(letter)
        }
        _ => None,
    }
}

fn normalised(text: &str, length: usize) -> Option<String> {
    if text.len() != length {
        return None;
    }
    let mut normalised = String::with_capacity(length);
    for typed in text.bytes() {
        normalised.push(char::from(letter(typed)?));
    }
    Some(normalised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_fits_a_start_parameter_and_a_callback_and_does_not_hold_the_token() {
        let token = SessionToken::new(&Ids::from_seed([3; 32]));
        let id = token.id();
        assert_eq!(token.reveal().len(), 37);
        assert_eq!(id.as_str().len(), 28);
        assert_eq!(id, SessionToken::claimed(token.reveal()).id());
        assert!(!token.reveal().contains(id.as_str()));
        assert_eq!(SessionId::parse(id.as_str()), Some(id.clone()));
        assert_eq!(SessionId::parse(&id.as_str().to_uppercase()), Some(id));
        assert_eq!(format!("{token:?}"), "SessionToken(…)");
    }

    #[test]
    fn a_typed_code_is_read_as_people_type_it() {
        let code = TypedCode::parse("k7qm3x0a").unwrap();
        assert_eq!(code.to_string(), "K7QM-3X0A");
        assert_eq!(TypedCode::parse("oOiIlL7z").as_ref().map(TypedCode::prefix), Some("0011117z"));
        for typed in ["K7QM-3X0A", " k7qm 3xoa ", "K7QM–3XOA", "k7QM3x0A"] {
            assert_eq!(TypedCode::parse(typed).as_ref(), Some(&code), "{typed}");
        }
        for other in
            ["", "K7QM", "K7QM-3X0", "K7QM-3X0AB", "hello-you", "K7-QM3X0A", "K7QM-3X0U", "прив", "приветик"]
        {
            assert_eq!(TypedCode::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_letters_that_are_read_are_those_of_the_alphabet() {
        let read: std::collections::BTreeSet<u8> = (0..=u8::MAX).filter_map(letter).collect();
        assert_eq!(read.into_iter().collect::<Vec<_>>(), ALPHABET);
        assert!(ALPHABET.iter().all(|one| letter(*one) == Some(*one)));
    }

    #[test]
    fn the_digest_is_the_start_of_sha_256_in_base_32() {
        // printf abc | sha256sum = ba7816bf 8f01cfea …; by hand: ba78 = 10111 01001 11100 0…
        assert!(SessionToken::claimed("abc").id().as_str().starts_with("q9w"));
    }
}
