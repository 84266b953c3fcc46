//! `/api/v1/dev`: developers sign in for a token and manage their projects. Parse, call one flow, render.

use std::time::Duration;

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::{Object, OpenApi, Tags};
use serde::{Deserialize, Serialize};
use url::Url;

use super::answer::JsonAnswer;
use super::body::JsonBody;
use super::caller::Bearer;
use super::caller::DEVELOPER;
use super::error::ApiError;
use super::error::AppError;
use super::standing::iso8601;
use crate::domain::developer::AccessToken;
use crate::domain::developer::DeveloperId;
use crate::domain::ids::Secret;
use crate::domain::project::ClientTimestamps;
use crate::domain::project::Project;
use crate::domain::project::ProjectSettings;
use crate::flows::developers::DeveloperError;
use crate::flows::developers::Developers;
use crate::flows::developers::NewProject;

/// The longest name of a project, characters, and the most origins it may allow.
const LONGEST_NAME: usize = 64;
const MOST_ORIGINS: usize = 50;

#[derive(Tags)]
enum Group {
    /// Manage your projects.
    #[oai(rename = "Developers")]
    Developers,
}

/// Who signs in.
#[derive(Deserialize, Object)]
struct LoginRequest {
    /// Your e-mail address.
    email: String,
    /// Your password.
    password: String,
    /// How long the token shall be good, seconds; 30 days unless said otherwise, at most 365.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    expires_in: Option<u64>,
}

/// An access token.
#[derive(Serialize, Object)]
struct LoginAnswer {
    /// Send it as `Authorization: Bearer <token>`.
    token: String,
    /// When it ends, Unix milliseconds.
    expires_at: i64,
}

/// A project to be. What is left out has its default.
#[derive(Deserialize, Object)]
struct CreateProject {
    /// Shown to people who sign in: 1 to 64 characters.
    name: String,
    /// Where events are sent. Not yet: only empty.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    webhook_url: Option<String>,
    /// Whether apps may create and poll sessions without the secret key. Default: true.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    public_access: Option<bool>,
    /// Whether to ask for the phone number; needs a bot.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    req_phone: Option<bool>,
    /// Whether your page shows a number that Telegram asks for.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    match_code: Option<bool>,
    /// The token of your own bot, which then shows the prompts.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    bot_token: Option<String>,
    /// Origins whose pages may call, as in `https://shop.example`; empty: all.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    allowed_origins: Option<Vec<String>>,
    /// `auto`, `iso8601` or `unix_ms`: how a confirmed poll writes its times.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    client_timestamps: Option<String>,
    /// Where "back to the app" leads: https.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    return_url: Option<String>,
    /// A secret that your apps hold already: 32 to 256 printable ASCII characters.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    secret_key: Option<String>,
}

/// A project.
#[derive(Serialize, Object)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the API")]
struct ProjectView {
    id: String,
    /// The same as `id`.
    project_id: String,
    name: String,
    /// Whole when it was just created, else masked.
    secret_key: String,
    /// Masked.
    secret_preview: String,
    is_active: bool,
    /// The same as `is_active`.
    active: bool,
    public_access: bool,
    req_phone: bool,
    match_code: bool,
    /// Whether it has a bot of its own.
    has_bot: bool,
    webhook_url: String,
    allowed_origins: Vec<String>,
    client_timestamps: String,
    /// Null when there is none.
    return_url: Option<String>,
    /// ISO 8601.
    created_at: String,
    /// Unix milliseconds.
    created_at_ms: i64,
}

/// A developer's projects.
#[derive(Serialize, Object)]
struct ProjectsView {
    projects: Vec<ProjectView>,
}

/// The secret that signs proofs.
#[derive(Serialize, Object)]
struct SecretView {
    /// The project's secret key: the HMAC key is the whole string.
    webhook_secret: String,
    /// The same secret for Standard Webhooks libraries.
    standard_webhooks_secret: String,
}

/// It is done.
#[derive(Serialize, Object)]
struct Acknowledged {
    ok: bool,
}

pub(super) struct DevelopersApi;

