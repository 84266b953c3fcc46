//! How fast the service is, measured from outside: the program as it is shipped, real HTTP, real MTProto, files on disk.
//! `cargo bench` prints every table; `cargo bench -- requests taps` only those. It judges nothing: what was seen where, and
//! what is promised, is in `docs/performance.md`.
#![cfg(test)]
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of its own, that nothing else waits for; its tables are for whoever started it"
)]

mod bare;
mod footprint;
mod load;
mod peer;
mod process;
mod prompts;
mod requests;
mod service;
mod sign_ins;
mod taps;
mod waiters;

/// The tables, in the order in which they are printed.
const TABLES: [&str; 7] = ["requests", "peer", "sign_ins", "taps", "prompts", "waiters", "footprint"];

fn main() {
    let asked: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if asked.first().is_some_and(|argument| argument == bare::ARGUMENT) {
        runtime.block_on(bare::serve());
        return;
    }
    let unknown = asked.iter().find(|table| !TABLES.contains(&table.as_str()));
    assert_eq!(unknown, None, "choose among {TABLES:?}");
    for table in TABLES.iter().filter(|table| asked.is_empty() || asked.iter().any(|asked| asked == *table)) {
        println!("\n## {table}\n");
        match *table {
            "requests" => runtime.block_on(requests::table()),
            "sign_ins" => runtime.block_on(sign_ins::table()),
            "taps" => runtime.block_on(taps::table()),
            "peer" => runtime.block_on(peer::table()),
            "prompts" => runtime.block_on(prompts::table()),
            "footprint" => runtime.block_on(footprint::table()),
            "waiters" => runtime.block_on(waiters::table()),
            _ => unreachable!("every table has its line here"),
        }
    }
}

/// The middle one of an odd number of figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
