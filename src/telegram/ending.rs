//! The end of a session: it is final, and why Telegram has ended it is counted from a closed set. Telegram's own names are
//! what people are told.

use super::account::Account;
use super::account::Status;
use crate::audit;
use crate::audit::Audit;
use crate::audit::Who;

/// Why Telegram has ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its owner, or Telegram, has signed it out: `SESSION_REVOKED`, `SESSION_EXPIRED`.
    Revoked,
    /// The key authorises nobody: `AUTH_KEY_UNREGISTERED`.
    Unregistered,
    /// The data centre does not know the key: transport error 404.
    KeyUnknown,
    /// The key was used from two places: `AUTH_KEY_DUPLICATED`.
    Duplicated,
    /// The account is no more: `USER_DEACTIVATED`, `USER_DEACTIVATED_BAN`.
    Banned,
    /// The account has moved to another data centre, where the key is not known: 303.
    Migrated,
    /// A name that is not in this list.
    Other,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Revoked,
        Self::Unregistered,
        Self::KeyUnknown,
        Self::Duplicated,
        Self::Banned,
        Self::Migrated,
        Self::Other,
    ];

    /// What Telegram's name for it means.
    pub fn of(name: &str) -> Self {
        match name {
            "SESSION_REVOKED" | "SESSION_EXPIRED" => Self::Revoked,
            "AUTH_KEY_UNREGISTERED" | "AUTH_KEY_PERM_EMPTY" => Self::Unregistered,
            "AUTH_KEY_UNKNOWN" | "AUTH_KEY_INVALID" => Self::KeyUnknown,
            "AUTH_KEY_DUPLICATED" => Self::Duplicated,
            _ if name.starts_with("USER_DEACTIVATED") => Self::Banned,
            _ if name.contains("_MIGRATE_") => Self::Migrated,
            _ => Self::Other,
        }
    }

    /// One word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Unregistered => "unregistered",
            Self::KeyUnknown => "key_unknown",
            Self::Duplicated => "duplicated",
            Self::Banned => "banned",
            Self::Migrated => "migrated",
            Self::Other => "other",
        }
    }
}

impl Account {
    /// Notes how the account is. An end is final: whoever learns of a lost connection at the same moment does not
    /// take it back.
    pub(super) fn is_now(&self, status: Status) -> bool {
        self.0.status.send_if_modified(|known| {
            let ended = matches!(known, Status::SignedOut(_));
            if !ended {
                *known = status;
            }
            !ended
        })
    }

    /// Telegram has ended the session, and calls it this.
    pub(super) fn end(&self, name: &str) {
        if self.is_now(Status::SignedOut(name.to_owned())) {
            let account = if self.live_session().is_bot() { "bot" } else { "user" };
            let reason = Ending::of(name).word();
            metrics::counter!("connector_sessions_ended_total", "account" => account, "reason" => reason)
                .increment(1);
            tracing::warn!(reason = name, account, "Telegram has ended the session");
            let session = self.id().map_or_else(String::new, |id| id.to_string());
            audit::record(&Who::Telegram, &Audit::SessionEnded { session: &session, reason: name });
        }
        self.0.closed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_word_and_no_word_is_made_of_a_name() {
        for (name, word) in [
            ("SESSION_REVOKED", "revoked"),
            ("AUTH_KEY_UNREGISTERED", "unregistered"),
            ("AUTH_KEY_UNKNOWN", "key_unknown"),
            ("AUTH_KEY_DUPLICATED", "duplicated"),
            ("USER_DEACTIVATED_BAN", "banned"),
            ("USER_MIGRATE_4", "migrated"),
            ("SOMETHING_NEW", "other"),
        ] {
            assert_eq!(Ending::of(name).word(), word);
        }
        let mut words: Vec<&str> = Ending::ALL.iter().map(|ending| ending.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Ending::ALL.len());
    }
}
