//! The answer that nearly all requests get, before any routing: a poll of a session that is known to be pending. Whatever
//! is unusual about one is for the routes, which answer the same; here nothing is decided and nothing is read from disk.

use poem::http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use poem::http::{HeaderValue, Method};
use poem::{IntoResponse, Request, Response};
use serde::Deserialize;

use super::body;
use super::error;
use super::server::Limits;
use crate::domain::auth_session::SessionToken;
use crate::flows::auth::Auth;

const PATH: &str = "/api/v1/verify/public";

/// Answers polls of pending sessions.
pub(super) struct QuickPolls {
    auth: Auth,
    limits: Limits,
}

/// What such a poll says. `wait` and whatever else there may be is for the routes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Poll<'a> {
    project_id: &'a str,
    session_token: &'a str,
}

impl QuickPolls {
    pub(super) const fn new(auth: Auth, limits: Limits) -> Self {
        Self { auth, limits }
    }

    /// Whether the request looks like such a poll.
    pub(super) fn may_answer(&self, request: &Request) -> bool {
        request.uri().path() == PATH
            && request.method() == Method::POST
            && request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json")
            && !request.headers().contains_key(AUTHORIZATION)
    }

    /// The answer, if this is one. Otherwise the request is whole again.
    pub(super) async fn answer(&self, request: &mut Request) -> Option<Response> {
        let bytes = match body::read(request.take_body(), self.limits.body).await {
            Ok(bytes) => bytes,
            // The routes could read it no better.
            Err(error) => return Some(error::render(error).await),
        };
        let pending = match (Poll::read(&bytes), origin(request)) {
            (Some(Poll { project_id, session_token }), Ok(origin)) => {
                let token = SessionToken::claimed(session_token);
                self.auth.is_pending(project_id, &token, origin).await
            }
            (None, _) | (_, Err(())) => false,
        };
        if pending {
            let mut response = Response::from(&br#"{"status":"pending"}"#[..]);
            let kind = HeaderValue::from_static("application/json; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            return Some(response.into_response());
        }
        request.set_body(bytes);
        None
    }
}

impl<'a> Poll<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        // Serde would also take an array of the fields in their order.
        bytes.starts_with(b"{").then(|| serde_json::from_slice(bytes).ok())?
    }
}

/// The `Origin`, if it can be read.
fn origin(request: &Request) -> Result<Option<&str>, ()> {
    request.headers().get(ORIGIN).map(|origin| origin.to_str().map_err(|_| ())).transpose()
}
