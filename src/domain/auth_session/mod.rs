//! One attempt to sign in with Telegram: its ids, what is known of the request and of the person, its timeline.
//! What may happen to it is in `machine`, the only place that changes its state.

mod ids;
mod machine;
mod origin;
mod printing;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::ids::ID_LENGTH;
pub use self::ids::SessionId;
pub use self::ids::SessionToken;
pub use self::ids::TypedCode;
pub use self::machine::Answer;
pub use self::machine::Event;
pub use self::machine::Refused;
pub use self::machine::Step;
use crate::domain::clock::Timestamp;
use crate::domain::ids::Secret;
use crate::domain::ids::revealed;
use crate::domain::language::Language;
use crate::domain::project::ProjectId;

/// How long a person has to decide (seed 001: ten minutes), and how long a confirmation is told afterwards (contract,
/// section 3).
pub const LIFETIME: Duration = Duration::from_secs(600);
/// How long a repeated consumption with the same `Idempotency-Key` gets the first answer (contract, section 3).
pub const REPEAT: Duration = Duration::from_secs(60);

/// One of our Telegram accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Via {
    /// Telegram's user id.
    pub account: i64,
    /// Whether it is a bot: bots have buttons.
    pub bot: bool,
}

/// Who is signing in, as Telegram told it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Telegram's user id.
    pub id: i64,
    /// As our account sees them (TL `inputPeerUser`); 0 is enough for a bot.
    pub access_hash: i64,
    /// First and last name; never empty.
    pub name: String,
    /// Without the @.
    pub username: Option<String>,
}

/// Where the request came from, as the prompt tells it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Browser and system, as in "Firefox on Linux"; `None`: not known.
    pub device: Option<Device>,
    /// The public address, truncated: an IPv4 /24 or an IPv6 /48.
    pub address: Option<String>,
    /// Host of the `Origin` header.
    pub site: Option<String>,
}

/// What a `User-Agent` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    /// Browser and system.
    Browser(String),
    /// An app rather than a browser.
    MobileApp,
}

/// The number that a browser shows and Telegram asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchCode {
    /// The right one, 10 to 99.
    pub right: u8,
    /// What Telegram offers: the right one among others.
    pub offered: [u8; 3],
}

/// What an app wants when it creates a session.
#[derive(Clone)]
pub struct Request {
    /// Which project.
    pub project: ProjectId,
    /// The account that the link leads to.
    pub via: Via,
    /// Comes back in the proof.
    pub nonce: Option<String>,
    /// Where the request came from.
    pub origin: Origin,
    /// The language of the request, for accounts that Telegram does not tell the person's.
    pub language: Option<Language>,
    /// Whether the phone number is asked for.
    pub wants_phone: bool,
    /// The number to compare, where the project asks for one.
    pub match_code: Option<MatchCode>,
}

impl Request {
    /// One that tells nothing of whoever asks, and asks for nothing besides.
    pub fn new(project: ProjectId, via: Via) -> Self {
        let (nonce, origin, language, wants_phone, match_code) = (None, Origin::default(), None, false, None);
        Self { project, via, nonce, origin, language, wants_phone, match_code }
    }
}

/// One attempt to sign in. Changed only by [`AuthSession::apply`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthSession {
    /// Its public id: start parameter, callback data, `jti`.
    pub id: SessionId,
    #[serde(with = "revealed")]
    token: Secret<SessionToken>,
    /// The project it signs in to.
    pub project: ProjectId,
    /// The account that its link leads to.
    pub via: Via,
    /// Who may watch its status without the token: the second half of the stream's path.
    pub watch: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it can no longer be decided: exclusive.
    pub expires_at: Timestamp,
    /// Comes back in the proof.
    pub nonce: Option<String>,
    /// Where the request came from.
    pub origin: Origin,
    /// The language of the request.
    pub language: Option<Language>,
    /// Whether the phone number is asked for.
    pub wants_phone: bool,
    /// The number to compare.
    pub match_code: Option<MatchCode>,
    /// Who opened the link, once somebody has.
    pub opening: Option<Opening>,
    /// What came of it so far.
    pub state: State,
    /// What happened when, oldest first.
    pub timeline: Vec<Milestone>,
    /// Whether what was known of the person has been erased: then it proves nothing any more.
    #[serde(default)]
    pub forgotten: bool,
}

/// The first account that opened the link: it owns the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Who.
    pub person: Person,
    /// Through which of our accounts.
    pub via: Via,
    /// The message that carried the link, by our account's count.
    pub message: i32,
    /// In which language the person is spoken to.
    pub language: Language,
    /// The prompt, once Telegram has told its id.
    pub prompt: Option<i32>,
    /// Confirmed, but the phone number is still missing.
    pub awaits_contact: bool,
    /// The messages that answered in words.
    pub answered_by: Vec<i32>,
}

