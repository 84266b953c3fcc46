//! TL objects that come in from Telegram, as our own types: users and events.

use std::sync::Arc;

use grammers_tl_types as tl;

use crate::domain::account::AccountUser;
use crate::domain::login::Phone;

/// Something that happened in the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountEvent {
    /// A message in a private chat. It can come twice.
    Message {
        /// The message's id in this account.
        id: i32,
        /// The other side.
        chat: i64,
        /// Whether this account wrote it.
        outgoing: bool,
        /// The text.
        text: String,
    },
}

/// Receives events in the order of Telegram's updates. Must not block: what waits behind it may be dropped.
pub type EventSink = Arc<dyn Fn(AccountEvent) + Send + Sync>;

/// TL `user` as our own type; `None` for `userEmpty` and for one without an access hash.
pub(super) fn account_user(user: tl::enums::User) -> Option<AccountUser> {
    let tl::enums::User::User(user) = user else {
        return None;
    };
    let names = [user.first_name, user.last_name];
    let name = names.into_iter().flatten().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" ");
    Some(AccountUser {
        id: user.id,
        access_hash: user.access_hash?,
        name,
        username: user.username,
        phone: user.phone.and_then(|phone| Phone::parse(&phone).ok()),
        bot: user.bot,
    })
}

/// What of an update concerns us.
pub(super) fn event(update: tl::enums::Update) -> Option<AccountEvent> {
    let tl::enums::Update::NewMessage(update) = update else {
        return None;
    };
    let tl::enums::Message::Message(message) = update.message else {
        return None;
    };
    let tl::enums::Peer::User(peer) = message.peer_id else {
        return None;
    };
    Some(AccountEvent::Message {
        id: message.id,
        chat: peer.user_id,
        outgoing: message.out,
        text: message.message,
    })
}
