//! Whether the service can do its work, part by part, for `/readyz`.

use std::sync::Arc;

use crate::lifecycle::Tasks;
use crate::store::Store;
use crate::telegram::Bots;
pub use crate::telegram::Ending;
use crate::telegram::Gateway;

/// A state for each part, in one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `ok` or `unavailable`.
    pub store: &'static str,
    /// `ok`, or `degraded`: out of reach, or a session waits to be saved.
    pub session_store: &'static str,
    /// `ok`, `signed_out`, `connecting`, `reconnecting`, `unknown`.
    pub telegram: &'static str,
    /// Telegram's name for why it has ended the account's session, where it has.
    pub telegram_reason: Option<String>,
    /// The default bot: `none` is configured, `ok`, `connecting`, `reconnecting`, `signed_out`, `token_invalid`,
    /// `unknown`.
    pub bot: &'static str,
    /// Whether requests should be sent here.
    pub ready: bool,
}

/// Looks at the parts.
#[derive(Clone)]
pub struct Readiness {
    store: Arc<dyn Store>,
    gateway: Gateway,
    bots: Bots,
    default_bot: Option<i64>,
    tasks: Tasks,
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Readiness").finish_non_exhaustive()
    }
}

impl Readiness {
    /// Looks at these parts; `default_bot` is the id of the one to tell of.
    pub fn new(
        store: Arc<dyn Store>,
        gateway: Gateway,
        bots: Bots,
        default_bot: Option<i64>,
        tasks: Tasks,
    ) -> Self {
        Self { store, gateway, bots, default_bot, tasks }
    }

    /// The parts' states now. Only a failing store and shutdown make the service unready.
    pub async fn check(&self) -> Report {
        let store = self.store.ping().await;
        if let Err(error) = &store {
            tracing::error!(%error, "the store fails");
        }
        Report {
            store: if store.is_ok() { "ok" } else { "unavailable" },
            session_store: if self.gateway.is_saved() && self.gateway.reaches_vault() {
                "ok"
            } else {
                "degraded"
            },
            telegram: self.gateway.condition(),
            telegram_reason: self.gateway.ended(),
            bot: self.default_bot.map_or("none", |id| self.bots.condition(id)),
            ready: store.is_ok() && !self.tasks.stopping().is_cancelled(),
        }
    }
}
