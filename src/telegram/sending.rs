//! What an account says in private chats: messages with buttons, edits, answers to taps. Raw calls, each made once:
//! whoever calls keeps the random id and calls again.

use grammers_tl_types as tl;

use super::account::Account;
use super::conversation::Button;
use super::conversation::Keyboard;
use super::conversation::Outgoing;
use super::errors::TelegramError;
use super::text::Text;

impl Account {
    /// Sends a message (`messages.sendMessage`) and returns its id. `None`: Telegram has it already from an earlier
    /// call with this random id, or does not say; the id comes with [`AccountEvent::Sent`](super::AccountEvent::Sent).
    ///
    /// # Errors
    /// [`TelegramError::PeerUnreachable`]: never this way. [`TelegramError::FloodWait`]: later. After
    /// [`TelegramError::Unreachable`] it is not known whether the message was sent: call again with the same random id.
    pub async fn send(&self, message: &Outgoing) -> Result<Option<i32>, TelegramError> {
        let sent = match self.send_once(message, message.reply_to).await {
            // Nothing was sent, so the random id is still good.
            Err(TelegramError::MessageGone) if message.reply_to.is_some() => {
                self.send_once(message, None).await
            }
            sent => sent,
        };
        match sent {
            Err(TelegramError::AlreadyDone) => Ok(None),
            sent => sent,
        }
    }

    async fn send_once(
        &self,
        message: &Outgoing,
        reply_to: Option<i32>,
    ) -> Result<Option<i32>, TelegramError> {
        let reply_to = reply_to.map(|reply_to_msg_id| {
            tl::enums::InputReplyTo::Message(tl::types::InputReplyToMessage {
                reply_to_msg_id,
                top_msg_id: None,
                reply_to_peer_id: None,
                quote_text: None,
                quote_entities: None,
                quote_offset: None,
                monoforum_peer_id: None,
                todo_item_id: None,
                poll_option: None,
            })
        });
        let request = tl::functions::messages::SendMessage {
            // What is quoted of an app is not to fetch a page of its own.
            no_webpage: true,
            silent: false,
            background: false,
            clear_draft: false,
            noforwards: false,
            update_stickersets_order: false,
            invert_media: false,
            allow_paid_floodskip: false,
            peer: self.input_peer(message.to, message.access_hash),
            reply_to,
            message: message.text.as_str().to_owned(),
            random_id: message.random_id,
            reply_markup: markup(&message.keyboard),
            entities: message.text.entities(),
            schedule_date: None,
            schedule_repeat_period: None,
            send_as: None,
            quick_reply_shortcut: None,
            effect: None,
            allow_paid_stars: None,
            suggested_post: None,
            rich_message: None,
        };
        Ok(sent_id(self.invoke(&request).await?, message.random_id))
    }

