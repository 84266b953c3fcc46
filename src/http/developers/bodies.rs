//! What is said of a project over HTTP: the settings that are asked for, and a project as it is shown.

use poem_openapi::Object;
use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::ids::Secret;
use crate::domain::project::SigningSecret;
use crate::domain::project_wishes::Wishes;
use crate::flows::developers::Seen;
use crate::http::standing::iso8601;

/// `null` clears, as an empty text does; what is absent stays.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|text| Some(text.unwrap_or_default()))
}

/// Two objects with the same settings: creating asks for a name, changing asks for nothing.
macro_rules! settings_body {
    ($(#[$about:meta])* $body:ident, name: $name:ty = $wish:expr, grace: $grace:expr $(, $(#[$attribute:meta])* $field:ident: $kind:ty)*) => {
        $(#[$about])*
        #[derive(Deserialize, Object)]
        pub(super) struct $body {
            /// Shown to people who sign in: 1 to 64 characters.
            name: $name,
            /// Where events are sent: https and public. Null or empty: nowhere.
            #[serde(default, deserialize_with = "null_is_empty")]
            #[oai(skip_serializing_if_is_none)]
            webhook_url: Option<String>,
            /// Whether `auth.expired` is sent too. Default: false.
            #[serde(default)]
            #[oai(skip_serializing_if_is_none)]
            webhook_expired: Option<bool>,
            /// Whether new sessions may be created; those that are there go on. Default: true.
            #[serde(default)]
            #[oai(skip_serializing_if_is_none)]
            is_active: Option<bool>,
            /// The same as `is_active`.
            #[serde(default)]
            #[oai(skip_serializing_if_is_none)]
            active: Option<bool>,
            /// Whether apps may create and poll sessions without the secret key. Default: true.
            #[serde(default)]
            #[oai(skip_serializing_if_is_none)]
            public_access: Option<bool>,
            /// Whether to ask for the phone number; needs a bot. Default: false.
            #[serde(default)]
            #[oai(skip_serializing_if_is_none)]
            req_phone: Option<bool>,
            /// Whether your page shows a number that Telegram asks for. Default: false.
            #[serde(default)]
            #[oai(skip_serializing_if_is_none)]
            match_code: Option<bool>,
            /// The token of your own bot, which then shows the prompts. Null or empty: none.
            #[serde(default, deserialize_with = "null_is_empty")]
            #[oai(skip_serializing_if_is_none)]
            bot_token: Option<String>,
            /// Origins whose pages may call, as in `https://shop.example`; empty: all. At most 50, each of at
            /// most 255 bytes.
            #[serde(default)]
            #[oai(skip_serializing_if_is_none, validator(max_items = 50))]
            allowed_origins: Option<Vec<String>>,
            /// `auto`, `iso8601` or `unix_ms`: how a confirmed poll writes its times. Default: `auto`.
            #[serde(default)]
            #[oai(skip_serializing_if_is_none, validator(pattern = "^(auto|iso8601|unix_ms)$"))]
            client_timestamps: Option<String>,
            /// Where "back to the app" leads: https. Null or empty: nowhere.
            #[serde(default, deserialize_with = "null_is_empty")]
            #[oai(skip_serializing_if_is_none)]
            return_url: Option<String>,
            /// A secret that your apps hold already: 32 to 256 printable ASCII characters, and no space at
            /// either end.
            #[serde(default)]
            #[oai(skip_serializing_if_is_none, validator(pattern = "^[!-~][ -~]{30,254}[!-~]$"))]
            secret_key: Option<String>,
            $(
                $(#[$attribute])*
                #[serde(default)]
                #[oai(skip_serializing_if_is_none)]
                $field: $kind,
            )*
        }

        impl From<$body> for Wishes {
            fn from(body: $body) -> Self {
                let grace_seconds = $grace(&body);
                Self {
                    name: $wish(body.name),
                    is_active: body.is_active,
                    active: body.active,
                    public_access: body.public_access,
                    req_phone: body.req_phone,
                    match_code: body.match_code,
                    allowed_origins: body.allowed_origins,
                    client_timestamps: body.client_timestamps,
                    return_url: body.return_url,
                    webhook_url: body.webhook_url,
                    webhook_expired: body.webhook_expired,
                    bot_token: body.bot_token.map(Secret::new),
                    secret_key: body.secret_key.map(Secret::new),
                    grace_seconds,
                }
            }
        }
    };
}

settings_body!(
    /// A project to be. What is left out has its default.
    CreateProject,
    name: String = Some,
    grace: |_: &CreateProject| None
);

settings_body!(
    /// What is to change. What is left out stays as it is.
    ChangeProject,
    name: Option<String> = std::convert::identity,
    grace: |body: &ChangeProject| body.grace_seconds,
    /// How long the secret before `secret_key` may still verify proofs, seconds: to 604800 (7 days). Default: 0. It never
    /// authenticates a call. 0 without a `secret_key` ends a grace that is running.
    #[oai(validator(maximum(value = "604800")))]
    grace_seconds: Option<u64>
);

/// How a secret is replaced.
#[derive(Default, Deserialize, Object)]
pub(super) struct RotateSecret {
    /// How long the secret before may still verify proofs, seconds: to 604800 (7 days). Default: 0. It never
    /// authenticates a call.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none, validator(maximum(value = "604800")))]
    pub(super) grace_seconds: Option<u64>,
}

/// A project.
#[derive(Serialize, Object)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the API")]
pub(super) struct ProjectView {
    id: String,
    /// The same as `id`.
    project_id: String,
    name: String,
    /// Whole when it was just created, else masked.
    secret_key: String,
    /// The first 12 characters; masked where you brought the secret.
    secret_preview: String,
    /// Empty when there is none.
    webhook_url: String,
    webhook_expired: bool,
    /// Why events are not sent any more, until `webhook_url` is set again; null: they are.
    webhook_disabled_reason: Option<String>,
    is_active: bool,
    /// The same as `is_active`.
    active: bool,
    public_access: bool,
    req_phone: bool,
    match_code: bool,
    allowed_origins: Vec<String>,
    /// `auto`, `iso8601` or `unix_ms`.
    client_timestamps: String,
    /// Null when there is none.
    return_url: Option<String>,
    /// Whether it has a bot of its own.
    has_bot: bool,
    /// Its own bot's, without the @; null when there is none, or it has not been heard of.
    bot_username: Option<String>,
    /// ISO 8601.
    created_at: String,
    /// Unix milliseconds.
    created_at_ms: i64,
    /// Sessions since it was made.
    sessions_count: u64,
    /// Of these, confirmed.
    confirmed_count: u64,
}

/// A project after a change.
#[derive(Serialize, Object)]
pub(super) struct ChangedProjectView {
    /// Always true.
    ok: bool,
    #[serde(flatten)]
    #[oai(flatten)]
    project: ProjectView,
}

/// A developer's projects, the oldest first.
#[derive(Serialize, Object)]
pub(super) struct ProjectsView {
    pub(super) projects: Vec<ProjectView>,
}

/// The secret that signs proofs and webhooks.
#[derive(Serialize, Object)]
pub(super) struct SecretView {
    /// The project's secret key: the HMAC key is the whole string.
    webhook_secret: String,
    /// The same secret for Standard Webhooks libraries.
    standard_webhooks_secret: String,
}

/// A project's new secret.
#[derive(Serialize, Object)]
pub(super) struct NewSecretView {
    /// Whole: put it where the one before was.
    pub(super) secret_key: String,
    pub(super) id: String,
    /// The same as `id`.
    pub(super) project_id: String,
}

impl ProjectView {
    /// For its owner's eyes now: with the whole secret.
    pub(super) fn whole(seen: &Seen) -> Self {
        Self { secret_key: seen.project.secret.reveal().to_owned(), ..Self::masked(seen) }
    }

    /// For lists.
    pub(super) fn masked(seen: &Seen) -> Self {
        let Seen { project, bot_username, tally } = seen;
        let settings = &project.settings;
        Self {
            id: project.id.as_str().to_owned(),
            project_id: project.id.as_str().to_owned(),
            name: settings.name.clone(),
            secret_key: project.secret.masked(),
            secret_preview: project.secret.preview(),
            webhook_url: settings.webhook_url.clone().unwrap_or_default(),
            webhook_expired: settings.webhook_expired,
            webhook_disabled_reason: project.webhook_disabled.clone(),
            is_active: settings.active,
            active: settings.active,
            public_access: settings.public_access,
            req_phone: settings.req_phone,
            match_code: settings.match_code,
            allowed_origins: settings.allowed_origins.clone(),
            client_timestamps: settings.client_timestamps.name().to_owned(),
            return_url: settings.return_url.clone(),
            has_bot: settings.bot.is_some(),
            bot_username: bot_username.clone(),
            created_at: iso8601(project.created_at),
            created_at_ms: project.created_at.as_millis(),
            sessions_count: tally.created,
            confirmed_count: tally.confirmed,
        }
    }
}

impl From<&Seen> for ChangedProjectView {
    fn from(seen: &Seen) -> Self {
        Self { ok: true, project: ProjectView::masked(seen) }
    }
}

impl From<&SigningSecret> for SecretView {
    fn from(secret: &SigningSecret) -> Self {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(secret.reveal());
        Self {
            webhook_secret: secret.reveal().to_owned(),
            standard_webhooks_secret: format!("whsec_{encoded}"),
        }
    }
}
