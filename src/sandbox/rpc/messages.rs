//! The methods of private chats: writing, changing and reading messages, and the buttons under them.

use grammers_tl_types as tl;
use tl::Serializable;
use tl::enums as e;
use tl::functions as f;
use tl::types as t;

use crate::sandbox::hub::Hub;
use crate::sandbox::objects;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::CallbackAnswer;
use crate::sandbox::world::Contact;
use crate::sandbox::world::Draft;
use crate::sandbox::world::Entity;
use crate::sandbox::world::HistoryQuery;
use crate::sandbox::world::Look;
use crate::sandbox::world::Markup;
use crate::sandbox::world::Message;
use crate::sandbox::world::Phone;
use crate::sandbox::world::Press;
use crate::sandbox::world::Refusal;
use crate::sandbox::world::Sender;
use crate::sandbox::world::Wording;
use crate::sandbox::world::World;

use super::RpcError;
use super::change;
use super::markup;
use super::people;

/// The most messages in one answer.
const MAX_MESSAGES: usize = 100;

/// `messages.sendMessage`
pub(super) fn send(hub: &Hub, me: Sender, request: f::messages::SendMessage) -> Result<e::Updates, RpcError> {
    if request.schedule_date.is_some() {
        return Err(RpcError::new(400, "SCHEDULE_DATE_INVALID"));
    }
    let draft = Draft {
        text: request.message,
        entities: entities(request.entities),
        reply_to: request.reply_to.map(answered).transpose()?,
        markup: own_markup(hub, me, request.reply_markup)?,
        contact: None,
        random_id: Some(request.random_id),
    };
    send_draft(hub, me, &request.peer, draft)
}

/// `messages.sendMedia`: contacts, and nothing else.
pub(super) fn send_media(
    hub: &Hub,
    me: Sender,
    request: f::messages::SendMedia,
) -> Result<e::Updates, RpcError> {
    let e::InputMedia::Contact(contact) = request.media else {
        return Err(Refusal::MediaInvalid.into());
    };
    let draft = Draft {
        text: request.message,
        entities: entities(request.entities),
        reply_to: request.reply_to.map(answered).transpose()?,
        markup: own_markup(hub, me, request.reply_markup)?,
        contact: Some(hub.look(|world| card(world, contact))?),
        random_id: Some(request.random_id),
    };
    send_draft(hub, me, &request.peer, draft)
}

/// `messages.startBot`
pub(super) fn start_bot(
    hub: &Hub,
    me: Sender,
    request: &f::messages::StartBot,
) -> Result<e::Updates, RpcError> {
    if request.start_param.is_empty() {
        return Err(Refusal::StartParamEmpty.into());
    }
    let random_id = request.random_id;
    change(hub, |world, now| {
        people::only_people(world, me.account)?;
        let bot = people::named_user(world, me.account, &request.bot)?;
        let id = world.start(me, bot, &request.start_param, Some(random_id), now)?;
        objects::answer_in_full(world, me.account, id, random_id).ok_or(Refusal::MessageIdInvalid)
    })
}

fn send_draft(hub: &Hub, me: Sender, to: &e::InputPeer, draft: Draft) -> Result<e::Updates, RpcError> {
    let (random_id, media) = (draft.random_id.unwrap_or_default(), draft.contact.is_some());
    let answer = if media { objects::answer_in_full } else { objects::answer_of_text };
    change(hub, |world, now| {
        let to = people::named_peer(world, me.account, to)?;
        let id = world.send(me, to, draft, now)?;
        answer(world, me.account, id, random_id).ok_or(Refusal::MessageIdInvalid)
    })
}

/// `messages.editMessage`
pub(super) fn edit(hub: &Hub, me: Sender, request: f::messages::EditMessage) -> Result<e::Updates, RpcError> {
    if request.media.is_some() || request.schedule_date.is_some() {
        return Err(Refusal::MediaInvalid.into());
    }
    let markup = own_markup(hub, me, request.reply_markup)?;
    change(hub, |world, now| {
        let chat = people::named_peer(world, me.account, &request.peer)?;
        let there = world.message(me.account, request.id).is_some_and(|message| message.chat == chat);
        if !there {
            return Err(Refusal::MessageIdInvalid);
        }
        let entities = entities(request.entities);
        let wording = request.message.map(|text| Wording { text, entities });
        world.edit(me, request.id, wording, markup, now)?;
        objects::changed_message(world, me.account, request.id).ok_or(Refusal::MessageIdInvalid)
    })
}

