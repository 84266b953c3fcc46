//! What every answer, and every page, tells the browser that shows it: nothing is sniffed, framed, or sent on as a referrer.

use poem::Response;
use poem::http::HeaderName;
use poem::http::HeaderValue;
use poem::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use crate::domain::page_policy::PERMISSIONS;
use crate::domain::page_policy::PLAIN_PAGE;

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Protects an answer. `public`: pages of any site may read it (CORS).
pub(super) fn protect(response: &mut Response, public: bool) {
    let page = response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
        [&b"text/html"[..], b"image/svg"].iter().any(|one| kind.as_bytes().starts_with(one))
    });
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !public {
        // A page from elsewhere cannot take it for a script or a picture either.
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    }
    if page {
        headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(PLAIN_PAGE));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(PERMISSIONS_POLICY, HeaderValue::from_static(PERMISSIONS));
    }
}
