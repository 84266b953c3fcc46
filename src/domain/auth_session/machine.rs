//! The life of a session: one pure function from state and event to the next state and what our account then has to
//! tell. Backends of the store run it inside their write, so of events that race exactly one wins.

use std::time::Duration;

use super::AuthSession;
use super::Canceller;
use super::Happening;
use super::LIFETIME;
use super::Milestone;
use super::Opening;
use super::Origin;
use super::Person;
use super::State;
use super::Via;
use crate::domain::clock::Timestamp;
use crate::domain::errand::Errand;
use crate::domain::errand::Task;
use crate::domain::ids::Secret;
use crate::domain::language::Language;

/// How long it is worth telling what came of a sign-in.
const OUTCOME_MATTERS: Duration = Duration::from_secs(24 * 3600);

/// Something that happens to a session. Each can come twice; the second time is refused and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody opened the link.
    Open {
        /// Who.
        person: Person,
        /// Through which account.
        via: Via,
        /// The message that carried the link.
        message: i32,
        /// In which language to speak to them.
        language: Language,
    },
    /// Yes; with the number that was chosen, where one was.
    Confirm {
        /// Who says so, and how.
        answer: Answer,
        /// The number that was chosen.
        number: Option<u8>,
    },
    /// No.
    Cancel(Answer),
    /// The person's own phone number, E.164.
    Contact {
        /// Who says so, and how.
        answer: Answer,
        /// E.164.
        phone: Secret<String>,
    },
    /// The app's server takes the request back.
    CancelByServer,
    /// The time is over.
    Expire,
    /// The app's server takes the confirmation.
    Consume {
        /// With a proof that is still good: then the time for polls does not matter.
        by_proof: bool,
        /// Digest of the `Idempotency-Key`.
        receipt: Option<String>,
    },
    /// The app read the confirmation.
    FirstRead,
    /// The prompt is in the chat, with this message id where Telegram told it.
    PromptSent(Option<i32>),
    /// Telegram tells which message the prompt is, perhaps after the outcome was told in another.
    PromptFound(i32),
    /// The prompt cannot be sent: Telegram's name for why.
    PromptFailed(String),
    /// The prompt has to wait, seconds.
    PromptDelayed(u64),
    /// What is known of the person is to be erased; a pending request is taken back with it.
    Forget,
}

/// An answer of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Telegram's user id.
    pub person: i64,
    /// Through which of our accounts.
    pub via: Via,
    /// The message whose button was tapped, or the message that says it in words.
    pub message: i32,
    /// Whether it was a tap.
    pub tapped: bool,
}

/// Why nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The time is over.
    #[error("the sign-in has expired")]
    Expired,
    /// Another account opened the link first, or it is another message's button.
    #[error("the sign-in belongs to another account")]
    NotYours,
    /// The same person opened the link before.
    #[error("the link was opened before")]
    AlreadyOpen,
    /// Confirmed before.
    #[error("the sign-in was confirmed before")]
    Confirmed,
    /// Cancelled before.
    #[error("the sign-in was cancelled before")]
    Cancelled,
    /// Consumed before.
    #[error("the confirmation was used before")]
    Used,
    /// Nobody has confirmed it yet.
    #[error("the sign-in is pending")]
    Pending,
    /// The number that the app shows is needed.
    #[error("the number that the app shows is needed")]
    NumberNeeded,
    /// Words that were written before the prompt was in the chat: they answer something else.
    #[error("the prompt was not shown before the answer")]
    NotShown,
    /// Nobody asked for a phone number, or not for theirs.
    #[error("no phone number was asked for")]
    NoContactAsked,
    /// The link of another of our accounts.
    #[error("the link belongs to another account of this service")]
    OtherAccount,
    /// The same event was seen before, or its time has not come.
    #[error("nothing to do")]
    Unchanged,
}

/// What an event leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The session as it is now.
    pub session: AuthSession,
    /// What our account has to tell.
    pub errands: Vec<Errand>,
}

