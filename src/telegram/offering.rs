//! Offering an account's events to whoever takes them durably, until they are taken. Where events come from is
//! `reader`'s business.

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::conversation::AccountEvent;
use super::watchdog::Waiting;
use crate::lifecycle::network_sleep;

/// Longest pause before a batch that was not taken is offered again.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Panics over the same events before they are offered in another way, or no more.
const MOST_PANICS: u32 = 3;

/// What became of one offer.
enum Outcome {
    Taken,
    /// The store failed.
    NotTaken,
    Panicked,
}

impl Account {
    /// Hands a batch over until it is taken. What makes the sink panic again and again is offered event by event, and
    /// the one at which it panics even so is left out: nobody else's messages wait for it.
    pub(super) async fn offer(&self, events: Vec<AccountEvent>) {
        let _waiting = Waiting::new(&self.0.waiting);
        if self.offer_together(&events).await {
            return;
        }
        for event in events {
            if !self.offer_together(std::slice::from_ref(&event)).await {
                tracing::error!(
                    account = self.id(),
                    ?event,
                    "an event that nothing here can take is left out: this is a defect of the service"
                );
            }
        }
    }

    /// Offers until the events are taken (`true`), or have made the sink panic too often.
    async fn offer_together(&self, events: &[AccountEvent]) -> bool {
        let (mut pause, _) = self.settings().back_off;
        let mut panics = 0;
        loop {
            match self.offer_once(events.to_vec()).await {
                Outcome::Taken => {
                    tracing::debug!(account = self.id(), events = events.len(), "events taken");
                    return true;
                }
                Outcome::NotTaken => {}
                Outcome::Panicked => panics += 1,
            }
            if panics >= MOST_PANICS {
                return false;
            }
            tracing::warn!(
                events = events.len(),
                panics,
                retry_in_ms = pause.as_millis(),
                "events were not taken; they are offered again"
            );
            network_sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn offer_once(&self, batch: Vec<AccountEvent>) -> Outcome {
        // Batches do not overlap, not even with one that was under way when its connection failed.
        let turn = Arc::clone(&self.0.turn).lock_owned().await;
        let account = self.clone();
        // In a task of its own: the reader can be cut off at any time, the sink is not.
        let taken = self.0.tasks.spawn("events", async move {
            let _turn = turn;
            let sink = Arc::clone(&account.0.events);
            sink(account, batch).await
        });
        match taken.await {
            Ok(true) => Outcome::Taken,
            Err(error) if error.is_panic() => Outcome::Panicked,
            Ok(false) | Err(_) => Outcome::NotTaken,
        }
    }
}
