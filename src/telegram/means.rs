//! What bots are made with, and how their accounts begin and are thrown away. How a bot lives is `bot`'s business.

use super::Settings;
use super::account::Account;
use super::conversation::EventSink;
use super::sign_in;
use crate::domain::account::TelegramSession;
use crate::domain::ids::Ids;
use crate::lifecycle::Tasks;
use crate::vault::Lease;
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
    /// An account that has never met Telegram: its key will be nobody else's.
    pub(super) fn fresh_account(&self) -> Account {
        self.account(TelegramSession::default(), None)
    }

    /// Ends a session that nobody is to use, as far as Telegram can be told of it. `unsure`: it may have begun although
    /// no answer said so.
    pub(super) fn discard(&self, account: Account, unsure: bool) {
        let stopping = self.tasks.stopping();
        let lease = account.live_session().lease().cloned();
        self.tasks.spawn("discarded session", async move {
            if unsure || account.user().is_some() {
                sign_in::log_out_unused(&account, &stopping).await;
            }
            account.close().await;
            if let Some(lease) = lease {
                lease.give_up().await;
            }
        });
    }

    /// An account that goes on with a session, under its lease.
    pub(super) fn account(&self, session: TelegramSession, lease: Option<&Lease>) -> Account {
        let Self { settings, ids, tasks, events, .. } = self;
        let account = Account::new(session, settings.clone(), ids.clone(), tasks.clone(), events.clone());
        account.live_session().bind(lease);
        account
    }
}
