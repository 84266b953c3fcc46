//! What people do in Telegram: open a link, tap, answer in words, share their number. Each becomes one event of a session;
//! what follows from it is in the store before Telegram is told that we have seen it.

mod button;
mod courtesy;
mod messages;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

pub(crate) use self::button::Button;
use self::courtesy::Courtesy;
use self::messages::Message;
use super::outbox::Outbox;
use super::texts;
use crate::domain::auth_session::Answer;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::Refused;
use crate::domain::auth_session::State;
use crate::domain::auth_session::Status;
use crate::domain::auth_session::Step;
use crate::domain::auth_session::Via;
use crate::domain::clock::Clock;
use crate::domain::language::Language;
use crate::lifecycle::Tasks;
use crate::store::Applied;
use crate::store::Store;
use crate::store::StoreError;
use crate::telegram::Account;
use crate::telegram::AccountEvent;
use crate::telegram::Peer;

/// How long sessions that end one after the other are collected, to be ended in one go.
const EXPIRY_PAUSE: Duration = Duration::from_millis(200);

/// Takes what people do. Cloning shares it.
#[derive(Clone)]
pub struct Confirm {
    store: Arc<dyn Store>,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    courtesy: Arc<Courtesy>,
}

impl std::fmt::Debug for Confirm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Confirm")
    }
}

impl Confirm {
    /// Joins the parts.
    pub fn new(store: Arc<dyn Store>, outbox: Outbox, clock: Arc<dyn Clock>, tasks: Tasks) -> Self {
        Self { store, outbox, clock, tasks, courtesy: Arc::default() }
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
                    // What is damaged stays so: it must not keep what others do waiting.
                    if !matches!(error, StoreError::Unavailable(_)) {
                        continue;
                    }
                    // What was written all the same will not be met again when the event is.
                    self.outbox.recall();
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
            AccountEvent::Message { id, from, text, reply_to, forwarded, contact, date } => {
                // What is forwarded was not said to us.
                if from.bot || forwarded {
                    return Ok(());
                }
                let message = Message { via, id, from: &from, text: &text, reply_to, date, now };
                match contact {
                    Some(contact) => self.on_contact(&message, &contact).await,
                    None => self.on_text(&message).await,
                }
            }
            AccountEvent::Tap { query_id, message_id, from, data } => {
                let answer = Answer { person: from.id, via, message: message_id, tapped: true };
                self.on_tap(account, query_id, answer, &from, &data).await
            }
            AccountEvent::Sent { id, to, reply_to: Some(reply_to), text } => {
                self.on_sent(via, id, to, reply_to, &text).await
            }
            AccountEvent::Sent { reply_to: None, .. } | AccountEvent::Renamed { .. } => Ok(()),
        }
    }

    /// A message of our own account: perhaps a prompt whose id was lost with the answer to sending it. Others write with the
    /// account too, so only the prompt's own text is one.
    async fn on_sent(&self, via: Via, id: i32, to: i64, reply_to: i32, text: &str) -> Result<(), StoreError> {
        let Some(session) = self.store.session_opened_with(via, to, reply_to).await? else { return Ok(()) };
        let Some(opening) = session.opening.as_ref().filter(|opening| opening.prompt.is_none()) else {
            return Ok(());
        };
        let Some(project) = self.store.project(&session.project).await? else { return Ok(()) };
        let prompt = texts::of(opening.language).prompt(&session, &project.settings.name, via.bot);
        if prompt.as_str() != text {
            return Ok(());
        }
        let learned = Event::PromptFound(id);
        if let Applied::Done(step) = self.store.apply(&session.id, &learned, self.clock.now()).await? {
            self.outbox.take(step.errands);
        }
        Ok(())
    }

    async fn on_tap(
        &self,
        account: &Account,
        query_id: i64,
        answer: Answer,
        from: &Peer,
        data: &[u8],
    ) -> Result<(), StoreError> {
        // Other buttons are the bot's owner's.
        let Some((button, id)) = Button::read(data) else { return Ok(()) };
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
                | Refused::NotShown
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

    /// Ends sessions whose time is over, so that their prompts say so. Runs until shutdown.
    pub async fn expire(self) {
        let stopping = self.tasks.stopping();
        loop {
            let next = match self.store.expire(self.clock.now()).await {
                Ok(expired) => {
                    metrics::counter!("connector_sign_ins_total", "status" => "expired")
                        .increment(expired.ended);
                    self.outbox.take(expired.errands);
                    let now = self.clock.now();
                    if expired.next <= now { now } else { expired.next.max(now.plus(EXPIRY_PAUSE)) }
                }
                Err(error) => {
                    tracing::error!(%error, "expired sign-ins cannot be ended");
                    // Some may have been, and what is to be told of them is in the store.
                    self.outbox.recall();
                    self.clock.now().plus(Duration::from_secs(5))
                }
            };
            tokio::select! {
                () = self.clock.sleep_until(next) => {}
                () = stopping.cancelled() => return,
            }
        }
    }
}
