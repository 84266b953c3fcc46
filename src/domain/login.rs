//! The two-step sign-in of an account as data: the phone, the code, and what is pending between the steps.
//! Who asks Telegram is `telegram`; who remembers is `store`; who decides is `flows::sign_in`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::account::TelegramSession;
use crate::domain::clock::Timestamp;

/// A phone number in international format, E.164 without the plus. Prints masked.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Phone(String);

/// Not a phone number in international format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a phone number in international format, as in +1234567890")]
pub struct BadPhone;

impl Phone {
    /// Reads `+1234567890`; a missing plus and the usual separators (blank, `-`, `.`, brackets) are forgiven.
    ///
    /// # Errors
    /// Anything but 7 to 15 digits that do not begin with 0 (E.164).
    pub fn parse(text: &str) -> Result<Self, BadPhone> {
        let text = text.trim();
        let number = text.strip_prefix('+').unwrap_or(text);
        let mut digits = String::with_capacity(15);
        for character in number.chars() {
            match character {
                '0'..='9' => digits.push(character),
                ' ' | '-' | '.' | '(' | ')' | '\u{a0}' => {}
                _ => return Err(BadPhone),
            }
        }
        if !(7..=15).contains(&digits.len()) || digits.starts_with('0') {
            return Err(BadPhone);
        }
        Ok(Self(digits))
    }

    /// `+1234567890`: for Telegram only, never for a log.
    pub fn e164(&self) -> String {
        format!("+{}", self.0)
    }

    /// `+1••••••7890`: the first digit and the last four, whatever the length.
    pub fn masked(&self) -> String {
        let first = self.0.get(..1).unwrap_or("");
        let last = self.0.get(self.0.len().saturating_sub(4)..).unwrap_or("");
        format!("+{first}••••••{last}")
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.masked())
    }
}

/// A login code as the person typed it; digits without the blanks and dashes between them. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginCode(String);

impl LoginCode {
    /// Reads a code; `None` when nothing is left, or more than any code has.
    pub fn parse(text: &str) -> Option<Self> {
        let bare: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        // A word or a phrase (`sms_word`, `sms_phrase`) keeps its blanks and hyphens.
        let of_digits = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_digit());
        let code = if of_digits { bare } else { text.trim().to_owned() };
        (code.chars().any(char::is_alphanumeric) && code.len() <= 128).then_some(Self(code))
    }

    /// The code: for Telegram only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LoginCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LoginCode(…)")
    }
}

/// How Telegram delivers a code (TL `auth.SentCodeType`, without the payloads nobody needs).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeDelivery {
    /// `app`, `sms`, `call`, `flash_call`, `missed_call`, `email`, `fragment_sms`, `firebase_sms`, `sms_word`,
    /// `sms_phrase`.
    pub kind: String,
    /// How many characters the code has, where Telegram says it.
    pub length: Option<u32>,
    /// How the next one would come after a resend (TL `auth.CodeType`).
    pub next: Option<String>,
    /// Seconds until a resend is sensible.
    pub resend_after_s: Option<u32>,
}

impl CodeDelivery {
    /// Whether the code came by e-mail: such a code goes back to Telegram in another field.
    pub fn by_email(&self) -> bool {
        self.kind == "email"
    }
}

/// Where a pending sign-in stands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum SignInStep {
    /// Telegram has sent a code.
    CodeSent {
        /// Telegram's `phone_code_hash`: belongs to the session's auth key.
        phone_code_hash: String,
        /// What Telegram said of the code.
        delivery: CodeDelivery,
        /// When it was sent.
        sent_at: Timestamp,
    },
    /// The code was right; the account also has a 2FA password.
    TwoFactorRequired {
        /// The hint the account's owner left.
        hint: Option<String>,
    },
}

impl fmt::Debug for SignInStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CodeSent { .. } => "CodeSent",
            Self::TwoFactorRequired { .. } => "TwoFactorRequired",
        })
    }
}

/// A sign-in between its steps: all that another process needs to finish it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingSignIn {
    /// Whose sign-in.
    pub phone: Phone,
    /// How far it is.
    pub step: SignInStep,
    /// The session it runs in: auth key and home data centre.
    pub session: TelegramSession,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_is_read_as_people_write_it() {
        for text in ["+1234567890", "1234567890", " +1 (234) 567-890 ", "+1.234.567.890", "+1\u{a0}234567890"]
        {
            assert_eq!(Phone::parse(text).unwrap().e164(), "+1234567890", "{text}");
        }
        for text in
            ["", "+", "123456", "+1234567890123456", "+1234x67890", "++1234567890", "+0123456789", "١٢٣٤٥٦٧٨"]
        {
            assert_eq!(Phone::parse(text), Err(BadPhone), "{text}");
        }
    }

    #[test]
    fn a_phone_prints_masked() {
        let phone = Phone::parse("+1234567890").unwrap();
        assert_eq!(phone.masked(), "+1••••••7890");
        assert_eq!(format!("{phone:?}"), "+1••••••7890");
    }

    #[test]
    fn a_code_is_read_as_people_write_it_and_never_printed() {
        assert_eq!(LoginCode::parse(" 12-3 45\n").unwrap().reveal(), "12345");
        assert_eq!(LoginCode::parse(" - "), None);
        assert_eq!(LoginCode::parse(" the quick-brown fox ").unwrap().reveal(), "the quick-brown fox");
        assert_eq!(LoginCode::parse(&"1".repeat(129)), None);
        assert_eq!(format!("{:?}", LoginCode::parse("12345").unwrap()), "LoginCode(…)");
    }
}
