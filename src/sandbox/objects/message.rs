//! Messages and what is under them (<https://core.telegram.org/constructor/message>).

use grammers_tl_types as tl;
use tl::Deserializable;
use tl::enums as e;
use tl::types as t;

use crate::sandbox::world::AccountId;
use crate::sandbox::world::Contact;
use crate::sandbox::world::Entity;
use crate::sandbox::world::InlineAction;
use crate::sandbox::world::InlineButton;
use crate::sandbox::world::Keyboard;
use crate::sandbox::world::Look;
use crate::sandbox::world::Markup;
use crate::sandbox::world::Message;

use super::date;
use super::peer;

/// Everybody that a message names.
pub(crate) fn people_in(message: &Message) -> impl Iterator<Item = AccountId> {
    let author = message.content.forwarded.map(|forwarded| forwarded.author);
    std::iter::once(message.chat).chain(author)
}

/// An account's copy of a message.
pub(crate) fn message(owner: AccountId, message: &Message) -> e::Message {
    let content = &message.content;
    e::Message::Message(t::Message {
        out: message.out,
        mentioned: false,
        media_unread: false,
        silent: false,
        post: false,
        from_scheduled: false,
        legacy: false,
        edit_hide: false,
        pinned: false,
        noforwards: false,
        invert_media: false,
        offline: false,
        video_processing_pending: false,
        paid_suggested_post_stars: false,
        paid_suggested_post_ton: false,
        id: message.id,
        from_id: message.out.then(|| peer(owner)),
        from_boosts_applied: None,
        from_rank: None,
        peer_id: peer(message.chat),
        saved_peer_id: None,
        fwd_from: content.forwarded.map(|forwarded| {
            e::MessageFwdHeader::Header(t::MessageFwdHeader {
                imported: false,
                saved_out: false,
                from_id: Some(peer(forwarded.author)),
                from_name: None,
                date: date(forwarded.date),
                channel_post: None,
                post_author: None,
                saved_from_peer: None,
                saved_from_msg_id: None,
                saved_from_id: None,
                saved_from_name: None,
                saved_date: None,
                psa_type: None,
            })
        }),
        via_bot_id: None,
        via_business_bot_id: None,
        guestchat_via_from: None,
        reply_to: message.reply_to.map(reply_header),
        date: date(message.date),
        message: content.text.clone(),
        media: content.contact.as_ref().map(contact),
        reply_markup: content.markup.as_ref().map(markup),
        entities: entities(&content.entities),
        views: None,
        forwards: None,
        replies: None,
        edit_date: message.edited.map(date),
        post_author: None,
        grouped_id: None,
        reactions: None,
        restriction_reason: None,
        ttl_period: None,
        quick_reply_shortcut_id: None,
        effect: None,
        factcheck: None,
        report_delivery_until_date: None,
        paid_message_stars: None,
        suggested_post: None,
        schedule_repeat_period: None,
        summary_from_language: None,
        rich_message: None,
    })
}

/// `dialog`: the chat that this is the newest message of.
pub(crate) fn dialog(newest: &Message) -> Option<e::Dialog> {
    let settings = t::PeerNotifySettings::from_bytes(&[0; 4]).ok()?;
    Some(e::Dialog::Dialog(t::Dialog {
        pinned: false,
        unread_mark: false,
        view_forum_as_messages: false,
        peer: peer(newest.chat),
        top_message: newest.id,
        read_inbox_max_id: newest.id,
        read_outbox_max_id: newest.id,
        unread_count: 0,
        unread_mentions_count: 0,
        unread_reactions_count: 0,
        unread_poll_votes_count: 0,
        notify_settings: e::PeerNotifySettings::Settings(settings),
        pts: None,
        draft: None,
        folder_id: None,
        ttl_period: None,
    }))
}

fn reply_header(id: i32) -> e::MessageReplyHeader {
    e::MessageReplyHeader::Header(t::MessageReplyHeader {
        reply_to_scheduled: false,
        forum_topic: false,
        quote: false,
        reply_to_ephemeral: false,
        reply_to_msg_id: Some(id),
        reply_to_peer_id: None,
        reply_from: None,
        reply_media: None,
        reply_to_top_id: None,
        quote_text: None,
        quote_entities: None,
        quote_offset: None,
        todo_item_id: None,
        poll_option: None,
    })
}

/// `messageEntityCode` and its kin.
pub(super) fn entities(kept: &[Entity]) -> Option<Vec<e::MessageEntity>> {
    let shown = |entity: &Entity| {
        let Entity { look, offset, length } = *entity;
        match look {
            Look::Code => t::MessageEntityCode { offset, length }.into(),
            Look::Bold => t::MessageEntityBold { offset, length }.into(),
            Look::Italic => t::MessageEntityItalic { offset, length }.into(),
        }
    };
    (!kept.is_empty()).then(|| kept.iter().map(shown).collect())
}

/// `messageMediaContact`
fn contact(contact: &Contact) -> e::MessageMedia {
    e::MessageMedia::Contact(t::MessageMediaContact {
        phone_number: contact.phone.clone(),
        first_name: contact.first_name.clone(),
        last_name: contact.last_name.clone(),
        vcard: String::new(),
        user_id: contact.user.map_or(0, |user| user.0),
    })
}

fn markup(markup: &Markup) -> e::ReplyMarkup {
    match markup {
        Markup::Inline(rows) => e::ReplyMarkup::ReplyInlineMarkup(t::ReplyInlineMarkup {
            force_reply: false,
            rows: rows.iter().map(|row| inline_row(row)).collect(),
        }),
        Markup::Keyboard(own) => keyboard(own),
        Markup::Hide => e::ReplyMarkup::ReplyKeyboardHide(t::ReplyKeyboardHide { selective: false }),
    }
}

fn inline_row(row: &[InlineButton]) -> e::KeyboardInlineButtonRow {
    let buttons = row
        .iter()
        .map(|button| {
            e::KeyboardInlineButton::Button(t::KeyboardInlineButton {
                style: None,
                text: button.text.clone(),
                r#type: match &button.action {
                    InlineAction::Callback(data) => {
                        e::InlineButtonType::Callback(t::InlineButtonTypeCallback {
                            requires_password: false,
                            data: data.clone(),
                        })
                    }
                    InlineAction::Url(url) => {
                        e::InlineButtonType::Url(t::InlineButtonTypeUrl { url: url.clone() })
                    }
                },
            })
        })
        .collect();
    e::KeyboardInlineButtonRow::Row(t::KeyboardInlineButtonRow { buttons })
}

fn keyboard(keyboard: &Keyboard) -> e::ReplyMarkup {
    let rows = keyboard
        .rows
        .iter()
        .map(|row| {
            let buttons = row
                .iter()
                .map(|button| {
                    e::KeyboardButton::Button(t::KeyboardButton {
                        style: None,
                        text: button.text.clone(),
                        r#type: if button.request_phone {
                            e::ButtonType::RequestPhone
                        } else {
                            e::ButtonType::Default
                        },
                    })
                })
                .collect();
            e::KeyboardButtonRow::Row(t::KeyboardButtonRow { buttons })
        })
        .collect();
    e::ReplyMarkup::ReplyKeyboardMarkup(t::ReplyKeyboardMarkup {
        resize: keyboard.resize,
        single_use: keyboard.one_time,
        selective: false,
        persistent: false,
        force_reply: false,
        rows,
        placeholder: None,
    })
}
