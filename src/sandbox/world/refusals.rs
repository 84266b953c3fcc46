//! Why the world says no: to clients, in terms that `rpc` turns into Telegram's names, and to the control API.

/// Why the world refuses a client's wish. `rpc` knows what Telegram calls each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    PhoneInvalid,
    PhoneBanned,
    PhoneMigrate(i32),
    UserMigrate(i32),
    FloodWait(u32),
    HashEmpty,
    CodeEmpty,
    CodeInvalid,
    CodeExpired,
    SendCodeUnavailable,
    SignUpRequired,
    PasswordNeeded,
    PasswordInvalid,
    ChallengeInvalid,
    TokenInvalid,
    Unregistered,
    Revoked,
    Deactivated,
    UserInvalid,
    DataCentreInvalid,
    ImportInvalid,
    /// Nobody that the sender may write to: unknown, or a person who never wrote to this bot.
    PeerInvalid,
    /// The other side has blocked the bot that writes.
    UserBlocked,
    /// The one who writes has blocked the other side.
    YouBlockedUser,
    /// A bot writes to a bot.
    UserIsBot,
    /// The other side's account is no more.
    UserDeactivated,
    MessageEmpty,
    MessageTooLong,
    /// Part of a text that is not there, or half a character.
    EntityBoundsInvalid,
    EntitiesTooLong,
    MessageIdInvalid,
    MessageAuthorRequired,
    MessageNotModified,
    MessageEditTimeExpired,
    ReplyInvalid,
    RandomIdDuplicate,
    MediaInvalid,
    ButtonTextInvalid,
    ButtonDataInvalid,
    ButtonUrlInvalid,
    ButtonTypeInvalid,
    MarkupInvalid,
    MarkupTooLong,
    /// The data belongs to no button of the message.
    DataInvalid,
    QueryIdInvalid,
    /// The bot did not answer the press of a button in time.
    ResponseTimeout,
    BotInvalid,
    StartParamEmpty,
    StartParamInvalid,
    UsernameInvalid,
    UsernameOccupied,
    UsernameNotModified,
    UsernameNotOccupied,
    PhoneNotOccupied,
    /// The method is for people only.
    BotMethodInvalid,
    /// The method is for bots only.
    BotRequired,
}

/// Why the control API cannot have what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    #[error("not a phone number: 7 to 15 digits, with or without a plus sign")]
    PhoneInvalid,
    #[error("this phone number has an account already")]
    PhoneOccupied,
    #[error("not a username: 5 to 32 letters, digits and underscores, beginning with a letter")]
    UsernameInvalid,
    #[error("this username is taken")]
    UsernameOccupied,
    #[error("a name of 1 to 64 characters is needed")]
    NameInvalid,
    #[error("data centres have the ids 1 to 5")]
    DataCentreInvalid,
    #[error("there is no such account")]
    NoSuchAccount,
    #[error("the sandbox could not write its journal")]
    NotKept,
}
