//! Joins what webhooks are made of, and sets them going.

use std::sync::Arc;

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

/// Sends what is due from now on; returns what developers do with it.
pub(super) fn open(
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    ids: &Ids,
    mode: Mode,
    settings: &AppSettings,
    tasks: &Tasks,
) -> Deliveries {
    let allow = settings.webhook_allow.clone();
    let courier = Courier::new(Client::new(allow.clone()), allow, Arc::clone(clock));
    let dispatcher =
        Dispatcher::new(Arc::clone(store), courier.clone(), Arc::clone(clock), ids.clone(), tasks.clone());
    tasks.spawn_essential("old webhooks", dispatcher.clone().tidy(settings.retention));
    tasks.spawn_essential("webhooks", dispatcher.run());
    Deliveries::new(Arc::clone(store), courier, Arc::clone(clock), ids.clone(), mode)
}
