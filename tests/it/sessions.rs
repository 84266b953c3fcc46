//! What developers look up about sign-ins: the list, a timeline, analytics, forgetting a person.

use std::time::Duration;

use serde_json::{Value, json};
use telegram_connector::app::AppSettings;
use telegram_connector::domain::developer::Email;
use telegram_connector::domain::ids::Secret;

use crate::support::{ALICE, Answer, App, Attempt, BOB, Options, World, eventually};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A world whose service has a second developer, who owns nothing.
async fn world_with_stranger() -> World {
    let email = Email::parse("stranger@example.com").unwrap();
    let bootstrap = Some((email, Secret::new("stranger-password".to_owned())));
    let apps = AppSettings { demo: true, bootstrap, ..AppSettings::default() };
    let (world, _) = World::with_bot(Options { apps, ..Options::default() }).await;
    world.bot_is("ok").await;
    world
}

async fn as_developer(world: &World, method: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {}", world.developer().await);
    world.service.send(method, path, &[("authorization", &bearer)], None).await
}

async fn read(world: &World, path: &str) -> Value {
    let answer = as_developer(world, "GET", path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

/// A person opens an attempt's link and taps.
async fn decide(world: &World, attempt: &Attempt, phone: &str, button: &str) {
    let opened = world.open(phone, &attempt.link).await;
    let prompt = world.answer_to(phone, opened).await["id"].as_i64().unwrap();
    world.tap(phone, prompt, button).await;
}

/// Of one kind each: used, cancelled by the person, cancelled by the server, pending.
async fn four_attempts(world: &World, app: &App) -> [Attempt; 4] {
    let attempts = [app.attempt().await, app.attempt().await, app.attempt().await, app.attempt().await];
    let [used, cancelled, taken_back, _] = &attempts;
    decide(world, used, ALICE, "✅ Confirm").await;
    assert_eq!(app.poll(used).await["status"], "confirmed");
    app.consume(used).await;
    decide(world, cancelled, BOB, "❌ Cancel").await;
    let body = json!({ "project_id": app.id, "session_token": taken_back.token });
    assert_eq!(app.call_keyed("/api/v1/cancel", &body).await.status, 200);
    attempts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_each_session_as_the_published_client_reads_it() {
    let world = world_with_stranger().await;
    let app = world.app(json!({ "name": "Shop" })).await;
    let [used, cancelled, taken_back, pending] = four_attempts(&world, &app).await;
    let list = read(&world, "/api/v1/dev/sessions").await;
    let sessions = list["sessions"].as_array().unwrap();
    let tokens: Vec<&str> = sessions.iter().map(|one| one["session_token"].as_str().unwrap()).collect();
    assert_eq!(tokens, [&pending, &taken_back, &cancelled, &used].map(|attempt| attempt.token.as_str()));
    assert_eq!(list["next_cursor"], Value::Null);

    let of_alice = &sessions[3];
    assert_eq!(of_alice["id"], used.id());
    assert_eq!((&of_alice["project_id"], &of_alice["project_name"]), (&json!(app.id), &json!("Shop")));
    assert_eq!(of_alice["status"], "used");
    assert!(of_alice["telegram_id"].is_string() && of_alice["confirmed_at"].is_string());
    assert_eq!(
        (&of_alice["telegram_name"], &of_alice["telegram_username"]),
        (&json!("Alice"), &json!("alice_sandbox"))
    );
    assert!(of_alice["created_at_ms"].is_i64() && of_alice["confirmed_at_ms"].is_i64());
    for undecided in &sessions[..3] {
        for field in ["telegram_id", "telegram_name", "telegram_username", "confirmed_at", "confirmed_at_ms"]
        {
            assert_eq!(undecided[field], Value::Null, "{field}: {undecided}");
        }
    }
    assert!(sessions[2]["cancelled_at"].is_i64());

    let path = format!("/api/v1/dev/sessions?status=confirmed&project_id={}", app.id);
    let confirmed = read(&world, &path).await;
    assert_eq!(confirmed["sessions"].as_array().unwrap().len(), 1, "used ones were confirmed");
    for status in ["pending", "cancelled", "expired"] {
        let found = read(&world, &format!("/api/v1/dev/sessions?status={status}")).await;
        let found = found["sessions"].as_array().unwrap().len();
        assert_eq!(
            found,
            if status == "cancelled" { 2 } else { usize::from(status == "pending") },
            "{status}"
        );
    }
    let mut paged = Vec::new();
    let mut path = "/api/v1/dev/sessions?limit=3".to_owned();
    loop {
        let page = read(&world, &path).await;
        let tokens = page["sessions"].as_array().unwrap().iter().map(|one| one["session_token"].clone());
        paged.extend(tokens);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/dev/sessions?limit=3&cursor={cursor}");
    }
    assert_eq!(paged, tokens);
    for bad in ["limit=0", "limit=201", "limit=x", "cursor=x", "status=other"] {
        let answer = as_developer(&world, "GET", &format!("/api/v1/dev/sessions?{bad}")).await;
        assert_eq!(answer.refusal(), (400, "INVALID_REQUEST".into()), "{bad}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_tells_what_happened_in_its_order() {
    let world = world_with_stranger().await;
    let app = world.app(json!({})).await;
    let [used, cancelled, taken_back, _] = four_attempts(&world, &app).await;
    let events = |session: &Value| -> Vec<String> {
        let timeline = session["timeline"].as_array().unwrap();
        assert!(timeline.iter().all(|one| one["at"].is_string() && one["at_ms"].is_i64()), "{session}");
        timeline.iter().map(|one| one["event"].as_str().unwrap().to_owned()).collect()
    };
    let timeline = async |attempt: &Attempt| {
        events(&read(&world, &format!("/api/v1/dev/sessions/{}", attempt.id())).await)
    };
    let expected = ["created", "opened", "prompt_sent", "confirmed", "first_read", "consumed"];
    // The first read is noted beside the answer.
    eventually("the first read is noted", async || timeline(&used).await.len() == expected.len()).await;
    let mut noted = timeline(&used).await;
    // Consumption may come before the note.
    noted[4..].sort();
    assert_eq!(noted[..4], expected[..4]);
    assert_eq!(noted[4..], ["consumed", "first_read"]);
    assert_eq!(timeline(&cancelled).await, ["created", "opened", "prompt_sent", "cancelled"]);
    let detail = read(&world, &format!("/api/v1/dev/sessions/{}", taken_back.id())).await;
    assert_eq!(detail["timeline"][1]["by"], "server");

    world.fail("messages.sendMessage", "USER_IS_BLOCKED").await;
    let blocked = app.attempt().await;
    world.open(ALICE, &blocked.link).await;
    eventually("the refusal is noted", async || timeline(&blocked).await.len() == 3).await;
    let detail = read(&world, &format!("/api/v1/dev/sessions/{}", blocked.id())).await;
    assert_eq!(
        (&detail["timeline"][2]["event"], &detail["timeline"][2]["error"]),
        (&json!("prompt_failed"), &json!("USER_IS_BLOCKED"))
    );
    assert_eq!(as_developer(&world, "GET", "/api/v1/dev/sessions/nothing").await.status, 404);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn analytics_count_every_session_and_expiry_although_nobody_polls() {
    let mut world = world_with_stranger().await;
    let app = world.app(json!({ "name": "Shop" })).await;
    four_attempts(&world, &app).await;
    let again = app.attempt().await;
    decide(&world, &again, ALICE, "✅ Confirm").await;
    let before = read(&world, "/api/v1/dev/analytics").await;
    let expected = json!({ "requested": 5, "confirmed": 2, "expired": 0, "cancelled": 2 });
    assert_eq!(before["funnel"], expected, "one is pending");
    assert_eq!(
        (&before["total_sessions"], &before["confirmed_sessions"], &before["unique_users"]),
        (&json!(5), &json!(2), &json!(1))
    );
    assert_eq!(before["conversion_rate"], 40.0);
    let days = before["daily"].as_array().unwrap();
    assert_eq!(days.len(), 7, "the default");
    assert_eq!(days[6]["sessions"], 5);
    assert_eq!(days[6]["unique_users"], 1);
    assert!(days[..6].iter().all(|day| day["sessions"] == 0 && day["confirmed"] == 0));
    let date = days[6]["date"].as_str().unwrap();
    assert!(date.len() == 10 && date.is_ascii(), "{date}");
    let names: Vec<&str> =
        before["projects"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"Shop") && names.contains(&"Demo app"), "{names:?}");

    // Nobody asks for the pending one again. A kill and a restart in between change nothing.
    world.restart().await;
    world.clock.advance(Duration::from_secs(601));
    let funnel = async || read(&world, "/api/v1/dev/analytics?days=1").await["funnel"].clone();
    let expected = json!({ "requested": 5, "confirmed": 2, "expired": 1, "cancelled": 2 });
    // The day may have changed meanwhile, so a window of two.
    let wide = async || read(&world, "/api/v1/dev/analytics?days=2").await["funnel"].clone();
    eventually("the expiry is counted", async || wide().await == expected).await;
    assert!(funnel().await["requested"].is_u64());
    let of_demo = read(&world, "/api/v1/dev/analytics?days=90&project_id=proj_demo").await;
    assert_eq!((&of_demo["total_sessions"], &of_demo["conversion_rate"]), (&json!(0), &json!(0.0)));
    assert_eq!(of_demo["daily"].as_array().unwrap().len(), 90);
    for bad in ["days=0", "days=91", "days=x"] {
        let answer = as_developer(&world, "GET", &format!("/api/v1/dev/analytics?{bad}")).await;
        assert_eq!(answer.refusal(), (400, "INVALID_REQUEST".into()), "{bad}");
    }
    let answer = as_developer(&world, "GET", "/api/v1/dev/analytics?project_id=proj_none").await;
    assert_eq!(answer.refusal(), (404, "PROJECT_NOT_FOUND".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_sessions_leave_and_totals_stay() {
    let world = world_with_stranger().await;
    let app = world.app(json!({})).await;
    let [used, ..] = four_attempts(&world, &app).await;
    let total = async || read(&world, "/api/v1/dev/analytics?days=90").await["total_sessions"].clone();
    assert_eq!(total().await, 4);
    world.clock.advance(DAY * 89);
    assert_eq!(total().await, 4);
    assert_eq!(read(&world, "/api/v1/dev/sessions").await["sessions"].as_array().unwrap().len(), 4);
    world.clock.advance(DAY * 2);
    let gone = async || read_status(&world, &used).await == 404;
    eventually("old sessions are removed", gone).await;
    let listed = async || read(&world, "/api/v1/dev/sessions").await["sessions"].as_array().unwrap().len();
    eventually("all of them", async || listed().await == 0).await;
    world.end().await;
}

async fn read_status(world: &World, attempt: &Attempt) -> u16 {
    as_developer(world, "GET", &format!("/api/v1/dev/sessions/{}", attempt.id())).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_is_forgotten_is_gone_from_every_answer() {
    let world = world_with_stranger().await;
    let app = world.app(json!({})).await;
    let (done, open, of_bob) = (app.attempt().await, app.attempt().await, app.attempt().await);
    decide(&world, &done, ALICE, "✅ Confirm").await;
    decide(&world, &of_bob, BOB, "✅ Confirm").await;
    let person = app.poll(&done).await["telegram_id"].as_str().unwrap().to_owned();
    let opened = world.open(ALICE, &open.link).await;
    let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();

    let answer = as_developer(&world, "DELETE", &format!("/api/v1/dev/users/{person}")).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "ok": true, "sessions": 2 })));
    assert_eq!(app.poll(&done).await, json!({ "status": "expired" }));
    assert_eq!(app.consume(&done).await, json!({ "status": "expired" }));
    assert_eq!(app.poll(&open).await["status"], "cancelled");
    world.becomes(ALICE, prompt, "took the request back").await;
    assert_eq!(app.poll(&of_bob).await["telegram_name"], "Bob");
    let list = read(&world, "/api/v1/dev/sessions").await.to_string();
    assert!(!list.contains("Alice") && !list.contains(&person) && list.contains("Bob"), "{list}");
    assert_eq!(read(&world, "/api/v1/dev/analytics?days=2").await["confirmed_sessions"], 2, "totals stay");
    let again = as_developer(&world, "DELETE", &format!("/api/v1/dev/users/{person}")).await;
    assert_eq!(again.json()["sessions"], 0);
    for bad in ["x", "-1", "0", "1.5", "+5", "007", "12345678901234567"] {
        let answer = as_developer(&world, "DELETE", &format!("/api/v1/dev/users/{bad}")).await;
        assert_eq!(answer.refusal(), (400, "INVALID_REQUEST".into()), "{bad}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_developer_sees_and_forgets_nothing_of_it() {
    let world = world_with_stranger().await;
    let app = world.app(json!({})).await;
    let attempt = app.attempt().await;
    decide(&world, &attempt, ALICE, "✅ Confirm").await;
    let person = app.poll(&attempt).await["telegram_id"].as_str().unwrap().to_owned();
    let login = json!({ "email": "stranger@example.com", "password": "stranger-password" });
    let token = world.service.post("/api/v1/dev/login", &login).await.json()["token"].clone();
    let bearer = format!("Bearer {}", token.as_str().unwrap());
    let call = async |method: &str, path: &str| {
        world.service.send(method, path, &[("authorization", &bearer)], None).await
    };
    assert_eq!(call("GET", "/api/v1/dev/sessions").await.json()["sessions"], json!([]));
    assert_eq!(call("GET", "/api/v1/dev/analytics").await.json()["total_sessions"], 0);
    let path = format!("/api/v1/dev/sessions?project_id={}", app.id);
    assert_eq!(call("GET", &path).await.refusal(), (404, "PROJECT_NOT_FOUND".into()));
    let path = format!("/api/v1/dev/analytics?project_id={}", app.id);
    assert_eq!(call("GET", &path).await.refusal(), (404, "PROJECT_NOT_FOUND".into()));
    let path = format!("/api/v1/dev/sessions/{}", attempt.id());
    assert_eq!(call("GET", &path).await.refusal(), (404, "SESSION_NOT_FOUND".into()));
    assert_eq!(call("DELETE", &format!("/api/v1/dev/users/{person}")).await.json()["sessions"], 0);
    assert_eq!(app.poll(&attempt).await["telegram_name"], "Alice");
    for (method, path) in [
        ("GET", "/api/v1/dev/sessions"),
        ("GET", "/api/v1/dev/sessions/x"),
        ("GET", "/api/v1/dev/analytics"),
        ("DELETE", "/api/v1/dev/users/1"),
    ] {
        assert_eq!(world.service.send(method, path, &[], None).await.refusal(), (401, "UNAUTHORIZED".into()));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_knows_its_numbers_and_its_developer_the_month() {
    let world = world_with_stranger().await;
    let app = world.app(json!({})).await;
    four_attempts(&world, &app).await;
    let project = read(&world, &format!("/api/v1/dev/projects/{}", app.id)).await;
    assert_eq!((&project["sessions_count"], &project["confirmed_count"]), (&json!(4), &json!(1)));
    let mau = async || read(&world, "/api/v1/dev/me").await["developer"]["mau"].clone();
    assert_eq!(mau().await, json!({ "current": 1, "limit": 0, "over": 0 }));
    world.clock.advance(DAY * 31);
    let soon = app.attempt().await;
    assert_eq!(mau().await["current"], 0, "another month");
    decide(&world, &soon, BOB, "✅ Confirm").await;
    assert_eq!(mau().await["current"], 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_takes_its_open_requests_back_and_leaves_nothing() {
    let mut world = world_with_stranger().await;
    let app = world.app(json!({ "name": "Gone" })).await;
    let (done, open) = (app.attempt().await, app.attempt().await);
    decide(&world, &done, BOB, "✅ Confirm").await;
    let opened = world.open(ALICE, &open.link).await;
    let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
    let answer = as_developer(&world, "DELETE", &format!("/api/v1/dev/projects/{}", app.id)).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "ok": true })));
    world.becomes(ALICE, prompt, "Gone took the request back").await;
    let body = json!({ "project_id": app.id, "session_token": open.token });
    let poll = app.call("/api/v1/verify/public", &body, &[]).await;
    assert_eq!(poll.refusal(), (404, "PROJECT_NOT_FOUND".into()));
    for attempt in [&done, &open] {
        assert_eq!(read_status(&world, attempt).await, 404);
    }
    assert_eq!(read(&world, "/api/v1/dev/sessions").await["sessions"], json!([]));
    assert_eq!(read(&world, "/api/v1/dev/analytics?days=2").await["total_sessions"], 0);
    world.clock.advance(DAY * 2);
    world.restart().await;
    assert_eq!(read(&world, "/api/v1/dev/sessions").await["sessions"], json!([]));
    world.end().await;
}
