//! What a store counts, lists and forgets (`store::LedgerStore`), sentence by sentence.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use telegram_connector::domain::auth_session::{
    Answer, AuthSession, Event, Person, Request, SessionToken, State, Status, Via,
};
use telegram_connector::domain::clock::Timestamp;
use telegram_connector::domain::ids::Ids;
use telegram_connector::domain::language::Language;
use telegram_connector::domain::ledger::{Day, Listing, Page, Tally};
use telegram_connector::domain::project::ProjectId;
use telegram_connector::store::{Applied, Store};

use crate::support::open_database;
use crate::support::open_store;
use crate::support::open_tree;

/// 2023-11-14, 22:13:20.
const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BOT: Via = Via { account: 500, bot: true };
const DAY: u64 = 24 * 3600;

fn at(seconds: u64) -> Timestamp {
    BEGIN.plus(Duration::from_secs(seconds))
}

fn project(name: &str) -> ProjectId {
    ProjectId::parse(name).unwrap()
}

fn session(ids: &Ids, of: &str, begin: Timestamp) -> AuthSession {
    let request = Request { nonce: Some("a nonce".to_owned()), ..Request::new(project(of), BOT) };
    AuthSession::new(SessionToken::new(ids), "watch".to_owned(), request, begin)
}

/// A session that is there, and what a person does with it.
async fn created(store: &Arc<dyn Store>, ids: &Ids, of: &str, begin: Timestamp) -> AuthSession {
    let session = session(ids, of, begin);
    store.insert_session(&session).await.unwrap();
    session
}

async fn apply(store: &Arc<dyn Store>, session: &AuthSession, event: Event, now: Timestamp) {
    let applied = store.apply(&session.id, &event, now).await.unwrap();
    assert!(matches!(applied, Applied::Done(_)), "{event:?}: {applied:?}");
}

async fn open_by(store: &Arc<dyn Store>, session: &AuthSession, person: i64) {
    let name = format!("Person {person}");
    let person = Person { id: person, access_hash: 3, name, username: Some("someone".to_owned()) };
    let open = Event::Open { person, via: BOT, message: 10, language: Language::En };
    apply(store, session, open, session.created_at).await;
}

async fn confirm_by(store: &Arc<dyn Store>, session: &AuthSession, person: i64) {
    open_by(store, session, person).await;
    let answer = Answer { person, via: BOT, message: 20, tapped: true };
    apply(store, session, Event::Confirm { answer, number: None }, session.created_at).await;
}

fn listing(of: &[&str], limit: usize) -> Listing {
    let projects = of.iter().map(|name| project(name)).collect();
    Listing { projects, status: None, before: None, limit }
}

fn ids_of(page: &Page) -> Vec<String> {
    page.sessions.iter().map(|session| session.id.to_string()).collect()
}

/// Every page of a list, put together.
async fn whole(store: &Arc<dyn Store>, mut listing: Listing, now: Timestamp) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let page = store.sessions(&listing, now).await.unwrap();
        assert!(page.sessions.len() <= listing.limit);
        all.extend(ids_of(&page));
        listing.before = page.next;
        if page.next.is_none() {
            return all;
        }
    }
}

