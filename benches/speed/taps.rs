//! From a person's tap to the app's knowing of it, one sign-in after another: by a held poll, by the event stream, and what
//! polling every two seconds would make of it.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::load::{Connection, get, post};
use super::service::Service;
use super::sign_ins::{Attempt, Person, millis};

/// Taps per row, after some that are not counted.
const TAPS: usize = 1_000;
const WARM_UP: usize = 100;
/// How often an app without `wait` polls.
const INTERVAL: Duration = Duration::from_secs(2);
/// What the stream says in the end.
const CONFIRMED: &[u8] = br#"{"status":"confirmed"}"#;

pub(crate) async fn table() {
    let service = Service::start(&[]).await;
    let mut person = Person::new(&service, 0).await;
    let (mut waits, mut streams) = (Vec::new(), Vec::new());
    let mut held = Connection::open(service.process.address()).await;
    for turn in 0..WARM_UP + TAPS {
        let (by_wait, by_stream) =
            (by_wait(&service, &mut person, &mut held).await, by_stream(&service, &mut person).await);
        if turn >= WARM_UP {
            waits.push(by_wait);
            streams.push(by_stream);
        }
    }
    println!("| tap → answer | p50 | p99 | longest |");
    println!("|---|---|---|---|");
    let waits = row("held `wait` poll", waits);
    row("event of the stream", streams);
    // The next poll is anywhere within an interval: nothing to measure.
    let poll = |of_hundred: u32| millis(INTERVAL * of_hundred / 100 + waits);
    println!("| poll every 2 s (computed) | {} | {} | {} |", poll(50), poll(99), poll(100));
}

/// Prints a row; its median.
fn row(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let [p50, p99, longest] = [50, 99, 100].map(|percent| times[(times.len() * percent).div_ceil(100) - 1]);
    println!("| {name} | {} | {} | {} |", millis(p50), millis(p99), millis(longest));
    p50
}

/// A poll that is held since before the link is opened.
async fn by_wait(service: &Service, person: &mut Person, held: &mut Connection) -> Duration {
    let attempt = person.asks().await;
    let body = json!({ "project_id": service.app.id, "session_token": attempt.token, "wait": 25 });
    let request = post("/api/v1/verify/public", &body.to_string(), None);
    let answered = async {
        let answer = held.json(&request).await;
        assert_eq!(answer["status"], "confirmed");
        Instant::now()
    };
    let (answered, tapped) = tokio::join!(answered, confirms(person, &attempt));
    answered - tapped
}

/// A stream that is open since before the link is opened.
async fn by_stream(service: &Service, person: &mut Person) -> Duration {
    let attempt = person.asks().await;
    let mut stream = TcpStream::connect(service.process.address()).await.unwrap();
    stream.write_all(&get(&attempt.events)).await.unwrap();
    let told = async {
        let mut read = Vec::new();
        while !read.windows(CONFIRMED.len()).any(|part| part == CONFIRMED) {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{}", String::from_utf8_lossy(&read));
        }
        Instant::now()
    };
    let (told, tapped) = tokio::join!(told, confirms(person, &attempt));
    told - tapped
}

/// Opens the link and taps; when the person tapped.
async fn confirms(person: &mut Person, attempt: &Attempt) -> Instant {
    let opened = person.opens(attempt).await;
    let prompt = person.is_asked(opened).await;
    let tapped = Instant::now();
    person.taps(prompt).await;
    tapped
}
