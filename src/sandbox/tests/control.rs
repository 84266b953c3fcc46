//! The control API and what it orders.

use std::time::{Duration, Instant};

use grammers_mtsender::InvocationError;
use grammers_tl_types as tl;
use serde_json::Value;
use serde_json::json;
use tl::Serializable as _;
use tl::functions as f;

use super::support::ALICE;
use super::support::Running;
use super::support::get_self;
use super::support::send_code;
use super::support::sign_in;
use super::support::soon;
use crate::domain::clock::Clock;
use crate::domain::ids::Ids;
use crate::lifecycle::OffsetClock;
use crate::lifecycle::SystemClock;
use crate::lifecycle::Tasks;
use crate::sandbox::Sandbox;
use crate::sandbox::SandboxError;
use crate::sandbox::Settings;
use crate::sandbox::rpc;
use crate::sandbox::rpc::Call;
use crate::sandbox::rpc::Caller;
use crate::sandbox::wire::keyex::tests::test_rsa;
use crate::sandbox::world::DeviceId;

#[tokio::test]
async fn accounts_and_bots_are_made_listed_and_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let person =
        json!({"phone": ALICE, "first_name": "Alice", "username": "alice_a", "two_factor_password": "x"});
    let (status, alice) = sandbox.control("POST", "/api/accounts", Some(person.clone())).await;
    assert_eq!(status, 200, "{alice}");
    assert_eq!(
        (&alice["phone"], &alice["dc"], &alice["two_factor"]),
        (&json!(ALICE), &json!(2), &json!(true))
    );
    let bot = json!({"username": "some_bot", "name": "Some"});
    let (status, bot) = sandbox.control("POST", "/api/bots", Some(bot)).await;
    assert_eq!(status, 200, "{bot}");
    assert!(bot["token"].as_str().unwrap().starts_with(&format!("{}:", bot["id"])));
    let (_, people) = sandbox.control("GET", "/api/accounts", None).await;
    assert_eq!(people, json!([alice]));
    let (_, bots) = sandbox.control("GET", "/api/bots", None).await;
    assert_eq!(bots, json!([bot]));

    let refused = |method: &'static str, path: &'static str, body: Value| {
        let sandbox = &sandbox;
        async move {
            let (status, answer) = sandbox.control(method, path, Some(body)).await;
            assert!(answer["error"].is_string(), "{answer}");
            (status, answer["code"].as_str().unwrap_or_default().to_owned())
        }
    };
    let other = |change: Value| {
        let mut person = person.clone();
        for (name, value) in change.as_object().unwrap() {
            person[name] = value.clone();
        }
        person
    };
    for (body, status, code) in [
        (person.clone(), 409, "PHONE_NUMBER_OCCUPIED"),
        (other(json!({"phone": "+15550100009", "username": "ALICE_A"})), 409, "USERNAME_OCCUPIED"),
        (other(json!({"phone": "12"})), 400, "PHONE_NUMBER_INVALID"),
        (other(json!({"phone": "+15550100009", "dc": 6, "username": "other_one"})), 400, "INVALID_REQUEST"),
        (json!({"phone": ALICE}), 400, "INVALID_REQUEST"),
    ] {
        assert_eq!(refused("POST", "/api/accounts", body).await, (status, code.to_owned()));
    }
    sandbox.stop().await;
}

