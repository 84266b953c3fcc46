//! What is done about every request, whatever it asks: an id, a span, metrics, and the headers that all answers have.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use metrics::{Counter, Histogram};
use poem::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use poem::http::{HeaderName, HeaderValue, Method, StatusCode};
use poem::{Endpoint, IntoResponse, Request, Response};
use tracing::Instrument as _;
use tracing::Span;

use super::client_address;
use super::client_address::Client;
use super::cors;
use super::document::Document;
use super::error;
use super::error::AppError;
use super::pages;
use super::quick::{Answer, Asked, Quick};
use super::request_id::RequestId;
use super::server::Answers;
use crate::flows::auth::Held;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Routes, and what is done about every request to them.
pub(super) struct Observed<E> {
    pub(super) routes: E,
    /// Answers some without the routes.
    pub(super) quick: Option<Quick>,
    /// Which methods the routes have.
    pub(super) known: Option<&'static LazyLock<Document>>,
    /// `CONNECTOR_TRUSTED_PROXIES`.
    pub(super) trusted: Arc<[IpNet]>,
}

/// What is known of a request before it is answered.
struct Observation {
    id: RequestId,
    started: Instant,
    method: &'static str,
    route: &'static str,
    public: bool,
}

impl<E: Endpoint + 'static> Answers for Observed<E> {
    async fn answer(&self, mut request: Request, id: RequestId, held: &Held) -> Response {
        collapse_slashes(&mut request);
        let path = request.uri().path();
        let observation = Observation {
            id,
            started: Instant::now(),
            method: method(request.method()),
            route: route(path),
            public: cors::is_public(path),
        };
        let quick = self.quick.as_ref().and_then(|quick| Some((quick, Quick::asked(&request)?)));
        let client = match quick {
            Some((_, Asked::Create)) => self.client(&request),
            Some((_, Asked::Poll)) | None => None,
        };
        let answered = match quick {
            Some((quick, asked)) => quick.answer(asked, &mut request, client).await,
            None => None,
        };
        let refuse = |refused| {
            let response = observation.span(client).in_scope(|| AppError::from(refused).into_response());
            observation.dressed(response)
        };
        let response = match answered {
            Some(Answer::Now(response)) => observation.dressed(response),
            Some(Answer::Refused(refused)) => refuse(refused),
            Some(Answer::Created(created)) => {
                // Many wait for one flush. Meanwhile the answer is kept, as it will be sent, and nothing of the request.
                let created = created.map(|response| observation.dressed(response));
                drop(request);
                created.written().await.unwrap_or_else(refuse)
            }
            // In a box: what waits for its next request must not keep the space of a whole one.
            None => observation.dressed(Box::pin(self.route(request, &observation, held)).await),
        };
        observation.complete(&response);
        response
    }
}

impl<E: Endpoint> Observed<E> {
    /// Whose request it is.
    fn client(&self, request: &Request) -> Option<Client> {
        let peer = request.remote_addr().as_socket_addr().map(SocketAddr::ip)?;
        client_address::warn_of_unlisted_proxy(peer, request.headers(), &self.trusted);
        Some(Client::of(peer, request.headers(), &self.trusted))
    }

    async fn route(&self, mut request: Request, observation: &Observation, held: &Held) -> Response {
        let client = self.client(&request);
        if let Some(client) = client {
            request.extensions_mut().insert(client);
        }
        request.extensions_mut().insert(held.clone());
        let span = observation.span(client);
        let (asked, preflight) =
            (request.uri().clone(), cors::preflight(request.method(), request.uri().path()));
        async {
            let mut response = match preflight {
                Some(preflight) => preflight,
                None => match self.routes.call(request).await {
                    Ok(response) => response.into_response(),
                    Err(error) => error::render(error).await,
                },
            };
            // Only then: the document, which knows the methods, is not made for nothing.
            if response.status() == StatusCode::METHOD_NOT_ALLOWED
                && let Some(known) = self.known
            {
                known.name_methods(asked.path(), &mut response);
            }
            response
        }
        .instrument(span)
        .await
    }
}

impl Observation {
    /// What the log says of the request beside what happens in it.
    fn span(&self, client: Option<Client>) -> Span {
        // An address is somebody.
        let client = client.map(|client| client_address::network_of(client.address));
        let Self { id, method, route, .. } = self;
        // The route, not the path: a path can hold what lets somebody watch or open a session.
        tracing::info_span!("request", id = id.as_str(), client, method, route)
    }

    /// Counts the answer, and logs it.
    fn complete(self, response: &Response) {
        let Self { id, started, method, route, public: _ } = self;
        let (status, took) = (response.status().as_u16(), started.elapsed());
        tracing::debug!(id = id.as_str(), method, route, status, ms = took.as_millis(), "answered");
        count(method, route, status, took);
    }

    /// The answer with the headers that all have. What an operator reads is not for caches.
    fn dressed(&self, mut response: Response) -> Response {
        if self.public {
            cors::permit(&mut response);
        }
        if is_stream(&response) {
            // A proxy that collects a stream before it passes it on would tell nothing in time.
            response.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        }
        pages::protect(&mut response, self.public);
        response.headers_mut().insert(REQUEST_ID, self.id.header());
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
}

fn is_stream(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// Counts an answer. The recorder looks a name and its labels up under locks that all requests share, so each thread keeps
/// what it found.
fn count(method: &'static str, route: &'static str, status: u16, took: Duration) {
    // A list: there are a few dozen at most, and nearly all requests are one of the first.
    type Kept = Vec<((u16, &'static str, &'static str), (Counter, Histogram))>;
    thread_local! {
        static KEPT: RefCell<Kept> = RefCell::default();
    }
    KEPT.with_borrow_mut(|kept| {
        let name = (status, route, method);
        let place = kept.iter().position(|(kept, _)| *kept == name).unwrap_or_else(|| {
            let code = status.to_string();
            let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", code)];
            let answers = metrics::counter!("connector_http_requests_total", &labels);
            let seconds = metrics::histogram!("connector_http_request_seconds", "route" => route);
            kept.push((name, (answers, seconds)));
            kept.len() - 1
        });
        let Some((_, (answers, seconds))) = kept.get(place) else { return };
        answers.increment(1);
        seconds.record(took.as_secs_f64());
    });
}

/// `//api/v1/…` is `/api/v1/…`: published clients join a base URL that ends with a slash.
fn collapse_slashes(request: &mut Request) {
    if !request.uri().path().contains("//") {
        return;
    }
    let mut path = String::with_capacity(request.uri().path().len());
    for character in request.uri().path().chars() {
        if character != '/' || !path.ends_with('/') {
            path.push(character);
        }
    }
    if let Some(query) = request.uri().query() {
        path.push('?');
        path.push_str(query);
    }
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
}

/// The method for a metric's label: a closed set, whatever callers invent.
fn method(method: &Method) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "POST", "DELETE", "PATCH", "PUT", "HEAD", "OPTIONS"];
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// The route for a metric's label: a closed set, whatever callers ask for.
fn route(path: &str) -> &'static str {
    const ROUTES: [&str; 12] = [
        "/api/v1/verify/public",
        "/api/v1/generate/public",
        "/api/v1/verify",
        "/api/v1/generate",
        "/api/v1/cancel",
        "/sign_in",
        "/healthz",
        "/readyz",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/",
    ];
    if path.starts_with("/api/v1/events/") {
        return "/api/v1/events";
    }
    if path.starts_with("/api/v1/dev/") {
        return "/api/v1/dev";
    }
    ROUTES.into_iter().find(|route| *route == path).unwrap_or("other")
}
