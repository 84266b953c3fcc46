//! kill -9 of the real program at any moment, again and again, while people sign in, an operator signs in and out, and a
//! webhook's receiver fails now and then. After each death the next process is judged: see [`judge`].
//!
//! `ROUNDS=1000 cargo test --test it crash -- --nocapture` goes on for longer, and `CRASH_SEED` repeats the choices of an
//! earlier run (not how the machine interleaves them).

mod embedded;
mod judge;
mod moments;
mod operator;
mod people;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use serde_json::json;
use telegram_connector::domain::ids::Ids;
use telegram_connector::lifecycle::os_seed;

use self::judge::{Developer, everything_is_told, judge};
use self::moments::{Life, Moment, Plan};
use self::operator::Operator;
use self::people::{Person, Shop};
use crate::support::{App, Options, Process, Receiver, Reply, World, eventually, files_with};

/// How often it is killed unless `ROUNDS` says otherwise.
const ROUNDS: u32 = 20;
const PEOPLE: usize = 4;
/// All stories are looked at after so many rounds; after the others, the newest are.
const ALL_EVERY: u32 = 100;

/// What was set up once and outlives every process.
struct Stage {
    world: World,
    receiver: Receiver,
    bot_token: String,
}

impl Stage {
    async fn new() -> Self {
        let world = World::without_service(Options::default()).await;
        for n in 0..PEOPLE {
            let person = json!({ "phone": phone(n), "first_name": format!("Planted Person {n}") });
            assert_eq!(world.sandbox.post("/api/accounts", &person).await.status, 200);
        }
        let bot_token = world.new_bot("login_bot").await.1;
        Self { world, receiver: Receiver::new().await, bot_token }
    }

    /// Starts the service on what the one before left.
    fn spawn(&self) -> Process {
        let folder = self.world.folder.path();
        let (data, sessions) = (folder.join("data"), self.world.session_folder());
        let sessions = format!("file:{}", sessions.display());
        let sandbox = format!("--sandbox={}", self.world.sandbox.url());
        let data = data.to_str().unwrap();
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, &sandbox];
        let environment = [
            ("CONNECTOR_BOOTSTRAP_EMAIL", "demo@example.com"),
            ("CONNECTOR_BOOTSTRAP_PASSWORD", "demo-password"),
            ("CONNECTOR_WEBHOOK_ALLOW", "127.0.0.0/8"),
            ("TELEGRAM_BOT_TOKEN", &self.bot_token),
        ];
        Process::spawn(&[&arguments[..], &["--session-store", &sessions]].concat(), &environment)
    }

    /// The project, made in a life of its own, and its developer.
    async fn project(&mut self) -> (App, Developer) {
        let process = self.spawn().serving();
        self.world.service = process.client.clone();
        let developer = Developer { bearer: format!("Bearer {}", self.world.developer().await) };
        let app = self.world.app(json!({ "webhook_url": self.receiver.url("/hook") })).await;
        bot_is_there(&process).await;
        process.kill();
        (app, developer)
    }

    /// What a receiver that is not well answers next.
    fn ail(&self, ids: &Ids) {
        for _ in 0..64 {
            self.receiver.answer_next(match ids.below(4) {
                0 => Reply::status(500),
                1 => Reply::hang_up(),
                _ => Reply::status(200),
            });
        }
    }

    /// Nothing planted is on the disk in the clear.
    fn no_secret_is_on_the_disk(&self, people: &[Person], app: &App) {
        let mut planted = vec!["Planted".to_owned(), app.secret.clone(), "demo-password".to_owned()];
        planted.push(self.bot_token.split(':').nth(1).unwrap().to_owned());
        planted.push(operator::PHONES.trim_start_matches('+').to_owned());
        for person in people {
            planted.push(person.phone.trim_start_matches('+').to_owned());
            planted.extend(person.stories.last().map(|story| story.attempt.token.clone()));
        }
        for folder in [self.world.folder.path().join("data"), self.world.session_folder()] {
            for secret in &planted {
                assert_eq!(
                    files_with(&folder, secret.as_bytes()),
                    Vec::<std::path::PathBuf>::new(),
                    "{secret}"
                );
            }
        }
    }
}

fn phone(n: usize) -> String {
    format!("+155503{n:05}")
}

async fn bot_is_there(process: &Process) {
    let bot = || async { process.client.get("/readyz").await.json()["bot"] == "ok" };
    eventually("the bot is there", bot).await;
}

