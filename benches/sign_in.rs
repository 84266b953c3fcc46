//! How long a person's tap takes to reach the app, and how many whole sign-ins fit into a second. Service and sandbox run
//! in this process; what is measured goes over real HTTP and real MTProto. `cargo bench --bench sign_in` prints a table
//! and judges nothing; `docs/performance.md` says what was seen where.
#![cfg(test)]
#![expect(
    clippy::print_stdout,
    reason = "a bench that meets the unexpected has failed, and its table is for whoever started it"
)]

#[path = "../tests/it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "tests need more of it than a bench")]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telegram_connector::lifecycle::Tasks;

use self::support::{App, Attempt, Options, World};

/// Sign-ins per row of latencies, one after another.
const EACH: usize = 1_000;
/// Sign-ins before anything is measured.
const WARM_UP: usize = 200;
/// People who sign in at the same time, and how often each does.
const PEOPLE: usize = 32;
const TIMES: usize = 100;
/// How often an app without `wait` polls.
const INTERVAL: Duration = Duration::from_secs(2);
const CONFIRM: &str = "✅ Confirm";

/// What everybody in the bench shares.
struct Stage {
    world: World,
    app: App,
    people: Vec<String>,
    browser: reqwest::Client,
}

/// How long each step of one whole sign-in took, in the order of [`STEPS`].
type Steps = [Duration; 5];
const STEPS: [&str; 5] =
    ["create", "open → prompt", "tap → tap answered", "poll that says confirmed", "consume"];

#[tokio::main]
async fn main() {
    let stage = Arc::new(Stage::new().await);
    for turn in 0..WARM_UP {
        stage.whole(stage.person(turn)).await;
    }
    println!("{EACH} sign-ins per row, one after another        p50        p99       mean");
    let mut waits = Vec::new();
    for turn in 0..EACH {
        waits.push(stage.by_wait(stage.person(turn)).await);
    }
    let waits = row("tap → answer of a held `wait` poll", waits);
    let mut streams = Vec::new();
    for turn in 0..EACH {
        streams.push(stage.by_stream(stage.person(turn)).await);
    }
    row("tap → `status` event of the stream", streams);
    // The next poll is anywhere within an interval: nothing to measure.
    let part = |of_hundred: u32| INTERVAL * of_hundred / 100 + waits;
    print_row("tap → answer, polling every 2 s (computed)", [part(50), part(99), part(50)]);

    let mut steps: Vec<Steps> = Vec::new();
    for turn in 0..EACH {
        steps.push(stage.whole(stage.person(turn)).await);
    }
    println!("\nthe steps of a sign-in, nothing held");
    rows(&steps);

    let (took, steps) = stage.at_once().await;
    let per_second = f64::from(u32::try_from(PEOPLE * TIMES).unwrap()) / took.as_secs_f64();
    println!("\n{PEOPLE} people at once, {TIMES} times each: {per_second:.0} whole sign-ins per second");
    rows(&steps);
    let Ok(Stage { world, .. }) = Arc::try_unwrap(stage) else { unreachable!("everybody has finished") };
    world.end().await;
}

impl Stage {
    async fn new() -> Self {
        let (world, _) = World::with_bot(Options::default()).await;
        world.bot_is("ok").await;
        let app = world.app(json!({ "name": "Bench" })).await;
        let mut people = Vec::new();
        for number in 0..PEOPLE {
            let phone = format!("+1555020{number:04}");
            let person = json!({ "phone": phone, "first_name": "Person", "lang_code": "en" });
            assert_eq!(world.sandbox.post("/api/accounts", &person).await.status, 200);
            people.push(phone);
        }
        let browser = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { world, app, people, browser }
    }

    fn person(&self, turn: usize) -> &str {
        &self.people[turn % PEOPLE]
    }

    /// Opens the link and waits for the prompt; its id.
    async fn prompt(&self, phone: &str, attempt: &Attempt) -> i64 {
        let opened = self.world.open(phone, &attempt.link).await;
        self.world.answer_to(phone, opened).await["id"].as_i64().unwrap()
    }

