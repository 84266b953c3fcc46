//! The real binary as a process of its own, to be killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::Client;

/// The program that is tested: the one built with the tests, or another that `CONNECTOR_BINARY` names.
fn binary() -> std::ffi::OsString {
    std::env::var_os("CONNECTOR_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_telegram-connector").into())
}

/// A running `telegram-connector`.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
    pub(crate) client: Client,
}

impl Process {
    /// Starts the binary with nothing of our environment, and waits until it serves.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let process = Self::spawn(arguments, environment).serving();
        if arguments.contains(&"--sandbox") {
            // What it says of its sandbox comes by the other pipe, and may come later.
            while !process.log().contains("Sign in:") {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        process
    }

    /// Waits until it serves.
    pub(crate) fn serving(mut self) -> Self {
        let address = loop {
            let log = self.log();
            if let Some(address) = log.lines().find_map(served_address) {
                break address;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        self.client = Client::new(address);
        self
    }

    /// Starts the binary and does not wait.
    pub(crate) fn spawn(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn_under(&[], arguments, environment)
    }

    /// As [`Process::spawn`], by a program that becomes it (`unshare …`).
    pub(crate) fn spawn_under(wrapper: &[&str], arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let (program, before) = match wrapper {
            [] => (binary(), Vec::new()),
            [first, rest @ ..] => {
                let rest = rest.iter().map(std::ffi::OsString::from).chain([binary()]);
                (std::ffi::OsString::from(first), rest.collect())
            }
        };
        let mut child = Command::new(program)
            .args(before)
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").filter(|_| !wrapper.is_empty()).map(|path| ("PATH", path)))
            .env("CONNECTOR_LOG_FORMAT", "json")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let readers = outputs.map(|output| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            })
        });
        Self { child, log, readers: readers.into(), client: Client::new("unknown") }
    }

    /// Everything it has printed so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The first JSON log line with this message.
    pub(crate) fn wait_for_line(&mut self, message: &str) -> serde_json::Value {
        loop {
            let log = self.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            if let Some(line) = lines.into_iter().find(|line| line["message"] == message) {
                return line;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.ended().1
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// SIGSTOP: it does nothing more, and knows nothing of it, until [`Process::resume`].
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn signal(&self, name: &str) {
        signal(name, self.id());
    }

    /// Waits for the end: exit code and everything it printed.
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (status.code(), self.log())
    }
}

/// Sends a signal: `-TERM`.
pub(crate) fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([name, &process.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Where it serves, if this line of the log, JSON or text, tells that.
fn served_address(line: &str) -> Option<String> {
    if let Ok(line) = serde_json::from_str::<serde_json::Value>(line) {
        return (line["message"] == "serving").then(|| line["address"].as_str().unwrap().to_owned());
    }
    let rest = line.split_once("serving ")?.1.split_once("address=")?.1;
    Some(rest.split(' ').next()?.to_owned())
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs the binary to its end with this on its standard input: exit code, standard output, standard error.
pub(crate) fn run(
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &str,
) -> (Option<i32>, String, String) {
    let mut child = Command::new(binary())
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that has refused its settings does not read.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Whether any file below `folder` contains `needle`.
pub(crate) fn files_with(folder: &std::path::Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let mut contents = Vec::new();
            std::fs::File::open(entry.path()).unwrap().read_to_end(&mut contents).unwrap();
            if contents.windows(needle.len()).any(|window| window == needle) {
                found.push(entry.path());
            }
        }
    }
    found
}
