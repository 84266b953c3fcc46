//! Which Telegram a command is about, by which bot, where its data is kept unless somewhere else is named, and which networks
//! are meant.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use url::Url;

use super::Environment;
use crate::domain::bot_token::bot_id;
use crate::domain::ids::Secret;

/// Which Telegram the service joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TelegramChoice {
    /// Telegram itself.
    Telegram {
        /// `TELEGRAM_API_ID`.
        api_id: i32,
        /// `TELEGRAM_API_HASH`.
        api_hash: Secret<String>,
    },
    /// A sandbox inside this process.
    EmbeddedSandbox,
    /// A running sandbox.
    SandboxAt {
        /// Its control API.
        url: Url,
        /// `TELEGRAM_API_ID` and `TELEGRAM_API_HASH`, where set; a sandbox takes any.
        credentials: Option<(i32, Secret<String>)>,
    },
}

/// What `--sandbox` says, for every command that has it.
pub(super) enum SandboxFlag {
    Off,
    Embedded,
    At(Url),
}

/// Reads `--sandbox`; an empty variable is none.
pub(super) fn sandbox_flag(text: Option<&str>, problems: &mut Vec<String>) -> Option<SandboxFlag> {
    match text {
        None | Some("0" | "false" | "") => Some(SandboxFlag::Off),
        Some("1" | "true") => Some(SandboxFlag::Embedded),
        Some(url) => {
            let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            if parsed.is_none() {
                problems.push(format!("--sandbox={url} is neither empty nor the URL of a running sandbox"));
            }
            parsed.map(SandboxFlag::At)
        }
    }
}

impl Environment {
    /// `TELEGRAM_BOT_TOKEN`, if it has a token's form.
    pub(super) fn bot_token(&self, problems: &mut Vec<String>) -> Option<Secret<String>> {
        let token = self.secret("TELEGRAM_BOT_TOKEN", problems)?;
        if let Err(error) = bot_id(&token) {
            problems.push(format!("TELEGRAM_BOT_TOKEN: {error}"));
            return None;
        }
        Some(token)
    }
}

/// The data folder where none is named.
pub(super) fn default_data_dir(embedded: bool) -> PathBuf {
    if embedded { "./sandbox-data" } else { "./data" }.into()
}

/// Networks as `10.0.0.0/8`; a lone address is a network of one.
pub(super) fn networks(name: &str, texts: &[String], problems: &mut Vec<String>) -> Vec<IpNet> {
    let parse = |text: &String| {
        let text = text.trim();
        text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
    };
    let mut networks = Vec::new();
    for text in texts {
        match parse(text) {
            Some(network) => networks.push(network),
            None => problems.push(format!("{name}: {text} is not a network such as 10.0.0.0/8")),
        }
    }
    networks
}

/// Whether it leads to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
