//! The first process of a container, where the service runs in a second one. A kernel lets nothing kill the first process of
//! a PID namespace from inside, and its own timers are inside: `KillTimer` could not keep a lease there.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

/// Whether this process is the first one.
pub(super) fn is_first() -> bool {
    std::process::id() == 1
}

/// Runs the same command in a process of its own, passes SIGTERM and SIGINT on to it, reaps what else ends here, and ends as it
/// does: with its exit code, or 128 and the signal that ended it. `None`: there can be no such process.
pub(super) async fn stand_by() -> Result<Option<ExitCode>, Failure> {
    let mut ended = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // In a group of its own, so that a terminal's Ctrl-C does not reach it twice.
    let spawned = std::env::current_exe()
        .and_then(|program| Command::new(program).args(std::env::args_os().skip(1)).process_group(0).spawn());
    let service = match spawned {
        Ok(service) => Pid::from_child(&service),
        Err(error) => {
            tracing::warn!(%error, "the container's first process serves itself: nothing would end it if it were stopped while it connects");
            return Ok(None);
        }
    };
    loop {
        while let Some((process, status)) = wait(WaitOptions::NOHANG)? {
            if process == service {
                return Ok(Some(ExitCode::from(code(status))));
            }
        }
        let passed_on = tokio::select! {
            _ = ended.recv() => continue,
            _ = terminate.recv() => Signal::TERM,
            _ = interrupt.recv() => Signal::INT,
        };
        let _unless_it_is_gone = kill_process(service, passed_on);
    }
}

fn code(status: WaitStatus) -> u8 {
    let code = status.terminating_signal().map_or_else(
        || status.exit_status().unwrap_or(1),
        |signal| {
            tracing::error!(signal, "the service was ended by a signal");
            128 + signal
        },
    );
    u8::try_from(code).unwrap_or(u8::MAX)
}
