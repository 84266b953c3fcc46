//! What Telegram, or the way to it, answers when it does not do what was asked: error names become cases to act on.
//! The only place that knows the names (core.telegram.org/api/errors); statuses are `http`'s business.

use std::time::Duration;

use grammers_mtsender::{InvocationError, RpcError};

use super::session::Refusal;

/// Seconds that a flood error without a number counts.
const FLOOD_WITHOUT_NUMBER: u32 = 60;

/// Why a call to Telegram did not succeed. Texts hold no secret and no phone number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelegramError {
    /// `PHONE_NUMBER_INVALID`.
    #[error("Telegram does not know this kind of phone number")]
    PhoneNumberInvalid,
    /// `PHONE_NUMBER_BANNED`.
    #[error("Telegram has banned this phone number")]
    PhoneNumberBanned,
    /// No account has this number: `PHONE_NUMBER_UNOCCUPIED` and its kin, `auth.authorizationSignUpRequired`.
    #[error("there is no Telegram account with this phone number")]
    SignUpRequired,
    /// `PHONE_CODE_INVALID`, `PHONE_CODE_EMPTY`.
    #[error("the login code is wrong")]
    CodeInvalid,
    /// `PHONE_CODE_EXPIRED` and its kin.
    #[error("the login code has expired")]
    CodeExpired,
    /// `SESSION_PASSWORD_NEEDED`.
    #[error("the account has a 2FA password")]
    TwoFactorRequired,
    /// `PASSWORD_HASH_INVALID`.
    #[error("the 2FA password is wrong")]
    TwoFactorInvalid,
    /// `auth.sentCodeTypeSetUpEmailRequired`.
    #[error("Telegram wants a login e-mail set up first")]
    EmailSetupRequired,
    /// `auth.sentCodePaymentRequired`.
    #[error("Telegram wants a payment first")]
    PaymentRequired,
    /// 420 `FLOOD_WAIT_n` and every other flood.
    #[error("Telegram asks to wait {} s", .0.as_secs())]
    FloodWait(Duration),
    /// `SEND_CODE_UNAVAILABLE`: every way to send the code has been used.
    #[error("Telegram has no other way to send this code")]
    ResendUnavailable,
    /// `SRP_ID_INVALID`, `SRP_PASSWORD_CHANGED`: the challenge is spent, a new one is needed.
    #[error("the 2FA challenge is no longer valid")]
    ChallengeSpent,
    /// `AUTH_RESTART`: the same call has to be made again from the start.
    #[error("Telegram asks to start over")]
    StartOver,
    /// `ACCESS_TOKEN_INVALID`, `ACCESS_TOKEN_EXPIRED`: the bot's token has been revoked, or never was one.
    #[error("Telegram does not accept this bot token")]
    TokenInvalid,
    /// This message cannot reach this person, now or ever: `USER_IS_BLOCKED`, `PEER_ID_INVALID`,
    /// `INPUT_USER_DEACTIVATED` and their kin. Holds Telegram's name for it.
    #[error("the person cannot be written to ({0})")]
    PeerUnreachable(String),
    /// The message to edit or to answer is not there, or not to be changed any more (`MESSAGE_ID_INVALID`).
    #[error("the message does not exist any more")]
    MessageGone,
    /// `QUERY_ID_INVALID`: the tap was answered already, or too long ago.
    #[error("the tap cannot be answered any more")]
    QueryExpired,
    /// `RANDOM_ID_DUPLICATE`, `MESSAGE_NOT_MODIFIED`: what was asked for has been done before.
    #[error("Telegram has done this already")]
    AlreadyDone,
    /// 303: the account lives in another data centre.
    #[error("the account lives in data centre {0}")]
    Migrate(i32),
    /// The authorisation is gone: revoked, duplicated, banned, or its key unknown. Holds Telegram's name for it.
    #[error("Telegram has ended this session ({0})")]
    SignedOut(String),
    /// `API_ID_INVALID`, `API_ID_PUBLISHED_FLOOD`.
    #[error("Telegram refuses TELEGRAM_API_ID or TELEGRAM_API_HASH ({0})")]
    ApiIdRefused(String),
    /// No answer, or none that Telegram stands by (5xx).
    #[error("Telegram cannot be reached: {0}")]
    Unreachable(String),
    /// An answer nobody foresaw.
    #[error("unexpected answer from Telegram: {0}")]
    Unexpected(String),
}

