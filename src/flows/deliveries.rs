//! What developers do with the webhooks of their projects: read the log, send something again, try the receiver out.
//! Sending what is due is not here (`webhooks::dispatcher`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::ownership::owned;
use crate::domain::account::Mode;
use crate::domain::clock::Clock;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::Attempt;
use crate::domain::delivery::Delivery;
use crate::domain::delivery::DeliveryId;
use crate::domain::delivery::Headers;
use crate::domain::delivery::TEST_EVENT;
use crate::domain::delivery::test_body;
use crate::domain::developer::DeveloperId;
use crate::domain::ids::Ids;
use crate::domain::project::Project;
use crate::store::Store;
use crate::store::StoreError;
use crate::webhooks::courier::Courier;
use crate::webhooks::courier::Parcel;

/// How many test deliveries go on at once, for all developers and for one of them: each can take ten seconds, and asks
/// nothing of who wants it.
const TRIALS: usize = 16;
const TRIALS_OF_ONE: usize = 2;

/// What developers do with webhooks. Cloning shares it.
#[derive(Clone)]
pub struct Deliveries {
    store: Arc<dyn Store>,
    courier: Courier,
    clock: Arc<dyn Clock>,
    ids: Ids,
    mode: Mode,
    trials: Trials,
}

/// The test deliveries on their way, by who wants them. Cloning shares it.
#[derive(Clone, Debug, Default)]
struct Trials(Arc<Mutex<HashMap<DeveloperId, usize>>>);

/// A test delivery on its way, until it is dropped.
struct Place(Trials, DeveloperId);

impl Trials {
    fn place(&self, developer: &DeveloperId) -> Option<Place> {
        let mut going_on = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = going_on.values().sum();
        let theirs = going_on.get(developer).copied().unwrap_or_default();
        if all >= TRIALS || theirs >= TRIALS_OF_ONE {
            return None;
        }
        going_on.insert(developer.clone(), theirs + 1);
        Some(Place(self.clone(), developer.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self(Trials(going_on), developer) = self;
        let mut going_on = going_on.lock().unwrap_or_else(PoisonError::into_inner);
        match going_on.get_mut(developer) {
            Some(theirs) if *theirs > 1 => *theirs -= 1,
            Some(_) | None => drop(going_on.remove(developer)),
        }
    }
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Deliveries")
    }
}

/// Why a developer does not get what they ask for.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// There is no such project of this developer.
    #[error("there is no project with this id")]
    ProjectNotFound,
    /// There is no such delivery of a project of this developer.
    #[error("there is no delivery with this id")]
    DeliveryNotFound,
    /// Nothing is sent anywhere.
    #[error("the project has no webhook: set its webhook_url")]
    NoWebhook,
    /// Nothing is sent any more.
    #[error("the project's webhook is switched off: {0}")]
    WebhookDisabled(String),
    /// A cursor that no answer gave.
    #[error("`cursor` is the next_cursor of an earlier answer")]
    CursorInvalid,
    /// Too many try their receivers at once.
    #[error("too many test deliveries at once: try again in a second")]
    Busy,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A part of a project's log.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The newest first.
    pub(crate) deliveries: Vec<Delivery>,
    /// Where the next part begins, where there is one.
    pub(crate) next_cursor: Option<String>,
}

/// What a test delivery sent, and what came back.
#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) url: String,
    pub(crate) headers: Headers,
    pub(crate) body: String,
    pub(crate) attempt: Attempt,
    /// The beginning of what the receiver answered.
    pub(crate) answer: Option<String>,
}

impl Deliveries {
    /// Joins the parts.
    pub fn new(store: Arc<dyn Store>, courier: Courier, clock: Arc<dyn Clock>, ids: Ids, mode: Mode) -> Self {
        Self { store, courier, clock, ids, mode, trials: Trials::default() }
    }

