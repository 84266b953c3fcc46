//! What one of our Telegram accounts still has to tell somebody: stored in the same step as its reason, so that a crash
//! neither forgets it nor does it twice. Texts are made when it is carried out (`flows::outbox`).

use sha2::{Digest, Sha256};

use serde::{Deserialize, Serialize};

use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::Via;
use crate::domain::clock::Timestamp;
use crate::domain::language::Language;

/// Something to tell one person through one of our accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// Which of our accounts tells it.
    pub via: Via,
    /// Telegram's id of the person.
    pub person: i64,
    /// The person's access hash as that account sees it (TL `inputPeerUser`); 0 is enough for a bot.
    pub access_hash: i64,
    /// TL `random_id`: Telegram takes a message with the same one only once. Made from the reason, so that the same
    /// reason, met again after a crash, has the same id.
    pub random_id: i64,
    /// What to tell.
    pub task: Task,
    /// When it arose; errands of one person are carried out in this order.
    pub created_at: Timestamp,
    /// When nobody wants to know any more.
    pub not_after: Timestamp,
}

/// What an errand tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Ask whether the sign-in is theirs.
    Prompt {
        /// Which sign-in.
        session: SessionId,
    },
    /// Ask for the phone number (bots).
    AskContact {
        /// Which sign-in.
        session: SessionId,
    },
    /// Turn the prompt into what came of it, and say so where it was answered in words.
    Outcome {
        /// Which sign-in.
        session: SessionId,
    },
    /// A short answer to a message.
    Reply {
        /// The message's id.
        to: i32,
        /// What it says.
        says: Reply,
        /// In which language.
        language: Language,
    },
}

/// Short answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The link leads nowhere.
    UnknownLink,
    /// The sign-in has expired.
    Expired,
    /// The sign-in was decided before.
    Decided,
    /// Another account opened it first.
    OpenedByAnother,
    /// Their prompt is above.
    AlreadyAsked,
    /// The number that the app shows is wanted.
    SendTheNumber,
    /// Their own contact is wanted, by the button.
    SendYourContact,
}

impl Errand {
    /// The `random_id` for a reason.
    pub fn random_id(reason: &[&[u8]]) -> i64 {
        let mut digest = Sha256::new_with_prefix(b"telegram-connector random_id");
        for part in reason {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let mut id = [0; 8];
        id.iter_mut().zip(digest.finalize()).for_each(|(to, from)| *to = from);
        i64::from_le_bytes(id)
    }

    /// The sign-in it is about.
    pub const fn session(&self) -> Option<&SessionId> {
        match &self.task {
            Task::Prompt { session } | Task::AskContact { session } | Task::Outcome { session } => {
                Some(session)
            }
            Task::Reply { .. } => None,
        }
    }
}
