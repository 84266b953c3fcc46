//! Every page, of the service and of its sandbox: what it tells the browser that shows it.

use base64::Engine as _;
use sha2::{Digest, Sha256};

use crate::support::{Answer, World};

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", answer.headers)).to_str().unwrap()
}

/// The sources that a directive of the policy names.
fn sources<'a>(policy: &'a str, directive: &str) -> Vec<&'a str> {
    let found = policy.split(';').find_map(|one| one.trim().strip_prefix(directive));
    found.unwrap_or_default().split_whitespace().collect()
}

fn assert_guarded(path: &str, answer: &Answer) {
    assert_eq!(answer.status, 200, "{path}");
    assert_eq!(header(answer, "x-content-type-options"), "nosniff", "{path}");
    assert_eq!(header(answer, "referrer-policy"), "no-referrer", "{path}");
    assert_eq!(header(answer, "x-frame-options"), "DENY", "{path}");
    assert!(header(answer, "permissions-policy").contains("geolocation=()"), "{path}");
    let policy = header(answer, "content-security-policy");
    for (directive, named) in [
        ("default-src ", "'none'"),
        ("base-uri ", "'none'"),
        ("form-action ", "'none'"),
        ("frame-ancestors ", "'none'"),
    ] {
        assert_eq!(sources(policy, directive), [named], "{path}: {policy}");
    }
    // Scripts are our own files, or named by what is in them; nothing comes from elsewhere.
    let scripts = sources(policy, "script-src ");
    assert!(scripts.iter().all(|one| *one == "'self'" || one.starts_with("'sha256-")), "{path}: {policy}");
    assert!(
        !policy.contains("http:") && !policy.contains("https:") && !policy.contains('*'),
        "{path}: {policy}"
    );
    let mut inline = Vec::new();
    let mut rest = answer.body.as_str();
    // What looks like a tag inside a script is a part of it.
    while let Some((_, after)) = rest.split_once("<script") {
        let (script, after) = after.split_once('>').unwrap().1.split_once("</script").unwrap();
        inline.push(script);
        rest = after;
    }
    inline.retain(|script| !script.trim().is_empty());
    for script in &inline {
        let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(script.as_bytes()));
        assert!(scripts.contains(&format!("'sha256-{digest}'").as_str()), "{path}: a script may not run");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_guarded() {
    let world = World::new().await;
    for path in ["/", "/docs", "/demo", "/demo/qr?text=a"] {
        assert_guarded(path, &world.service.get(path).await);
    }
    for path in ["/", "/docs", "/login_bot?start=x"] {
        assert_guarded(path, &world.sandbox.get(path).await);
    }
    // Nobody else's page may load what is no page, as a script or a picture.
    for path in ["/openapi.json", "/sign_in", "/readyz", "/llms.txt", "/demo/demo.js", "/nowhere"] {
        let answer = world.service.get(path).await;
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&answer, "cross-origin-resource-policy"), "same-origin", "{path}");
    }
    world.end().await;
}
