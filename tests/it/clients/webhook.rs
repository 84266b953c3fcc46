//! `verifyWebhook` of the Node client: it wants `X-Bondify-Signature`, and where a JSON parser ran first it signs what
//! `JSON.stringify` makes of the body again.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use telegram_connector::app::AppSettings;

use super::{CANCEL, CONFIRM, decide};
use crate::support::{App, Options, Received, Receiver, World};

/// What Node answers: the event, or the code of its error.
fn verify_webhook(request: &Received, secret: &str, body: &[u8]) -> Result<Value, &'static str> {
    let signature = request.header("x-bondify-signature").ok_or("MISSING_SIGNATURE")?;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    // timingSafeEqual throws where the lengths differ, as they do with `sha256=…`.
    assert_eq!(signature.len(), digits.len(), "{signature}");
    if signature != digits {
        return Err("INVALID_SIGNATURE");
    }
    serde_json::from_slice(body).map_err(|_| "PARSE_ERROR")
}

/// `JSON.stringify(JSON.parse(body))`: the same order, no blanks, nothing escaped that need not be.
fn stringified(body: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(body).unwrap();
    // Values keep no order here, so it is taken from the text: fields are flat, and none holds a quote or a comma.
    let fields = text.trim_matches(['{', '}']).split(',').map(|field| {
        let (name, value) = field.split_once(':').unwrap();
        let value: Value = serde_json::from_str(value).unwrap();
        format!("{}:{value}", name.trim())
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(",")).into_bytes()
}

async fn world_with_receiver(settings: Value) -> (World, Receiver, App) {
    let webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
    let apps = AppSettings { demo: true, webhook_allow, ..AppSettings::default() };
    let (world, _) = World::with_bot(Options { apps, ..Options::default() }).await;
    world.bot_is("ok").await;
    let receiver = Receiver::new().await;
    let mut settings = settings;
    settings["webhook_url"] = receiver.url("/hook").into();
    let app = world.app(settings).await;
    (world, receiver, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_webhook_accepts_both_events_as_they_come_and_written_anew() {
    let (world, receiver, app) = world_with_receiver(json!({})).await;
    // A person whose name other writers would escape, and without a username.
    let (phone, name) = ("+15550100009", "Дора 🦊 </p>");
    let person = json!({ "phone": phone, "first_name": name });
    assert_eq!(world.sandbox.post("/api/accounts", &person).await.status, 200);
    let attempt = app.attempt().await;
    let opened = world.open(phone, &attempt.link).await;
    let prompt = world.answer_to(phone, opened).await["id"].as_i64().unwrap();
    world.tap(phone, prompt, CONFIRM).await;
    let request = receiver.next().await;
    assert_eq!(request.header("content-type").map(|kind| kind.starts_with("application/json")), Some(true));
    let event = verify_webhook(&request, &app.secret, &request.body).unwrap();
    assert_eq!(verify_webhook(&request, &app.secret, &stringified(&request.body)).unwrap(), event, "C7");
    assert_eq!(verify_webhook(&request, "whsec_another", &request.body), Err("INVALID_SIGNATURE"), "C7");
    assert_eq!(
        (&event["event"], &event["telegram_name"]),
        (&json!("auth.confirmed"), &json!(name)),
        "{event}"
    );
    assert_eq!(event.get("telegram_username"), Some(&Value::Null), "C2: in the webhook");
    assert!(event["telegram_id"].is_string() && event["confirmed_at"].is_i64(), "C26: {event}");
    assert_eq!(event["session_token"], attempt.token);

    let attempt = app.attempt().await;
    decide(&world, &attempt.link, CANCEL).await;
    let request = receiver.next().await;
    let event = verify_webhook(&request, &app.secret, &stringified(&request.body)).unwrap();
    assert_eq!((&event["event"], &event["session_token"]), (&json!("auth.cancelled"), &json!(attempt.token)));
    assert!(event["cancelled_at"].is_i64() && event.get("telegram_id").is_none(), "C9: {event}");
    world.end().await;
}
