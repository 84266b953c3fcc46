//! The whole service, driven with everything planted, and with everything sent to where it does not belong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use telegram_connector::domain::account::Mode;
use telegram_connector::domain::ids::Ids;
use telegram_connector::domain::seal::Sealer;
use telegram_connector::vault::Vault;

use super::codes::codes_are_not_in;
use super::search::Planted;
use crate::support::{
    ACCESS_KEY, Answer, App, Attempt, BOB, BUCKET, CAROL, Client, Fault, MASTER_KEY, Options, PASSWORD,
    Process, Receiver, Reply, S3Server, SECRET_KEY, World, eventually,
};

const API_HASH: &str = "0123456789abcdefplantedapihash00";
const ADMIN: &str = "planted-operator-token-0123456789";
const EMAIL: &str = "planted.developer@example.org";
const DEVELOPER_PASSWORD: &str = "planted developer password";
const OWN_SECRET: &str = "planted-signing-secret-of-the-shop-0123456789";
const ADDRESS: &str = "81.2.69.142";
const HOOK: &str = "planted-webhook-path-7f3a";
/// Everything is at its most talkative, libraries too.
const LOUD: &str = "trace,grammers_mtsender::sender=trace,fjall::batch=trace,hyper::proto=trace,poem=trace";

/// Somebody who calls and keeps what was not well, and a list of what must be found nowhere.
struct Witness {
    client: Client,
    bad_answers: Mutex<Vec<String>>,
    sent: AtomicU16,
    planted: Mutex<Planted>,
}

impl Witness {
    fn plant(&self, name: &str, secret: impl AsRef<[u8]>) {
        self.planted.lock().unwrap().add(name, secret);
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let json = [("content-type", "application/json")];
        let typed = headers.iter().any(|(name, _)| *name == "content-type");
        let from_somewhere = headers.iter().any(|(name, _)| *name == "x-forwarded-for");
        // From another address each time: limits must not keep anything from being tried.
        let [high, low] = self.sent.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        let address = format!("10.77.{high}.{low}");
        let address = [("x-forwarded-for", address.as_str())];
        let headers =
            [headers, if typed { &[] } else { &json }, if from_somewhere { &[] } else { &address }].concat();
        let answer = self.client.send(method, path, &headers, body).await;
        if answer.status >= 400 {
            self.bad_answers.lock().unwrap().push(format!("{method} {answer:?}"));
        }
        answer
    }

    async fn keyed(&self, method: &str, path: &str, key: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {key}");
        let body = (!body.is_null()).then(|| body.to_string());
        let person = path.starts_with("/api/v1/") && !path.starts_with("/api/v1/dev");
        // Whom the audit log names is no person who signs in.
        let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", ADDRESS)];
        self.send(method, path, &headers[..if person { 2 } else { 1 }], body.as_deref()).await
    }
}

/// The operator signs Carol's account in, with every wrong turn. Returns the codes, which are too short to be planted.
async fn operator(world: &World, witness: &Witness, s3: Option<&S3Server>) -> [String; 2] {
    let sign_in = |body: Value| witness.keyed("POST", "/sign_in", ADMIN, body);
    assert!(sign_in(json!({ "phone": CAROL })).await.is_empty(206));
    let (code, wrong) = (world.code(CAROL).await, world.wrong_code(CAROL).await);
    assert_eq!(sign_in(json!({ "phone": CAROL, "password": wrong })).await.status, 400);
    assert_eq!(sign_in(json!({ "phone": CAROL, "password": { "odd": PASSWORD } })).await.status, 400);
    assert_eq!(sign_in(json!({ "phone": BOB, "password": code })).await.status, 409);
    assert_eq!(sign_in(json!({ "phone": CAROL, "password": code })).await.status, 401);
    let password = json!({ "phone": CAROL, "two_factor_password": "planted wrong 2FA password" });
    witness.plant("wrong 2FA password", "planted wrong 2FA password");
    assert_eq!(sign_in(password).await.status, 401);
    let right = json!({ "phone": CAROL, "two_factor_password": PASSWORD });
    if let Some(s3) = s3 {
        s3.fail("PUT", Fault::Answer(403, "AccessDenied"));
        assert_eq!(sign_in(right.clone()).await.refusal(), (503, "SESSION_STORE_UNAVAILABLE".to_owned()));
        s3.heal();
        let saved = || async { sign_in(right.clone()).await.status == 200 };
        eventually("the session is saved", saved).await;
    } else {
        assert!(sign_in(right).await.is_empty(200));
    }
    [code, wrong]
}

