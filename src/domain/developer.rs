//! A developer: somebody who owns projects. Their password is kept as an argon2id hash, their access tokens as SHA-256.

use std::fmt;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::clock::Timestamp;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;

/// Shortest and longest password, in characters (contract, section 3).
const PASSWORD_LENGTHS: std::ops::RangeInclusive<usize> = 12..=256;

/// Names a developer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeveloperId(String);

impl DeveloperId {
    /// A fresh id.
    pub fn new(ids: &Ids) -> Self {
        Self(format!("dev_{}", ids.base62(16)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeveloperId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// An e-mail address, trimmed and in lower case, so that each has one spelling. Prints masked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Email(String);

/// Not an e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address")]
pub struct BadEmail;

impl Email {
    /// Reads an address: something, an @, a host with a dot or "localhost".
    ///
    /// # Errors
    /// [`BadEmail`].
    pub fn parse(text: &str) -> Result<Self, BadEmail> {
        let text = text.trim().to_lowercase();
        let plain = text.len() <= 254 && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        let whole = text.rsplit_once('@').is_some_and(|(name, host)| {
            let dotted = host.contains('.') && !host.starts_with('.') && !host.ends_with('.');
            !name.is_empty() && !name.contains('@') && (dotted || host == "localhost")
        });
        (plain && whole).then_some(Self(text)).ok_or(BadEmail)
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Email(…)")
    }
}

/// A password as it is kept: an argon2id hash in PHC form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeptPassword(String);

/// Too short or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has 12 to 256 characters")]
pub struct BadPassword;

impl KeptPassword {
    /// Hashes a password. Costs tens of milliseconds of computing: not for an async thread.
    ///
    /// # Errors
    /// [`BadPassword`].
    pub fn new(password: &Secret<String>, ids: &Ids, memory: &mut Workspace) -> Result<Self, BadPassword> {
        let fits = PASSWORD_LENGTHS.contains(&password.reveal().chars().count());
        let hash = fits.then(|| memory.kept(password.reveal().as_bytes(), ids.bytes::<16>())).flatten();
        hash.map(|hash| Self(hash.to_string())).ok_or(BadPassword)
    }

    /// Whether this is the password. As expensive as hashing it.
    pub fn is(&self, password: &Secret<String>, memory: &mut Workspace) -> bool {
        PasswordHash::new(&self.0)
            .ok()
            .and_then(|hash| memory.verified(password.reveal().as_bytes(), &hash))
            .unwrap_or(false)
    }
}

/// What a workspace asks for, in blocks of 1 KiB. A hash takes 19 MiB, and the rest is never touched. But what is larger than
/// 32 MiB glibc maps by itself, and gives back when it is dropped (`DEFAULT_MMAP_THRESHOLD_MAX`): of anything smaller it
/// comes to keep several times as much as is used at once.
const WORKSPACE_BLOCKS: usize = 33 * 1024;

/// The memory that a hash takes; the system has it back when this is dropped.
#[derive(Default)]
pub struct Workspace(Vec<Block>);

impl Workspace {
    fn kept(&mut self, password: &[u8], salt: [u8; 16]) -> Option<PasswordHash> {
        let (algorithm, version, params) = (Algorithm::default(), Version::default(), Params::default());
        let salt = Salt::new(&salt).ok()?;
        let argon2 = Argon2::new(algorithm, version, params);
        let hash = self.hash(&argon2, password, &salt, Params::DEFAULT_OUTPUT_LEN)?;
        Some(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(argon2.params()).ok()?,
            salt: Some(salt),
            hash: Some(hash),
        })
    }

    fn verified(&mut self, password: &[u8], kept: &PasswordHash) -> Option<bool> {
        let (salt, expected) = (kept.salt.as_ref()?, kept.hash.as_ref()?);
        let algorithm = Algorithm::try_from(kept.algorithm.as_str()).ok()?;
        let version = Version::try_from(kept.version?).ok()?;
        let argon2 = Argon2::new(algorithm, version, Params::try_from(kept).ok()?);
        let hash = self.hash(&argon2, password, salt, expected.len())?;
        Some(hash.as_bytes().ct_eq(expected.as_bytes()).into())
    }

    fn hash(&mut self, argon2: &Argon2<'_>, password: &[u8], salt: &Salt, length: usize) -> Option<Output> {
        let blocks = argon2.params().block_count();
        if self.0.len() < blocks {
            self.0.reserve_exact(blocks.max(WORKSPACE_BLOCKS));
            self.0.resize(blocks, Block::default());
        }
        let mut out = [0; Output::MAX_LENGTH];
        let (out, memory) = (out.get_mut(..length)?, self.0.get_mut(..blocks)?);
        argon2.hash_password_into_with_memory(password, salt, out, memory).ok()?;
        Output::new(out).ok()
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Workspace(…)")
    }
}

impl fmt::Debug for KeptPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeptPassword(…)")
    }
}

/// Somebody who owns projects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Developer {
    /// Names them.
    pub id: DeveloperId,
    /// How they sign in.
    pub email: Email,
    /// Their password.
    pub password: KeptPassword,
    /// Since when.
    pub created_at: Timestamp,
}

