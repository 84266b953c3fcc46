//! What people do in Telegram: open a link, tap, answer in words, share their number. Each becomes one event of a session;
//! what follows from it is in the store before Telegram is told that we have seen it.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Notify;

use super::outbox::Outbox;
use super::texts;
use super::texts::Words;
use crate::domain::auth_session::Answer;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::Person;
use crate::domain::auth_session::Refused;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::State;
use crate::domain::auth_session::Status;
use crate::domain::auth_session::Step;
use crate::domain::auth_session::TypedCode;
use crate::domain::auth_session::Via;
use crate::domain::clock::Clock;
use crate::domain::clock::Timestamp;
use crate::domain::errand::Errand;
use crate::domain::errand::Reply;
use crate::domain::errand::Task;
use crate::domain::language::Language;
use crate::domain::login::Phone;
use crate::lifecycle::Tasks;
use crate::store::Applied;
use crate::store::Store;
use crate::store::StoreError;
use crate::telegram::Account;
use crate::telegram::AccountEvent;
use crate::telegram::Peer;
use crate::telegram::SharedContact;

/// What a button of a prompt means, and its callback data: `c:`, `x:` or `n42:` and the session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Button {
    Confirm,
    Cancel,
    Number(u8),
}

impl Button {
    /// Callback data (TL `keyboardButtonCallback.data`, at most 64 bytes). Never holds the token.
    pub(crate) fn data(self, session: &SessionId) -> String {
        match self {
            Self::Confirm => format!("c:{session}"),
            Self::Cancel => format!("x:{session}"),
            Self::Number(number) => format!("n{number}:{session}"),
        }
    }

    /// Reads callback data; `None`: not ours.
    fn read(data: &[u8]) -> Option<(Self, SessionId)> {
        let (choice, id) = std::str::from_utf8(data).ok()?.split_once(':')?;
        let button = match choice {
            "c" => Self::Confirm,
            "x" => Self::Cancel,
            number => Self::Number(number.strip_prefix('n')?.parse().ok()?),
        };
        Some((button, SessionId::parse(id)?))
    }
}

/// Takes what people do. Cloning shares it.
#[derive(Clone)]
pub struct Confirm {
    store: Arc<dyn Store>,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// Somebody opened a link: there may be a new end to wait for.
    opened: Arc<Notify>,
}

impl std::fmt::Debug for Confirm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Confirm")
    }
}

