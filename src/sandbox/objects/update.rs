//! What clients are told without asking, and how a message that they sent is confirmed
//! (<https://core.telegram.org/api/updates>).

use grammers_tl_types as tl;
use tl::enums as e;
use tl::types as t;

use crate::domain::clock::Timestamp;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::CallbackQuery;
use crate::sandbox::world::Message;
use crate::sandbox::world::SERVICE_ACCOUNT;
use crate::sandbox::world::World;

use super::date;
use super::message;
use super::message::entities;
use super::peer;
use super::people_in;
use super::users;

/// `updates` with everybody that they name, so that the client has their access hashes.
fn updates(
    world: &World,
    viewer: AccountId,
    updates: Vec<e::Update>,
    people: impl IntoIterator<Item = AccountId>,
    at: Timestamp,
) -> e::Updates {
    e::Updates::Updates(t::Updates {
        updates,
        users: users(world, viewer, people.into_iter().chain([viewer])),
        chats: vec![],
        date: date(at),
        seq: 0,
    })
}

/// What devices are told of a message: `updateShortMessage` of plain text, which names nobody, else `updateNewMessage`.
/// `None` when there is no such message.
pub(crate) fn new_message(world: &World, owner: AccountId, id: i32) -> Option<e::Updates> {
    let kept = world.message(owner, id)?;
    if is_plain(owner, &kept)
        && let e::Message::Message(message) = message(owner, &kept)
    {
        return Some(short(kept.chat, kept.pts, message));
    }
    let update = new_message_update(owner, &kept);
    Some(updates(world, owner, vec![update], people_in(&kept), kept.date))
}

/// `updateEditMessage`; `None` when there is no such message.
pub(crate) fn changed_message(world: &World, owner: AccountId, id: i32) -> Option<e::Updates> {
    let kept = world.message(owner, id)?;
    let update = edited_message(owner, &kept);
    Some(updates(world, owner, vec![update], people_in(&kept), kept.edited.unwrap_or(kept.date)))
}

/// Whether a message is text and nothing else. Those of the service account and to oneself always come in full.
fn is_plain(owner: AccountId, kept: &Message) -> bool {
    let content = &kept.content;
    content.markup.is_none()
        && content.contact.is_none()
        && kept.edited.is_none()
        && kept.chat != owner
        && kept.chat != SERVICE_ACCOUNT
}

/// `updateShortMessage`
fn short(chat: AccountId, pts: i32, message: t::Message) -> e::Updates {
    e::Updates::UpdateShortMessage(t::UpdateShortMessage {
        out: message.out,
        mentioned: false,
        media_unread: false,
        silent: false,
        id: message.id,
        user_id: chat.0,
        message: message.message,
        pts,
        pts_count: 1,
        date: message.date,
        fwd_from: message.fwd_from,
        via_bot_id: None,
        reply_to: message.reply_to,
        entities: message.entities,
        ttl_period: None,
    })
}

fn new_message_update(owner: AccountId, kept: &Message) -> e::Update {
    let message = message(owner, kept);
    e::Update::NewMessage(t::UpdateNewMessage { message, pts: kept.pts, pts_count: 1 })
}

/// `updateEditMessage`
pub(crate) fn edited_message(owner: AccountId, kept: &Message) -> e::Update {
    let message = message(owner, kept);
    e::Update::EditMessage(t::UpdateEditMessage { message, pts: kept.pts, pts_count: 1 })
}

/// `updateDeleteMessages`
pub(crate) fn deleted_message(id: i32, pts: i32) -> e::Update {
    e::Update::DeleteMessages(t::UpdateDeleteMessages { messages: vec![id], pts, pts_count: 1 })
}

/// The answer to `messages.sendMessage`: short for plain text to somebody else.
pub(crate) fn answer_of_text(world: &World, owner: AccountId, id: i32, random_id: i64) -> Option<e::Updates> {
    let kept = world.message(owner, id)?;
    if kept.reply_to.is_some() || kept.content.markup.is_some() || kept.chat == owner {
        return answer_in_full(world, owner, id, random_id);
    }
    Some(e::Updates::UpdateShortSentMessage(t::UpdateShortSentMessage {
        out: true,
        id,
        pts: kept.pts,
        pts_count: 1,
        date: date(kept.date),
        media: None,
        entities: entities(&kept.content.entities),
        ttl_period: None,
    }))
}

/// The answer to whatever else sends a message: `updateMessageID` and `updateNewMessage`.
pub(crate) fn answer_in_full(world: &World, owner: AccountId, id: i32, random_id: i64) -> Option<e::Updates> {
    let kept = world.message(owner, id)?;
    let known = e::Update::MessageId(t::UpdateMessageId { id, random_id });
    let update = new_message_update(owner, &kept);
    Some(updates(world, owner, vec![known, update], people_in(&kept), kept.date))
}

/// `updateBotCallbackQuery`
pub(crate) fn callback_query(world: &World, query: &CallbackQuery, at: Timestamp) -> e::Updates {
    let update = e::Update::BotCallbackQuery(t::UpdateBotCallbackQuery {
        query_id: query.query,
        user_id: query.person.0,
        peer: peer(query.person),
        msg_id: query.message,
        chat_instance: query.chat_instance,
        data: Some(query.data.clone()),
        game_short_name: None,
    });
    updates(world, query.bot, vec![update], [query.person], at)
}

/// `updateUserName`
pub(crate) fn renamed(world: &World, account: AccountId, at: Timestamp) -> Option<e::Updates> {
    let known = world.account(account)?;
    let names = known.username.iter().map(|username| {
        e::Username::Username(t::Username {
            editable: true,
            active: true,
            deletable: false,
            expired: false,
            username: username.clone(),
        })
    });
    let update = e::Update::UserName(t::UpdateUserName {
        user_id: account.0,
        first_name: known.first_name.clone(),
        last_name: known.last_name.clone().unwrap_or_default(),
        usernames: names.collect(),
    });
    Some(updates(world, account, vec![update], [], at))
}

/// `updates` with one deletion.
pub(crate) fn deletion(world: &World, owner: AccountId, id: i32, pts: i32, at: Timestamp) -> e::Updates {
    updates(world, owner, vec![deleted_message(id, pts)], [], at)
}
