//! Why Telegram ends sessions, as a closed set for metrics. The names themselves are what people are told.

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
