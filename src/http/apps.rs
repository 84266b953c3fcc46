//! What apps call: create a session, ask how it stands, stream its status; and what their servers call with the secret
//! key: create, consume, cancel. Parse, call one flow, render.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use poem::web::Data;
use poem::web::sse::Event;
use poem_openapi::param::Path;
use poem_openapi::payload::EventStream;
use poem_openapi::{ApiResponse, Object, OpenApi, Tags};
use serde::{Deserialize, Serialize};

use super::answer::JsonAnswer;
use super::body::JsonBody;
use super::body::object_or_null;
use super::caller::Bearer;
use super::caller::Facts;
use super::caller::PROJECT;
use super::error::ApiError;
use super::error::AppError;
use super::standing::StandingView;
use crate::domain::auth_session::Origin;
use crate::domain::auth_session::SessionToken;
use crate::domain::language::Language;
use crate::flows::auth::Auth;
use crate::flows::auth::Claim;
use crate::flows::auth::Client;
use crate::flows::auth::Created;
use crate::flows::auth::Watch;

/// The longest a poll may be held, seconds.
const LONGEST_WAIT: u32 = 25;
/// The longest nonce, characters.
const LONGEST_NONCE: usize = 128;
/// How often an idle stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Tags)]
enum Group {
    /// Sign people in to your app: create a session, show its link, poll. No key needed.
    #[oai(rename = "Sign-in sessions")]
    Sessions,
    /// What only your server may do, with the project's secret key: take the confirmation, create, cancel.
    #[oai(rename = "For your server")]
    Server,
}

/// A session to be.
#[derive(Deserialize, Object)]
pub(super) struct GenerateRequest {
    /// Your project.
    project_id: String,
    /// Comes back in the proof, so that your app can tell that it asked for it. At most 128 characters.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none, validator(max_length = 128))]
    nonce: Option<String>,
}

impl GenerateRequest {
    /// The project, and who asks for a session of it.
    pub(super) fn checked(self, facts: &Facts) -> Result<(String, Client), ApiError> {
        let nonce = checked_nonce(self.nonce)?;
        let client = Client { origin: facts.origin(), language: facts.language, nonce };
        Ok((self.project_id, client))
    }
}

/// A session to be, asked for by your server.
#[derive(Deserialize, Object)]
struct ServerGenerateRequest {
    /// Your project.
    project_id: String,
    /// Comes back in the proof. At most 128 characters.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none, validator(max_length = 128))]
    nonce: Option<String>,
    /// Who asked your server: the prompt shows it.
    #[serde(default, deserialize_with = "object_or_null")]
    #[oai(skip_serializing_if_is_none)]
    client: Option<ClientBody>,
}

/// Who asked your server.
#[derive(Default, Deserialize, Object)]
struct ClientBody {
    /// Their address.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    ip: Option<String>,
    /// Their `User-Agent`.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    user_agent: Option<String>,
    /// Their language, as in `Accept-Language`.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    lang: Option<String>,
}

/// A new session.
#[derive(Serialize, Object)]
pub(super) struct GenerateAnswer {
    /// Polls the session. Keep it in your app.
    session_token: String,
    /// Open it in the person's Telegram, or show it as a QR code.
    deeplink: String,
    /// When the session ends, Unix milliseconds.
    expires_at: i64,
    /// The same link for apps that open `tg://` themselves.
    tg_link: String,
    /// The same link for Telegram in a browser.
    web_link: String,
    /// What a person may send to the account instead, if their app ignores the link.
    typed_code: String,
    /// Streams the session's status (`text/event-stream`), and nothing else.
    events_url: String,
    /// The number to show where the project asks for one; Telegram asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    match_code: Option<u8>,
}

impl From<Created> for GenerateAnswer {
    fn from(created: Created) -> Self {
        let Created { session, links, events_url } = created;
        Self {
            session_token: session.token().reveal().reveal().to_owned(),
            deeplink: links.deeplink,
            expires_at: session.expires_at.as_millis(),
            tg_link: links.tg,
            web_link: links.web,
            typed_code: session.id.typed_code().to_string(),
            events_url,
            match_code: session.match_code.map(|code| code.right),
        }
    }
}

