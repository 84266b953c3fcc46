//! Half an hour of whole sign-ins on the real program: memory, files and disk must stay level. Run by hand:
//! `SOAK_MINUTES=30 cargo test --test it soak -- --ignored --nocapture`; what was seen is in `docs/reliability.md`.
//!
//! Business time runs ahead, a day with every sample, so that retention removes what it would remove in weeks and the
//! store reaches its steady state. People delete their chats, so that the sandbox in the same process does not grow.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telegram_connector::lifecycle::network_sleep;
use tokio::sync::RwLock;

use crate::support::{ALICE, App, Attempt, Client, Process, Receiver, Reply};

const SAMPLES: u64 = 30;
const PEOPLE: usize = 4;
/// Between two sign-ins of a person.
const PAUSE: Duration = Duration::from_millis(600);
/// Business time between two samples.
const A_DAY: u64 = 24 * 3600;
/// How much more the last third may have than the middle one: a share of it, and so much besides. The store takes
/// more space than what it holds, and settles by and by; what it holds is told at the end.
const MARGIN: f64 = 0.05;
const MARGINS: [(&str, f64); 5] = [
    ("memory, KiB", 3_000.0),
    ("files", 8.0),
    ("threads", 4.0),
    ("store, KiB", 8_000.0),
    ("sessions, KiB", 8.0),
];

/// What there is of the process: memory (`VmRSS`, KiB), open files, threads, the store and the Telegram sessions on the
/// disk (KiB).
type Sample = [f64; 5];

struct Stage {
    sandbox: Client,
    app: App,
    /// Held by whoever is in the middle of a sign-in; who moves the clock waits for all.
    turn: RwLock<()>,
    done: AtomicU64,
}

fn kib_below(folder: &Path) -> u64 {
    let entries =
        std::fs::read_dir(folder).map_or_else(|_| Vec::new(), |entries| entries.flatten().collect());
    let size = |entry: &std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => kib_below(&entry.path()),
        // What it takes on the disk, not how long it is.
        Ok(metadata) => std::os::unix::fs::MetadataExt::blocks(&metadata) / 2,
        Err(_) => 0,
    };
    entries.iter().map(size).sum()
}

#[expect(clippy::cast_precision_loss, reason = "a table of megabytes")]
fn sample(process: u32, folder: &Path) -> Sample {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() as u64;
    let (store, sessions) = (kib_below(&folder.join("store")), kib_below(&folder.join("sessions")));
    [field("VmRSS:"), files, field("Threads:"), store, sessions].map(|number| number as f64)
}

impl Stage {
    async fn post(&self, path: String, body: Value) -> Value {
        let answer = self.sandbox.post(&path, &body).await;
        if answer.status == 200 { answer.json() } else { Value::Null }
    }

    /// The clock moves on when nobody is in the middle of anything; what was left lying expires.
    async fn move_on(&self) {
        let _alone = self.turn.write().await;
        let moved = self.post("/api/clock".into(), json!({ "advance_seconds": A_DAY })).await;
        assert!(moved["now"].is_i64(), "{moved}");
    }

    /// One person, again and again.
    async fn person(&self, n: usize, until: Instant) {
        let mut times = n;
        while Instant::now() < until {
            {
                let _turn = self.turn.read().await;
                // A caller of its own now and then, so that connections come and go.
                let fresh = times
                    .is_multiple_of(5)
                    .then(|| Client::new(self.app.service.url().trim_start_matches("http://")));
                let app = fresh.map_or_else(|| self.app.at(&self.app.service), |client| self.app.at(&client));
                self.sign_in(&app, n, times).await;
            }
            self.done.fetch_add(1, Ordering::SeqCst);
            times += PEOPLE;
            network_sleep(PAUSE).await;
        }
    }

