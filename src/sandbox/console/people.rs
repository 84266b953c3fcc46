//! The part of the control API that plays people: what they open, write, tap, forward, delete and block. They need no
//! device for it; a phone of their own would do the same.
#![expect(clippy::unused_async, reason = "poem-openapi takes async handlers only")]

use std::time::Duration;

use poem::Request;
use poem::http::header;
use poem_openapi::Object;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;

use crate::domain::clock::Timestamp;
use crate::sandbox::Sandbox;
use crate::sandbox::hub::Hub;
use crate::sandbox::world;
use crate::sandbox::world::AccountId;
use crate::sandbox::world::Button;
use crate::sandbox::world::Contact;
use crate::sandbox::world::Draft;
use crate::sandbox::world::Phone;
use crate::sandbox::world::Sender;
use crate::sandbox::world::World;
use crate::sandbox::world::WorldError;

use super::bodies::AccountBody;
use super::bodies::ChatBody;
use super::bodies::MessageBody;
use super::bodies::OkBody;
use super::bodies::chat_body;
use super::bodies::message_body;
use super::errors::Refusal;
use super::links::Link;
use super::links::Target;
use super::parse_phone;

/// A link that a person opens.
#[derive(Debug, Object)]
pub(super) struct OpenBody {
    /// `https://t.me/…`, `tg://resolve?…`, or an address of this sandbox.
    link: String,
}

/// Where a link has led to.
#[derive(Debug, Object)]
pub(super) struct OpenedBody {
    chat: ChatBody,
    /// The message that was sent, if the link said one.
    message_id: Option<i32>,
}

/// A message that a person writes.
#[derive(Debug, Object)]
pub(super) struct SendBody {
    /// A username, a phone number, or an id.
    to: serde_json::Value,
    /// May be left out when a contact is sent.
    text: Option<String>,
    /// The person's copy of the message to answer.
    reply_to: Option<i32>,
    /// Anybody's contact, also one that is not the person's own.
    contact: Option<CardBody>,
}

/// A contact to send.
#[derive(Debug, Object)]
pub(super) struct CardBody {
    phone: String,
    first_name: String,
    /// Whose it is said to be; found by the number unless stated.
    user_id: Option<i64>,
}

/// A button that a person taps.
#[derive(Debug, Object)]
pub(super) struct TapBody {
    message_id: i32,
    /// The button's text.
    button: String,
    /// How long the person waits for the bot's answer, seconds; 15 unless stated.
    #[oai(validator(minimum(value = "1"), maximum(value = "15")))]
    wait: Option<u64>,
}

/// What the tap of a button brought.
#[derive(Debug, Default, Object)]
pub(super) struct TappedBody {
    /// What the bot answers.
    answer: Option<String>,
    /// Whether the answer is a window that must be closed.
    alert: bool,
    /// The address that a url button opens.
    #[oai(skip_serializing_if_is_none)]
    url: Option<String>,
    /// The message that a button of a reply keyboard sent.
    #[oai(skip_serializing_if_is_none)]
    message_id: Option<i32>,
}

/// A message to forward.
#[derive(Debug, Object)]
pub(super) struct ForwardBody {
    message_id: i32,
    /// A username, a phone number, or an id.
    to: serde_json::Value,
}

/// A message to delete.
#[derive(Debug, Object)]
pub(super) struct DeleteBody {
    message_id: i32,
    /// Whether the other side loses it, too.
    for_everyone: Option<bool>,
}

/// Somebody to block, or to let in again.
#[derive(Debug, Object)]
pub(super) struct BlockBody {
    /// A username, a phone number, or an id.
    who: serde_json::Value,
    blocked: bool,
}

/// A username to have; none without one.
#[derive(Debug, Object)]
pub(super) struct UsernameBody {
    username: Option<String>,
}

#[derive(Debug)]
pub(super) struct People {
    pub(super) sandbox: Sandbox,
}