impl AuthSession {
    /// What `event` at `now` leads to.
    ///
    /// # Errors
    /// Why it leads nowhere; the session stays as it is.
    pub fn apply(&self, event: &Event, now: Timestamp) -> Result<Step, Refused> {
        match event {
            Event::Open { person, via, message, language } => {
                self.open(person, *via, *message, *language, now)
            }
            Event::Confirm { answer, number } => self.confirm(*answer, *number, now),
            Event::Cancel(answer) => {
                let mut next = self.answered(*answer, now)?;
                next.cancel(Canceller::Person, now);
                Ok(next.and_tell_outcome(now))
            }
            Event::Contact { answer, phone } => {
                let mut next = self.answered(*answer, now)?;
                if !self.opening.as_ref().is_some_and(|opening| opening.awaits_contact) {
                    return Err(Refused::NoContactAsked);
                }
                next.accept(Some(phone.reveal().clone()), now);
                Ok(next.and_tell_outcome(now))
            }
            Event::CancelByServer => {
                self.undecided(now)?;
                let mut next = self.clone();
                next.cancel(Canceller::Server, now);
                Ok(next.and_tell_outcome(now))
            }
            Event::Expire => {
                if self.state != State::Pending || now < self.expires_at {
                    return Err(Refused::Unchanged);
                }
                let mut next = self.clone();
                next.state = State::Expired { at: now };
                next.note(Happening::Expired, now);
                Ok(next.and_tell_outcome(now))
            }
            Event::Consume { by_proof, receipt } => self.consume(*by_proof, receipt.clone(), now),
            Event::FirstRead => self.noted_once(Happening::FirstRead, now),
            Event::PromptSent(message) => self.prompt_sent(*message, now),
            Event::PromptFound(message) => self.prompt_found(*message, now),
            Event::PromptFailed(error) => self.noted_once(Happening::PromptFailed(error.clone()), now),
            Event::PromptDelayed(seconds) => self.noted_once(Happening::PromptDelayed(*seconds), now),
            Event::Forget => self.forget(now),
        }
    }

    fn open(
        &self,
        person: &Person,
        via: Via,
        message: i32,
        language: Language,
        now: Timestamp,
    ) -> Result<Step, Refused> {
        let mine = |opening: &Opening| opening.person.id == person.id && opening.via == via;
        if self.opening.as_ref().is_some_and(|opening| mine(opening) && opening.message == message) {
            // Telegram told it twice.
            return Err(Refused::Unchanged);
        }
        if via != self.via {
            return Err(Refused::OtherAccount);
        }
        self.undecided(now)?;
        if let Some(opening) = &self.opening {
            return Err(if mine(opening) { Refused::AlreadyOpen } else { Refused::NotYours });
        }
        let mut next = self.clone();
        next.opening = Some(Opening {
            person: person.clone(),
            via,
            message,
            language,
            prompt: None,
            awaits_contact: false,
            answered_by: Vec::new(),
        });
        next.note(Happening::Opened, now);
        let prompt = next.errand(Task::Prompt { session: self.id.clone() }, b"prompt", now, self.expires_at);
        Ok(Step { session: next, errands: prompt.into_iter().collect() })
    }

