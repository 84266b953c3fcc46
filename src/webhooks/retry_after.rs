//! `Retry-After`, in both of its forms (RFC 9110, section 10.2.3).

use std::time::Duration;

use time::PrimitiveDateTime;
use time::macros::format_description;

/// How long the receiver asks to be left alone. `date` is the answer's own `Date`: a date to wait for is counted from
/// the receiver's clock, because ours may differ. Without it a date says nothing.
pub(super) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let wait = http_date(value)? - http_date(date?)?;
    // A date that has passed is no wait at all.
    Some(Duration::from_secs(u64::try_from(wait.whole_seconds()).unwrap_or(0)))
}

/// The one form of a date that may be sent since 1999.
fn http_date(text: &str) -> Option<PrimitiveDateTime> {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    PrimitiveDateTime::parse(text.trim(), form).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_understood_and_nonsense_is_not() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let cases = [
            ("120", None, Some(120)),
            (" 0 ", date, Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", date, Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", date, Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", None, None),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some("today"), None),
            ("-5", date, None),
            ("1.5", date, None),
            ("soon", date, None),
            ("", date, None),
            ("99999999999999999999999", date, None),
        ];
        for (value, date, wait) in cases {
            assert_eq!(retry_after(value, date), wait.map(Duration::from_secs), "{value:?}");
        }
    }
}