#[OpenApi]
impl People {
    /// Does what the person's app does with a link: `start` sends `/start …` to a bot, `text` sends the text. A bot
    /// that was blocked is let in again, as the app's button does.
    #[oai(path = "/api/accounts/:phone/open", method = "post")]
    async fn open(
        &self,
        phone: Path<String>,
        body: Json<OpenBody>,
        request: &Request,
    ) -> Result<Json<OpenedBody>, Refusal> {
        let phone = parse_phone(&phone.0)?;
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let link = Link::parse(&body.0.link, host)
            .ok_or_else(|| Refusal::invalid("this is not a link to a person or a bot"))?;
        let opened = self.play(&phone, |world, person, now| {
            let target = match &link.target {
                Target::Username(username) => world.by_username(username),
                Target::Phone(phone) => world.by_phone(phone).map(|account| account.id),
            };
            let chat = target.ok_or(WorldError::NoSuchAccount)?;
            let message_id = match (&link.start, &link.text) {
                (Some(parameter), _) if world.is_bot(chat) => {
                    world.block(person.account, chat, false)?;
                    Some(world.start(person, chat, parameter, None, now)?)
                }
                (_, Some(text)) if !text.is_empty() => {
                    let draft = Draft { text: text.clone(), ..Draft::default() };
                    Some(world.send(person, chat, draft, now)?)
                }
                (Some(_) | None, Some(_) | None) => None,
            };
            Ok(OpenedBody { chat: chat_body(world, chat), message_id })
        })?;
        Ok(Json(opened))
    }

    /// Writes to somebody. Answers the person's copy of the message.
    #[oai(path = "/api/accounts/:phone/send", method = "post")]
    async fn send(&self, phone: Path<String>, body: Json<SendBody>) -> Result<Json<MessageBody>, Refusal> {
        let phone = parse_phone(&phone.0)?;
        let SendBody { to, text, reply_to, contact } = body.0;
        let sent = self.play(&phone, |world, person, now| {
            let to = named(world, &to)?;
            let contact = contact.map(|card| card.contact(world)).transpose()?;
            let draft = Draft { text: text.unwrap_or_default(), reply_to, contact, ..Draft::default() };
            let id = world.send(person, to, draft, now)?;
            shown(world, person.account, id)
        })?;
        Ok(Json(sent))
    }

    /// Forwards a message. A keyboard stays on it only when it holds nothing but links.
    #[oai(path = "/api/accounts/:phone/forward", method = "post")]
    async fn forward(
        &self,
        phone: Path<String>,
        body: Json<ForwardBody>,
    ) -> Result<Json<MessageBody>, Refusal> {
        let phone = parse_phone(&phone.0)?;
        let forwarded = self.play(&phone, |world, person, now| {
            let to = named(world, &body.0.to)?;
            let id = world.forward(person, body.0.message_id, to, None, now)?;
            shown(world, person.account, id)
        })?;
        Ok(Json(forwarded))
    }

    /// Taps a button. Waits for the bot's answer when the button is one that it hears of.
    #[oai(path = "/api/accounts/:phone/tap", method = "post")]
    async fn tap(&self, phone: Path<String>, body: Json<TapBody>) -> Result<Json<TappedBody>, Refusal> {
        let phone = parse_phone(&phone.0)?;
        let TapBody { message_id, button, wait } = body.0;
        let tapped = self.play(&phone, |world, person, now| {
            let message =
                world.message(person.account, message_id).ok_or(world::Refusal::MessageIdInvalid)?;
            let button = message.content.markup.and_then(|markup| markup.find(&button));
            let draft = match button.ok_or_else(|| Refusal::not_found("no such button"))? {
                Button::Callback(data) => {
                    return Ok(Tapped::Waits(world.press(person.account, message_id, &data)?));
                }
                Button::Url(url) => {
                    return Ok(Tapped::Done(TappedBody { url: Some(url), ..TappedBody::default() }));
                }
                Button::Text(text) => Draft { text, ..Draft::default() },
                Button::RequestPhone => Draft {
                    contact: own_contact(world, person.account),
                    reply_to: Some(message_id),
                    ..Draft::default()
                },
            };
            let sent = world.send(person, message.chat, draft, now)?;
            Ok(Tapped::Done(TappedBody { message_id: Some(sent), ..TappedBody::default() }))
        })?;
        let press = match tapped {
            Tapped::Done(body) => return Ok(Json(body)),
            Tapped::Waits(press) => press,
        };
        let limit = wait.map_or(self.hub().limits.callback, Duration::from_secs);
        let answer = self.hub().answer_to(press, limit).await?;
        let body =
            TappedBody { answer: answer.text, alert: answer.alert, url: answer.url, ..TappedBody::default() };
        Ok(Json(body))
    }

