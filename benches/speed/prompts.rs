//! From `/start` to the prompt, at a steady pace on one bot; and the same while another account of the service waits out a
//! flood.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telegram_connector::lifecycle::network_sleep;
use tokio::task::JoinSet;

use super::load::{Connection, get, post};
use super::service::{App, Service};

/// Starts per second, and for how long.
const PACE: u32 = 30;
const SECONDS: u32 = 20;
/// How many people there are: a start of each every two seconds.
const PEOPLE: u32 = 60;
/// Longer than the table takes.
const FLOOD: &str = "FLOOD_WAIT_300";

pub(crate) async fn table() {
    println!("| {PACE} starts a second for {SECONDS} s | p50, ms | p99, ms | most, ms |");
    println!("|---|---|---|---|");
    let service = Service::start(&[("CONNECTOR_CREATES_PER_MINUTE", "100000")]).await;
    people(&service).await;
    run(&service, "one bot").await;
    flood_another(&service).await;
    run(&service, "the same, another bot waits out a flood").await;
}

fn phone(person: u32) -> String {
    format!("+1555020{person:04}")
}

async fn people(service: &Service) {
    let mut sandbox = Connection::open(service.sandbox).await;
    for person in 0..=PEOPLE {
        let new = json!({ "phone": phone(person), "first_name": format!("Person {person}") });
        sandbox.json(&post("/api/accounts", &new.to_string(), None)).await;
    }
}

/// A second bot, whose first prompt Telegram answers with a flood wait.
async fn flood_another(service: &Service) {
    let mut sandbox = Connection::open(service.sandbox).await;
    let bot = json!({ "username": "flooded_bot", "name": "Flooded" });
    let bot = sandbox.json(&post("/api/bots", &bot.to_string(), None)).await;
    let mut connection = Connection::open(service.process.address()).await;
    let app = App::with(&mut connection, &json!({ "name": "Flooded", "bot_token": bot["token"] })).await;
    let created = loop {
        if connection.ask(&app.create()).await == 200 {
            break serde_json::from_slice::<Value>(connection.body()).unwrap();
        }
        network_sleep(Duration::from_millis(50)).await;
    };
    let fault = json!({ "method": "messages.sendMessage", "error": FLOOD, "times": 1 });
    sandbox.json(&post("/api/faults", &fault.to_string(), None)).await;
    let open = json!({ "link": created["deeplink"] });
    let path = format!("/api/accounts/{}/open", phone(PEOPLE));
    sandbox.json(&post(&path, &open.to_string(), None)).await;
    while !spent(&sandbox.json(&get("/api/faults")).await) {
        network_sleep(Duration::from_millis(5)).await;
    }
}

/// Whether nothing is to fail any more.
fn spent(faults: &Value) -> bool {
    !faults.to_string().contains(FLOOD)
}

async fn run(service: &Service, name: &str) {
    let links =
        service.create((PACE * SECONDS) as usize, |created| created["deeplink"].as_str().unwrap().to_owned());
    let begun = Instant::now();
    let mut starts = JoinSet::new();
    for (index, link) in (0..).zip(links.await) {
        let due = begun.elapsed().max(Duration::from_secs(1) / PACE * index);
        network_sleep(due.saturating_sub(begun.elapsed())).await;
        starts.spawn(start(service.sandbox, phone(index % PEOPLE), link));
    }
    let mut times = starts.join_all().await;
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    println!("| {name} | {:.1} | {:.1} | {:.1} |", at(50), at(99), at(100));
}

/// Opens the link; how long until the prompt is there.
async fn start(sandbox: SocketAddr, phone: String, link: String) -> Duration {
    let mut connection = Connection::open(sandbox).await;
    let open = post(&format!("/api/accounts/{phone}/open"), &json!({ "link": link }).to_string(), None);
    let begun = Instant::now();
    let mut seen = connection.json(&open).await["message_id"].as_i64().unwrap();
    loop {
        let path = format!("/api/accounts/{phone}/messages?after={seen}&wait=25");
        let messages = connection.json(&get(&path)).await;
        for message in messages.as_array().unwrap() {
            if message["buttons"].as_array().is_some_and(|rows| !rows.is_empty()) {
                return begun.elapsed();
            }
            seen = seen.max(message["id"].as_i64().unwrap());
        }
    }
}