#[OpenApi(tag = "Group::Developers", prefix_path = "/api/v1/dev")]
impl DevelopersApi {
    /// Sign in for a token
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        developers: Data<&Developers>,
        body: JsonBody<LoginRequest>,
    ) -> Result<JsonAnswer<LoginAnswer>, AppError> {
        let LoginRequest { email, password, expires_in } = body.parse()?;
        let lifetime = expires_in.map(Duration::from_secs);
        let (token, expires_at) = developers.login(&email, Secret::new(password), lifetime).await?;
        Ok(JsonAnswer(LoginAnswer { token: token.reveal().to_owned(), expires_at: expires_at.as_millis() }))
    }

    /// Make the token worthless
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
    ) -> Result<JsonAnswer<Acknowledged>, AppError> {
        holder(&token, &developers).await?;
        developers.logout(&AccessToken::claimed(&token.0)).await?;
        Ok(JsonAnswer(Acknowledged { ok: true }))
    }

    /// List your projects
    #[oai(path = "/projects", method = "get", operation_id = "listProjects")]
    async fn projects(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
    ) -> Result<JsonAnswer<ProjectsView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let projects = developers.projects(&owner).await?;
        let projects = projects.iter().map(|project| ProjectView::new(project, false)).collect();
        Ok(JsonAnswer(ProjectsView { projects }))
    }

    /// Create a project
    #[oai(path = "/projects", method = "post", operation_id = "createProject")]
    async fn create(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        body: JsonBody<CreateProject>,
    ) -> Result<JsonAnswer<ProjectView>, AppError> {
        let owner = holder(&token, &developers).await?;
        let project = developers.create_project(owner, body.parse()?.checked()?).await?;
        Ok(JsonAnswer(ProjectView::new(&project, true)))
    }

    /// Read a project's secret
    #[oai(path = "/projects/:id/webhook-secret", method = "get", operation_id = "getWebhookSecret")]
    async fn secret(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
        /// The project.
        id: Path<String>,
    ) -> Result<JsonAnswer<SecretView>, AppError> {
        use base64::Engine as _;
        let owner = holder(&token, &developers).await?;
        let project = developers.project(&owner, &id.0).await?;
        tracing::info!(developer = %owner, project = %project.id, "a project's secret was read");
        let secret = project.secret.reveal();
        let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
        let standard_webhooks_secret = format!("whsec_{encoded}");
        Ok(JsonAnswer(SecretView { webhook_secret: secret.to_owned(), standard_webhooks_secret }))
    }
}

pub(super) async fn holder(
    token: &Bearer<DEVELOPER>,
    developers: &Developers,
) -> Result<DeveloperId, DeveloperError> {
    developers.holder(&AccessToken::claimed(&token.0)).await
}

impl CreateProject {
    fn checked(self) -> Result<NewProject, ApiError> {
        let name = self.name.trim().to_owned();
        let length = name.chars().count();
        // What cannot be seen, or turns text round, could rewrite a prompt.
        if !(1..=LONGEST_NAME).contains(&length) || name.chars().any(is_deceptive) {
            return Err(ApiError::invalid_request("`name` has 1 to 64 visible characters"));
        }
        if self.webhook_url.is_some_and(|url| !url.is_empty()) {
            return Err(ApiError::invalid_request(
                "`webhook_url` is not supported yet: poll, wait or stream instead",
            ));
        }
        let allowed_origins = self.allowed_origins.unwrap_or_default();
        if allowed_origins.len() > MOST_ORIGINS || !allowed_origins.iter().all(|origin| is_origin(origin)) {
            return Err(ApiError::invalid_request(
                "`allowed_origins` holds origins such as https://shop.example",
            ));
        }
        let client_timestamps = match self.client_timestamps.as_deref() {
            None | Some("auto") => ClientTimestamps::Auto,
            Some("iso8601") => ClientTimestamps::Iso8601,
            Some("unix_ms") => ClientTimestamps::UnixMs,
            Some(_) => {
                return Err(ApiError::invalid_request("`client_timestamps` is auto, iso8601 or unix_ms"));
            }
        };
        let return_url = self.return_url.filter(|url| !url.is_empty());
        if return_url.as_deref().is_some_and(|url| !is_https(url)) {
            return Err(ApiError::invalid_request("`return_url` is an https URL"));
        }
        let settings = ProjectSettings {
            public_access: self.public_access.unwrap_or(true),
            req_phone: self.req_phone.unwrap_or(false),
            match_code: self.match_code.unwrap_or(false),
            allowed_origins,
            client_timestamps,
            return_url,
            ..ProjectSettings::named(name)
        };
        let bot_token = self.bot_token.filter(|token| !token.is_empty()).map(Secret::new);
        Ok(NewProject { settings, secret_key: self.secret_key, bot_token })
    }
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
    Url::parse(text).is_ok_and(|url| {
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

impl ProjectView {
    fn new(project: &Project, whole: bool) -> Self {
        let Project { id, secret, settings, created_at, .. } = project;
        let masked = secret.masked();
        Self {
            id: id.as_str().to_owned(),
            project_id: id.as_str().to_owned(),
            name: settings.name.clone(),
            secret_key: if whole { secret.reveal().to_owned() } else { masked.clone() },
            secret_preview: masked,
            is_active: settings.active,
            active: settings.active,
            public_access: settings.public_access,
            req_phone: settings.req_phone,
            match_code: settings.match_code,
            has_bot: settings.bot.is_some(),
            webhook_url: String::new(),
            allowed_origins: settings.allowed_origins.clone(),
            client_timestamps: match settings.client_timestamps {
                ClientTimestamps::Auto => "auto",
                ClientTimestamps::Iso8601 => "iso8601",
                ClientTimestamps::UnixMs => "unix_ms",
            }
            .to_owned(),
            return_url: settings.return_url.clone(),
            created_at: iso8601(*created_at),
            created_at_ms: created_at.as_millis(),
        }
    }
}
