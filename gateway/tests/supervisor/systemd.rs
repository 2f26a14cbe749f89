//! What the service manager hears and gives.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bits_gateway::base::clock;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::backend::{Backend, Client, DEADLINE};
use crate::child::{Fault, Part, command};
use crate::process::{Process, through_shell};

/// The service manager's end of the notification socket.
struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("bound");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        Self { folder, socket, heard: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn part(&self, backend: &Backend) -> Part {
        Part::new(backend.address).with(|part| {
            part.ready_file = self.path("ready");
            part.upgrade_socket = Some(self.path("upgrade.sock"));
        })
    }

    fn start(&self, part: &Part, more: &[(&str, &str)]) -> Process {
        let mut command = command(part);
        command.env("NOTIFY_SOCKET", self.path("notify")).envs(more.iter().copied());
        Process::spawn_through(part, command)
    }

    /// Waits for a message that has this line, and returns all of it.
    #[track_caller]
    fn hear(&mut self, line: &str) -> Vec<String> {
        let end = clock::steady() + DEADLINE;
        loop {
            let mut buffer = [0; 4096];
            let count = self.socket.recv(&mut buffer);
            let count = count.unwrap_or_else(|error| panic!("{line}: {error}, {:?}", self.heard));
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            self.heard.push(text.clone());
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.iter().any(|seen| seen == line) {
                return lines;
            }
            assert!(clock::steady() < end, "{line} did not come: {:?}", self.heard);
        }
    }
}

fn config(path: &Path, weight: &str) {
    let text = format!(
        "[listeners.public]\naddress = \"127.0.0.1:0\"\n\
         [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:9001\"\nweight = {weight}\n"
    );
    std::fs::write(path, text).expect("written");
}

#[test]
fn ready_reloading_and_stopping_are_told_in_order() {
    let backend = Backend::start();
    let mut manager = Manager::new();
    let file = manager.path("gw.toml");
    config(&file, "1");
    let part = manager.part(&backend).with(|part| part.config = Some(file.clone()));
    let mut process = manager.start(&part, &[]);
    let ready = manager.hear("READY=1");
    process.wait_for("ready");
    let status = format!("STATUS=serving on public {}", process.address("public"));
    assert!(ready.iter().any(|line| line.starts_with(&status)), "{ready:?}");
    assert_eq!(manager.heard.len(), 1);

    config(&file, "2");
    process.signal(Signal::HUP);
    let reloading = manager.hear("RELOADING=1");
    let usec = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    usec.expect("a time").parse::<u64>().expect("a number");
    let ready = manager.hear("READY=1");
    assert!(ready.contains(&"STATUS=serving".to_owned()), "{ready:?}");
    config(&file, "0");
    process.signal(Signal::HUP);
    manager.hear("RELOADING=1");
    let ready = manager.hear("READY=1");
    assert!(ready.iter().any(|line| line.contains("the last reload failed")), "{ready:?}");

    process.signal(Signal::TERM);
    manager.hear("STOPPING=1");
    assert_eq!(process.exit_code(), 0);
    assert_eq!(manager.heard.len(), 6, "{:?}", manager.heard);
}

#[test]
fn after_a_hand_over_the_successor_is_the_main_process_and_the_old_one_is_silent() {
    let backend = Backend::start();
    let mut manager = Manager::new();
    let part = manager.part(&backend);
    let mut old = manager.start(&part, &[]);
    manager.hear("READY=1");
    let new = manager.start(&part.clone().with(|part| part.upgrade = true), &[]);
    new.wait_for("ready");
    let main = manager.hear(&format!("MAINPID={}", new.pid()));
    assert_eq!(main.len(), 1);
    assert_eq!(manager.heard.len(), 2, "the successor was silent: {:?}", manager.heard);
    manager.hear("READY=1");
    assert_eq!(old.exit_code(), 0);
    new.wait_for("old gone");
    new.signal(Signal::TERM);
    manager.hear("STOPPING=1");
    assert_eq!(manager.heard.len(), 4, "the old one was silent: {:?}", manager.heard);
}

#[test]
fn the_watchdog_is_fed_as_long_as_every_runtime_runs() {
    let backend = Backend::start();
    let mut manager = Manager::new();
    let part = manager.part(&backend).with(|part| part.fault = Fault::TaskBlocks);
    let process = manager.start(&part, &[("WATCHDOG_USEC", "150000")]);
    process.wait_for("ready");
    for _ in 0..3 {
        manager.hear("WATCHDOG=1");
    }
    process.signal(Signal::USR1);
    process.wait_for("blocked");
    process.wait_for_log("WARN", "no progress, the service manager gets no sign of life");
    assert!(process.errors().contains(r#""runtimes":"tasks""#), "{}", process.errors());
    // Everything that was sent before the thread was stuck.
    manager.socket.set_nonblocking(true).expect("changed");
    while manager.socket.recv(&mut [0; 4096]).is_ok() {}
    manager.socket.set_nonblocking(false).expect("changed");
    process.signal(Signal::USR1);
    process.wait_for("released");
    manager.hear("WATCHDOG=1");
    process.expect_serving(&backend);
}

#[test]
fn a_watchdog_for_another_process_is_not_fed() {
    let backend = Backend::start();
    let mut manager = Manager::new();
    let part = manager.part(&backend);
    let other = std::process::id().to_string();
    let variables = [("WATCHDOG_USEC", "3000"), ("WATCHDOG_PID", &*other)];
    let process = manager.start(&part, &variables);
    manager.hear("READY=1");
    process.expect_serving(&backend);
    process.signal(Signal::TERM);
    manager.hear("STOPPING=1");
    assert_eq!(manager.heard.len(), 2, "{:?}", manager.heard);
}

#[test]
fn a_socket_of_the_service_manager_is_used_by_its_name() {
    let backend = Backend::start();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("its address");
    let part = Part::new(backend.address);
    let script = "exec 3<&0 </dev/null; \
                  export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=public; exec \"$0\" \"$@\"";
    let mut shell = through_shell(script, &part);
    shell.stdin(Stdio::from(OwnedFd::from(socket.try_clone().expect("a copy"))));
    // A client that came before the process.
    let mut early = Client::connect(address);
    early.send();
    let mut process = Process::spawn_through(&part, shell);
    backend.request().answer(b"waited for");
    assert_eq!(early.answer().body, b"waited for");
    process.wait_for("ready");
    assert_eq!(process.address("public"), address);
    assert_ne!(process.address("ops").port(), address.port());
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 0);
}
