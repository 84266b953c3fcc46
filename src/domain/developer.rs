//! A developer: somebody who owns projects. Their password is kept as an argon2id hash, their access tokens as SHA-256.

use std::fmt;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::phc::Salt;
use argon2::{PasswordHasher as _, PasswordVerifier as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
    pub fn new(password: &Secret<String>, ids: &Ids) -> Result<Self, BadPassword> {
        let password = password.reveal();
        if !PASSWORD_LENGTHS.contains(&password.chars().count()) {
            return Err(BadPassword);
        }
        let salt: [u8; 16] = ids.bytes();
        let salt = Salt::new(&salt).map_err(|_| BadPassword)?;
        let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
        hash.map(|hash| Self(hash.to_string())).map_err(|_| BadPassword)
    }

    /// Whether this is the password. As expensive as hashing it.
    pub fn is(&self, password: &Secret<String>) -> bool {
        PasswordHash::new(&self.0)
            .is_ok_and(|hash| Argon2::default().verify_password(password.reveal().as_bytes(), &hash).is_ok())
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
        let ids = Ids::from_seed([1; 32]);
        let password = Secret::new("correct horse battery".to_owned());
        let kept = KeptPassword::new(&password, &ids).unwrap();
        assert!(kept.0.starts_with("$argon2id$") && !kept.0.contains("horse"));
        assert!(kept.is(&password) && !kept.is(&Secret::new("correct horse batterz".to_owned())));
        assert_ne!(kept, KeptPassword::new(&password, &ids).unwrap());
        assert_eq!(KeptPassword::new(&Secret::new("x".repeat(11)), &ids), Err(BadPassword));
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
