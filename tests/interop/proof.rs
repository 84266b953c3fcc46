//! Do other people's JWT libraries read our proofs, as the servers of apps do? `PyJWT`, and `jsonwebtoken`, which the
//! published Node client calls (protocol, section 4). Nothing of a JWT is made or checked here: `pyjwt.py` and
//! `jsonwebtoken.mjs` do as they are told.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::carried_out;
use crate::equipment;
use crate::support::{ALICE, App, Attempt, Options, World};

/// Libraries that sign and verify, by how they are started.
#[derive(Clone, Copy, Debug)]
enum Library {
    PyJwt,
    JsonWebToken,
}

impl Library {
    const BOTH: [Self; 2] = [Self::PyJwt, Self::JsonWebToken];

    /// Carries tasks out in a process of its own.
    fn does(self, tasks: &Value) -> Vec<Value> {
        let command = match self {
            Self::PyJwt => {
                let mut python = Command::new(equipment(".venv/bin/python3"));
                python.arg(equipment("pyjwt.py"));
                python
            }
            Self::JsonWebToken => {
                equipment("node_modules/jsonwebtoken");
                let mut node = Command::new("node");
                node.arg(equipment("jsonwebtoken.mjs"));
                node
            }
        };
        carried_out(command, tasks)
    }

    fn signs(self, claims: &Value, secret: &str, algorithm: &str) -> String {
        let task = json!([{ "sign": claims, "secret": secret, "algorithm": algorithm }]);
        self.does(&task)[0]["token"].as_str().unwrap().to_owned()
    }
}

