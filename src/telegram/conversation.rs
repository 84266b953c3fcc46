//! What is said in private chats with our accounts, as our own types: messages and taps that come in, messages and
//! buttons that go out. Their TL objects are `update`'s and `sending`'s business; what they mean is `flows`'.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::account::Account;
use super::text::Text;
use crate::domain::clock::Timestamp;

/// Somebody in a private chat with one of our accounts.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    /// Telegram's user id.
    pub id: i64,
    /// Needed to write to them, and good only for the account that learned it; 0 when unknown. Bots may use 0.
    pub access_hash: i64,
    /// First and last name; empty when unknown.
    pub name: String,
    /// Without the `@`.
    pub username: Option<String>,
    /// IETF tag of their app's language; Telegram tells it to bots only.
    pub lang_code: Option<String>,
    /// Whether this is a bot.
    pub bot: bool,
}

impl Peer {
    /// Somebody of whom only this much is known.
    pub(super) const fn stranger(id: i64, access_hash: i64) -> Self {
        Self { id, access_hash, name: String::new(), username: None, lang_code: None, bot: false }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Peer({})", self.id)
    }
}

/// A contact in a message (TL `messageMediaContact`).
#[derive(Clone, PartialEq, Eq)]
pub struct SharedContact {
    /// Whose it is, where it is a Telegram user's.
    pub user_id: Option<i64>,
    /// As Telegram writes it, mostly digits alone.
    pub phone: String,
}

impl fmt::Debug for SharedContact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedContact").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

/// Something that happened in an account.
#[derive(Clone, PartialEq, Eq)]
pub enum AccountEvent {
    /// A message that somebody wrote to us in a private chat. It can come twice.
    ///
    /// Not told: messages of bots and of Telegram itself (777000), what a business bot or an automatic reply wrote in
    /// somebody's name, edits, groups and channels.
    Message {
        /// The message's id in this account.
        id: i32,
        /// Who wrote it.
        from: Peer,
        /// Text or caption; may be empty.
        text: String,
        /// The message that it answers, in the same chat.
        reply_to: Option<i32>,
        /// Whether it is another message passed on.
        forwarded: bool,
        /// The contact that it carries.
        contact: Option<SharedContact>,
        /// When it was sent, to the second.
        date: Timestamp,
    },
    /// A message of our own account, from whichever of its devices: ties a message to its id when the answer to
    /// sending it was lost. It can come twice, and before [`Account::send`] returns.
    Sent {
        /// The message's id in this account.
        id: i32,
        /// To whom.
        to: i64,
        /// The message that it answers.
        reply_to: Option<i32>,
        /// The text.
        text: String,
    },
    /// A button under a message of this bot was pressed (`updateBotCallbackQuery`). Not kept by Telegram for a bot that
    /// is away.
    Tap {
        /// For [`Account::answer_tap`].
        query_id: i64,
        /// The message with the button, in this account.
        message_id: i32,
        /// Who pressed it.
        from: Peer,
        /// The button's own data.
        data: Vec<u8>,
    },
    /// Our own account's user name is another one now.
    Renamed {
        /// The new one.
        username: Option<String>,
    },
}

// What people write is nobody's business in a log.
impl fmt::Debug for AccountEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { id, from, .. } => write!(formatter, "Message({id} from {})", from.id),
            Self::Sent { id, to, .. } => write!(formatter, "Sent({id} to {to})"),
            Self::Tap { query_id, message_id, from, .. } => {
                write!(formatter, "Tap({query_id} on {message_id} by {})", from.id)
            }
            Self::Renamed { .. } => formatter.write_str("Renamed"),
        }
    }
}

/// Takes a batch of an account's events, in Telegram's order, durably: the account's update position advances only
/// after `true`. After `false` (the store failed) the reader holds its position and offers the same batch again after a
/// pause. Runs to its end even when the account is closed meanwhile; an account's batches never overlap.
pub type EventSink = Arc<dyn Fn(Account, Vec<AccountEvent>) -> BoxFuture<'static, bool> + Send + Sync>;

/// A message to send.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom: a user id.
    pub to: i64,
    /// From [`Peer::access_hash`]. With 0 the account uses what it remembers; bots need none.
    pub access_hash: i64,
    /// Stored before it is sent: Telegram sends a message with the same number to the same person only once.
    pub random_id: i64,
    /// 1 to 4096 characters.
    pub text: Text,
    /// The message that it answers; left out when that one no longer exists.
    pub reply_to: Option<i32>,
    /// What is below it.
    pub keyboard: Keyboard,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Outgoing({} to {})", self.random_id, self.to)
    }
}

/// What is below a message. Telegram ignores all of it from a user account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keyboard {
    /// Nothing; what is in place of the person's keyboard stays.
    None,
    /// Buttons under the message, by rows.
    Inline(Vec<Vec<Button>>),
    /// In place of the person's keyboard: a button that shares their phone number (`buttonTypeRequestPhone`), and one
    /// that sends its own text.
    RequestPhone {
        /// Label of the first.
        share: String,
        /// Label and text of the second.
        cancel: String,
    },
    /// The person's own keyboard again.
    Hide,
}

/// A button under a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Button {
    /// Sends us a tap.
    Callback {
        /// Its label.
        text: String,
        /// What comes back in [`AccountEvent::Tap`], up to 64 bytes.
        data: Vec<u8>,
    },
    /// Opens a link.
    Url {
        /// Its label.
        text: String,
        /// The link.
        url: String,
    },
}
