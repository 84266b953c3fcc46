//! What every store promises of webhook deliveries (`store::DeliveryStore`), sentence by sentence. Run for the embedded
//! one; Postgres joins when it comes.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use telegram_connector::domain::account::Mode;
use telegram_connector::domain::auth_session::{
    Answer, AuthSession, Event, Person, Request, SessionToken, Via,
};
use telegram_connector::domain::clock::Timestamp;
use telegram_connector::domain::delivery::{Attempt, Delivery, DeliveryId, EventKind};
use telegram_connector::domain::developer::DeveloperId;
use telegram_connector::domain::ids::Ids;
use telegram_connector::domain::language::Language;
use telegram_connector::domain::project::{Project, ProjectId, ProjectSettings, SigningSecret};
use telegram_connector::store::{Applied, Store};

use crate::support::open_database;
use crate::support::open_store;
use crate::support::open_tree;

const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BOT: Via = Via { account: 500, bot: true };
const DAY: u64 = 24 * 3600;

fn at(seconds: u64) -> Timestamp {
    BEGIN.plus(Duration::from_secs(seconds))
}

fn ids() -> Ids {
    Ids::from_seed(telegram_connector::lifecycle::os_seed().unwrap())
}

fn id(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

/// A store in which these projects have webhooks.
async fn store_with(folder: &Path, projects: &[&str]) -> Arc<dyn Store> {
    let store = open_store(folder).await;
    for name in projects {
        let settings = ProjectSettings {
            webhook_url: Some("https://shop.example/hook".to_owned()),
            webhook_expired: true,
            ..ProjectSettings::named("Shop".to_owned())
        };
        let secret = SigningSecret::new(Mode::Sandbox, &ids());
        let project = Project::new(id(name), DeveloperId::new(&ids()), secret, settings, BEGIN);
        assert!(store.insert_project(&project).await.unwrap());
    }
    store
}

/// A session that somebody has opened.
async fn opened(store: &Arc<dyn Store>, project: &str, now: Timestamp) -> AuthSession {
    let request = Request::new(id(project), BOT);
    let session = AuthSession::new(SessionToken::new(&ids()), "watch".to_owned(), request, now);
    store.insert_session(&session).await.unwrap();
    let person = Person { id: 7, access_hash: 3, name: "Alice Liddell".to_owned(), username: None };
    let open = Event::Open { person, via: BOT, message: 10, language: Language::En };
    assert!(matches!(store.apply(&session.id, &open, now).await.unwrap(), Applied::Done(_)));
    session
}

fn yes() -> Event {
    Event::Confirm { answer: Answer { person: 7, via: BOT, message: 20, tapped: true }, number: None }
}

/// A session that somebody has confirmed, and the id of what is to be told of it.
async fn confirmed(store: &Arc<dyn Store>, project: &str, now: Timestamp) -> DeliveryId {
    let session = opened(store, project, now).await;
    assert!(matches!(store.apply(&session.id, &yes(), now).await.unwrap(), Applied::Done(_)));
    DeliveryId::of(&session.id, EventKind::Confirmed)
}

async fn claim(store: &Arc<dyn Store>, project: &str, now: Timestamp, max: usize) -> Vec<Delivery> {
    let lease_until = now.plus(Duration::from_secs(20));
    store.claim_deliveries(&id(project), &HashSet::new(), now, lease_until, max).await.unwrap().deliveries
}

fn attempted(delivery: &Delivery, status: u16, now: Timestamp) -> Delivery {
    let mut after = delivery.clone();
    let attempt = Attempt { at: now, status: Some(status), error: None, took_ms: 5 };
    assert!(after.attempted(attempt, None, &ids()));
    after
}

fn names(deliveries: &[Delivery]) -> Vec<DeliveryId> {
    deliveries.iter().map(|delivery| delivery.id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_there_exactly_when_the_decision_is_and_survives_a_restart() {
    let folder = tempfile::TempDir::new().unwrap();
    let (told, cancelled, expired) = {
        let store = store_with(folder.path(), &["proj_shop"]).await;
        let told = opened(&store, "proj_shop", at(0)).await;
        assert_eq!(store.projects_with_deliveries().await.unwrap(), []);
        // Of eight who confirm at once one does, and one delivery is made.
        let yes = yes();
        let confirming = (0..8).map(|_| store.apply(&told.id, &yes, at(1)));
        let applied = futures_util::future::join_all(confirming).await;
        let done = applied.iter().filter(|one| matches!(one, Ok(Applied::Done(_)))).count();
        assert_eq!(done, 1);
        let cancelled = opened(&store, "proj_shop", at(2)).await;
        store.apply(&cancelled.id, &Event::CancelByServer, at(3)).await.unwrap();
        let expired = opened(&store, "proj_shop", at(4)).await;
        store.expire(at(700)).await.unwrap();
        (told.id, cancelled.id, expired.id)
    };
    let store = open_store(folder.path()).await;
    let all = store.deliveries(&id("proj_shop"), None, 10).await.unwrap();
    let expected = [
        DeliveryId::of(&expired, EventKind::Expired),
        DeliveryId::of(&cancelled, EventKind::Cancelled),
        DeliveryId::of(&told, EventKind::Confirmed),
    ];
    assert_eq!(names(&all), expected, "the newest first");
    assert_eq!(store.projects_with_deliveries().await.unwrap(), [id("proj_shop")]);
    let first = store.delivery(&expected[2]).await.unwrap().unwrap();
    assert_eq!((&first.session, first.due(), first.created_at), (&told, Some(at(1)), at(1)));
    assert!(first.body.reveal().contains("Alice Liddell"));
    // Sealed at rest.
    drop(store);
    assert_eq!(crate::support::files_with(folder.path(), b"Liddell"), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_one_workers_until_its_lease_ends_or_the_process_does() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = store_with(folder.path(), &["proj_shop"]).await;
    let mut told = Vec::new();
    for second in 0..3 {
        told.push(confirmed(&store, "proj_shop", at(second)).await);
    }
    assert_eq!(names(&claim(&store, "proj_shop", at(0), 9).await), told[..1], "what is not due yet waits");
    let claims = store.claim_deliveries(&id("proj_shop"), &HashSet::new(), at(1), at(21), 9).await.unwrap();
    assert_eq!((names(&claims.deliveries), claims.next), (told[1..2].to_vec(), Some(at(2))));
    let claims = store.claim_deliveries(&id("proj_shop"), &HashSet::new(), at(2), at(22), 9).await.unwrap();
    assert_eq!((names(&claims.deliveries), claims.next), (told[2..].to_vec(), Some(at(20))));
    let claims = store.claim_deliveries(&id("proj_shop"), &HashSet::new(), at(19), at(39), 9).await.unwrap();
    assert_eq!((names(&claims.deliveries), claims.next), (vec![], Some(at(20))));
    assert_eq!(
        names(&claim(&store, "proj_shop", at(20), 9).await),
        told[..1],
        "whose worker is slow or dead"
    );

    drop(store);
    let store = open_store(folder.path()).await;
    assert_eq!(names(&claim(&store, "proj_shop", at(20), 9).await), told, "nobody holds them any more");
    // Sixteen workers, each delivery once.
    let at_once = (0..16).map(|_| claim(&store, "proj_shop", at(60), 1));
    let taken: Vec<_> = futures_util::future::join_all(at_once).await.concat();
    assert_eq!(taken.len(), 3);
    assert_eq!(names(&taken).iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_has_in_hand_it_does_not_get_again() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = store_with(folder.path(), &["proj_shop"]).await;
    let told = confirmed(&store, "proj_shop", at(0)).await;
    let other = confirmed(&store, "proj_shop", at(0)).await;
    let in_hand = HashSet::from([told.clone()]);
    assert_eq!(claim(&store, "proj_shop", at(0), 9).await.len(), 2);
    store.replay_delivery(&told, at(1)).await.unwrap();
    let claims = store.claim_deliveries(&id("proj_shop"), &in_hand, at(1), at(21), 9).await.unwrap();
    assert_eq!((claims.deliveries, claims.next), (vec![], Some(at(20))), "when the other is free");
    assert_eq!(names(&claim(&store, "proj_shop", at(1), 9).await), [told], "it was not claimed");
    store.replay_delivery(&other, at(1)).await.unwrap();
    let claims = store.claim_deliveries(&id("proj_shop"), &in_hand, at(2), at(22), 9).await.unwrap();
    assert_eq!((names(&claims.deliveries), claims.next), (vec![other], None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_delivery_is_written_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = store_with(folder.path(), &["proj_shop"]).await;
    let told = confirmed(&store, "proj_shop", at(0)).await;
    let claimed = claim(&store, "proj_shop", at(0), 9).await.remove(0);
    let failed = attempted(&claimed, 500, at(0));
    assert!(store.settle_delivery(&claimed, &failed).await.unwrap());
    assert!(!store.settle_delivery(&claimed, &attempted(&claimed, 200, at(0))).await.unwrap(), "too late");
    assert_eq!(store.delivery(&told).await.unwrap().as_ref(), Some(&failed));
    let due = failed.due().unwrap();
    let claims = store.claim_deliveries(&id("proj_shop"), &HashSet::new(), at(1), at(21), 9).await.unwrap();
    assert_eq!((claims.deliveries, claims.next), (vec![], Some(due)));

    let claimed = claim(&store, "proj_shop", due, 9).await.remove(0);
    assert_eq!(claimed, failed);
    // Its owner replays it while it is being sent: then it is sent again.
    let replayed = store.replay_delivery(&told, at(10)).await.unwrap().unwrap();
    assert_eq!((replayed.due(), replayed.attempts.len()), (Some(at(10)), 1));
    assert!(!store.settle_delivery(&claimed, &attempted(&claimed, 200, due)).await.unwrap());
    let claimed = claim(&store, "proj_shop", at(10), 9).await.remove(0);
    let delivered = attempted(&claimed, 200, at(10));
    assert!(store.settle_delivery(&claimed, &delivered).await.unwrap());
    assert_eq!(store.projects_with_deliveries().await.unwrap(), []);
    let claims = store
        .claim_deliveries(&id("proj_shop"), &HashSet::new(), at(9 * DAY), at(9 * DAY + 20), 9)
        .await
        .unwrap();
    assert_eq!((claims.deliveries, claims.next), (vec![], None));
    // So is one that was delivered; with the same id and the same bytes.
    let again = store.replay_delivery(&told, at(20)).await.unwrap().unwrap();
    assert_eq!((&again.id, &again.body), (&told, &delivered.body));
    assert_eq!(claim(&store, "proj_shop", at(20), 9).await, [again]);
    let unknown = DeliveryId::new(&ids());
    assert_eq!(store.replay_delivery(&unknown, at(20)).await.unwrap(), None);
    assert_eq!(store.delivery(&unknown).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_gets_its_own_deliveries_in_pages_that_stay() {
    let folder = tempfile::TempDir::new().unwrap();
    let names_of = ["proj_a", "proj_a-", "proj_aa", "proj_b"];
    let store = store_with(folder.path(), &names_of).await;
    let mut told = Vec::new();
    for second in 0..5 {
        told.push(confirmed(&store, "proj_a", at(second)).await);
        confirmed(&store, "proj_aa", at(second)).await;
        confirmed(&store, "proj_a-", at(second)).await;
    }
    let mut found = store.projects_with_deliveries().await.unwrap();
    found.sort();
    assert_eq!(found, ["proj_a", "proj_a-", "proj_aa"].map(id));
    assert_eq!(names(&claim(&store, "proj_a", at(100), 9).await), told, "those that were due first first");
    told.reverse();
    let shop = id("proj_a");
    let first = store.deliveries(&shop, None, 2).await.unwrap();
    assert_eq!(names(&first), told[..2]);
    confirmed(&store, "proj_a", at(50)).await;
    let last = (first[1].created_at, first[1].id.clone());
    assert_eq!(names(&store.deliveries(&shop, Some(&last), 9).await.unwrap()), told[2..]);
    assert_eq!(store.deliveries(&id("proj_b"), None, 9).await.unwrap(), []);

    store.drop_deliveries(&shop).await.unwrap();
    assert_eq!(store.deliveries(&shop, None, 9).await.unwrap(), []);
    assert_eq!(store.delivery(&told[0]).await.unwrap(), None);
    assert_eq!(claim(&store, "proj_a", at(9 * DAY), 9).await, []);
    assert_eq!(store.deliveries(&id("proj_aa"), None, 9).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_removed_also_where_it_is_pending() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = store_with(folder.path(), &["proj_shop"]).await;
    let mut told = Vec::new();
    for second in 0..300 {
        told.push(confirmed(&store, "proj_shop", at(second)).await);
    }
    let young = confirmed(&store, "proj_shop", at(DAY)).await;
    let mut on_its_way = None;
    for delivery in claim(&store, "proj_shop", at(DAY), 1_000).await {
        if delivery.id == told[7] {
            on_its_way = Some(delivery);
        } else {
            let settled = attempted(&delivery, 200, at(DAY));
            assert!(store.settle_delivery(&delivery, &settled).await.unwrap());
        }
    }
    assert_eq!(store.prune_deliveries(at(DAY)).await.unwrap(), 300);
    let left = store.deliveries(&id("proj_shop"), None, 1_000).await.unwrap();
    assert_eq!(names(&left), [young]);
    assert_eq!(store.prune_deliveries(at(DAY)).await.unwrap(), 0);
    assert_eq!(store.delivery(&told[7]).await.unwrap(), None, "its session is not there either");
    assert_eq!(store.projects_with_deliveries().await.unwrap(), []);
    let on_its_way = on_its_way.unwrap();
    let settled = store.settle_delivery(&on_its_way, &attempted(&on_its_way, 500, at(DAY))).await.unwrap();
    assert!(!settled, "an attempt under way does not bring it back");
}

/// Overwrites the records of deliveries.
fn damage(folder: &Path, ids: &[&DeliveryId]) {
    let database = open_database(folder);
    let tree = open_tree(&database, "sessions");
    for id in ids {
        assert!(tree.contains_key(format!("wd{id}")).unwrap());
        tree.insert(format!("wd{id}"), b"\x01nonsense").unwrap();
    }
}

/// How many keys of a store end with a delivery's id.
fn keys_of(folder: &Path, id: &DeliveryId) -> usize {
    let database = open_database(folder);
    let tree = open_tree(&database, "sessions");
    tree.iter()
        .filter_map(|entry| entry.key().ok())
        .filter(|key| key.ends_with(id.as_str().as_bytes()))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_delivery_stops_nobody_else_and_goes_like_the_others() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = store_with(folder.path(), &["proj_a", "proj_b", "proj_c"]).await;
    let mut told = Vec::new();
    for second in 0..5 {
        told.push(confirmed(&store, "proj_a", at(second)).await);
    }
    let dropped = confirmed(&store, "proj_c", at(DAY)).await;
    let forgotten = opened(&store, "proj_b", at(DAY)).await;
    store.apply(&forgotten.id, &yes(), at(DAY)).await.unwrap();
    let of_forgotten = DeliveryId::of(&forgotten.id, EventKind::Confirmed);
    drop(store);
    damage(folder.path(), &[&told[1], &told[3], &dropped, &of_forgotten]);
    assert_eq!(keys_of(folder.path(), &told[3]), 4);

    let store = open_store(folder.path()).await;
    assert!(store.delivery(&told[1]).await.is_err(), "what is damaged is not made up");
    let whole = [&told[4], &told[2], &told[0]].map(Clone::clone);
    let page = store.deliveries(&id("proj_a"), None, 2).await.unwrap();
    assert_eq!(names(&page), whole[..2], "the page is full all the same");
    let after = (page[1].created_at, page[1].id.clone());
    assert_eq!(names(&store.deliveries(&id("proj_a"), Some(&after), 9).await.unwrap()), whole[2..]);
    assert_eq!(claim(&store, "proj_a", at(9), 9).await.len(), 3);

    assert_eq!(store.prune_deliveries(at(4)).await.unwrap(), 4);
    assert_eq!(names(&store.deliveries(&id("proj_a"), None, 9).await.unwrap()), whole[..1]);
    assert_eq!(store.forget_person(&[id("proj_b")], 7, at(DAY)).await.unwrap().sessions, 1);
    store.drop_deliveries(&id("proj_c")).await.unwrap();
    drop(store);
    for gone in [&told[1], &told[3], &dropped, &of_forgotten] {
        assert_eq!(keys_of(folder.path(), gone), 0, "{gone}");
    }
    assert_eq!(keys_of(folder.path(), &told[4]), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tells_of_a_forgotten_person_is_removed_and_the_end_of_their_request_told() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = store_with(folder.path(), &["proj_shop"]).await;
    let (told, sent) =
        (confirmed(&store, "proj_shop", at(0)).await, confirmed(&store, "proj_shop", at(0)).await);
    let claimed = claim(&store, "proj_shop", at(0), 9).await;
    let on_its_way = claimed.iter().find(|one| one.id == sent).unwrap();
    let pending = opened(&store, "proj_shop", at(1)).await;
    assert_eq!(store.forget_person(&[id("proj_shop")], 7, at(2)).await.unwrap().sessions, 3);
    for gone in [&told, &sent] {
        assert_eq!(store.delivery(gone).await.unwrap(), None);
    }
    let settled = store.settle_delivery(on_its_way, &attempted(on_its_way, 500, at(3))).await.unwrap();
    assert!(!settled, "an attempt under way does not bring it back");
    let left = store.deliveries(&id("proj_shop"), None, 9).await.unwrap();
    assert_eq!(names(&left), [DeliveryId::of(&pending.id, EventKind::Cancelled)]);
    assert!(!left[0].body.reveal().contains("Liddell"));
    assert_eq!(names(&claim(&store, "proj_shop", at(3), 9).await), names(&left));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_learns_of_something_to_send() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = store_with(folder.path(), &["proj_shop"]).await;
    let mut wakeup = store.subscribe_deliveries();
    let told = confirmed(&store, "proj_shop", at(0)).await;
    wakeup.changed().await;
    assert_eq!(store.projects_with_news(), [id("proj_shop")]);
    assert_eq!(store.projects_with_news(), [], "it was said");
    let claimed = claim(&store, "proj_shop", at(0), 9).await.remove(0);
    store.settle_delivery(&claimed, &attempted(&claimed, 200, at(0))).await.unwrap();
    let mut wakeup = store.subscribe_deliveries();
    store.replay_delivery(&told, at(5)).await.unwrap();
    wakeup.changed().await;
    assert_eq!(store.projects_with_news(), [id("proj_shop")]);
    assert_eq!(claim(&store, "proj_shop", at(5), 9).await.len(), 1);
}
