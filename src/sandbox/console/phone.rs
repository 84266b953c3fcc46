//! The virtual phone: a page that plays one person's Telegram through the calls of this API. Only the page is served here;
//! what it does is in `phone/phone.js`, and everything it does goes through `guard` like any other call.

use poem::Endpoint;
use poem::EndpointExt;
use poem::IntoResponse;
use poem::Request;
use poem::Response;
use poem::Route;
use poem::endpoint::make_sync;
use poem::get;
use poem::http::Method;
use poem::http::StatusCode;
use poem::http::header;
use poem::middleware::SetHeader;

use super::errors::Refused;
use crate::domain::page_policy::PERMISSIONS;

/// The page may run its own script and style, call this API, and nothing else; nobody may frame it, and text never
/// becomes markup (trusted types).
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// Whether a request is for the page itself, which a person may open from anywhere: a link of an app leads here. It acts
/// only when the person does.
pub(super) fn is_page(method: &Method, path: &str) -> bool {
    let name = path.strip_prefix('/').unwrap_or_default();
    method == Method::GET && (name.is_empty() || is_username(name))
}

/// As Telegram has it: 5 to 32 letters, digits and underscores, a letter first.
fn is_username(name: &str) -> bool {
    (5..=32).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Adds the page and its parts.
pub(super) fn add_to(routes: Route) -> Route {
    let page = |request: Request| {
        let there = is_page(request.method(), request.uri().path());
        let text = there.then_some(include_str!("phone/phone.html"));
        text.ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "not found").into())
    };
    routes
        .at("/", get(file("text/html; charset=utf-8", page)))
        .at("/:username", get(file("text/html; charset=utf-8", page)))
        .at("/phone.js", get(file("text/javascript; charset=utf-8", |_| Ok(include_str!("phone/phone.js")))))
        .at("/phone.css", get(file("text/css; charset=utf-8", |_| Ok(include_str!("phone/phone.css")))))
}

fn file(
    kind: &'static str,
    text: impl Fn(Request) -> poem::Result<&'static str> + Send + Sync + 'static,
) -> impl Endpoint<Output = Response> {
    let file = make_sync(move |request| {
        Ok::<_, poem::Error>(text(request)?.with_content_type(kind).into_response())
    });
    guarded(file, CONTENT_SECURITY_POLICY)
}

/// A page, or a part of one, that may do what `policy` says.
pub(super) fn guarded<E: Endpoint + 'static>(
    page: E,
    policy: &str,
) -> impl Endpoint<Output = Response> + use<E> {
    page.with(
        SetHeader::new()
            .overriding(header::CONTENT_SECURITY_POLICY, policy)
            .overriding(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .overriding(header::X_FRAME_OPTIONS, "DENY")
            .overriding(header::REFERRER_POLICY, "no-referrer")
            .overriding(header::HeaderName::from_static("permissions-policy"), PERMISSIONS)
            .overriding(header::CACHE_CONTROL, "no-cache"),
    )
    .map_to_response()
}