async fn tally(store: &Arc<dyn Store>, of: &str) -> Tally {
    store.tally(&project(of)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_newest_first_and_what_follows_a_cursor_stays_while_new_ones_arrive() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    let mut expected = Vec::new();
    for n in 0..25 {
        // All in the same second, some at the same millisecond, and the clock goes back now and then.
        let begin = Timestamp::from_millis(BEGIN.as_millis() + i64::from(n % 7));
        let of = if n % 3 == 0 { "proj_b" } else { "proj_a" };
        expected.push((of, created(&store, &ids, of, begin).await.id.to_string()));
    }
    expected.reverse();
    let of = |names: &[&str]| -> Vec<String> {
        expected.iter().filter(|(of, _)| names.contains(of)).map(|(_, id)| id.clone()).collect()
    };
    assert_eq!(whole(&store, listing(&["proj_a", "proj_b"], 4), at(1)).await, of(&["proj_a", "proj_b"]));
    assert_eq!(whole(&store, listing(&["proj_b"], 4), at(1)).await, of(&["proj_b"]));
    assert_eq!(whole(&store, listing(&["proj_none"], 4), at(1)).await, Vec::<String>::new());

    let first = store.sessions(&listing(&["proj_a", "proj_b"], 10), at(1)).await.unwrap();
    for _ in 0..5 {
        created(&store, &ids, "proj_a", BEGIN).await;
    }
    let rest = Listing { before: first.next, ..listing(&["proj_a", "proj_b"], 100) };
    let together = [ids_of(&first), whole(&store, rest, at(1)).await].concat();
    assert_eq!(together, of(&["proj_a", "proj_b"]), "nothing twice, nothing left out");
    drop(store);
    let store = open_store(folder.path()).await;
    assert_eq!(whole(&store, listing(&["proj_b"], 2), at(1)).await, of(&["proj_b"]), "after a restart too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_by_status_finds_those_and_only_those() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    let pending = created(&store, &ids, "proj_a", at(300)).await;
    let confirmed = created(&store, &ids, "proj_a", BEGIN).await;
    confirm_by(&store, &confirmed, 7).await;
    let used = created(&store, &ids, "proj_a", BEGIN).await;
    confirm_by(&store, &used, 8).await;
    apply(&store, &used, Event::Consume { by_proof: false, receipt: None }, at(2)).await;
    let cancelled = created(&store, &ids, "proj_a", BEGIN).await;
    apply(&store, &cancelled, Event::CancelByServer, at(2)).await;
    // Nobody has noticed yet that its time is over.
    let expired = created(&store, &ids, "proj_a", BEGIN).await;
    for (status, expected) in [
        (Status::Pending, vec![&pending]),
        (Status::Confirmed, vec![&used, &confirmed]),
        (Status::Used, vec![&used]),
        (Status::Cancelled, vec![&cancelled]),
        (Status::Expired, vec![&expired]),
    ] {
        let listing = Listing { status: Some(status), ..listing(&["proj_a"], 1) };
        let expected: Vec<String> = expected.into_iter().map(|session| session.id.to_string()).collect();
        assert_eq!(whole(&store, listing, at(600)).await, expected, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_counted_once_and_expiry_although_nobody_asks() {
    let folder = tempfile::TempDir::new().unwrap();
    let ids = Ids::from_seed([1; 32]);
    let store = open_store(folder.path()).await;
    for person in [7, 8, 7] {
        let session = created(&store, &ids, "proj_a", BEGIN).await;
        confirm_by(&store, &session, person).await;
        if person == 8 {
            apply(&store, &session, Event::Consume { by_proof: false, receipt: None }, at(2)).await;
        }
    }
    let cancelled = created(&store, &ids, "proj_a", BEGIN).await;
    apply(&store, &cancelled, Event::CancelByServer, at(2)).await;
    created(&store, &ids, "proj_a", BEGIN).await;
    let opened = created(&store, &ids, "proj_a", BEGIN).await;
    open_by(&store, &opened, 9).await;
    created(&store, &ids, "proj_b", BEGIN).await;
    // The next day, 20 minutes after midnight.
    let later = created(&store, &ids, "proj_a", at(2 * 3600 + 400)).await;
    confirm_by(&store, &later, 7).await;

    let counted = Tally { created: 7, confirmed: 4, cancelled: 1, expired: 0 };
    assert_eq!(tally(&store, "proj_a").await, counted);
    drop(store);
    let store = open_store(folder.path()).await;
    assert_eq!(tally(&store, "proj_a").await, counted, "not again after a restart");
    let first = store.expire(at(599)).await.unwrap();
    assert_eq!((first.errands.len(), first.next), (0, at(600)));
    assert_eq!(store.expire(at(600)).await.unwrap().errands.len(), 1, "one was opened, its person is told");
    store.expire(at(DAY)).await.unwrap();
    assert_eq!(tally(&store, "proj_a").await, Tally { expired: 2, ..counted });
    assert_eq!(tally(&store, "proj_b").await, Tally { created: 1, expired: 1, ..Tally::default() });

    let today = Day::of(BEGIN);
    let days = store.day_counts(&project("proj_a"), today..=Day::of(at(DAY))).await.unwrap();
    let [first, second] = days.as_slice() else { panic!("{days:?}") };
    assert_eq!(first.tally, Tally { created: 6, confirmed: 3, cancelled: 1, expired: 2 });
    assert_eq!((first.day, first.people.count()), (today, 2));
    assert_eq!((second.tally.created, second.tally.confirmed, second.people.count()), (1, 1, 1));
    assert_eq!(first.people.clone().union(&second.people).count(), 2, "the same person on both days");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_create_decide_and_look_at_once_nothing_is_missed() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let workers = (0..8_u8).map(|worker| {
        let store = Arc::clone(&store);
        tokio::task::spawn(async move {
            let ids = Ids::from_seed([worker; 32]);
            for n in 0..40_i64 {
                let session = created(&store, &ids, "proj_a", BEGIN).await;
                if n % 2 == 0 {
                    confirm_by(&store, &session, 1 + n).await;
                }
                store.tally(&project("proj_a")).await.unwrap();
            }
        })
    });
    for worker in join_all(workers).await {
        worker.unwrap();
    }
    assert_eq!(tally(&store, "proj_a").await, Tally { created: 320, confirmed: 160, ..Tally::default() });
    let mut all = whole(&store, listing(&["proj_a"], 33), at(1)).await;
    assert_eq!(all.len(), 320);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 320);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_sessions_are_removed_and_the_counts_stay() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    let mut old = Vec::new();
    for n in 0..300 {
        let session = created(&store, &ids, "proj_a", BEGIN).await;
        if n % 10 == 0 {
            confirm_by(&store, &session, 7).await;
        }
        old.push(session);
    }
    let young = created(&store, &ids, "proj_a", at(DAY)).await;
    assert!(!store.prune(at(3600), at(DAY)).await.unwrap(), "what has not ended stays");
    assert!(store.session(&old[1].id).await.unwrap().is_some());
    store.expire(at(DAY + 1)).await.unwrap();
    let before = tally(&store, "proj_a").await;
    assert!(store.prune(at(3600), at(DAY)).await.unwrap(), "there are more");
    assert!(!store.prune(at(3600), at(DAY)).await.unwrap());
    for session in &old {
        assert_eq!(store.session(&session.id).await.unwrap(), None);
    }
    assert!(store.sessions_of_person(BOT, 7).await.unwrap().is_empty());
    assert_eq!(whole(&store, listing(&["proj_a"], 50), at(DAY)).await, [young.id.to_string()]);
    assert_eq!(tally(&store, "proj_a").await, before);
    assert_eq!((before.created, before.confirmed, before.expired), (301, 30, 270));
    drop(store);
    let store = open_store(folder.path()).await;
    store.expire(at(3 * DAY)).await.unwrap();
    assert_eq!(tally(&store, "proj_a").await.expired, 271);
}

/// They share entries of the log, and each of them has its own time all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_many_create_at_once_ends_and_is_removed_each_in_its_time() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    // Every other one by a clock that is a day ahead.
    let sessions: Vec<_> = (0..200).map(|n| session(&ids, "proj_a", at(n % 2 * DAY))).collect();
    let (early, late): (Vec<_>, Vec<_>) = sessions.iter().partition(|session| session.created_at == BEGIN);
    for inserted in join_all(sessions.iter().map(|session| store.insert_session(session))).await {
        inserted.unwrap();
    }
    let expire = async |now| {
        while store.expire(now).await.unwrap().next <= now {}
        tally(&store, "proj_a").await.expired
    };
    let left = async |sessions: &[&AuthSession]| {
        let mut left = 0;
        for session in sessions {
            left += usize::from(store.session(&session.id).await.unwrap().is_some());
        }
        left
    };
    assert_eq!(tally(&store, "proj_a").await.created, 200);
    assert_eq!(expire(at(600)).await, 100);
    while store.prune(at(3600), at(601)).await.unwrap() {}
    assert_eq!((left(&early).await, left(&late).await), (0, 100));
    assert_eq!(whole(&store, listing(&["proj_a"], 50), at(601)).await.len(), 100);
    assert_eq!(expire(at(DAY + 600)).await, 200);
    while store.prune(at(2 * DAY), at(3 * DAY)).await.unwrap() {}
    assert_eq!(left(&late).await, 0);
    drop(store);
    let database = open_database(folder.path());
    let tree = open_tree(&database, "sessions");
    assert_eq!((tree.prefix("c").count(), tree.prefix("f").count(), tree.prefix("l").count()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_person_is_nowhere_and_proves_nothing() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    let confirmed = created(&store, &ids, "proj_a", BEGIN).await;
    confirm_by(&store, &confirmed, 7).await;
    let used = created(&store, &ids, "proj_a", BEGIN).await;
    confirm_by(&store, &used, 7).await;
    apply(&store, &used, Event::Consume { by_proof: false, receipt: None }, at(2)).await;
    let pending = created(&store, &ids, "proj_a", BEGIN).await;
    open_by(&store, &pending, 7).await;
    let of_another = created(&store, &ids, "proj_a", BEGIN).await;
    confirm_by(&store, &of_another, 8).await;
    let elsewhere = created(&store, &ids, "proj_b", BEGIN).await;
    confirm_by(&store, &elsewhere, 7).await;

    let before = tally(&store, "proj_a").await;
    let forgotten = store.forget_person(&[project("proj_a")], 7, at(3)).await.unwrap();
    assert_eq!((forgotten.sessions, forgotten.errands.len()), (3, 1), "the pending one is taken back");
    for (session, status) in
        [(&confirmed, Status::Expired), (&used, Status::Used), (&pending, Status::Cancelled)]
    {
        let kept = store.session(&session.id).await.unwrap().unwrap();
        assert_eq!(kept.status(at(3)), status);
        let person = &kept.opening.as_ref().unwrap().person;
        assert_eq!((person.id, person.name.as_str(), &person.username, &kept.nonce), (0, "", &None, &None));
    }
    let consume = Event::Consume { by_proof: true, receipt: None };
    assert!(matches!(store.apply(&confirmed.id, &consume, at(4)).await.unwrap(), Applied::Refused(..)));
    assert_eq!(store.forget_person(&[project("proj_a")], 7, at(5)).await.unwrap().sessions, 0);
    let after = tally(&store, "proj_a").await;
    assert_eq!(after, Tally { cancelled: before.cancelled + 1, ..before });
    for (session, name) in [(&of_another, "Person 8"), (&elsewhere, "Person 7")] {
        let kept = store.session(&session.id).await.unwrap().unwrap();
        assert_eq!(
            (kept.status(at(3)), kept.opening.unwrap().person.name.as_str()),
            (Status::Confirmed, name)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleared_project_leaves_nothing() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    let unopened = created(&store, &ids, "proj_a", BEGIN).await;
    let opened = created(&store, &ids, "proj_a", BEGIN).await;
    open_by(&store, &opened, 7).await;
    let other = created(&store, &ids, "proj_ab", BEGIN).await;
    let errands = store.clear_project(&project("proj_a"), at(1)).await.unwrap();
    assert_eq!(errands.len(), 1, "who opened it is told");
    assert!(store.clear_project(&project("proj_a"), at(1)).await.unwrap().is_empty());
    let kept = store.session(&opened.id).await.unwrap().unwrap();
    assert!(matches!(kept.state, State::Cancelled { .. }) && kept.forgotten);
    assert!(!store.remove_cleared(&project("proj_a"), BEGIN).await.unwrap(), "somebody is still to be told");
    assert_eq!(store.session(&unopened.id).await.unwrap(), None);
    assert!(store.remove_cleared(&project("proj_a"), at(DAY)).await.unwrap());
    assert_eq!(store.session(&opened.id).await.unwrap(), None);
    assert_eq!(tally(&store, "proj_a").await, Tally::default());
    assert_eq!(store.session(&other.id).await.unwrap().unwrap().state, State::Pending);
    assert_eq!(tally(&store, "proj_ab").await.created, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_clock_ahead_of_its_time_keeps_nobody_else_from_their_end() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    let ahead = created(&store, &ids, "proj_a", at(400 * DAY)).await;
    for _ in 0..3 {
        created(&store, &ids, "proj_a", at(1)).await;
    }
    assert_eq!(store.expire(at(2)).await.unwrap().next, at(601));
    store.expire(at(601)).await.unwrap();
    assert_eq!(tally(&store, "proj_a").await.expired, 3);
    drop(store);
    let store = open_store(folder.path()).await;
    assert!(!store.prune(at(2 * DAY), at(3 * DAY)).await.unwrap());
    assert_eq!(whole(&store, listing(&["proj_a"], 50), at(3 * DAY)).await, [ahead.id.to_string()]);
    created(&store, &ids, "proj_a", at(3 * DAY)).await;
    store.expire(at(3 * DAY + 600)).await.unwrap();
    assert_eq!(tally(&store, "proj_a").await.expired, 4);
    // Its own time comes too.
    store.expire(at(400 * DAY + 600)).await.unwrap();
    assert_eq!(tally(&store, "proj_a").await, Tally { created: 5, expired: 5, ..Tally::default() });
    while store.prune(at(500 * DAY), at(501 * DAY)).await.unwrap() {}
    assert_eq!(store.session(&ahead.id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_counted_although_the_newest_were_removed_and_the_clock_went_back() {
    let folder = tempfile::TempDir::new().unwrap();
    let ids = Ids::from_seed([1; 32]);
    {
        let store = open_store(folder.path()).await;
        created(&store, &ids, "proj_a", at(10 * DAY)).await;
        store.expire(at(10 * DAY + 600)).await.unwrap();
        store.clear_project(&project("proj_a"), at(11 * DAY)).await.unwrap();
        assert!(store.remove_cleared(&project("proj_a"), at(11 * DAY)).await.unwrap());
    }
    let store = open_store(folder.path()).await;
    let session = created(&store, &ids, "proj_b", at(1)).await;
    assert_eq!(tally(&store, "proj_b").await.created, 1);
    assert_eq!(whole(&store, listing(&["proj_b"], 5), at(2)).await, [session.id.to_string()]);
    store.expire(at(601)).await.unwrap();
    assert_eq!(tally(&store, "proj_b").await.expired, 1);
}

/// Overwrites what is kept below keys that begin like this.
fn damage(folder: &Path, prefix: &[u8]) {
    let database = open_database(folder);
    let tree = open_tree(&database, "sessions");
    let keys: Vec<_> = tree.prefix(prefix).map(|entry| entry.key().unwrap()).collect();
    assert!(!keys.is_empty());
    for key in keys {
        tree.insert(key, b"\x01nonsense").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_stops_nobody_else() {
    let folder = tempfile::TempDir::new().unwrap();
    let ids = Ids::from_seed([1; 32]);
    let (broken, whole_one);
    {
        let store = open_store(folder.path()).await;
        broken = created(&store, &ids, "proj_a", BEGIN).await;
        whole_one = created(&store, &ids, "proj_a", BEGIN).await;
        open_by(&store, &broken, 7).await;
        open_by(&store, &whole_one, 7).await;
        assert_eq!(tally(&store, "proj_a").await.created, 2);
    }
    damage(folder.path(), [b"s", broken.id.as_str().as_bytes()].concat().as_slice());
    damage(folder.path(), b"tproj_a");
    let store = open_store(folder.path()).await;
    assert_eq!(whole(&store, listing(&["proj_a"], 5), at(1)).await, [whole_one.id.to_string()]);
    let of_person = store.sessions_of_person(BOT, 7).await.unwrap();
    assert_eq!(of_person.iter().map(|one| &one.id).collect::<Vec<_>>(), [&whole_one.id]);
    assert!(store.tally(&project("proj_a")).await.is_err(), "what is damaged is not made up");
    let answer = Answer { person: 7, via: BOT, message: 20, tapped: true };
    apply(&store, &whole_one, Event::Confirm { answer, number: None }, at(2)).await;
    created(&store, &ids, "proj_b", at(1)).await;
    store.expire(at(700)).await.unwrap();
    assert_eq!(tally(&store, "proj_b").await, Tally { created: 1, expired: 1, ..Tally::default() });
    assert_eq!(tally(&store, "proj_a").await.confirmed, 1, "counting began anew");
    assert!(!store.prune(at(DAY), at(DAY)).await.unwrap());
    assert_eq!(store.session(&broken.id).await.unwrap(), None, "it is removed like the others");
    assert_eq!(whole(&store, listing(&["proj_a", "proj_b"], 5), at(DAY)).await, Vec::<String>::new());
}
