//! The dispatcher alone, under a clock that stands still: what comes only when a lease ends never comes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use telegram_connector::domain::account::Mode;
use telegram_connector::domain::auth_session::{AuthSession, Event, Request, SessionToken, Via};
use telegram_connector::domain::clock::{Clock, Timestamp};
use telegram_connector::domain::delivery::{DeliveryId, EventKind};
use telegram_connector::domain::developer::DeveloperId;
use telegram_connector::domain::project::{Project, ProjectId, ProjectSettings, SigningSecret};
use telegram_connector::domain::seal::Sealer;
use telegram_connector::lifecycle::Tasks;
use telegram_connector::store::{Applied, EmbeddedStore, Store};
use telegram_connector::webhooks::client::Client;
use telegram_connector::webhooks::courier::Courier;
use telegram_connector::webhooks::dispatcher::Dispatcher;
use tempfile::TempDir;

use crate::support::{Receiver, Reply, eventually, finish, random};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn sleep_until(&self, instant: Timestamp) -> BoxFuture<'_, ()> {
        if instant <= NOW { Box::pin(std::future::ready(())) } else { Box::pin(std::future::pending()) }
    }
}

/// A store whose events are sent.
struct Sending {
    store: Arc<dyn Store>,
    tasks: Tasks,
    _folder: TempDir,
}

fn id(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

impl Sending {
    /// To this receiver, for these projects, so many at once.
    async fn to(receiver: &Receiver, projects: &[&str], exchanges: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let sealer = Sealer::new(&[7; 32], random());
        let store = EmbeddedStore::open(folder.path(), 1024 * 1024, Mode::Sandbox, sealer).await.unwrap();
        let (store, tasks): (Arc<dyn Store>, _) = (Arc::new(store), Tasks::new());
        for name in projects {
            let mut settings = ProjectSettings::named("Shop".to_owned());
            settings.webhook_url = Some(receiver.url("/hook"));
            let secret = SigningSecret::new(Mode::Sandbox, &random());
            let project = Project::new(id(name), DeveloperId::new(&random()), secret, settings, NOW);
            assert!(store.insert_project(&project).await.unwrap());
        }
        let (clock, allow) = (Arc::new(Still), vec!["127.0.0.0/8".parse().unwrap()]);
        // What is held is held by the test, however slow the machine is.
        let patient = Client::new(allow.clone()).with_limit(Duration::from_secs(200));
        let courier = Courier::new(patient, allow, clock.clone());
        let dispatcher =
            Dispatcher::new(Arc::clone(&store), courier, clock, random(), tasks.clone(), exchanges);
        tasks.spawn("webhooks", dispatcher.run());
        Self { store, tasks, _folder: folder }
    }

    /// Something happened a second ago that this project's webhook is told.
    async fn happens(&self, project: &str) -> DeliveryId {
        let request = Request::new(id(project), Via { account: 500, bot: true });
        let at = NOW.minus(Duration::from_secs(1));
        let session = AuthSession::new(SessionToken::new(&random()), "watch".to_owned(), request, at);
        self.store.insert_session(&session).await.unwrap();
        let applied = self.store.apply(&session.id, &Event::CancelByServer, at).await.unwrap();
        assert!(matches!(applied, Applied::Done(_)));
        DeliveryId::of(&session.id, EventKind::Cancelled)
    }

    async fn becomes(&self, delivery: &DeliveryId, state: &str) {
        let is = || async { self.store.delivery(delivery).await.unwrap().unwrap().state.name() == state };
        eventually(state, is).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_during_an_exchange_is_sent_right_after_it() {
    let receiver = Receiver::new().await;
    let sending = Sending::to(&receiver, &["proj_shop"], 9).await;
    receiver.answer_next(Reply::status(200).held());
    let told = sending.happens("proj_shop").await;
    receiver.next().await;
    sending.store.replay_delivery(&told, NOW).await.unwrap();
    // Once this one is sent, the worker has seen the replay.
    let other = sending.happens("proj_shop").await;
    assert_eq!(receiver.next().await.header("webhook-id"), Some(other.as_str()));
    receiver.release(1);
    assert_eq!(receiver.next().await.header("webhook-id"), Some(told.as_str()));
    for delivered in [&told, &other] {
        sending.becomes(delivered, "delivered").await;
    }
    assert_eq!(receiver.requests().len(), 3);
    finish(&sending.tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_says_it_is_gone_is_believed_whatever_became_of_the_delivery() {
    let receiver = Receiver::new().await;
    let sending = Sending::to(&receiver, &["proj_replays", "proj_drops"], 9).await;
    for _ in 0..2 {
        receiver.answer_next(Reply::status(410).held());
    }
    let replayed = sending.happens("proj_replays").await;
    receiver.next().await;
    sending.happens("proj_drops").await;
    receiver.next().await;
    sending.store.replay_delivery(&replayed, NOW).await.unwrap();
    sending.store.drop_deliveries(&id("proj_drops")).await.unwrap();
    receiver.release(2);
    for name in ["proj_replays", "proj_drops"] {
        let disabled =
            || async { sending.store.project(&id(name)).await.unwrap().unwrap().webhook_disabled.is_some() };
        eventually("switched off", disabled).await;
    }
    // Its turn comes when nobody is to be told any more.
    sending.becomes(&replayed, "dropped").await;
    assert_eq!(receiver.requests().len(), 2);
    finish(&sending.tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_projects_together_have_so_many_exchanges_and_no_more() {
    const PROJECTS: [&str; 4] = ["proj_a", "proj_b", "proj_c", "proj_d"];
    let receiver = Receiver::new().await;
    let sending = Sending::to(&receiver, &PROJECTS, 2).await;
    receiver.answer_with(Reply::status(200).held());
    let mut told = Vec::new();
    for _ in 0..3 {
        for name in PROJECTS {
            told.push(sending.happens(name).await);
        }
    }
    receiver.next().await;
    receiver.next().await;
    for released in 0..10 {
        assert!(receiver.requests().len() <= released + 2, "{released}");
        receiver.release(1);
        receiver.next().await;
    }
    // The last two have the places; what happens now stays anybody's.
    for name in PROJECTS {
        sending.happens(name).await;
    }
    let due = |name: &'static str| {
        let (store, none) = (&sending.store, std::collections::HashSet::new());
        async move { store.claim_deliveries(&id(name), &none, NOW, NOW, 9).await.unwrap().deliveries.len() }
    };
    let mut unclaimed = 0;
    for name in PROJECTS {
        unclaimed += due(name).await;
    }
    assert_eq!((unclaimed, receiver.requests().len()), (4, 12));
    receiver.release(100);
    for delivered in &told {
        sending.becomes(delivered, "delivered").await;
    }
    eventually("all of them", || async { receiver.requests().len() == 16 }).await;
    finish(&sending.tasks).await;
}
