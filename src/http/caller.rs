//! What a request tells of who sends it: origin, key, address, browser, language. Whether they may call is the flows'
//! business, except that some operations demand a Bearer token before anything is read.

use std::net::IpAddr;

use poem::http::{HeaderMap, HeaderName, header};
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::client_address::Client;
use super::error::ApiError;
use crate::domain::auth_session::Origin;
use crate::domain::language::Language;
use crate::flows::auth::Caller;
use crate::flows::auth::Held;

/// What the request tells.
#[derive(Clone)]
pub(super) struct Facts {
    pub(super) caller: Caller,
    pub(super) user_agent: Option<String>,
    pub(super) language: Option<Language>,
    pub(super) idempotency_key: Option<String>,
}

impl Facts {
    /// What this request tells.
    fn of(request: &Request) -> Self {
        let told = request.extensions();
        let held = told.get::<Held>().cloned().unwrap_or_default();
        Self::told_by(request.headers(), told.get::<Client>().copied(), held)
    }

    /// What these tell.
    pub(super) fn told_by(headers: &HeaderMap, client: Option<Client>, held: Held) -> Self {
        Self {
            caller: Caller {
                origin: text(headers, header::ORIGIN),
                key: bearer(headers).map(str::to_owned),
                from: client.map(|client| client.address),
                here: client.is_some_and(|client| client.here),
                held,
            },
            user_agent: text(headers, header::USER_AGENT),
            language: text(headers, header::ACCEPT_LANGUAGE)
                .and_then(|header| Language::from_accept_language(&header)),
            idempotency_key: text(headers, HeaderName::from_static("idempotency-key")),
        }
    }

    /// The client's address.
    pub(super) const fn address(&self) -> Option<IpAddr> {
        self.caller.from
    }

    /// Where it came from, as a prompt tells it.
    pub(super) fn origin(&self) -> Origin {
        Origin::of(self.user_agent.as_deref(), self.caller.from, self.caller.origin.as_deref())
    }
}

/// The client's address, as `observe` found it.
pub(super) fn client_address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Client>().map(|client| client.address)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    // What cannot be read is there all the same: an unreadable origin is not one that may call.
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The token of `Authorization: Bearer …` (RFC 6750).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Tells the document of a Bearer token and whose it is.
pub(super) fn register_bearer(registry: &mut Registry, name: &'static str, description: &'static str) {
    registry.create_security_scheme(
        name,
        MetaSecurityScheme {
            ty: "http",
            description: Some(description),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        },
    );
}

impl<'a> FromRequest<'a> for Facts {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self::of(request))
    }
}

/// A Bearer token that a handler demands before the body is read. `SCHEME` says in the document whose it is.
#[derive(Clone)]
pub(super) struct Bearer<const SCHEME: usize> {
    /// The token.
    pub(super) token: String,
    /// The client's address, for the audit log.
    pub(super) from: Option<IpAddr>,
}

/// The secret key of a project.
pub(super) const PROJECT: usize = 0;
/// The access token of a developer.
pub(super) const DEVELOPER: usize = 1;

const SCHEMES: [(&str, &str); 2] = [
    ("projectSecret", "The project's secret key, sk_live_… (sk_test_… in a sandbox). For servers only."),
    ("developerToken", "The token that POST /api/v1/dev/login gives."),
];

impl<const SCHEME: usize> Bearer<SCHEME> {
    fn scheme() -> (&'static str, &'static str) {
        SCHEMES.get(SCHEME).copied().unwrap_or(("bearer", ""))
    }
}

impl<'a, const SCHEME: usize> ApiExtractor<'a> for Bearer<SCHEME> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let (name, description) = Self::scheme();
        register_bearer(registry, name, description);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![Self::scheme().0]
    }

    fn has_security_fallback() -> bool {
        false
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let from = client_address(request);
        let token = bearer(request.headers()).map(str::to_owned);
        token
            .map(|token| Self { token, from })
            .ok_or_else(|| ApiError::unauthorized("send Authorization: Bearer <token>").into())
    }
}
