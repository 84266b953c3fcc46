//! How one errand is told: which messages it takes, with which buttons, and what Telegram's refusals mean.

use std::time::Duration;

use super::Outbox;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::Opening;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::State;
use crate::domain::errand::Errand;
use crate::domain::errand::Task;
use crate::domain::project::Project;
use crate::flows::confirm::Button as Choice;
use crate::flows::texts;
use crate::flows::texts::Texts;
use crate::telegram::Account;
use crate::telegram::Button;
use crate::telegram::Keyboard;
use crate::telegram::Outgoing;
use crate::telegram::TelegramError;
use crate::telegram::Text;

/// What came of an attempt.
pub(super) enum Told {
    /// Done or given up; what the session learns from it.
    Done(Option<Event>),
    /// Telegram wants the account to wait.
    Flood(Duration),
    /// It can be tried again.
    Later,
}

/// A session that is being told about, whole.
struct Subject {
    session: AuthSession,
    opening: Opening,
    app: String,
    return_url: Option<String>,
    texts: &'static Texts,
}

impl Outbox {
    /// Tells it once.
    pub(super) async fn tell(&self, errand: &Errand) -> Told {
        let account = self.accounts_slot().as_ref().and_then(|accounts| accounts.account(errand.via));
        let Some(account) = account else { return Told::Later };
        let told = match &errand.task {
            Task::Reply { to, says, language } => {
                let text = texts::of(*language).reply(*says).into();
                send(&account, errand, errand.random_id, text, Some(*to), Keyboard::None).await.map(|_| None)
            }
            Task::Prompt { session } | Task::AskContact { session } | Task::Outcome { session } => {
                match self.subject(session).await {
                    Ok(Some(subject)) => self.tell_about(&account, errand, &subject).await,
                    Ok(None) => return Told::Done(None),
                    Err(error) => {
                        tracing::error!(%error, "the store cannot be read, an errand waits");
                        return Told::Later;
                    }
                }
            }
        };
        match told {
            Ok(learned) => Told::Done(learned),
            Err(TelegramError::FloodWait(wait)) => Told::Flood(wait),
            Err(TelegramError::Unreachable(_) | TelegramError::SignedOut(_)) => Told::Later,
            Err(error) => {
                tracing::warn!(%error, "Telegram does not take a message");
                let asks = matches!(errand.task, Task::Prompt { .. } | Task::AskContact { .. });
                Told::Done(asks.then(|| Event::PromptFailed(name(&error))))
            }
        }
    }

    async fn subject(&self, id: &SessionId) -> Result<Option<Subject>, crate::store::StoreError> {
        let Some(session) = self.0.store.session(id).await? else { return Ok(None) };
        let Some(opening) = session.opening.clone() else { return Ok(None) };
        let (app, return_url) = match self.0.store.project(&session.project).await?.as_deref() {
            Some(Project { settings, .. }) => (settings.name.clone(), settings.return_url.clone()),
            // It has nothing to ask any more, but what it asked is taken back.
            None => match self.0.store.deleted_project_name(&session.project).await? {
                Some(name) => (name, None),
                None => return Ok(None),
            },
        };
        Ok(Some(Subject { texts: texts::of(opening.language), session, opening, app, return_url }))
    }

    async fn tell_about(
        &self,
        account: &Account,
        errand: &Errand,
        subject: &Subject,
    ) -> Result<Option<Event>, TelegramError> {
        let Subject { session, opening, app, texts, .. } = subject;
        let still_open = session.awaits_answer(self.0.clock.now());
        match &errand.task {
            Task::Prompt { .. } if still_open => {
                let text = texts.prompt(session, app, errand.via.bot);
                let keyboard = if errand.via.bot { prompt_buttons(session, texts) } else { Keyboard::None };
                let id =
                    send(account, errand, errand.random_id, text, Some(opening.message), keyboard).await?;
                Ok(Some(Event::PromptSent(id)))
            }
            Task::AskContact { .. } if still_open => {
                let keyboard = Keyboard::RequestPhone {
                    share: texts.share_phone.to_owned(),
                    cancel: texts.cancel.to_owned(),
                };
                send(account, errand, errand.random_id, texts.ask_contact(app), None, keyboard).await?;
                Ok(None)
            }
            Task::Outcome { .. } => tell_outcome(account, errand, subject).await.map(|()| None),
            Task::Prompt { .. } | Task::AskContact { .. } | Task::Reply { .. } => Ok(None),
        }
    }
}

