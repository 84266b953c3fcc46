//! A timer of the kernel that kills this process, whether that runs or is stopped (`timer_create(2)` with SIGKILL on
//! `CLOCK_BOOTTIME`). What for is `vault/lease/exposure.rs`' business. Linux only: elsewhere it does nothing.

use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Kills this process when it is due. Not set at first; goes with its owner.
#[derive(Debug, Default)]
pub struct KillTimer(Mutex<Option<mpsc::Sender<Order>>>);

#[derive(Debug)]
struct Order {
    /// [`super::boot_time`]; `None`: never.
    at: Option<Duration>,
    done: mpsc::SyncSender<()>,
}

impl KillTimer {
    /// Kills this process at that [`super::boot_time`] unless it is set anew by then; `None`: does not. It is in force on
    /// return, which takes some microseconds. Where the system has no such timer nothing happens, and the log says so once.
    pub fn set(&self, at: Option<Duration>) {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.is_none() && at.is_none() {
            return;
        }
        let orders = orders.get_or_insert_with(start);
        let (done, is_done) = mpsc::sync_channel(1);
        // Who does not listen has no timer.
        if orders.send(Order { at, done }).is_ok() {
            let _done_or_gone = is_done.recv();
        }
    }
}

/// The thread that has the timer, which cannot be handed around; it ends with the sender.
fn start() -> mpsc::Sender<Order> {
    let (sender, orders) = mpsc::channel();
    let thread = std::thread::Builder::new().name("kill timer".to_owned());
    if let Err(error) = thread.spawn(move || {
        if let Err(error) = obey(&orders) {
            missing(&error);
        }
    }) {
        missing(&error);
    }
    sender
}

fn missing(error: &std::io::Error) {
    tracing::warn!(%error, "the system has no timer that would end this process if it is stopped while it connects");
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
