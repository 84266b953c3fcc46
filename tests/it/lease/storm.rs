//! Two processes and one session, for many rounds in which everything happens to them. `ROUNDS=200 cargo test --test it
//! lease::storm -- --nocapture` runs as many; `SEED` repeats what a seed did.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use telegram_connector::domain::ids::Ids;
use telegram_connector::lifecycle::network_sleep;

use super::{account, sign_in, start};
use crate::support::{ALICE, Door, Options, Process, S3Server, World, eventually};

/// What happens to a process in a round.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// kill -9, and it is started again on its machine.
    Kill,
    /// kill -9, and its machine is gone.
    Lose,
    /// SIGTERM, and it is started again.
    Terminate,
    /// SIGSTOP for longer than a lease lasts.
    Pause,
    /// SIGSTOP for about as long as a lease lasts.
    Doze,
    /// It does not reach the bucket for longer than a lease lasts.
    Cut,
    /// The sandbox cuts every connection, so that both dial.
    Disconnect,
}

const BLOWS: [Blow; 7] =
    [Blow::Kill, Blow::Lose, Blow::Terminate, Blow::Pause, Blow::Doze, Blow::Cut, Blow::Disconnect];
/// See `S3Server::environment`.
const LEASE_MILLIS: u64 = 3_000;

struct Side {
    name: &'static str,
    machine: u32,
    door: Door,
    process: Option<Process>,
}

impl Side {
    async fn new(name: &'static str, s3: &S3Server) -> Self {
        Self { name, machine: 0, door: s3.door().await, process: None }
    }

    fn start(&mut self, world: &World, s3: &S3Server) {
        let machine = format!("{}-{}", self.name, self.machine);
        self.process = Some(start(world, s3, &machine, &[("AWS_ENDPOINT_URL", &self.door.address)]));
    }

    fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Waits until one of the two owns the session and the other stands by. Returns which.
async fn one_owner(sides: &[Side; 2], story: &str) -> usize {
    let owner = AtomicUsize::new(0);
    eventually(story, || async {
        let (one, two) =
            (account(&sides[0].process().client).await, account(&sides[1].process().client).await);
        for (side, now) in sides.iter().zip([&one, &two]) {
            assert_ne!(*now, "signed_out", "{story}: the key is destroyed:\n{}", side.process().log());
        }
        owner.store(usize::from(two == "ok"), Ordering::SeqCst);
        (one == "ok" && two == "standby") || (one == "standby" && two == "ok")
    })
    .await;
    owner.into_inner()
}

async fn strike(blow: Blow, side: &mut Side, world: &World, s3: &S3Server, moment: u64) {
    let wait = |millis: u64| network_sleep(std::time::Duration::from_millis(millis));
    match blow {
        Blow::Kill | Blow::Lose => {
            side.process.take().unwrap().kill();
            side.machine += u32::from(matches!(blow, Blow::Lose));
            wait(moment % 1_000).await;
            side.start(world, s3);
        }
        Blow::Terminate => {
            side.process().terminate();
            side.process.take().unwrap().ended();
            side.start(world, s3);
        }
        Blow::Pause | Blow::Doze => {
            let beyond = if matches!(blow, Blow::Pause) { LEASE_MILLIS + 500 } else { LEASE_MILLIS - 700 };
            side.process().pause();
            wait(beyond + moment % 1_400).await;
            side.process().resume();
            // What runs again has this long to close what it must not keep.
            wait(LEASE_MILLIS / 10).await;
            if side.process.as_mut().unwrap().has_ended() {
                // It was stopped while it connected: the system has ended it with its lease.
                side.start(world, s3);
            }
        }
        Blow::Cut => {
            side.door.close();
            wait(LEASE_MILLIS + moment % 1_500).await;
            side.door.open();
        }
        Blow::Disconnect => world.fault(serde_json::json!({ "disconnect": "now" })).await,
    }
}

#[expect(clippy::print_stdout, reason = "who runs it by hand wants to see how it goes")]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_the_key_is_used_by_one_process_and_every_round_ends_with_one_owner() {
    let rounds = number("ROUNDS").unwrap_or(4);
    let seed = number("SEED").unwrap_or(u64::from(std::process::id()));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let dice = Ids::from_seed(bytes);
    let (world, s3) = (World::without_service(Options::default()).await, S3Server::new().await);
    let mut sides = [Side::new("left", &s3).await, Side::new("right", &s3).await];
    sides[0].start(&world, &s3);
    sign_in(&world, &sides[0].process().client).await;
    sides[1].start(&world, &s3);
    let (begun, mut changes) = (Instant::now(), 0);
    let mut owner = one_owner(&sides, "the beginning").await;
    for round in 0..rounds {
        let pick = |below: usize| usize::try_from(dice.below(u32::try_from(below).unwrap())).unwrap();
        // Mostly the owner is hit, sometimes both one after the other.
        let (blow, both) = (BLOWS[pick(BLOWS.len())], pick(5) == 0);
        let first = if pick(4) == 0 { 1 - owner } else { owner };
        let moment = u64::from(dice.below(100_000));
        let story = format!("seed {seed}, round {round}: {blow:?} on {}, both {both}", sides[first].name);
        strike(blow, &mut sides[first], &world, &s3, moment).await;
        let story = if both {
            let next = BLOWS[pick(BLOWS.len())];
            strike(next, &mut sides[1 - first], &world, &s3, moment / 7).await;
            format!("{story} ({next:?})")
        } else {
            story
        };
        let now = one_owner(&sides, &story).await;
        changes += usize::from(now != owner);
        owner = now;
        // It is an owner that works: Telegram answers it.
        let answer =
            sides[owner].process().client.post("/sign_in", &serde_json::json!({ "phone": ALICE })).await;
        assert!(answer.is_empty(200), "{story}: {answer:?}");
        println!("{story}: {} owns, {} s", sides[owner].name, begun.elapsed().as_secs());
    }
    assert_eq!(world.calls("auth.sendCode").await, 1, "one code for the whole story");
    println!("{rounds} rounds, {changes} changes of owner, {} s", begun.elapsed().as_secs());
    drop(sides);
    world.end().await;
}
