//! Developer accounts: register, sign in, sign out, who am I.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use poem::web::Data;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::Acknowledged;
use super::Group;
use super::holder;
use crate::domain::developer::AccessToken;
use crate::domain::ids::Secret;
use crate::flows::developers::Credentials;
use crate::flows::developers::Developers;
use crate::flows::developers::Granted;
use crate::flows::developers::Profile;
use crate::http::answer::JsonAnswer;
use crate::http::body::JsonBody;
use crate::http::caller::Bearer;
use crate::http::caller::DEVELOPER;
use crate::http::caller::Facts;
use crate::http::error::AppError;
use crate::http::standing::iso8601;

/// What every developer here may do: there is nothing to pay for (protocol, C23).
const PLAN: &str = "business";

/// Who signs in or registers.
#[derive(Deserialize, Object)]
struct LoginRequest {
    /// Your e-mail address.
    email: String,
    /// Your password, 12 to 256 characters.
    password: String,
    /// How long the token shall be good, seconds; 30 days unless said otherwise, at most 365.
    #[serde(default)]
    #[oai(skip_serializing_if_is_none, validator(minimum(value = "1"), maximum(value = "31536000")))]
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

/// You, twice: flat as Bondify's documentation has it, and under `developer` as its Node client reads it.
#[derive(Serialize, Object)]
struct MeView {
    /// Names you.
    id: String,
    /// How you sign in.
    email: String,
    /// ISO 8601.
    created_at: String,
    /// Unix milliseconds.
    created_at_ms: i64,
    developer: DeveloperView,
}

/// A developer.
#[derive(Serialize, Object)]
struct DeveloperView {
    /// The same as `id`.
    developer_id: String,
    id: String,
    email: String,
    /// `business`: nothing is limited.
    plan: String,
    mau: MonthlyPeopleView,
    /// ISO 8601.
    created_at: String,
    /// Unix milliseconds.
    created_at_ms: i64,
}

/// People who signed in to your projects this month.
#[derive(Serialize, Object)]
struct MonthlyPeopleView {
    current: u64,
    /// 0: there is no limit.
    limit: u64,
    /// Always 0.
    over: u64,
}

pub(in crate::http) struct AccountsApi;

#[OpenApi(tag = "Group::Developers", prefix_path = "/api/v1/dev")]
impl AccountsApi {
    /// Register
    ///
    /// Where the operator permits it (`CONNECTOR_REGISTRATION=open`); else 403 `REGISTRATION_CLOSED`. An address that is
    /// taken is 409 `EMAIL_TAKEN`.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    async fn register(
        &self,
        facts: Facts,
        developers: Data<&Developers>,
        body: JsonBody<LoginRequest>,
    ) -> Result<JsonAnswer<LoginAnswer>, AppError> {
        let granted = developers.register(body.parse()?.into(), address(&facts)).await?;
        Ok(JsonAnswer(granted.into()))
    }

    /// Sign in for a token
    ///
    /// After five failures each further attempt from the same address waits, from 15 s to 15 minutes: 429 `RATE_LIMITED`
    /// with `Retry-After`.
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        facts: Facts,
        developers: Data<&Developers>,
        body: JsonBody<LoginRequest>,
    ) -> Result<JsonAnswer<LoginAnswer>, AppError> {
        let granted = developers.login(body.parse()?.into(), address(&facts)).await?;
        Ok(JsonAnswer(granted.into()))
    }

    /// Make the token worthless
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
    ) -> Result<JsonAnswer<Acknowledged>, AppError> {
        let developer = holder(&token, &developers).await?;
        developers.logout(developer, &AccessToken::claimed(&token.token), token.from).await?;
        Ok(JsonAnswer(Acknowledged { ok: true }))
    }

    /// Who you are
    #[oai(path = "/me", method = "get", operation_id = "getMe")]
    async fn me(
        &self,
        token: Bearer<DEVELOPER>,
        developers: Data<&Developers>,
    ) -> Result<JsonAnswer<MeView>, AppError> {
        let owner = holder(&token, &developers).await?;
        Ok(JsonAnswer(developers.profile(&owner).await?.into()))
    }
}

/// Whose attempts these are. Who has no address shares one.
fn address(facts: &Facts) -> IpAddr {
    facts.address().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

impl From<LoginRequest> for Credentials {
    fn from(request: LoginRequest) -> Self {
        let LoginRequest { email, password, expires_in } = request;
        Self { email, password: Secret::new(password), lifetime: expires_in.map(Duration::from_secs) }
    }
}

impl From<Granted> for LoginAnswer {
    fn from(granted: Granted) -> Self {
        Self { token: granted.token.reveal().to_owned(), expires_at: granted.expires_at.as_millis() }
    }
}

impl From<Profile> for MeView {
    fn from(profile: Profile) -> Self {
        let Profile { developer, people } = profile;
        let (id, email) = (developer.id.as_str().to_owned(), developer.email.as_str().to_owned());
        let (created_at, created_at_ms) = (iso8601(developer.created_at), developer.created_at.as_millis());
        let mau = MonthlyPeopleView { current: people, limit: 0, over: 0 };
        let developer = DeveloperView {
            developer_id: id.clone(),
            id: id.clone(),
            email: email.clone(),
            plan: PLAN.to_owned(),
            mau,
            created_at: created_at.clone(),
            created_at_ms,
        };
        Self { id, email, created_at, created_at_ms, developer }
    }
}
