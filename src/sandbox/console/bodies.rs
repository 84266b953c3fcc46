//! The shapes of the control API's requests and answers.

use poem_openapi::Object;

use crate::sandbox::Bot;
use crate::sandbox::Person;
use crate::sandbox::world::Message;
use crate::sandbox::world::World;

/// A person to make.
#[derive(Debug, Object)]
pub(super) struct NewAccount {
    /// 7 to 15 digits, with or without a plus sign.
    pub(super) phone: String,
    pub(super) first_name: String,
    pub(super) last_name: Option<String>,
    pub(super) username: Option<String>,
    pub(super) two_factor_password: Option<String>,
    pub(super) lang_code: Option<String>,
    /// Data centre, 1 to 5; 2 unless stated.
    pub(super) dc: Option<i32>,
}

/// A person.
#[derive(Debug, Object)]
pub(super) struct AccountBody {
    pub(super) id: i64,
    pub(super) phone: String,
    pub(super) first_name: String,
    pub(super) last_name: Option<String>,
    pub(super) username: Option<String>,
    pub(super) dc: i32,
    pub(super) two_factor: bool,
}

impl From<Person> for AccountBody {
    fn from(person: Person) -> Self {
        Self {
            id: person.id,
            phone: person.phone,
            first_name: person.first_name,
            last_name: person.last_name,
            username: person.username,
            dc: person.dc,
            two_factor: person.two_factor,
        }
    }
}

/// A bot to make.
#[derive(Debug, Object)]
pub(super) struct NewBotBody {
    pub(super) username: String,
    pub(super) name: String,
    /// Data centre, 1 to 5; 2 unless stated.
    pub(super) dc: Option<i32>,
}

/// A bot.
#[derive(Debug, Object)]
pub(super) struct BotBody {
    pub(super) id: i64,
    pub(super) username: String,
    pub(super) name: String,
    pub(super) token: String,
    pub(super) dc: i32,
}

impl From<Bot> for BotBody {
    fn from(bot: Bot) -> Self {
        Self { id: bot.id, username: bot.username, name: bot.name, token: bot.token, dc: bot.dc }
    }
}

/// A login code.
#[derive(Object)]
pub(super) struct CodeBody {
    pub(super) code: String,
}

/// The other side of a conversation.
#[derive(Debug, Object)]
pub(super) struct ChatBody {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) username: Option<String>,
}

/// A button under a message.
#[derive(Debug, Object)]
pub(super) struct ButtonBody {
    pub(super) text: String,
    pub(super) kind: String,
}

/// An account's copy of a message.
#[derive(Debug, Object)]
pub(super) struct MessageBody {
    pub(super) id: i32,
    pub(super) chat: ChatBody,
    pub(super) from_id: i64,
    pub(super) out: bool,
    pub(super) text: String,
    pub(super) buttons: Vec<Vec<ButtonBody>>,
    /// Unix milliseconds.
    pub(super) date: i64,
    pub(super) edited: bool,
}

/// How far to move the clock.
#[derive(Debug, Object)]
pub(super) struct Advance {
    /// More than 0.
    #[oai(validator(minimum(value = "1"), maximum(value = "3153600000")))]
    pub(super) advance_seconds: u64,
}

/// Business time.
#[derive(Debug, Object)]
pub(super) struct NowBody {
    /// Unix milliseconds.
    pub(super) now: i64,
}

/// Done.
#[derive(Debug, Object)]
pub(super) struct OkBody {
    pub(super) ok: bool,
}

/// A method that was called.
#[derive(Debug, Object)]
pub(super) struct CallBody {
    pub(super) method: String,
    pub(super) count: u64,
    /// Whether the sandbox does not know it.
    pub(super) unknown: bool,
}

/// A data centre.
#[derive(Debug, Object)]
pub(super) struct DataCentreBody {
    pub(super) id: i32,
    pub(super) address: String,
}

/// What any MTProto client needs to join.
#[derive(Debug, Object)]
pub(super) struct ServerBody {
    pub(super) dcs: Vec<DataCentreBody>,
    /// PKCS#1 PEM.
    pub(super) rsa_public_key: String,
    pub(super) layer: i32,
}

/// Where a key is to be good.
#[derive(Debug, Object)]
pub(super) struct NewKeyBody {
    pub(super) dc: i32,
}

/// An authorisation key for a client that can set a key but no RSA key.
#[derive(Object)]
pub(super) struct KeyBody {
    pub(super) dc: i32,
    pub(super) address: String,
    /// 256 bytes in hexadecimal.
    pub(super) auth_key: String,
}

/// A message as its owner's phone shows it.
pub(super) fn message_body(world: &World, owner: i64, message: &Message) -> MessageBody {
    let chat = world.account(message.chat);
    MessageBody {
        id: message.id,
        chat: ChatBody {
            id: message.chat.0,
            name: chat.map(|chat| chat.first_name.clone()).unwrap_or_default(),
            username: chat.and_then(|chat| chat.username.clone()),
        },
        from_id: if message.out { owner } else { message.chat.0 },
        out: message.out,
        text: message.text.clone(),
        buttons: vec![],
        date: message.date.as_millis(),
        edited: false,
    }
}
