//! A bot's token as `@BotFather` gives it: the bot's id, a colon, a secret. Whether Telegram accepts it is not
//! known here.

use crate::domain::ids::Secret;

/// More than any token has.
const LONGEST: usize = 128;

/// The text cannot be a bot's token. What it was is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bot's token looks like 123456789:AbCdEf…, as @BotFather gives it")]
pub struct BadToken;

/// The id of the bot that the token belongs to.
///
/// # Errors
/// [`BadToken`].
pub fn bot_id(token: &Secret<String>) -> Result<i64, BadToken> {
    let (id, secret) = token.reveal().split_once(':').ok_or(BadToken)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if token.reveal().len() > LONGEST || secret.is_empty() || !secret.bytes().all(plain) {
        return Err(BadToken);
    }
    if id.starts_with('0') || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadToken);
    }
    id.parse().map_err(|_| BadToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_bot_and_nothing_else_passes() {
        let id = |text: &str| bot_id(&Secret::new(text.to_owned()));
        assert_eq!(id("110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_-"), Ok(110_201_543));
        let long = format!("1:{}", "a".repeat(LONGEST));
        for bad in [
            "",
            ":",
            "1:",
            ":a",
            "a:b",
            "-1:a",
            "+1:a",
            "01:a",
            "1:a b",
            "1:a:b",
            "1:é",
            " 1:a",
            "1:a\n",
            "99999999999999999999:a",
            &long,
        ] {
            assert_eq!(id(bad), Err(BadToken), "{bad:?}");
        }
        assert!(!format!("{:?} {BadToken}", id("secret")).contains("secret"));
    }
}
