//! A Telegram account's session as data: what a connector needs to go on where it was, in a format of our own.
//! The library that speaks MTProto and the places that keep sessions both translate from and to this.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use crate::domain::login::Phone;

/// Which Telegram a store or a session belongs to. One never opens in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Telegram itself.
    Telegram,
    /// A sandbox Telegram.
    Sandbox,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Telegram => "telegram",
            Self::Sandbox => "sandbox",
        })
    }
}

/// An MTProto authorisation key: 256 bytes that *are* the login. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthKey([u8; 256]);

impl AuthKey {
    /// Wraps the key's bytes.
    pub const fn new(bytes: [u8; 256]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn bytes(&self) -> &[u8; 256] {
        &self.0
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AuthKey(…)")
    }
}

impl Serialize for AuthKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for AuthKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|_| D::Error::custom("an authorisation key is not base64"))?;
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("an authorisation key has 256 bytes"))
    }
}

/// What is known of one data centre.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataCentre {
    /// Where it was last reached. `None`: use the address built in or configured.
    pub address: Option<SocketAddrV4>,
    /// The key negotiated with it.
    pub auth_key: Option<AuthKey>,
}

/// Who is signed in (TL `user`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUser {
    /// Telegram's user id.
    pub id: i64,
    /// Needed to refer to the user; belongs to this session.
    pub access_hash: i64,
    /// First and last name.
    pub name: String,
    /// Without the `@`; `None` when the account has none.
    pub username: Option<String>,
    /// The account's own number; `None` for a bot.
    pub phone: Option<Phone>,
    /// Whether this is a bot.
    pub bot: bool,
}

impl fmt::Debug for AccountUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AccountUser").field("bot", &self.bot).finish_non_exhaustive()
    }
}

/// Another peer that this session has met and may write to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeer {
    /// Telegram's user id.
    pub id: i64,
    /// Needed to refer to the user; belongs to this session.
    pub access_hash: i64,
}

/// How far the updates of this account have been handled (`updates.state`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatePosition {
    /// Common message box.
    pub pts: i32,
    /// Secret chats and bot events.
    pub qts: i32,
    /// Unix seconds.
    pub date: i32,
    /// Combined updates.
    pub seq: i32,
}

/// A whole session. `Default` is one that has never met Telegram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelegramSession {
    /// The data centre the account lives in.
    pub home_dc: i32,
    /// By data-centre id.
    pub data_centres: BTreeMap<i32, DataCentre>,
    /// `Some` once signed in.
    pub user: Option<AccountUser>,
    /// Where updates go on from. All zero: from now.
    pub updates: UpdatePosition,
    /// Peers met.
    pub peers: Vec<KnownPeer>,
}

/// A session that the session store has not taken yet, kept elsewhere until it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsavedSession {
    /// The session.
    pub session: TelegramSession,
    /// The digest of the object that it may be written over, because it replaces it; `None`: there was none.
    pub replaces: Option<[u8; 32]>,
}

impl Default for TelegramSession {
    fn default() -> Self {
        Self {
            home_dc: 2,
            data_centres: BTreeMap::new(),
            user: None,
            updates: UpdatePosition::default(),
            peers: Vec::new(),
        }
    }
}

impl TelegramSession {
    /// The key of the home data centre.
    pub fn home_key(&self) -> Option<&AuthKey> {
        self.data_centres.get(&self.home_dc)?.auth_key.as_ref()
    }
}

/// Reads a user id as it is written everywhere here. Telegram promises 52 bits, so 16 digits hold it.
pub fn user_id(text: &str) -> Option<i64> {
    let plain = (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain && !text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_survives_json_and_its_key_is_not_printed() {
        let mut session = TelegramSession::default();
        let centre = DataCentre { address: None, auth_key: Some(AuthKey::new([0xab; 256])) };
        session.data_centres.insert(2, centre);
        let json = serde_json::to_string(&session).unwrap();
        assert_eq!(serde_json::from_str::<TelegramSession>(&json).unwrap(), session);
        assert!(session.home_key().is_some());
        let printed = format!("{session:?}");
        assert!(printed.contains("AuthKey(…)") && !printed.contains("171"), "{printed}");
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert!(serde_json::from_str::<AuthKey>("\"q80=\"").is_err());
    }
}