/// `messages.deleteMessages`
pub(super) fn delete(
    hub: &Hub,
    me: Sender,
    request: &f::messages::DeleteMessages,
) -> Result<e::messages::AffectedMessages, RpcError> {
    let ids = request.id.get(..MAX_MESSAGES).unwrap_or(&request.id);
    change(hub, |world, _| {
        let deleted = world.delete(me, ids, request.revoke);
        Ok(affected(world, me.account, deleted))
    })
}

/// `messages.readHistory`: the sandbox does not count what is unread.
pub(super) fn read_history(
    hub: &Hub,
    me: AccountId,
    request: &f::messages::ReadHistory,
) -> Result<e::messages::AffectedMessages, RpcError> {
    hub.look(|world| {
        people::only_people(world, me)?;
        people::named_peer(world, me, &request.peer)?;
        Ok(affected(world, me, 0))
    })
}

fn affected(world: &World, me: AccountId, count: usize) -> e::messages::AffectedMessages {
    e::messages::AffectedMessages::Messages(t::messages::AffectedMessages {
        pts: world.account(me).map_or(1, |account| account.pts),
        pts_count: i32::try_from(count).unwrap_or(i32::MAX),
    })
}

/// `messages.getHistory`
pub(super) fn history(
    hub: &Hub,
    me: AccountId,
    request: &f::messages::GetHistory,
) -> Result<e::messages::Messages, RpcError> {
    hub.look(|world| {
        people::only_people(world, me)?;
        let chat = people::named_peer(world, me, &request.peer)?;
        let query = HistoryQuery {
            offset_id: request.offset_id,
            offset_date: request.offset_date,
            add_offset: request.add_offset,
            limit: usize::try_from(request.limit).unwrap_or(0).min(MAX_MESSAGES),
            max_id: request.max_id,
            min_id: request.min_id,
        };
        let (messages, total) = world.history(me, chat, query);
        let people = messages.iter().flat_map(objects::people_in).chain([me, chat]);
        let users = objects::users(world, me, people);
        let all = messages.len() == total;
        let messages = messages.iter().map(|message| objects::message(me, message)).collect();
        Ok(if all {
            let all = t::messages::Messages { messages, topics: vec![], chats: vec![], users };
            e::messages::Messages::Messages(all)
        } else {
            e::messages::Messages::Slice(t::messages::MessagesSlice {
                inexact: false,
                count: i32::try_from(total).unwrap_or(i32::MAX),
                next_rate: None,
                offset_id_offset: None,
                search_flood: None,
                messages,
                topics: vec![],
                chats: vec![],
                users,
            })
        })
    })
}

/// `messages.getDialogs`: no folders, nothing pinned, and what is unread is not counted.
pub(super) fn dialogs(
    hub: &Hub,
    me: AccountId,
    request: &f::messages::GetDialogs,
) -> Result<e::messages::Dialogs, RpcError> {
    hub.look(|world| {
        people::only_people(world, me)?;
        let all = world.newest_of_chats(me);
        let after = |message: &&Message| match (request.offset_id, request.offset_date) {
            (0, 0) => true,
            (0, date) => objects::date(message.date) < date,
            (id, _) => message.id < id,
        };
        let limit = usize::try_from(request.limit).unwrap_or(0).min(MAX_MESSAGES);
        let shown: Vec<&Message> = all.iter().filter(after).take(limit).collect();
        let users = objects::users(
            world,
            me,
            shown.iter().flat_map(|message| objects::people_in(message)).chain([me]),
        );
        let messages = shown.iter().map(|message| objects::message(me, message)).collect();
        let dialogs: Option<_> = shown.iter().map(|message| objects::dialog(message)).collect();
        let dialogs = dialogs.ok_or(RpcError::new(500, "INTERNAL_SERVER_ERROR"))?;
        let (count, chats) = (i32::try_from(all.len()).unwrap_or(i32::MAX), vec![]);
        Ok(if shown.len() == all.len() {
            e::messages::Dialogs::Dialogs(t::messages::Dialogs { dialogs, messages, chats, users })
        } else {
            e::messages::Dialogs::Slice(t::messages::DialogsSlice { count, dialogs, messages, chats, users })
        })
    })
}

