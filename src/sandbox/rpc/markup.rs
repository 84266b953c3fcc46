//! Buttons as clients write them, read into what the world keeps.

use grammers_tl_types as tl;
use tl::enums as e;

use crate::sandbox::world::InlineAction;
use crate::sandbox::world::InlineButton;
use crate::sandbox::world::Keyboard;
use crate::sandbox::world::KeyboardButton;
use crate::sandbox::world::Markup;
use crate::sandbox::world::Refusal;

/// Reads a markup. A wish for a reply is understood and has no consequence here.
pub(super) fn read(markup: e::ReplyMarkup) -> Result<Option<Markup>, Refusal> {
    Ok(match markup {
        e::ReplyMarkup::ReplyKeyboardHide(_) => Some(Markup::Hide),
        e::ReplyMarkup::ReplyKeyboardForceReply(_) => None,
        e::ReplyMarkup::ReplyKeyboardMarkup(keyboard) => Some(Markup::Keyboard(Keyboard {
            resize: keyboard.resize,
            one_time: keyboard.single_use,
            rows: keyboard.rows.into_iter().map(keyboard_row).collect::<Result<_, _>>()?,
        })),
        e::ReplyMarkup::ReplyInlineMarkup(inline) => {
            Some(Markup::Inline(inline.rows.into_iter().map(inline_row).collect::<Result<_, _>>()?))
        }
    })
}

fn keyboard_row(row: e::KeyboardButtonRow) -> Result<Vec<KeyboardButton>, Refusal> {
    let e::KeyboardButtonRow::Row(row) = row;
    row.buttons
        .into_iter()
        .map(|button| {
            let e::KeyboardButton::Button(button) = button;
            let request_phone = button.r#type == e::ButtonType::RequestPhone;
            if !request_phone && button.r#type != e::ButtonType::Default {
                return Err(Refusal::ButtonTypeInvalid);
            }
            Ok(KeyboardButton { text: button.text, request_phone })
        })
        .collect()
}

fn inline_row(row: e::KeyboardInlineButtonRow) -> Result<Vec<InlineButton>, Refusal> {
    let e::KeyboardInlineButtonRow::Row(row) = row;
    row.buttons
        .into_iter()
        .map(|button| {
            let e::KeyboardInlineButton::Button(button) = button;
            let action = if let e::InlineButtonType::Callback(callback) = button.r#type {
                InlineAction::Callback(callback.data)
            } else if let e::InlineButtonType::Url(link) = button.r#type {
                InlineAction::Url(link.url)
            } else {
                return Err(Refusal::ButtonTypeInvalid);
            };
            Ok(InlineButton { text: button.text, action })
        })
        .collect()
}