/// A bearer token as its holder has it: `tgc_` and 43 characters.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(Secret<String>);

impl AccessToken {
    /// A fresh token.
    pub fn new(ids: &Ids) -> Self {
        Self(Secret::new(format!("tgc_{}", ids.base62(43))))
    }

    /// A token as a caller sends it: anything may be tried.
    pub fn claimed(text: &str) -> Self {
        Self(Secret::new(text.to_owned()))
    }

    /// The text, for its holder.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// What is kept of it. Random tokens of 256 bits need no slow hash.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.reveal().as_bytes()).into()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AccessToken(…)")
    }
}

/// What an access token permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose it is.
    pub developer: DeveloperId,
    /// When it ends: exclusive.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_as_a_salted_hash() {
        let (ids, mut memory) = (Ids::from_seed([1; 32]), Workspace::default());
        let password = Secret::new("correct horse battery".to_owned());
        let kept = KeptPassword::new(&password, &ids, &mut memory).unwrap();
        assert!(kept.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && !kept.0.contains("horse"));
        // Whatever was hashed with this memory before.
        assert!(!kept.is(&Secret::new("correct horse batterz".to_owned()), &mut memory));
        assert!(kept.is(&password, &mut memory) && kept.is(&password, &mut Workspace::default()));
        assert_ne!(kept, KeptPassword::new(&password, &ids, &mut memory).unwrap());
        for wrong in ["x".repeat(11), "x".repeat(257)] {
            assert_eq!(KeptPassword::new(&Secret::new(wrong), &ids, &mut memory), Err(BadPassword));
        }
        assert!(!KeptPassword("$argon2id$nonsense".to_owned()).is(&password, &mut memory));
    }

    #[test]
    fn hashes_are_those_of_the_library() {
        use argon2::{PasswordHasher as _, PasswordVerifier as _};
        let (ids, mut memory) = (Ids::from_seed([1; 32]), Workspace::default());
        let password = Secret::new("correct horse battery".to_owned());
        let ours = KeptPassword::new(&password, &ids, &mut memory).unwrap();
        assert!(Argon2::default().verify_password(password.reveal().as_bytes(), ours.0.as_str()).is_ok());
        let theirs =
            Argon2::new(Algorithm::Argon2i, Version::V0x10, Params::new(64, 3, 2, Some(24)).unwrap());
        let theirs = theirs.hash_password_with_salt(password.reveal().as_bytes(), b"salt-of-theirs").unwrap();
        let theirs = KeptPassword(theirs.to_string());
        assert!(theirs.is(&password, &mut memory));
        assert!(!theirs.is(&Secret::new("correct horse batterz".to_owned()), &mut memory));
    }

    #[test]
    fn an_address_has_one_spelling() {
        assert_eq!(Email::parse(" Demo@Example.COM ").unwrap().as_str(), "demo@example.com");
        for bad in
            ["", "demo", "@example.com", "a@b", "a b@example.com", "a@@example.com", "a@.com", "a@example."]
        {
            assert_eq!(Email::parse(bad).err(), Some(BadEmail), "{bad}");
        }
    }
}
