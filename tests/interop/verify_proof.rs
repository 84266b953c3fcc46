//! Is the `verifyProof` of `docs/compatibility.md` true as it stands there? Each is cut out of the page and run by its
//! language, twice: one call gets the person, the other learns that the proof is used.

use std::process::Command;

use serde_json::{Value, json};

use crate::equipment;
use crate::support::{ALICE, App, Options, World};

/// The page's code in this language.
fn code(language: &str) -> &'static str {
    let page = include_str!("../../docs/compatibility.md");
    let begin = page.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no {language}")).1;
    begin.split_once("```").unwrap().0
}

/// Runs a program as an app's server would be run: what it printed, or what it complained of.
fn run(app: &App, folder: &std::path::Path, language: &str, proof: &str) -> Result<Value, String> {
    let of_page = code(language);
    let (program, name, text) = match language {
        "js" => {
            let call = "console.log(JSON.stringify(await verifyProof(process.argv[2])));";
            ("node".into(), "server.mjs", format!("{of_page}\n{call}\n"))
        }
        "python" => {
            let call = "import sys\nprint(json.dumps(verify_proof(sys.argv[1])))";
            (equipment(".venv/bin/python3"), "server.py", format!("{of_page}\n{call}\n"))
        }
        "php" => {
            let call = "echo json_encode(verify_proof($argv[1]));";
            ("php".into(), "server.php", format!("<?php\n{of_page}\n{call}\n"))
        }
        other => panic!("nobody runs {other}"),
    };
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    let output = Command::new(program)
        .arg(file)
        .arg(proof)
        .env("BONDIFY_API_URL", app.service.url())
        .env("BONDIFY_PROJECT_ID", &app.id)
        .env("BONDIFY_SECRET_KEY", &app.secret)
        .env("NO_PROXY", "*")
        .output()
        .unwrap_or_else(|error| panic!("{language}: {error}; run `.ci/setup`"));
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_lines_of_each_language_take_a_proof_once() {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let app = world.app(json!({ "name": "Shop" })).await;
    let other = App { secret: world.app(json!({})).await.secret, ..app.at(&app.service) };
    for language in ["js", "python", "php"] {
        let body =
            code(language).lines().skip_while(|line| !line.contains("unction ") && !line.contains("def "));
        let lines = body.filter(|line| line.starts_with(' ')).count();
        assert_eq!(lines, 5, "{language}");
        let attempt = app.attempt().await;
        let opened = world.open(ALICE, &attempt.link).await;
        let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
        world.tap(ALICE, prompt, "✅ Confirm").await;
        let poll = app.poll(&attempt).await;
        let proof = poll["proof"].as_str().unwrap();

        let folder = tempfile::tempdir().unwrap();
        let run = |app: &App, proof: &str| run(app, folder.path(), language, proof);
        let refused = run(&other, proof).unwrap_err();
        assert!(refused.contains("401") || refused.contains("secret key"), "{language}: {refused}");
        assert!(run(&app, "no.proof.atall").is_err(), "{language}");
        let session = run(&app, proof).unwrap();
        assert_eq!(
            (&session["telegram_id"], &session["telegram_name"]),
            (&poll["telegram_id"], &json!("Alice")),
            "{language}"
        );
        let again = run(&app, proof).unwrap_err();
        assert!(again.contains("used"), "{language}: {again}");
    }
    world.end().await;
}
