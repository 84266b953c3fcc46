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

#[cfg(test)]
mod tests {
    use tl::{Deserializable as _, Serializable as _};

    use super::*;

    const ME: i64 = 42;
    const ANN: i64 = 5;

    /// What Telegram sends when nothing optional is set: mandatory fields after zeroed flags.
    fn message(chat: tl::enums::Peer, text: &str) -> tl::types::Message {
        let mut bytes = vec![0; 8];
        (7_i32, chat, 1_700_000_000_i32, text.to_owned()).serialize_into(&mut bytes);
        tl::types::Message::from_bytes(&bytes).unwrap()
    }

    trait SerializeInto {
        fn serialize_into(&self, bytes: &mut Vec<u8>);
    }

    impl SerializeInto for (i32, tl::enums::Peer, i32, String) {
        fn serialize_into(&self, bytes: &mut Vec<u8>) {
            self.0.serialize(bytes);
            self.1.serialize(bytes);
            self.2.serialize(bytes);
            self.3.serialize(bytes);
        }
    }

    fn user(id: i64) -> tl::types::User {
        let mut bytes = vec![0; 8];
        id.serialize(&mut bytes);
        tl::types::User::from_bytes(&bytes).unwrap()
    }

    fn person(user_id: i64) -> tl::enums::Peer {
        tl::types::PeerUser { user_id }.into()
    }

    fn ann() -> Peer {
        Peer { name: "Ann".to_owned(), ..Peer::stranger(ANN, 6) }
    }

    fn arrived(message: tl::types::Message) -> Option<AccountEvent> {
        let update = tl::types::UpdateNewMessage { message: message.into(), pts: 1, pts_count: 1 };
        event(update.into(), ME, |id| Peer { id, ..ann() })
    }

    #[test]
    fn a_private_message_comes_with_all_that_matters() {
        let mut written = message(person(ANN), "yes");
        let header = tl::types::MessageReplyHeader {
            reply_to_scheduled: false,
            forum_topic: false,
            quote: false,
            reply_to_ephemeral: false,
            reply_to_msg_id: Some(3),
            reply_to_peer_id: None,
            reply_from: None,
            reply_media: None,
            reply_to_top_id: None,
            quote_text: None,
            quote_entities: None,
            quote_offset: None,
            todo_item_id: None,
            poll_option: None,
        };
        written.reply_to = Some(header.clone().into());
        let contact = |user_id| tl::types::MessageMediaContact {
            phone_number: "15550100001".to_owned(),
            first_name: "Ann".to_owned(),
            last_name: String::new(),
            vcard: String::new(),
            user_id,
        };
        written.media = Some(contact(ANN).into());
        let shared = |user_id| Some(SharedContact { user_id, phone: "15550100001".to_owned() });
        let expected = AccountEvent::Message {
            id: 7,
            from: ann(),
            text: "yes".to_owned(),
            reply_to: Some(3),
            forwarded: false,
            contact: shared(Some(ANN)),
            date: Timestamp::from_millis(1_700_000_000_000),
        };
        assert_eq!(arrived(written.clone()), Some(expected));

        // A reply to something elsewhere is a reply to nothing here; a contact may be nobody's.
        let elsewhere = tl::types::MessageReplyHeader { reply_to_peer_id: Some(person(9)), ..header };
        written.reply_to = Some(elsewhere.into());
        written.media = Some(contact(0).into());
        let Some(AccountEvent::Message { reply_to, contact, .. }) = arrived(written.clone()) else {
            panic!("it is a message");
        };
        assert_eq!((reply_to, contact), (None, shared(None)));
        written.out = true;
        let sent = AccountEvent::Sent { id: 7, to: ANN, reply_to: None, text: "yes".to_owned() };
        assert_eq!(arrived(written), Some(sent));
    }

