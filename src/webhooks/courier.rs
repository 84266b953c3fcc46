//! One attempt: sign, send, say what came of it. Whether and when there is another is not decided here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::client::Client;
use super::client::Exchange;
use super::client::Post;
use super::client::PostError;
use crate::domain::clock::Clock;
use crate::domain::delivery::Attempt;
use crate::domain::delivery::DeliveryId;
use crate::domain::delivery::Headers;
use crate::domain::delivery::headers;
use crate::domain::project::Project;
use crate::domain::webhook_target::WebhookTarget;

/// Signs and sends. Cloning shares it.
#[derive(Clone)]
pub struct Courier(Arc<Shared>);

struct Shared {
    client: Client,
    /// `CONNECTOR_WEBHOOK_ALLOW`.
    allow: Vec<IpNet>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Courier")
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// Whose secret signs it.
    pub project: &'a Project,
    /// Where it goes.
    pub url: &'a str,
    /// `webhook-id`.
    pub id: &'a DeliveryId,
    /// The event's name.
    pub event: &'static str,
    /// The exact bytes.
    pub body: &'a str,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Carried {
    /// For the log.
    pub attempt: Attempt,
    /// What was sent with the body.
    pub headers: Headers,
    /// The answer, if there was one.
    pub answer: Option<Exchange>,
}

impl Carried {
    /// How long the receiver asks to be left alone.
    pub fn asked_to_wait(&self) -> Option<Duration> {
        self.answer.as_ref()?.retry_after
    }
}

impl Courier {
    /// Sends with this client, where `allow` (`CONNECTOR_WEBHOOK_ALLOW`) and the rules for targets permit it.
    pub fn new(client: Client, allow: Vec<IpNet>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { client, allow, clock }))
    }

    /// Makes one attempt, within the client's limit.
    pub async fn carry(&self, parcel: Parcel<'_>) -> Carried {
        let at = self.0.clock.now();
        let headers = headers(parcel.project, parcel.id, parcel.event, parcel.body, at);
        let begun = Instant::now();
        let answer = self.post(parcel, &headers).await;
        let took = begun.elapsed();
        let (answer, error) = match answer {
            Ok(answer) => (Some(answer), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let attempt = Attempt {
            at,
            status: answer.as_ref().map(|answer| answer.status),
            error,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        Carried { attempt, headers, answer }
    }

    async fn post(&self, parcel: Parcel<'_>, headers: &Headers) -> Result<Exchange, PostError> {
        // Asked again: what is permitted may have changed since it was written down.
        let target = WebhookTarget::parse(parcel.url, &self.0.allow)?;
        let post = Post { url: target.url(), headers, body: parcel.body.as_bytes() };
        self.0.client.post(post).await
    }
}
