//! Who waits for something to happen in one account's mailbox: what happens there wakes them, and not everybody who waits.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::watch;

use crate::sandbox::world::AccountId;
use crate::sandbox::world::Event;

/// The waiting, by account.
#[derive(Debug, Default)]
pub(super) struct Mail(Mutex<HashMap<AccountId, watch::Sender<()>>>);

impl Mail {
    /// Becomes ready whenever a message of the account has come, changed or gone. Subscribe first, then look.
    pub(super) fn subscribe(&self, account: AccountId) -> watch::Receiver<()> {
        self.waiting().entry(account).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Wakes who waits for the account.
    pub(super) fn wake(&self, account: AccountId) {
        let mut waiting = self.waiting();
        let left = waiting.get(&account).is_some_and(|sender| sender.send(()).is_err());
        if left {
            waiting.remove(&account);
        }
    }

    /// Wakes everybody: there are no accounts any more.
    pub(super) fn wake_all(&self) {
        for sender in std::mem::take(&mut *self.waiting()).into_values() {
            sender.send_replace(());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<AccountId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In whose mailbox something has happened.
pub(super) fn owner(event: &Event) -> Option<AccountId> {
    match event {
        Event::NewMessage { account, .. }
        | Event::EditedMessage { account, .. }
        | Event::DeletedMessage { account, .. } => Some(*account),
        Event::Pressed(_) | Event::Renamed { .. } | Event::DevicesEnded(_) => None,
    }
}
