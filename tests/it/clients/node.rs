//! The Node client: its admin calls (a content type even where nothing follows, JSON expected of every answer), what
//! `verifyProof` demands of a proof, and what `verifyWebhook` does to a body.

use serde_json::{Value, json};

use super::{CONFIRM, decide, world_with_app};
use crate::support::{Client, World};

/// `new BondifyAdminClient({ token, apiUrl })`.
struct Admin {
    service: Client,
    bearer: String,
}

impl Admin {
    async fn of(world: &World) -> Self {
        Self { service: world.service.clone(), bearer: format!("Bearer {}", world.developer().await) }
    }

    /// `fetch(url, {method, headers, body})`, then `res.json()` whatever came, then `if (!res.ok) throw`.
    async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, (u16, Value)> {
        let headers = [
            ("authorization", self.bearer.as_str()),
            ("content-type", "application/json"),
            ("user-agent", "node"),
            ("accept", "*/*"),
            ("accept-language", "*"),
            ("sec-fetch-mode", "cors"),
        ];
        let body = body.map(|body| body.to_string());
        let path = format!("/api/v1/dev{path}");
        let answer = self.service.send(method, &path, &headers, body.as_deref()).await;
        let json: Value = serde_json::from_str(&answer.body)
            .unwrap_or_else(|error| panic!("SyntaxError at {method} {path}: {error}: {answer:?}"));
        assert!(json.is_object(), "{json}");
        if (200..300).contains(&answer.status) { Ok(json) } else { Err((answer.status, json)) }
    }
}

/// What a field is to hold.
#[derive(Clone, Copy)]
enum Is {
    Text,
    TextOrNull,
    Number,
    Bool,
}

