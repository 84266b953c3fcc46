//! What may be written over: what this process has seen or written last, and, for a session that an earlier process could
//! not save, what that one saw.

use super::Last;
use super::Present;
use super::Vault;
use super::VaultError;
use super::error::Trouble;
use crate::domain::account::TelegramSession;
use crate::domain::account::UnsavedSession;

impl Vault {
    /// The session as it is to be kept elsewhere until [`Vault::save`] succeeds, in this process or in the next.
    pub fn unsaved(&self, session: TelegramSession) -> UnsavedSession {
        let replaces = match self.seen().last {
            Last::Nothing => None,
            Last::Object(digest) | Last::Before(digest, _) => digest,
        };
        UnsavedSession { session, replaces }
    }

    /// Whether the session that lies there now is the one that `unsaved` was to replace, or has the same key.
    pub fn may_be_replaced(&self, there: &TelegramSession, unsaved: &UnsavedSession) -> bool {
        let same_key = there.home_key().is_some() && there.home_key() == unsaved.session.home_key();
        let seen = match self.seen().last {
            Last::Object(digest) => digest,
            Last::Nothing | Last::Before(..) => None,
        };
        same_key || (seen.is_some() && seen == unsaved.replaces)
    }

    /// Takes up what an earlier process could not save: it may replace what that process saw, and nothing else.
    pub fn resume(&self, unsaved: &UnsavedSession) {
        self.seen().last = Last::Before(unsaved.replaces, unsaved.session.home_key().cloned().map(Box::new));
    }

    /// Whether what is there may be written over, or deleted.
    pub(super) fn guard(&self, present: Option<&Present>) -> Result<(), VaultError> {
        let now = present.map(|present| present.digest);
        let (last, known) = {
            let seen = self.seen();
            (seen.last.clone(), seen.ours.contains(&now))
        };
        let allowed = match last {
            // What is there must at least be ours.
            Last::Nothing => present
                .map(|present| self.decode(&present.object))
                .transpose()?
                .is_none_or(|kept| self.may_replace(kept.epoch)),
            Last::Object(seen) => seen == now || known,
            Last::Before(seen, _) if seen == now || known => true,
            Last::Before(_, key) => match present {
                None => true,
                Some(present) => {
                    key.is_some() && self.decode(&present.object)?.session.home_key() == key.as_deref()
                }
            },
        };
        if allowed { Ok(()) } else { Err(self.error(Trouble::Changed)) }
    }
}
