//! A message as it is kept, once for both sides with its content packed into bytes, and as one of the sides sees it.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::domain::clock::Timestamp;

use super::AccountId;
use super::markup::Markup;
use super::wording::Entity;

/// Names a message everywhere; the copies have ids of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct MessageKey(pub(super) u64);

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    #[serde(rename = "t", default, skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) entities: Vec<Entity>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(super) reply_to: Option<MessageKey>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(crate) markup: Option<Markup>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) contact: Option<Contact>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(crate) forwarded: Option<Forwarded>,
}

/// Somebody's card (`messageMediaContact`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contact {
    /// Digits, without a plus sign.
    #[serde(rename = "p")]
    pub(crate) phone: String,
    #[serde(rename = "f")]
    pub(crate) first_name: String,
    #[serde(rename = "l", default, skip_serializing_if = "String::is_empty")]
    pub(crate) last_name: String,
    /// Whose number it is, where that is an account.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<AccountId>,
}

/// Who said it first, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forwarded {
    #[serde(rename = "a")]
    pub(crate) author: AccountId,
    #[serde(rename = "d")]
    pub(crate) date: Timestamp,
}

/// [`Content`] as bytes: a hundred thousand messages are kept, few are looked at.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    pub(super) fn new(content: &Content) -> Self {
        Self(serde_json::to_vec(content).unwrap_or_default().into_boxed_slice())
    }

    pub(super) fn unpack(&self) -> Content {
        serde_json::from_slice(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Packed({} bytes)", self.0.len())
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.unpack().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Content::deserialize(deserializer).map(|content| Self::new(&content))
    }
}

/// Where a message stands in one account's mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Ids count per account.
    #[serde(rename = "i")]
    pub(super) id: i32,
    /// The account's `pts` when it came, and after its last change.
    #[serde(rename = "n")]
    pub(super) new: i32,
    #[serde(rename = "p")]
    pub(super) pts: i32,
}

/// A message with its copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    #[serde(rename = "f")]
    pub(super) from: AccountId,
    #[serde(rename = "t")]
    pub(super) to: AccountId,
    /// The sender's copy, unless it was deleted or let go.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) sent: Option<Place>,
    /// The other side's copy. There is none in a chat with oneself.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(super) received: Option<Place>,
    #[serde(rename = "d")]
    pub(super) date: Timestamp,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) edited: Option<Timestamp>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub(super) random_id: Option<i64>,
    #[serde(rename = "c")]
    pub(super) content: Packed,
}

impl Stored {
    /// The copies that there are.
    pub(super) fn places(&self) -> impl Iterator<Item = (AccountId, Place)> {
        let sent = self.sent.map(|place| (self.from, place));
        let received = self.received.map(|place| (self.to, place));
        sent.into_iter().chain(received)
    }

    /// An account's copy.
    pub(super) fn place_of(&self, account: AccountId) -> Option<Place> {
        self.places().find(|(owner, _)| *owner == account).map(|(_, place)| place)
    }

    /// The same for a change.
    pub(super) fn place_mut(&mut self, account: AccountId) -> &mut Option<Place> {
        if self.from == account { &mut self.sent } else { &mut self.received }
    }

    /// The other side, as seen by an account.
    pub(super) fn chat_of(&self, account: AccountId) -> AccountId {
        if self.from == account { self.to } else { self.from }
    }
}

/// One account's copy of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: i32,
    /// The other side of the conversation.
    pub(crate) chat: AccountId,
    pub(crate) out: bool,
    pub(crate) date: Timestamp,
    pub(crate) edited: Option<Timestamp>,
    /// The copy, in the same mailbox, of the message that this answers.
    pub(crate) reply_to: Option<i32>,
    /// The account's `pts` after this message's last change.
    pub(crate) pts: i32,
    pub(crate) content: Content,
}

/// A service message as journals of version 1 had them before there were chats.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EarlierMessage {
    #[serde(rename = "i")]
    pub(super) id: i32,
    #[serde(rename = "t")]
    pub(super) text: String,
    #[serde(rename = "d")]
    pub(super) date: Timestamp,
    #[serde(rename = "p")]
    pub(super) pts: i32,
}