    fn confirm(&self, answer: Answer, number: Option<u8>, now: Timestamp) -> Result<Step, Refused> {
        let mut next = self.answered(answer, now)?;
        match (self.match_code, number) {
            (Some(_), None) => return Err(Refused::NumberNeeded),
            (Some(code), Some(number)) if number != code.right => {
                next.cancel(Canceller::WrongMatch, now);
                return Ok(next.and_tell_outcome(now));
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        if self.wants_phone {
            let Some(opening) = next.opening.as_mut() else { return Err(Refused::NotYours) };
            if opening.awaits_contact {
                return Err(Refused::Unchanged);
            }
            opening.awaits_contact = true;
            next.note(Happening::ContactAsked, now);
            let ask = Task::AskContact { session: self.id.clone() };
            let ask = next.errand(ask, b"contact", now, self.expires_at);
            return Ok(Step { session: next, errands: ask.into_iter().collect() });
        }
        next.accept(None, now);
        Ok(next.and_tell_outcome(now))
    }

    fn consume(&self, by_proof: bool, receipt: Option<String>, now: Timestamp) -> Result<Step, Refused> {
        let State::Confirmed { phone, at } = &self.state else {
            return Err(self.undecided(now).err().unwrap_or(Refused::Pending));
        };
        if self.forgotten || !by_proof && now >= at.plus(LIFETIME) {
            return Err(Refused::Expired);
        }
        let mut next = self.clone();
        next.state = State::Used { phone: phone.clone(), confirmed_at: *at, at: now, receipt };
        next.note(Happening::Consumed, now);
        Ok(Step { session: next, errands: Vec::new() })
    }

    fn forget(&self, now: Timestamp) -> Result<Step, Refused> {
        if self.forgotten {
            return Err(Refused::Unchanged);
        }
        let mut step = match self.state {
            State::Pending => {
                self.apply(&Event::CancelByServer, now).or_else(|_| self.apply(&Event::Expire, now))?
            }
            State::Confirmed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. }
            | State::Used { .. } => Step { session: self.clone(), errands: Vec::new() },
        };
        let session = &mut step.session;
        session.forgotten = true;
        session.nonce = None;
        session.origin = Origin::default();
        if let Some(opening) = &mut session.opening {
            opening.person = Person { id: 0, access_hash: 0, name: String::new(), username: None };
        }
        if let State::Confirmed { phone, .. } | State::Used { phone, .. } = &mut session.state {
            *phone = None;
        }
        Ok(step)
    }

    fn prompt_sent(&self, message: Option<i32>, now: Timestamp) -> Result<Step, Refused> {
        let mut next = self.clone();
        let known = self.is_prompted();
        let news = message.is_some() || !known;
        let opening = next.opening.as_mut().filter(|opening| opening.prompt.is_none() && news);
        opening.ok_or(Refused::Unchanged)?.prompt = message;
        if !known {
            next.note(Happening::PromptSent, now);
        }
        Ok(Step { session: next, errands: Vec::new() })
    }

    fn prompt_found(&self, message: i32, now: Timestamp) -> Result<Step, Refused> {
        let step = self.prompt_sent(Some(message), now)?;
        let decided = step.session.state != State::Pending;
        Ok(if decided { step.session.and_tell_outcome(now) } else { step })
    }

    fn noted_once(&self, what: Happening, now: Timestamp) -> Result<Step, Refused> {
        if self.has_happened(&what) {
            return Err(Refused::Unchanged);
        }
        let mut next = self.clone();
        next.note(what, now);
        Ok(Step { session: next, errands: Vec::new() })
    }

    /// The session with the answer noted: given in time, by its owner, at its own prompt.
    fn answered(&self, answer: Answer, now: Timestamp) -> Result<Self, Refused> {
        let mut next = self.clone();
        let Some(opening) = next.opening.as_mut() else {
            return Err(self.undecided(now).err().unwrap_or(Refused::NotYours));
        };
        if opening.person.id != answer.person || opening.via != answer.via {
            return Err(Refused::NotYours);
        }
        if answer.tapped && opening.prompt.is_some_and(|prompt| prompt != answer.message) {
            return Err(Refused::NotYours);
        }
        self.undecided(now)?;
        if !answer.tapped && !self.is_shown_before(answer.message) {
            return Err(Refused::NotShown);
        }
        if answer.tapped {
            opening.prompt = Some(answer.message);
        } else {
            opening.answered_by.push(answer.message);
        }
        Ok(next)
    }

    fn is_prompted(&self) -> bool {
        self.has_happened(&Happening::PromptSent)
    }

    /// Whether the prompt was in the chat before this message: words said earlier cannot mean it. A tap proves it.
    pub fn is_shown_before(&self, message: i32) -> bool {
        let prompt = self.opening.as_ref().and_then(|opening| opening.prompt);
        self.is_prompted() && prompt.is_none_or(|prompt| prompt < message)
    }

    fn undecided(&self, now: Timestamp) -> Result<(), Refused> {
        match &self.state {
            State::Pending if now >= self.expires_at => Err(Refused::Expired),
            State::Pending => Ok(()),
            State::Confirmed { .. } => Err(Refused::Confirmed),
            State::Cancelled { .. } => Err(Refused::Cancelled),
            State::Expired { .. } => Err(Refused::Expired),
            State::Used { .. } => Err(Refused::Used),
        }
    }

    fn accept(&mut self, phone: Option<String>, now: Timestamp) {
        self.state = State::Confirmed { phone, at: now };
        self.note(Happening::Confirmed, now);
    }

    fn cancel(&mut self, by: Canceller, now: Timestamp) {
        self.state = State::Cancelled { by, at: now };
        self.note(Happening::Cancelled(by), now);
    }

    fn note(&mut self, what: Happening, at: Timestamp) {
        self.timeline.push(Milestone { at, what });
    }

    fn and_tell_outcome(self, now: Timestamp) -> Step {
        let outcome = Task::Outcome { session: self.id.clone() };
        let errand = self.errand(outcome, b"outcome", now, now.plus(OUTCOME_MATTERS));
        Step { session: self, errands: errand.into_iter().collect() }
    }

    /// An errand to the person who opened it; none while nobody has.
    fn errand(&self, task: Task, reason: &[u8], now: Timestamp, not_after: Timestamp) -> Option<Errand> {
        let opening = self.opening.as_ref()?;
        Some(Errand {
            via: opening.via,
            person: opening.person.id,
            access_hash: opening.person.access_hash,
            random_id: Errand::random_id(&[reason, self.id.as_str().as_bytes()]),
            task,
            created_at: now,
            not_after,
        })
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