/// The claims of a proof, which both libraries accept now with this secret.
pub(crate) fn accepted(proof: &str, secret: &str) -> Value {
    let found = Library::BOTH.map(|library| {
        let found = library.does(&json!([{ "verify": proof, "secret": secret }])).remove(0);
        assert!(found["claims"].is_object(), "{library:?} refuses the proof: {found}");
        found
    });
    assert_eq!(found[0], found[1], "they read the same");
    assert_eq!((&found[0]["header"]["alg"], &found[0]["header"]["typ"]), (&json!("HS256"), &json!("JWT")));
    found[0]["claims"].clone()
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// A new attempt at an app, which Alice confirms: the attempt, and the poll that tells.
async fn confirmed(world: &World, app: &App, nonce: Option<&str>) -> (Attempt, Value) {
    let attempt = app.attempt_with(nonce.map_or(json!({}), |nonce| json!({ "nonce": nonce })), &[]).await;
    let opened = world.open(ALICE, &attempt.link).await;
    let prompt = world.answer_to(ALICE, opened).await["id"].as_i64().unwrap();
    world.tap(ALICE, prompt, "✅ Confirm").await;
    let poll = app.poll(&attempt).await;
    assert_eq!(poll["status"], "confirmed");
    (attempt, poll)
}

fn proof_of(poll: &Value) -> &str {
    poll["proof"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_says_what_the_protocol_says_in_the_types_it_says() {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let app = world.app(json!({ "name": "Shop" })).await;
    let before = now();
    let (attempt, poll) = confirmed(&world, &app, Some("n-0S6_WzA2Mj")).await;
    let claims = accepted(proof_of(&poll), &app.secret);
    let after = now();

    // Nobody may rely on another field, and `nbf` would fail where clocks differ.
    let names: BTreeSet<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "telegram_id",
        "telegram_name",
        "telegram_username",
        "telegram_phone",
        "project_id",
        "session_token",
        "confirmed_at",
        "iat",
        "exp",
        "jti",
        "nonce",
        "sandbox",
    ];
    assert_eq!(names, expected.into());
    let id = claims["telegram_id"].as_str().unwrap();
    assert!(id.parse::<i64>().is_ok(), "a string of digits: {id}");
    assert_eq!((&claims["telegram_id"], &claims["telegram_name"]), (&poll["telegram_id"], &json!("Alice")));
    assert_eq!(
        (&claims["telegram_username"], &claims["telegram_phone"]),
        (&json!("alice_sandbox"), &Value::Null)
    );
    assert_eq!((&claims["project_id"], &claims["session_token"]), (&json!(app.id), &json!(attempt.token)));
    assert_eq!((&claims["jti"], &claims["nonce"]), (&json!(attempt.id()), &json!("n-0S6_WzA2Mj")));
    assert_eq!(claims["sandbox"], true);
    let number =
        |field: &str| claims[field].as_i64().unwrap_or_else(|| panic!("{field} is no integer: {claims}"));
    assert!((before..=after).contains(&number("iat")), "Unix seconds: {claims}");
    assert_eq!(number("exp"), number("iat") + 300);
    assert!(
        (before * 1_000..=after * 1_000 + 999).contains(&number("confirmed_at")),
        "milliseconds: {claims}"
    );
    assert_eq!(claims["confirmed_at"], poll["confirmed_at_ms"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_good_with_its_whole_secret_until_its_end_and_no_longer() {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    // A secret of Bondify's kind that an app has had for long; it looks like base64 and must not be taken for it.
    let brought = "whsec_dGhpcy1pcy1ub3QtYS1yZWFsLXNlY3JldC1rZXk=";
    for settings in [json!({}), json!({ "secret_key": brought })] {
        let app = world.app(settings.clone()).await;
        let bearer = format!("Bearer {}", world.developer().await);
        let path = format!("/api/v1/dev/projects/{}/webhook-secret", app.id);
        let told = world.service.send("GET", &path, &[("authorization", &bearer)], None).await.json();
        // What the published client is given under another name.
        assert_eq!(told["webhook_secret"], app.secret);
        let (_, poll) = confirmed(&world, &app, None).await;
        let (proof, secret) = (proof_of(&poll), app.secret.as_str());
        let exp = accepted(proof, secret)["exp"].as_i64().unwrap();
        let (_, without_prefix) = secret.rsplit_once('_').unwrap();
        let (head, signature) = proof.rsplit_once('.').unwrap();
        let another = if signature.starts_with('A') { "B" } else { "A" };
        let tasks = json!([
            { "verify": proof, "secret": secret, "at": exp - 1 },
            { "verify": proof, "secret": secret, "at": exp },
            { "verify": proof, "secret": world.app(json!({})).await.secret },
            { "verify": proof, "secret": without_prefix },
            { "verify": format!("{head}.{another}{}", &signature[1..]), "secret": secret },
        ]);
        let expected = |library: Library| match library {
            Library::PyJwt => ("ExpiredSignatureError", "InvalidSignatureError"),
            Library::JsonWebToken => {
                ("TokenExpiredError: jwt expired", "JsonWebTokenError: invalid signature")
            }
        };
        for library in Library::BOTH {
            let (expired, forged) = expected(library);
            let became = library.does(&tasks);
            assert_eq!(became[0]["claims"]["exp"], exp, "{library:?}, a second before: {became:?}");
            let refusals: Vec<_> =
                became[1..].iter().map(|one| one["refused"].as_str().unwrap_or("none")).collect();
            assert_eq!(refusals, [expired, forged, forged, forged], "{library:?}, {settings}");
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_libraries_sign_is_taken_only_as_the_protocol_signs() {
    let (world, _) = World::with_bot(Options::default()).await;
    world.bot_is("ok").await;
    let app = world.app(json!({})).await;
    for library in Library::BOTH {
        let (_, poll) = confirmed(&world, &app, None).await;
        let claims = accepted(proof_of(&poll), &app.secret);
        for (algorithm, secret) in
            [("HS512", app.secret.as_str()), ("none", &app.secret), ("HS256", "x".repeat(40).as_str())]
        {
            let bad = library.signs(&claims, secret, algorithm);
            assert_eq!(
                app.consume_proof(&bad).await.refusal(),
                (400, "INVALID_PROOF".into()),
                "{library:?} {algorithm}"
            );
        }
        let mut late = claims.clone();
        late["exp"] = now().into();
        let late = library.signs(&late, &app.secret, "HS256");
        assert_eq!(app.consume_proof(&late).await.json(), json!({ "status": "expired" }), "{library:?}");
        let theirs = library.signs(&claims, &app.secret, "HS256");
        let taken = app.consume_proof(&theirs).await.json();
        assert_eq!(
            (&taken["status"], &taken["telegram_name"]),
            (&json!("confirmed"), &json!("Alice")),
            "{library:?}"
        );
        assert_eq!(app.consume_proof(&theirs).await.json(), json!({ "status": "used" }), "{library:?}");
    }
    world.end().await;
}
