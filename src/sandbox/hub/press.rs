//! Waiting for a bot's answer to a press of one of its buttons.

use std::time::Duration;

use crate::lifecycle::network_sleep;
use crate::sandbox::world::CallbackAnswer;
use crate::sandbox::world::Press;
use crate::sandbox::world::Refusal;

use super::Hub;

/// Forgets a press when nobody waits for its answer any more.
struct Waiting<'a> {
    hub: &'a Hub,
    query: i64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Presses are not kept, so nothing is written that could fail.
        let _ = self.hub.transact(|world, _| world.forget_press(self.query));
    }
}

impl Hub {
    /// The bot's answer.
    ///
    /// # Errors
    /// When it did not come in time.
    pub(crate) async fn answer_to(&self, press: Press, limit: Duration) -> Result<CallbackAnswer, Refusal> {
        let _waiting = Waiting { hub: self, query: press.query };
        let stopping = self.tasks.stopping();
        tokio::select! {
            answer = press.answer => answer.map_err(|_| Refusal::ResponseTimeout),
            () = network_sleep(limit) => Err(Refusal::ResponseTimeout),
            () = stopping.cancelled() => Err(Refusal::ResponseTimeout),
        }
    }
}
