//! A project: an app that people sign in to, its signing secret and its settings. What may be asked of it over HTTP is in
//! `http`; who owns it is a `Developer`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::account::Mode;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::Failing;
use crate::domain::developer::DeveloperId;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;
use crate::domain::ids::revealed;

/// Names a project: `proj_` and 1 to 59 of `A-Za-z0-9_-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectId(String);

impl ProjectId {
    /// A fresh id.
    pub fn new(ids: &Ids) -> Self {
        Self(format!("proj_{}", ids.base62(16)))
    }

    /// Reads an id; `None` when it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("proj_")?;
        let plausible = (1..=59).contains(&rest.len())
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        plausible.then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The secret that signs a project's proofs and authenticates its server (contract, section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningSecret {
    #[serde(with = "revealed")]
    key: Secret<String>,
    /// Names it in the header of proofs (RFC 7515, `kid`) without telling it.
    pub key_id: String,
    /// Whether it is one of ours, all of it random. Of what was brought any part may tell the rest.
    #[serde(default)]
    ours: bool,
}

/// Too short, too long, or not printable ASCII, or white at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret key has 32 to 256 printable ASCII characters, and no space at either end")]
pub struct WeakSecret;

impl SigningSecret {
    /// A fresh secret: `sk_live_…`, in a sandbox `sk_test_…`.
    pub fn new(mode: Mode, ids: &Ids) -> Self {
        let prefix = match mode {
            Mode::Telegram => "sk_live_",
            Mode::Sandbox => "sk_test_",
        };
        Self { key: Secret::new(format!("{prefix}{}", ids.base62(43))), key_id: ids.base62(8), ours: true }
    }

    /// A secret that apps hold already.
    ///
    /// # Errors
    /// [`WeakSecret`].
    pub fn brought(key: String, ids: &Ids) -> Result<Self, WeakSecret> {
        let strong = Self::is_strong(&key);
        strong.then(|| Self { key: Secret::new(key), key_id: ids.base62(8), ours: false }).ok_or(WeakSecret)
    }

    /// Whether a text may be a secret.
    pub fn is_strong(key: &str) -> bool {
        // A space at an end would not survive a header or a file.
        let printable = key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        (32..=256).contains(&key.len()) && printable && key.trim() == key
    }

    /// The secret itself: the whole string is the HMAC key (protocol, section 4.1).
    pub fn reveal(&self) -> &str {
        self.key.reveal()
    }

    /// Whether this is it, in constant time.
    pub fn is(&self, presented: &str) -> bool {
        self.key.is(presented)
    }

    /// For lists: a prefix that everybody knows, and the last four characters.
    pub fn masked(&self) -> String {
        let key = self.key.reveal();
        let known = ["sk_live_", "sk_test_", "whsec_"];
        let prefix = known.into_iter().find(|prefix| key.starts_with(prefix)).unwrap_or_default();
        format!("{prefix}••••••••{}", key.get(key.len().saturating_sub(4)..).unwrap_or_default())
    }

    /// For lists: the first twelve characters of one of ours, else as [`SigningSecret::masked`].
    pub fn preview(&self) -> String {
        let start = self.key.reveal().get(..12).filter(|_| self.ours);
        start.map_or_else(|| self.masked(), str::to_owned)
    }
}

/// How a confirmed poll writes its times (contract, section 3: `client_timestamps`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientTimestamps {
    /// Integers for Dart's HTTP client, ISO 8601 for everybody else.
    #[default]
    Auto,
    /// ISO 8601.
    #[serde(rename = "iso8601")]
    Iso8601,
    /// Unix milliseconds.
    UnixMs,
}

impl ClientTimestamps {
    const NAMES: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("iso8601", Self::Iso8601), ("unix_ms", Self::UnixMs)];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Iso8601 => "iso8601",
            Self::UnixMs => "unix_ms",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, one)| one)
    }
}

/// A project's own bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectBot {
    /// Telegram's user id.
    pub id: i64,
    /// What it signs in with.
    #[serde(with = "revealed")]
    pub token: Secret<String>,
}

/// What a project's owner may choose.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the API")]
pub struct ProjectSettings {
    /// Shown in prompts; never empty.
    pub name: String,
    /// Whether new sessions may be created.
    pub active: bool,
    /// Whether apps may create and poll sessions without the secret key.
    pub public_access: bool,
    /// Whether the phone number is asked for.
    pub req_phone: bool,
    /// Whether the browser shows a number that Telegram asks for.
    pub match_code: bool,
    /// Origins whose pages may call; empty: all.
    pub allowed_origins: Vec<String>,
    /// How a confirmed poll writes its times.
    pub client_timestamps: ClientTimestamps,
    /// Where "back to the app" leads, https.
    pub return_url: Option<String>,
    /// The project's own bot.
    pub bot: Option<ProjectBot>,
    /// Where events are sent; `None`: nowhere.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// Whether `auth.expired` is sent too.
    #[serde(default)]
    pub webhook_expired: bool,
}

impl fmt::Debug for ProjectSettings {
    /// The target of a webhook can hold a secret in its path.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ProjectSettings").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ProjectSettings {
    /// The settings of a new project (contract, section 3).
    pub fn named(name: String) -> Self {
        Self {
            name,
            active: true,
            public_access: true,
            req_phone: false,
            match_code: false,
            allowed_origins: Vec::new(),
            client_timestamps: ClientTimestamps::Auto,
            return_url: None,
            bot: None,
            webhook_url: None,
            webhook_expired: false,
        }
    }
}

