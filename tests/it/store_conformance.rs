//! What every store promises (`store::Store`), sentence by sentence. Run for the embedded one; Postgres joins when it comes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use telegram_connector::domain::account::Mode;
use telegram_connector::domain::auth_session::{
    Answer, AuthSession, Event, Person, Request, SessionToken, State, Status, Via,
};
use telegram_connector::domain::clock::Timestamp;
use telegram_connector::domain::developer::{
    AccessToken, Developer, DeveloperId, Email, Grant, KeptPassword, Workspace,
};
use telegram_connector::domain::errand::{Errand, Reply, Task};
use telegram_connector::domain::ids::{Ids, Secret};
use telegram_connector::domain::language::Language;
use telegram_connector::domain::project::{Project, ProjectId, ProjectSettings, SigningSecret};
use telegram_connector::store::{Applied, Store};

use crate::support::open_store;

const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const BOT: Via = Via { account: 500, bot: true };
const ALICE: i64 = 7;

fn at(seconds: u64) -> Timestamp {
    BEGIN.plus(Duration::from_secs(seconds))
}

fn session(ids: &Ids, begin: Timestamp) -> AuthSession {
    let request = Request::new(ProjectId::parse("proj_demo").unwrap(), BOT);
    AuthSession::new(SessionToken::new(ids), "watch".to_owned(), request, begin)
}

fn opened_by(person: i64, message: i32) -> Event {
    let person = Person { id: person, access_hash: 3, name: "Alice Liddell".to_owned(), username: None };
    Event::Open { person, via: BOT, message, language: Language::En }
}

fn yes() -> Event {
    let answer = Answer { person: ALICE, via: BOT, message: 20, tapped: true };
    Event::Confirm { answer, number: None }
}

fn no() -> Event {
    Event::Cancel(Answer { person: ALICE, via: BOT, message: 20, tapped: true })
}