/// A message of somebody.
struct Message<'a> {
    via: Via,
    id: i32,
    from: &'a Peer,
    text: &'a str,
    reply_to: Option<i32>,
    now: Timestamp,
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
    /// Joins the parts.
    pub fn new(store: Arc<dyn Store>, outbox: Outbox, clock: Arc<dyn Clock>, tasks: Tasks) -> Self {
        Self { store, outbox, clock, tasks, opened: Arc::default() }
    }

    /// What the telegram room hands events to.
    pub fn sink(&self) -> crate::telegram::EventSink {
        let confirm = self.clone();
        Arc::new(move |account, events| {
            let confirm = confirm.clone();
            let taken: BoxFuture<'static, bool> =
                Box::pin(async move { confirm.receive(&account, events).await });
            taken
        })
    }

    /// Takes a batch of events; `false`: the store failed, and they must come again. That some of them come twice then
    /// does no harm.
    async fn receive(&self, account: &Account, events: Vec<AccountEvent>) -> bool {
        let Some(user) = account.user() else { return false };
        let via = Via { account: user.id, bot: user.bot };
        // In order for each person, at once for all.
        let mut people: Vec<(i64, Vec<AccountEvent>)> = Vec::new();
        for event in events {
            let person = match &event {
                AccountEvent::Message { from, .. } | AccountEvent::Tap { from, .. } => from.id,
                AccountEvent::Sent { to, .. } => *to,
                AccountEvent::Renamed { .. } => continue,
            };
            match people.iter_mut().find(|(known, _)| *known == person) {
                Some((_, theirs)) => theirs.push(event),
                None => people.push((person, vec![event])),
            }
        }
        let taken = people.into_iter().map(|(_, events)| async move {
            for event in events {
                if let Err(error) = self.on_event(account, via, event).await {
                    tracing::error!(%error, "the store does not take what happened in Telegram");
                    return false;
                }
            }
            true
        });
        join_all(taken).await.into_iter().all(|taken| taken)
    }

    async fn on_event(&self, account: &Account, via: Via, event: AccountEvent) -> Result<(), StoreError> {
        let now = self.clock.now();
        match event {
            AccountEvent::Message { id, from, text, reply_to, forwarded, contact, .. } => {
                // What is forwarded was not said to us.
                if from.bot || forwarded {
                    return Ok(());
                }
                let message = Message { via, id, from: &from, text: &text, reply_to, now };
                match contact {
                    Some(contact) => self.on_contact(&message, &contact).await,
                    None => self.on_text(&message).await,
                }
            }
            AccountEvent::Tap { query_id, message_id, from, data } => {
                self.on_tap(account, via, query_id, message_id, &from, &data).await
            }
            AccountEvent::Sent { id, to, reply_to: Some(reply_to), .. } => {
                // A prompt whose id was lost with the answer to sending it.
                let sessions = self.store.sessions_of_person(via, to).await?;
                let prompted = sessions.iter().find(|session| {
                    let opening = session.opening.as_ref();
                    opening.is_some_and(|opening| opening.message == reply_to && opening.prompt.is_none())
                });
                if let Some(session) = prompted.filter(|session| session.state == State::Pending) {
                    self.store.apply(&session.id, &Event::PromptSent(Some(id)), now).await?;
                }
                Ok(())
            }
            AccountEvent::Sent { reply_to: None, .. } | AccountEvent::Renamed { .. } => Ok(()),
        }
    }

    async fn on_text(&self, message: &Message<'_>) -> Result<(), StoreError> {
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
        match texts::answer(text) {
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
                self.opened.notify_one();
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
                | Refused::NoContactAsked
                | Refused::OtherAccount => return Ok(()),
            },
        };
        self.reply(message, says, message.language(Some(session))).await
    }

    async fn on_contact(&self, message: &Message<'_>, contact: &SharedContact) -> Result<(), StoreError> {
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
        let event = Event::Contact { answer: message.answer(), phone: phone.e164() };
        if let Applied::Done(step) = self.store.apply(&session.id, &event, message.now).await? {
            self.follow_up(*step);
        }
        Ok(())
    }

    async fn on_tap(
        &self,
        account: &Account,
        via: Via,
        query_id: i64,
        message: i32,
        from: &Peer,
        data: &[u8],
    ) -> Result<(), StoreError> {
        // Other buttons are the bot's owner's.
        let Some((button, id)) = Button::read(data) else { return Ok(()) };
        let answer = Answer { person: from.id, via, message, tapped: true };
        let event = match button {
            Button::Confirm => Event::Confirm { answer, number: None },
            Button::Number(number) => Event::Confirm { answer, number: Some(number) },
            Button::Cancel => Event::Cancel(answer),
        };
        let texts = texts::of(from.lang_code.as_deref().and_then(Language::from_code).unwrap_or_default());
        let applied = self.store.apply(&id, &event, self.clock.now()).await;
        let (text, alert) = match &applied {
            Ok(Applied::Done(step)) => match &step.session.state {
                State::Confirmed { .. } => (texts.tap_confirmed, false),
                State::Cancelled { .. } if button == Button::Cancel => (texts.tap_cancelled, false),
                State::Cancelled { .. } => (texts.tap_wrong_match, true),
                State::Pending | State::Expired { .. } | State::Used { .. } => (texts.tap_contact, false),
            },
            Ok(Applied::Refused(refused, _)) => match refused {
                Refused::Expired => (texts.tap_expired, true),
                Refused::Confirmed | Refused::Cancelled | Refused::Used => (texts.tap_already, true),
                Refused::Unchanged => (texts.tap_contact, true),
                Refused::NotYours
                | Refused::AlreadyOpen
                | Refused::Pending
                | Refused::NumberNeeded
                | Refused::NoContactAsked
                | Refused::OtherAccount => (texts.tap_not_yours, true),
            },
            Ok(Applied::Unknown) => (texts.tap_not_yours, true),
            Err(_) => (texts.tap_failed, true),
        };
        let account = account.clone();
        // The person waits for it, the next event must not.
        self.tasks.spawn("tap", async move {
            if let Err(error) = account.answer_tap(query_id, Some(text), alert).await {
                tracing::debug!(%error, "a tap could not be answered");
            }
        });
        if let Applied::Done(step) = applied? {
            self.follow_up(*step);
        }
        Ok(())
    }

    fn follow_up(&self, step: Step) {
        let status = step.session.status(self.clock.now());
        if status != Status::Pending {
            metrics::counter!("connector_sign_ins_total", "status" => status.name()).increment(1);
        }
        self.outbox.take(step.errands);
    }

    async fn reply(&self, message: &Message<'_>, says: Reply, language: Language) -> Result<(), StoreError> {
        let account = message.via.account.to_le_bytes();
        let (person, id) = (message.from.id.to_le_bytes(), message.id.to_le_bytes());
        let errand = Errand {
            via: message.via,
            person: message.from.id,
            access_hash: message.from.access_hash,
            random_id: Errand::random_id(&[b"reply", &account, &person, &id]),
            task: Task::Reply { to: message.id, says, language },
            created_at: message.now,
            not_after: message.now.plus(crate::domain::auth_session::LIFETIME),
        };
        self.store.put_errand(&errand).await?;
        self.outbox.take([errand]);
        Ok(())
    }

    /// Ends sessions whose time is over, so that their prompts say so. Runs until shutdown.
    pub async fn expire(self) {
        let stopping = self.tasks.stopping();
        loop {
            let next = match self.store.expire(self.clock.now()).await {
                Ok(expired) => {
                    self.outbox.take(expired.errands);
                    expired.next
                }
                Err(error) => {
                    tracing::error!(%error, "expired sign-ins cannot be ended");
                    Some(self.clock.now().plus(std::time::Duration::from_secs(5)))
                }
            };
            let due = async {
                match next {
                    Some(next) => self.clock.sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.opened.notified() => {}
                () = stopping.cancelled() => return,
            }
        }
    }
}

/// Which sign-in an answer in words means: the one it replies to, else the newest that is open. `None` too where this
/// very message was an answer before.
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
    replied.or_else(|| sessions.iter().find(|session| session.awaits_answer(message.now)))
}

fn answered_by(session: &AuthSession, message: i32) -> bool {
    session.opening.as_ref().is_some_and(|opening| opening.answered_by.contains(&message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callback_data_comes_back_and_fits() {
        let id = SessionId::parse("0123456789abcdefghjkmnpqrs").unwrap();
        for button in [Button::Confirm, Button::Cancel, Button::Number(42)] {
            let data = button.data(&id);
            assert!(data.len() <= 64);
            assert_eq!(Button::read(data.as_bytes()), Some((button, id.clone())));
        }
        for other in [&b""[..], b"c:", b"c:short", b"q:0123456789abcdefghjkmnpqrs", b"\xff\xfe", b"n:x"] {
            assert_eq!(Button::read(other), None);
        }
    }
}
