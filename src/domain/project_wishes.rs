//! What somebody asks of a project's settings, over HTTP or in a file, and the rules that it must keep. Whether Telegram
//! accepts a bot's token, and who may ask, is not known here.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::domain::bot_token::bot_id;
use crate::domain::ids::Secret;
use crate::domain::project::ClientTimestamps;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;
use crate::domain::project::SigningSecret;
use crate::domain::webhook_target::BadTarget;
use crate::domain::webhook_target::WebhookTarget;

/// The longest name of a project, characters, the most origins it may allow, and the longest of those, bytes.
const LONGEST_NAME: usize = 64;
const MOST_ORIGINS: usize = 50;
const LONGEST_ORIGIN: usize = 255;
/// The longest time that a replaced secret may still verify, seconds (contract, section 3: rotation).
const LONGEST_GRACE: u64 = 604_800;

/// What is asked, as it was written. `None` leaves a setting as it is; an empty text clears one that may be absent.
#[derive(Clone, Default)]
pub struct Wishes {
    /// Shown to people who sign in.
    pub name: Option<String>,
    /// Whether new sessions may be created.
    pub is_active: Option<bool>,
    /// The same by its other name.
    pub active: Option<bool>,
    /// Whether apps may call without the secret key.
    pub public_access: Option<bool>,
    /// Whether the phone number is asked for.
    pub req_phone: Option<bool>,
    /// Whether a number is shown that Telegram asks for.
    pub match_code: Option<bool>,
    /// Origins whose pages may call.
    pub allowed_origins: Option<Vec<String>>,
    /// `auto`, `iso8601` or `unix_ms`.
    pub client_timestamps: Option<String>,
    /// Where "back to the app" leads; may be cleared.
    pub return_url: Option<String>,
    /// Where events are sent; may be cleared.
    pub webhook_url: Option<String>,
    /// Whether `auth.expired` is sent too.
    pub webhook_expired: Option<bool>,
    /// The token of the project's own bot; may be cleared.
    pub bot_token: Option<Secret<String>>,
    /// A secret that apps hold already.
    pub secret_key: Option<Secret<String>>,
    /// How long the secret before it may still verify, seconds; 0 without a secret ends that now.
    pub grace_seconds: Option<u64>,
}

/// A wish that cannot be granted. The texts name the setting and never repeat what it holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWish {
    /// Empty, too long, or not visible.
    #[error("`name` has 1 to 64 visible characters")]
    Name,
    /// Two names of one setting disagree.
    #[error("`is_active` and `active` are the same setting: send one of them, or both alike")]
    Active,
    /// Too many, or not origins.
    #[error(
        "`allowed_origins` holds at most 50 origins such as https://shop.example, each of at most 255 bytes"
    )]
    Origins,
    /// None of the three.
    #[error("`client_timestamps` is auto, iso8601 or unix_ms")]
    ClientTimestamps,
    /// Not a link for a button.
    #[error("`return_url` is an https URL")]
    ReturnUrl,
    /// A target that can never be allowed, and why.
    #[error(transparent)]
    WebhookUrl(#[from] BadTarget),
    /// Not the form of a token.
    #[error("`bot_token` looks like 123456789:AbCdEf…, as @BotFather gives it")]
    BotToken,
    /// Too short, too long, or not printable ASCII, or white at an end.
    #[error("`secret_key` has 32 to 256 printable ASCII characters, and no space at either end")]
    SecretKey,
    /// Out of range.
    #[error("`grace_seconds` is 0 to 604800")]
    Grace,
    /// There is nothing to be graceful about.
    #[error("`grace_seconds` goes with a new secret; alone it may be 0, which ends a grace")]
    GraceAlone,
}

/// Wishes that keep the rules.
#[derive(Clone)]
pub struct Change {
    wishes: Wishes,
    client_timestamps: Option<ClientTimestamps>,
}

impl fmt::Debug for Wishes {
    /// The target of a webhook can hold a secret in its path.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Wishes").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Change").field(&self.wishes).finish()
    }
}

/// A project that a file asks for (`CONNECTOR_PROJECTS`).
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its name in the API.
    pub id: ProjectId,
    /// Its settings.
    pub change: Change,
}

