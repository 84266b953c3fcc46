//! What attackers get, threat by threat, where no other test shows it; and that every test that `docs/security.md` names
//! exists.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{ALICE, App, Attempt, BOB, Options, World, eventually, jwt_part};

const CONFIRM: &str = "✅ Confirm";

async fn world_with_app(settings: Value) -> (World, App) {
    World::with_app(Options { behind_proxy: true, ..Options::default() }, settings).await
}

/// The person opens the link; the prompt that they see.
async fn opened(world: &World, phone: &str, attempt: &Attempt) -> Value {
    let opened = world.open(phone, &attempt.link).await;
    world.answer_to(phone, opened).await
}

async fn tap(world: &World, phone: &str, prompt: &Value, button: &str) {
    world.tap(phone, prompt["id"].as_i64().unwrap(), button).await;
}

fn buttons(prompt: &Value) -> Vec<&str> {
    let rows = prompt["buttons"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    rows.map(|button| button["text"].as_str().unwrap()).collect()
}

/// A sign-in that somebody begins elsewhere, and whose link they send to their victim.
async fn lure(app: &App) -> Attempt {
    let browser = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:130.0) Gecko/20100101 Firefox/130.0";
    let headers =
        [("x-forwarded-for", "203.0.113.77"), ("user-agent", browser), ("origin", "https://shop.example")];
    app.attempt_with(json!({}), &headers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lured_person_is_told_whose_request_it_is_and_who_confirms_all_the_same_is_lost() {
    let (world, app) = world_with_app(json!({ "name": "Shop" })).await;
    let attempt = lure(&app).await;
    let prompt = opened(&world, ALICE, &attempt).await;
    let text = prompt["text"].as_str().unwrap();
    for part in ["Shop", "Firefox on Windows", "203.0.113.x", "shop.example", "only if you"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What nothing stops: she says yes, and the one who lured her is signed in as her.
    tap(&world, ALICE, &prompt, CONFIRM).await;
    let answer = app.poll(&attempt).await;
    assert_eq!((&answer["status"], &answer["telegram_name"]), (&json!("confirmed"), &json!("Alice")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_match_code_stops_who_cannot_tell_it_and_nobody_who_does() {
    let (world, app) = world_with_app(json!({ "match_code": true })).await;
    // She has a link and no number: two of three guesses end it, and there is no second guess.
    let attempt = lure(&app).await;
    let shown = attempt.created["match_code"].as_u64().unwrap().to_string();
    let prompt = opened(&world, ALICE, &attempt).await;
    let offered = buttons(&prompt);
    assert!(offered.contains(&shown.as_str()) && !offered.contains(&CONFIRM), "{offered:?}");
    // As a number: 20, 11 and 13 are also in the address that it tells.
    let mut numbers = prompt["text"].as_str().unwrap().split(|character: char| !character.is_ascii_digit());
    assert!(!numbers.any(|number| number == shown), "the prompt does not tell the number");
    let wrong = offered.iter().find(|one| one.parse::<u8>().is_ok() && **one != shown).unwrap();
    tap(&world, ALICE, &prompt, wrong).await;
    assert_eq!(app.poll(&attempt).await["status"], "cancelled");
    let prompt_id = prompt["id"].as_i64().unwrap();
    let over =
        || async { world.message(ALICE, prompt_id).await["buttons"].as_array().is_none_or(Vec::is_empty) };
    eventually("there is no second guess", over).await;
    // Who lures her with the number beside the link has what they want.
    let attempt = lure(&app).await;
    let shown = attempt.created["match_code"].as_u64().unwrap().to_string();
    let prompt = opened(&world, ALICE, &attempt).await;
    tap(&world, ALICE, &prompt, &shown).await;
    assert_eq!(app.poll(&attempt).await["status"], "confirmed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_the_qr_code_cannot_poll_and_learns_nothing_but_may_open_it_first() {
    let (world, app) = world_with_app(json!({})).await;
    let attempt = app.attempt().await;
    let created = &attempt.created;
    for seen in ["deeplink", "tg_link", "web_link", "typed_code", "events_url"] {
        let seen = created[seen].as_str().unwrap();
        assert!(!seen.contains(&attempt.token) && !seen.contains(&attempt.token[5..13]), "{seen}");
    }
    let watch = created["events_url"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(!attempt.link.contains(&watch[attempt.id().len()..]), "the link does not let anybody watch");
    for guess in [attempt.id(), format!("sess_{}", attempt.id()), watch.to_owned()] {
        let body = json!({ "project_id": app.id, "session_token": guess });
        let answer = app.call("/api/v1/verify/public", &body, &[]).await;
        assert_eq!(answer.refusal(), (404, "SESSION_NOT_FOUND".into()));
    }
    let events = format!("/api/v1/events/{}", attempt.id());
    assert_eq!(world.service.get(&events).await.refusal(), (404, "SESSION_NOT_FOUND".into()));
    // Who is quicker with the link has it: then the app signs in the wrong person, and the right one is told so.
    opened(&world, BOB, &attempt).await;
    let told = opened(&world, ALICE, &attempt).await;
    assert!(told["text"].as_str().unwrap().contains("already opened by another account"), "{told}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_proof_is_worth_nothing_without_the_secret_or_twice_or_elsewhere() {
    let (world, app) = world_with_app(json!({})).await;
    let other = world.app(json!({ "name": "Another" })).await;
    let attempt = app.attempt_with(json!({ "nonce": "n-1" }), &[]).await;
    let prompt = opened(&world, ALICE, &attempt).await;
    tap(&world, ALICE, &prompt, CONFIRM).await;
    let proof = app.poll(&attempt).await["proof"].as_str().unwrap().to_owned();
    assert_eq!(jwt_part(&proof, 1)["nonce"], "n-1", "the app can tell whether it asked for it");
    let body = json!({ "project_id": app.id, "proof": proof });
    assert_eq!(app.call("/api/v1/verify", &body, &[]).await.refusal(), (401, "UNAUTHORIZED".into()));
    assert_eq!(other.consume_proof(&proof).await.refusal(), (404, "SESSION_NOT_FOUND".into()));
    assert_eq!(app.consume_proof(&proof).await.json()["status"], "confirmed");
    assert_eq!(app.consume_proof(&proof).await.json(), json!({ "status": "used" }));
    world.end().await;
}

/// The names of all tests: of this binary, of the library and of the sandbox.
fn tests() -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !["node_modules", ".venv"].iter().any(|one| path.ends_with(one)) {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let mut lines = text.lines().map(str::trim);
                while let Some(line) = lines.next() {
                    if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                        let named = lines.find_map(|line| line.split_once("fn ")?.1.split_once('('));
                        found.extend(named.map(|(name, _)| name.to_owned()));
                    }
                }
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    walk(&root.join("src"), &mut found);
    walk(&root.join("tests"), &mut found);
    assert!(found.len() > 300, "where are the tests? {}", found.len());
    found
}

#[test]
fn every_threat_of_the_page_names_tests_and_every_test_it_names_exists() {
    let page = include_str!("../../docs/security.md");
    let tests = tests();
    let (mut missing, mut named) = (Vec::new(), 0);
    for threat in page.split("\n## ").skip(1) {
        let (title, text) = threat.split_once('\n').unwrap();
        let shown: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|word| is_test_name(word)).collect();
        if shown.is_empty() && !title.starts_with("What is not") {
            missing.push(format!("{title}: no test"));
        }
        named += shown.len();
        missing.extend(
            shown.iter().filter(|name| !tests.contains(**name)).map(|name| format!("{title}: {name}")),
        );
    }
    assert!(missing.is_empty() && named > 40, "{named} tests are named; missing:\n{}", missing.join("\n"));
}

/// Tests are sentences.
fn is_test_name(word: &str) -> bool {
    word.matches('_').count() >= 3
        && word.chars().all(|one| one.is_ascii_lowercase() || one == '_' || one.is_ascii_digit())
}
