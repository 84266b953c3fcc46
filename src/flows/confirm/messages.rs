//! What people write to our accounts: links, answers in words, their number. What matches nothing is not for us, and gets
//! no answer: a user account belongs to a person.

use super::Confirm;
use crate::domain::auth_session::Answer;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::LIFETIME;
use crate::domain::auth_session::Person;
use crate::domain::auth_session::Refused;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::TypedCode;
use crate::domain::auth_session::Via;
use crate::domain::clock::Timestamp;
use crate::domain::errand::Errand;
use crate::domain::errand::Reply;
use crate::domain::errand::Task;
use crate::domain::ids::Secret;
use crate::domain::language::Language;
use crate::domain::login::Phone;
use crate::flows::texts;
use crate::flows::texts::Words;
use crate::store::Applied;
use crate::store::StoreError;
use crate::telegram::Peer;
use crate::telegram::SharedContact;

/// A message of somebody.
pub(super) struct Message<'a> {
    pub(super) via: Via,
    pub(super) id: i32,
    pub(super) from: &'a Peer,
    pub(super) text: &'a str,
    pub(super) reply_to: Option<i32>,
    pub(super) date: Timestamp,
    pub(super) now: Timestamp,
}

impl Message<'_> {
    fn answer(&self) -> Answer {
        Answer { person: self.from.id, via: self.via, message: self.id, tapped: false }
    }

    /// The language to answer in: the person's where Telegram tells it (to bots), else that of the request.
    fn language(&self, session: Option<&AuthSession>) -> Language {
        let own = self.from.lang_code.as_deref().and_then(Language::from_code);
        own.or_else(|| session.and_then(|session| session.language)).unwrap_or_default()
    }
}

impl Confirm {
    pub(super) async fn on_text(&self, message: &Message<'_>) -> Result<(), StoreError> {
        let text = message.text.trim();
        let last_word = text.split_whitespace().last().unwrap_or_default();
        if let Some(id) = SessionId::parse(last_word) {
            // `/start <id>`, or the text that a link to a user account carries.
            let certain = message.via.bot && text.starts_with("/start ") || texts::begins_as_link(text);
            return self.on_open(message, &id, certain).await;
        }
        if let Some(code) = TypedCode::parse(text)
            && let Some(id) = self.store.session_of_code(&code).await?
        {
            return self.on_open(message, &id, false).await;
        }
        match texts::answer(text, message.via.bot) {
            Some(words) => self.on_words(message, words).await,
            None => Ok(()),
        }
    }

    /// Somebody opened a link. `certain`: it can be nothing else, so that even an unknown one gets an answer.
    async fn on_open(&self, message: &Message<'_>, id: &SessionId, certain: bool) -> Result<(), StoreError> {
        let known = self.store.session(id).await?;
        let language = message.language(known.as_ref());
        let Peer { id: person, access_hash, username, .. } = message.from;
        let name = Some(message.from.name.trim()).filter(|name| !name.is_empty()).unwrap_or("Telegram user");
        let person = Person {
            id: *person,
            access_hash: *access_hash,
            name: name.to_owned(),
            username: username.clone(),
        };
        let open = Event::Open { person, via: message.via, message: message.id, language };
        let says = match self.store.apply(id, &open, message.now).await? {
            Applied::Done(step) => {
                self.follow_up(*step);
                return Ok(());
            }
            Applied::Unknown | Applied::Refused(Refused::OtherAccount, _) if certain => Reply::UnknownLink,
            Applied::Unknown | Applied::Refused(Refused::OtherAccount | Refused::Unchanged, _) => {
                return Ok(());
            }
            Applied::Refused(Refused::AlreadyOpen, _) => Reply::AlreadyAsked,
            Applied::Refused(Refused::NotYours, _) => Reply::OpenedByAnother,
            Applied::Refused(Refused::Expired, _) => Reply::Expired,
            Applied::Refused(
                Refused::Confirmed
                | Refused::Cancelled
                | Refused::Used
                | Refused::Pending
                | Refused::NumberNeeded
                | Refused::NotShown
                | Refused::NoContactAsked,
                _,
            ) => Reply::Decided,
        };
        self.reply(message, says, language).await
    }