    /// Replaces text and buttons of a message of ours (`messages.editMessage`); without buttons it has none
    /// afterwards. A message that is so already counts as edited.
    ///
    /// # Errors
    /// [`TelegramError::MessageGone`]: there is nothing to edit any more.
    pub async fn edit(
        &self,
        to: i64,
        access_hash: i64,
        message_id: i32,
        text: &Text,
        buttons: &[Vec<Button>],
    ) -> Result<(), TelegramError> {
        let request = tl::functions::messages::EditMessage {
            no_webpage: true,
            invert_media: false,
            peer: self.input_peer(to, access_hash),
            id: message_id,
            message: Some(text.as_str().to_owned()),
            media: None,
            reply_markup: inline(buttons),
            entities: text.entities(),
            schedule_date: None,
            schedule_repeat_period: None,
            quick_reply_shortcut_id: None,
            rich_message: None,
        };
        match self.invoke(&request).await {
            Ok(_) | Err(TelegramError::AlreadyDone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Answers a tap (`messages.setBotCallbackAnswer`): the button stops waiting, and `text` is shown in passing, or
    /// in a box to be closed if `alert`.
    ///
    /// # Errors
    /// [`TelegramError::QueryExpired`]: it was answered already, or too long ago. Nothing is lost.
    pub async fn answer_tap(
        &self,
        query_id: i64,
        text: Option<&str>,
        alert: bool,
    ) -> Result<(), TelegramError> {
        let request = tl::functions::messages::SetBotCallbackAnswer {
            alert,
            query_id,
            message: text.map(str::to_owned),
            url: None,
            cache_time: 0,
        };
        self.invoke(&request).await.map(|_| ())
    }

    fn input_peer(&self, user_id: i64, access_hash: i64) -> tl::enums::InputPeer {
        let access_hash = match access_hash {
            0 => self.access_hash(user_id).unwrap_or(0),
            known => known,
        };
        tl::types::InputPeerUser { user_id, access_hash }.into()
    }
}

/// The id that the message with this random id got.
fn sent_id(answer: tl::enums::Updates, random_id: i64) -> Option<i32> {
    let updates = match answer {
        tl::enums::Updates::UpdateShortSentMessage(sent) => return Some(sent.id),
        tl::enums::Updates::Updates(updates) => updates.updates,
        tl::enums::Updates::Combined(updates) => updates.updates,
        tl::enums::Updates::UpdateShort(short) => vec![short.update],
        tl::enums::Updates::TooLong
        | tl::enums::Updates::UpdateShortMessage(_)
        | tl::enums::Updates::UpdateShortChatMessage(_) => return None,
    };
    updates.into_iter().find_map(|update| {
        let tl::enums::Update::MessageId(update) = update else {
            return None;
        };
        (update.random_id == random_id).then_some(update.id)
    })
}

fn markup(keyboard: &Keyboard) -> Option<tl::enums::ReplyMarkup> {
    match keyboard {
        Keyboard::None => None,
        Keyboard::Inline(rows) => inline(rows),
        Keyboard::RequestPhone { share, cancel } => {
            let button = |text: &String, r#type| {
                let button = tl::types::KeyboardButton { style: None, text: text.clone(), r#type };
                tl::types::KeyboardButtonRow { buttons: vec![button.into()] }.into()
            };
            let keyboard = tl::types::ReplyKeyboardMarkup {
                resize: true,
                single_use: true,
                selective: false,
                persistent: false,
                force_reply: false,
                rows: vec![
                    button(share, tl::enums::ButtonType::RequestPhone),
                    button(cancel, tl::enums::ButtonType::Default),
                ],
                placeholder: None,
            };
            Some(keyboard.into())
        }
        Keyboard::Hide => Some(tl::types::ReplyKeyboardHide { selective: false }.into()),
    }
}

fn inline(rows: &[Vec<Button>]) -> Option<tl::enums::ReplyMarkup> {
    let rows: Vec<tl::enums::KeyboardInlineButtonRow> = rows
        .iter()
        .filter(|row| !row.is_empty())
        .map(|row| tl::types::KeyboardInlineButtonRow { buttons: row.iter().map(button).collect() }.into())
        .collect();
    let markup = tl::types::ReplyInlineMarkup { force_reply: false, rows };
    (!markup.rows.is_empty()).then(|| markup.into())
}

fn button(button: &Button) -> tl::enums::KeyboardInlineButton {
    let (text, r#type) = match button {
        Button::Callback { text, data } => {
            let callback =
                tl::types::InlineButtonTypeCallback { requires_password: false, data: data.clone() };
            (text, callback.into())
        }
        Button::Url { text, url } => (text, tl::types::InlineButtonTypeUrl { url: url.clone() }.into()),
    };
    tl::types::KeyboardInlineButton { style: None, text: text.clone(), r#type }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_id(id: i32, random_id: i64) -> tl::enums::Update {
        tl::types::UpdateMessageId { id, random_id }.into()
    }

    #[test]
    fn the_id_of_a_sent_message_is_found_in_every_answer_that_has_it() {
        let updates = tl::types::Updates {
            updates: vec![message_id(4, 40), message_id(5, 50)],
            users: Vec::new(),
            chats: Vec::new(),
            date: 0,
            seq: 0,
        };
        assert_eq!(sent_id(updates.clone().into(), 50), Some(5));
        assert_eq!(sent_id(updates.into(), 60), None);
        let short = tl::types::UpdateShort { update: message_id(6, 60), date: 0 };
        assert_eq!(sent_id(short.into(), 60), Some(6));
        assert_eq!(sent_id(tl::enums::Updates::TooLong, 60), None);
        let sent = tl::types::UpdateShortSentMessage {
            out: true,
            id: 7,
            pts: 1,
            pts_count: 1,
            date: 0,
            media: None,
            entities: None,
            ttl_period: None,
        };
        assert_eq!(sent_id(sent.into(), 60), Some(7));
    }

    #[test]
    fn rows_without_buttons_are_no_keyboard() {
        assert!(inline(&[]).is_none() && inline(&[Vec::new()]).is_none());
        assert!(markup(&Keyboard::Inline(vec![Vec::new()])).is_none());
        let button = Button::Url { text: "open".to_owned(), url: "https://example.org".to_owned() };
        assert!(inline(&[Vec::new(), vec![button]]).is_some());
    }
}