/// An app that people sign in to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Public name.
    pub id: ProjectId,
    /// Who may change it.
    pub owner: DeveloperId,
    /// What signs its proofs.
    pub secret: SigningSecret,
    /// What its owner chose.
    pub settings: ProjectSettings,
    /// When it was made.
    pub created_at: Timestamp,
    /// The secret before the present one, while it may still verify.
    #[serde(default)]
    pub retiring: Option<RetiringSecret>,
    /// Why its webhook is switched off, where it is: for its owner.
    #[serde(default)]
    pub webhook_disabled: Option<String>,
    /// Since when its webhook has only failed, where it has.
    #[serde(default)]
    pub webhook_failing: Option<Failing>,
}

/// A secret that was replaced (contract, section 3: rotation). It verifies proofs and adds its signature to webhooks for
/// a while; it never authenticates a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiringSecret {
    /// The secret.
    pub secret: SigningSecret,
    /// When it ends: exclusive.
    pub until: Timestamp,
}

impl Project {
    /// A new project.
    pub const fn new(
        id: ProjectId,
        owner: DeveloperId,
        secret: SigningSecret,
        settings: ProjectSettings,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            owner,
            secret,
            settings,
            created_at,
            retiring: None,
            webhook_disabled: None,
            webhook_failing: None,
        }
    }

    /// The secret before the present one, while it may still verify.
    pub fn retiring_secret(&self, now: Timestamp) -> Option<&SigningSecret> {
        self.retiring.as_ref().filter(|retiring| now < retiring.until).map(|retiring| &retiring.secret)
    }

    /// Where events are sent now.
    pub fn webhook(&self) -> Option<&str> {
        let url = self.settings.webhook_url.as_deref().filter(|url| !url.is_empty())?;
        self.webhook_disabled.is_none().then_some(url)
    }

    /// Telegram's user id of the project's own bot.
    pub fn bot(&self) -> Option<i64> {
        self.settings.bot.as_ref().map(|bot| bot.id)
    }

    /// Replaces the secret. The one before it may still verify for `grace`, and never authenticates a call; one that is
    /// there already stays as it is.
    pub fn rotate(&mut self, secret: SigningSecret, grace: Duration, now: Timestamp) {
        if self.secret.is(secret.reveal()) {
            return;
        }
        let secret = std::mem::replace(&mut self.secret, secret);
        self.retiring = (!grace.is_zero()).then(|| RetiringSecret { secret, until: now.plus(grace) });
    }

    /// Whether pages of `origin` may call; requests without an `Origin` may.
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        let allowed = &self.settings.allowed_origins;
        origin.is_none_or(|origin| {
            allowed.is_empty() || allowed.iter().any(|one| one.eq_ignore_ascii_case(origin))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_strong_compared_whole_and_shown_masked() {
        let ids = Ids::from_seed([1; 32]);
        let secret = SigningSecret::new(Mode::Sandbox, &ids);
        assert!(secret.reveal().starts_with("sk_test_") && secret.reveal().len() == 51);
        assert!(secret.is(secret.reveal()) && !secret.is("sk_test_") && !secret.is(""));
        assert!(secret.masked().starts_with("sk_test_••••••••") && secret.masked().chars().count() == 20);
        assert!(!format!("{secret:?}").contains(secret.reveal()));
        assert_eq!(secret.preview(), secret.reveal()[..12]);
        assert!(SigningSecret::brought("whsec_".repeat(6), &ids).is_ok());
        assert!(SigningSecret::brought("correct horse battery staple ~ again".into(), &ids).is_ok());
        let long = "x".repeat(32);
        for weak in [
            "x".repeat(31),
            "x".repeat(257),
            format!("{long} "),
            format!(" {long}"),
            format!("{long}\tx"),
            format!("{long}\u{7f}"),
            "ж".repeat(32),
        ] {
            assert_eq!(SigningSecret::brought(weak, &ids).err(), Some(WeakSecret));
        }
        let brought = |key: &str| {
            let secret = SigningSecret::brought(key.to_owned(), &ids).unwrap();
            assert_eq!(secret.preview(), secret.masked());
            secret.masked()
        };
        assert_eq!(brought(&"x".repeat(40)), "••••••••xxxx");
        assert_eq!(brought("correcthorsebattery_staplecorrecthorse_xyzw"), "••••••••xyzw");
    }

    #[test]
    fn a_replaced_secret_verifies_for_its_grace_and_goes_at_once_without() {
        let (ids, begin) = (Ids::from_seed([1; 32]), Timestamp::from_millis(0));
        let (id, owner) = (ProjectId::new(&ids), DeveloperId::new(&ids));
        let secret = |fill: &str| SigningSecret::brought(fill.repeat(40), &ids).unwrap();
        let mut project = Project::new(id, owner, secret("a"), ProjectSettings::named("Shop".into()), begin);
        let grace = Duration::from_secs(60);
        project.rotate(secret("a"), grace, begin);
        assert_eq!(project.retiring, None, "the same secret is no rotation");
        project.rotate(secret("b"), grace, begin);
        let (last, end) = (Timestamp::from_millis(59_999), Timestamp::from_millis(60_000));
        assert!(project.retiring_secret(last).is_some_and(|old| old.is(&"a".repeat(40))));
        assert_eq!(project.retiring_secret(end), None);
        project.rotate(secret("c"), Duration::ZERO, begin);
        assert_eq!(project.retiring, None, "a rotation without grace leaves the new secret alone");
    }

    #[test]
    fn ids_are_what_a_url_and_a_prompt_can_carry() {
        assert!(ProjectId::parse(ProjectId::new(&Ids::from_seed([1; 32])).as_str()).is_some());
        for bad in ["", "proj_", "demo", "proj_a b", "proj_ж", &format!("proj_{}", "x".repeat(60))] {
            assert_eq!(ProjectId::parse(bad), None, "{bad}");
        }
    }
}