    /// A part of a project's log.
    pub(crate) async fn log(
        &self,
        owner: &DeveloperId,
        project: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, DeliveryError> {
        let project = self.project(owner, project).await?;
        let cursor = cursor.filter(|text| !text.is_empty());
        let before = cursor.map(|text| parse_cursor(text).ok_or(DeliveryError::CursorInvalid)).transpose()?;
        // One more than asked for tells whether there are more.
        let mut deliveries = self.store.deliveries(&project.id, before.as_ref(), limit + 1).await?;
        let more = deliveries.len() > limit;
        deliveries.truncate(limit);
        let next_cursor = deliveries.last().filter(|_| more).map(cursor_after);
        Ok(Page { deliveries, next_cursor })
    }

    /// Sends a delivery again, whatever became of it.
    pub(crate) async fn replay(&self, owner: &DeveloperId, id: &str) -> Result<Delivery, DeliveryError> {
        let id = DeliveryId::parse(id).ok_or(DeliveryError::DeliveryNotFound)?;
        let delivery = self.store.delivery(&id).await?.ok_or(DeliveryError::DeliveryNotFound)?;
        let project = owned(&*self.store, owner, delivery.project.as_str()).await?;
        let project = project.ok_or(DeliveryError::DeliveryNotFound)?;
        if project.webhook().is_none() {
            let disabled =
                project.webhook_disabled.clone().filter(|_| project.settings.webhook_url.is_some());
            return Err(disabled.map_or(DeliveryError::NoWebhook, DeliveryError::WebhookDisabled));
        }
        let replayed = self.store.replay_delivery(&id, self.clock.now()).await?;
        tracing::info!(developer = %owner, project = %project.id, delivery = %id, "a delivery was replayed");
        replayed.ok_or(DeliveryError::DeliveryNotFound)
    }

    /// Sends something now that tells of nobody. Also where the webhook is switched off: to find out whether it works
    /// again. It is not in the log, and says nothing about the webhook's health.
    pub(crate) async fn test(&self, owner: &DeveloperId, project: &str) -> Result<Trial, DeliveryError> {
        let project = self.project(owner, project).await?;
        let url = project.settings.webhook_url.clone().filter(|url| !url.is_empty());
        let url = url.ok_or(DeliveryError::NoWebhook)?;
        let _place = self.trials.place(owner).ok_or(DeliveryError::Busy)?;
        let id = DeliveryId::new(&self.ids);
        let body = test_body(&project.id, self.mode, self.clock.now()).unwrap_or_default();
        let parcel = Parcel { project: &project, url: &url, id: &id, event: TEST_EVENT, body: &body };
        let carried = self.courier.carry(parcel).await;
        let answer = carried.answer.map(|answer| answer.text());
        Ok(Trial { url, headers: carried.headers, body, attempt: carried.attempt, answer })
    }

    async fn project(&self, owner: &DeveloperId, id: &str) -> Result<Arc<Project>, DeliveryError> {
        owned(&*self.store, owner, id).await?.ok_or(DeliveryError::ProjectNotFound)
    }
}

fn cursor_after(delivery: &Delivery) -> String {
    format!("{}.{}", delivery.created_at.as_millis(), delivery.id)
}

fn parse_cursor(text: &str) -> Option<(Timestamp, DeliveryId)> {
    let (at, id) = text.split_once('.')?;
    Some((Timestamp::from_millis(at.parse().ok()?), DeliveryId::parse(id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_developer_tries_two_at_a_time_and_leaves_room_for_others() {
        let (trials, ids) = (Trials::default(), Ids::from_seed([1; 32]));
        let developers: Vec<DeveloperId> = (0..9).map(|_| DeveloperId::new(&ids)).collect();
        let mut places = vec![trials.place(&developers[0]).unwrap(), trials.place(&developers[0]).unwrap()];
        assert!(trials.place(&developers[0]).is_none());
        places.pop();
        places.push(trials.place(&developers[0]).unwrap());
        for developer in &developers[1..8] {
            places.extend([trials.place(developer).unwrap(), trials.place(developer).unwrap()]);
        }
        assert!(trials.place(&developers[8]).is_none(), "sixteen of all");
        places.remove(0);
        assert!(trials.place(&developers[8]).is_some());
        drop(places);
        assert!(trials.0.lock().unwrap().is_empty(), "who wants none is forgotten");
    }
}