impl TelegramError {
    /// Whether the connection itself is to be distrusted after this.
    pub(super) const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Translates what grammers reports. `had_key`: whether the data centre's key was known before the call, in which
/// case a new key exchange means that the old key is no longer accepted.
pub(super) fn from_invocation(error: InvocationError, had_key: bool) -> TelegramError {
    match error {
        InvocationError::Rpc(error) => from_rpc(&error),
        InvocationError::Session(error) if error.downcast_ref() == Some(&Refusal::NotOwned) => {
            TelegramError::Unreachable(Refusal::NotOwned.to_string())
        }
        InvocationError::Session(_)
        | InvocationError::Authentication(_)
        | InvocationError::Transport(grammers_mtproto::transport::Error::BadStatus { status: 404 })
            if had_key =>
        {
            TelegramError::SignedOut("AUTH_KEY_UNKNOWN".to_owned())
        }
        InvocationError::Transport(grammers_mtproto::transport::Error::BadStatus { status: 429 }) => {
            flood(None)
        }
        InvocationError::InvalidDc => TelegramError::Unexpected("an unknown data centre".to_owned()),
        InvocationError::Deserialize(error) => TelegramError::Unexpected(error.to_string()),
        InvocationError::Io(error) => TelegramError::Unreachable(error.to_string()),
        InvocationError::Dropped(why) => TelegramError::Unreachable(why.to_owned()),
        InvocationError::Transport(error) => TelegramError::Unreachable(error.to_string()),
        InvocationError::Session(error) => TelegramError::Unreachable(error.to_string()),
        InvocationError::Authentication(error) => TelegramError::Unreachable(error.to_string()),
    }
}

/// Why Telegram does not tell what has happened since our update position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PositionRefused {
    /// `PERSISTENT_TIMESTAMP_INVALID`, `PERSISTENT_TIMESTAMP_EMPTY`: no question from there will be answered.
    Never,
    /// `PERSISTENT_TIMESTAMP_OUTDATED`: Telegram is behind itself, and asks to try again later.
    NotYet,
}

/// Whether Telegram has refused our update position.
pub(super) fn position_refused(error: &InvocationError) -> Option<PositionRefused> {
    if error.is("PERSISTENT_TIMESTAMP_OUTDATED") {
        return Some(PositionRefused::NotYet);
    }
    let never = ["PERSISTENT_TIMESTAMP_INVALID", "PERSISTENT_TIMESTAMP_EMPTY"];
    never.iter().any(|name| error.is(name)).then_some(PositionRefused::Never)
}

/// The table: Telegram's error name to what it means for us.
pub(super) fn from_rpc(error: &RpcError) -> TelegramError {
    let name = error.name.as_str();
    match name {
        "PHONE_NUMBER_INVALID" => TelegramError::PhoneNumberInvalid,
        "PHONE_NUMBER_BANNED" => TelegramError::PhoneNumberBanned,
        "PHONE_NUMBER_UNOCCUPIED" | "PHONE_NUMBER_APP_SIGNUP_FORBIDDEN" => TelegramError::SignUpRequired,
        "PHONE_CODE_INVALID" | "PHONE_CODE_EMPTY" | "EMAIL_CODE_INVALID" => TelegramError::CodeInvalid,
        "PHONE_CODE_EXPIRED" | "PHONE_CODE_HASH_EMPTY" | "PHONE_HASH_EXPIRED" | "EMAIL_VERIFY_EXPIRED" => {
            TelegramError::CodeExpired
        }
        "SESSION_PASSWORD_NEEDED" => TelegramError::TwoFactorRequired,
        "PASSWORD_HASH_INVALID" => TelegramError::TwoFactorInvalid,
        "SEND_CODE_UNAVAILABLE" => TelegramError::ResendUnavailable,
        "SRP_ID_INVALID" | "SRP_PASSWORD_CHANGED" => TelegramError::ChallengeSpent,
        "AUTH_RESTART" => TelegramError::StartOver,
        "API_ID_INVALID" | "API_ID_PUBLISHED_FLOOD" => TelegramError::ApiIdRefused(name.to_owned()),
        "AUTH_KEY_DUPLICATED" => TelegramError::SignedOut(name.to_owned()),
        "ACCESS_TOKEN_INVALID" | "ACCESS_TOKEN_EXPIRED" => TelegramError::TokenInvalid,
        "USER_IS_BLOCKED"
        | "YOU_BLOCKED_USER"
        | "PEER_ID_INVALID"
        | "USER_ID_INVALID"
        | "INPUT_USER_DEACTIVATED"
        | "USER_IS_BOT"
        | "CHAT_WRITE_FORBIDDEN"
        | "USER_PRIVACY_RESTRICTED"
        | "PRIVACY_PREMIUM_REQUIRED"
        | "ALLOW_PAYMENT_REQUIRED" => TelegramError::PeerUnreachable(name.to_owned()),
        "MESSAGE_ID_INVALID"
        | "MSG_ID_INVALID"
        | "REPLY_MESSAGE_ID_INVALID"
        | "REPLY_TO_INVALID"
        | "MESSAGE_EDIT_TIME_EXPIRED" => TelegramError::MessageGone,
        "QUERY_ID_INVALID" => TelegramError::QueryExpired,
        "RANDOM_ID_DUPLICATE" | "MESSAGE_NOT_MODIFIED" => TelegramError::AlreadyDone,
        _ if error.code == 420 || name.contains("FLOOD") => flood(error.value),
        _ if error.code == 303 => error
            .value
            .and_then(|dc| i32::try_from(dc).ok())
            .map_or_else(|| TelegramError::Unexpected(name.to_owned()), TelegramError::Migrate),
        _ if error.code == 401 => TelegramError::SignedOut(name.to_owned()),
        _ if error.code >= 500 || error.code < 0 => TelegramError::Unreachable(name.to_owned()),
        _ => TelegramError::Unexpected(name.to_owned()),
    }
}

