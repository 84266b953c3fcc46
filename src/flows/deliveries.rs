//! What developers do with the webhooks of their projects: read the log, send something again, try the receiver out.
//! Sending what is due is not here (`webhooks::dispatcher`).

use std::sync::Arc;

use tokio::sync::Semaphore;

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
use crate::domain::project::ProjectId;
use crate::store::Store;
use crate::store::StoreError;
use crate::webhooks::courier::Courier;
use crate::webhooks::courier::Parcel;

/// How many test deliveries go on at once: each can take ten seconds, and asks nothing of who wants it.
static TESTS: Semaphore = Semaphore::const_new(16);

/// What developers do with webhooks. Cloning shares it.
#[derive(Clone)]
pub struct Deliveries {
    store: Arc<dyn Store>,
    courier: Courier,
    clock: Arc<dyn Clock>,
    ids: Ids,
    mode: Mode,
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
#[derive(Clone, Debug)]
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
        Self { store, courier, clock, ids, mode }
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
        let project = self.store.project(&delivery.project).await?;
        let project = project.filter(|project| project.owner == *owner);
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
        let _place = TESTS.try_acquire().map_err(|_| DeliveryError::Busy)?;
        let id = DeliveryId::new(&self.ids);
        let body = test_body(&project.id, self.mode, self.clock.now()).unwrap_or_default();
        let parcel = Parcel { project: &project, url: &url, id: &id, event: TEST_EVENT, body: &body };
        let carried = self.courier.carry(parcel).await;
        let answer = carried.answer.map(|answer| answer.text());
        Ok(Trial { url, headers: carried.headers, body, attempt: carried.attempt, answer })
    }

    async fn project(&self, owner: &DeveloperId, id: &str) -> Result<Arc<Project>, DeliveryError> {
        let id = ProjectId::parse(id).ok_or(DeliveryError::ProjectNotFound)?;
        let project = self.store.project(&id).await?;
        project.filter(|project| project.owner == *owner).ok_or(DeliveryError::ProjectNotFound)
    }
}

fn cursor_after(delivery: &Delivery) -> String {
    format!("{}.{}", delivery.created_at.as_millis(), delivery.id)
}

fn parse_cursor(text: &str) -> Option<(Timestamp, DeliveryId)> {
    let (at, id) = text.split_once('.')?;
    Some((Timestamp::from_millis(at.parse().ok()?), DeliveryId::parse(id)?))
}