/// A developer, and a project with secrets of its own.
async fn developer(world: &World, witness: &Witness, receiver: &Receiver) -> (App, String) {
    let login = |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        async move { witness.keyed("POST", "/api/v1/dev/login", "nobody", body).await }
    };
    let token = login(EMAIL, DEVELOPER_PASSWORD).await.json()["token"].as_str().unwrap().to_owned();
    witness.plant("access token", &token);
    witness.plant("wrong developer password", "planted wrong developer password");
    witness.plant("somebody's e-mail", "planted.somebody@example.net");
    assert_eq!(login(EMAIL, "planted wrong developer password").await.status, 401);
    assert_eq!(login("planted.somebody@example.net", DEVELOPER_PASSWORD).await.status, 401);
    let somebody = json!({ "email": "planted.somebody@example.net", "password": DEVELOPER_PASSWORD });
    assert_eq!(witness.keyed("POST", "/api/v1/dev/register", "nobody", somebody).await.status, 403);
    let (_, own_bot) = world.new_bot("shop_login_bot").await;
    witness.plant("the project's bot token", own_bot.split(':').nth(1).unwrap());
    witness.plant("refused bot token", "planted-refused-bot-token-000000000");
    let create = |settings: Value| witness.keyed("POST", "/api/v1/dev/projects", &token, settings);
    let refused = json!({ "name": "Shop", "bot_token": "7:planted-refused-bot-token-000000000" });
    assert_eq!(create(refused).await.code(), "BOT_TOKEN_INVALID");
    let elsewhere = format!("http://10.0.0.1/{HOOK}?key={HOOK}");
    assert_eq!(
        create(json!({ "name": "Shop", "webhook_url": elsewhere })).await.code(),
        "INVALID_WEBHOOK_URL"
    );
    let settings = json!({ "name": "Shop", "bot_token": own_bot, "req_phone": true,
        "webhook_url": receiver.url(&format!("/{HOOK}?key={HOOK}")) });
    let project = create(settings).await.json();
    let id = project["id"].as_str().unwrap().to_owned();
    witness.plant("the first secret key", project["secret_key"].as_str().unwrap());
    let path = format!("/api/v1/dev/projects/{id}");
    let weak = json!({ "secret_key": format!("{HOOK}\u{e9}") });
    assert_eq!(witness.keyed("PATCH", &path, &token, weak).await.code(), "WEAK_SECRET");
    let own = json!({ "secret_key": OWN_SECRET, "grace_seconds": 60 });
    assert_eq!(witness.keyed("PATCH", &path, &token, own).await.status, 200);
    (App { service: world.service.clone(), id, secret: OWN_SECRET.to_owned() }, token)
}

