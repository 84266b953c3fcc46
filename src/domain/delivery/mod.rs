//! What a project's webhook is told of a session: made in the same step as what it tells (`store`), sent by `webhooks`.
//! Bodies, the retry schedule, signatures and when to give a receiver up are data and rules here; nothing is sent.

mod body;
mod health;
mod schedule;
mod signature;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::body::TEST_EVENT;
pub use self::body::test_body;
pub use self::health::Failing;
pub use self::health::Judgement;
pub use self::health::judge;
pub use self::signature::Headers;
pub use self::signature::headers;
use crate::domain::account::Mode;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::State as SessionState;
use crate::domain::clock::Timestamp;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;
use crate::domain::ids::revealed;
use crate::domain::project::Project;
use crate::domain::project::ProjectId;

/// How many attempts a delivery remembers: the last ones.
const REMEMBERED_ATTEMPTS: usize = 30;
/// The receiver is gone for good (RFC 9110, 15.5.11).
const GONE: u16 = 410;

/// Names a delivery, the same on every attempt (`webhook-id`): `msg_` and 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(String);

impl DeliveryId {
    /// The delivery that tells this of this session. Made from both, so that there is one at most.
    pub fn of(session: &SessionId, event: EventKind) -> Self {
        let digest = Sha256::new_with_prefix(b"telegram-connector delivery")
            .chain_update(session.as_str())
            .chain_update([0])
            .chain_update(event.name())
            .finalize();
        Self::from_bytes(digest.iter().take(16).copied())
    }

    /// For a delivery that tells of no session.
    pub fn new(ids: &Ids) -> Self {
        Self::from_bytes(ids.bytes::<16>())
    }

    /// Reads an id; `None` when it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("msg_")?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (rest.len() == 32 && rest.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_bytes(bytes: impl IntoIterator<Item = u8>) -> Self {
        let mut text = "msg_".to_owned();
        text.extend(bytes.into_iter().map(|byte| format!("{byte:02x}")));
        Self(text)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What is told (protocol, section 6; contract, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The person said yes.
    Confirmed,
    /// Somebody said no.
    Cancelled,
    /// Nobody decided in time; only for projects that ask for it.
    Expired,
}

impl EventKind {
    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "auth.confirmed",
            Self::Cancelled => "auth.cancelled",
            Self::Expired => "auth.expired",
        }
    }
}

/// One exchange with the receiver, or the attempt at one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// What the receiver answered, if it did.
    pub status: Option<u16>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

impl Attempt {
    /// Whether the receiver has taken it: any 2xx (protocol, section 6).
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the receiver says that it is gone for good.
    pub fn is_gone(&self) -> bool {
        self.status == Some(GONE)
    }

    fn ended(&self) -> Timestamp {
        self.at.plus(std::time::Duration::from_millis(self.took_ms))
    }
}

/// How a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It is still to be sent.
    Pending {
        /// When.
        due: Timestamp,
        /// How often that was tried since it was made or replayed.
        tries: u32,
        /// When it was first tried since then.
        first_tried: Option<Timestamp>,
    },
    /// The receiver has taken it.
    Delivered {
        /// When.
        at: Timestamp,
    },
    /// It was given up.
    Failed {
        /// When.
        at: Timestamp,
    },
    /// There was no webhook any more to send it to.
    Dropped {
        /// When that was noticed.
        at: Timestamp,
    },
}

impl State {
    /// As on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Delivered { .. } => "delivered",
            Self::Failed { .. } => "failed",
            Self::Dropped { .. } => "dropped",
        }
    }
}

/// Something that a project's webhook is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its name.
    pub id: DeliveryId,
    /// Whose webhook.
    pub project: ProjectId,
    /// The session it tells of.
    pub session: SessionId,
    /// What it tells.
    pub event: EventKind,
    /// The exact bytes that are signed and sent. They hold who signed in.
    #[serde(with = "revealed")]
    pub body: Secret<String>,
    /// When what it tells happened.
    pub created_at: Timestamp,
    /// How it stands.
    pub state: State,
    /// The last attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

impl Delivery {
    /// What is to be told of a session that has just become `after`, at once; `None`: nothing.
    pub fn of(before: &AuthSession, after: &AuthSession, project: &Project, mode: Mode) -> Option<Self> {
        project.webhook()?;
        if before.state != SessionState::Pending {
            return None;
        }
        let (event, at) = match &after.state {
            SessionState::Confirmed { at, .. } => (EventKind::Confirmed, *at),
            SessionState::Cancelled { at, .. } => (EventKind::Cancelled, *at),
            SessionState::Expired { at } if project.settings.webhook_expired => (EventKind::Expired, *at),
            SessionState::Expired { .. } | SessionState::Pending | SessionState::Used { .. } => return None,
        };
        Some(Self {
            id: DeliveryId::of(&after.id, event),
            project: project.id.clone(),
            session: after.id.clone(),
            event,
            body: Secret::new(body::of(after, event, at, mode)?),
            created_at: at,
            state: State::Pending { due: at, tries: 0, first_tried: None },
            attempts: Vec::new(),
        })
    }

    /// When it is to be sent, where it still is.
    pub const fn due(&self) -> Option<Timestamp> {
        match &self.state {
            State::Pending { due, .. } => Some(*due),
            State::Delivered { .. } | State::Failed { .. } | State::Dropped { .. } => None,
        }
    }

    /// Notes an attempt and decides what becomes of the delivery: the schedule, no sooner than the receiver asks. What is
    /// not pending stays as it is.
    pub fn attempted(
        &mut self,
        attempt: Attempt,
        asked_to_wait: Option<std::time::Duration>,
        ids: &Ids,
    ) -> bool {
        let State::Pending { tries, first_tried, .. } = self.state else { return false };
        let (tries, first, ended) = (tries + 1, first_tried.unwrap_or(attempt.at), attempt.ended());
        self.state = if attempt.succeeded() {
            State::Delivered { at: ended }
        } else if attempt.is_gone() {
            State::Failed { at: ended }
        } else {
            match schedule::next(tries, first, ended, asked_to_wait, ids) {
                Some(due) => State::Pending { due, tries, first_tried: Some(first) },
                None => State::Failed { at: ended },
            }
        };
        self.attempts.push(attempt);
        let forgotten = self.attempts.len().saturating_sub(REMEMBERED_ATTEMPTS);
        self.attempts.drain(..forgotten);
        true
    }

    /// To be sent again from the beginning of the schedule, with the same id and body.
    pub fn replay(&mut self, now: Timestamp) {
        self.state = State::Pending { due: now, tries: 0, first_tried: None };
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
