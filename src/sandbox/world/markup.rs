//! What a bot puts under a message: inline buttons, reply keyboards, or their end
//! (<https://core.telegram.org/api/bots/buttons>). Which are good, and which button is meant.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;
use url::Host;
use url::Url;

use super::Refusal;

/// The most bytes that a callback button may carry.
const MAX_DATA: usize = 64;
/// The most buttons under one message.
const MAX_BUTTONS: usize = 100;
/// The longest text of a button, and the longest address, characters.
const MAX_TEXT: usize = 256;
const MAX_URL: usize = 2048;

/// Under a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Markup {
    #[serde(rename = "i")]
    Inline(Vec<Vec<InlineButton>>),
    #[serde(rename = "k")]
    Keyboard(Keyboard),
    /// Takes an earlier keyboard away.
    #[serde(rename = "h")]
    Hide,
}

/// A button that belongs to its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InlineButton {
    #[serde(rename = "t")]
    pub(crate) text: String,
    #[serde(rename = "a")]
    pub(crate) action: InlineAction,
}

/// What pressing an inline button does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InlineAction {
    /// The bot is told, with this data.
    #[serde(rename = "c", serialize_with = "write_data", deserialize_with = "read_data")]
    Callback(Vec<u8>),
    /// The app opens an address; the bot does not learn of it.
    #[serde(rename = "u")]
    Url(String),
}

/// Buttons in place of the keyboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keyboard {
    #[serde(rename = "r")]
    pub(crate) rows: Vec<Vec<KeyboardButton>>,
    #[serde(rename = "s", default)]
    pub(crate) resize: bool,
    #[serde(rename = "o", default)]
    pub(crate) one_time: bool,
}

/// A button that sends something when pressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyboardButton {
    #[serde(rename = "t")]
    pub(crate) text: String,
    /// Sends the person's own contact instead of the text.
    #[serde(rename = "p", default)]
    pub(crate) request_phone: bool,
}

/// A button that somebody found by its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Button {
    Callback(Vec<u8>),
    Url(String),
    RequestPhone,
    Text(String),
}

impl Markup {
    /// Whether Telegram would take it.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let counts: Vec<usize> = match self {
            Self::Inline(rows) => rows.iter().map(Vec::len).collect(),
            Self::Keyboard(keyboard) => keyboard.rows.iter().map(Vec::len).collect(),
            Self::Hide => return Ok(()),
        };
        if counts.is_empty() || counts.contains(&0) {
            return Err(Refusal::MarkupInvalid);
        }
        if counts.iter().sum::<usize>() > MAX_BUTTONS {
            return Err(Refusal::MarkupTooLong);
        }
        match self {
            Self::Inline(rows) => rows.iter().flatten().try_for_each(InlineButton::check),
            Self::Keyboard(keyboard) => {
                keyboard.rows.iter().flatten().try_for_each(|button| check_text(&button.text))
            }
            Self::Hide => Ok(()),
        }
    }

    /// Whether one of the buttons carries this data.
    pub(crate) fn has_data(&self, data: &[u8]) -> bool {
        let Self::Inline(rows) = self else { return false };
        rows.iter()
            .flatten()
            .any(|button| matches!(&button.action, InlineAction::Callback(own) if own.as_slice() == data))
    }

    /// The first button with this text.
    pub(crate) fn find(&self, text: &str) -> Option<Button> {
        match self {
            Self::Inline(rows) => {
                rows.iter().flatten().find(|button| button.text == text).map(|button| match &button.action {
                    InlineAction::Callback(data) => Button::Callback(data.clone()),
                    InlineAction::Url(url) => Button::Url(url.clone()),
                })
            }
            Self::Keyboard(keyboard) => {
                keyboard.rows.iter().flatten().find(|button| button.text == text).map(|button| {
                    if button.request_phone {
                        Button::RequestPhone
                    } else {
                        Button::Text(button.text.clone())
                    }
                })
            }
            Self::Hide => None,
        }
    }

    /// What is left of it on a forwarded message: a keyboard of nothing but links, or nothing (Bot API 4.3).
    pub(crate) fn forwarded(self) -> Option<Self> {
        let Self::Inline(rows) = &self else { return None };
        let only_links = rows.iter().flatten().all(|button| matches!(button.action, InlineAction::Url(_)));
        only_links.then_some(self)
    }
}

impl InlineButton {
    fn check(&self) -> Result<(), Refusal> {
        check_text(&self.text)?;
        match &self.action {
            InlineAction::Callback(data) => {
                (1..=MAX_DATA).contains(&data.len()).then_some(()).ok_or(Refusal::ButtonDataInvalid)
            }
            InlineAction::Url(url) => is_address(url).then_some(()).ok_or(Refusal::ButtonUrlInvalid),
        }
    }
}

fn check_text(text: &str) -> Result<(), Refusal> {
    let plausible = !text.trim().is_empty() && text.chars().count() <= MAX_TEXT;
    plausible.then_some(()).ok_or(Refusal::ButtonTextInvalid)
}

/// An address that Telegram opens: its own schemes, or a host with a dot in it. Without a scheme `http` is meant.
fn is_address(address: &str) -> bool {
    if address.len() > MAX_URL
        || address.chars().any(|character| character.is_whitespace() || character.is_control())
    {
        return false;
    }
    let url =
        if address.contains("://") { Url::parse(address) } else { Url::parse(&format!("http://{address}")) };
    url.is_ok_and(|url| match url.scheme() {
        "tg" | "ton" => url.host_str().is_some_and(|host| !host.is_empty()),
        "http" | "https" => match url.host() {
            Some(Host::Domain(name)) => name.trim_end_matches('.').contains('.'),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
            None => false,
        },
        _ => false,
    })
}

fn write_data<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD_NO_PAD.encode(data))
}

fn read_data<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)
}