/// `messages.getMessages`
pub(super) fn get(
    hub: &Hub,
    me: AccountId,
    request: &f::messages::GetMessages,
) -> Result<e::messages::Messages, RpcError> {
    let asked = request.id.get(..MAX_MESSAGES).unwrap_or(&request.id);
    hub.look(|world| {
        let mut people = vec![me];
        let mut show = |id: i32, found: Option<Message>| match found {
            Some(found) => {
                people.extend(objects::people_in(&found));
                objects::message(me, &found)
            }
            None => e::Message::Empty(t::MessageEmpty { id, peer_id: None }),
        };
        let messages = asked
            .iter()
            .map(|asked| match asked {
                e::InputMessage::Id(asked) => show(asked.id, world.message(me, asked.id)),
                e::InputMessage::ReplyTo(asked) => {
                    let answered = world.message(me, asked.id).and_then(|message| message.reply_to);
                    show(asked.id, answered.and_then(|id| world.message(me, id)))
                }
                e::InputMessage::Pinned | e::InputMessage::CallbackQuery(_) => show(0, None),
            })
            .collect();
        let users = objects::users(world, me, people);
        let found = t::messages::Messages { messages, topics: vec![], chats: vec![], users };
        Ok(e::messages::Messages::Messages(found))
    })
}

/// `messages.getBotCallbackAnswer`: the press is made, the answer comes later.
pub(super) fn press(
    hub: &Hub,
    me: AccountId,
    request: &f::messages::GetBotCallbackAnswer,
) -> Result<Press, RpcError> {
    let data = request.data.as_deref().ok_or(Refusal::DataInvalid)?;
    change(hub, |world, _| {
        people::only_people(world, me)?;
        let chat = people::named_peer(world, me, &request.peer)?;
        let there = world.message(me, request.msg_id).is_some_and(|message| message.chat == chat);
        if !there {
            return Err(Refusal::MessageIdInvalid);
        }
        world.press(me, request.msg_id, data)
    })
}

/// What `messages.getBotCallbackAnswer` answers in the end.
pub(super) fn pressed(answer: CallbackAnswer) -> Vec<u8> {
    e::messages::BotCallbackAnswer::Answer(t::messages::BotCallbackAnswer {
        alert: answer.alert,
        has_url: answer.url.is_some(),
        native_ui: true,
        message: answer.text,
        url: answer.url,
        cache_time: answer.cache_time,
    })
    .to_bytes()
}

/// `messages.setBotCallbackAnswer`
pub(super) fn answer_press(
    hub: &Hub,
    me: AccountId,
    request: f::messages::SetBotCallbackAnswer,
) -> Result<bool, RpcError> {
    let answer = CallbackAnswer {
        text: request.message,
        alert: request.alert,
        url: request.url,
        cache_time: request.cache_time,
    };
    change(hub, |world, _| {
        people::only_bots(world, me)?;
        world.answer_press(me, request.query_id, answer).map(|()| true)
    })
}

/// The message that is answered.
fn answered(reply: e::InputReplyTo) -> Result<i32, Refusal> {
    let e::InputReplyTo::Message(message) = reply else {
        return Err(Refusal::ReplyInvalid);
    };
    Ok(message.reply_to_msg_id)
}

/// Buttons are read only when a bot sends them; a person's are passed over, whatever they are.
fn own_markup(hub: &Hub, me: Sender, sent: Option<e::ReplyMarkup>) -> Result<Option<Markup>, Refusal> {
    if !hub.look(|world| world.is_bot(me.account)) {
        return Ok(None);
    }
    Ok(sent.map(markup::read).transpose()?.flatten())
}

/// What a text's parts look like; what the sandbox does not show is passed over.
fn entities(sent: Option<Vec<e::MessageEntity>>) -> Vec<Entity> {
    let kept = |entity| {
        let (look, offset, length) = if let e::MessageEntity::Code(code) = entity {
            (Look::Code, code.offset, code.length)
        } else if let e::MessageEntity::Bold(bold) = entity {
            (Look::Bold, bold.offset, bold.length)
        } else if let e::MessageEntity::Italic(italic) = entity {
            (Look::Italic, italic.offset, italic.length)
        } else {
            return None;
        };
        Some(Entity { look, offset, length })
    };
    sent.unwrap_or_default().into_iter().filter_map(kept).collect()
}

/// A contact as it is kept: with the account that the number belongs to.
fn card(world: &World, sent: t::InputMediaContact) -> Result<Contact, Refusal> {
    let phone = Phone::parse(&sent.phone_number).ok_or(Refusal::PhoneInvalid)?;
    let user = world.by_phone(&phone).map(|account| account.id);
    Ok(Contact {
        phone: phone.digits().to_owned(),
        first_name: sent.first_name,
        last_name: sent.last_name,
        user,
    })
}