/// Requests that must be refused, with the status and the code.
fn bad_requests(client: &reqwest::Client, base: &str) -> Vec<(reqwest::RequestBuilder, u16, &'static str)> {
    let url = |path: &str| format!("{base}{path}");
    let post = |kind, body| {
        let request = client.post(url("/api/accounts"));
        request.header("content-type", kind).body::<String>(body)
    };
    let long = "x".repeat(70_000);
    vec![
        (client.get(url("/no-where")), 404, "NOT_FOUND"),
        (client.get(url("/api/nowhere")), 404, "NOT_FOUND"),
        (client.put(url("/api/accounts")), 405, "METHOD_NOT_ALLOWED"),
        (post("application/json", "{".to_owned()), 400, "INVALID_REQUEST"),
        (post("text/plain", "{}".to_owned()), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (post("application/json", long), 413, "BODY_TOO_LARGE"),
        (client.get(url("/api/accounts/12/code")), 400, "PHONE_NUMBER_INVALID"),
        (client.get(url("/api/accounts/15550100001/code")), 404, "NOT_FOUND"),
        (client.get(url("/api/accounts/15550100001/messages")), 404, "NOT_FOUND"),
        (client.post(url("/api/clock")).json(&json!({"advance_seconds": 0})), 400, "INVALID_REQUEST"),
        (client.post(url("/api/faults")).json(&json!({"rain": true})), 400, "INVALID_REQUEST"),
        (client.post(url("/api/faults")).json(&json!({"revoke": ALICE})), 404, "NOT_FOUND"),
        (client.get(url("/api/accounts")).header("origin", "http://evil.example"), 403, "FORBIDDEN"),
        (client.get(url("/api/accounts")).header("sec-fetch-site", "cross-site"), 403, "FORBIDDEN"),
        (client.post(url("/api/reset")).header("webhook-id", "msg_1"), 403, "FORBIDDEN"),
        (client.get(url("/api/accounts")).header("host", "evil.example"), 403, "FORBIDDEN"),
    ]
}

#[tokio::test]
async fn every_refusal_is_json_with_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let base = format!("http://{}", sandbox.sandbox.control_address());
    let client = reqwest::Client::new();
    for (request, status, code) in bad_requests(&client, &base) {
        let response = soon(request.send()).await.unwrap();
        let got = response.status().as_u16();
        assert!(response.headers().get("access-control-allow-origin").is_none());
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!((got, body["code"].as_str()), (status, Some(code)), "{body}");
        assert!(body["error"].is_string());
    }
    for path in ["/docs", "/openapi.json", "/api/server"] {
        assert_eq!(soon(client.get(format!("{base}{path}")).send()).await.unwrap().status(), 200, "{path}");
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn a_code_is_waited_for_also_by_who_has_no_account() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let client = sandbox.grammers(&[2]).await;
    let stranger = "+15550199999";
    let path = "/api/accounts/%2B15550199999/code?wait=20";
    let (waited, sent) = tokio::join!(sandbox.control("GET", path, None), client.send_code(2, stranger));
    assert_eq!(waited.0, 200, "{}", waited.1);
    let code = waited.1["code"].as_str().unwrap();
    let answer = client.call(2, &sign_in(stranger, &sent.phone_code_hash, code)).await.unwrap();
    assert!(matches!(answer, tl::enums::auth::Authorization::SignUpRequired(_)));
    sandbox.stop().await;
}

#[tokio::test]
async fn codes_go_bad_with_time_tries_and_newer_codes() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;
    let hash = client.send_code(2, ALICE).await.phone_code_hash;
    let code = sandbox.code(ALICE).await;
    let (status, moved) = sandbox.control("POST", "/api/clock", Some(json!({"advance_seconds": 301}))).await;
    assert_eq!(status, 200, "{moved}");
    assert_eq!(client.refused(2, &sign_in(ALICE, &hash, &code)).await, "400 PHONE_CODE_EXPIRED");

    let hash = client.send_code(2, ALICE).await.phone_code_hash;
    let code = sandbox.code(ALICE).await;
    let wrong = if code == "11111" { "22222" } else { "11111" };
    for _ in 0..5 {
        assert_eq!(client.refused(2, &sign_in(ALICE, &hash, wrong)).await, "400 PHONE_CODE_INVALID");
    }
    assert_eq!(
        client.refused(2, &sign_in(ALICE, &hash, &code)).await,
        "400 PHONE_CODE_EXPIRED",
        "too many tries"
    );

    let first = client.send_code(2, ALICE).await.phone_code_hash;
    let resend = |hash: &str| f::auth::ResendCode {
        phone_number: ALICE.to_owned(),
        phone_code_hash: hash.to_owned(),
        reason: None,
    };
    let tl::enums::auth::SentCode::Code(call) = client.call(2, &resend(&first)).await.unwrap() else {
        panic!("no code")
    };
    assert!(matches!(call.r#type, tl::enums::auth::SentCodeType::Call(_)));
    assert_eq!((call.next_type, call.timeout), (None, None));
    assert_eq!(client.refused(2, &resend(&first)).await, "400 PHONE_CODE_EXPIRED");
    assert_eq!(client.refused(2, &resend(&call.phone_code_hash)).await, "406 SEND_CODE_UNAVAILABLE");
    let cancel =
        f::auth::CancelCode { phone_number: ALICE.to_owned(), phone_code_hash: call.phone_code_hash.clone() };
    assert!(client.call(2, &cancel).await.unwrap());
    let code = sign_in(ALICE, &call.phone_code_hash, "12345");
    assert_eq!(client.refused(2, &code).await, "400 PHONE_CODE_EXPIRED");
    assert_eq!(client.refused(2, &send_code("12")).await, "400 PHONE_NUMBER_INVALID");
    let mut request = send_code(ALICE);
    request.api_hash.clear();
    assert_eq!(client.refused(2, &request).await, "400 API_ID_INVALID");
    sandbox.stop().await;
}

#[tokio::test]
async fn ordered_errors_come_as_often_as_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;
    sandbox.fault(json!({"method": "auth.sendCode", "error": "FLOOD_WAIT_30", "times": 2})).await;
    for left in [1, 0] {
        assert_eq!(client.refused(2, &send_code(ALICE)).await, "420 FLOOD_WAIT 30");
        let (_, faults) = sandbox.control("GET", "/api/faults", None).await;
        assert_eq!(faults.as_array().unwrap().len(), left);
    }
    client.send_code(2, ALICE).await;
    for (kind, wanted) in [
        ("email_setup", "SetUpEmailRequired"),
        ("email", "EmailCode"),
        ("app", "App"),
        ("payment", "PaymentRequired"),
        ("success", "Success"),
    ] {
        sandbox.fault(json!({"sent_code": {"type": kind, "times": 1}})).await;
        let answer = client.call(2, &send_code(ALICE)).await.unwrap();
        assert!(format!("{answer:?}").contains(wanted), "{answer:?}");
    }
    client.me(2).await.expect("signed in without a code");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_cut_connection_has_carried_the_request_out() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;
    let hash = client.send_code(2, ALICE).await.phone_code_hash;
    let code = sandbox.code(ALICE).await;
    sandbox.fault(json!({"cut_instead_of_answer": "auth.signIn", "times": 1})).await;
    let cut = client.call(2, &sign_in(ALICE, &hash, &code)).await;
    assert!(matches!(cut, Err(InvocationError::Io(_))), "{cut:?}");
    client.me(2).await.expect("signed in all the same");
    sandbox.fault(json!({"disconnect": "now"})).await;
    // Idle clients notice when they next call, or at once; both are an I/O error, then all is well.
    let _ = client.me(2).await;
    client.me(2).await.expect("connected again");
    sandbox.stop().await;
}

#[tokio::test]
async fn revoked_banned_and_moved_accounts_answer_as_telegrams_do() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let client = sandbox.grammers(&[2, 4]).await;
    client.sign_in(&sandbox, 2, ALICE).await;
    sandbox.fault(json!({"revoke": ALICE})).await;
    assert_eq!(client.refused(2, &get_self()).await, "401 SESSION_REVOKED");
    assert_eq!(client.refused(2, &get_self()).await, "401 AUTH_KEY_UNREGISTERED");

    client.sign_in(&sandbox, 2, ALICE).await;
    sandbox.fault(json!({"migrate": {"phone": ALICE, "dc": 4}})).await;
    assert_eq!(client.refused(2, &get_self()).await, "303 USER_MIGRATE 4");
    assert_eq!(client.refused(2, &send_code(ALICE)).await, "303 PHONE_MIGRATE 4");
    client.sign_in(&sandbox, 4, ALICE).await;

    sandbox.fault(json!({"ban": ALICE})).await;
    assert_eq!(client.refused(4, &get_self()).await, "401 USER_DEACTIVATED_BAN");
    assert_eq!(client.refused(4, &send_code(ALICE)).await, "400 PHONE_NUMBER_BANNED");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_forgotten_key_is_unknown_and_a_silent_sandbox_wakes_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let mut raw = sandbox.raw(2).await;
    raw.introduce().await;
    sandbox.fault(json!({"silent": true})).await;
    let ask = raw.message(tl::Serializable::to_bytes(&f::help::GetConfig {}), true);
    raw.send(&ask).await;
    let nothing = tokio::time::timeout(Duration::from_millis(200), raw.answer_to(ask.id)).await;
    assert!(nothing.is_err());
    sandbox.control("DELETE", "/api/faults", None).await;
    raw.send(&ask).await;
    raw.answer_to(ask.id).await;

    raw.call(&send_code(ALICE)).await.unwrap();
    sandbox.fault(json!({"forget_key": ALICE})).await;
    let hello = raw.introduction();
    raw.send(&hello).await;
    assert_eq!(raw.transport_error().await, Some(404));

    sandbox.fault(json!({"refuse_connections": true})).await;
    let mut refused = sandbox.connect(2).await;
    assert!(refused.is_closed().await);
    sandbox.stop().await;
}

