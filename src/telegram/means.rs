//! What bots are made with, and how their accounts begin and are thrown away. How a bot lives is `bot`'s business.

use super::Settings;
use super::account::Account;
use super::conversation::EventSink;
use super::sign_in;
use crate::domain::account::TelegramSession;
use crate::domain::ids::Ids;
use crate::lifecycle::Tasks;
use crate::vault::Vault;

/// What every bot is made with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) settings: Settings,
    pub(super) vault: Vault,
    pub(super) ids: Ids,
    pub(super) tasks: Tasks,
    pub(super) events: EventSink,
}

impl Means {
    /// An account that has never met Telegram.
    pub(super) fn fresh_account(&self) -> Account {
        self.account(TelegramSession::default())
    }

    /// Ends a session that nobody is to use, as far as Telegram can be told of it. `unsure`: it may have begun although
    /// no answer said so.
    pub(super) fn discard(&self, account: Account, unsure: bool) {
        let stopping = self.tasks.stopping();
        self.tasks.spawn("discarded session", async move {
            if unsure || account.user().is_some() {
                tokio::select! {
                    done = sign_in::log_out(&account) => {
                        if let Err(error) = done {
                            tracing::debug!(%error, "a session that nobody uses stays signed in");
                        }
                    }
                    () = stopping.cancelled() => {}
                }
            }
            account.close().await;
        });
    }

    /// An account that goes on with a session.
    pub(super) fn account(&self, session: TelegramSession) -> Account {
        let Self { settings, ids, tasks, events, .. } = self;
        Account::new(session, settings.clone(), ids.clone(), tasks.clone(), events.clone())
    }
}