/// A question about a session.
#[derive(Deserialize, Object)]
struct VerifyRequest {
    /// Your project.
    project_id: String,
    /// What `generate` returned.
    session_token: String,
    /// Hold the answer until the status changes, at most this many seconds.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none, validator(minimum(value = "1"), maximum(value = "25")))]
    wait: Option<u32>,
}

/// A confirmation to take: by `proof` or by `session_token`.
#[derive(Deserialize, Object)]
struct ConsumeRequest {
    /// Your project.
    project_id: String,
    /// What your app got from a confirmed poll.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    proof: Option<String>,
    /// What `generate` returned.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none)]
    session_token: Option<String>,
}

/// A session to take back.
#[derive(Deserialize, Object)]
struct CancelRequest {
    /// Your project.
    project_id: String,
    /// What `generate` returned.
    session_token: String,
}

/// What a stream tells: the rest is for who holds the token.
#[derive(Serialize, Object)]
struct StatusNotice {
    /// `pending`, `confirmed`, `cancelled`, `expired` or `used`.
    status: String,
    #[serde(skip)]
    #[oai(skip)]
    opened: bool,
}

#[derive(ApiResponse)]
enum Events {
    /// First a `status` event, then `opened` and `status` events as things happen. Ends after a final status.
    #[oai(status = 200)]
    Stream(EventStream<BoxStream<'static, StatusNotice>>),
}

pub(super) struct AppsApi;

#[OpenApi]
impl AppsApi {
    /// Create a session
    ///
    /// For browsers and mobile apps: no key needed. Open `deeplink` in the person's Telegram and poll `verify/public`.
    #[oai(
        path = "/api/v1/generate/public",
        method = "post",
        operation_id = "generatePublic",
        tag = "Group::Sessions"
    )]
    async fn generate(
        &self,
        facts: Facts,
        auth: Data<&Auth>,
        body: JsonBody<GenerateRequest>,
    ) -> Result<JsonAnswer<GenerateAnswer>, AppError> {
        let (project, client) = body.parse()?.checked(&facts)?;
        let created = auth.generate(&project, &facts.caller, client).await?;
        Ok(JsonAnswer(created.written().await?.into()))
    }

    /// Ask how a session stands
    ///
    /// Poll every 2 seconds, or send `wait`, and stop at any status but `pending`. A confirmed answer holds who it is and
    /// a proof for your server. Asking changes nothing and may be repeated.
    #[oai(
        path = "/api/v1/verify/public",
        method = "post",
        operation_id = "verifyPublic",
        tag = "Group::Sessions"
    )]
    async fn verify(
        &self,
        facts: Facts,
        auth: Data<&Auth>,
        body: JsonBody<VerifyRequest>,
    ) -> Result<JsonAnswer<StandingView>, AppError> {
        let VerifyRequest { project_id, session_token, wait } = body.parse()?;
        if wait.is_some_and(|wait| !(1..=LONGEST_WAIT).contains(&wait)) {
            return Err(ApiError::invalid_request(format!("`wait` is 1 to {LONGEST_WAIT} seconds")).into());
        }
        let wait = wait.map(|wait| Duration::from_secs(wait.into()));
        let token = SessionToken::claimed(&session_token);
        let standing = auth.verify(&project_id, &token, &facts.caller, wait).await?;
        Ok(JsonAnswer(StandingView::new(standing, facts.user_agent.as_deref())))
    }

    /// Stream a session's status
    #[oai(
        path = "/api/v1/events/:watch_id",
        method = "get",
        operation_id = "streamStatus",
        tag = "Group::Sessions"
    )]
    async fn events(
        &self,
        facts: Facts,
        auth: Data<&Auth>,
        /// The last part of the `events_url` that `generate` returned.
        watch_id: Path<String>,
    ) -> Result<Events, AppError> {
        let watch = auth.watch(&watch_id.0, &facts.caller).await?;
        let mut opened = None;
        let stream = EventStream::new(notices(watch)).keep_alive(KEEP_ALIVE).to_event(move |notice| {
            // The first event says how it stands; `opened` is told where that is what changed.
            let kind = match opened {
                Some(false) if notice.opened && notice.status == "pending" => "opened",
                _ => "status",
            };
            opened = Some(notice.opened);
            Event::message(serde_json::json!({ "status": notice.status }).to_string()).event_type(kind)
        });
        Ok(Events::Stream(stream))
    }

    /// Create a session from your server
    #[oai(path = "/api/v1/generate", method = "post", operation_id = "generate", tag = "Group::Server")]
    async fn generate_for_server(
        &self,
        _key: Bearer<PROJECT>,
        facts: Facts,
        auth: Data<&Auth>,
        body: JsonBody<ServerGenerateRequest>,
    ) -> Result<JsonAnswer<GenerateAnswer>, AppError> {
        let ServerGenerateRequest { project_id, nonce, client } = body.parse()?;
        let client = client.unwrap_or_default().checked()?;
        let client = Client { nonce: checked_nonce(nonce)?, ..client };
        let created = auth.generate_for_server(&project_id, &facts.caller, client).await?;
        Ok(JsonAnswer(created.written().await?.into()))
    }

    /// Take the confirmation, once
    ///
    /// Send the `proof` that your app got, or the `session_token`. Of any number of calls exactly one gets the confirmed
    /// answer; the session is then `used`. A repeat with the same `Idempotency-Key` within 60 s gets the first answer.
    #[oai(path = "/api/v1/verify", method = "post", operation_id = "consume", tag = "Group::Server")]
    async fn consume(
        &self,
        _key: Bearer<PROJECT>,
        facts: Facts,
        auth: Data<&Auth>,
        body: JsonBody<ConsumeRequest>,
    ) -> Result<JsonAnswer<StandingView>, AppError> {
        let ConsumeRequest { project_id, proof, session_token } = body.parse()?;
        let claim = match (proof, session_token) {
            (Some(proof), None) => Claim::Proof(proof),
            (None, Some(token)) => Claim::Token(SessionToken::claimed(&token)),
            (Some(_), Some(_)) | (None, None) => {
                return Err(ApiError::invalid_request("send either `proof` or `session_token`").into());
            }
        };
        let key = facts.idempotency_key.as_deref();
        let standing = auth.consume(&project_id, &facts.caller, claim, key).await?;
        Ok(JsonAnswer(StandingView::new(standing, facts.user_agent.as_deref())))
    }

    /// Take a request back
    ///
    /// A session that is decided stays as it is; the answer says how.
    #[oai(path = "/api/v1/cancel", method = "post", operation_id = "cancel", tag = "Group::Server")]
    async fn cancel(
        &self,
        _key: Bearer<PROJECT>,
        facts: Facts,
        auth: Data<&Auth>,
        body: JsonBody<CancelRequest>,
    ) -> Result<JsonAnswer<StandingView>, AppError> {
        let CancelRequest { project_id, session_token } = body.parse()?;
        let token = SessionToken::claimed(&session_token);
        let standing = auth.cancel(&project_id, &facts.caller, &token).await?;
        Ok(JsonAnswer(StandingView::new(standing, facts.user_agent.as_deref())))
    }
}

fn checked_nonce(nonce: Option<String>) -> Result<Option<String>, ApiError> {
    if nonce.as_ref().is_some_and(|nonce| nonce.chars().count() > LONGEST_NONCE) {
        return Err(ApiError::invalid_request(format!("`nonce` has at most {LONGEST_NONCE} characters")));
    }
    Ok(nonce)
}

impl ClientBody {
    fn checked(self) -> Result<Client, ApiError> {
        let address = self.ip.map(|ip| ip.parse::<IpAddr>()).transpose();
        let address = address.map_err(|_| ApiError::invalid_request("`client.ip` is not an IP address"))?;
        Ok(Client {
            origin: Origin::of(self.user_agent.as_deref(), address, None),
            language: self.lang.and_then(|lang| Language::from_accept_language(&lang)),
            nonce: None,
        })
    }
}

fn notices(watch: Watch) -> BoxStream<'static, StatusNotice> {
    let told = futures_util::stream::unfold(watch, |mut watch| async move {
        let notice = watch.next().await?;
        Some((StatusNotice { status: notice.status.name().to_owned(), opened: notice.opened }, watch))
    });
    told.boxed()
}