impl Wishes {
    /// The wishes as a change, where all of them keep the rules.
    ///
    /// # Errors
    /// All that do not; at least one.
    pub fn checked(mut self, webhook_allow: &[IpNet]) -> Result<Change, Vec<BadWish>> {
        let mut bad = Vec::new();
        let mut refuse_if = |refused: bool, why: BadWish| {
            if refused {
                bad.push(why);
            }
        };
        let trimmed = |text: &mut Option<String>| {
            if let Some(text) = text {
                *text = text.trim().to_owned();
            }
        };
        trimmed(&mut self.name);
        trimmed(&mut self.webhook_url);
        trimmed(&mut self.return_url);
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let secret = |text: &Option<Secret<String>>| text.clone().filter(|text| !text.reveal().is_empty());

        refuse_if(self.name.as_deref().is_some_and(|name| !is_visible(name)), BadWish::Name);
        let contradiction = matches!((self.is_active, self.active), (Some(one), Some(other)) if one != other);
        refuse_if(contradiction, BadWish::Active);
        let origins = self.allowed_origins.as_deref().unwrap_or_default();
        let foreign = origins.len() > MOST_ORIGINS || !origins.iter().all(|origin| is_origin(origin));
        refuse_if(foreign, BadWish::Origins);
        let (client_timestamps, unknown) = match self.client_timestamps.as_deref() {
            None => (None, false),
            Some(name) => {
                let known = ClientTimestamps::named(name);
                (known, known.is_none())
            }
        };
        refuse_if(unknown, BadWish::ClientTimestamps);
        refuse_if(filled(&self.return_url).is_some_and(|url| !is_https(&url)), BadWish::ReturnUrl);
        let target = filled(&self.webhook_url).map(|url| WebhookTarget::parse(&url, webhook_allow));
        if let Some(Err(why)) = target {
            refuse_if(true, why.into());
        }
        refuse_if(secret(&self.bot_token).is_some_and(|token| bot_id(&token).is_err()), BadWish::BotToken);
        let weak = self.secret_key.as_ref().is_some_and(|key| !SigningSecret::is_strong(key.reveal()));
        refuse_if(weak, BadWish::SecretKey);
        refuse_if(self.grace_seconds.is_some_and(|grace| grace > LONGEST_GRACE), BadWish::Grace);
        let grace_alone = self.grace_seconds.is_some_and(|grace| grace > 0) && self.secret_key.is_none();
        refuse_if(grace_alone, BadWish::GraceAlone);
        if bad.is_empty() { Ok(Change { wishes: self, client_timestamps }) } else { Err(bad) }
    }
}

/// How long a replaced secret may still verify.
///
/// # Errors
/// [`BadWish::Grace`].
pub fn grace(seconds: Option<u64>) -> Result<Duration, BadWish> {
    let seconds = seconds.unwrap_or(0);
    (seconds <= LONGEST_GRACE).then_some(Duration::from_secs(seconds)).ok_or(BadWish::Grace)
}

impl Change {
    /// What the project is to be called, where that is asked.
    pub fn name(&self) -> Option<&str> {
        self.wishes.name.as_deref()
    }

    /// The token of the bot it is to have; empty: none.
    pub const fn bot_token(&self) -> Option<&Secret<String>> {
        self.wishes.bot_token.as_ref()
    }

    /// The secret it is to have, and how long the one before it may still verify.
    pub fn secret_key(&self) -> Option<(&Secret<String>, Duration)> {
        let grace = Duration::from_secs(self.wishes.grace_seconds.unwrap_or(0));
        self.wishes.secret_key.as_ref().map(|key| (key, grace))
    }

    /// Without the webhook's address, where that is the project's already: to write it again would switch it on again.
    #[must_use]
    pub fn without_same_webhook(mut self, project: &Project) -> Self {
        let present = project.settings.webhook_url.as_deref().unwrap_or_default();
        self.wishes.webhook_url = self.wishes.webhook_url.filter(|url| url != present);
        self
    }

    /// Changes all settings but the bot and the secret.
    pub fn apply(&self, project: &mut Project) {
        fn set<T: Clone>(place: &mut T, wish: Option<&T>) {
            if let Some(wish) = wish {
                wish.clone_into(place);
            }
        }
        fn set_or_clear(place: &mut Option<String>, wish: Option<&String>) {
            if let Some(wish) = wish {
                *place = Some(wish.clone()).filter(|text| !text.is_empty());
            }
        }
        let (wishes, settings) = (&self.wishes, &mut project.settings);
        set(&mut settings.name, wishes.name.as_ref());
        set(&mut settings.active, wishes.is_active.or(wishes.active).as_ref());
        set(&mut settings.public_access, wishes.public_access.as_ref());
        set(&mut settings.req_phone, wishes.req_phone.as_ref());
        set(&mut settings.match_code, wishes.match_code.as_ref());
        set(&mut settings.allowed_origins, wishes.allowed_origins.as_ref());
        set(&mut settings.client_timestamps, self.client_timestamps.as_ref());
        set_or_clear(&mut settings.return_url, wishes.return_url.as_ref());
        set_or_clear(&mut settings.webhook_url, wishes.webhook_url.as_ref());
        set(&mut settings.webhook_expired, wishes.webhook_expired.as_ref());
        if wishes.webhook_url.is_some() {
            project.webhook_disabled = None;
        }
        if wishes.grace_seconds == Some(0) && wishes.secret_key.is_none() {
            project.retiring = None;
        }
    }
}

