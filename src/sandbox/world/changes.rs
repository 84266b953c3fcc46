//! What comes of a change of the world: records to keep, and events to tell.

use serde::Deserialize;
use serde::Serialize;

use super::Account;
use super::AccountId;
use super::CallbackQuery;
use super::Device;
use super::DeviceId;
use super::Relation;
use super::message::EarlierMessage;
use super::message::MessageKey;
use super::message::Stored;
use super::sign_in::UnregisteredNumber;

/// Something to keep. The last record of a thing wins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    Secret {
        secret: Vec<u8>,
        next_account: i64,
    },
    Account(Account),
    Device(Device),
    DeviceGone(DeviceId),
    /// A message as earlier sandboxes kept it.
    #[serde(rename = "Message")]
    Earlier(AccountId, EarlierMessage),
    #[serde(rename = "Letter")]
    Message(MessageKey, Stored),
    Deleted {
        account: AccountId,
        message: i32,
        pts: i32,
    },
    Relation(AccountId, AccountId, Relation),
    Unregistered(UnregisteredNumber),
}

/// Something that happened and that others may wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An account has a new message: tell its devices, except the one that sent it.
    NewMessage { account: AccountId, message: i32, except: Option<DeviceId> },
    /// One of its messages was changed.
    EditedMessage { account: AccountId, message: i32, except: Option<DeviceId> },
    /// One of its messages is no more.
    DeletedMessage { account: AccountId, message: i32, pts: i32, except: Option<DeviceId> },
    /// Somebody pressed a button of a bot's.
    Pressed(CallbackQuery),
    /// An account has another username.
    Renamed { account: AccountId, except: Option<DeviceId> },
    /// These devices were signed out or moved: their connections end.
    DevicesEnded(Vec<DeviceId>),
}
