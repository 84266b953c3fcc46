//! Whether login codes are in a log: too short to be looked for as the other secrets are (`search`).

/// Whether a port comes next: `127.0.0.1:`, `[::1]:`, `localhost:`.
fn ends_with_address(text: &str) -> bool {
    let Some(text) = text.strip_suffix(':') else { return false };
    let begin = text.rfind(|one: char| !one.is_ascii_digit() && one != '.').map_or(0, |at| at + 1);
    text.ends_with("localhost")
        || text.rsplit_once('[').and_then(|(_, host)| host.strip_suffix(']')).is_some_and(is_address)
        || is_address(&text[begin..])
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

#[test]
fn a_code_is_found_after_whatever_it_is_said() {
    let found =
        |log: &str| std::panic::catch_unwind(|| codes_are_not_in(log, &["12345".to_owned()])).is_err();
    for log in [
        "12345",
        "code:12345",
        "code: 12345.",
        "a-12345",
        "a_12345_b",
        "a.12345,",
        r#"{"code":12345}"#,
        "=12345:",
    ] {
        assert!(found(log), "{log}");
    }
    for log in ["127.0.0.1:12345", "http://[::1]:12345/", "localhost:12345", "912345", "12345ms", "a12345"] {
        assert!(!found(log), "{log}");
    }
}

/// Five digits occur by chance, so they are looked for as words that are no port and no part of a number or word.
pub(super) fn codes_are_not_in(log: &str, codes: &[String]) {
    for code in codes {
        for (at, _) in log.match_indices(code.as_str()) {
            let part = |one: Option<char>| one.is_some_and(char::is_alphanumeric);
            let before = &log[..at];
            let after = log[at + code.len()..].chars().next();
            assert!(
                part(before.chars().next_back()) || part(after) || ends_with_address(before),
                "a login code is in the log: {}",
                &log[at.saturating_sub(80)..at]
            );
        }
    }
}
