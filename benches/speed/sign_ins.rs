//! Whole sign-ins through the sandbox, as many people at once as there are: create, open, prompt, tap, the poll that says
//! confirmed, consume. Everything is on this machine: the service, the sandbox in its process, the people and their apps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telegram_connector::lifecycle::Tasks;

use super::load::{Connection, get, post};
use super::median;
use super::service::{App, Service};

const ROUNDS: usize = 5;
const LASTS: Duration = Duration::from_secs(4);
/// How many people sign in at the same time, each again and again.
const CROWDS: [usize; 3] = [1, 32, 128];

const STEPS: [&str; 6] =
    ["create", "open", "opened → prompt", "tap → tap answered", "poll that says confirmed", "consume"];
type Steps = [Duration; STEPS.len()];

pub(crate) async fn table() {
    let service = Service::start(&[]).await;
    let mut people = Vec::new();
    for number in 0..CROWDS.into_iter().max().unwrap_or_default() {
        people.push(Person::new(&service, number).await);
    }
    println!("| people at once | sign-ins per second | server's processor time of each, µs | mean | p99 |");
    println!("|---|---|---|---|---|");
    let mut seen = Vec::new();
    for crowd in CROWDS {
        // One round to warm up.
        crowd_signs_in(&service, &mut people, crowd).await;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(crowd_signs_in(&service, &mut people, crowd).await);
        }
        let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
        let (per_second, micros) = (of(|round| round.per_second), of(|round| round.server_micros));
        let mut steps: Vec<Steps> = rounds.into_iter().flat_map(|round| round.steps).collect();
        let (mean, p99) = figures(&mut steps, |steps| steps.iter().sum());
        println!("| {crowd} | {per_second:.0} | {micros:.0} | {mean} | {p99} |");
        seen.push((crowd, steps));
    }
    for (crowd, mut steps) in seen {
        println!("\nThe steps with {crowd} at once, mean and p99:\n");
        for (index, name) in STEPS.iter().enumerate() {
            let (mean, p99) = figures(&mut steps, |steps| steps[index]);
            println!("- {name}: {mean}, {p99}");
        }
    }
}

/// What one round came to.
struct Round {
    per_second: f64,
    server_micros: f64,
    steps: Vec<Steps>,
}

/// So many people sign in again and again.
async fn crowd_signs_in(service: &Service, people: &mut Vec<Person>, crowd: usize) -> Round {
    let (tasks, cpu, begun) = (Tasks::new(), service.process.cpu(), Instant::now());
    let signing_in: Vec<_> = people
        .drain(..crowd)
        .map(|mut person| {
            tasks.spawn("person", async move {
                let mut steps = Vec::new();
                while begun.elapsed() < LASTS {
                    steps.push(person.signs_in().await);
                }
                (person, steps)
            })
        })
        .collect();
    let mut steps = Vec::new();
    for signing_in in signing_in {
        let (person, theirs) = signing_in.await.unwrap();
        people.push(person);
        steps.extend(theirs);
    }
    let (took, cpu) = (begun.elapsed(), service.process.cpu().saturating_sub(cpu));
    let number = f64::from(u32::try_from(steps.len()).unwrap());
    Round { per_second: number / took.as_secs_f64(), server_micros: cpu.as_secs_f64() * 1e6 / number, steps }
}

/// Somebody with a phone, in front of an app.
pub(crate) struct Person {
    phone: String,
    app: Arc<App>,
    create: Vec<u8>,
    /// The app's connection to the service.
    service: Connection,
    /// The phone's connection to Telegram.
    telegram: Connection,
}

/// A session that waits for its person.
pub(crate) struct Attempt {
    pub(crate) token: String,
    pub(crate) events: String,
    link: String,
}

impl Person {
    pub(crate) async fn new(service: &Service, number: usize) -> Self {
        let phone = format!("+1555020{number:04}");
        let mut telegram = Connection::open(service.sandbox).await;
        let new = json!({ "phone": phone, "first_name": "Person", "lang_code": "en" }).to_string();
        telegram.json(&post("/api/accounts", &new, None)).await;
        let app = Arc::new(service.app.clone());
        let address: SocketAddr = service.process.address();
        Self { phone, create: app.create(), app, service: Connection::open(address).await, telegram }
    }

    /// The app asks for a session.
    pub(crate) async fn asks(&mut self) -> Attempt {
        let created = self.service.json(&self.create).await;
        let text = |field: &str| created[field].as_str().unwrap().to_owned();
        let events = text("events_url");
        let path = events.find("/api/").map_or("", |path| &events[path..]).to_owned();
        Attempt { token: text("session_token"), events: path, link: text("deeplink") }
    }

    /// Opens the link; the id of the message that this sent.
    pub(crate) async fn opens(&mut self, attempt: &Attempt) -> i64 {
        let open = json!({ "link": attempt.link }).to_string();
        let path = format!("/api/accounts/{}/open", self.phone);
        self.telegram.json(&post(&path, &open, None)).await["message_id"].as_i64().unwrap()
    }

    /// Waits for what the bot says after a message: the id of the prompt.
    pub(crate) async fn is_asked(&mut self, opened: i64) -> i64 {
        let path = format!("/api/accounts/{}/messages?after={opened}&wait=25", self.phone);
        let messages = self.telegram.json(&get(&path)).await;
        let prompts = messages.as_array().unwrap().iter();
        let mut prompts =
            prompts.filter(|message| message["buttons"] != json!([]) && message["out"] == false);
        prompts.next().unwrap_or_else(|| panic!("no prompt: {messages}"))["id"].as_i64().unwrap()
    }

    /// Taps the button; returns when the bot has answered.
    pub(crate) async fn taps(&mut self, prompt: i64) {
        let tap = json!({ "message_id": prompt, "button": "✅ Confirm" }).to_string();
        self.telegram.json(&post(&format!("/api/accounts/{}/tap", self.phone), &tap, None)).await;
    }

    /// One whole sign-in.
    async fn signs_in(&mut self) -> Steps {
        let begun = Instant::now();
        let attempt = self.asks().await;
        let created = Instant::now();
        let message = self.opens(&attempt).await;
        let opened = Instant::now();
        let prompt = self.is_asked(message).await;
        let asked = Instant::now();
        self.taps(prompt).await;
        let tapped = Instant::now();
        let confirmed = self.service.json(&self.app.poll(&attempt.token)).await;
        let polled = Instant::now();
        assert_eq!(confirmed["status"], "confirmed", "{confirmed}");
        let consumed: Value =
            self.service.json(&self.app.consume(confirmed["proof"].as_str().unwrap())).await;
        let over = Instant::now();
        assert_eq!(consumed["status"], "confirmed", "{consumed}");
        [created - begun, opened - created, asked - opened, tapped - asked, polled - tapped, over - polled]
    }
}

/// Mean and 99th percentile of one figure of many.
fn figures<T>(of: &mut [T], figure: impl Fn(&T) -> Duration) -> (String, String) {
    of.sort_by_key(&figure);
    let mean = of.iter().map(&figure).sum::<Duration>() / u32::try_from(of.len()).unwrap();
    (millis(mean), millis(figure(&of[(of.len() * 99).div_ceil(100) - 1])))
}

pub(crate) fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}