    /// Deletes a message, on request for the other side as well.
    #[oai(path = "/api/accounts/:phone/delete", method = "post")]
    async fn delete(&self, phone: Path<String>, body: Json<DeleteBody>) -> Result<Json<OkBody>, Refusal> {
        let phone = parse_phone(&phone.0)?;
        let for_everyone = body.0.for_everyone.unwrap_or(false);
        self.play(&phone, |world, person, _| {
            let deleted = world.delete(person, &[body.0.message_id], for_everyone);
            (deleted > 0).then_some(()).ok_or_else(|| world::Refusal::MessageIdInvalid.into())
        })?;
        Ok(Json(OkBody { ok: true }))
    }

    /// Blocks somebody, or lets them in again.
    #[oai(path = "/api/accounts/:phone/block", method = "post")]
    async fn block(&self, phone: Path<String>, body: Json<BlockBody>) -> Result<Json<OkBody>, Refusal> {
        let phone = parse_phone(&phone.0)?;
        self.play(&phone, |world, person, _| {
            let who = named(world, &body.0.who)?;
            Ok(world.block(person.account, who, body.0.blocked)?)
        })?;
        Ok(Json(OkBody { ok: true }))
    }

    /// Gives the person another username, or none.
    #[oai(path = "/api/accounts/:phone/username", method = "post")]
    async fn username(
        &self,
        phone: Path<String>,
        body: Json<UsernameBody>,
    ) -> Result<Json<AccountBody>, Refusal> {
        let phone = parse_phone(&phone.0)?;
        let person = self.play(&phone, |world, person, now| {
            let username = body.0.username.as_deref().filter(|username| !username.is_empty());
            world.rename(person.account, username, None)?;
            let account = world.account(person.account).ok_or(WorldError::NoSuchAccount)?;
            Ok(AccountBody::of(world, account, now).ok_or(WorldError::NoSuchAccount)?)
        })?;
        Ok(Json(person))
    }
}

/// What a tap leads to.
enum Tapped {
    Done(TappedBody),
    Waits(world::Press),
}

impl People {
    fn hub(&self) -> &Hub {
        &self.sandbox.hub
    }

    /// Lets a person act.
    fn play<T>(
        &self,
        phone: &Phone,
        act: impl FnOnce(&mut World, Sender, Timestamp) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.hub().transact(|world, now| {
            let account = world.by_phone(phone).ok_or(WorldError::NoSuchAccount)?.id;
            act(world, Sender { account, device: None }, now)
        })?
    }
}

impl CardBody {
    fn contact(self, world: &World) -> Result<Contact, Refusal> {
        let phone = parse_phone(&self.phone)?;
        let owner = world.by_phone(&phone).map(|account| account.id);
        Ok(Contact {
            phone: phone.digits().to_owned(),
            first_name: self.first_name,
            last_name: String::new(),
            user: self.user_id.map(AccountId).or(owner),
        })
    }
}

fn own_contact(world: &World, person: AccountId) -> Option<Contact> {
    let account = world.account(person)?;
    Some(Contact {
        phone: account.phone()?.digits().to_owned(),
        first_name: account.first_name.clone(),
        last_name: account.last_name.clone().unwrap_or_default(),
        user: Some(person),
    })
}

fn shown(world: &World, owner: AccountId, id: i32) -> Result<MessageBody, Refusal> {
    let message = world.message(owner, id).ok_or(world::Refusal::MessageIdInvalid)?;
    Ok(message_body(world, owner.0, &message))
}

/// Whom a username, a number or an id names.
fn named(world: &World, who: &serde_json::Value) -> Result<AccountId, Refusal> {
    let by_id = |id: i64| world.account(AccountId(id)).map(|account| account.id);
    let by_phone = |written: &str| {
        Phone::parse(written).and_then(|phone| world.by_phone(&phone)).map(|account| account.id)
    };
    let found = match (who.as_i64(), who.as_str().map(str::trim)) {
        (Some(id), _) => by_id(id),
        (None, Some(written)) if written.starts_with('+') => by_phone(written),
        (None, Some(written)) => {
            let id = written.parse().ok().and_then(by_id);
            id.or_else(|| by_phone(written)).or_else(|| world.by_username(written.trim_start_matches('@')))
        }
        (None, None) => return Err(Refusal::invalid("a username, a phone number or an id is needed")),
    };
    Ok(found.ok_or(WorldError::NoSuchAccount)?)
}
