//! The audit log, read from the real binary: one line for each thing that happened, no more, no less, and no secret in any.

use serde_json::{Value, json};

use crate::support::{ALICE, App, CAROL, Options, PASSWORD, Process, Receiver, Reply, World, eventually};

const TOKEN: &str = "planted-operator-token";

/// The lines so far, of changes of owner and of all the rest.
fn all_lines(process: &Process) -> (Vec<Value>, Vec<Value>) {
    let log = process.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["target"] == "telegram_connector::audit");
    lines.partition(|line| line["event"].as_str().unwrap().starts_with("session.owner_"))
}

fn lines(process: &Process) -> Vec<Value> {
    all_lines(process).1
}

/// The last line, once there are so many; what everybody may be told of it, in short.
fn told(line: &Value) -> String {
    let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
    format!("{} {} {} {}", text("event"), text("by"), text("outcome"), text("detail"))
}

/// A world whose service is the real binary, which writes nothing but the audit log and that it serves.
async fn world() -> (World, Process) {
    let mut world = World::without_service(Options::default()).await;
    let (_, bot_token) = world.new_bot("login_bot").await;
    let (data, sessions) = (world.folder.path().join("data"), world.session_folder());
    let store = format!("file:{}", sessions.display());
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox];
    let environment = [
        ("RUST_LOG", "off,telegram_connector::app=info"),
        ("CONNECTOR_ADMIN_TOKEN", TOKEN),
        ("CONNECTOR_WEBHOOK_ALLOW", "127.0.0.0/8"),
        ("CONNECTOR_BOOTSTRAP_EMAIL", "demo@example.com"),
        ("CONNECTOR_BOOTSTRAP_PASSWORD", "demo-password"),
        ("TELEGRAM_BOT_TOKEN", &bot_token),
    ];
    let process = Process::start(&[&arguments[..], &["--session-store", &store]].concat(), &environment);
    world.service = process.client.clone();
    (world, process)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_the_operators_sign_in_is_one_line() {
    let (world, process) = world().await;
    world.carol().await;
    let call = |method: &'static str, token: &'static str, body: Option<Value>| {
        let client = process.client.clone();
        async move {
            let bearer = format!("Bearer {token}");
            let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
            let body = body.map(|body| body.to_string());
            client.send(method, "/sign_in", &headers, body.as_deref()).await.status
        }
    };
    let step = |body: Value| call("POST", TOKEN, Some(body));
    assert_eq!(call("POST", "guessed", Some(json!({ "phone": CAROL }))).await, 401);
    assert_eq!(step(json!({ "phone": CAROL, "password": "12345" })).await, 409);
    assert_eq!(step(json!({ "phone": CAROL })).await, 206);
    assert_eq!(step(json!({ "phone": CAROL })).await, 206, "nothing is sent: no line");
    assert_eq!(step(json!({ "phone": ALICE })).await, 409);
    assert_eq!(step(json!({ "phone": CAROL, "resend": true })).await, 206);
    let wrong = world.wrong_code(CAROL).await;
    assert_eq!(step(json!({ "phone": CAROL, "password": wrong })).await, 400);
    let code = world.code(CAROL).await;
    assert_eq!(step(json!({ "phone": CAROL, "password": code })).await, 401);
    assert_eq!(step(json!({ "phone": CAROL, "two_factor_password": "not-hers" })).await, 401);
    assert_eq!(step(json!({ "phone": CAROL, "two_factor_password": PASSWORD })).await, 200);
    assert_eq!(step(json!({ "phone": CAROL })).await, 200, "signed in already: no line");
    assert_eq!(call("GET", TOKEN, None).await, 200, "a look: no line");
    assert_eq!(call("DELETE", TOKEN, None).await, 200);
    assert_eq!(step(json!({ "phone": ALICE })).await, 206);
    assert_eq!(call("DELETE", TOKEN, None).await, 200);
    assert_eq!(call("DELETE", TOKEN, None).await, 200, "there is nothing: no line");

    let expected = [
        "operator.refused stranger UNAUTHORIZED the operator's token is wrong",
        "sign_in.refused operator NO_CODE_REQUESTED -",
        "sign_in.code_requested operator ok -",
        "sign_in.refused operator SIGN_IN_IN_PROGRESS -",
        "sign_in.code_resent operator ok -",
        "sign_in.code_submitted operator PHONE_CODE_INVALID -",
        "sign_in.code_submitted operator TWO_FACTOR_REQUIRED -",
        "sign_in.password_submitted operator TWO_FACTOR_INVALID -",
        "sign_in.password_submitted operator ok -",
        "sign_in.signed_in operator ok -",
        "sign_in.signed_out operator ok -",
        "sign_in.code_requested operator ok -",
        "sign_in.abandoned operator ok -",
    ];
    eventually("the last line", || async { lines(&process).len() >= expected.len() }).await;
    let lines = lines(&process);
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    for line in &lines {
        assert_eq!((&line["client"], &line["level"]), (&json!("127.0.0.1"), &json!("INFO")), "{line}");
    }
    assert_eq!(lines[2]["phone"], "+1••••••0003");
    // Who owns the sessions was told before anything else: the account's, and the bot's.
    let owners = all_lines(&process).0;
    let of =
        |session: &str| owners.iter().filter(|line| line["session"].as_str().unwrap() == session).count();
    assert_eq!((owners.len(), of("account.session")), (2, 1), "{owners:?}");
    for line in &owners {
        assert_eq!(
            (&line["event"], &line["by"]),
            (&json!("session.owner_acquired"), &json!("service")),
            "{line}"
        );
        assert!(line["owner"].is_string() && line["epoch"].is_u64(), "{line}");
    }
    let log = process.kill();
    for secret in [TOKEN, "guessed", &code, &wrong, PASSWORD, "not-hers", "5550100003"] {
        let words = log.split(|character: char| !character.is_alphanumeric() && !"-_ ".contains(character));
        assert!(!words.into_iter().any(|word| word.trim() == secret), "{secret} is in the log");
    }
    assert_eq!(
        log.lines().count(),
        expected.len() + owners.len() + 1,
        "`off` leaves the audit log alone:\n{log}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_developers_do_is_one_line_each_and_names_settings_only() {
    let (world, process) = world().await;
    let receiver = Receiver::new().await;
    eventually("the bot", || async { world.service.get("/readyz").await.json()["bot"] == "ok" }).await;
    let (own_bot, own_token) = world.new_bot("own_bot").await;
    let wrong = json!({ "email": "demo@example.com", "password": "planted-guess" });
    assert_eq!(world.service.post("/api/v1/dev/register", &wrong).await.status, 403);
    assert_eq!(world.service.post("/api/v1/dev/login", &wrong).await.status, 401);
    let token = world.developer().await;
    let new = json!({ "name": "Planted name", "webhook_url": receiver.url("/planted-path") });
    let made = world.dev(&token, "POST", "/projects", Some(new)).await.json();
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    let app = App { service: world.service.clone(), id: text("id"), secret: text("secret_key") };
    let path = format!("/projects/{}", app.id);
    let change = |body: Value| world.dev(&token, "PATCH", &path, Some(body));

    assert_eq!(world.dev(&token, "GET", &format!("{path}/webhook-secret"), None).await.status, 200);
    assert_eq!(change(json!({ "name": "Planted name", "match_code": false })).await.status, 200, "as it was");
    assert_eq!(change(json!({ "match_code": true, "bot_token": own_token })).await.status, 200);
    assert_eq!(change(json!({ "bot_token": null, "match_code": false })).await.status, 200);
    assert_eq!(world.dev(&token, "POST", &format!("{path}/regenerate"), None).await.status, 200);
    assert_eq!(change(json!({ "secret_key": "planted-planted-planted-planted-secret" })).await.status, 200);
    let app = App { secret: "planted-planted-planted-planted-secret".to_owned(), ..app };

    // The receiver is gone, and comes back.
    receiver.answer_with(Reply::status(410));
    let attempt = app.attempt().await;
    let body = json!({ "project_id": app.id, "session_token": attempt.token });
    assert_eq!(app.call_keyed("/api/v1/cancel", &body).await.status, 200);
    let off =
        || async { !world.dev(&token, "GET", &path, None).await.json()["webhook_disabled_reason"].is_null() };
    eventually("the webhook is off", off).await;
    eventually("its line", || async {
        lines(&process).iter().any(|line| line["event"] == "webhook.disabled")
    })
    .await;
    assert_eq!(change(json!({ "webhook_url": receiver.url("/planted-path") })).await.status, 200);

    assert_eq!(world.dev(&token, "DELETE", "/users/4711", None).await.status, 200);
    assert_eq!(world.dev(&token, "DELETE", &path, None).await.status, 200);
    assert_eq!(world.dev(&token, "POST", "/logout", None).await.status, 200);
    assert_eq!(world.dev(&token, "POST", "/logout", None).await.status, 401, "nobody: no line");

    let expected = [
        "developer.register_refused stranger REGISTRATION_CLOSED -".to_owned(),
        "developer.login_refused stranger UNAUTHORIZED -".to_owned(),
        "developer.logged_in developer ok -".to_owned(),
        "project.created developer ok -".to_owned(),
        "project.secret_revealed developer ok -".to_owned(),
        "project.changed developer ok match_code,bot_token".to_owned(),
        format!("bot.accepted developer ok {own_bot}"),
        "project.changed developer ok match_code,bot_token".to_owned(),
        format!("bot.removed developer ok {own_bot}"),
        "project.secret_rotated developer ok -".to_owned(),
        "project.secret_rotated developer ok -".to_owned(),
        "webhook.disabled service ok the receiver answered 410 Gone; set webhook_url again to switch it on"
            .to_owned(),
        "webhook.enabled developer ok -".to_owned(),
        "developer.forgot_person developer ok -".to_owned(),
        "project.deleted developer ok -".to_owned(),
        "developer.logged_out developer ok -".to_owned(),
    ];
    eventually("the last line", || async { lines(&process).len() >= expected.len() }).await;
    let lines = lines(&process);
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    let developer = &lines[2]["developer"];
    assert!(developer.as_str().unwrap().starts_with("dev_"), "{developer}");
    for line in lines.iter().filter(|line| line["by"] == "developer") {
        assert_eq!((&line["developer"], &line["client"]), (developer, &json!("127.0.0.1")), "{line}");
    }
    for line in lines.iter().filter(|line| line["event"].as_str().unwrap().starts_with("project.")) {
        assert_eq!(line["project"], app.id.as_str(), "{line}");
    }
    let log = process.kill();
    assert!(!log.to_lowercase().contains("planted") && !log.contains(&own_token), "{log}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_fill_the_log() {
    let (world, process) = world().await;
    let from_here = json!({ "email": "demo@example.com", "password": "planted-guess" });
    let without_end = json!({ "email": "demo@example.com", "password": "guess", "expires_in": 0 });
    let mut answers = Vec::new();
    for _ in 0..100 {
        for (path, body) in [("register", &from_here), ("login", &from_here), ("login", &without_end)] {
            answers.push(world.service.post(&format!("/api/v1/dev/{path}"), body).await.status);
        }
    }
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    assert!((10..50).contains(&count(403)) && (5..50).contains(&count(401)), "{answers:?}");
    assert_eq!((count(400), count(429)), (100, 200 - count(403) - count(401)));
    // Lines come in their order: with this one all have come.
    let last =
        world.service.send("GET", "/sign_in", &[("authorization", "Bearer planted-guess")], None).await;
    assert_eq!(last.status, 401);
    eventually("the last line", || async {
        lines(&process).last().is_some_and(|line| line["event"] == "operator.refused")
    })
    .await;
    assert_eq!(lines(&process).len(), count(403) + count(401) + 1);
    world.end().await;
}