/// Bob signs in, with his phone number; what he and the app hold is planted.
async fn person(world: &World, witness: &Witness, app: &App) {
    let body = json!({ "project_id": app.id, "nonce": "planted-nonce-5d1c",
        "client": { "ip": ADDRESS, "user_agent": "Firefox/1 Linux planted-user-agent-98", "lang": "en" } });
    witness.plant("nonce", "planted-nonce-5d1c");
    witness.plant("user agent", "planted-user-agent-98");
    let created = witness.keyed("POST", "/api/v1/generate", OWN_SECRET, body).await;
    assert_eq!(created.status, 200, "{created:?}");
    let attempt = Attempt::of(created.json());
    witness.plant("session token", &attempt.token);
    let opened = world.open(BOB, &attempt.link).await;
    let prompt = world.answer_to(BOB, opened).await["id"].as_i64().unwrap();
    let tapped = || async { world.try_tap(BOB, prompt, "✅ Confirm").await.status == 200 };
    eventually("a tap is answered", tapped).await;
    let question = world.answer_to(BOB, prompt).await;
    world.tap(BOB, question["id"].as_i64().unwrap(), "📱 Share my phone number").await;
    let confirmed = app.wait(&attempt).await;
    assert_eq!((&confirmed["status"], &confirmed["telegram_phone"]), (&json!("confirmed"), &json!(BOB)));
    let proof = confirmed["proof"].as_str().unwrap();
    witness.plant("proof", proof);
    witness.plant("signature of a proof", proof.rsplit('.').next().unwrap());
    witness.plant("idempotency key", "planted-idempotency-key");
    let by_token = json!({ "project_id": app.id, "session_token": attempt.token });
    let altered = json!({ "project_id": app.id, "proof": format!("{proof}x") });
    assert_eq!(witness.keyed("POST", "/api/v1/verify", OWN_SECRET, altered).await.code(), "INVALID_PROOF");
    // Who shows a wrong key is no person who signs in: the audit log tells their address.
    let stranger = [("authorization", "Bearer planted-wrong-secret-key")];
    let wrong = witness.send("POST", "/api/v1/verify", &stranger, Some(&by_token.to_string())).await;
    witness.plant("wrong secret key", "planted-wrong-secret-key");
    assert_eq!(wrong.status, 401, "{wrong:?}");
    let elsewhere = json!({ "project_id": "proj_demo", "session_token": attempt.token });
    assert_eq!(witness.keyed("POST", "/api/v1/verify/public", "", elsewhere).await.status, 404);
    let body = json!({ "project_id": app.id, "proof": proof }).to_string();
    let bearer = format!("Bearer {OWN_SECRET}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "planted-idempotency-key")];
    for _ in 0..2 {
        let taken = witness.send("POST", "/api/v1/verify", &headers, Some(&body)).await;
        assert_eq!(taken.json()["status"], "confirmed", "{taken:?}");
    }
}

/// Every secret, sent to where it does not belong.
async fn mischief(witness: &Witness, developer_token: &str) {
    const POSTS: [&str; 10] = [
        "/sign_in",
        "/api/v1/generate/public",
        "/api/v1/generate",
        "/api/v1/verify/public",
        "/api/v1/verify",
        "/api/v1/cancel",
        "/api/v1/dev/login",
        "/api/v1/dev/register",
        "/api/v1/dev/projects",
        "/api/v1/dev/projects/proj_none/regenerate",
    ];
    let texts: Vec<String> = witness.planted.lock().unwrap().texts().map(str::to_owned).collect();
    for secret in &texts {
        let bodies = [
            secret.clone(),
            json!(secret).to_string(),
            json!({ secret: secret }).to_string(),
            json!({ "phone": secret, "password": secret, "two_factor_password": secret }).to_string(),
            json!({ "phone": [secret], "project_id": { "a": secret }, "email": [secret] }).to_string(),
            json!({ "project_id": secret, "session_token": secret, "proof": secret, "nonce": secret, "wait": secret })
                .to_string(),
            json!({ "project_id": secret, "session_token": secret, "proof": secret }).to_string(),
            json!({ "email": secret, "password": secret, "expires_in": secret }).to_string(),
            json!({ "name": secret, "webhook_url": secret, "return_url": secret, "allowed_origins": [secret],
                "client_timestamps": secret, "bot_token": [secret], "secret_key": 7 })
            .to_string(),
        ];
        // One body each: which goes where comes round with the number of secrets.
        for (turn, path) in POSTS.iter().enumerate() {
            let body = &bodies[(turn + secret.len()) % bodies.len()];
            let key = [secret.as_str(), ADMIN, developer_token][turn % 3];
            let bearer = format!("Bearer {key}");
            witness.send("POST", path, &[("authorization", &bearer)], Some(body)).await;
            witness.send("POST", path, &[("content-type", "text/plain")], Some(secret)).await;
        }
        misplaced(witness, secret, developer_token).await;
    }
}

/// A secret in addresses and headers.
async fn misplaced(witness: &Witness, secret: &str, developer_token: &str) {
    let address: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let paths = [
        format!("/{address}"),
        format!("/api/v1/dev/projects/{address}"),
        format!("/api/v1/dev/sessions/{address}"),
        format!("/api/v1/dev/sessions?project_id={address}&cursor={address}&status={address}"),
        format!("/api/v1/dev/analytics?days={address}"),
        format!("/api/v1/events/{address}"),
        format!("/sign_in?token={address}"),
    ];
    let bearer = format!("Bearer {developer_token}");
    for path in &paths {
        for method in ["GET", "DELETE", "PUT"] {
            witness.send(method, path, &[("authorization", &bearer)], None).await;
        }
    }
    if secret.is_ascii() {
        for name in [
            "authorization",
            "content-type",
            "origin",
            "user-agent",
            "x-request-id",
            "cookie",
            "x-forwarded-for",
        ] {
            witness.send("POST", "/api/v1/generate/public", &[(name, secret)], Some("{}")).await;
            witness.send("GET", "/api/v1/verify", &[(name, secret)], None).await;
        }
    }
}

/// A whole story with logs in one format, and the session store in one place; then the search.
async fn story(format: &str, s3: Option<&S3Server>) {
    let mut world = World::without_service(Options::default()).await;
    world.carol().await;
    let (_, bot_token) = world.new_bot("login_bot").await;
    let receiver = Receiver::new().await;
    receiver.answer_next(Reply::status(500).body("the receiver says planted-answer-of-the-receiver"));
    let data = world.folder.path().join("data");
    let place = s3
        .map_or_else(|| format!("file:{}", world.session_folder().display()), |_| format!("s3://{BUCKET}/a"));
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox];
    let settings = [
        ("RUST_LOG", LOUD),
        ("CONNECTOR_LOG_FORMAT", format),
        ("NO_COLOR", "1"),
        ("TELEGRAM_API_ID", "7"),
        ("TELEGRAM_API_HASH", API_HASH),
        ("TELEGRAM_BOT_TOKEN", &bot_token),
        ("CONNECTOR_ADMIN_TOKEN", ADMIN),
        ("CONNECTOR_MASTER_KEY", MASTER_KEY),
        ("CONNECTOR_BOOTSTRAP_EMAIL", EMAIL),
        ("CONNECTOR_BOOTSTRAP_PASSWORD", DEVELOPER_PASSWORD),
        ("CONNECTOR_WEBHOOK_ALLOW", "127.0.0.0/8"),
        ("CONNECTOR_TRUSTED_PROXIES", "127.0.0.0/8"),
        ("AWS_SESSION_TOKEN", "planted-aws-session-token"),
    ];
    // Nobody else wants the session: it is not to be lost where the machine is so busy that a short lease lapses.
    let lease = [("CONNECTOR_LEASE_SECONDS", "90")];
    let bucket = s3.map(S3Server::environment);
    let environment = [&settings[..], bucket.as_ref().map_or(&[], |all| &all[..]), &lease].concat();
    let process =
        Process::spawn(&[&arguments[..], &["--session-store", &place]].concat(), &environment).serving();
    world.service = process.client.clone();
    let witness = Witness {
        client: process.client.clone(),
        bad_answers: Mutex::default(),
        sent: AtomicU16::new(0),
        planted: Mutex::default(),
    };
    plant_what_is_known(&witness, &bot_token);

    let codes = operator(&world, &witness, s3).await;
    let (app, token) = developer(&world, &witness, &receiver).await;
    person(&world, &witness, &app).await;
    receiver.next().await;
    let path = format!("/api/v1/dev/projects/{}/webhook-test", app.id);
    assert_eq!(witness.keyed("POST", &path, &token, Value::Null).await.status, 200);
    mischief(&witness, &token).await;
    // Who guesses the operator's token makes whoever shares their address wait for a moment.
    let metrics = loop {
        let answer = witness.keyed("GET", "/metrics", ADMIN, Value::Null).await;
        if answer.status == 200 {
            break answer.body;
        }
        assert_eq!(answer.refusal(), (429, "RATE_LIMITED".into()));
        telegram_connector::lifecycle::network_sleep(std::time::Duration::from_secs(1)).await;
    };
    let log = process.kill();
    plant_auth_key(&world, &witness, s3).await;
    assert!(
        log.contains("called Telegram") && log.contains("auth.checkPassword"),
        "the log must be talkative"
    );
    let seen = tempfile::tempdir().unwrap();
    let bad_answers = witness.bad_answers.lock().unwrap().join("\n");
    let (answers, plenty) = (bad_answers.matches("status: ").count(), 500);
    assert!(answers > plenty && metrics.contains("connector_"), "{answers} answers, {metrics}");
    for (name, text) in [("log", &log), ("metrics", &metrics), ("answers", &bad_answers)] {
        std::fs::write(seen.path().join(name), text).unwrap();
    }
    let sessions = s3.map_or_else(|| world.session_folder(), |s3| s3.folder().to_owned());
    let planted = witness.planted.into_inner().unwrap();
    let found: Vec<String> =
        [seen.path(), &data, &sessions].into_iter().flat_map(|folder| planted.found_below(folder)).collect();
    let lines = log.lines().filter(|line| planted.texts().any(|secret| line.contains(secret)));
    assert!(found.is_empty(), "{found:?}; in the log: {:?}", lines.take(3).collect::<Vec<_>>());
    codes_are_not_in(&log, &codes);
    world.end().await;
}

