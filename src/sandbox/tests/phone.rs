//! The virtual phone's page: who may open it, and what its browser is forbidden. What it does is in `tests/interop`.

use grammers_tl_types as tl;
use serde_json::Value;
use serde_json::json;

use super::support::ALICE;
use super::support::Running;
use super::support::bare_peer;
use super::support::inline;
use super::support::phone_keyboard;
use super::support::send_message;
use super::support::soon;

/// What a browser sends along when a page elsewhere links, redirects or opens a tab to this.
const FOREIGN_NAVIGATION: [(&str, &str); 3] =
    [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

struct Browser {
    client: reqwest::Client,
    base: String,
}

impl Browser {
    fn of(sandbox: &Running) -> Self {
        let base = format!("http://{}", sandbox.sandbox.control_address());
        Self { client: reqwest::Client::new(), base }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = self.client.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        soon(request.send()).await.unwrap()
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> u16 {
        let mut request = self.client.post(format!("{}{path}", self.base)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        soon(request.send()).await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn an_app_may_lead_a_person_to_the_phone() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let browser = Browser::of(&sandbox);
    for path in ["/", "/some_bot?start=abc", "/some_bot?text=%3Cscript%3E", "/some_bot"] {
        for headers in [&[][..], &FOREIGN_NAVIGATION, &[("origin", "null")]] {
            let page = browser.get(path, headers).await;
            assert_eq!(page.status(), 200, "{path} {headers:?}");
            let text = page.text().await.unwrap();
            assert!(text.contains("Virtual phone") && !text.contains("<script>"), "{path}");
        }
    }
    for nowhere in ["/abcd", "/1robot", "/some-bot", "/some_bot/more", &format!("/{}", "a".repeat(33))] {
        assert_eq!(browser.get(nowhere, &[]).await.status(), 404, "{nowhere}");
    }
    // Another name that leads to this machine is how a foreign page would get to its own origin here.
    assert_eq!(browser.get("/", &[("host", "evil.example")]).await.status(), 403);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_foreign_page_can_neither_call_nor_embed_what_the_phone_does() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let browser = Browser::of(&sandbox);
    let person = json!({"phone": "+15550100009", "first_name": "Mallory"});
    let link = json!({"link": "https://t.me/some_bot?start=abc"});
    let foreign: [&[(&str, &str)]; 4] = [
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
        &FOREIGN_NAVIGATION,
    ];
    for headers in foreign {
        assert_eq!(browser.post("/api/accounts", headers, &person).await, 403, "{headers:?}");
        assert_eq!(browser.post(&format!("/api/accounts/{ALICE}/open"), headers, &link).await, 403);
        for path in ["/api/accounts", "/api/bots", "/phone.js", "/phone.css", "/docs", "/openapi.json"] {
            assert_eq!(browser.get(path, headers).await.status(), 403, "{path} {headers:?}");
        }
    }
    // Loading the page without going there: a script, a picture, a fetch.
    let load = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
    assert_eq!(browser.get("/", &load).await.status(), 403);
    assert_eq!(browser.get("/some_bot?start=abc", &load).await.status(), 403);

    let people = browser.get("/api/accounts", &[]).await.text().await.unwrap();
    assert!(people.contains(ALICE) && !people.contains("Mallory"));
    sandbox.stop().await;
}

#[tokio::test]
async fn the_phones_browser_runs_nothing_but_the_phone() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let browser = Browser::of(&sandbox);
    for (path, kind) in [
        ("/", "text/html"),
        ("/some_bot", "text/html"),
        ("/phone.js", "text/javascript"),
        ("/phone.css", "text/css"),
    ] {
        let answer = browser.get(path, &[("sec-fetch-site", "same-origin")]).await;
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        let policy = header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|given| given == rule), "{rule} is not in {policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
    // Nothing in the page itself is inline, or the policy would break it.
    let page = browser.get("/", &[]).await.text().await.unwrap();
    for inline in ["<style", "style=", "onclick=", "onload=", "http://", "//cdn"] {
        let fetched = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!fetched.contains(inline), "{inline}");
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn the_phone_learns_what_messages_alone_do_not_tell() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let alice = sandbox.person(ALICE);
    let made = sandbox.bot("some_bot");
    let mut bot = sandbox.bot_client(&made).await;
    let person = || async { sandbox.control("GET", "/api/accounts", None).await.1[0].clone() };
    assert_eq!((&person().await["login_code"], &person().await["blocked"]), (&Value::Null, &json!([])));

    // Nobody is signed in as Alice, so her code comes by SMS and not into a chat.
    let client = sandbox.grammers(&[2]).await;
    client.send_code(2, ALICE).await;
    assert_eq!(person().await["login_code"], json!(sandbox.code(ALICE).await));
    assert_eq!(sandbox.control("GET", &format!("/api/accounts/{ALICE}/messages"), None).await.1, json!([]));

    let hello = sandbox.play(ALICE, "send", json!({"to": made.id, "text": "hello"})).await;
    bot.new_message().await;
    let mut asked = hello["id"].as_i64().unwrap();
    let lasting = |mut markup| {
        if let tl::enums::ReplyMarkup::ReplyKeyboardMarkup(keyboard) = &mut markup {
            keyboard.single_use = false;
        }
        markup
    };
    let hide = tl::types::ReplyKeyboardHide { selective: false }.into();
    for (number, markup, keyboard) in [
        (1, Some(phone_keyboard()), json!("one_time")),
        (2, Some(lasting(phone_keyboard())), json!("shown")),
        (3, Some(hide), json!("removed")),
        (4, Some(inline(&[("Tap", "data")])), Value::Null),
        (5, None, Value::Null),
    ] {
        let mut message = send_message(bare_peer(alice.id), "Well?", number);
        message.reply_markup = markup;
        bot.call(2, &message).await.unwrap();
        let shown = sandbox.messages(ALICE, asked).await;
        assert_eq!(shown[0]["keyboard"], keyboard, "{number}");
        asked = shown[0]["id"].as_i64().unwrap();
    }

    sandbox.play(ALICE, "block", json!({"who": made.id, "blocked": true})).await;
    assert_eq!(person().await["blocked"], json!([made.id]));
    sandbox.play(ALICE, "open", json!({"link": "https://t.me/some_bot?start=again"})).await;
    assert_eq!(person().await["blocked"], json!([]), "opening a bot's link lets it in again");
    sandbox.stop().await;
}
