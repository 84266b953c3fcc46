//! TL objects that come in from Telegram, as our own types: users and events. What is done with them is the `reader`'s
//! business.

use grammers_tl_types as tl;

use super::conversation::AccountEvent;
use super::conversation::Peer;
use super::conversation::SharedContact;
use crate::domain::account::AccountUser;
use crate::domain::clock::Timestamp;
use crate::domain::login::Phone;

/// Telegram itself: login codes, news. What it writes is for the account's owner.
const TELEGRAM: i64 = 777_000;

/// TL `user` as our own type; `None` for `userEmpty` and for one without an access hash.
pub(super) fn account_user(user: tl::enums::User) -> Option<AccountUser> {
    let tl::enums::User::User(user) = user else {
        return None;
    };
    Some(AccountUser {
        id: user.id,
        access_hash: user.access_hash?,
        username: username(user.username, user.usernames.as_deref().unwrap_or_default()),
        name: name(user.first_name, user.last_name),
        phone: user.phone.and_then(|phone| Phone::parse(&phone).ok()),
        bot: user.bot,
    })
}

/// TL `user` as somebody to talk to; `None` for `userEmpty`. The access hash of a `min` user opens nothing.
pub(super) fn peer(user: tl::enums::User) -> Option<Peer> {
    let tl::enums::User::User(user) = user else {
        return None;
    };
    Some(Peer {
        id: user.id,
        access_hash: user.access_hash.filter(|_| !user.min).unwrap_or(0),
        username: username(user.username, user.usernames.as_deref().unwrap_or_default()),
        name: name(user.first_name, user.last_name),
        lang_code: user.lang_code,
        bot: user.bot,
    })
}

/// The person who wrote the private message that this update brings.
pub(super) fn author(update: &tl::enums::Update) -> Option<i64> {
    let tl::enums::Update::NewMessage(update) = update else {
        return None;
    };
    let tl::enums::Message::Message(message) = &update.message else {
        return None;
    };
    let tl::enums::Peer::User(chat) = &message.peer_id else {
        return None;
    };
    (!message.out && chat.user_id != TELEGRAM).then_some(chat.user_id)
}

/// What of an update concerns us. `me`: whose it is; `who`: what is known of somebody.
pub(super) fn event(
    update: tl::enums::Update,
    me: i64,
    who: impl FnOnce(i64) -> Peer,
) -> Option<AccountEvent> {
    if let tl::enums::Update::NewMessage(update) = update {
        let tl::enums::Message::Message(message) = update.message else {
            return None;
        };
        return written(message, me, who);
    }
    if let tl::enums::Update::BotCallbackQuery(query) = update {
        return tap(query, who);
    }
    if let tl::enums::Update::UserName(update) = update {
        let username = username(None, &update.usernames);
        return (update.user_id == me).then_some(AccountEvent::Renamed { username });
    }
    None
}

fn written(message: tl::types::Message, me: i64, who: impl FnOnce(i64) -> Peer) -> Option<AccountEvent> {
    let tl::enums::Peer::User(chat) = message.peer_id else {
        return None;
    };
    let chat = chat.user_id;
    // A reply can be to a message elsewhere, which this chat's ids do not name.
    let reply_to = message.reply_to.and_then(|header| match header {
        tl::enums::MessageReplyHeader::Header(header) => {
            header.reply_to_msg_id.filter(|_| header.reply_to_peer_id.is_none())
        }
        tl::enums::MessageReplyHeader::MessageReplyStoryHeader(_) => None,
    });
    if chat == me {
        return None; // notes to oneself
    }
    if message.out {
        return Some(AccountEvent::Sent { id: message.id, to: chat, reply_to, text: message.message });
    }
    let automatic = message.offline || message.via_business_bot_id.is_some();
    if chat == TELEGRAM || automatic {
        return None;
    }
    let from = who(chat);
    if from.bot {
        return None;
    }
    Some(AccountEvent::Message {
        id: message.id,
        from,
        text: message.message,
        reply_to,
        forwarded: message.fwd_from.is_some(),
        contact: message.media.and_then(contact),
        date: Timestamp::from_millis(i64::from(message.date) * 1_000),
    })
}

fn contact(media: tl::enums::MessageMedia) -> Option<SharedContact> {
    let tl::enums::MessageMedia::Contact(contact) = media else {
        return None;
    };
    let user_id = Some(contact.user_id).filter(|id| *id != 0);
    Some(SharedContact { user_id, phone: contact.phone_number })
}

/// Only of a button with data of ours, in a private chat with who pressed it.
fn tap(query: tl::types::UpdateBotCallbackQuery, who: impl FnOnce(i64) -> Peer) -> Option<AccountEvent> {
    let tl::enums::Peer::User(chat) = query.peer else {
        return None;
    };
    if chat.user_id != query.user_id {
        return None;
    }
    Some(AccountEvent::Tap {
        query_id: query.query_id,
        message_id: query.msg_id,
        from: who(query.user_id),
        data: query.data?,
    })
}

fn name(first: Option<String>, last: Option<String>) -> String {
    let names = [first, last];
    names.into_iter().flatten().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The user name of somebody who may have several, of which one is their own choice (TL `username`).
fn username(only: Option<String>, several: &[tl::enums::Username]) -> Option<String> {
    let active = || {
        several
            .iter()
            .map(|tl::enums::Username::Username(username)| username)
            .filter(|username| username.active && !username.username.is_empty())
    };
    only.filter(|name| !name.is_empty())
        .or_else(|| active().find(|username| username.editable).map(|username| username.username.clone()))
        .or_else(|| active().next().map(|username| username.username.clone()))
}