/// What is known before anything happens.
fn plant_what_is_known(witness: &Witness, bot_token: &str) {
    witness.plant("the operator's phone", CAROL.trim_start_matches('+'));
    witness.plant("the person's phone", BOB.trim_start_matches('+'));
    witness.plant("the operator's username", "carol_sandbox");
    witness.plant("the person's username", "bob_sandbox");
    witness.plant("2FA password", PASSWORD);
    witness.plant("api hash", API_HASH);
    witness.plant("operator token", ADMIN);
    witness.plant("developer's e-mail", EMAIL);
    witness.plant("developer's password", DEVELOPER_PASSWORD);
    witness.plant("bot token", bot_token.split(':').nth(1).unwrap());
    witness.plant("the shop's secret key", OWN_SECRET);
    witness.plant("the person's address", ADDRESS);
    witness.plant("path of the webhook", HOOK);
    witness.plant("what the receiver answers", "planted-answer-of-the-receiver");
    witness.plant("S3 secret key", SECRET_KEY);
    witness.plant("S3 access key", ACCESS_KEY);
    witness.plant("S3 session token", "planted-aws-session-token");
    witness.plant("master key", MASTER_KEY);
    witness.plant("master key's bytes", STANDARD.decode(MASTER_KEY).unwrap());
}

/// The auth key is read back from where it is sealed.
async fn plant_auth_key(world: &World, witness: &Witness, s3: Option<&S3Server>) {
    let copy = tempfile::tempdir().unwrap();
    let sealed = s3.map_or_else(
        || std::fs::read(world.session_folder().join("account.session")).unwrap(),
        |s3| s3.object("a/account.session").unwrap(),
    );
    std::fs::write(copy.path().join("account.session"), sealed).unwrap();
    let key = STANDARD.decode(MASTER_KEY).unwrap().try_into().unwrap();
    let opener = Sealer::new(&key, Ids::from_seed([0; 32]));
    let vault = Vault::folder(copy.path(), "account.session", Mode::Sandbox, opener);
    let session = vault.load().await.unwrap().unwrap();
    // The whole and its beginning, in case only a part is printed.
    let auth_key = session.home_key().unwrap().bytes();
    witness.plant("auth key", auth_key);
    witness.plant("start of the auth key", &auth_key[..12]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_is_found_anywhere_with_json_logs_and_a_bucket() {
    story("json", Some(&S3Server::new().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_is_found_anywhere_with_text_logs_and_a_folder() {
    story("text", None).await;
}
