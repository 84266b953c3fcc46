//! Nothing planted is found again: not in the logs at their most talkative, not in the data directory, not in the
//! sessions folder.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use telegram_connector::domain::account::Mode;
use telegram_connector::domain::ids::Ids;
use telegram_connector::domain::seal::Sealer;
use telegram_connector::vault::Vault;

use crate::support::{BOB, CAROL, Options, PASSWORD, Process, World, eventually, files_with};

const API_HASH: &str = "0123456789abcdefplantedapihash00";
const TOKEN: &str = "planted-operator-token";

/// The bot and the account hear from Bob.
async fn write_to_both(world: &World, process: &Process) {
    world.send(BOB, "login_bot", "/start planted-parameter").await;
    world.send(BOB, CAROL, "planted-text").await;
    let taken = || async { process.log().matches("events taken").count() >= 2 };
    eventually("both have heard of it", taken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_is_found_in_logs_data_or_sessions() {
    let world = World::without_service(Options::default()).await;
    world.carol().await;
    let (bot, bot_token) = world.new_bot("login_bot").await;
    let (data, sessions) = (world.folder.path().join("data"), world.session_folder());
    let store = format!("file:{}", sessions.display());
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap(), &sandbox];
    let environment = [
        (
            "RUST_LOG",
            "trace,grammers_mtsender::sender=trace,grammers_session::message_box=trace,fjall::batch=trace",
        ),
        ("TELEGRAM_API_ID", "7"),
        ("TELEGRAM_API_HASH", API_HASH),
        ("CONNECTOR_ADMIN_TOKEN", TOKEN),
        ("TELEGRAM_BOT_TOKEN", &bot_token),
    ];
    let process = Process::start(&[&arguments[..], &["--session-store", &store]].concat(), &environment);
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let post = |body: serde_json::Value| {
        let client = process.client.clone();
        async move { client.send("POST", "/sign_in", &headers, Some(&body.to_string())).await }
    };

    // A whole sign-in, with a wrong turn at each step.
    assert!(post(json!({ "phone": CAROL })).await.is_empty(206));
    let hash_waits = files_with(&data, b"phone_code_hash");
    let wrong = world.wrong_code(CAROL).await;
    assert_eq!(post(json!({ "phone": CAROL, "password": wrong })).await.status, 400);
    assert_eq!(post(json!({ "phone": CAROL, "password": { "odd": PASSWORD } })).await.status, 400);
    let code = world.code(CAROL).await;
    assert_eq!(post(json!({ "phone": CAROL, "password": code })).await.status, 401);
    assert_eq!(post(json!({ "phone": CAROL, "two_factor_password": "not-the-password" })).await.status, 401);
    assert!(post(json!({ "phone": CAROL, "two_factor_password": PASSWORD })).await.is_empty(200));
    write_to_both(&world, &process).await;
    eventually("the bot is stored", || async { sessions.join(format!("bot-{bot}.session")).exists() }).await;
    let log = process.kill();

    let key = STANDARD.decode(std::fs::read_to_string(data.join("master.key")).unwrap().trim()).unwrap();
    let sealer = Sealer::new(&key.clone().try_into().unwrap(), Ids::from_seed([0; 32]));
    let session =
        Vault::folder(&sessions, "account.session", Mode::Sandbox, sealer).load().await.unwrap().unwrap();
    let auth_key = session.home_key().unwrap().bytes();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();

    let mut planted: Vec<(&str, Vec<u8>)> = vec![
        ("phone", CAROL.trim_start_matches('+').into()),
        ("2FA password", PASSWORD.into()),
        ("wrong 2FA password", "not-the-password".into()),
        ("api hash", API_HASH.into()),
        ("operator token", TOKEN.into()),
        ("bot token", bot_token.split(':').nth(1).unwrap().into()),
        ("message to the bot", "planted-parameter".into()),
        ("message to the account", "planted-text".into()),
        ("who wrote it", "bob_sandbox".into()),
        ("auth key", auth_key.to_vec()),
        ("auth key in hex", hex(&auth_key[..16]).into()),
        ("auth key in base64", STANDARD.encode(&auth_key[..18]).into()),
        ("name of the account's owner", "Carol".into()),
    ];
    for (name, secret) in &planted {
        for folder in [&data, &sessions] {
            assert_eq!(files_with(folder, secret), Vec::<std::path::PathBuf>::new(), "{name}");
        }
    }
    // Five digits occur by chance in binary files, so codes are looked for as JSON and as words.
    planted.push(("code", format!("\"{code}\"").into()));
    planted.push(("wrong code", format!("\"{wrong}\"").into()));
    planted.push(("master key", STANDARD.encode(&key).into()));
    assert!(
        log.contains("called Telegram") && log.contains("auth.checkPassword"),
        "the log must be talkative"
    );
    for library in ["grammers_mtsender::sender", "grammers_session::message_box", "fjall::", "lsm_tree::"] {
        assert!(!log.contains(library), "{library} speaks although it is held down");
    }
    for (name, secret) in &planted {
        let found = log.as_bytes().windows(secret.len()).any(|window| window == &secret[..]);
        assert!(!found, "{name} is in the log");
    }
    let words = log.split(|character: char| !character.is_ascii_digit());
    assert!(!words.into_iter().any(|word| word == code), "the code is in the log");
    assert_eq!(hash_waits, Vec::<std::path::PathBuf>::new(), "the pending sign-in is in the clear");
    world.end().await;
}
