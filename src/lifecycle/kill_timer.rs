//! A timer of the kernel that kills this process, whether that runs or is stopped (`timer_create(2)` with SIGKILL on
//! `CLOCK_BOOTTIME`). What for is `vault/lease/exposure.rs`' business. Linux only: elsewhere it does nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Kills this process at the first of its deadlines. Cloning shares it: one is enough for a process.
#[derive(Clone, Debug, Default)]
pub struct KillTimer(Arc<Mutex<Deadlines>>);

/// A time at which this process is killed, once it is set. Goes with its owner.
#[derive(Debug)]
pub struct Deadline {
    timer: KillTimer,
    number: u64,
}

#[derive(Debug, Default)]
struct Deadlines {
    made: u64,
    set: HashMap<u64, Duration>,
    orders: Option<mpsc::Sender<Order>>,
}

#[derive(Debug)]
struct Order {
    /// [`super::boot_time`]; `None`: never.
    at: Option<Duration>,
    done: mpsc::SyncSender<()>,
}

impl KillTimer {
    /// A deadline that is not set yet.
    pub fn deadline(&self) -> Deadline {
        let mut deadlines = self.deadlines();
        deadlines.made += 1;
        Deadline { timer: self.clone(), number: deadlines.made }
    }

    fn deadlines(&self) -> MutexGuard<'_, Deadlines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deadline {
    /// Kills this process at that [`super::boot_time`] unless it is set anew by then; `None`: does not. It is in force on
    /// return, which takes some microseconds. Where the system has no such timer nothing happens; Linux' log says so then.
    pub fn set(&self, at: Option<Duration>) {
        let mut deadlines = self.timer.deadlines();
        let before = deadlines.first();
        match at {
            Some(at) => drop(deadlines.set.insert(self.number, at)),
            None => drop(deadlines.set.remove(&self.number)),
        }
        if deadlines.first() != before {
            deadlines.arm();
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.set(None);
    }
}

impl Deadlines {
    fn first(&self) -> Option<Duration> {
        self.set.values().min().copied()
    }

    fn arm(&mut self) {
        let at = self.first();
        let (done, is_done) = mpsc::sync_channel(1);
        // Who does not listen has no timer.
        if self.orders.get_or_insert_with(start).send(Order { at, done }).is_ok() {
            let _done_or_gone = is_done.recv();
        }
    }
}

/// The thread that has the timer, which cannot be handed around; it ends with the sender.
fn start() -> mpsc::Sender<Order> {
    let (sender, orders) = mpsc::channel();
    let thread = std::thread::Builder::new().name("kill timer".to_owned());
    if let Err(error) = thread.spawn(move || obey(&orders).unwrap_or_else(|error| missing(&error))) {
        missing(&error);
    }
    sender
}

fn missing(error: &std::io::Error) {
    if cfg!(target_os = "linux") {
        tracing::warn!(%error, "no timer would end this process if it were stopped while it connects");
    }
}

#[cfg(target_os = "linux")]
fn obey(orders: &mpsc::Receiver<Order>) -> Result<(), std::io::Error> {
    use nix::sys::signal::{SigEvent, SigevNotify, Signal};
    use nix::sys::time::TimeSpec;
    use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
    use nix::time::ClockId;

    let kill = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
    let mut timer = Timer::new(ClockId::CLOCK_BOOTTIME, SigEvent::new(kill))?;
    for Order { at, done } in orders {
        // Zero is never.
        let at = Expiration::OneShot(TimeSpec::from_duration(at.unwrap_or_default()));
        timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        let _heard_or_not = done.send(());
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn obey(_: &mpsc::Receiver<Order>) -> Result<(), std::io::Error> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::boot_time;

    /// That it kills is seen in `tests/it/lease`: here it would be the end of the tests.
    #[test]
    fn the_first_of_the_deadlines_counts_and_one_that_is_gone_does_not() {
        let timer = KillTimer::default();
        let at = |hours: u64| Some(boot_time() + Duration::from_secs(3_600 * hours));
        let (soon, late) = (timer.deadline(), timer.deadline());
        let (three, two) = (at(3), at(2));
        late.set(three);
        soon.set(two);
        assert_eq!(timer.deadlines().first(), two);
        drop(soon);
        assert_eq!(timer.deadlines().first(), three);
        late.set(None);
        assert_eq!(timer.deadlines().first(), None);
    }
}
