//! What Telegram calls the refusals of the world (<https://core.telegram.org/api/errors> and the methods' pages).

use grammers_tl_types as tl;
use tl::Serializable;

use crate::sandbox::faults::error_code;
use crate::sandbox::journal::JournalError;
use crate::sandbox::world::Refusal;

/// An `rpc_error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub(crate) code: i32,
    pub(crate) name: String,
}

impl RpcError {
    pub(crate) fn new(code: i32, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { code, name }
    }

    /// As it goes over the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        tl::enums::RpcError::Error(tl::types::RpcError {
            error_code: self.code,
            error_message: self.name.clone(),
        })
        .to_bytes()
    }
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        let name = name(refusal);
        let name = if let Refusal::PhoneMigrate(dc) | Refusal::UserMigrate(dc) = refusal {
            format!("{name}_{dc}")
        } else if let Refusal::FloodWait(seconds) = refusal {
            format!("{name}_{seconds}")
        } else {
            name.to_owned()
        };
        Self::new(error_code(&name), name)
    }
}

impl From<JournalError> for RpcError {
    fn from(_: JournalError) -> Self {
        Self::new(500, "INTERNAL_SERVER_ERROR")
    }
}

fn name(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::PhoneInvalid => "PHONE_NUMBER_INVALID",
        Refusal::PhoneBanned => "PHONE_NUMBER_BANNED",
        Refusal::PhoneMigrate(_) => "PHONE_MIGRATE",
        Refusal::UserMigrate(_) => "USER_MIGRATE",
        Refusal::FloodWait(_) => "FLOOD_WAIT",
        Refusal::HashEmpty => "PHONE_CODE_HASH_EMPTY",
        Refusal::CodeEmpty => "PHONE_CODE_EMPTY",
        Refusal::CodeInvalid => "PHONE_CODE_INVALID",
        Refusal::CodeExpired => "PHONE_CODE_EXPIRED",
        Refusal::SendCodeUnavailable => "SEND_CODE_UNAVAILABLE",
        Refusal::SignUpRequired => "PHONE_NUMBER_UNOCCUPIED",
        Refusal::PasswordNeeded => "SESSION_PASSWORD_NEEDED",
        Refusal::PasswordInvalid => "PASSWORD_HASH_INVALID",
        Refusal::ChallengeInvalid => "SRP_ID_INVALID",
        Refusal::TokenInvalid => "ACCESS_TOKEN_INVALID",
        Refusal::Unregistered => "AUTH_KEY_UNREGISTERED",
        Refusal::Revoked => "SESSION_REVOKED",
        Refusal::Deactivated => "USER_DEACTIVATED_BAN",
        Refusal::UserInvalid => "USER_ID_INVALID",
        Refusal::DataCentreInvalid => "DC_ID_INVALID",
        Refusal::ImportInvalid => "AUTH_BYTES_INVALID",
        Refusal::PeerInvalid => "PEER_ID_INVALID",
        Refusal::UserBlocked => "USER_IS_BLOCKED",
        Refusal::YouBlockedUser => "YOU_BLOCKED_USER",
        Refusal::UserIsBot => "USER_IS_BOT",
        Refusal::UserDeactivated => "INPUT_USER_DEACTIVATED",
        Refusal::MessageEmpty => "MESSAGE_EMPTY",
        Refusal::MessageTooLong => "MESSAGE_TOO_LONG",
        Refusal::EntityBoundsInvalid => "ENTITY_BOUNDS_INVALID",
        Refusal::EntitiesTooLong => "ENTITIES_TOO_LONG",
        Refusal::MessageIdInvalid => "MESSAGE_ID_INVALID",
        Refusal::MessageAuthorRequired => "MESSAGE_AUTHOR_REQUIRED",
        Refusal::MessageNotModified => "MESSAGE_NOT_MODIFIED",
        Refusal::MessageEditTimeExpired => "MESSAGE_EDIT_TIME_EXPIRED",
        Refusal::ReplyInvalid => "REPLY_MESSAGE_ID_INVALID",
        Refusal::RandomIdDuplicate => "RANDOM_ID_DUPLICATE",
        Refusal::MediaInvalid => "MEDIA_INVALID",
        Refusal::ButtonTextInvalid => "BUTTON_TEXT_INVALID",
        Refusal::ButtonDataInvalid => "BUTTON_DATA_INVALID",
        Refusal::ButtonUrlInvalid => "BUTTON_URL_INVALID",
        Refusal::ButtonTypeInvalid => "BUTTON_TYPE_INVALID",
        Refusal::MarkupInvalid => "REPLY_MARKUP_INVALID",
        Refusal::MarkupTooLong => "REPLY_MARKUP_TOO_LONG",
        Refusal::DataInvalid => "DATA_INVALID",
        Refusal::QueryIdInvalid => "QUERY_ID_INVALID",
        Refusal::ResponseTimeout => "BOT_RESPONSE_TIMEOUT",
        Refusal::BotInvalid => "BOT_INVALID",
        Refusal::StartParamEmpty => "START_PARAM_EMPTY",
        Refusal::StartParamInvalid => "START_PARAM_INVALID",
        Refusal::UsernameInvalid => "USERNAME_INVALID",
        Refusal::UsernameOccupied => "USERNAME_OCCUPIED",
        Refusal::UsernameNotModified => "USERNAME_NOT_MODIFIED",
        Refusal::UsernameNotOccupied => "USERNAME_NOT_OCCUPIED",
        Refusal::PhoneNotOccupied => "PHONE_NOT_OCCUPIED",
        Refusal::BotMethodInvalid => "BOT_METHOD_INVALID",
        Refusal::BotRequired => "USER_BOT_REQUIRED",
    }
}
