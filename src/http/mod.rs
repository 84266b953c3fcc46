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
mod observed;
mod ops;
mod pages;
mod quick;
mod request_id;
mod server;
mod sessions;
mod standing;
mod webhooks;

use std::sync::Arc;
use std::sync::LazyLock;

use bytes::Bytes;
use ipnet::IpNet;
use poem::endpoint::make_sync;
use poem::http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use poem::{Body, EndpointExt, Response, Route};
use poem_openapi::OpenApiService;

use self::apps::AppsApi;
use self::connector::ConnectorApi;
use self::developers::{AccountsApi, ProjectsApi};
use self::document::Document;
pub(crate) use self::guard::OperatorPolicy;
use self::observed::Observed;
use self::ops::{MetricsApi, OpenMetricsApi, PagesApi, ProbesApi};
use self::quick::Quick;
use self::server::Answers;
pub use self::server::Limits;
pub(crate) use self::server::listen;
pub(crate) use self::server::serve;
use self::sessions::SessionsApi;
use self::webhooks::WebhooksApi;
use crate::domain::page_policy::PLAIN_PAGE;
use crate::domain::page_policy::scripted_page;
use crate::flows::auth::Auth;
use crate::flows::deliveries::Deliveries;
use crate::flows::developers::Developers;
use crate::flows::ledger::Ledger;
use crate::flows::readiness::Readiness;
use crate::flows::sign_in::SignIn;

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
    /// Whether `GET /demo` is served.
    pub(crate) demo: bool,
    /// How long a body may take, and the rest.
    pub(crate) limits: Limits,
}

/// Every route of the service.
pub(crate) fn routes(parts: Parts) -> impl Answers {
    let Parts {
        auth,
        developers,
        ledger,
        deliveries,
        sign_in,
        readiness,
        operator,
        trusted_proxies,
        demo,
        limits,
    } = parts;
    // Made for its first reader: it takes megabytes, and most processes never have one.
    let docs = LazyLock::new(docs_page);
    let (operator, given) = (Arc::new(operator), auth.clone());
    let routes = if demo { Route::new().nest("/demo", demo::routes()) } else { Route::new() };
    let routes = routes
        .nest(
            "/docs",
            Route::new().at(
                "/",
                make_sync(move |_| {
                    let (policy, page) = &*docs;
                    Response::builder()
                        .content_type("text/html; charset=utf-8")
                        .header(CONTENT_SECURITY_POLICY, policy)
                        .body(Body::from_bytes(page.clone()))
                }),
            ),
        )
        .at("/openapi.json", make_sync(|_| DOCUMENT.response()))
        .nest("/", service())
        .before(move |mut request| {
            // At once: each `data` would be a layer that keeps room for the whole request while it is answered.
            request.set_data(limits);
            request.set_data(Arc::clone(&operator));
            request.set_data(given.clone());
            request.set_data(deliveries.clone());
            request.set_data(developers.clone());
            request.set_data(ledger.clone());
            request.set_data(sign_in.clone());
            request.set_data(readiness.clone());
            std::future::ready(Ok(request))
        })
        .catch_all_error(error::render);
    let quick = Some(Quick::new(auth, limits));
    Observed { routes, quick, known: Some(&DOCUMENT), trusted: trusted_proxies }
}

/// Swagger UI with the document, and what it may do. However many readers do not read it, there is one copy.
fn docs_page() -> (HeaderValue, Bytes) {
    let service = service();
    // The page has the document in it, as a script: nothing in there may end that.
    let text = DOCUMENT.text().replace("</", "<\\/");
    let page = service.swagger_ui_html().replace(&service.spec(), &text);
    let policy = HeaderValue::from_str(&scripted_page(&page));
    (policy.unwrap_or(HeaderValue::from_static(PLAIN_PAGE)), Bytes::from(page))
}

/// The routes of the second listener: probes and metrics, nothing else, without a token.
pub(crate) fn ops_routes(parts: Parts) -> impl Answers {
    let Parts { sign_in, readiness, trusted_proxies, .. } = parts;
    let routes = Route::new()
        .nest("/", OpenApiService::new((ProbesApi, OpenMetricsApi), "", ""))
        .data(sign_in)
        .data(readiness)
        .catch_all_error(error::render);
    Observed { routes, quick: None, known: None, trusted: trusted_proxies }
}

/// The OpenAPI document, as `telegram-connector openapi` prints it and `/openapi.json` serves it.
pub fn openapi_document() -> String {
    DOCUMENT.text().to_owned()
}

/// Made when first asked for, by a reader or by a request with a method that its path does not have: making it takes a
/// megabyte, and as many pages of the program that nothing else needs.
static DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document::new(&service().spec()));

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
