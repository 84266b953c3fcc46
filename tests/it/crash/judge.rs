//! What must hold after every death, seen from outside: by the app, by its developer, by the receiver of its webhooks, by
//! the people, and on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::moments::Life;
use super::people::{Person, Shop, Story};
use crate::support::{App, Receiver, Reply, eventually};

/// How many of a person's newest stories are looked at after each round; all are at the end.
const RECENT: usize = 6;

/// The project's developer.
pub(super) struct Developer {
    pub(super) bearer: String,
}

impl Developer {
    async fn get(&self, life: &Life, path: &str) -> Value {
        let headers = [("authorization", self.bearer.as_str())];
        let answer = life.client.send("GET", path, &headers, None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The log of deliveries, newest first: all of it, or its first page.
    async fn deliveries(&self, life: &Life, app: &App, all: bool) -> Vec<Value> {
        let path = format!("/api/v1/dev/projects/{}/deliveries?limit=200", app.id);
        self.pages(life, &path, "deliveries", all).await
    }

    async fn pages(&self, life: &Life, path: &str, list: &str, all: bool) -> Vec<Value> {
        let (mut entries, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(life, &format!("{path}{cursor}")).await;
            entries.extend(page[list].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) if all => cursor = format!("&cursor={next}"),
                Some(_) | None => return entries,
            }
        }
    }
}

/// Every acknowledged session is there, and stands as it was acknowledged; nobody was asked twice; what was decided is to
/// be told, once; the counts are what happened.
pub(super) async fn judge(
    people: &mut [Person],
    shop: &Shop<'_>,
    life: &Life,
    developer: &Developer,
    all: bool,
) {
    for person in people.iter_mut() {
        let from = if all { 0 } else { person.stories.len().saturating_sub(RECENT) };
        for story in &mut person.stories[from..] {
            story.learn(shop, life).await.expect("it lives");
        }
        nobody_was_asked_twice(person, from, shop).await;
    }
    let decided = decided(people);
    let deliveries = developer.deliveries(life, &shop.app, all).await;
    let mut told = BTreeSet::new();
    for delivery in &deliveries {
        let session = delivery["session_id"].as_str().unwrap();
        let came_to = decided.get(session).unwrap_or_else(|| panic!("invented: {delivery}"));
        assert_eq!(delivery["event"], format!("auth.{came_to}"), "{delivery}");
        assert!(told.insert(session.to_owned()), "to be told twice: {delivery}");
    }
    for person in people.iter() {
        let from = if all { 0 } else { person.stories.len().saturating_sub(RECENT) };
        for story in person.stories[from..].iter().filter(|story| story.told.is_some()) {
            assert!(told.contains(&story.attempt.id()), "nobody is to be told of {story:?}");
        }
    }
    counts_are_right(people, shop, life, developer, all).await;
}

/// What sessions came to, by their id.
fn decided(people: &[Person]) -> BTreeMap<String, &'static str> {
    let stories = people.iter().flat_map(|person| &person.stories);
    let decided = stories.filter(|story| story.told.is_some());
    decided.map(|story| (story.attempt.id(), story.outcome())).collect()
}

/// Each link was answered once at most, and nothing else was said.
async fn nobody_was_asked_twice(person: &Person, from: usize, shop: &Shop<'_>) {
    let opened: BTreeSet<i64> = person.stories[from..].iter().filter_map(|story| story.opened).collect();
    let Some(first) = opened.first() else { return };
    let mut answers = BTreeMap::new();
    for message in shop.world.messages(&person.phone, first - 1).await {
        if message["out"] == false {
            let texts: &mut Vec<Value> = answers.entry(message["reply_to"].as_i64()).or_default();
            texts.push(message["text"].clone());
        }
    }
    for (link, texts) in answers {
        let of_link = |story: &&Story| story.opened == link;
        let taken_back = person.stories.iter().find(of_link).is_some_and(Story::is_taken_back);
        // Which message the prompt is, nobody knows who died before Telegram's answer: then that the app took it back is
        // said in a message of its own.
        let said_apart = |text: &Value| text.as_str().unwrap().contains("took the request back");
        let apart = usize::from(taken_back && texts.len() > 1 && texts.last().is_some_and(said_apart));
        assert_eq!(texts.len() - apart, 1, "{} was asked twice for {link:?}: {texts:?}", person.phone);
        assert!(link.is_some_and(|link| opened.contains(&link) || link < *first), "invented: {link:?}");
    }
}

