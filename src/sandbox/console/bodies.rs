//! The shapes of the control API's requests and answers.

use poem_openapi::Object;

use crate::domain::clock::Timestamp;
use crate::sandbox::Bot;
use crate::sandbox::Person;
use crate::sandbox::world::Account;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::Contact;
use crate::sandbox::world::Entity;
use crate::sandbox::world::InlineAction;
use crate::sandbox::world::Look;
use crate::sandbox::world::Markup;
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
    /// The newest unused login code, however it was sent.
    pub(super) login_code: Option<String>,
    /// Ids of those from whom the person wants nothing.
    pub(super) blocked: Vec<i64>,
}

impl AccountBody {
    /// A person at a time; `None` for a bot.
    pub(super) fn of(world: &World, account: &Account, now: Timestamp) -> Option<Self> {
        let person = Person::of(account)?;
        Some(Self {
            id: person.id,
            phone: person.phone,
            first_name: person.first_name,
            last_name: person.last_name,
            username: person.username,
            dc: person.dc,
            two_factor: person.two_factor,
            login_code: account.phone().and_then(|phone| world.newest_code(phone, now)),
            blocked: world.blocked_by(account.id).map(|other| other.0).collect(),
        })
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

/// A button under a message, or of the keyboard that it brings.
#[derive(Debug, Object)]
pub(super) struct ButtonBody {
    pub(super) text: String,
    /// `callback`, `url`, `request_phone` or `text`.
    pub(super) kind: String,
}

impl ButtonBody {
    fn new(text: &str, kind: &str) -> Self {
        Self { text: text.to_owned(), kind: kind.to_owned() }
    }
}

/// An account's copy of a message.
#[derive(Debug, Object)]
pub(super) struct MessageBody {
    pub(super) id: i32,
    pub(super) chat: ChatBody,
    pub(super) from_id: i64,
    pub(super) out: bool,
    pub(super) text: String,
    /// Parts of the text that are shown in another way.
    #[oai(skip_serializing_if_is_empty)]
    pub(super) entities: Vec<EntityBody>,
    pub(super) buttons: Vec<Vec<ButtonBody>>,
    /// What becomes of the keyboard in place of typing: `shown` (until another comes), `one_time` (until it is used) or
    /// `removed`.
    pub(super) keyboard: Option<String>,
    /// Unix milliseconds.
    pub(super) date: i64,
    pub(super) edited: bool,
    /// The message that this one answers.
    pub(super) reply_to: Option<i32>,
    /// A contact that was sent.
    pub(super) contact: Option<ContactBody>,
    pub(super) forwarded: bool,
}

/// A part of a text. Offset and length count UTF-16 code units, as Telegram does.
#[derive(Debug, Object)]
pub(super) struct EntityBody {
    /// `code`, `bold` or `italic`.
    #[oai(rename = "type")]
    pub(super) kind: String,
    pub(super) offset: i32,
    pub(super) length: i32,
}

impl EntityBody {
    fn of(entity: &Entity) -> Self {
        let kind = match entity.look {
            Look::Code => "code",
            Look::Bold => "bold",
            Look::Italic => "italic",
        };
        Self { kind: kind.to_owned(), offset: entity.offset, length: entity.length }
    }
}

/// Somebody's card.
#[derive(Debug, Object)]
pub(super) struct ContactBody {
    /// With a plus sign.
    pub(super) phone: String,
    pub(super) first_name: String,
    pub(super) user_id: Option<i64>,
}

impl ContactBody {
    fn of(contact: &Contact) -> Self {
        Self {
            phone: format!("+{}", contact.phone),
            first_name: contact.first_name.clone(),
            user_id: contact.user.map(|user| user.0),
        }
    }
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

/// Which state of the world this is.
#[derive(Debug, Object)]
pub(super) struct VersionBody {
    /// Another number after every change, also across restarts.
    pub(super) version: u64,
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
    MessageBody {
        id: message.id,
        chat: chat_body(world, message.chat),
        from_id: if message.out { owner } else { message.chat.0 },
        out: message.out,
        text: message.content.text.clone(),
        entities: message.content.entities.iter().map(EntityBody::of).collect(),
        buttons: buttons(message),
        keyboard: keyboard(message).map(str::to_owned),
        date: message.date.as_millis(),
        edited: message.edited.is_some(),
        reply_to: message.reply_to,
        contact: message.content.contact.as_ref().map(ContactBody::of),
        forwarded: message.content.forwarded.is_some(),
    }
}

fn keyboard(message: &Message) -> Option<&'static str> {
    match &message.content.markup {
        Some(Markup::Keyboard(keyboard)) => Some(if keyboard.one_time { "one_time" } else { "shown" }),
        Some(Markup::Hide) => Some("removed"),
        Some(Markup::Inline(_)) | None => None,
    }
}

fn buttons(message: &Message) -> Vec<Vec<ButtonBody>> {
    match &message.content.markup {
        Some(Markup::Inline(rows)) => rows
            .iter()
            .map(|row| {
                let kind = |action: &InlineAction| match action {
                    InlineAction::Callback(_) => "callback",
                    InlineAction::Url(_) => "url",
                };
                row.iter().map(|button| ButtonBody::new(&button.text, kind(&button.action))).collect()
            })
            .collect(),
        Some(Markup::Keyboard(keyboard)) => keyboard
            .rows
            .iter()
            .map(|row| {
                let kind = |request_phone| if request_phone { "request_phone" } else { "text" };
                row.iter().map(|button| ButtonBody::new(&button.text, kind(button.request_phone))).collect()
            })
            .collect(),
        Some(Markup::Hide) | None => vec![],
    }
}

/// The other side of a conversation, as it is called.
pub(super) fn chat_body(world: &World, chat: AccountId) -> ChatBody {
    let account = world.account(chat);
    ChatBody {
        id: chat.0,
        name: account.map(|account| account.first_name.clone()).unwrap_or_default(),
        username: account.and_then(|account| account.username.clone()),
    }
}
