//! `doctor` and `healthcheck`, as an operator runs them: the real binary, a good set-up, and broken ones.

use serde_json::json;

use crate::support::{ALICE, Options, Process, World};

/// Runs `doctor` on the world's set-up: exit code and what it printed.
fn doctor(world: &World, more: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let data = world.folder.path().join("data");
    let sessions = format!("file:{}", world.session_folder().display());
    let sandbox = format!("--sandbox={}", world.sandbox.url());
    let arguments = ["doctor", "--data-dir", data.to_str().unwrap(), &sandbox];
    let environment = [environment, &[("CONNECTOR_SESSION_STORE", sessions.as_str())]].concat();
    Process::spawn(&[&arguments[..], more].concat(), &environment).ended()
}

fn has(output: &str, verdict: &str, part: &str, text: &str) -> bool {
    output.lines().any(|line| {
        line.starts_with(verdict) && line[4..].trim_start().starts_with(part) && line.contains(text)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_set_up_is_found_good_before_the_first_start_while_it_runs_and_after() {
    let mut world = World::without_service(Options::default()).await;
    let (status, output) = doctor(&world, &[], &[]);
    assert_eq!(status, Some(0), "{output}");
    for (part, text) in [
        ("configuration", "sandbox mode"),
        ("store", "not made yet"),
        ("session store", "no session yet"),
        ("clock", " s ahead of Telegram's"),
        ("telegram", "answered in"),
    ] {
        assert!(has(&output, "ok", part, text), "{part}: {text} is missing in\n{output}");
    }

    world.start().await.unwrap();
    world.signed_in_as(ALICE).await;
    let (status, output) = doctor(&world, &[], &[]);
    assert_eq!(status, Some(0), "{output}");
    assert!(has(&output, "ok", "store", "in use"), "{output}");
    assert!(has(&output, "ok", "session store", "session of +1••••••0001"), "{output}");

    world.stop().await;
    let (status, output) = doctor(&world, &[], &[]);
    assert_eq!(status, Some(0), "{output}");
    assert!(has(&output, "ok", "store", "a durable write works"), "{output}");
    // It left the session as it was.
    world.start().await.unwrap();
    assert_eq!(world.state().await, "signed_in");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_is_named_with_what_to_do() {
    let mut world = World::new().await;
    world.signed_in_as(ALICE).await;
    world.stop().await;
    let broken = |more: &[&str], environment: &[(&str, &str)], part: &str, text: &str| {
        let (status, output) = doctor(&world, more, environment);
        assert_eq!(status, Some(1), "{output}");
        assert!(has(&output, "FAIL", part, text), "{part}: {text} is missing in\n{output}");
    };

    // Configuration.
    broken(&["--listen", "0.0.0.0:5000"], &[], "configuration", "CONNECTOR_ADMIN_TOKEN");
    broken(&[], &[("CONNECTOR_MASTER_KEY", "short")], "configuration", "32 bytes in base64");
    // Another master key.
    let other_key = [("CONNECTOR_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")];
    broken(&[], &other_key, "store", "set CONNECTOR_MASTER_KEY");
    broken(&[], &other_key, "session store", "set CONNECTOR_MASTER_KEY");
    // No master key beside a store.
    let key = world.folder.path().join("data/master.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    broken(&[], &[], "store", "restore master.key");
    assert!(!key.exists(), "doctor makes no key");
    std::fs::write(&key, kept).unwrap();
    // A store that an earlier version made is not moved, nor is one made.
    let (store, kept) = (world.folder.path().join("data/store"), world.folder.path().join("kept"));
    std::fs::rename(&store, &kept).unwrap();
    std::fs::create_dir(&store).unwrap();
    let (_, output) = doctor(&world, &[], &[]);
    assert!(has(&output, "ok", "store", "not made yet"), "{output}");
    drop(sled::open(&store).unwrap());
    let (_, output) = doctor(&world, &[], &[]);
    assert!(has(&output, "ok", "store", "the first start of `serve` moves it"), "{output}");
    assert!(store.join("db").exists() && !store.join("database").exists());
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&kept, &store).unwrap();
    // A damaged session.
    let session = world.session_folder().join("account.session");
    let good = std::fs::read(&session).unwrap();
    std::fs::write(&session, &good[..10]).unwrap();
    broken(&[], &[], "session store", "is damaged");
    std::fs::write(&session, &good).unwrap();
    // A session store that cannot be written.
    let blocked = world.folder.path().join("blocked");
    std::fs::write(&blocked, "in the way").unwrap();
    broken(
        &["--session-store", &format!("file:{}", blocked.display())],
        &[],
        "session store",
        "cannot be reached",
    );
    // Telegram out of reach, and no sandbox at all.
    world.fault(json!({ "refuse_connections": true })).await;
    broken(&[], &[], "telegram", "cannot be reached");
    broken(&[], &[], "clock", "not known");
    world.heal().await;
    let (status, output) =
        Process::spawn(&["doctor", "--sandbox=http://127.0.0.1:9", "--data-dir", "/nowhere"], &[]).ended();
    assert!(status == Some(1) && has(&output, "FAIL", "telegram", "no sandbox at"), "{output}");

    let (status, output) = doctor(&world, &[], &[]);
    assert_eq!(status, Some(0), "mended again:\n{output}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_tells_a_living_service_from_a_dead_one() {
    let world = World::new().await;
    let address = world.service.url().trim_start_matches("http://").to_owned();
    let check = |listen: &str| Process::spawn(&["healthcheck"], &[("CONNECTOR_LISTEN", listen)]).ended().0;
    assert_eq!(check(&address), Some(0));
    let port = address.rsplit(':').next().unwrap();
    assert_eq!(
        check(&format!("0.0.0.0:{port}")),
        Some(0),
        "a service that listens everywhere is asked on loopback"
    );
    world.end().await;
    assert_eq!(check(&address), Some(1));
}
