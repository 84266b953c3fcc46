//! Tells a connection that works from one that only looks so: asks for a sign of life now and then, and notices a
//! reader that has stopped. What to do about it is `account`'s business.

use std::sync::atomic::{AtomicUsize, Ordering};

use grammers_tl_types as tl;

use super::account::Account;
use super::errors::TelegramError;
use crate::lifecycle::network_sleep;

/// While this lives, the reader is not dead but waits: for a batch to be taken, or for as long as Telegram asks.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// Counted, because a reader that is cut off may end only after the next has begun.
    pub(super) fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Account {
    /// Asks for a sign of life now and then. Any answer is one, a flood too; silence is not, nor is a reader that has
    /// stopped: grammers waits for a lost difference for ever.
    pub(super) async fn watch(&self) -> TelegramError {
        let mut behind = false;
        loop {
            network_sleep(self.settings().watchdog_interval).await;
            match self.invoke(&tl::functions::updates::GetState {}).await {
                Ok(tl::enums::updates::State::State(state)) => {
                    let waits = self.0.waiting.load(Ordering::SeqCst) > 0;
                    let now = state.pts > self.live_session().updates().pts && !waits;
                    let was_behind = std::mem::replace(&mut behind, now);
                    if was_behind && behind {
                        return TelegramError::Unreachable("updates have stopped coming".to_owned());
                    }
                }
                Err(error @ (TelegramError::Unreachable(_) | TelegramError::SignedOut(_))) => return error,
                Err(error) => tracing::warn!(%error, "the watchdog's call was refused"),
            }
        }
    }
}
