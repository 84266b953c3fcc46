//! The keys of webhook deliveries in the tree of the sessions, all below `w`: `d` id → delivery; `q` project, due, id →
//! nothing, while it is pending; `l` project, creation, id → nothing; `t` creation, id → nothing. What is done with them is
//! in `deliveries`.

use super::sessions::ordered;
use super::sessions::unordered;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::Delivery;
use crate::domain::delivery::DeliveryId;
use crate::domain::project::ProjectId;
use crate::store::StoreError;

pub(super) const RECORD: &[u8; 2] = b"wd";
pub(super) const QUEUE: &[u8; 2] = b"wq";
pub(super) const LOG: &[u8; 2] = b"wl";
pub(super) const TIME: &[u8; 2] = b"wt";
/// Ends a project's name in a key: no name contains it.
pub(super) const END: u8 = 0;
/// Sorts after everything of a project.
pub(super) const PAST_END: u8 = 1;

pub(super) fn of_project(kind: &[u8], project: &ProjectId, end: u8) -> Vec<u8> {
    [kind, project.as_str().as_bytes(), &[end]].concat()
}

pub(super) fn timed(mut prefix: Vec<u8>, at: Timestamp, id: &DeliveryId) -> Vec<u8> {
    prefix.extend(ordered(at.as_millis()));
    prefix.extend(id.as_str().as_bytes());
    prefix
}

pub(super) fn record_key(id: &DeliveryId) -> Vec<u8> {
    [RECORD, id.as_str().as_bytes()].concat()
}

pub(super) fn log_key(delivery: &Delivery) -> Vec<u8> {
    timed(of_project(LOG, &delivery.project, END), delivery.created_at, &delivery.id)
}

pub(super) fn time_key(delivery: &Delivery) -> Vec<u8> {
    timed(TIME.to_vec(), delivery.created_at, &delivery.id)
}

pub(super) fn queue_key(delivery: &Delivery) -> Option<Vec<u8>> {
    delivery.due().map(|due| timed(of_project(QUEUE, &delivery.project, END), due, &delivery.id))
}

/// Time and id at the end of a key; `skip` bytes are before them.
pub(super) fn entry(key: &[u8], skip: usize) -> Result<(Timestamp, DeliveryId), StoreError> {
    let parsed = key.get(skip..).and_then(|rest| rest.split_first_chunk::<8>()).and_then(|(at, id)| {
        Some((Timestamp::from_millis(unordered(*at)), DeliveryId::parse(std::str::from_utf8(id).ok()?)?))
    });
    parsed.ok_or_else(|| StoreError::Corrupt("an index of deliveries".to_owned()))
}

/// All keys of a delivery.
pub(super) fn all_keys(delivery: &Delivery) -> impl Iterator<Item = Vec<u8>> {
    let keys = [record_key(&delivery.id), log_key(delivery), time_key(delivery)];
    keys.into_iter().chain(queue_key(delivery))
}