fn is_visible(name: &str) -> bool {
    // What cannot be seen, or turns text round, could rewrite a prompt.
    (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.chars().any(is_deceptive)
}

/// Controls and Unicode's default-ignorable code points (but for the variation selectors of emoji).
const fn is_deceptive(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0d}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Scheme, host, perhaps a port, and nothing else (RFC 6454).
fn is_origin(text: &str) -> bool {
    let parsed = (text.len() <= LONGEST_ORIGIN).then(|| Url::parse(text).ok()).flatten();
    parsed.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.origin().ascii_serialization().eq_ignore_ascii_case(text)
    })
}

fn is_https(text: &str) -> bool {
    // Telegram takes a link under a button only to a host that others can reach, without a user's name in it.
    let reachable = |url: &Url| match url.host() {
        Some(url::Host::Domain(name)) => name.trim_end_matches('.').contains('.'),
        Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => true,
        None => false,
    };
    let plain = |url: &Url| url.username().is_empty() && url.password().is_none();
    text.len() <= 2048
        && Url::parse(text).is_ok_and(|url| url.scheme() == "https" && reachable(&url) && plain(&url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::Mode;
    use crate::domain::clock::Timestamp;
    use crate::domain::developer::DeveloperId;
    use crate::domain::ids::Ids;
    use crate::domain::project::ProjectSettings;

    #[test]
    fn all_that_is_wrong_is_said_and_nothing_of_what_it_holds() {
        let wishes = Wishes {
            name: Some(" ".to_owned()),
            is_active: Some(true),
            active: Some(false),
            allowed_origins: Some(vec!["https://shop.example/planted".to_owned()]),
            client_timestamps: Some("planted".to_owned()),
            return_url: Some("http://shop.example/planted".to_owned()),
            webhook_url: Some("planted".to_owned()),
            bot_token: Some(Secret::new("planted".to_owned())),
            secret_key: Some(Secret::new("planted".to_owned())),
            grace_seconds: Some(604_801),
            ..Wishes::default()
        };
        assert!(!format!("{:?}", wishes.bot_token).contains("planted"));
        let bad = wishes.checked(&[]).unwrap_err();
        assert_eq!(bad.len(), 9, "{bad:?}");
        assert!(!format!("{bad:?}").contains("planted"), "{bad:?}");
        let alone = Wishes { grace_seconds: Some(1), ..Wishes::default() };
        assert_eq!(alone.checked(&[]).unwrap_err(), [BadWish::GraceAlone]);
        assert!(Wishes::default().checked(&[]).is_ok());
    }
    #[test]
    fn a_webhook_that_is_set_is_switched_on_and_one_that_a_file_repeats_stays_off() {
        let ids = Ids::from_seed([1; 32]);
        let url = "https://shop.example/hook".to_owned();
        let settings =
            ProjectSettings { webhook_url: Some(url.clone()), ..ProjectSettings::named("Shop".into()) };
        let secret = SigningSecret::new(Mode::Sandbox, &ids);
        let (id, owner) = (ProjectId::new(&ids), DeveloperId::new(&ids));
        let mut off = Project::new(id, owner, secret, settings, Timestamp::from_millis(0));
        off.webhook_disabled = Some("410".to_owned());
        let after = |change: Change| {
            let mut project = off.clone();
            change.apply(&mut project);
            project.webhook_disabled
        };
        let same = || Wishes { webhook_url: Some(url.clone()), ..Wishes::default() }.checked(&[]).unwrap();
        assert_eq!(after(same()), None, "the same address again");
        assert!(after(same().without_same_webhook(&off)).is_some());
        let other = Wishes { webhook_url: Some("https://shop.example/new".into()), ..Wishes::default() };
        assert_eq!(after(other.checked(&[]).unwrap().without_same_webhook(&off)), None);
        let nothing = Wishes { name: Some("Shop 2".into()), ..Wishes::default() };
        assert!(after(nothing.checked(&[]).unwrap()).is_some(), "absent leaves it");
    }
}
