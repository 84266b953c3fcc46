//! The two questions that nearly all requests are, before any routing: a poll of a session that is known to be pending, and
//! a browser's wish for a session. Whatever is unusual about one is for the routes, whose answer is the same.

use bytes::Bytes;
use poem::http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use poem::http::{HeaderValue, Method};
use poem::{IntoResponse as _, Request, Response};
use serde::Deserialize;

use super::answer::JsonAnswer;
use super::apps::GenerateAnswer;
use super::apps::GenerateRequest;
use super::body;
use super::body::JsonBody;
use super::caller::Facts;
use super::client_address::Client;
use super::error;
use super::server::Limits;
use crate::domain::auth_session::SessionToken;
use crate::flows::auth::Auth;
use crate::flows::auth::AuthError;
use crate::flows::auth::Creating;
use crate::flows::auth::Held;

/// Answers without the routes.
pub(super) struct Quick {
    auth: Auth,
    limits: Limits,
}

/// What a request looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Poll,
    Create,
}

/// What is answered without the routes.
pub(super) enum Answer<'a> {
    Now(Response),
    Refused(AuthError),
    /// Once the new session is written.
    Created(Creating<'a, Response>),
}

/// What such a poll says. `wait` and whatever else there may be is for the routes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Poll<'a> {
    project_id: &'a str,
    session_token: &'a str,
}

impl Quick {
    pub(super) const fn new(auth: Auth, limits: Limits) -> Self {
        Self { auth, limits }
    }

    /// What the request looks like, if it is one of the two.
    pub(super) fn asked(request: &Request) -> Option<Asked> {
        let asked = match request.uri().path() {
            "/api/v1/verify/public" => Asked::Poll,
            "/api/v1/generate/public" => Asked::Create,
            _ => return None,
        };
        let plain = request.method() == Method::POST
            && request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json")
            && !request.headers().contains_key(AUTHORIZATION);
        plain.then_some(asked)
    }

    /// The answer. `client`: whose request it is, as far as that is known; a poll's is not asked for. `None`: the routes have
    /// to answer, and the request is whole again.
    pub(super) async fn answer(
        &self,
        asked: Asked,
        request: &mut Request,
        client: Option<Client>,
    ) -> Option<Answer<'_>> {
        let bytes = match body::read(request.take_body(), self.limits.body).await {
            Ok(bytes) => bytes,
            // The routes could read it no better.
            Err(error) => return Some(Answer::Now(error::render(error).await)),
        };
        let answer = match asked {
            Asked::Poll => self.poll(request, &bytes).map(Answer::Now),
            Asked::Create => self.create(request, &bytes, client).await,
        };
        if answer.is_none() {
            request.set_body(bytes);
        }
        answer
    }

    fn poll(&self, request: &Request, bytes: &Bytes) -> Option<Response> {
        // Serde would also take an array of the fields in their order.
        let object = bytes.starts_with(b"{");
        let Poll { project_id, session_token } = object.then(|| serde_json::from_slice(bytes).ok())??;
        // One that cannot be read is not one that may call; the routes say so.
        let origin = request.headers().get(ORIGIN).map(HeaderValue::to_str).transpose().ok()?;
        let token = SessionToken::claimed(session_token);
        self.auth.is_pending(project_id, &token, origin).then(|| {
            let mut response = Response::from(&br#"{"status":"pending"}"#[..]);
            let kind = HeaderValue::from_static("application/json; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        })
    }

    async fn create(&self, request: &Request, bytes: &Bytes, client: Option<Client>) -> Option<Answer<'_>> {
        let Ok(JsonBody::Parsed(wish)) = JsonBody::<GenerateRequest>::read(bytes) else { return None };
        let facts = Facts::told_by(request.headers(), client, Held::default());
        let (project, client) = wish.checked(&facts).ok()?;
        let created = self.auth.generate(&project, &facts.caller, client).await;
        let tell = |created| JsonAnswer(GenerateAnswer::from(created)).into_response();
        Some(created.map_or_else(Answer::Refused, |created| Answer::Created(created.map(tell))))
    }
}
