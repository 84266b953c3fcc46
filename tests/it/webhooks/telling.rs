//! What is told, and what its owner sees of it: the bytes, the signatures, the log, replays, test deliveries.

use std::time::Duration;

use serde_json::{Value, json};
use telegram_connector::domain::developer::Email;
use telegram_connector::domain::ids::Secret;

use super::{Owner, app_of, assert_signed, options, something_happens, world};
use crate::support::{ALICE, Answer, App, Attempt, Received, Receiver, Reply, World, eventually};

const CONFIRM: &str = "✅ Confirm";
const CANCEL: &str = "❌ Cancel";

async fn decide(world: &World, attempt: &Attempt, button: &str) {
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    world.tap(ALICE, prompt["id"].as_i64().unwrap(), button).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_told_in_the_bytes_of_the_protocol() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    let attempt = app.attempt().await;
    decide(&world, &attempt, CONFIRM).await;
    let told = receiver.next().await;
    let poll = app.poll(&attempt).await;
    let expected = format!(
        "{{\"event\":\"auth.confirmed\",\"session_token\":\"{}\",\"telegram_id\":{},\"telegram_name\":\"Alice\",\
         \"telegram_username\":\"alice_sandbox\",\"telegram_phone\":null,\"confirmed_at\":{},\"id\":\"{}\",\
         \"project_id\":\"{}\",\"created_at\":{},\"sandbox\":true}}",
        attempt.token,
        poll["telegram_id"],
        poll["confirmed_at_ms"],
        attempt.id(),
        app.id,
        poll["created_at_ms"]
    );
    assert_eq!(std::str::from_utf8(&told.body).unwrap(), expected);
    assert_eq!((told.method.as_str(), told.path.as_str()), ("POST", "/hook?from=tg"));
    assert_eq!(told.header("x-bondify-event"), Some("auth.confirmed"));
    assert_signed(&told, &[&app.secret]);

    let delivery = owner.delivered(&app).await;
    assert_eq!(delivery["id"].as_str(), told.header("webhook-id"));
    assert_eq!(delivery["body"], expected);
    assert_eq!(
        (&delivery["event"], &delivery["session_id"]),
        (&json!("auth.confirmed"), &json!(attempt.id()))
    );
    assert_eq!((&delivery["next_attempt_at"], &delivery["next_attempt_at_ms"]), (&Value::Null, &Value::Null));
    let tries = delivery["attempts"].as_array().unwrap();
    assert_eq!((tries.len(), &tries[0]["status"], &tries[0]["error"]), (1, &json!(200), &Value::Null));

    // Consuming it is no event; cancelling another is.
    assert_eq!(app.consume(&attempt).await["status"], "confirmed");
    let attempt = app.attempt().await;
    decide(&world, &attempt, CANCEL).await;
    let told = receiver.next().await;
    let cancelled_at = app.poll(&attempt).await["cancelled_at"].as_i64().unwrap();
    let body = told.json();
    let names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names.len(), 7, "{body}");
    assert_eq!(
        (&body["event"], &body["session_token"], &body["cancelled_at"]),
        (&json!("auth.cancelled"), &json!(attempt.token), &json!(cancelled_at))
    );
    assert_signed(&told, &[&app.secret]);
    owner.delivered(&app).await;
    assert_eq!((receiver.requests().len(), owner.log(&app).await.len()), (2, 2));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_is_told_only_to_who_asks_for_it() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let owner = Owner::of(&world).await;
    let plain = app_of(&world, &receiver).await;
    let curious = world.app(json!({ "webhook_url": receiver.url("/all"), "webhook_expired": true })).await;
    let (unheard, heard, ignored) = (plain.attempt().await, curious.attempt().await, curious.attempt().await);
    for attempt in [&unheard, &heard] {
        let opened = world.open(ALICE, &attempt.link).await;
        world.answer_to(ALICE, opened).await;
    }
    world.clock.advance(Duration::from_secs(601));
    // Whether or not anybody opened the link.
    let mut told = std::collections::BTreeMap::new();
    for _ in 0..2 {
        let request = receiver.next().await;
        assert_eq!(request.path, "/all");
        assert_signed(&request, &[&curious.secret]);
        let body = request.json();
        assert_eq!(body["event"], "auth.expired");
        told.insert(body["session_token"].as_str().unwrap().to_owned(), body["expired_at"].clone());
    }
    for attempt in [&heard, &ignored] {
        assert_eq!(told.get(&attempt.token), Some(&attempt.created["expires_at"]), "{told:?}");
    }
    owner.delivered(&curious).await;
    eventually("the other has ended too", || async { plain.poll(&unheard).await["status"] == "expired" })
        .await;
    assert_eq!((receiver.requests().len(), owner.log(&plain).await.len()), (2, 0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_can_be_sent_again_by_its_owner_alone() {
    let mut options = options();
    let stranger = ("stranger@example.com", "stranger-password");
    options.apps.bootstrap = Some((Email::parse(stranger.0).unwrap(), Secret::new(stranger.1.to_owned())));
    let (world, _) = World::with_bot(options).await;
    world.bot_is("ok").await;
    let receiver = Receiver::new().await;
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    something_happens(&app).await;
    let first = receiver.next().await;
    let delivery = owner.delivered(&app).await;
    let id = delivery["id"].as_str().unwrap();
    world.clock.advance(Duration::from_secs(3600));
    let replayed = owner.replay(id).await.json();
    assert_eq!((&replayed["id"], &replayed["state"]), (&json!(id), &json!("pending")));
    let again = receiver.next().await;
    assert_eq!((again.header("webhook-id"), &again.body), (Some(id), &first.body));
    let seconds = |one: &Received| one.header("webhook-timestamp").unwrap().parse::<i64>().unwrap();
    assert!(
        seconds(&again) >= seconds(&first) + 3600,
        "of the attempt, so that nobody takes it for a replay attack"
    );
    assert_signed(&again, &[&app.secret]);
    assert_eq!(owner.delivered(&app).await["attempts"].as_array().unwrap().len(), 2);

    let login = json!({ "email": stranger.0, "password": stranger.1 });
    let token = world.service.post("/api/v1/dev/login", &login).await.json()["token"].clone();
    let other = Owner { world: &world, bearer: format!("Bearer {}", token.as_str().unwrap()) };
    let nobody = Owner { world: &world, bearer: "Bearer nobody".to_owned() };
    let (log, test) =
        (format!("/projects/{}/deliveries", app.id), format!("/projects/{}/webhook-test", app.id));
    let replay = format!("/deliveries/{id}/replay");
    for (method, path, code) in [
        ("GET", &log, "PROJECT_NOT_FOUND"),
        ("POST", &test, "PROJECT_NOT_FOUND"),
        ("POST", &replay, "DELIVERY_NOT_FOUND"),
    ] {
        assert_eq!(other.call(method, path, None).await.refusal(), (404, code.into()), "{path}");
        assert_eq!(nobody.call(method, path, None).await.refusal(), (401, "UNAUTHORIZED".into()), "{path}");
    }
    for unknown in ["msg_00000000000000000000000000000000", "x", "%00"] {
        assert_eq!(owner.replay(unknown).await.refusal(), (404, "DELIVERY_NOT_FOUND".into()), "{unknown}");
    }
    assert_eq!(receiver.requests().len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_comes_in_pages_that_stay_while_new_events_come() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.insert(0, something_happens(&app).await.id());
        world.clock.advance(Duration::from_millis(10));
    }
    let page = |query: String| {
        let (owner, app) = (&owner, &app);
        async move { owner.call("GET", &format!("/projects/{}/deliveries?{query}", app.id), None).await }
    };
    let mut found = Vec::new();
    let mut query = "limit=2".to_owned();
    loop {
        let answer = page(query).await.json();
        let deliveries = answer["deliveries"].as_array().unwrap();
        assert!(deliveries.len() <= 2);
        found.extend(deliveries.iter().map(|one| one["session_id"].as_str().unwrap().to_owned()));
        something_happens(&app).await;
        let Some(cursor) = answer["next_cursor"].as_str() else { break };
        query = format!("limit=2&cursor={cursor}");
    }
    assert_eq!(found, expected);
    let (begin, empty) = (page("limit=2".to_owned()).await, page("limit=2&cursor=".to_owned()).await);
    let next = |page: &Answer| page.json()["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(next(&empty), next(&begin), "an empty cursor is none");
    for bad in ["limit=0", "limit=201", "limit=x", "cursor=x", "cursor=1.msg_x"] {
        assert_eq!(page(bad.to_owned()).await.refusal(), (400, "INVALID_REQUEST".into()), "{bad}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_delivery_tells_what_was_signed_and_what_came_back() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    let test = |app: &App| {
        let (owner, path) = (&owner, format!("/projects/{}/webhook-test", app.id));
        async move { owner.call("POST", &path, None).await }
    };
    receiver.answer_next(Reply::status(202).body("thanks"));
    let tested = test(&app).await.json();
    let sent = receiver.next().await;
    assert_signed(&sent, &[&app.secret]);
    assert_eq!((&tested["delivered"], &tested["error"]), (&json!(true), &Value::Null));
    assert_eq!((&tested["response"]["status"], &tested["response"]["body"]), (&json!(202), &json!("thanks")));
    assert_eq!(tested["request"]["url"], receiver.url("/hook?from=tg"));
    assert_eq!(tested["request"]["body"].as_str().unwrap().as_bytes(), sent.body);
    for (name, value) in tested["request"]["headers"].as_object().unwrap() {
        assert_eq!(sent.header(name), value.as_str(), "{name}");
    }
    assert_eq!(sent.header("x-bondify-event"), Some("webhook.test"));
    let body = sent.json();
    assert_eq!((&body["event"], &body["project_id"]), (&json!("webhook.test"), &json!(app.id)));

    receiver.answer_next(Reply::status(500).body("broken"));
    let tested = test(&app).await.json();
    assert_eq!((&tested["delivered"], &tested["response"]["body"]), (&json!(false), &json!("broken")));
    receiver.answer_next(Reply::hang_up());
    let tested = test(&app).await.json();
    assert_eq!((&tested["delivered"], &tested["response"]), (&json!(false), &Value::Null));
    assert!(tested["error"].as_str().unwrap().starts_with("connection: "), "{tested}");
    assert_eq!(owner.log(&app).await, Vec::<Value>::new(), "nobody has decided anything");

    let deaf = world.app(json!({})).await;
    assert_eq!(test(&deaf).await.refusal(), (409, "NO_WEBHOOK".into()));
    something_happens(&deaf).await;
    assert_eq!(owner.log(&deaf).await, Vec::<Value>::new());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_secret_signs_beside_the_new_one_until_its_grace_is_over() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, mut app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    let path = format!("/projects/{}/regenerate", app.id);
    let rotated = owner.call("POST", &path, Some(json!({ "grace_seconds": 600 }))).await.json();
    let (old, new) = (app.secret.clone(), rotated["secret_key"].as_str().unwrap().to_owned());
    app.secret.clone_from(&new);
    something_happens(&app).await;
    assert_signed(&receiver.next().await, &[&new, &old]);
    world.clock.advance(Duration::from_secs(601));
    something_happens(&app).await;
    assert_signed(&receiver.next().await, &[&new]);
    world.end().await;
}