    async fn sign_in(&self, app: &App, n: usize, times: usize) {
        let phone = phone(n);
        let attempt = app.attempt_with(json!({ "nonce": format!("nonce {times}") }), &[]).await;
        if times % 10 == 8 {
            return self.hang_up(app, &attempt).await;
        }
        let opened = self.post(format!("/api/accounts/{phone}/open"), json!({ "link": attempt.link })).await;
        let opened = opened["message_id"].as_i64().unwrap();
        let prompt = self.prompt(&phone, opened).await;
        let tap = |button: &'static str| {
            let body = json!({ "message_id": prompt, "button": button, "wait": 15 });
            self.post(format!("/api/accounts/{phone}/tap"), body)
        };
        let token = json!({ "project_id": app.id, "session_token": attempt.token });
        match times % 10 {
            // Nobody answers: it expires.
            6 => return,
            7 => assert_eq!(tap("❌ Cancel").await["answer"], "Declined"),
            9 => assert_eq!(app.call_keyed("/api/v1/cancel", &token).await.json()["status"], "cancelled"),
            0..3 => {
                let (confirmed, tapped) = tokio::join!(app.wait(&attempt), tap("✅ Confirm"));
                assert_eq!(confirmed["status"], "confirmed", "{tapped}");
                let proof = confirmed["proof"].as_str().unwrap();
                assert_eq!(app.consume_proof(proof).await.json()["status"], "confirmed");
            }
            _ => {
                let events = attempt.created["events_url"].as_str().unwrap();
                let events = format!("/{}", events.splitn(4, '/').nth(3).unwrap());
                let (stream, tapped) = tokio::join!(app.service.get(&events), tap("✅ Confirm"));
                assert!(stream.body.contains("confirmed"), "{stream:?} {tapped}");
                assert_eq!(app.consume(&attempt).await["status"], "confirmed");
            }
        }
        let over = if matches!(times % 10, 7 | 9) { "cancelled" } else { "used" };
        assert_eq!(app.poll(&attempt).await["status"], over);
        for message in [opened, prompt] {
            let body = json!({ "message_id": message, "for_everyone": true });
            self.post(format!("/api/accounts/{phone}/delete"), body).await;
        }
    }

    /// Callers who do not wait for their answer, and some who ask for what there is not.
    async fn hang_up(&self, app: &App, attempt: &Attempt) {
        let events = attempt.created["events_url"].as_str().unwrap();
        let events = format!("/{}", events.splitn(4, '/').nth(3).unwrap());
        let impatient = Duration::from_millis(100);
        assert!(tokio::time::timeout(impatient, app.wait(attempt)).await.is_err(), "nobody has decided");
        assert!(
            tokio::time::timeout(impatient, app.service.get(&events)).await.is_err(),
            "nobody has decided"
        );
        assert_eq!(app.service.get("/nowhere").await.status, 404);
        assert_eq!(
            app.call("/api/v1/generate/public", &json!({ "project_id": "no" }), &[]).await.status,
            404
        );
        assert_eq!(app.consume_proof("no.proof.atall").await.status, 400);
    }

    async fn prompt(&self, phone: &str, opened: i64) -> i64 {
        let path = format!("/api/accounts/{phone}/messages?after={opened}&wait=10");
        for _ in 0..12 {
            let messages = self.sandbox.get(&path).await.json();
            let answer = |message: &&Value| message["out"] == false && message["reply_to"] == opened;
            if let Some(prompt) = messages.as_array().unwrap().iter().find(answer) {
                return prompt["id"].as_i64().unwrap();
            }
        }
        panic!("{phone} was not asked");
    }

    /// The operator signs a user account in and out.
    async fn operator(&self) {
        let _turn = self.turn.read().await;
        let service = &self.app.service;
        let answer = service.post("/sign_in", &json!({ "phone": ALICE })).await;
        assert_eq!(answer.status, 206, "{answer:?}");
        let code =
            self.sandbox.get(&format!("/api/accounts/{ALICE}/code?wait=25")).await.json()["code"].clone();
        let answer = service.post("/sign_in", &json!({ "phone": ALICE, "password": code })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(service.delete("/sign_in").await.status, 200);
    }
}

fn phone(n: usize) -> String {
    format!("+155506{n:05}")
}

/// A process on an empty folder, its people and its project.
async fn begin(folder: &Path, receiver: &Receiver) -> (Process, Stage) {
    let data = folder.to_str().unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--sandbox-listen", "127.0.0.1:0"];
    let arguments = [&["serve", "--sandbox", "--data-dir", data][..], &listen].concat();
    let process = Process::start(&arguments, &[("CONNECTOR_RETENTION_DAYS", "1")]);
    let log = process.log();
    let line = log.lines().find(|line| line.contains("Sandbox control")).unwrap();
    let sandbox = Client::new(line.split("http://").nth(1).unwrap().split('/').next().unwrap());
    for n in 0..PEOPLE {
        let person = json!({ "phone": phone(n), "first_name": format!("Person {n}") });
        assert_eq!(sandbox.post("/api/accounts", &person).await.status, 200);
    }
    let login = json!({ "email": "demo@example.com", "password": "demo-password" });
    let token = process.client.post("/api/v1/dev/login", &login).await.json()["token"].clone();
    let bearer = format!("Bearer {}", token.as_str().unwrap());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let settings = json!({ "name": "Shop", "webhook_url": receiver.url("/hook"), "webhook_expired": true });
    let project =
        process.client.send("POST", "/api/v1/dev/projects", &headers, Some(&settings.to_string())).await;
    let text = |field: &str| project.json()[field].as_str().unwrap().to_owned();
    let app = App { service: process.client.clone(), id: text("id"), secret: text("secret_key") };
    let bot = || async { process.client.get("/readyz").await.json()["bot"] == "ok" };
    crate::support::eventually("the bot is there", bot).await;
    (process, Stage { sandbox, app, turn: RwLock::default(), done: AtomicU64::new(0) })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes SOAK_MINUTES (30 unless set); run it by hand"]
async fn memory_files_and_disk_stay_level() {
    let minutes = std::env::var("SOAK_MINUTES").map_or(30.0, |text| text.parse::<f64>().expect("a number"));
    let between = Duration::from_secs_f64(minutes * 60.0) / u32::try_from(SAMPLES).unwrap();
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::new().await);
    let (process, stage) = begin(folder.path(), &receiver).await;
    let (begun, until) = (Instant::now(), Instant::now() + Duration::from_secs_f64(minutes * 60.0));
    let (mut samples, mut hours) = (Vec::new(), Vec::new());
    let sampling = async {
        let mut table = String::new();
        writeln!(table, "minute  sign-ins  {}", MARGINS.map(|(name, _)| format!("{name:>13}")).concat())
            .unwrap();
        for n in 1..=SAMPLES {
            // One in eight is refused, and sent again when the clock has moved.
            for turn in 0..400 {
                receiver.answer_next(Reply::status(if turn % 8 == 0 { 500 } else { 200 }));
            }
            network_sleep(between.saturating_sub(Duration::from_millis(10))).await;
            stage.operator().await;
            let sample = sample(process.id(), folder.path());
            let done = stage.done.load(Ordering::SeqCst);
            let minute = begun.elapsed().as_secs_f64() / 60.0;
            let numbers = sample.map(|number| format!("{number:>13}")).concat();
            writeln!(table, "{minute:>6.1}  {done:>8}  {numbers}").unwrap();
            eprintln!("{}", table.lines().last().unwrap());
            samples.push(sample);
            hours.push(minute / 60.0);
            if n < SAMPLES {
                stage.move_on().await;
            }
        }
        table
    };
    let people = futures_util::future::join_all((0..PEOPLE).map(|n| stage.person(n, until)));
    let (table, _) = tokio::join!(sampling, people);
    eprintln!("{table}");
    let log: PathBuf = std::env::temp_dir().join("soak.log");
    std::fs::write(&log, process.kill()).unwrap();
    tell_what_is_kept(&folder.path().join("store"));
    tell_slopes(&samples, &hours);
    judge(&samples);
}