    async fn on_words(&self, message: &Message<'_>, words: Words) -> Result<(), StoreError> {
        let sessions = self.store.sessions_of_person(message.via, message.from.id).await?;
        let Some(session) = meant(&sessions, message) else { return Ok(()) };
        let event = match words {
            Words::Yes => Event::Confirm { answer: message.answer(), number: None },
            Words::Number(number) if session.match_code.is_some() => {
                Event::Confirm { answer: message.answer(), number: Some(number) }
            }
            Words::Number(_) => return Ok(()),
            Words::No => Event::Cancel(message.answer()),
        };
        let says = match self.store.apply(&session.id, &event, message.now).await? {
            Applied::Done(step) => {
                self.follow_up(*step);
                return Ok(());
            }
            Applied::Unknown => return Ok(()),
            Applied::Refused(refused, _) => match refused {
                Refused::NumberNeeded => Reply::SendTheNumber,
                Refused::Unchanged => Reply::SendYourContact,
                Refused::Expired => Reply::Expired,
                Refused::Confirmed | Refused::Cancelled | Refused::Used => Reply::Decided,
                Refused::NotYours
                | Refused::AlreadyOpen
                | Refused::Pending
                | Refused::NotShown
                | Refused::NoContactAsked
                | Refused::OtherAccount => return Ok(()),
            },
        };
        self.reply(message, says, message.language(Some(session))).await
    }

    pub(super) async fn on_contact(
        &self,
        message: &Message<'_>,
        contact: &SharedContact,
    ) -> Result<(), StoreError> {
        let sessions = self.store.sessions_of_person(message.via, message.from.id).await?;
        if sessions.iter().any(|session| answered_by(session, message.id)) {
            return Ok(());
        }
        let awaiting = sessions.iter().find(|session| {
            let awaits = session.opening.as_ref().is_some_and(|opening| opening.awaits_contact);
            awaits && session.awaits_answer(message.now)
        });
        let Some(session) = awaiting else { return Ok(()) };
        let own = contact.user_id == Some(message.from.id);
        let phone = Phone::parse(&contact.phone).ok().filter(|_| own);
        let Some(phone) = phone else {
            return self.reply(message, Reply::SendYourContact, message.language(Some(session))).await;
        };
        let event = Event::Contact { answer: message.answer(), phone: Secret::new(phone.e164()) };
        if let Applied::Done(step) = self.store.apply(&session.id, &event, message.now).await? {
            self.follow_up(*step);
        }
        Ok(())
    }

    async fn reply(&self, message: &Message<'_>, says: Reply, language: Language) -> Result<(), StoreError> {
        // What was said long ago needs no answer, and nobody can make an account talk without end.
        let stale = message.now.since(message.date) > LIFETIME;
        if stale || !self.courtesy.permits((message.via, message.from.id), message.now) {
            return Ok(());
        }
        let account = message.via.account.to_le_bytes();
        let (person, id) = (message.from.id.to_le_bytes(), message.id.to_le_bytes());
        let errand = Errand {
            via: message.via,
            person: message.from.id,
            access_hash: message.from.access_hash,
            random_id: Errand::random_id(&[b"reply", &account, &person, &id]),
            task: Task::Reply { to: message.id, says, language },
            created_at: message.now,
            not_after: message.now.plus(LIFETIME),
        };
        self.store.put_errand(&errand).await?;
        self.outbox.take([errand]);
        Ok(())
    }
}

/// Which sign-in an answer in words means: the one it replies to, else the newest that is open and was shown before it. A
/// person who answers one prompt must not decide about another that is still on its way, nor one who replies to
/// something else. `None` too where this very message was an answer before.
fn meant<'a>(sessions: &'a [AuthSession], message: &Message<'_>) -> Option<&'a AuthSession> {
    if sessions.iter().any(|session| answered_by(session, message.id)) {
        return None;
    }
    let replied = message.reply_to.and_then(|to| {
        sessions.iter().find(|session| {
            let opening = session.opening.as_ref();
            opening.is_some_and(|opening| opening.prompt == Some(to) || opening.message == to)
        })
    });
    let shown = |session: &&AuthSession| {
        // A reply to what is not known can only mean a prompt whose id was lost.
        let unknown = session.opening.as_ref().is_some_and(|opening| opening.prompt.is_none());
        session.awaits_answer(message.now)
            && session.is_shown_before(message.id)
            && (message.reply_to.is_none() || unknown)
    };
    replied.or_else(|| sessions.iter().find(shown))
}

fn answered_by(session: &AuthSession, message: i32) -> bool {
    session.opening.as_ref().is_some_and(|opening| opening.answered_by.contains(&message))
}
