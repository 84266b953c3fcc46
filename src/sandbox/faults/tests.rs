//! The shapes of faults, how they are used up, and the codes of errors.

use super::*;

fn fault(json: &str) -> Fault {
    serde_json::from_str(json).unwrap()
}

#[test]
fn every_shape_of_the_contract_is_understood_and_no_other() {
    for json in [
        r#"{"method":"auth.sendCode","error":"FLOOD_WAIT_30","times":1}"#,
        r#"{"method":"auth.sendCode","error":"SOMETHING","code":403}"#,
        r#"{"method":"messages.sendMessage","error":"FLOOD_WAIT_9","account":"login_bot"}"#,
        r#"{"method":"*","delay_ms":500}"#,
        r#"{"disconnect":"now"}"#,
        r#"{"disconnect_every":10}"#,
        r#"{"freeze":"now"}"#,
        r#"{"cut_instead_of_answer":"auth.signIn","times":1}"#,
        r#"{"silent":true}"#,
        r#"{"refuse_connections":true}"#,
        r#"{"revoke":"+15550100001"}"#,
        r#"{"migrate":{"phone":"+15550100001","dc":4}}"#,
        r#"{"ban":"+15550100001"}"#,
        r#"{"forget_key":"all"}"#,
        r#"{"drop_pushes":3}"#,
        r#"{"difference_slice":2}"#,
        r#"{"difference_too_long":1}"#,
        r#"{"wrong_salt":2}"#,
        r#"{"wrong_session_id":true}"#,
        r#"{"sent_code":{"type":"email_setup","times":1}}"#,
        r#"{"bad_srp_prime":true}"#,
    ] {
        let parsed = fault(json);
        assert_eq!(serde_json::to_value(&parsed).unwrap(), fault_value(json));
    }
    for json in [
        "{}",
        "[]",
        r#"{"method":"auth.sendCode"}"#,
        r#"{"silent":true,"also":1}"#,
        r#"{"disconnect":"later"}"#,
        r#"{"drop_pushes":0}"#,
        r#"{"sent_code":{"type":"pigeon"}}"#,
    ] {
        assert!(serde_json::from_str::<Fault>(json).is_err(), "{json}");
    }
}

fn nobody(_: &str) -> bool {
    false
}

fn fault_value(json: &str) -> serde_json::Value {
    serde_json::from_str(json).unwrap()
}

#[test]
fn an_order_is_used_up_by_the_calls_it_names() {
    let faults = Faults::default();
    faults.add(fault(r#"{"method":"auth.sendCode","error":"FLOOD_WAIT_30","times":2}"#));
    faults.add(fault(r#"{"method":"*","delay_ms":5}"#));
    assert_eq!(faults.on_call("auth.signIn", nobody).error, None);
    let flood = Some((420, "FLOOD_WAIT_30".to_owned()));
    assert_eq!(faults.on_call("auth.sendCode", nobody).error, flood);
    assert_eq!(faults.list()[0].1, Some(1));
    assert_eq!(faults.on_call("auth.sendCode", nobody).error, flood);
    let fate = faults.on_call("auth.sendCode", nobody);
    assert_eq!((fate.error, fate.delay), (None, Duration::from_millis(5)));
    assert_eq!(faults.list().len(), 1);
    faults.clear();
    assert_eq!(faults.on_call("auth.sendCode", nobody), CallFate::default());
}

#[test]
fn switches_go_off_again_and_every_nth_call_is_cut() {
    let faults = Faults::default();
    faults.add(fault(r#"{"silent":true}"#));
    faults.add(fault(r#"{"silent":true}"#));
    assert!(faults.silent());
    faults.add(fault(r#"{"silent":false}"#));
    assert!(!faults.silent());
    faults.add(fault(r#"{"disconnect_every":3}"#));
    let cut: Vec<bool> = (0..6).map(|_| faults.on_call("x", nobody).disconnect).collect();
    assert_eq!(cut, [false, false, true, false, false, true]);
}

#[test]
fn an_order_for_one_account_befalls_no_other() {
    let faults = Faults::default();
    faults.add(fault(r#"{"method":"*","error":"FLOOD_WAIT_9","account":"login_bot","times":1}"#));
    assert_eq!(faults.on_call("x", nobody).error, None);
    assert_eq!(faults.on_call("x", |name| name == "login_bot").error, Some((420, "FLOOD_WAIT_9".to_owned())));
    assert_eq!(faults.on_call("x", |name| name == "login_bot").error, None);
}

#[test]
fn the_code_follows_from_the_name() {
    for (name, code) in [
        ("FLOOD_WAIT_3", 420),
        ("PHONE_MIGRATE_4", 303),
        ("AUTH_KEY_UNREGISTERED", 401),
        ("AUTH_KEY_DUPLICATED", 406),
        ("SESSION_REVOKED", 401),
        ("USER_DEACTIVATED_BAN", 401),
        ("INTERNAL_SERVER_ERROR", 500),
        ("RANDOM_ID_DUPLICATE", 500),
        ("MESSAGE_AUTHOR_REQUIRED", 403),
        ("PHONE_CODE_INVALID", 400),
    ] {
        assert_eq!(error_code(name), code, "{name}");
    }
}
