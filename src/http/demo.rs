//! `GET /demo`: the page a newcomer tries and copies from, and the QR code that it shows. Mounted where the service embeds
//! its sandbox, nowhere else. The page uses the public endpoints like any app's page; what it does is in `demo.js`.

use poem::endpoint::make_sync;
use poem::error::ParseQueryError;
use poem::http::header;
use poem::middleware::SetHeader;
use poem::{Endpoint, EndpointExt, IntoResponse, Request, Response, Route, get};
use qrcode::{Color, EcLevel, QrCode};

use super::error::ApiError;

/// The page may run its own script and style, call this service, and nothing else; nobody may frame it, and text never
/// becomes markup (trusted types). What all pages have beside it is in `pages`.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";
/// Longest text in a QR code, in bytes: several times a deeplink.
const LONGEST_TEXT: usize = 512;
/// Light modules around the code, as readers expect.
const QUIET_ZONE: usize = 4;

/// The page, its parts, and `/qr?text=…`; below `/demo`.
pub(super) fn routes() -> Route {
    Route::new()
        .at("/", get(file("text/html; charset=utf-8", include_str!("demo.html"))))
        .at("/demo.js", get(file("text/javascript; charset=utf-8", include_str!("demo.js"))))
        .at("/demo.css", get(file("text/css; charset=utf-8", include_str!("demo.css"))))
        .at("/qr", get(guarded(make_sync(|request| qr(&request)))))
}

fn file(kind: &'static str, text: &'static str) -> impl Endpoint {
    guarded(make_sync(move |_| text.with_content_type(kind).into_response()))
}

fn guarded(endpoint: impl Endpoint + 'static) -> impl Endpoint {
    endpoint.with(SetHeader::new().overriding(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
}

#[derive(serde::Deserialize)]
struct Wanted {
    text: String,
}

/// The text as a QR code, in SVG.
fn qr(request: &Request) -> poem::Result<Response> {
    let wanted = request
        .params::<Wanted>()
        .map_err(|_: ParseQueryError| ApiError::invalid_request("send the text of the QR code as `text`"))?;
    let too_long = || ApiError::invalid_request(format!("`text` is longer than {LONGEST_TEXT} bytes"));
    if wanted.text.len() > LONGEST_TEXT {
        return Err(too_long().into());
    }
    let code = QrCode::with_error_correction_level(wanted.text, EcLevel::M).map_err(|_| too_long())?;
    Ok(svg(&code).with_content_type("image/svg+xml").into_response())
}

/// A picture of dark squares, a unit each.
fn svg(code: &QrCode) -> String {
    let side = code.width() + 2 * QUIET_ZONE;
    let colors = code.to_colors();
    let rows = colors.chunks(code.width()).enumerate();
    let squares = rows.flat_map(|(row, modules)| {
        let dark = modules.iter().enumerate().filter(|(_, module)| **module == Color::Dark);
        dark.map(move |(column, _)| format!("M{} {}h1v1h-1z", column + QUIET_ZONE, row + QUIET_ZONE))
    });
    let path = squares.collect::<Vec<_>>().concat();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\"{path}\"/></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(uri: &str) -> Response {
        let request = Request::builder().uri(uri.parse().unwrap()).finish();
        routes().get_response(request).await
    }

    async fn picture(text: &str) -> String {
        let escaped: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let answer = ask(&format!("/qr?text={escaped}")).await;
        assert_eq!(answer.status(), 200, "{text}");
        assert_eq!(answer.content_type(), Some("image/svg+xml"));
        answer.into_body().into_string().await.unwrap()
    }

    #[tokio::test]
    async fn a_link_becomes_a_picture_of_nothing_but_squares() {
        let link = picture("http://localhost:5001/demo_login_bot?start=AbCdEfGhIjKlMnOpQrStUv").await;
        // Version 5, 37 modules a side, and the quiet zone; the first finder pattern is in its corner.
        assert!(
            link.contains("viewBox=\"0 0 45 45\"") && link.contains("M4 4h1v1h-1zM5 4h1v1h-1z"),
            "{link}"
        );
        let hostile = picture("\"/><script>alert(1)</script>").await;
        assert!(!hostile.contains("script") && hostile.matches('<').count() == 4, "{hostile}");
    }

    #[tokio::test]
    async fn a_text_of_any_length_gets_a_picture_or_a_refusal() {
        for units in (0..LONGEST_TEXT / 5).step_by(7) {
            picture(&"1a\u{e9}\u{0}".repeat(units)).await;
        }
        picture(&"a".repeat(LONGEST_TEXT)).await;
        for refused in
            [format!("/qr?text={}", "a".repeat(LONGEST_TEXT + 1)), "/qr".into(), "/qr?txt=a".into()]
        {
            let answer = ask(&refused).await;
            assert_eq!(answer.status(), 400, "{refused}");
            let body = answer.into_body().into_string().await.unwrap();
            assert!(body.contains("INVALID_REQUEST"), "{body}");
        }
    }

    #[tokio::test]
    async fn the_page_may_run_its_own_script_and_nothing_else() {
        for (path, kind) in [
            ("/", "text/html"),
            ("/demo.js", "text/javascript"),
            ("/demo.css", "text/css"),
            ("/qr?text=a", "image/svg+xml"),
        ] {
            let answer = ask(path).await;
            let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            assert!(header("content-type").starts_with(kind), "{path}");
            let policy = header("content-security-policy");
            for rule in
                ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"]
            {
                assert!(policy.split("; ").any(|given| given == rule), "{rule} is not in {policy}");
            }
            assert!(!policy.contains("unsafe"));
        }
        let page = include_str!("demo.html").replace("http://www.w3.org/2000/svg", "");
        for inline in ["<style", "style=", "onclick=", "onload=", "http://", "https://", "//cdn"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }
}
