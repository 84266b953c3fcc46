//! The processes that are measured: the service as it is shipped, and whatever it is compared with.

use std::io::BufReader;
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Ticks of a second in `/proc/<pid>/stat` (proc(5): `sysconf(_SC_CLK_TCK)`, 100 wherever Linux runs today).
const TICK: Duration = Duration::from_millis(10);

/// A process that listens somewhere.
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Starts it and waits for the line in which `find` finds where it listens. What else it prints is thrown away.
    pub(crate) fn start(mut command: Command, find: impl Fn(&str) -> Option<SocketAddr>) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        let other = sender.clone();
        std::thread::spawn(move || pass_on(BufReader::<ChildStdout>::new(stdout), &sender));
        std::thread::spawn(move || pass_on(BufReader::<ChildStderr>::new(stderr), &other));
        let mut printed = String::new();
        let address = lines.iter().find_map(|line| {
            printed.push_str(&line);
            printed.push('\n');
            find(&line)
        });
        let Some(address) = address else {
            drop(child.wait());
            panic!("it ended before it listened:\n{printed}");
        };
        Self { child, address }
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time it has had so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // The name of the program may have spaces in it: what follows it is counted.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u32 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u32>().unwrap()).sum();
        TICK * ticks
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A line of `/proc/<pid>/status`, in its unit.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Resident memory, bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS") * 1024
    }

    /// SIGTERM; how long it took to end.
    pub(crate) fn terminate(mut self) -> Duration {
        let begun = std::time::Instant::now();
        assert!(Command::new("kill").arg(self.id().to_string()).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        begun.elapsed()
    }
}

/// Lines as they come. They are read to the end although nobody wants them: a full pipe would stop who writes.
fn pass_on(mut lines: impl std::io::BufRead, to: &std::sync::mpsc::Sender<String>) {
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
        drop(to.send(line.trim_end().to_owned()));
        line.clear();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