/// What each figure grows in an hour, by least squares over the last two thirds: slow growth that the margin lets pass.
fn tell_slopes(samples: &[Sample], hours: &[f64]) {
    let third = samples.len() / 3;
    for (column, (name, _)) in MARGINS.into_iter().enumerate() {
        let figures: Vec<f64> = samples.iter().map(|sample| sample[column]).collect();
        let slope = slope(&hours[third..], &figures[third..]);
        eprintln!("{name:>13}: {slope:+.1} an hour over the last two thirds");
    }
}

/// The slope of the line of least squares.
fn slope(times: &[f64], figures: &[f64]) -> f64 {
    let number = f64::from(u32::try_from(times.len()).unwrap());
    let (time, figure) = (times.iter().sum::<f64>() / number, figures.iter().sum::<f64>() / number);
    let both = times.iter().zip(figures).map(|(t, f)| (t - time) * (f - figure)).sum::<f64>();
    both / times.iter().map(|t| (t - time).powi(2)).sum::<f64>()
}

#[test]
fn the_slope_is_that_of_a_line_and_of_its_noise() {
    let times = [0.0, 0.1, 0.2, 0.3, 0.4];
    let is = |figures: [f64; 5], expected: f64| (slope(&times, &figures) - expected).abs() < 1e-6;
    assert!(is([5.0, 6.0, 7.0, 8.0, 9.0], 10.0));
    assert!(is([7.0, 7.0, 7.0, 7.0, 7.0], 0.0));
    assert!(is([1.0, 0.0, 1.0, 0.0, 1.0], 0.0));
}

/// How many keys of each kind the store holds, and how many bytes: what is on the disk besides is the database's own.
fn tell_what_is_kept(store: &Path) {
    let database = crate::support::open_database(store);
    for tree in database.list_keyspace_names() {
        let mut kinds: std::collections::BTreeMap<char, (usize, usize)> = std::collections::BTreeMap::new();
        for entry in crate::support::open_tree(&database, &tree).iter() {
            let (key, value) = entry.into_inner().unwrap();
            let (keys, bytes) = kinds.entry(char::from(key[0])).or_default();
            (*keys, *bytes) = (*keys + 1, *bytes + key.len() + value.len());
        }
        eprintln!("{}: keys and bytes by the first letter {kinds:?}", tree);
    }
}

/// The last third is no higher than the middle one, beyond the margin.
fn judge(samples: &[Sample]) {
    let third = samples.len() / 3;
    let mean = |samples: &[Sample], column: usize| {
        samples.iter().map(|sample| sample[column]).sum::<f64>()
            / f64::from(u32::try_from(samples.len()).unwrap())
    };
    let (middle, last) = (&samples[third..2 * third], &samples[2 * third..]);
    let mut grown = Vec::new();
    for (column, (name, margin)) in MARGINS.into_iter().enumerate() {
        let (before, after) = (mean(middle, column), mean(last, column));
        eprintln!("{name:>13}: middle third {before:.0}, last third {after:.0}");
        if after > before * (1.0 + MARGIN) + margin {
            grown.push(name);
        }
    }
    assert!(grown.is_empty(), "these grow: {grown:?}");
}