/// What came of a session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nobody has decided.
    Pending,
    /// The person said yes.
    Confirmed {
        /// E.164, where asked for.
        phone: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// Somebody said no.
    Cancelled {
        /// Who.
        by: Canceller,
        /// When.
        at: Timestamp,
    },
    /// Nobody decided in time.
    Expired {
        /// When that was noticed.
        at: Timestamp,
    },
    /// The confirmation was consumed by the app's server.
    Used {
        /// E.164, where asked for.
        phone: Option<String>,
        /// When the person said yes.
        confirmed_at: Timestamp,
        /// When it was consumed.
        at: Timestamp,
        /// Digest of the `Idempotency-Key` it was consumed with.
        receipt: Option<String>,
    },
}

/// Who cancelled a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Canceller {
    /// The person, by button or word.
    Person,
    /// The person, by choosing a number that the app does not show.
    WrongMatch,
    /// The app's server.
    Server,
}

/// What happened when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Milestone {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happening,
}

/// What can happen in the life of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// The app asked for it.
    Created,
    /// The person opened the link.
    Opened,
    /// The prompt is in the chat.
    PromptSent,
    /// The prompt could not be sent; Telegram's name for why.
    PromptFailed(String),
    /// Telegram made the prompt wait, seconds.
    PromptDelayed(u64),
    /// The phone number was asked for.
    ContactAsked,
    /// The person said yes.
    Confirmed,
    /// Somebody said no.
    Cancelled(Canceller),
    /// Nobody decided in time.
    Expired,
    /// The app read the confirmation.
    FirstRead,
    /// The app's server consumed it.
    Consumed,
}

/// The five statuses (seed 001).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waiting for the person.
    Pending,
    /// The person said yes.
    Confirmed,
    /// Somebody said no.
    Cancelled,
    /// Too late.
    Expired,
    /// The confirmation was consumed.
    Used,
}

impl Status {
    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Used => "used",
        }
    }
}

impl AuthSession {
    /// A new attempt, begun at `now`.
    pub fn new(token: SessionToken, watch: String, request: Request, now: Timestamp) -> Self {
        Self {
            id: token.id(),
            token: Secret::new(token),
            watch,
            project: request.project,
            via: request.via,
            created_at: now,
            expires_at: now.plus(LIFETIME),
            nonce: request.nonce,
            origin: request.origin,
            language: request.language,
            wants_phone: request.wants_phone,
            match_code: request.match_code,
            opening: None,
            state: State::Pending,
            timeline: vec![Milestone { at: now, what: Happening::Created }],
            forgotten: false,
        }
    }

    /// The token that polls it.
    pub const fn token(&self) -> &Secret<SessionToken> {
        &self.token
    }

    /// What an app is told at `now`: a pending session past its time is expired, whether or not anybody noticed, and so
    /// is a confirmation that nobody fetched in time.
    pub fn status(&self, now: Timestamp) -> Status {
        match &self.state {
            State::Pending if now >= self.expires_at => Status::Expired,
            State::Pending => Status::Pending,
            State::Confirmed { at, .. } if self.forgotten || now >= at.plus(LIFETIME) => Status::Expired,
            State::Confirmed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. }
            | State::Used { .. } => self.recorded_status(now),
        }
    }

    /// What came of it, as lists and totals have it: a confirmation that nobody fetched was one all the same.
    pub fn recorded_status(&self, now: Timestamp) -> Status {
        match &self.state {
            State::Pending if now >= self.expires_at => Status::Expired,
            State::Pending => Status::Pending,
            State::Confirmed { .. } => Status::Confirmed,
            State::Cancelled { .. } => Status::Cancelled,
            State::Expired { .. } => Status::Expired,
            State::Used { .. } => Status::Used,
        }
    }

    /// When the person said yes.
    pub const fn confirmed_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Confirmed { at, .. } => Some(*at),
            State::Used { confirmed_at, .. } => Some(*confirmed_at),
            State::Pending | State::Cancelled { .. } | State::Expired { .. } => None,
        }
    }

    /// The phone number that was given, E.164.
    pub fn phone(&self) -> Option<&str> {
        match &self.state {
            State::Confirmed { phone, .. } | State::Used { phone, .. } => phone.as_deref(),
            State::Pending | State::Cancelled { .. } | State::Expired { .. } => None,
        }
    }

    /// Whether the app has read the confirmation.
    pub fn was_read(&self) -> bool {
        self.has_happened(&Happening::FirstRead)
    }

    fn has_happened(&self, what: &Happening) -> bool {
        self.timeline.iter().any(|milestone| milestone.what == *what)
    }

    /// Whether a prompt of it is waiting for an answer at `now`.
    pub fn awaits_answer(&self, now: Timestamp) -> bool {
        self.opening.is_some() && self.status(now) == Status::Pending
    }
}