fn flood(seconds: Option<u32>) -> TelegramError {
    TelegramError::FloodWait(Duration::from_secs(seconds.unwrap_or(FLOOD_WITHOUT_NUMBER).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(code: i32, text: &str) -> TelegramError {
        let error = grammers_tl_types::types::RpcError { error_code: code, error_message: text.to_owned() };
        from_rpc(&RpcError::from(error))
    }

    #[test]
    fn every_name_of_the_table_becomes_its_case() {
        use TelegramError as E;
        let table = [
            (400, "PHONE_NUMBER_INVALID", E::PhoneNumberInvalid),
            (400, "PHONE_NUMBER_BANNED", E::PhoneNumberBanned),
            (400, "PHONE_NUMBER_UNOCCUPIED", E::SignUpRequired),
            (400, "PHONE_NUMBER_APP_SIGNUP_FORBIDDEN", E::SignUpRequired),
            (400, "PHONE_CODE_INVALID", E::CodeInvalid),
            (400, "PHONE_CODE_EXPIRED", E::CodeExpired),
            (401, "SESSION_PASSWORD_NEEDED", E::TwoFactorRequired),
            (400, "PASSWORD_HASH_INVALID", E::TwoFactorInvalid),
            (400, "SRP_ID_INVALID", E::ChallengeSpent),
            (406, "SEND_CODE_UNAVAILABLE", E::ResendUnavailable),
            (500, "AUTH_RESTART", E::StartOver),
            (303, "PHONE_MIGRATE_4", E::Migrate(4)),
            (303, "USER_MIGRATE_5", E::Migrate(5)),
            (420, "FLOOD_WAIT_33", E::FloodWait(Duration::from_secs(33))),
            (420, "FLOOD_PREMIUM_WAIT_7", E::FloodWait(Duration::from_secs(7))),
            (420, "SLOWMODE_WAIT_9", E::FloodWait(Duration::from_secs(9))),
            (406, "PHONE_PASSWORD_FLOOD", E::FloodWait(Duration::from_secs(60))),
            (400, "PHONE_NUMBER_FLOOD", E::FloodWait(Duration::from_secs(60))),
            (401, "AUTH_KEY_UNREGISTERED", E::SignedOut("AUTH_KEY_UNREGISTERED".to_owned())),
            (401, "SESSION_REVOKED", E::SignedOut("SESSION_REVOKED".to_owned())),
            (401, "USER_DEACTIVATED_BAN", E::SignedOut("USER_DEACTIVATED_BAN".to_owned())),
            (406, "AUTH_KEY_DUPLICATED", E::SignedOut("AUTH_KEY_DUPLICATED".to_owned())),
            (400, "API_ID_INVALID", E::ApiIdRefused("API_ID_INVALID".to_owned())),
            (400, "API_ID_PUBLISHED_FLOOD", E::ApiIdRefused("API_ID_PUBLISHED_FLOOD".to_owned())),
            (400, "ACCESS_TOKEN_INVALID", E::TokenInvalid),
            (403, "USER_IS_BLOCKED", E::PeerUnreachable("USER_IS_BLOCKED".to_owned())),
            (400, "PEER_ID_INVALID", E::PeerUnreachable("PEER_ID_INVALID".to_owned())),
            (401, "INPUT_USER_DEACTIVATED", E::PeerUnreachable("INPUT_USER_DEACTIVATED".to_owned())),
            (400, "MESSAGE_ID_INVALID", E::MessageGone),
            (400, "REPLY_MESSAGE_ID_INVALID", E::MessageGone),
            (400, "QUERY_ID_INVALID", E::QueryExpired),
            (500, "RANDOM_ID_DUPLICATE", E::AlreadyDone),
            (400, "MESSAGE_NOT_MODIFIED", E::AlreadyDone),
            (500, "INTERNAL", E::Unreachable("INTERNAL".to_owned())),
            (-503, "Timeout", E::Unreachable("Timeout".to_owned())),
            (400, "INPUT_METHOD_INVALID", E::Unexpected("INPUT_METHOD_INVALID".to_owned())),
        ];
        for (code, text, expected) in table {
            assert_eq!(rpc(code, text), expected, "{text}");
        }
    }
}
