//! What the image promises, as far as it can be seen without a container engine: the binary runs as somebody who is
//! nobody, in a root file system that is empty but for it (and the libraries that the image's static build needs not)
//! and read-only, and its own `healthcheck` works there. Needs root, as CI has.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::support::{ALICE, Client};

/// An empty root with the binary, and a data folder that belongs to user 65532.
fn empty_root(folder: &Path) {
    let (root, data) = (folder.join("root"), folder.join("data"));
    std::fs::create_dir_all(root.join("data")).unwrap();
    std::fs::create_dir_all(&data).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_telegram-connector"));
    std::fs::copy(binary, root.join("telegram-connector")).unwrap();
    let linked = Command::new("ldd").arg(binary).output().unwrap();
    for library in
        String::from_utf8(linked.stdout).unwrap().split_whitespace().filter(|word| word.starts_with('/'))
    {
        let place = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(library, place).unwrap();
    }
    assert!(Command::new("chown").args(["65532:65532"]).arg(&data).status().unwrap().success());
}

/// A command in that root, read-only, as user 65532, in a mount namespace of its own.
fn inside(folder: &Path, arguments: &str) -> Command {
    let script = format!(
        "mount --bind root root && mount -o remount,ro,bind root && mount --bind data root/data && \
         exec chroot --userspec=65532:65532 root /telegram-connector {arguments}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &script]).current_dir(folder);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("CONNECTOR_LOG_FORMAT", "json");
    command
}

struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_needs_no_root_no_shell_and_no_writable_root() {
    let folder = tempfile::tempdir().unwrap();
    empty_root(folder.path());
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let serve =
        format!("serve --sandbox --data-dir /data --listen 127.0.0.1:{port} --sandbox-listen 127.0.0.1:0");
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let child = inside(folder.path(), &serve).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let running = Running(child);
    let healthcheck = || -> Output {
        inside(folder.path(), "healthcheck")
            .env("CONNECTOR_LISTEN", format!("0.0.0.0:{port}"))
            .output()
            .unwrap()
    };
    crate::support::eventually("the healthcheck inside passes", || async { healthcheck().status.success() })
        .await;

    let status = std::fs::read_to_string(format!("/proc/{}/status", running.0.id())).unwrap();
    assert!(status.lines().any(|line| line == "Uid:\t65532\t65532\t65532\t65532"), "{status}");
    let service = Client::new(format!("127.0.0.1:{port}"));
    assert!(service.post("/sign_in", &json!({ "phone": ALICE })).await.is_empty(206));
    // The root of this namespace only: nothing was written beside the binary.
    let beside: Vec<_> = std::fs::read_dir(folder.path().join("root"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(!beside.iter().any(|name| name == "sandbox-data" || name == "sessions"), "{beside:?}");

    let signal = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let mut running = running;
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert_ne!(healthcheck().status.code(), Some(0));
}
