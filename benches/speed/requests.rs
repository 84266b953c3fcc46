//! Polls and creates against a bare poem handler, in rounds: what disturbs the machine for a while disturbs all of them.

use std::sync::Arc;
use std::time::Duration;

use super::bare;
use super::load::{Rate, load};
use super::median;
use super::service::{App, Service};

const ROUNDS: usize = 5;
const LASTS: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);
/// Clients at once.
const CLIENTS: usize = 64;

const FEW: usize = 1_000;

fn many() -> usize {
    std::env::var("SESSIONS").map_or(1_000_000, |number| number.parse().unwrap())
}

/// The rows, each measured once in every round.
const ROWS: [&str; 5] = [
    "bare handler, poll's JSON",
    "poll, few sessions live",
    "poll, many sessions live",
    "bare handler, create's JSON",
    "create, durable",
];

pub(crate) async fn table() {
    let bare = bare::start();
    let (few, many_of_them, fresh) =
        (Service::start(&[]).await, Service::start(&[]).await, Service::start(&[]).await);
    let of_few = polls(&few.app, few.sessions(FEW).await);
    let begun = std::time::Instant::now();
    let of_many = polls(&many_of_them.app, many_of_them.sessions(many()).await);
    println!(
        "{} sessions created in {:.0?}, {} MB resident then",
        many(),
        begun.elapsed(),
        many_of_them.process.resident() >> 20
    );
    let create = Arc::new(vec![fresh.app.create()]);
    let mut rates: Vec<[Rate; 5]> = Vec::new();
    for round in 0..=ROUNDS {
        let lasts = if round == 0 { WARM_UP } else { LASTS };
        let measured = [
            load(&bare, &of_few, CLIENTS, lasts).await,
            load(&few.process, &of_few, CLIENTS, lasts).await,
            load(&many_of_them.process, &of_many, CLIENTS, lasts).await,
            load(&bare, &create, CLIENTS, lasts).await,
            load(&fresh.process, &create, CLIENTS, lasts).await,
        ];
        if round > 0 {
            rates.push(measured);
        }
    }
    println!("| | per second | of the bare handler | server's processor time, µs | of the bare handler |");
    println!("|---|---|---|---|---|");
    for (row, name) in ROWS.iter().enumerate() {
        let limit = if row < 3 { 0 } else { 3 };
        let of = |figure: fn(&Rate, &Rate) -> f64| {
            median(rates.iter().map(|round| figure(&round[row], &round[limit])).collect())
        };
        println!(
            "| {name} | {:.0} | {:.3} | {:.1} | {:.2} |",
            of(|rate, _| rate.per_second),
            of(|rate, limit| rate.per_second / limit.per_second),
            of(|rate, _| rate.server_micros),
            of(|rate, limit| rate.server_micros / limit.server_micros),
        );
    }
    let few_to_many = median(rates.iter().map(|round| round[2].per_second / round[1].per_second).collect());
    println!("\nPolls with many sessions, of those with few: {few_to_many:.3}");
}

/// A poll of each session, in an order that has nothing to do with that in which they were made.
fn polls(app: &App, mut tokens: Vec<String>) -> Arc<Vec<Vec<u8>>> {
    tokens.sort_unstable();
    Arc::new(tokens.iter().map(|token| app.poll(token)).collect())
}
