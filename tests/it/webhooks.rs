//! What a developer's server is told of decisions: the bytes, the repetitions, the end of a webhook, the log. What may be
//! reached is in `webhook_targets`, a crash in `webhooks_crash`.

use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use telegram_connector::app::AppSettings;
use telegram_connector::domain::clock::{Clock as _, Timestamp};
use telegram_connector::domain::developer::Email;
use telegram_connector::domain::ids::Secret;

use crate::support::{ALICE, Answer, App, Attempt, Options, Received, Receiver, Reply, World, eventually};

const CONFIRM: &str = "✅ Confirm";
const CANCEL: &str = "❌ Cancel";

/// A service that may reach receivers on this machine.
fn options() -> Options {
    let webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
    Options {
        apps: AppSettings { demo: true, webhook_allow, ..AppSettings::default() },
        ..Options::default()
    }
}

/// A developer who looks after the webhooks of a project.
struct Owner<'a> {
    world: &'a World,
    bearer: String,
}

impl<'a> Owner<'a> {
    async fn of(world: &'a World) -> Self {
        Self { world, bearer: format!("Bearer {}", world.developer().await) }
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let headers = [("authorization", self.bearer.as_str()), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string());
        self.world.service.send(method, &format!("/api/v1/dev{path}"), &headers, body.as_deref()).await
    }