async fn done(store: &Arc<dyn Store>, session: &AuthSession, event: Event, now: Timestamp) -> Vec<Errand> {
    match store.apply(&session.id, &event, now).await.unwrap() {
        Applied::Done(step) => step.errands,
        other @ (Applied::Refused(..) | Applied::Unknown) => panic!("{event:?}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_what_follows_from_its_events_survive_a_restart() {
    let folder = tempfile::TempDir::new().unwrap();
    let ids = Ids::from_seed([1; 32]);
    let session = session(&ids, BEGIN);
    let prompt = {
        let store = open_store(folder.path()).await;
        assert_eq!(store.session(&session.id).await.unwrap(), None);
        store.insert_session(&session).await.unwrap();
        assert_eq!(store.session(&session.id).await.unwrap().as_ref(), Some(&session));
        let errands = done(&store, &session, opened_by(ALICE, 10), at(1)).await;
        assert_eq!(store.errands().await.unwrap(), errands);
        errands.into_iter().next().unwrap()
    };
    let store = open_store(folder.path()).await;
    assert_eq!(store.errands().await.unwrap(), std::slice::from_ref(&prompt));
    store.finish_errand(&prompt, Some(&Event::PromptSent(Some(20))), at(2)).await.unwrap();
    assert_eq!(store.errands().await.unwrap(), []);
    done(&store, &session, yes(), at(3)).await;
    drop(store);
    let store = open_store(folder.path()).await;
    let kept = store.session(&session.id).await.unwrap().unwrap();
    assert_eq!((kept.status(at(3)), kept.opening.unwrap().prompt), (Status::Confirmed, Some(20)));
    assert!(matches!(store.errands().await.unwrap().as_slice(), [Errand { task: Task::Outcome { .. }, .. }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_events_that_race_exactly_one_wins() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    for round in 0..20 {
        let session = session(&ids, BEGIN);
        store.insert_session(&session).await.unwrap();
        done(&store, &session, opened_by(ALICE, 10), at(1)).await;
        let events = [yes(), no(), Event::CancelByServer, Event::Expire];
        // Just in time for three of them, and just too late for the others.
        let racers = (0..64).map(|n| {
            let (store, id) = (Arc::clone(&store), session.id.clone());
            let event = events[n % events.len()].clone();
            let now = if matches!(event, Event::Expire) { at(600) } else { at(599) };
            tokio::task::spawn(async move { store.apply(&id, &event, now).await.unwrap() })
        });
        let outcomes = futures_util::future::join_all(racers).await;
        let winners: Vec<_> = outcomes
            .into_iter()
            .filter(|outcome| matches!(outcome.as_ref().unwrap(), Applied::Done(_)))
            .collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let outcomes = store.errands().await.unwrap();
        let of_session = |errand: &&Errand| {
            errand.session() == Some(&session.id) && matches!(errand.task, Task::Outcome { .. })
        };
        assert_eq!(outcomes.iter().filter(of_session).count(), 1, "round {round}");
        let kept = store.session(&session.id).await.unwrap().unwrap();
        assert_ne!(kept.state, State::Pending);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_callers_one_consumes() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let session = session(&Ids::from_seed([1; 32]), BEGIN);
    store.insert_session(&session).await.unwrap();
    done(&store, &session, opened_by(ALICE, 10), at(1)).await;
    done(&store, &session, yes(), at(2)).await;
    let callers = (0..64).map(|_| {
        let (store, id) = (Arc::clone(&store), session.id.clone());
        let consume = Event::Consume { by_proof: false, receipt: None };
        tokio::task::spawn(async move { store.apply(&id, &consume, at(3)).await.unwrap() })
    });
    let outcomes = futures_util::future::join_all(callers).await;
    let winners = outcomes.iter().filter(|outcome| matches!(outcome.as_ref().unwrap(), Applied::Done(_)));
    assert_eq!(winners.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_sessions_are_found_newest_first_whatever_came_of_them() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    let sessions = [session(&ids, BEGIN), session(&ids, at(1)), session(&ids, at(2))];
    for (n, one) in sessions.iter().enumerate() {
        store.insert_session(one).await.unwrap();
        let person = if n == 1 { 8 } else { ALICE };
        done(&store, one, opened_by(person, 10 + i32::try_from(n).unwrap()), at(3 + n as u64)).await;
    }
    let ids_of = |found: Vec<AuthSession>| found.into_iter().map(|one| one.id).collect::<Vec<_>>();
    let [first, second, third] = &sessions;
    let found = store.sessions_of_person(BOT, ALICE).await.unwrap();
    assert_eq!(ids_of(found), [third.id.clone(), first.id.clone()]);
    let elsewhere = Via { account: 501, bot: true };
    assert!(store.sessions_of_person(elsewhere, ALICE).await.unwrap().is_empty());

    // One of them by the message that opened it, whether others were opened since or not.
    for (via, person, message, meant) in [
        (BOT, ALICE, 10, Some(first)),
        (BOT, ALICE, 12, Some(third)),
        (BOT, 8, 11, Some(second)),
        (BOT, ALICE, 11, None),
        (elsewhere, ALICE, 10, None),
    ] {
        let found = store.session_opened_with(via, person, message).await.unwrap();
        assert_eq!(found.map(|one| one.id), meant.map(|one| one.id.clone()));
    }

    // A decided one stays, so that an answer told twice is known again.
    done(&store, third, yes(), at(6)).await;
    assert_eq!(store.sessions_of_person(BOT, ALICE).await.unwrap().len(), 2);
    let expired = store.expire(at(600)).await.unwrap();
    assert_eq!(expired.errands.len(), 1, "only the first was due and undecided");
    assert_eq!(expired.next, at(601));
    let rest = store.expire(at(602)).await.unwrap();
    assert_eq!((rest.errands.len(), rest.next), (1, at(1202)), "the second; the third was decided");
    assert_eq!(store.sessions_of_person(BOT, ALICE).await.unwrap().len(), 2);
    assert_eq!(store.session(&third.id).await.unwrap().unwrap().status(at(602)), Status::Confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_finds_the_session_that_begins_with_it() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    let (one, other) = (session(&ids, BEGIN), session(&ids, BEGIN));
    store.insert_session(&one).await.unwrap();
    assert_eq!(store.session_of_code(&one.id.typed_code()).await.unwrap(), Some(one.id.clone()));
    assert_eq!(store.session_of_code(&other.id.typed_code()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_wakes_who_waits_for_that_session_and_nobody_else() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let ids = Ids::from_seed([1; 32]);
    let (one, other) = (session(&ids, BEGIN), session(&ids, BEGIN));
    for session in [&one, &other] {
        store.insert_session(session).await.unwrap();
    }
    let (mut waiting, mut asleep) = (store.subscribe(&one.id), store.subscribe(&other.id));
    let mut second = store.subscribe(&one.id);
    drop(store.subscribe(&one.id));
    done(&store, &one, opened_by(ALICE, 10), at(1)).await;
    waiting.changed().await;
    second.changed().await;
    let patience = Duration::from_millis(20);
    assert!(tokio::time::timeout(patience, asleep.changed()).await.is_err());
    // A refused event changes nothing.
    assert!(matches!(store.apply(&one.id, &Event::Expire, at(2)).await.unwrap(), Applied::Refused(..)));
    assert!(tokio::time::timeout(patience, waiting.changed()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn errands_come_back_oldest_first_and_leave_one_by_one() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = open_store(folder.path()).await;
    let errand = |n: u64| Errand {
        via: BOT,
        person: ALICE,
        access_hash: 0,
        random_id: Errand::random_id(&[b"test", &n.to_le_bytes()]),
        task: Task::Reply { to: 1, says: Reply::Expired, language: Language::Ru },
        created_at: at(n),
        not_after: at(n + 600),
    };
    for n in [3, 1, 2] {
        store.put_errand(&errand(n)).await.unwrap();
    }
    assert_eq!(store.errands().await.unwrap(), [errand(1), errand(2), errand(3)]);
    store.finish_errand(&errand(2), None, at(4)).await.unwrap();
    store.finish_errand(&errand(2), None, at(4)).await.unwrap();
    assert_eq!(store.errands().await.unwrap(), [errand(1), errand(3)]);
}

fn developer(ids: &Ids, password: &str) -> Developer {
    let password = KeptPassword::new(&Secret::new(password.to_owned()), ids, &mut Workspace::default());
    let email = Email::parse("demo@example.com").unwrap();
    Developer { id: DeveloperId::new(ids), email, password: password.unwrap(), created_at: BEGIN }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_developer_who_is_reset_has_no_tokens_and_others_keep_theirs() {
    let (folder, ids) = (tempfile::TempDir::new().unwrap(), Ids::from_seed([1; 32]));
    let (before, other) = (developer(&ids, "a-first-password"), DeveloperId::new(&ids));
    let tokens: Vec<_> = (0..4).map(|_| AccessToken::new(&ids)).collect();
    let after = Developer { password: developer(&ids, "another-password").password, ..before.clone() };
    {
        let store = open_store(folder.path()).await;
        assert!(store.insert_developer(&before).await.unwrap());
        for (token, developer) in tokens.iter().zip([&before.id, &other, &before.id, &before.id]) {
            let grant = Grant { developer: developer.clone(), expires_at: at(60) };
            store.insert_grant(token, &grant).await.unwrap();
        }
        store.reset_developer(&after).await.unwrap();
    }
    let store = open_store(folder.path()).await;
    assert_eq!(store.developer_by_email(&before.email).await.unwrap(), Some(after));
    let mut left = Vec::new();
    for token in &tokens {
        left.push(store.grant(token, at(1)).await.unwrap().map(|grant| grant.developer));
    }
    assert_eq!(left, [None, Some(other), None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_developers_and_tokens_are_kept_and_unique() {
    let folder = tempfile::TempDir::new().unwrap();
    let ids = Ids::from_seed([1; 32]);
    let developer = developer(&ids, "demo-password");
    let project = Project::new(
        ProjectId::new(&ids),
        developer.id.clone(),
        SigningSecret::new(Mode::Sandbox, &ids),
        ProjectSettings::named("Demo".to_owned()),
        BEGIN,
    );
    let token = AccessToken::new(&ids);
    {
        let store = open_store(folder.path()).await;
        assert!(store.insert_developer(&developer).await.unwrap());
        let twin = Developer { id: DeveloperId::new(&ids), ..developer.clone() };
        assert!(!store.insert_developer(&twin).await.unwrap(), "one developer an address");
        assert!(store.insert_project(&project).await.unwrap());
        assert!(!store.insert_project(&project).await.unwrap());
        let grant = Grant { developer: developer.id.clone(), expires_at: at(60) };
        store.insert_grant(&token, &grant).await.unwrap();
    }
    let store = open_store(folder.path()).await;
    assert_eq!(store.developer_by_email(&developer.email).await.unwrap(), Some(developer.clone()));
    assert_eq!(*store.project(&project.id).await.unwrap().unwrap(), project);
    assert_eq!(store.projects().await.unwrap().len(), 1);
    assert_eq!(store.grant(&token, at(59)).await.unwrap().unwrap().developer, developer.id);
    assert_eq!(store.grant(&token, at(60)).await.unwrap(), None);
    assert_eq!(store.grant(&AccessToken::new(&ids), at(1)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_have_ended_are_not_kept() {
    let folder = tempfile::TempDir::new().unwrap();
    let ids = Ids::from_seed([1; 32]);
    let store = open_store(folder.path()).await;
    let developer = DeveloperId::new(&ids);
    let mut tokens = Vec::new();
    for seconds in [60, 61] {
        let token = AccessToken::new(&ids);
        let grant = Grant { developer: developer.clone(), expires_at: at(seconds) };
        store.insert_grant(&token, &grant).await.unwrap();
        tokens.push(token);
    }
    store.delete_ended_grants(at(60)).await.unwrap();
    // To the store it is a moment before both: one is there, the other is not.
    assert_eq!(store.grant(&tokens[0], at(59)).await.unwrap(), None);
    assert_eq!(store.grant(&tokens[1], at(59)).await.unwrap().unwrap().expires_at, at(61));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_and_nothing_secret_is_on_disk_in_the_clear() {
    let folder = tempfile::TempDir::new().unwrap();
    let ids = Ids::from_seed([1; 32]);
    let session = session(&ids, BEGIN);
    let project_secret = SigningSecret::new(Mode::Sandbox, &ids);
    let person = 5_123_456_789_i64;
    {
        let store = open_store(folder.path()).await;
        store.insert_session(&session).await.unwrap();
        done(&store, &session, opened_by(person, 10), at(1)).await;
        let project = Project::new(
            ProjectId::new(&ids),
            DeveloperId::new(&ids),
            project_secret.clone(),
            ProjectSettings::named("Demo".to_owned()),
            BEGIN,
        );
        store.insert_project(&project).await.unwrap();
    }
    let mut contents = Vec::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { contents.extend(std::fs::read(path).unwrap()) }
        }
    }
    let found = |needle: &[u8]| contents.windows(needle.len()).any(|window| window == needle);
    assert!(found(session.id.as_str().as_bytes()), "the search itself works");
    let secrets: BTreeSet<Vec<u8>> = [
        session.token().reveal().reveal().as_bytes().to_vec(),
        project_secret.reveal().as_bytes().to_vec(),
        b"Liddell".to_vec(),
        person.to_string().into_bytes(),
        person.to_be_bytes().to_vec(),
        person.to_le_bytes().to_vec(),
    ]
    .into();
    for secret in secrets {
        assert!(!found(&secret), "{}", String::from_utf8_lossy(&secret));
    }
}
