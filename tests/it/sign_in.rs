//! `/sign_in`: seed 004, and every row of the states and errors tables of the contract, section 2.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{ALICE, BOB, CAROL, Options, PASSWORD, World, eventually};

// Seed 004.

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_sign_an_account_in() {
    let world = World::new().await;
    assert_eq!(world.state().await, "signed_out");

    let answer = world.sign_in(json!({ "phone": ALICE })).await;
    assert!(answer.is_empty(206), "{answer:?}");
    let view = world.view().await;
    assert_eq!(view["state"], "code_sent");
    assert_eq!(view["phone"], "+1••••••0001");
    assert_eq!(view["code_delivery"]["type"], "sms");
    assert_eq!(view["code_delivery"]["length"], 5);
    assert_eq!(view["account"], Value::Null);

    let code = world.code(ALICE).await;
    let answer = world.sign_in(json!({ "phone": ALICE, "password": code })).await;
    assert!(answer.is_empty(200), "{answer:?}");
    let view = world.view().await;
    assert_eq!(view["state"], "signed_in");
    assert_eq!(view["phone"], "+1••••••0001");
    assert_eq!(view["account"]["name"], "Alice");
    assert_eq!(view["account"]["username"], "alice_sandbox");
    assert!(view["account"]["id"].is_string());
    assert_eq!(view["code_delivery"], Value::Null);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_read_as_people_write_it() {
    let world = World::new().await;
    let answer = world.sign_in(json!({ "phone": " 1 (555) 010-0001" })).await;
    assert!(answer.is_empty(206), "{answer:?}");
    let code = world.code(ALICE).await;
    let (left, right) = code.split_at(2);
    let answer = world.sign_in(json!({ "phone": ALICE, "password": format!(" {left}-{right} ") })).await;
    assert!(answer.is_empty(200), "{answer:?}");
    world.end().await;
}

// The states table.

#[tokio::test(flavor = "multi_thread")]
async fn signed_in_answers_200_to_any_valid_json() {
    let world = World::new().await;
    world.signed_in_as(ALICE).await;
    let calls = world.calls("auth.sendCode").await;
    for body in [json!({ "phone": BOB }), json!({}), json!([1, 2]), json!({ "phone": 7 })] {
        let answer = world.sign_in(body).await;
        assert!(answer.is_empty(200), "{answer:?}");
    }
    let malformed =
        world.service.send("POST", "/sign_in", &[("content-type", "application/json")], Some("{")).await;
    assert_eq!(malformed.refusal(), (400, "INVALID_REQUEST".into()));
    assert_eq!(world.calls("auth.sendCode").await, calls);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_or_a_password_without_a_request_is_a_conflict() {
    let world = World::new().await;
    for body in [
        json!({ "phone": ALICE, "password": "12345" }),
        json!({ "phone": ALICE, "two_factor_password": "x" }),
        json!({ "phone": ALICE, "password": "12345", "two_factor_password": "x" }),
    ] {
        assert_eq!(world.sign_in(body).await.refusal(), (409, "NO_CODE_REQUESTED".into()));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_minute_nothing_is_sent_again_and_later_the_code_is_resent() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    world.clock.advance(Duration::from_secs(30));
    world.request_code(ALICE).await;
    assert_eq!((world.calls("auth.sendCode").await, world.calls("auth.resendCode").await), (1, 0));

    world.clock.advance(Duration::from_secs(31));
    world.request_code(ALICE).await;
    assert_eq!((world.calls("auth.sendCode").await, world.calls("auth.resendCode").await), (1, 1));
    assert_eq!(world.view().await["code_delivery"]["type"], "call");

    // Telegram has no further way: a new code is requested instead.
    let answer = world.sign_in(json!({ "phone": ALICE, "resend": true })).await;
    assert!(answer.is_empty(206), "{answer:?}");
    assert_eq!((world.calls("auth.sendCode").await, world.calls("auth.resendCode").await), (2, 2));
    let code = world.code(ALICE).await;
    assert!(world.sign_in(json!({ "phone": ALICE, "password": code })).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_phone_finds_the_sign_in_in_progress_and_loses_nothing() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    for body in [json!({ "phone": BOB }), json!({ "phone": BOB, "password": "12345" })] {
        assert_eq!(world.sign_in(body).await.refusal(), (409, "SIGN_IN_IN_PROGRESS".into()));
    }
    let code = world.code(ALICE).await;
    assert!(world.sign_in(json!({ "phone": ALICE, "password": code })).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_sign_in_can_be_abandoned() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    let answer = world.service.delete("/sign_in").await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "ok": true })));
    assert_eq!(world.calls("auth.cancelCode").await, 1);
    assert_eq!(world.state().await, "signed_out");
    world.signed_in_as(BOB).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_code_leaves_the_attempt_open() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    let wrong = world.wrong_code(ALICE).await;
    let answer = world.sign_in(json!({ "phone": ALICE, "password": wrong })).await;
    assert_eq!(answer.refusal(), (400, "PHONE_CODE_INVALID".into()));
    assert!(answer.json()["error"].as_str().unwrap().contains("not the 2FA password"));
    assert_eq!(world.state().await, "code_sent");
    let code = world.code(ALICE).await;
    assert!(world.sign_in(json!({ "phone": ALICE, "password": code })).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_factor_is_asked_for_and_checked() {
    let world = World::new().await;
    world.carol().await;
    world.request_code(CAROL).await;
    let code = world.code(CAROL).await;
    let answer = world.sign_in(json!({ "phone": CAROL, "password": code })).await;
    assert_eq!(answer.refusal(), (401, "TWO_FACTOR_REQUIRED".into()));
    assert_eq!(world.state().await, "two_factor_required");

    // The code again, without the password: no call to Telegram.
    let calls = world.calls("auth.signIn").await;
    let answer = world.sign_in(json!({ "phone": CAROL, "password": code })).await;
    assert_eq!(answer.refusal(), (401, "TWO_FACTOR_REQUIRED".into()));
    assert_eq!(world.calls("auth.signIn").await, calls);

    let answer = world.sign_in(json!({ "phone": CAROL, "two_factor_password": "wrong" })).await;
    assert_eq!(answer.refusal(), (401, "TWO_FACTOR_INVALID".into()));
    assert_eq!(world.state().await, "two_factor_required");
    assert_eq!(world.sign_in(json!({ "phone": BOB })).await.refusal(), (409, "SIGN_IN_IN_PROGRESS".into()));

    // `password` is ignored here.
    let body = json!({ "phone": CAROL, "password": "whatever", "two_factor_password": PASSWORD });
    let answer = world.sign_in(body).await;
    assert!(answer.is_empty(200), "{answer:?}");
    assert_eq!(world.view().await["account"]["name"], "Carol");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_and_two_factor_password_go_in_one_call() {
    let world = World::new().await;
    world.carol().await;
    world.request_code(CAROL).await;
    let lone = world.sign_in(json!({ "phone": CAROL, "two_factor_password": PASSWORD })).await;
    assert_eq!(lone.refusal(), (400, "INVALID_REQUEST".into()));
    let code = world.code(CAROL).await;
    let body = json!({ "phone": CAROL, "password": code, "two_factor_password": PASSWORD });
    let answer = world.sign_in(body).await;
    assert!(answer.is_empty(200), "{answer:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_phone_alone_after_two_factor_required_asks_for_a_new_code() {
    let world = World::new().await;
    world.carol().await;
    world.request_code(CAROL).await;
    let code = world.code(CAROL).await;
    world.sign_in(json!({ "phone": CAROL, "password": code })).await;
    world.request_code(CAROL).await;
    assert_eq!(world.calls("auth.sendCode").await, 2);
    assert_eq!(world.state().await, "code_sent");
    let code = world.code(CAROL).await;
    let body = json!({ "phone": CAROL, "password": code, "two_factor_password": PASSWORD });
    assert!(world.sign_in(body).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session_at_telegram_and_here() {
    let world = World::new().await;
    world.signed_in_as(ALICE).await;
    let session = world.session_folder().join("account.session");
    assert!(session.exists());
    assert_eq!(world.service.delete("/sign_in").await.json(), json!({ "ok": true }));
    assert_eq!(world.calls("auth.logOut").await, 1);
    assert!(!session.exists());
    assert_eq!(world.state().await, "signed_out");
    assert_eq!(world.service.delete("/sign_in").await.json(), json!({ "ok": true }));
    world.signed_in_as(BOB).await;
    world.end().await;
}

// The errors table.

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_understood_is_400() {
    let world = World::new().await;
    let headers = [("content-type", "application/json")];
    for body in [
        "",
        "{",
        "nonsense",
        "{}",
        "[]",
        "7",
        "{\"phone\":7}",
        "{\"phone\":\"+15550100001\",\"resend\":\"x\"}",
    ] {
        let answer = world.service.send("POST", "/sign_in", &headers, Some(body)).await;
        assert_eq!(answer.refusal(), (400, "INVALID_REQUEST".into()), "{body}");
    }
    let secret = json!({ "phone": ALICE, "password": { "nested": "hunter2" } });
    let answer = world.sign_in(secret).await;
    assert_eq!(answer.refusal(), (400, "INVALID_REQUEST".into()));
    assert!(answer.body.contains("password") && !answer.body.contains("hunter2"), "{answer:?}");
    for phone in ["", "abc", "123", "+0123456789", "+1234567890123456"] {
        let answer = world.sign_in(json!({ "phone": phone })).await;
        assert_eq!(answer.refusal(), (400, "PHONE_NUMBER_INVALID".into()), "{phone}");
    }
    assert_eq!(world.calls("auth.sendCode").await, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_telegram_says_to_a_request_for_a_code_becomes_its_row() {
    let world = World::new().await;
    for (error, status, code) in [
        ("PHONE_NUMBER_INVALID", 400, "PHONE_NUMBER_INVALID"),
        ("PHONE_NUMBER_BANNED", 403, "PHONE_NUMBER_BANNED"),
        ("PHONE_NUMBER_UNOCCUPIED", 404, "SIGN_UP_REQUIRED"),
        ("PHONE_NUMBER_APP_SIGNUP_FORBIDDEN", 404, "SIGN_UP_REQUIRED"),
        ("INTERNAL_SERVER_ERROR", 503, "TELEGRAM_UNREACHABLE"),
        ("API_ID_INVALID", 500, "INTERNAL"),
        ("SOMETHING_NEW", 500, "INTERNAL"),
    ] {
        world.fail("auth.sendCode", error).await;
        let answer = world.sign_in(json!({ "phone": ALICE })).await;
        assert_eq!(answer.refusal(), (status, code.into()), "{error}");
        assert_eq!(world.state().await, "signed_out", "{error}");
    }
    for (error, seconds) in
        [("FLOOD_WAIT_33", "33"), ("PHONE_PASSWORD_FLOOD", "60"), ("PHONE_NUMBER_FLOOD", "60")]
    {
        world.fail("auth.sendCode", error).await;
        let answer = world.sign_in(json!({ "phone": ALICE })).await;
        assert_eq!(answer.refusal(), (429, "FLOOD_WAIT".into()), "{error}");
        assert_eq!(answer.headers["retry-after"], seconds, "{error}");
    }
    for (kind, code) in [("email_setup", "EMAIL_SETUP_REQUIRED"), ("payment", "PAYMENT_REQUIRED")] {
        world.fault(json!({ "sent_code": { "type": kind, "times": 1 } })).await;
        let answer = world.sign_in(json!({ "phone": ALICE })).await;
        assert_eq!(answer.refusal(), (403, code.into()));
    }
    world.signed_in_as(ALICE).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_number_is_403_by_itself() {
    let world = World::new().await;
    world.fault(json!({ "ban": ALICE })).await;
    let answer = world.sign_in(json!({ "phone": ALICE })).await;
    assert_eq!(answer.refusal(), (403, "PHONE_NUMBER_BANNED".into()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_sent_by_email_is_an_ordinary_code() {
    let world = World::new().await;
    world.fault(json!({ "sent_code": { "type": "email", "times": 1 } })).await;
    world.request_code(ALICE).await;
    assert_eq!(world.view().await["code_delivery"]["type"], "email");
    let code = world.code(ALICE).await;
    let answer = world.sign_in(json!({ "phone": ALICE, "password": code })).await;
    assert!(answer.is_empty(200), "{answer:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_needs_no_code_is_200_at_once() {
    let world = World::new().await;
    world.fault(json!({ "sent_code": { "type": "success", "times": 1 } })).await;
    let answer = world.sign_in(json!({ "phone": ALICE })).await;
    assert!(answer.is_empty(200), "{answer:?}");
    assert_eq!(world.state().await, "signed_in");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_without_an_account_is_404_at_the_step_telegram_says_so() {
    let world = World::new().await;
    let stranger = "+15550109999";
    world.request_code(stranger).await;
    let code = world.code(stranger).await;
    let answer = world.sign_in(json!({ "phone": stranger, "password": code })).await;
    assert_eq!(answer.refusal(), (404, "SIGN_UP_REQUIRED".into()));
    assert_eq!(world.state().await, "signed_out");
    world.signed_in_as(ALICE).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_code_is_410_and_a_new_one_can_be_had_at_once() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    let code = world.code(ALICE).await;
    world.clock.advance(Duration::from_secs(3_600));
    let answer = world.sign_in(json!({ "phone": ALICE, "password": code })).await;
    assert_eq!(answer.refusal(), (410, "PHONE_CODE_EXPIRED".into()));
    assert!(answer.json()["error"].as_str().unwrap().contains("Telegram chat"));
    world.signed_in_as(ALICE).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_wrong_codes_end_the_attempt() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    let wrong = world.wrong_code(ALICE).await;
    let body = json!({ "phone": ALICE, "password": wrong });
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(world.sign_in(body.clone()).await.code());
    }
    assert_eq!(codes.last().unwrap(), "PHONE_CODE_EXPIRED");
    assert!(codes[..5].iter().all(|code| code == "PHONE_CODE_INVALID"), "{codes:?}");
    world.signed_in_as(ALICE).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_while_submitting_keeps_the_attempt() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    let code = world.code(ALICE).await;
    world.fail("auth.signIn", "FLOOD_WAIT_7").await;
    let body = json!({ "phone": ALICE, "password": code });
    let answer = world.sign_in(body.clone()).await;
    assert_eq!(answer.refusal(), (429, "FLOOD_WAIT".into()));
    assert_eq!(answer.headers["retry-after"], "7");
    assert_eq!(world.calls("auth.signIn").await, 1, "nothing is retried behind our back");
    assert!(world.sign_in(body).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_lives_elsewhere_is_followed() {
    let world = World::new().await;
    world.carol().await;
    world.fault(json!({ "migrate": { "phone": CAROL, "dc": 4 } })).await;
    world.request_code(CAROL).await;
    let code = world.code(CAROL).await;
    let body = json!({ "phone": CAROL, "password": code, "two_factor_password": PASSWORD });
    let answer = world.sign_in(body).await;
    assert!(answer.is_empty(200), "{answer:?}");
    assert_eq!(world.view().await["account"]["name"], "Carol");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_2fa_challenge_spent_meanwhile_is_asked_for_again() {
    let world = World::new().await;
    world.carol().await;
    world.request_code(CAROL).await;
    let code = world.code(CAROL).await;
    world.fail("auth.checkPassword", "SRP_ID_INVALID").await;
    let body = json!({ "phone": CAROL, "password": code, "two_factor_password": PASSWORD });
    let answer = world.sign_in(body).await;
    assert!(answer.is_empty(200), "{answer:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_2fa_parameters_are_refused_before_the_password_is_used() {
    let world = World::new().await;
    world.carol().await;
    world.request_code(CAROL).await;
    let code = world.code(CAROL).await;
    world.sign_in(json!({ "phone": CAROL, "password": code })).await;
    world.fault(json!({ "bad_srp_prime": true })).await;
    let answer = world.sign_in(json!({ "phone": CAROL, "two_factor_password": PASSWORD })).await;
    assert_eq!(answer.refusal(), (500, "INTERNAL".into()));
    assert_eq!(world.calls("auth.checkPassword").await, 0);
    world.heal().await;
    assert!(world.sign_in(json!({ "phone": CAROL, "two_factor_password": PASSWORD })).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn telegram_out_of_reach_is_503_within_the_limit_and_nothing_is_lost() {
    let world = World::with(Options { call_limit: Duration::from_millis(500), ..Options::default() }).await;
    world.fault(json!({ "refuse_connections": true })).await;
    let answer = world.sign_in(json!({ "phone": ALICE })).await;
    assert_eq!(answer.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    world.heal().await;
    assert!(world.sign_in_after_a_cut(json!({ "phone": ALICE })).await.is_empty(206));

    world.fault(json!({ "silent": true })).await;
    let code = world.code(ALICE).await;
    let body = json!({ "phone": ALICE, "password": code });
    assert_eq!(world.sign_in(body.clone()).await.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    assert_eq!(world.state().await, "code_sent");
    world.heal().await;
    let answer = world.sign_in_after_a_cut(body).await;
    assert!(answer.is_empty(200), "{answer:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_whose_answer_is_lost_is_found_done() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    let code = world.code(ALICE).await;
    world.fault(json!({ "cut_instead_of_answer": "auth.signIn", "times": 1 })).await;
    let body = json!({ "phone": ALICE, "password": code });
    assert_eq!(world.sign_in(body.clone()).await.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    let answer = world.sign_in(body).await;
    assert!(answer.is_empty(200), "{answer:?}");
    assert_eq!(world.view().await["account"]["name"], "Alice");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_signed_out_with_its_reason_and_can_be_replaced() {
    let options = Options { watchdog_interval: Duration::from_millis(50), ..Options::default() };
    let world = World::with(options).await;
    world.signed_in_as(ALICE).await;
    world.fault(json!({ "revoke": ALICE })).await;
    eventually("signed out", || async { world.state().await == "signed_out" }).await;
    let reason = world.view().await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("SESSION_REVOKED") || reason.contains("AUTH_KEY_UNREGISTERED"), "{reason}");
    assert_eq!(world.service.get("/readyz").await.json()["telegram"], "signed_out");
    world.signed_in_as(ALICE).await;
    assert_eq!(world.view().await["reason"], Value::Null);
    world.end().await;
}

// The session store.

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_saved_is_kept_and_saved_later() {
    let mut world = World::new().await;
    world.request_code(ALICE).await;
    let code = world.code(ALICE).await;
    let file = world.session_folder().join("account.session");
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    let body = json!({ "phone": ALICE, "password": code });
    let answer = world.sign_in(body.clone()).await;
    assert_eq!(answer.refusal(), (503, "SESSION_STORE_UNAVAILABLE".into()));
    let answer = world.sign_in(body.clone()).await;
    assert_eq!(answer.refusal(), (503, "SESSION_STORE_UNAVAILABLE".into()));
    assert_eq!(world.service.get("/readyz").await.json()["session_store"], "degraded");

    // A restart in the middle of the outage: still signed in, still not saved.
    world.restart().await;
    assert_eq!(world.state().await, "signed_in");
    assert_eq!(world.sign_in(body.clone()).await.refusal(), (503, "SESSION_STORE_UNAVAILABLE".into()));

    std::fs::remove_dir_all(&file).unwrap();
    let answer = world.sign_in(body).await;
    assert!(answer.is_empty(200), "{answer:?}");
    assert!(file.is_file());
    assert_eq!(world.service.get("/readyz").await.json()["session_store"], "ok");
    world.restart().await;
    assert_eq!(world.state().await, "signed_in");
    assert_eq!(world.calls("auth.sendCode").await, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_knows_whether_a_session_exists_no_sign_in_begins() {
    let mut world = World::without_service(Options::default()).await;
    let folder = world.session_folder();
    std::fs::write(&folder, "in the way").unwrap();
    world.start().await.unwrap();
    let answer = world.sign_in(json!({ "phone": ALICE })).await;
    assert_eq!(answer.refusal(), (503, "SESSION_STORE_UNAVAILABLE".into()));
    assert_eq!(world.service.get("/sign_in").await.refusal(), (503, "SESSION_STORE_UNAVAILABLE".into()));
    assert_eq!(world.service.get("/readyz").await.status, 200);
    assert_eq!(world.calls("auth.sendCode").await, 0);
    std::fs::remove_file(&folder).unwrap();
    world.signed_in_as(ALICE).await;
    world.end().await;
}

// Callers who come together, or leave.

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_at_once_for_the_same_phone_send_one_code() {
    let world = World::new().await;
    world.fault(json!({ "method": "auth.sendCode", "delay_ms": 100 })).await;
    let call = || world.sign_in(json!({ "phone": ALICE }));
    let answers = futures_util::future::join_all((0..8).map(|_| call())).await;
    assert!(answers.iter().all(|answer| answer.is_empty(206)), "{answers:?}");
    assert_eq!(world.calls("auth.sendCode").await, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_hangs_up_does_not_cut_a_sign_in_in_half() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    let code = world.code(ALICE).await;
    world.hold("auth.signIn").await;
    let (client, body) = (world.service.clone(), json!({ "phone": ALICE, "password": code }));
    let hasty = tokio::spawn(async move { client.post("/sign_in", &body).await });
    // The fault is spent as soon as the call arrives, and the answer waits.
    world.faults_are_spent().await;
    hasty.abort();
    assert!(hasty.await.unwrap_err().is_cancelled(), "it was to hang up before the answer");
    world.heal().await;
    eventually("signed in", || async { world.state().await == "signed_in" }).await;
    assert!(world.session_folder().join("account.session").exists());
    world.end().await;
}

// Bad luck that comes twice.

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lost_and_then_no_answer_at_all_still_ends_signed_in() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    let code = world.code(ALICE).await;
    let body = json!({ "phone": ALICE, "password": code });
    world.fault(json!({ "cut_instead_of_answer": "auth.signIn", "times": 1 })).await;
    assert_eq!(world.sign_in(body.clone()).await.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    world.fault(json!({ "refuse_connections": true })).await;
    assert_eq!(world.sign_in(body.clone()).await.refusal(), (503, "TELEGRAM_UNREACHABLE".into()));
    world.heal().await;
    world.fail("users.getUsers", "FLOOD_WAIT_3").await;
    assert_eq!(world.sign_in(body.clone()).await.refusal(), (429, "FLOOD_WAIT".into()));
    let answer = world.sign_in(body).await;
    assert!(answer.is_empty(200), "{answer:?}");
    assert_eq!(world.calls("auth.signIn").await, 1, "the used code was not submitted again");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_sign_in_beside_a_revoked_session_survives_restarts() {
    let options = Options { watchdog_interval: Duration::from_millis(50), ..Options::default() };
    let mut world = World::with(options).await;
    world.signed_in_as(ALICE).await;
    world.fault(json!({ "revoke": ALICE })).await;
    eventually("signed out", || async { world.state().await == "signed_out" }).await;
    world.request_code(BOB).await;
    let code = world.code(BOB).await;
    // At each start the vault still holds Alice's session, which nobody knows yet to be dead.
    for _ in 0..4 {
        world.restart().await;
    }
    let answer = world.sign_in(json!({ "phone": BOB, "password": code })).await;
    assert!(answer.is_empty(200), "{answer:?}");
    assert_eq!(world.view().await["account"]["name"], "Bob");
    world.restart().await;
    assert!(world.sign_in(json!({ "phone": BOB })).await.is_empty(200));
    assert_eq!(world.view().await["account"]["name"], "Bob");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_can_be_abandoned_whatever_telegram_says() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    world.fail("auth.cancelCode", "FLOOD_WAIT_86400").await;
    assert_eq!(world.service.delete("/sign_in").await.status, 200);
    assert_eq!(world.state().await, "signed_out");
    world.request_code(BOB).await;
    world.fault(json!({ "refuse_connections": true })).await;
    world.fault(json!({ "disconnect": "now" })).await;
    assert_eq!(world.service.delete("/sign_in").await.status, 200);
    world.heal().await;
    world.signed_in_as(ALICE).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_moves_between_the_steps_can_be_signed_in_after_all() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    let code = world.code(ALICE).await;
    world.fault(json!({ "migrate": { "phone": ALICE, "dc": 5 } })).await;
    let answer = world.sign_in(json!({ "phone": ALICE, "password": code })).await;
    assert_eq!(answer.refusal(), (410, "PHONE_CODE_EXPIRED".into()));
    world.signed_in_as(ALICE).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_sent_again_from_the_data_centre_the_account_has_moved_to() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    world.fault(json!({ "migrate": { "phone": ALICE, "dc": 5 } })).await;
    let answer = world.sign_in(json!({ "phone": ALICE, "resend": true })).await;
    assert!(answer.is_empty(206), "{answer:?}");
    let code = world.code(ALICE).await;
    assert!(world.sign_in(json!({ "phone": ALICE, "password": code })).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_in_account_that_moves_is_signed_out_with_the_reason() {
    let options = Options { watchdog_interval: Duration::from_millis(50), ..Options::default() };
    let world = World::with(options).await;
    world.signed_in_as(ALICE).await;
    world.fault(json!({ "migrate": { "phone": ALICE, "dc": 3 } })).await;
    eventually("signed out", || async { world.state().await == "signed_out" }).await;
    let reason = world.view().await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("MIGRATE") || reason.contains("AUTH_KEY"), "{reason}");
    world.signed_in_as(ALICE).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_key_that_telegram_forgot_gives_way_to_a_fresh_one() {
    let world = World::new().await;
    world.request_code(ALICE).await;
    world.fault(json!({ "forget_key": "all" })).await;
    world.fault(json!({ "disconnect": "now" })).await;
    let answer = world.sign_in_after_a_cut(json!({ "phone": ALICE, "resend": true })).await;
    assert!(answer.is_empty(206), "{answer:?}");
    let code = world.code(ALICE).await;
    assert!(world.sign_in(json!({ "phone": ALICE, "password": code })).await.is_empty(200));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_store_that_goes_away_later_is_degraded_and_comes_back() {
    let world = World::new().await;
    world.signed_in_as(ALICE).await;
    let ready = || async { world.service.get("/readyz").await.json()["session_store"].clone() };
    eventually("ok", || async { ready().await == "ok" }).await;
    let folder = world.session_folder();
    let aside = folder.with_extension("aside");
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    // Something to save: a message arrives, because another device asks for a code.
    let other = World::gateway_elsewhere(&world).await;
    other.request_code(&telegram_connector::domain::login::Phone::parse(ALICE).unwrap()).await.unwrap();
    eventually("degraded", || async { ready().await == "degraded" }).await;
    assert!(world.sign_in(json!({ "phone": ALICE })).await.is_empty(200), "the login itself is saved");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    eventually("ok again", || async { ready().await == "ok" }).await;
    other.close().await;
    world.end().await;
}