    async fn log(&self, app: &App) -> Vec<Value> {
        let answer = self.call("GET", &format!("/projects/{}/deliveries", app.id), None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["deliveries"].as_array().unwrap().clone()
    }

    /// The newest delivery, once it is like this.
    async fn newest(&self, app: &App, is: impl Fn(&Value) -> bool + Send + Sync) -> Value {
        let newest = || async { self.log(app).await.first().cloned().unwrap_or_default() };
        eventually("the newest delivery", || async { is(&newest().await) }).await;
        newest().await
    }

    /// The newest delivery, once so many attempts were made at it.
    async fn tried(&self, app: &App, times: usize) -> Value {
        self.newest(app, |one| one["attempts"].as_array().is_some_and(|tries| tries.len() >= times)).await
    }

    async fn delivered(&self, app: &App) -> Value {
        self.newest(app, |one| one["state"] == "delivered").await
    }

    async fn replay(&self, id: &str) -> Answer {
        self.call("POST", &format!("/deliveries/{id}/replay"), None).await
    }

    async fn change(&self, app: &App, change: Value) -> Value {
        let answer = self.call("PATCH", &format!("/projects/{}", app.id), Some(change)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    async fn project(&self, app: &App) -> Value {
        let projects = self.call("GET", "/projects", None).await.json();
        let found = projects["projects"].as_array().unwrap().iter().find(|one| one["id"] == app.id.as_str());
        found.unwrap().clone()
    }

    /// Moves the clock to when a delivery is sent next, which must not be now.
    fn move_to_next_attempt(&self, delivery: &Value) -> Duration {
        let next = Timestamp::from_millis(delivery["next_attempt_at_ms"].as_i64().unwrap());
        let pause = next.since(self.world.clock.now());
        self.world.clock.advance(pause);
        pause
    }
}

async fn world() -> World {
    let (world, _) = World::with_bot(options()).await;
    world.bot_is("ok").await;
    world
}

/// An app whose server is this receiver.
async fn app_of(world: &World, receiver: &Receiver) -> App {
    world.app(json!({ "webhook_url": receiver.url("/hook?from=tg") })).await
}

async fn decide(world: &World, attempt: &Attempt, button: &str) {
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await;
    world.tap(ALICE, prompt["id"].as_i64().unwrap(), button).await;
}

/// Something happens that the webhook is told: the quickest that there is.
async fn something_happens(app: &App) -> Attempt {
    let attempt = app.attempt().await;
    let body = json!({ "project_id": app.id, "session_token": attempt.token });
    assert_eq!(app.call_keyed("/api/v1/cancel", &body).await.status, 200);
    attempt
}

fn mac(secret: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Checks the signatures of a request as a receiver with these secrets, the present one first.
fn assert_signed(request: &Received, secrets: &[&str]) {
    let header = |name: &str| request.header(name).unwrap_or_else(|| panic!("no {name}: {request:?}"));
    let body = std::str::from_utf8(&request.body).unwrap();
    let hex: String = mac(secrets[0], body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("x-bondify-signature"), hex);
    let signed = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
    let standard = |secret: &&str| {
        format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac(secret, &signed)))
    };
    assert_eq!(header("webhook-signature"), secrets.iter().map(standard).collect::<Vec<_>>().join(" "));
    assert_eq!(header("x-bondify-delivery"), header("webhook-id"));
    assert_eq!(header("x-bondify-timestamp"), header("webhook-timestamp"));
    assert_eq!(header("content-type"), "application/json");
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
    let (unheard, heard) = (plain.attempt().await, curious.attempt().await);
    for attempt in [&unheard, &heard] {
        let opened = world.open(ALICE, &attempt.link).await;
        world.answer_to(ALICE, opened).await;
    }
    world.clock.advance(Duration::from_secs(601));
    let told = receiver.next().await;
    let expires_at = heard.created["expires_at"].clone();
    assert_eq!(told.path, "/all");
    let body = told.json();
    assert_eq!((&body["event"], &body["session_token"]), (&json!("auth.expired"), &json!(heard.token)));
    assert_eq!(body["expired_at"], expires_at);
    owner.delivered(&curious).await;
    eventually("the other has ended too", || async { plain.poll(&unheard).await["status"] == "expired" })
        .await;
    assert_eq!((receiver.requests().len(), owner.log(&plain).await.len()), (1, 0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_is_repeated_for_three_days_with_the_same_id_and_body() {
    const PAUSES: [u64; 9] = [5, 20, 60, 300, 1_800, 7_200, 18_000, 36_000, 43_200];
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    // All that can go wrong with an answer.
    for reply in
        [Reply::status(500), Reply::hang_up(), Reply::redirect(&receiver.url("/")), Reply::status(404)]
    {
        receiver.answer_next(reply);
    }
    receiver.answer_with(Reply::status(503));
    something_happens(&app).await;
    let first = receiver.next().await;
    let mut times = 1;
    let failed = loop {
        let delivery = owner.tried(&app, times).await;
        if delivery["state"] != "pending" {
            break delivery;
        }
        let due = delivery["next_attempt_at_ms"].as_i64().unwrap();
        let last = delivery["attempts"].as_array().unwrap().last().unwrap().clone();
        let pause = due - last["at_ms"].as_i64().unwrap() - last["took_ms"].as_i64().unwrap();
        let expected = i64::try_from(PAUSES[(times - 1).min(8)]).unwrap() * 1_000;
        assert!((expected * 9 / 10..=expected * 11 / 10).contains(&pause), "after {times}: {pause} ms");
        assert_eq!(receiver.requests().len(), times, "not sooner");
        owner.move_to_next_attempt(&delivery);
        let again = receiver.next().await;
        assert_eq!((again.header("webhook-id"), &again.body), (first.header("webhook-id"), &first.body));
        assert_eq!(again.path, first.path, "a redirect is not followed");
        assert_signed(&again, &[&app.secret]);
        times += 1;
    };
    assert_eq!(failed["state"], "failed");
    assert!((13..=14).contains(&times), "{times}");
    let tries = failed["attempts"].as_array().unwrap();
    let lasted = tries[times - 1]["at_ms"].as_i64().unwrap() - tries[0]["at_ms"].as_i64().unwrap();
    assert!((58..=72).contains(&(lasted / 3_600_000)), "{lasted}");
    let statuses: Vec<_> = tries.iter().take(5).map(|one| one["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(500), None, Some(302), Some(404), Some(503)]);
    assert!(tries[1]["error"].as_str().unwrap().starts_with("connection: "), "{}", tries[1]);
    assert_eq!(owner.project(&app).await["webhook_disabled_reason"], Value::Null, "three days are not five");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_time_gets_it() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    receiver.answer_next(Reply::status(429).header("Retry-After", "7200"));
    something_happens(&app).await;
    let delivery = owner.tried(&app, 1).await;
    let last = &delivery["attempts"][0];
    let ended = last["at_ms"].as_i64().unwrap() + last["took_ms"].as_i64().unwrap();
    assert_eq!(delivery["next_attempt_at_ms"].as_i64().unwrap() - ended, 7_200_000);
    owner.move_to_next_attempt(&delivery);
    owner.delivered(&app).await;
    assert_eq!(receiver.requests().len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_is_told_nothing_more_until_its_owner_says_so() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    receiver.answer_next(Reply::status(500));
    receiver.answer_next(Reply::status(410));
    something_happens(&app).await;
    let waiting = owner.tried(&app, 1).await;
    something_happens(&app).await;
    let gone = owner.newest(&app, |one| one["state"] == "failed").await;
    let disabled = || async { owner.project(&app).await["webhook_disabled_reason"].clone() };
    eventually("switched off", || async { disabled().await.is_string() }).await;
    assert!(disabled().await.as_str().unwrap().contains("410"), "{}", disabled().await);

    // What happens now is told to nobody, what waited is dropped when its time comes, and nothing can be replayed.
    something_happens(&app).await;
    assert_eq!(owner.log(&app).await.len(), 2);
    owner.move_to_next_attempt(&waiting);
    let dropped = || async { owner.log(&app).await[1]["state"] == "dropped" };
    eventually("dropped", dropped).await;
    let id = gone["id"].as_str().unwrap();
    let refused = owner.replay(id).await;
    assert_eq!(refused.refusal(), (409, "NO_WEBHOOK".into()));
    assert!(refused.json()["error"].as_str().unwrap().contains("410"), "{refused:?}");
    assert_eq!(receiver.requests().len(), 2);
    // Trying it out is allowed, and tells nobody but its owner.
    let path = format!("/projects/{}/webhook-test", app.id);
    assert_eq!(owner.call("POST", &path, None).await.json()["delivered"], true);

    let changed = owner.change(&app, json!({ "webhook_url": receiver.url("/again") })).await;
    assert_eq!(changed["webhook_disabled_reason"], Value::Null);
    assert_eq!(owner.replay(id).await.json()["state"], "pending");
    owner.newest(&app, |one| one["id"] == id && one["state"] == "delivered").await;
    assert_eq!(receiver.requests().last().unwrap().path, "/again");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_days_of_nothing_but_failure_switch_a_webhook_off() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let (owner, app) = (Owner::of(&world).await, app_of(&world, &receiver).await);
    receiver.answer_with(Reply::status(500));
    let mut half_days = 0;
    while owner.project(&app).await["webhook_disabled_reason"].is_null() {
        assert!(half_days <= 11, "still on after {half_days} half days");
        something_happens(&app).await;
        // An attempt at an older one may have been the last straw.
        owner
            .newest(&app, |one| {
                one["state"] == "dropped" || one["attempts"].as_array().is_some_and(|tries| !tries.is_empty())
            })
            .await;
        half_days += 1;
        world.clock.advance(Duration::from_secs(12 * 3600));
    }
    // The judgement is written after the attempt, so one more may have happened before it was seen.
    assert!((10..=12).contains(&half_days), "after {half_days} half days");
    let why = owner.project(&app).await["webhook_disabled_reason"].clone();
    assert!(why.as_str().unwrap().contains("5 days"), "{why}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_delays_nobody_else_and_loses_nothing() {
    const EVENTS: usize = 10;
    let (world, slow, quick) = (world().await, Receiver::new().await, Receiver::new().await);
    let owner = Owner::of(&world).await;
    let (stuck, free) = (app_of(&world, &slow).await, app_of(&world, &quick).await);
    slow.answer_with(Reply::status(200).held());
    for _ in 0..EVENTS {
        something_happens(&stuck).await;
    }
    // As many as there are places wait for its answers.
    for _ in 0..4 {
        slow.next().await;
    }
    for _ in 0..EVENTS {
        something_happens(&free).await;
        quick.next().await;
    }
    let all = |app| {
        let owner = &owner;
        async move { owner.log(app).await.iter().filter(|one| one["state"] == "delivered").count() }
    };
    eventually("delivered", || async { all(&free).await == EVENTS }).await;
    slow.answer_with(Reply::status(200));
    slow.release(100);
    let arrived = || async {
        // Those that waited too long for their answer are repeated.
        world.clock.advance(Duration::from_secs(6));
        all(&stuck).await == EVENTS
    };
    eventually("its turn comes too", arrived).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_goes_with_its_webhook_or_its_project() {
    let (world, receiver) = (world().await, Receiver::new().await);
    let owner = Owner::of(&world).await;
    let (moved, removed, deleted) =
        (app_of(&world, &receiver).await, app_of(&world, &receiver).await, app_of(&world, &receiver).await);
    receiver.answer_with(Reply::status(500));
    for app in [&moved, &removed, &deleted] {
        something_happens(app).await;
        owner.tried(app, 1).await;
    }
    receiver.answer_with(Reply::status(200));
    owner.change(&moved, json!({ "webhook_url": receiver.url("/new") })).await;
    owner.change(&removed, json!({ "webhook_url": "" })).await;
    assert_eq!(owner.call("DELETE", &format!("/projects/{}", deleted.id), None).await.status, 200);
    world.clock.advance(Duration::from_secs(6));
    owner.delivered(&moved).await;
    owner.newest(&removed, |one| one["state"] == "dropped").await;
    assert_eq!(receiver.requests().len(), 4, "{:?}", receiver.requests());
    assert_eq!(receiver.requests()[3].path, "/new");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_survives_a_restart_and_what_is_old_is_removed() {
    let (mut world, receiver) = (world().await, Receiver::new().await);
    let app = app_of(&world, &receiver).await;
    receiver.answer_with(Reply::silence());
    something_happens(&app).await;
    let first = receiver.next().await;
    // Stopping does not wait for who never answers.
    world.stop().await;
    receiver.answer_with(Reply::status(200));
    world.start().await.unwrap();
    let again = receiver.next().await;
    assert_eq!((again.header("webhook-id"), &again.body), (first.header("webhook-id"), &first.body));
    let owner = Owner::of(&world).await;
    let app = app.at(&world.service);
    owner.delivered(&app).await;

    world.clock.advance(Duration::from_secs(89 * 24 * 3600));
    let owner = Owner::of(&world).await;
    something_happens(&app).await;
    owner.delivered(&app).await;
    assert_eq!(owner.log(&app).await.len(), 2);
    world.clock.advance(Duration::from_secs(2 * 24 * 3600));
    eventually("the old one is removed", || async { owner.log(&app).await.len() == 1 }).await;
    world.end().await;
}
