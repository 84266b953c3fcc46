//! What Telegram leaves out when there is too much to tell (`updates.differenceTooLong`, or an update position that it
//! refuses): the private chats in which something has been written since are read again. Everything then comes through
//! the same door as any update, and some of it twice. Bots cannot do this: Telegram lets them read no history.

use std::collections::HashMap;

use grammers_tl_types as tl;

use super::account::Account;
use super::errors::TelegramError;
use super::watchdog::Waiting;

/// Chats that are read again at most, those with the newest messages first.
const MOST_CHATS: i32 = 50;
/// Messages of a chat that are read again at most, its newest.
const MOST_MESSAGES: i32 = 100;
/// How much older than the newest message of all something may be: nobody waits for an answer that long. The position's own
/// date is no bound, for it moves with few updates.
const LONGEST: i32 = 3_600;
/// How often one question that meets a flood is asked.
const MOST_QUESTIONS: u32 = 6;

/// A chat with a person.
struct Chat {
    user_id: i64,
    access_hash: i64,
}

impl Account {
    /// Reads again what was written in private chats from `since` on (Unix seconds, Telegram's), and returns when it is
    /// taken.
    ///
    /// # Errors
    /// Telegram cannot be reached: it has to be done again.
    pub(super) async fn reread(&self, since: i32) -> Result<(), TelegramError> {
        // Whoever is about to read so much is not dead.
        let _waiting = Waiting::new(&self.0.waiting);
        if self.live_session().is_bot() {
            tracing::error!(account = self.id(), "what people wrote to this bot meanwhile cannot be read");
            return Ok(());
        }
        if since <= 0 {
            return Ok(()); // everything there ever was is not what was left out
        }
        let Some((since, chats)) = self.changed_chats(since).await? else { return Ok(()) };
        tracing::warn!(account = self.id(), chats = chats.len(), "reading again what was left out");
        for chat in chats {
            let request = tl::functions::messages::GetHistory {
                peer: tl::types::InputPeerUser { user_id: chat.user_id, access_hash: chat.access_hash }
                    .into(),
                offset_id: 0,
                offset_date: 0,
                add_offset: 0,
                limit: MOST_MESSAGES,
                max_id: 0,
                min_id: 0,
                hash: 0,
            };
            let Some(history) = self.ask_patiently(&request).await? else { continue };
            let (messages, users) = contents(history);
            // They come newest first.
            let updates = messages
                .into_iter()
                .rev()
                .filter(|message| date(message) >= since)
                .map(|message| tl::types::UpdateNewMessage { message, pts: 0, pts_count: 0 }.into());
            self.take_in(updates.collect(), users).await?;
        }
        Ok(())
    }

    /// From when on it is worth reading, and people in whose chats the newest message is not older; `None` when Telegram
    /// does not say.
    async fn changed_chats(&self, since: i32) -> Result<Option<(i32, Vec<Chat>)>, TelegramError> {
        let request = tl::functions::messages::GetDialogs {
            exclude_pinned: false,
            folder_id: None,
            offset_date: 0,
            offset_id: 0,
            offset_peer: tl::enums::InputPeer::Empty,
            limit: MOST_CHATS,
            hash: 0,
        };
        let (dialogs, messages, users) = match self.ask_patiently(&request).await? {
            Some(tl::enums::messages::Dialogs::Dialogs(all)) => (all.dialogs, all.messages, all.users),
            Some(tl::enums::messages::Dialogs::Slice(some)) => (some.dialogs, some.messages, some.users),
            Some(tl::enums::messages::Dialogs::NotModified(_)) | None => return Ok(None),
        };
        let since = messages.iter().map(date).max().map_or(since, |newest| since.max(newest - LONGEST));
        let newest: HashMap<i64, i32> =
            messages.iter().filter_map(|message| Some((person(message)?, date(message)))).collect();
        let hashes: HashMap<i64, i64> = users.iter().filter_map(access_hash).collect();
        let changed = |dialog: &tl::enums::Dialog| {
            let tl::enums::Dialog::Dialog(dialog) = dialog else { return None };
            let tl::enums::Peer::User(peer) = &dialog.peer else { return None };
            let access_hash = *hashes.get(&peer.user_id)?;
            (*newest.get(&peer.user_id)? >= since).then_some(Chat { user_id: peer.user_id, access_hash })
        };
        Ok(Some((since, dialogs.iter().filter_map(changed).collect())))
    }

    /// Waits floods out; `None` when Telegram does not want to answer this.
    async fn ask_patiently<R: tl::RemoteCall + Sync>(
        &self,
        request: &R,
    ) -> Result<Option<R::Return>, TelegramError> {
        for _ in 0..MOST_QUESTIONS {
            match self.invoke(request).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(error @ (TelegramError::Unreachable(_) | TelegramError::SignedOut(_))) => {
                    return Err(error);
                }
                Err(TelegramError::FloodWait(wait)) => {
                    tracing::warn!(wait_s = wait.as_secs(), "what was left out is read after the flood");
                    crate::lifecycle::network_sleep(wait).await;
                }
                Err(error) => {
                    tracing::error!(account = self.id(), %error, "something that was left out stays unread");
                    return Ok(None);
                }
            }
        }
        tracing::error!(account = self.id(), "something that was left out stays unread, for floods");
        Ok(None)
    }
}

fn contents(history: tl::enums::messages::Messages) -> (Vec<tl::enums::Message>, Vec<tl::enums::User>) {
    match history {
        tl::enums::messages::Messages::Messages(all) => (all.messages, all.users),
        tl::enums::messages::Messages::Slice(some) => (some.messages, some.users),
        tl::enums::messages::Messages::ChannelMessages(some) => (some.messages, some.users),
        tl::enums::messages::Messages::NotModified(_) => (Vec::new(), Vec::new()),
    }
}

/// Of a person with whom a chat is worth reading: no bot, and one who can be named.
fn access_hash(user: &tl::enums::User) -> Option<(i64, i64)> {
    let tl::enums::User::User(user) = user else { return None };
    let hash = user.access_hash.filter(|_| !user.min && !user.bot && !user.is_self)?;
    Some((user.id, hash))
}

/// In whose private chat a message is.
fn person(message: &tl::enums::Message) -> Option<i64> {
    let tl::enums::Message::Message(message) = message else { return None };
    let tl::enums::Peer::User(peer) = &message.peer_id else { return None };
    Some(peer.user_id)
}

/// Unix seconds; 0 for what is no message.
const fn date(message: &tl::enums::Message) -> i32 {
    match message {
        tl::enums::Message::Message(message) => message.date,
        tl::enums::Message::Service(message) => message.date,
        tl::enums::Message::Empty(_) => 0,
    }
}