/// Turns the prompt into what came of it. Where it was answered in words, or nobody knows which message the prompt is,
/// says so in a message of its own.
async fn tell_outcome(account: &Account, errand: &Errand, subject: &Subject) -> Result<(), TelegramError> {
    let Subject { session, opening, app, texts, return_url } = subject;
    let Some(text) = texts.outcome(session, app) else { return Ok(()) };
    let back = return_url.as_ref().filter(|_| errand.via.bot);
    let mut buttons: Vec<Vec<Button>> =
        back.map(|url| vec![Button::Url { text: texts.back(app), url: url.clone() }]).into_iter().collect();
    let expired = matches!(session.state, State::Expired { .. });
    // A person who writes to a user account expects an answer, not a change further up.
    let may_edit = errand.via.bot || expired || opening.answered_by.is_empty();
    if let Some(prompt) = opening.prompt.filter(|_| may_edit) {
        let edited = account.edit(errand.person, errand.access_hash, prompt, &text, &buttons).await;
        let edited = match edited {
            // Telegram does not like the link. The prompt must lose its buttons all the same.
            Err(TelegramError::Unexpected(name)) if !buttons.is_empty() => {
                tracing::warn!(error = name, "the outcome is told without its link");
                buttons.clear();
                account.edit(errand.person, errand.access_hash, prompt, &text, &buttons).await
            }
            edited => edited,
        };
        match edited {
            // Deleted by the person: there is nothing to take back.
            Ok(()) | Err(TelegramError::MessageGone) => {}
            Err(error) => return Err(error),
        }
    }
    let answered_in_words = !opening.answered_by.is_empty() && !expired;
    let nothing_to_edit = opening.prompt.is_none() && !expired;
    if answered_in_words || nothing_to_edit || opening.awaits_contact {
        let keyboard = if opening.awaits_contact {
            Keyboard::Hide
        } else if buttons.is_empty() {
            Keyboard::None
        } else {
            Keyboard::Inline(buttons)
        };
        let to = opening.answered_by.last().copied().or(Some(opening.message));
        send(account, errand, errand.random_id, text, to, keyboard).await?;
    }
    Ok(())
}

async fn send(
    account: &Account,
    errand: &Errand,
    random_id: i64,
    text: Text,
    reply_to: Option<i32>,
    keyboard: Keyboard,
) -> Result<Option<i32>, TelegramError> {
    let (to, access_hash) = (errand.person, errand.access_hash);
    account.send(&Outgoing { to, access_hash, random_id, text, reply_to, keyboard }).await
}

fn prompt_buttons(session: &AuthSession, texts: &Texts) -> Keyboard {
    let button = |text: &str, choice: Choice| Button::Callback {
        text: text.to_owned(),
        data: choice.data(&session.id).into_bytes(),
    };
    let first = match session.match_code {
        Some(code) => code.offered.map(|number| button(&number.to_string(), Choice::Number(number))).to_vec(),
        None => vec![button(texts.confirm, Choice::Confirm)],
    };
    let cancel = button(texts.cancel, Choice::Cancel);
    Keyboard::Inline(match session.match_code {
        Some(_) => vec![first, vec![cancel]],
        None => vec![first.into_iter().chain([cancel]).collect()],
    })
}

/// Telegram's name for a refusal, for the timeline.
fn name(error: &TelegramError) -> String {
    if let TelegramError::PeerUnreachable(name) | TelegramError::Unexpected(name) = error {
        return name.clone();
    }
    error.to_string()
}
