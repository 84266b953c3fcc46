//! Who may call the control API, and what a body may be.

use poem::Body;
use poem::Request;
use poem::http::Method;
use poem::http::StatusCode;
use poem::http::header;

use super::errors::Refused;
use super::phone;

const MAX_BODY: usize = 64 << 10;

/// Lets in who is on this machine, or everyone when public, and no foreign web page; the virtual phone may be navigated
/// to from anywhere. Reads the body, which is short.
pub(super) async fn check(mut request: Request, public: bool) -> poem::Result<Request> {
    let text = |name: header::HeaderName| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let host = text(header::HOST).unwrap_or_default();
    let own = |origin: &str| {
        ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host.as_str()))
    };
    let fetch = |name| text(header::HeaderName::from_static(name));
    let foreign = text(header::ORIGIN).is_some_and(|origin| !own(&origin))
        || fetch("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
        // Developers choose where webhooks of a service beside it go.
        || fetch("webhook-id").is_some();
    let navigates = fetch("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    let opens_phone = navigates && phone::is_page(request.method(), request.uri().path());
    if foreign && !opens_phone || !public && !is_loopback_host(&host) {
        return Err(Refused::forbidden().into());
    }
    let has_body = request.method() != Method::GET && request.method() != Method::DELETE;
    if has_body {
        let json = text(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"));
        let bytes = request
            .take_body()
            .into_bytes_limit(MAX_BODY)
            .await
            .map_err(|_| Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 KiB"))?;
        if !json && !bytes.is_empty() {
            let refused = Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json");
            return Err(refused.into());
        }
        request.set_body(Body::from_bytes(bytes));
    }
    Ok(request)
}

fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    matches!(name, "localhost" | "127.0.0.1" | "::1")
}
