//! Joins what webhooks are made of, and sets them going.

use std::sync::Arc;
use std::time::Duration;

use super::AppSettings;
use crate::domain::account::Mode;
use crate::domain::clock::Clock;
use crate::domain::ids::Ids;
use crate::flows::deliveries::Deliveries;
use crate::lifecycle::Tasks;
use crate::store::Store;
use crate::webhooks::client::Client;
use crate::webhooks::courier::Courier;
use crate::webhooks::dispatcher::Dispatcher;
use crate::webhooks::dispatcher::EXCHANGES;

/// The parts of webhooks; nothing is sent yet.
pub(super) struct Webhooks {
    deliveries: Deliveries,
    dispatcher: Dispatcher,
    retention: Duration,
}

/// Joins the parts.
pub(super) fn open(
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    ids: &Ids,
    mode: Mode,
    settings: &AppSettings,
    tasks: &Tasks,
) -> Webhooks {
    let allow = settings.webhook_allow.clone();
    let courier = Courier::new(Client::new(allow.clone()), allow, Arc::clone(clock));
    let dispatcher = Dispatcher::new(
        Arc::clone(store),
        courier.clone(),
        Arc::clone(clock),
        ids.clone(),
        tasks.clone(),
        EXCHANGES,
    );
    let deliveries = Deliveries::new(Arc::clone(store), courier, Arc::clone(clock), ids.clone(), mode);
    Webhooks { deliveries, dispatcher, retention: settings.retention }
}

impl Webhooks {
    /// Sends what is due from now on: not before projects are as the operator wants them, since what is pending goes to
    /// where they say then. Returns what developers do with it.
    pub(super) fn begin(self, tasks: &Tasks) -> Deliveries {
        tasks.spawn_essential("old webhooks", self.dispatcher.clone().tidy(self.retention));
        tasks.spawn_essential("webhooks", self.dispatcher.run());
        self.deliveries
    }
}