/// Each sign-in is counted once, and so is what came of it.
async fn counts_are_right(
    people: &mut [Person],
    shop: &Shop<'_>,
    life: &Life,
    developer: &Developer,
    all: bool,
) {
    let path = format!("/api/v1/dev/analytics?days=90&project_id={}", shop.app.id);
    let funnel = developer.get(life, &path).await["funnel"].clone();
    let number = |field: &str| usize::try_from(funnel[field].as_u64().unwrap()).unwrap();
    // A decision that was asked for and not acknowledged may have happened since it was looked for.
    for person in people.iter_mut() {
        if let Some(story) = person.stories.last_mut() {
            story.learn(shop, life).await.expect("it lives");
        }
    }
    let stories: Vec<&Story> = people.iter().flat_map(|person| &person.stories).collect();
    let told = || stories.iter().filter(|one| one.told.is_some());
    for outcome in ["confirmed", "cancelled"] {
        let (counted, happened) = (number(outcome), told().filter(|one| one.outcome() == outcome).count());
        assert!(counted <= happened && counted + people.len() >= happened, "{happened} {outcome}: {funnel}");
        assert!(!all || counted == happened, "{happened} {outcome}: {funnel}");
    }
    let tried = usize::try_from(shop.tried.load(Ordering::SeqCst)).unwrap();
    let requested = number("requested");
    assert!((stories.len()..=tried).contains(&requested), "{} to {tried}: {funnel}", stories.len());
    if all {
        let path = format!("/api/v1/dev/sessions?limit=100&project_id={}", shop.app.id);
        let listed = developer.pages(life, &path, "sessions", true).await;
        let ids: BTreeSet<_> = listed.iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!((ids.len(), listed.len()), (requested, requested), "each is listed once");
        assert!(stories.iter().all(|story| ids.contains(story.attempt.id().as_str())));
    }
}

/// Has everything delivered that is to be told, and looks at what the receiver saw: each decision, nothing else, and what
/// came again was the same.
pub(super) async fn everything_is_told(
    people: &[Person],
    shop: &Shop<'_>,
    life: &Life,
    developer: &Developer,
    receiver: &Receiver,
) {
    receiver.answer_with(Reply::status(200));
    let headers = [("authorization", developer.bearer.as_str())];
    let over = || async {
        let log = developer.deliveries(life, &shop.app, true).await;
        for waiting in log.iter().filter(|one| one["state"] == "pending") {
            // Its next attempt may be a minute away.
            let path = format!("/api/v1/dev/deliveries/{}/replay", waiting["id"].as_str().unwrap());
            assert_eq!(life.client.send("POST", &path, &headers, None).await.status, 200);
        }
        log.iter().all(|one| one["state"] == "delivered")
    };
    eventually("everything is delivered", over).await;
    let stories = people.iter().flat_map(|person| &person.stories);
    let decided: BTreeMap<_, _> = stories.map(|story| (story.attempt.token.clone(), story)).collect();
    let mut seen: BTreeMap<String, (String, Vec<u8>)> = BTreeMap::new();
    let mut arrived = BTreeSet::new();
    for request in receiver.requests() {
        let body = request.json();
        let (token, event) = (body["session_token"].as_str().unwrap(), body["event"].as_str().unwrap());
        let story = decided.get(token).unwrap_or_else(|| panic!("told of what nobody asked for: {body}"));
        assert!(story.told.is_some() && event == format!("auth.{}", story.outcome()), "{event}: {story:?}");
        let this = (request.header("webhook-id").unwrap().to_owned(), request.body.clone());
        let first = seen.entry(token.to_owned()).or_insert_with(|| this.clone());
        assert_eq!(*first, this, "the same id and body again");
        if matches!(request.status, Some(200..=299)) {
            arrived.insert(token.to_owned());
        }
    }
    let lost: Vec<_> = decided.iter().filter(|(token, _)| !arrived.contains(*token)).collect();
    assert!(lost.is_empty(), "the receiver never took {lost:?}");
}