/// Tells of every webhook that comes.
async fn watch_receiver(receiver: &Receiver, life: &Life) {
    let mut requests = receiver.subscribe();
    requests.mark_unchanged();
    while life.or_death(requests.changed()).await.is_some() {
        life.happened(Moment::WebhookCame);
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn seeded(seed: u64) -> Ids {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Ids::from_seed(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_is_invented_whenever_the_process_is_killed() {
    let rounds = number("ROUNDS").map_or(ROUNDS, |rounds| u32::try_from(rounds).unwrap());
    let fresh = || u64::from_le_bytes(*os_seed().unwrap().first_chunk().unwrap()) >> 16;
    let seed = number("CRASH_SEED").unwrap_or_else(fresh);
    eprintln!("CRASH_SEED={seed} ROUNDS={rounds}");
    let ids = seeded(seed);
    let mut stage = Stage::new().await;
    let (app, developer) = stage.project().await;
    let tried = AtomicU32::new(0);
    let mut people: Vec<Person> =
        (0..PEOPLE).map(|n| Person { phone: phone(n), stories: Vec::new() }).collect();
    let mut operator = Operator::new();
    let (mut table, begun) = (BTreeMap::<String, (u32, u32)>::new(), Instant::now());
    for round in 0..=rounds {
        let last = round == rounds;
        let plan = if last { Plan::Never } else { Plan::any(&ids) };
        eprintln!("round {round}: {plan:?}");
        let process = stage.spawn();
        if let Plan::Starting(millis) = plan {
            std::thread::sleep(std::time::Duration::from_millis(u64::from(millis)));
            process.kill();
            table.entry(plan.name()).or_default().0 += 1;
            continue;
        }
        let life = Life::new(process.serving(), plan);
        let all = last || round % ALL_EVERY == ALL_EVERY - 1;
        let shop = Shop { world: &stage.world, app: app.at(&life.client), tried: &tried, open: !last };
        operator.judge(&stage.world, &life).await;
        judge(&mut people, &shop, &life, &developer, all && !last).await;
        stage.ail(&ids);
        plan.prepare(&stage.world).await;
        let working = async {
            let stories = people.iter_mut().map(|person| person.live(&shop, &life));
            let stories = futures_util::future::join_all(stories);
            tokio::join!(stories, operator.live(&stage.world, &life, last));
            if !last {
                return;
            }
            judge(&mut people, &shop, &life, &developer, true).await;
            everything_is_told(&people, &shop, &life, &developer, &stage.receiver).await;
            life.kill(true);
        };
        tokio::join!(life.run(&stage.world), working, watch_receiver(&stage.receiver, &life));
        if all || round % 10 == 9 {
            stage.no_secret_is_on_the_disk(&people, &app);
        }
        let entry = table.entry(plan.name()).or_default();
        *(if life.as_planned.load(Ordering::SeqCst) { &mut entry.0 } else { &mut entry.1 }) += 1;
    }
    report(&people, &operator, &table, &stage, begun);
    assert!(operator.signed_in > 0 || rounds < 10, "the operator never signed in");
    if rounds >= ROUNDS {
        something_happened(&people, &table);
    }
    stage.world.end().await;
}

/// How many sign-ins there were, and how many were consumed before the eyes of their consumer.
fn sign_ins_and_consumed(people: &[Person]) -> (u32, u32) {
    let stories = people.iter().flat_map(|person| &person.stories);
    stories.fold((0, 0), |(all, taken), story| (all + 1, taken + u32::from(!story.taken.is_empty())))
}

/// A service that does nothing loses nothing; nothing would be shown by that.
fn something_happened(people: &[Person], table: &BTreeMap<String, (u32, u32)>) {
    let any_time = [Plan::Starting(0), Plan::After(0), Plan::Never].map(Plan::name);
    let awaited = table.iter().filter(|(moment, _)| !any_time.contains(moment));
    let as_planned: u32 = awaited.map(|(_, (as_planned, _))| as_planned).sum();
    assert!(
        as_planned > 0,
        "no moment that was waited for came: each of those processes was killed after 4 s"
    );
    let (sign_ins, consumed) = sign_ins_and_consumed(people);
    assert!(sign_ins > 0, "nobody began to sign in");
    assert!(consumed > 0, "none of {sign_ins} sign-ins was consumed");
}

fn report(
    people: &[Person],
    operator: &Operator,
    table: &BTreeMap<String, (u32, u32)>,
    stage: &Stage,
    begun: Instant,
) {
    let mut text = String::new();
    for (moment, (as_planned, otherwise)) in table {
        writeln!(text, "{as_planned:>5} {otherwise:>5}  {moment}").unwrap();
    }
    let (sign_ins, consumed) = sign_ins_and_consumed(people);
    eprintln!(
        "killed at (as planned, else after 4 s):\n{text}{sign_ins} sign-ins, {consumed} consumed before the eyes of their \
         consumer, {} of the operator, {} webhook requests, {} s",
        operator.signed_in,
        stage.receiver.requests().len(),
        begun.elapsed().as_secs()
    );
}
