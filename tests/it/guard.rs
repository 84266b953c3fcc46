//! Who is the operator: the token's holder, or, without a token, a program on this machine and nobody else.

use serde_json::json;

use crate::support::{ALICE, Options, World};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_use_a_loopback_service() {
    let world = World::new().await;
    let body = json!({ "phone": ALICE }).to_string();
    let hostile: [&[(&str, &str)]; 7] = [
        // A page elsewhere, a page on another port, a sandboxed page.
        &[JSON, ("origin", "https://evil.example")],
        &[JSON, ("origin", "http://localhost:3000")],
        &[JSON, ("origin", "null")],
        &[JSON, ("sec-fetch-site", "cross-site")],
        // DNS rebinding: the browser believes that the service is evil.example.
        &[JSON, ("host", "evil.example:5000")],
        // A proxy in front that nobody told us of.
        &[JSON, ("x-forwarded-for", "203.0.113.7")],
        &[JSON, ("forwarded", "for=203.0.113.7")],
    ];
    for headers in hostile {
        for (method, body) in [("POST", Some(body.as_str())), ("GET", None), ("DELETE", None)] {
            let answer = world.service.send(method, "/sign_in", headers, body).await;
            assert_eq!(answer.refusal(), (401, "UNAUTHORIZED".into()), "{method} {headers:?}");
            assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
        }
    }
    assert_eq!(world.calls("auth.sendCode").await, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_cannot_post_a_sign_in() {
    let world = World::new().await;
    let body = json!({ "phone": ALICE }).to_string();
    for content_type in
        ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""]
    {
        let answer =
            world.service.send("POST", "/sign_in", &[("content-type", content_type)], Some(&body)).await;
        assert_eq!(answer.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".into()), "{content_type}");
    }
    let answer = world.service.send("POST", "/sign_in", &[], Some(&body)).await;
    assert_eq!(answer.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE".into()));
    let lenient = [("content-type", "Application/JSON; charset=UTF-8")];
    assert!(world.service.send("POST", "/sign_in", &lenient, Some(&body)).await.is_empty(206));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swagger_ui_on_the_service_itself_is_let_in() {
    let world = World::new().await;
    let host = ("host", "localhost:5000");
    let own = [JSON, host, ("origin", "http://localhost:5000"), ("sec-fetch-site", "same-origin")];
    let body = json!({ "phone": ALICE }).to_string();
    assert!(world.service.send("POST", "/sign_in", &own, Some(&body)).await.is_empty(206));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_its_holder_comes_in_through_any_door() {
    let world =
        World::with(Options { admin_token: Some("planted-token"), loopback: false, ..Options::default() })
            .await;
    for headers in
        [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "Basic planted-token")]]
    {
        let answer = world.service.send("GET", "/sign_in", headers, None).await;
        assert_eq!(answer.refusal(), (401, "UNAUTHORIZED".into()), "{headers:?}");
    }
    // Authentication comes before the body is read.
    let answer = world.service.send("POST", "/sign_in", &[("content-type", "text/plain")], Some("{")).await;
    assert_eq!(answer.refusal(), (401, "UNAUTHORIZED".into()));

    let through_a_proxy = [
        ("authorization", "Bearer planted-token"),
        ("host", "login.example"),
        ("x-forwarded-for", "203.0.113.7"),
    ];
    assert_eq!(world.service.send("GET", "/sign_in", &through_a_proxy, None).await.status, 200);
    for open in ["/healthz", "/readyz", "/docs", "/openapi.json", "/", "/llms.txt"] {
        assert_eq!(world.service.get(open).await.status, 200, "{open}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_a_public_listener_answers_no_operator() {
    let world = World::with(Options { loopback: false, ..Options::default() }).await;
    assert_eq!(world.service.get("/sign_in").await.refusal(), (401, "UNAUTHORIZED".into()));
    world.end().await;
}
