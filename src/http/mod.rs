//! The edge: routes, the order of middleware, the OpenAPI document. Parses, calls one flow, renders; decides nothing.

mod answer;
mod apps;
mod body;
mod caller;
mod client_address;
mod connector;
mod cors;
mod demo;
mod developers;
mod document;
mod error;
mod guard;
mod ops;
mod pages;
mod server;
mod sessions;
mod standing;
mod webhooks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ipnet::IpNet;
use poem::endpoint::make_sync;
use poem::http::Method;
use poem::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue};
use poem::{Body, Endpoint, EndpointExt, IntoResponse, Request, Response, Route};
use poem_openapi::OpenApiService;
use tracing::Instrument as _;

use self::apps::AppsApi;
use self::client_address::Client;
use self::connector::ConnectorApi;
use self::developers::{AccountsApi, ProjectsApi};
use self::document::Document;
pub(crate) use self::guard::OperatorPolicy;
use self::ops::{MetricsApi, OpenMetricsApi, PagesApi, ProbesApi};
pub use self::server::Limits;
pub(crate) use self::server::serve;
use self::sessions::SessionsApi;
use self::webhooks::WebhooksApi;
use crate::domain::ids::Ids;
use crate::domain::page_policy::PLAIN_PAGE;
use crate::domain::page_policy::scripted_page;
use crate::flows::auth::Auth;
use crate::flows::deliveries::Deliveries;
use crate::flows::developers::Developers;
use crate::flows::ledger::Ledger;
use crate::flows::readiness::Readiness;
use crate::flows::sign_in::SignIn;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the routes are made of.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) auth: Auth,
    pub(crate) developers: Developers,
    pub(crate) ledger: Ledger,
    pub(crate) deliveries: Deliveries,
    pub(crate) sign_in: SignIn,
    pub(crate) readiness: Readiness,
    pub(crate) operator: OperatorPolicy,
    /// `CONNECTOR_TRUSTED_PROXIES`.
    pub(crate) trusted_proxies: Arc<[IpNet]>,
    pub(crate) ids: Ids,
    /// Whether `GET /demo` is served.
    pub(crate) demo: bool,
    /// How long a body may take, and the rest.
    pub(crate) limits: Limits,
}

/// Every route of the service.
pub(crate) fn routes(parts: Parts) -> impl Endpoint {
    let Parts {
        auth,
        developers,
        ledger,
        deliveries,
        sign_in,
        readiness,
        operator,
        trusted_proxies,
        ids,
        demo,
        limits,
    } = parts;
    let service = service();
    let printed = service.spec();
    let document = Document::new(&printed);
    // The page has the document in it, as a script: nothing in there may end that.
    let docs = service.swagger_ui_html().replace(&printed, &document.text().replace("</", "<\\/"));
    let (served, known) = (document.clone(), document);
    let docs_policy = HeaderValue::from_str(&scripted_page(&docs));
    // However many readers do not read it, there is one copy.
    let docs = Bytes::from(docs);
    let docs_policy = docs_policy.unwrap_or(HeaderValue::from_static(PLAIN_PAGE));
    let pages = if demo { Route::new().nest("/demo", demo::routes()) } else { Route::new() };
    pages
        .nest(
            "/docs",
            Route::new().at(
                "/",
                make_sync(move |_| {
                    let page = Response::builder().content_type("text/html; charset=utf-8");
                    page.header(CONTENT_SECURITY_POLICY, docs_policy.clone())
                        .body(Body::from_bytes(docs.clone()))
                }),
            ),
        )
        .at("/openapi.json", make_sync(move |_| served.response()))
        .nest("/", service)
        .data(limits)
        .data(Arc::new(operator))
        .data(auth)
        .data(deliveries)
        .data(developers)
        .data(ledger)
        .data(sign_in)
        .data(readiness)
        .catch_all_error(error::render)
        .around(move |endpoint, request| {
            let known = known.clone();
            let (id, trusted) = (ids.base62(16), Arc::clone(&trusted_proxies));
            async move {
                let path = request.uri().path().to_owned();
                let mut response = observe(endpoint, request, id, trusted).await?;
                known.name_methods(&path, &mut response);
                Ok(response)
            }
        })
}

/// The routes of the second listener: probes and metrics, nothing else, without a token.
pub(crate) fn ops_routes(parts: Parts) -> impl Endpoint {
    let Parts { sign_in, readiness, trusted_proxies, ids, .. } = parts;
    Route::new()
        .nest("/", OpenApiService::new((ProbesApi, OpenMetricsApi), "", ""))
        .data(sign_in)
        .data(readiness)
        .catch_all_error(error::render)
        .around(move |endpoint, request| {
            observe(endpoint, request, ids.base62(16), Arc::clone(&trusted_proxies))
        })
}

/// The OpenAPI document, as `telegram-connector openapi` prints it and `/openapi.json` serves it.
pub fn openapi_document() -> String {
    Document::new(&service().spec()).text().to_owned()
}

type Apis = (
    (ConnectorApi, AppsApi, AccountsApi, ProjectsApi),
    (SessionsApi, WebhooksApi, ProbesApi, MetricsApi, PagesApi),
);

fn service() -> OpenApiService<Apis, ()> {
    let apis = (
        (ConnectorApi, AppsApi, AccountsApi, ProjectsApi),
        (SessionsApi, WebhooksApi, ProbesApi, MetricsApi, PagesApi),
    );
    OpenApiService::new(apis, "telegram-connector", env!("CARGO_PKG_VERSION")).description(
        "Sign in with Telegram, run by its owner. Errors are JSON, `{\"error\",\"code\"}`: `error` is for people, \
         `code` for programs. A path that is not here is 404 `NOT_FOUND`; a method that a path does not have, 405 \
         `METHOD_NOT_ALLOWED`.",
    )
}

/// Gives every request an id, a span and, at debug level, a line; operator data is not for caches.
async fn observe<E: Endpoint>(
    endpoint: Arc<E>,
    mut request: Request,
    id: String,
    trusted: Arc<[IpNet]>,
) -> poem::Result<Response> {
    collapse_slashes(&mut request);
    let peer = request.remote_addr().as_socket_addr().map(SocketAddr::ip);
    let client = peer.map(|peer| Client::of(peer, request.headers(), &trusted));
    if let (Some(peer), Some(client)) = (peer, client) {
        client_address::warn_of_unlisted_proxy(peer, request.headers(), &trusted);
        request.extensions_mut().insert(client);
    }
    // An address is somebody.
    let client = client.map(|client| client_address::network_of(client.address));
    let started = Instant::now();
    let (method, route) = (method(request.method()), route(request.uri().path()));
    // The route, not the path: a path can hold what lets somebody watch or open a session.
    let span = tracing::info_span!("request", id, client, method, route);
    let preflight = cors::preflight(request.method(), request.uri().path());
    let public = cors::is_public(request.uri().path());
    let mut response = async {
        let response = match preflight {
            Some(preflight) => preflight,
            None => match endpoint.call(request).await {
                Ok(response) => response.into_response(),
                Err(error) => error::render(error).await,
            },
        };
        tracing::debug!(status = response.status().as_u16(), ms = started.elapsed().as_millis(), "answered");
        response
    }
    .instrument(span)
    .await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("connector_http_requests_total", "method" => method, "route" => route, "status" => status)
        .increment(1);
    metrics::histogram!("connector_http_request_seconds", "route" => route)
        .record(started.elapsed().as_secs_f64());
    if public {
        cors::permit(&mut response);
        // A proxy that collects a stream before it passes it on would tell nothing in time.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    pages::protect(&mut response, public);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    Ok(response)
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