fn holds(object: &Value, fields: &[(&str, Is)]) {
    for (field, is) in fields {
        let value = object.get(field).unwrap_or_else(|| panic!("{field} is undefined in {object}"));
        let fits = match is {
            Is::Text => value.is_string(),
            Is::TextOrNull => value.is_string() || value.is_null(),
            Is::Number => value.is_number(),
            Is::Bool => value.is_boolean(),
        };
        assert!(fits, "{field} in {object}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_client_reads_every_answer_under_the_name_it_knows() {
    let (world, app) = world_with_app(json!({})).await;
    let attempt = app.attempt().await;
    decide(&world, &attempt.link, CONFIRM).await;
    let admin = Admin::of(&world).await;

    let me = admin.request("GET", "/me", None).await.unwrap();
    holds(&me["developer"], &[("developer_id", Is::Text), ("email", Is::Text), ("plan", Is::Text)]);
    holds(&me["developer"]["mau"], &[("current", Is::Number), ("limit", Is::Number), ("over", Is::Number)]);

    let projects = admin.request("GET", "/projects", None).await.unwrap();
    for project in projects["projects"].as_array().unwrap() {
        holds(
            project,
            &[
                ("project_id", Is::Text),
                ("name", Is::Text),
                ("secret_preview", Is::TextOrNull),
                ("webhook_url", Is::TextOrNull),
                ("active", Is::Bool),
                ("public_access", Is::Bool),
                ("req_phone", Is::Bool),
                ("created_at_ms", Is::Number),
                ("sessions_count", Is::Number),
                ("confirmed_count", Is::Number),
            ],
        );
    }

    let sessions = admin.request("GET", "/sessions", None).await.unwrap();
    let session = sessions["sessions"].as_array().unwrap().first().unwrap().clone();
    holds(
        &session,
        &[
            ("session_token", Is::Text),
            ("project_id", Is::Text),
            ("project_name", Is::Text),
            ("telegram_id", Is::TextOrNull),
            ("telegram_name", Is::TextOrNull),
            ("telegram_username", Is::TextOrNull),
            ("status", Is::Text),
            ("created_at_ms", Is::Number),
        ],
    );
    assert_eq!((&session["session_token"], &session["status"]), (&json!(attempt.token), &json!("confirmed")));

    // Without options it asks for the bare path.
    for path in ["/analytics", "/analytics?days=30", &format!("/analytics?days=7&project_id={}", app.id)] {
        let analytics = admin.request("GET", path, None).await.unwrap();
        let numbers = ["total_sessions", "confirmed_sessions", "unique_users", "conversion_rate"];
        holds(&analytics, &numbers.map(|field| (field, Is::Number)));
        holds(
            &analytics["funnel"],
            &["requested", "confirmed", "expired", "cancelled"].map(|f| (f, Is::Number)),
        );
        let day = &analytics["daily"][0];
        holds(day, &[("date", Is::Text), ("sessions", Is::Number), ("confirmed", Is::Number)]);
        assert!(analytics["projects"].as_array().is_some_and(|projects| !projects.is_empty()));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_client_makes_changes_and_removes_a_project() {
    let (world, _) = world_with_app(json!({})).await;
    let admin = Admin::of(&world).await;
    let settings = json!({ "name": "Shop", "public_access": true, "req_phone": false });
    let created = admin.request("POST", "/projects", Some(settings)).await.unwrap();
    holds(&created, &[("project_id", Is::Text), ("secret_key", Is::Text), ("name", Is::Text)]);
    let path = format!("/projects/{}", created["project_id"].as_str().unwrap());

    let changes = json!({ "name": "Shop 2", "active": false, "webhook_url": null, "req_phone": false, "bot_token": null });
    assert_eq!(admin.request("PATCH", &path, Some(changes)).await.unwrap()["ok"], true);
    let listed = admin.request("GET", "/projects", None).await.unwrap();
    let listed = listed["projects"].as_array().unwrap();
    let shop = listed.iter().find(|project| project["name"] == "Shop 2").unwrap();
    assert_eq!((&shop["active"], &shop["webhook_url"]), (&json!(false), &json!("")));

    let regenerated = admin.request("POST", &format!("{path}/regenerate"), Some(json!({}))).await.unwrap();
    assert_ne!(regenerated["secret_key"], created["secret_key"]);
    let secret = admin.request("GET", &format!("{path}/webhook-secret"), None).await.unwrap();
    assert_eq!(secret["webhook_secret"], regenerated["secret_key"]);

    // A content type and no body.
    assert_eq!(admin.request("DELETE", &path, None).await.unwrap()["ok"], true);
    let (status, body) = admin.request("GET", &format!("{path}/webhook-secret"), None).await.unwrap_err();
    assert_eq!((status, &body["code"]), (404, &json!("PROJECT_NOT_FOUND")));
    assert!(body["error"].is_string(), "what it throws");
    let stranger = Admin { bearer: "Bearer nonsense".to_owned(), ..admin };
    assert_eq!(stranger.request("GET", "/me", None).await.unwrap_err().0, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_proof_finds_what_it_demands() {
    let (world, app) = world_with_app(json!({})).await;
    let attempt = app.attempt().await;
    decide(&world, &attempt.link, CONFIRM).await;
    let poll = app.poll(&attempt).await;
    let proof = poll["proof"].as_str().unwrap();

    // jwt.verify(token, secret, { algorithms: ["HS256"] }): the whole string is the key, prefix and all.
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    (rules.leeway, rules.validate_exp) = (0, true);
    let decode = |secret: &str| {
        let key = jsonwebtoken::DecodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::decode::<Value>(proof, &key, &rules)
    };
    let claims = decode(&app.secret).unwrap().claims;
    assert!(decode(app.secret.rsplit('_').next().unwrap()).is_err());
    // `if (!payload.telegram_id || …) throw MISSING_FIELDS`.
    for field in ["telegram_id", "telegram_name", "project_id", "session_token"] {
        assert!(claims[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {claims}");
    }
    for field in ["telegram_username", "telegram_phone"] {
        assert!(claims[field].is_string() || claims[field].is_null(), "{field}: {claims}");
    }
    assert!(claims["confirmed_at"].as_i64().unwrap() > 1_000_000_000_000, "milliseconds");
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!(iat < 100_000_000_000, "seconds");
    assert_eq!(exp - iat, 300);
    assert!(claims.get("nbf").is_none(), "INVALID_TOKEN where clocks differ");
    assert_eq!((&claims["project_id"], &claims["session_token"]), (&json!(app.id), &json!(attempt.token)));
    world.end().await;
}
