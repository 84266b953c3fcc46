//! Why a session could not be loaded or saved, in words that say what to do. Nothing secret is in them.

use std::io;

use super::lease::Holder;
use crate::domain::account::Mode;
use crate::domain::place::Place;
use crate::domain::seal::KeyId;

/// Why a session was not loaded or saved. Nothing was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The place cannot be reached now; trying later may help.
    #[error("the session store cannot be reached: {place}: {source}")]
    Unavailable {
        /// The object.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// The place cannot be used until somebody does what the text says.
    #[error("the session store cannot be used: {place}: {why}")]
    Refused {
        /// The object.
        place: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Sealed under another master key.
    #[error(
        "{place} was sealed with master key {sealed_with}, but the configured one is {configured}: \
         set CONNECTOR_MASTER_KEY to the key it was made with (nothing was overwritten)"
    )]
    OtherKey {
        /// The object.
        place: String,
        /// The key it was made with.
        sealed_with: KeyId,
        /// The key of this process.
        configured: KeyId,
    },
    /// Not what was written.
    #[error(
        "{place} is damaged: restore it from a backup, or move it away and sign in anew (nothing was overwritten)"
    )]
    Damaged {
        /// The object.
        place: String,
    },
    /// Belongs to another Telegram.
    #[error(
        "{place} was made in {found} mode, but this process runs in {expected} mode: \
         use another session store (nothing was overwritten)"
    )]
    OtherMode {
        /// The object.
        place: String,
        /// The mode it was made in.
        found: Mode,
        /// The mode of this process.
        expected: Mode,
    },
    /// Another process owns it: this one stands by.
    #[error("{0}")]
    NotOwner(Holder),
    /// Somebody else wrote it since we last read or wrote it.
    #[error(
        "{place} was changed by another process: two processes must not share a session; stop one of them, and \
         DELETE /sign_in where its session is to be given up (nothing was overwritten)"
    )]
    ChangedElsewhere {
        /// The object.
        place: String,
    },
}

impl VaultError {
    pub(super) fn new(place: &Place, trouble: Trouble) -> Self {
        let place = place.to_string();
        match trouble {
            Trouble::Unavailable(source) => Self::Unavailable { place, source },
            Trouble::Refused(why) => Self::Refused { place, why },
            Trouble::Changed => Self::ChangedElsewhere { place },
        }
    }

    /// Whether the same call can succeed later without anybody doing anything about the object.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// What went wrong in a backend.
pub(super) enum Trouble {
    /// Later may help.
    Unavailable(io::Error),
    /// Somebody must do something, and this says what.
    Refused(String),
    /// The object is not the one that was read.
    Changed,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Unavailable(error)
    }
}
