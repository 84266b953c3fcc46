//! Takes the events of accounts as a store would, and remembers them; can be told to fail, or to take its time.

use std::sync::{Arc, Mutex};

use telegram_connector::telegram::{AccountEvent, EventSink};

use super::eventually;

/// What accounts have told.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    taken: Arc<Mutex<Vec<(i64, AccountEvent)>>>,
    /// What was offered while the store failed.
    refused: Arc<Mutex<Vec<AccountEvent>>>,
    failing: Arc<std::sync::atomic::AtomicBool>,
    /// Who holds this holds up every batch.
    pub(crate) gate: Arc<tokio::sync::Mutex<()>>,
}

impl Recorder {
    /// Takes batches from now on.
    pub(crate) fn sink(&self) -> EventSink {
        let recorder = self.clone();
        Arc::new(move |account, events| {
            let recorder = recorder.clone();
            Box::pin(async move {
                drop(recorder.gate.lock().await);
                if recorder.failing.load(std::sync::atomic::Ordering::SeqCst) {
                    recorder.refused.lock().unwrap().extend(events);
                    return false;
                }
                let id = account.id().expect("events come from a known account");
                recorder.taken.lock().unwrap().extend(events.into_iter().map(|event| (id, event)));
                true
            })
        })
    }

    /// From now on the store fails, or works again.
    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, std::sync::atomic::Ordering::SeqCst);
    }

    /// What was offered and not taken.
    pub(crate) fn refused(&self) -> Vec<AccountEvent> {
        self.refused.lock().unwrap().clone()
    }

    /// Everything that this account has told.
    pub(crate) fn of(&self, account: i64) -> Vec<AccountEvent> {
        let taken = self.taken.lock().unwrap();
        taken.iter().filter(|(id, _)| *id == account).map(|(_, event)| event.clone()).collect()
    }

    /// Everything told by anybody.
    pub(crate) fn all(&self) -> Vec<AccountEvent> {
        self.taken.lock().unwrap().iter().map(|(_, event)| event.clone()).collect()
    }

    /// The texts of the messages that came in.
    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |event| match event {
            AccountEvent::Message { text, .. } => Some(text),
            AccountEvent::Sent { .. } | AccountEvent::Tap { .. } | AccountEvent::Renamed { .. } => None,
        };
        self.all().into_iter().filter_map(text).collect()
    }

    /// Waits for an event of this kind and returns the first.
    pub(crate) async fn sees<T: Send>(
        &self,
        what: &str,
        kind: impl Fn(AccountEvent) -> Option<T> + Send + Sync,
    ) -> T {
        eventually(what, || async { self.all().into_iter().any(|event| kind(event).is_some()) }).await;
        self.all().into_iter().find_map(kind).unwrap()
    }
}