#[tokio::test]
async fn differences_come_in_slices_and_lost_pushes_are_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;
    client.sign_in(&sandbox, 2, ALICE).await;
    let tl::enums::updates::State::State(start) = client.call(2, &f::updates::GetState {}).await.unwrap();
    sandbox.fault(json!({"drop_pushes": 5})).await;
    sandbox.fault(json!({"difference_slice": 2})).await;
    let other = sandbox.grammers(&[2]).await;
    for _ in 0..5 {
        other.send_code(2, ALICE).await;
    }
    let mut pts = start.pts;
    let mut seen = Vec::new();
    loop {
        let ask = f::updates::GetDifference {
            pts,
            pts_limit: None,
            pts_total_limit: None,
            date: start.date,
            qts: start.qts,
            qts_limit: None,
        };
        let (messages, state, last) = match client.call(2, &ask).await.unwrap() {
            tl::enums::updates::Difference::Slice(slice) => {
                (slice.new_messages, slice.intermediate_state, false)
            }
            tl::enums::updates::Difference::Difference(rest) => (rest.new_messages, rest.state, true),
            tl::enums::updates::Difference::Empty(_) | tl::enums::updates::Difference::TooLong(_) => {
                panic!("nothing")
            }
        };
        assert!(messages.len() <= 2);
        seen.extend(messages.iter().map(tl::enums::Message::id));
        let tl::enums::updates::State::State(state) = state;
        pts = state.pts;
        if last {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert_eq!(pts, start.pts + 5);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_wrong_session_id_is_what_grammers_panics_on_and_others_can_see() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let mut raw = sandbox.raw(2).await;
    raw.introduce().await;
    sandbox.fault(json!({"wrong_session_id": true})).await;
    let ping = tl::Serializable::to_bytes(&f::Ping { ping_id: 1 });
    let message = raw.message(ping, false);
    raw.send(&message).await;
    assert_ne!(raw.next_session_id().await, raw.session);
    let (_, faults) = sandbox.control("GET", "/api/faults", None).await;
    assert_eq!(faults, json!([]), "once only");
    sandbox.stop().await;
}

#[tokio::test]
async fn delays_hold_up_one_method_and_every_nth_call_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person_with(ALICE, |person| person.two_factor_password = Some("x".to_owned()));
    let client = sandbox.grammers(&[2]).await;
    sandbox.fault(json!({"method": "help.getNearestDc", "delay_ms": 400, "times": 1})).await;
    let begun = SystemClock.now();
    client.call(2, &f::help::GetNearestDc {}).await.unwrap();
    assert!(SystemClock.now().since(begun) >= Duration::from_millis(400));

    // Held up until the order is taken back, while another method is answered.
    sandbox.fault(json!({"method": "help.getNearestDc", "delay_ms": 3_600_000, "times": 1})).await;
    let let_go = async {
        while sandbox.control("GET", "/api/faults", None).await.1 != json!([]) {
            tokio::task::yield_now().await;
        }
        client.call(2, &f::help::GetConfig {}).await.unwrap();
        sandbox.control("DELETE", "/api/faults", None).await;
    };
    let (held, ()) = tokio::join!(client.call(2, &f::help::GetNearestDc {}), let_go);
    held.unwrap();

    sandbox.fault(json!({"bad_srp_prime": true})).await;
    let hash = client.send_code(2, ALICE).await.phone_code_hash;
    let code = sandbox.code(ALICE).await;
    client.refused(2, &sign_in(ALICE, &hash, &code)).await;
    let tl::enums::account::Password::Password(password) =
        client.call(2, &f::account::GetPassword {}).await.unwrap();
    let Some(tl::enums::PasswordKdfAlgo::Sha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow(algorithm)) =
        password.current_algo
    else {
        panic!("no algorithm")
    };
    assert_ne!(algorithm.p, crate::sandbox::wire::srp::prime_bytes());

    sandbox.fault(json!({"disconnect_every": 2})).await;
    let mut cut = 0;
    for _ in 0..6 {
        cut += u32::from(client.call(2, &f::help::GetConfig {}).await.is_err());
    }
    assert!(cut >= 2, "{cut} of 6 were cut");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_reset_leaves_an_empty_world_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    sandbox.person(ALICE);
    let client = sandbox.grammers(&[2]).await;
    client.sign_in(&sandbox, 2, ALICE).await;
    let (status, _) = sandbox.control("POST", "/api/reset", None).await;
    assert_eq!(status, 200);
    let (_, people) = sandbox.control("GET", "/api/accounts", None).await;
    assert_eq!(people, json!([]));
    let _ = client.me(2).await;
    assert_eq!(client.refused(2, &get_self()).await, "401 AUTH_KEY_UNREGISTERED");
    sandbox.person(ALICE);
    client.sign_in(&sandbox, 2, ALICE).await;
    sandbox.stop().await;
    let sandbox = Running::start(folder.path()).await;
    let (_, people) = sandbox.control("GET", "/api/accounts", None).await;
    assert_eq!(people.as_array().unwrap().len(), 1);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_sandbox_listens_where_it_may_and_says_what_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let start = |change: fn(&mut Settings, std::net::SocketAddr), address| {
        let mut settings = Settings::new(folder.path(), "127.0.0.1:0".parse().unwrap());
        settings.rsa_key_pem = Some(test_rsa().0.clone());
        change(&mut settings, address);
        async move {
            let tasks = Tasks::new();
            let outcome =
                Sandbox::start(settings, OffsetClock::default(), Ids::from_seed([1; 32]), &tasks).await;
            tasks.stop();
            outcome.unwrap_err()
        }
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = start(
        |settings, taken| {
            settings.dc_listen = Some(std::net::SocketAddr::new(taken.ip(), taken.port() - 1));
        },
        address,
    )
    .await;
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let error = start(|settings, _| settings.control_listen = "0.0.0.0:0".parse().unwrap(), address).await;
    assert!(matches!(error, SandboxError::NotLoopback(_)));
    let error =
        start(|settings, _| settings.dc_listen = Some("0.0.0.0:4000".parse().unwrap()), address).await;
    assert!(matches!(error, SandboxError::NotLoopback(_)));
}

/// Who has seen what a call did finds it in the list.
#[tokio::test]
async fn a_call_is_counted_before_it_does_anything() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Running::start(folder.path()).await;
    let hub = &sandbox.sandbox.hub;
    let call = Call::read(get_self().to_bytes(), &mut 0).unwrap();
    std::thread::scope(|scope| {
        // As long as the world is looked at nothing can happen in it.
        hub.look(|_| {
            scope.spawn(|| rpc::dispatch(hub, Caller { device: DeviceId(1), dc: 2 }, &call));
            let begun = Instant::now();
            while hub.calls().is_empty() {
                assert!(begun.elapsed() < Duration::from_secs(10), "it waits for the world first");
                std::thread::yield_now();
            }
            assert_eq!(hub.calls().get("users.getUsers").map(|seen| seen.count), Some(1));
        });
    });
    sandbox.stop().await;
}
