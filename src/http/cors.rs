//! Which paths pages of other sites may call (Fetch standard, CORS): the public session endpoints and the event stream,
//! errors included. Everything else sends no CORS header.

use poem::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use poem::http::{HeaderName, HeaderValue, Method, StatusCode};
use poem::{IntoResponse, Response};

const PUBLIC: [&str; 2] = ["/api/v1/generate/public", "/api/v1/verify/public"];
const STREAM: &str = "/api/v1/events/";

/// Whether pages of any site may call this path.
pub(super) fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path) || path.starts_with(STREAM)
}

/// The answer to a preflight of a public path.
pub(super) fn preflight(method: &Method, path: &str) -> Option<Response> {
    (method == Method::OPTIONS && is_public(path)).then(|| {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers: [(HeaderName, &str); 3] = [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (
                ACCESS_CONTROL_ALLOW_HEADERS,
                "Authorization, Content-Type, Cache-Control, Last-Event-ID, X-Requested-With",
            ),
            (ACCESS_CONTROL_MAX_AGE, "86400"),
        ];
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    })
}

/// Lets pages of any site read the answer.
pub(super) fn permit(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After, X-Request-Id"));
}