    /// Opens the link and taps; when the person tapped.
    async fn confirm(&self, phone: &str, attempt: &Attempt) -> Instant {
        let prompt = self.prompt(phone, attempt).await;
        let tapped = Instant::now();
        self.world.tap(phone, prompt, CONFIRM).await;
        tapped
    }

    /// From the tap to the answer of a poll that has been held since before the link was opened.
    async fn by_wait(&self, phone: &str) -> Duration {
        let attempt = self.app.attempt().await;
        let answered = async {
            let answer = self.app.wait(&attempt).await;
            (Instant::now(), answer)
        };
        let ((answered, answer), tapped) = tokio::join!(answered, self.confirm(phone, &attempt));
        assert_eq!(answer["status"], "confirmed");
        answered - tapped
    }

    /// From the tap to the event on a stream that has been open since before the link was.
    async fn by_stream(&self, phone: &str) -> Duration {
        let attempt = self.app.attempt().await;
        let told = async {
            let url = attempt.created["events_url"].as_str().unwrap();
            let mut stream = self.browser.get(url).send().await.unwrap();
            let mut told = None;
            while let Some(part) = stream.chunk().await.unwrap() {
                let part = String::from_utf8(part.to_vec()).unwrap();
                if part.contains(r#"{"status":"confirmed"}"#) {
                    told = Some(Instant::now());
                }
            }
            told.expect("the stream told it")
        };
        let (told, tapped) = tokio::join!(told, self.confirm(phone, &attempt));
        told - tapped
    }

    /// One whole sign-in: create, open, prompt, tap, confirmed poll, consume.
    async fn whole(&self, phone: &str) -> Steps {
        let begun = Instant::now();
        let attempt = self.app.attempt().await;
        let created = Instant::now();
        let prompt = self.prompt(phone, &attempt).await;
        let prompted = Instant::now();
        self.world.tap(phone, prompt, CONFIRM).await;
        let tapped = Instant::now();
        let confirmed = self.app.poll(&attempt).await;
        let polled = Instant::now();
        let consumed: Value = self.app.consume_proof(confirmed["proof"].as_str().unwrap()).await.json();
        let over = Instant::now();
        assert_eq!((&confirmed["status"], &consumed["status"]), (&json!("confirmed"), &json!("confirmed")));
        [created - begun, prompted - created, tapped - prompted, polled - tapped, over - polled]
    }

    /// Everybody at once, each one sign-in after another. How long it took in all.
    async fn at_once(self: &Arc<Self>) -> (Duration, Vec<Steps>) {
        let (tasks, begun) = (Tasks::new(), Instant::now());
        let signing_in: Vec<_> = (0..PEOPLE)
            .map(|person| {
                let stage = Arc::clone(self);
                tasks.spawn("person", async move {
                    let mut steps = Vec::new();
                    for _ in 0..TIMES {
                        steps.push(stage.whole(stage.person(person)).await);
                    }
                    steps
                })
            })
            .collect();
        let mut steps = Vec::new();
        for person in signing_in {
            steps.extend(person.await.unwrap());
        }
        (begun.elapsed(), steps)
    }
}

fn rows(steps: &[Steps]) {
    for (index, name) in STEPS.iter().enumerate() {
        row(name, steps.iter().map(|steps| steps[index]).collect());
    }
    row("all of it", steps.iter().map(|steps| steps.iter().sum()).collect());
}

/// Prints a row; the mean.
fn row(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let percentile = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap();
    print_row(name, [percentile(50), percentile(99), mean]);
    mean
}

fn print_row(name: &str, times: [Duration; 3]) {
    let [p50, p99, mean] = times.map(|time| format!("{:.2} ms", time.as_secs_f64() * 1_000.0));
    println!("{name:44} {p50:>10} {p99:>10} {mean:>10}");
}
