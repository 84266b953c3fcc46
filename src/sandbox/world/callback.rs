//! Presses of callback buttons (<https://core.telegram.org/api/bots/buttons#callback-queries>): from the person to the
//! bot and back. They live in memory only, and a bot that is not connected never learns of them.

use tokio::sync::oneshot;

use super::AccountId;
use super::Event;
use super::Refusal;
use super::World;

/// The longest text of an answer, characters.
const MAX_ANSWER: usize = 200;

/// What a bot answers to a press.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallbackAnswer {
    pub(crate) text: Option<String>,
    /// To be shown as a window that must be closed.
    pub(crate) alert: bool,
    pub(crate) url: Option<String>,
    pub(crate) cache_time: i32,
}

/// A press that waits for its answer.
#[derive(Debug)]
pub(crate) struct Press {
    pub(crate) query: i64,
    pub(crate) answer: oneshot::Receiver<CallbackAnswer>,
}

/// A press that a bot has not answered yet.
#[derive(Debug)]
pub(super) struct OpenPress {
    bot: AccountId,
    answer: oneshot::Sender<CallbackAnswer>,
}

/// A press as the bot is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallbackQuery {
    pub(crate) query: i64,
    pub(crate) bot: AccountId,
    pub(crate) person: AccountId,
    /// The bot's copy of the message.
    pub(crate) message: i32,
    pub(crate) chat_instance: i64,
    pub(crate) data: Vec<u8>,
}

impl World {
    /// A person presses the button with this data under a message of a bot's.
    pub(crate) fn press(&mut self, person: AccountId, message: i32, data: &[u8]) -> Result<Press, Refusal> {
        let (_, stored) = self.stored(person, message).ok_or(Refusal::MessageIdInvalid)?;
        let (bot, copy) = (stored.from, stored.sent);
        let has_button = stored.content.unpack().markup.is_some_and(|markup| markup.has_data(data));
        let copy = copy.filter(|_| bot != person).ok_or(Refusal::MessageIdInvalid)?;
        if !has_button {
            return Err(Refusal::DataInvalid);
        }
        let (answer, receiver) = oneshot::channel();
        let query = self.ids.int64();
        self.presses.insert(query, OpenPress { bot, answer });
        self.events.push(Event::Pressed(CallbackQuery {
            query,
            bot,
            person,
            message: copy.id,
            chat_instance: self.access_hash(person, bot),
            data: data.to_vec(),
        }));
        Ok(Press { query, answer: receiver })
    }

    /// `messages.setBotCallbackAnswer`. A press is answered once.
    pub(crate) fn answer_press(
        &mut self,
        bot: AccountId,
        query: i64,
        answer: CallbackAnswer,
    ) -> Result<(), Refusal> {
        if answer.text.as_ref().is_some_and(|text| text.chars().count() > MAX_ANSWER) {
            return Err(Refusal::MessageTooLong);
        }
        if self.presses.get(&query).is_none_or(|open| open.bot != bot) {
            return Err(Refusal::QueryIdInvalid);
        }
        let waited_for = self.presses.remove(&query).is_some_and(|open| open.answer.send(answer).is_ok());
        waited_for.then_some(()).ok_or(Refusal::QueryIdInvalid)
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn forget_press(&mut self, query: i64) {
        self.presses.remove(&query);
    }
}
