//! Polls and creates against a bare poem handler, in rounds: what disturbs the machine for a while disturbs all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bare;
use super::load::{CLIENTS, CREATED, CROWD, Expected, PENDING, Rate, Requests, THRONG, load};
use super::median;
use super::process::Process;
use super::service::{App, Service};

const ROUNDS: usize = 5;
const LASTS: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);

const FEW: usize = 1_000;

/// A row of the table.
struct Row<'a> {
    name: &'static str,
    server: &'a Process,
    requests: &'a Arc<Requests>,
    expected: Expected,
    /// How many ask at once.
    clients: usize,
    /// The row it is compared with.
    limit: usize,
}

/// `ROWS=1,2`: only these, for a profiler. Others are 0 then.
fn chosen(row: usize) -> bool {
    std::env::var("ROWS").map_or(true, |rows| rows.split(',').any(|chosen| chosen.parse() == Ok(row)))
}

pub(crate) async fn table() {
    let bare = bare::start();
    let [few, many, fresh] =
        [Service::start(&[]).await, Service::start(&[]).await, Service::start(&[]).await];
    let of_few = polls(&few.app, few.sessions(FEW).await);
    let (begun, number) = (Instant::now(), how_many());
    let of_many = polls(&many.app, many.sessions(number).await);
    println!(
        "{number} sessions created in {:.0?}; {} MB resident then\n",
        begun.elapsed(),
        many.process.resident() >> 20
    );
    let create = Arc::new(Requests::same(fresh.app.create()));
    let poll = |name, server, requests| {
        let expected = PENDING;
        Row { name, server, requests, expected, clients: clients(CLIENTS), limit: 0 }
    };
    let create = |name, server, clients, limit| {
        let (requests, expected) = (&create, CREATED);
        Row { name, server, requests, expected, clients, limit }
    };
    let rows = [
        poll("bare handler, a poll's JSON", &bare, &of_few),
        poll("poll, 1,000 sessions live", &few.process, &of_few),
        poll("poll, a million live", &many.process, &of_many),
        create("bare handler, a create's JSON", &bare, clients(CLIENTS), 3),
        create("create, durable", &fresh.process, clients(CLIENTS), 3),
        create("bare handler, a create's JSON", &bare, clients(CROWD), 5),
        create("create, durable", &fresh.process, clients(CROWD), 5),
        create("bare handler, a create's JSON", &bare, clients(THRONG), 7),
        create("create, durable", &fresh.process, clients(THRONG), 7),
    ];
    let mut rounds: Vec<Vec<Rate>> = Vec::new();
    for round in 0..=ROUNDS {
        let mut rates = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let lasts = if round == 0 { WARM_UP } else { LASTS };
            let rate = if chosen(index) {
                load(row.server, row.requests, row.expected, row.clients, lasts).await
            } else {
                Rate::default()
            };
            rates.push(rate);
        }
        if round > 0 {
            rounds.push(rates);
        }
    }
    println!(
        "| | clients | per second | of the bare handler | server's processor time, µs | of the bare handler |"
    );
    println!("|---|---|---|---|---|---|");
    for (index, row) in rows.iter().enumerate() {
        let of = |figure: fn(Rate, Rate) -> f64| {
            median(rounds.iter().map(|rates| figure(rates[index], rates[row.limit])).collect())
        };
        println!(
            "| {} | {} | {:.0} | {:.3} | {:.1} | {:.2} |",
            row.name,
            row.clients,
            of(|rate, _| rate.per_second),
            of(|rate, limit| rate.per_second / limit.per_second),
            of(|rate, _| rate.server_micros),
            of(|rate, limit| rate.server_micros / limit.server_micros),
        );
    }
    let of_few = median(rounds.iter().map(|rates| rates[2].per_second / rates[1].per_second).collect());
    println!("\nPolls with a million sessions, of those with 1,000: {of_few:.3}");
}

/// `CLIENTS`: another number at once.
fn clients(usual: usize) -> usize {
    std::env::var("CLIENTS").map_or(usual, |clients| clients.parse().unwrap())
}

/// `SESSIONS`: fewer than a million, for whoever has no minute.
pub(crate) fn how_many() -> usize {
    std::env::var("SESSIONS").map_or(1_000_000, |number| number.parse().unwrap())
}

/// A poll of each session, in an order that has nothing to do with that in which they were made.
fn polls(app: &App, mut tokens: Vec<String>) -> Arc<Requests> {
    tokens.sort_unstable();
    Arc::new(Requests::each(&tokens, |token| app.poll(token)))
}
