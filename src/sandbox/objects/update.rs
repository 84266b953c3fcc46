//! What clients are told without asking, and how a message that they sent is confirmed
//! (<https://core.telegram.org/api/updates>).

use grammers_tl_types as tl;
use tl::enums as e;
use tl::types as t;

use crate::domain::clock::Timestamp;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::CallbackQuery;
use crate::sandbox::world::Message;
use crate::sandbox::world::World;

use super::date;
use super::message;
use super::message::contact;
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

/// `updateNewMessage`; `None` when there is no such message.
pub(crate) fn new_message(world: &World, owner: AccountId, id: i32) -> Option<e::Updates> {
    let kept = world.message(owner, id)?;
    let update = new_message_update(owner, &kept);
    Some(updates(world, owner, vec![update], people_in(&kept), kept.date))
}

/// `updateEditMessage`; `None` when there is no such message.
pub(crate) fn changed_message(world: &World, owner: AccountId, id: i32) -> Option<e::Updates> {
    let kept = world.message(owner, id)?;
    let update = edited_message(owner, &kept);
    Some(updates(world, owner, vec![update], people_in(&kept), kept.edited.unwrap_or(kept.date)))
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

/// The answer to a message that was sent: short for plain text, else `updateMessageID` and `updateNewMessage`.
pub(crate) fn answer_of_send(world: &World, owner: AccountId, id: i32, random_id: i64) -> Option<e::Updates> {
    let kept = world.message(owner, id)?;
    let content = &kept.content;
    let plain = kept.reply_to.is_none() && content.markup.is_none() && content.forwarded.is_none();
    if plain && kept.chat != owner {
        return Some(e::Updates::UpdateShortSentMessage(t::UpdateShortSentMessage {
            out: true,
            id,
            pts: kept.pts,
            pts_count: 1,
            date: date(kept.date),
            media: content.contact.as_ref().map(contact),
            entities: None,
            ttl_period: None,
        }));
    }
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