    #[test]
    fn what_is_not_said_by_a_person_to_us_is_no_event() {
        assert_eq!(arrived(message(person(TELEGRAM), "Login code: 1")), None);
        assert_eq!(arrived(message(person(ME), "a note to myself")), None);
        assert_eq!(arrived(message(tl::types::PeerChat { chat_id: 1 }.into(), "in a group")), None);
        assert_eq!(arrived(tl::types::Message { offline: true, ..message(person(ANN), "I am away") }), None);
        let assistant = tl::types::Message { via_business_bot_id: Some(8), ..message(person(ANN), "yes") };
        assert_eq!(arrived(assistant), None);
        let update = tl::types::UpdateNewMessage {
            message: message(person(ANN), "beep").into(),
            pts: 1,
            pts_count: 1,
        };
        assert_eq!(event(update.into(), ME, |id| Peer { bot: true, ..Peer::stranger(id, 0) }), None);
        let edited =
            tl::types::UpdateEditMessage { message: message(person(ANN), "no").into(), pts: 1, pts_count: 1 };
        assert_eq!(event(edited.into(), ME, |_| ann()), None);
    }

    #[test]
    fn the_author_is_asked_for_only_where_one_matters() {
        let of = |message: tl::types::Message| {
            let update = tl::types::UpdateNewMessage { message: message.into(), pts: 1, pts_count: 1 };
            author(&update.into())
        };
        assert_eq!(of(message(person(ANN), "hello")), Some(ANN));
        assert_eq!(of(message(person(TELEGRAM), "hello")), None);
        assert_eq!(of(tl::types::Message { out: true, ..message(person(ANN), "hello") }), None);
    }

    #[test]
    fn a_tap_counts_in_a_private_chat_and_with_data() {
        let query = tl::types::UpdateBotCallbackQuery {
            query_id: 1,
            user_id: ANN,
            peer: person(ANN),
            msg_id: 7,
            chat_instance: 0,
            data: Some(b"confirm".to_vec()),
            game_short_name: None,
        };
        let tapped = |query: tl::types::UpdateBotCallbackQuery| event(query.into(), ME, |_| ann());
        let tap = AccountEvent::Tap { query_id: 1, message_id: 7, from: ann(), data: b"confirm".to_vec() };
        assert_eq!(tapped(query.clone()), Some(tap));
        assert_eq!(tapped(tl::types::UpdateBotCallbackQuery { data: None, ..query.clone() }), None);
        assert_eq!(tapped(tl::types::UpdateBotCallbackQuery { peer: person(9), ..query.clone() }), None);
        let group = tl::types::PeerChat { chat_id: 1 }.into();
        assert_eq!(tapped(tl::types::UpdateBotCallbackQuery { peer: group, ..query }), None);
    }

    #[test]
    fn of_several_user_names_the_account_s_own_is_told() {
        let name = |username: &str, editable, active| {
            let username = username.to_owned();
            tl::types::Username { editable, active, deletable: false, expired: false, username }.into()
        };
        let renamed = |user_id, usernames| {
            let update = tl::types::UpdateUserName {
                user_id,
                first_name: String::new(),
                last_name: String::new(),
                usernames,
            };
            event(update.into(), ME, |_| ann())
        };
        let to =
            |username: Option<&str>| Some(AccountEvent::Renamed { username: username.map(str::to_owned) });
        let several = vec![name("bought", false, true), name("own", true, true)];
        assert_eq!(renamed(ME, several.clone()), to(Some("own")));
        assert_eq!(
            renamed(ME, vec![name("own", true, false), name("bought", false, true)]),
            to(Some("bought"))
        );
        assert_eq!(renamed(ME, Vec::new()), to(None));
        assert_eq!(renamed(ANN, several.clone()), None);

        let mut user = user(ME);
        user.usernames = Some(several);
        user.access_hash = Some(1);
        user.first_name = Some("A".to_owned());
        user.last_name = Some("B".to_owned());
        let account = account_user(user.clone().into()).unwrap();
        assert_eq!((account.username.as_deref(), account.name.as_str()), (Some("own"), "A B"));
        user.username = Some("only".to_owned());
        user.min = true;
        let peer = peer(user.into()).unwrap();
        assert_eq!((peer.username.as_deref(), peer.access_hash), (Some("only"), 0));
    }

    #[test]
    fn what_people_write_is_not_printed() {
        let printed = format!("{:?}", arrived(message(person(ANN), "a secret")));
        assert!(printed.contains("from 5") && !printed.contains("secret") && !printed.contains("Ann"));
    }
}
