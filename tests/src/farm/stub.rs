//! A `backend-stub` process and its control interface.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::http;
use super::process::{Process, read, tail};
use crate::client::PacketType;
use crate::ports::Port;
use crate::{binaries, wait};

/// One backend. Its address and its files survive restarts.
pub struct Stub {
    name: String,
    arguments: Vec<String>,
    root: PathBuf,
    logs: PathBuf,
    upload: Port,
    control: Port,
    process: Mutex<Option<Process>>,
}

/// What `GET /stats` says, since the start of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    pub ping: u64,
    pub create_session: u64,
    pub fragment: u64,
    pub close_session: u64,
    pub cancel_session: u64,
    /// Requests that are no BITS packets.
    pub other: u64,
    /// Packets that named a session this backend never created.
    pub foreign: u64,
    pub connections: u64,
    pub open_connections: u64,
    pub full_handshakes: u64,
    pub resumed_handshakes: u64,
    pub sessions: u64,
    pub body_bytes: u64,
}

/// One row of `GET /requests`.
#[derive(Clone, Debug)]
pub struct Seen {
    pub connection: u64,
    /// The exact head as Latin-1.
    pub head: String,
    pub body_bytes: u64,
    pub body_sha256: String,
    /// Whether the body arrived as a whole.
    pub complete: bool,
    /// What was answered, if anything.
    pub status: Option<u64>,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").skip(1);
        lines
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    pub fn request_line(&self) -> &str {
        self.head.split("\r\n").next().unwrap_or_default()
    }

    /// In lower case, or nothing.
    pub fn packet_type(&self) -> String {
        self.field("BITS-Packet-Type").unwrap_or_default().to_ascii_lowercase()
    }
}

/// Misbehaviour on demand; see the fault kinds of `backend-stub`.
#[derive(Clone, Debug)]
pub struct StubFault {
    packet: String,
    skip: u64,
    times: u64,
    action: Value,
}

impl StubFault {
    /// Once, on the next packet of that type.
    pub fn on(packet: PacketType, kind: &str) -> Self {
        let name = match packet {
            PacketType::Ping => "ping",
            PacketType::CreateSession => "create_session",
            PacketType::Fragment => "fragment",
            PacketType::CloseSession => "close_session",
            PacketType::CancelSession => "cancel_session",
        };
        Self::on_named(name, kind)
    }

    /// Once, on the next request of any kind.
    pub fn on_any(kind: &str) -> Self {
        Self::on_named("any", kind)
    }

    /// Once, on the next request that is no BITS packet.
    pub fn on_other(kind: &str) -> Self {
        Self::on_named("other", kind)
    }

    fn on_named(packet: &str, kind: &str) -> Self {
        Self { packet: packet.to_owned(), skip: 0, times: 1, action: json!({ "kind": kind }) }
    }

    /// A parameter of the kind: `.with("n", 1000)`.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.action[key] = value.into();
        self
    }

    /// Lets so many packets of the type pass before.
    pub fn skip(mut self, packets: u64) -> Self {
        self.skip = packets;
        self
    }

    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }
}

impl Stub {
    /// Starts it on a free port, with its files in a directory of its own under `directory`.
    pub fn start_new(name: &str, arguments: &[String], directory: &Path) -> Self {
        let root = directory.join(name);
        std::fs::create_dir_all(&root)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", root.display()));
        let stub = Self {
            name: name.to_owned(),
            arguments: arguments.to_vec(),
            root,
            logs: directory.to_path_buf(),
            upload: Port::reserve(),
            control: Port::reserve(),
            process: Mutex::new(None),
        };
        stub.start();
        stub
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> SocketAddr {
        self.upload.address()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an upload to that path ends up.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join("files").join(path.trim_start_matches('/'))
    }

    /// Starts it again at its address, with its files; waits until it accepts connections.
    #[track_caller]
    pub fn start(&self) {
        let mut command = Command::new(binaries::backend_stub());
        command
            .args(["--listen", &self.upload.address().to_string()])
            .arg("--root")
            .arg(&self.root)
            .args(["--name", &self.name])
            .args(["--control", &self.control.address().to_string()])
            .args(&self.arguments);
        let mut slot = self.process();
        assert!(slot.is_none(), "{} runs already", self.name);
        let process = slot.insert(Process::start(command, &self.name, &self.logs));
        wait::until(&format!("{} listens", self.name), || {
            let output = process.stdout();
            // The process may have printed and ended: it did listen then, and the test sees the end later.
            let listens = output.lines().any(|line| line.contains("\"listening\""));
            if !listens {
                process.expect_running();
            }
            listens
        });
    }

    /// SIGKILL: what a power cut does to the process.
    pub fn kill(&self) {
        // Dropping it kills it and waits for its end.
        self.process().take();
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn terminate(&self) -> ExitStatus {
        let mut process = self.running();
        process.signal(Signal::TERM);
        process.wait()
    }

    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        self.start();
    }

    /// Waits until it has died of a fault.
    #[track_caller]
    pub fn wait_dead(&self) -> ExitStatus {
        self.running().wait()
    }

    /// SIGSTOP: accepts connections (the kernel does) and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn is_running(&self) -> bool {
        self.process().as_mut().is_some_and(Process::is_running)
    }

    /// Forgets every session, as a server with a wiped disk; finished files stay.
    #[track_caller]
    pub fn lose_sessions(&self) {
        self.kill();
        let sessions = self.root.join("sessions");
        if let Err(error) = std::fs::remove_dir_all(&sessions) {
            assert!(!sessions.exists(), "cannot remove {}: {error}", sessions.display());
        }
        self.start();
    }

    #[track_caller]
    pub fn stats(&self) -> Stats {
        let stats = self.control("GET", "/stats", "");
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("bad stats {stats}"));
        let packets = &stats["packets"];
        Stats {
            ping: number(&packets["ping"]),
            create_session: number(&packets["create_session"]),
            fragment: number(&packets["fragment"]),
            close_session: number(&packets["close_session"]),
            cancel_session: number(&packets["cancel_session"]),
            other: number(&packets["other"]),
            foreign: number(&stats["foreign"]),
            connections: number(&stats["connections"]),
            open_connections: number(&stats["open_connections"]),
            full_handshakes: number(&stats["full_handshakes"]),
            resumed_handshakes: number(&stats["resumed_handshakes"]),
            sessions: number(&stats["sessions"]),
            body_bytes: number(&stats["body_bytes"]),
        }
    }

    /// The last requests, oldest first.
    #[track_caller]
    pub fn requests(&self) -> Vec<Seen> {
        let rows = self.control("GET", "/requests", "");
        let seen = |row: &Value| Seen {
            connection: row["connection"].as_u64().unwrap_or_default(),
            head: row["head"].as_str().unwrap_or_default().to_owned(),
            body_bytes: row["body_bytes"].as_u64().unwrap_or_default(),
            body_sha256: row["body_sha256"].as_str().unwrap_or_default().to_owned(),
            complete: row["complete"].as_bool().unwrap_or_default(),
            status: row["status"].as_u64(),
        };
        rows.as_array().unwrap_or_else(|| panic!("bad requests {rows}")).iter().map(seen).collect()
    }

    #[track_caller]
    pub fn clear_requests(&self) {
        self.control("DELETE", "/requests", "");
    }

    /// Adds a fault; the first that matches a packet is used.
    #[track_caller]
    pub fn fault(&self, fault: StubFault) {
        let StubFault { packet, skip, times, action } = fault;
        let order = json!({ "packet": packet, "skip": skip, "times": times, "do": action });
        self.control("POST", "/faults", &order.to_string());
    }

    #[track_caller]
    pub fn clear_faults(&self) {
        self.control("DELETE", "/faults", "");
    }

    /// On: connections to its address are refused by the kernel. Off: the same port again.
    #[track_caller]
    pub fn refuse(&self, on: bool) {
        self.control("POST", "/refuse", &json!({ "on": on }).to_string());
    }

    /// The end of its standard error.
    pub fn log(&self) -> String {
        tail(&self.logs.join(format!("{}.err", self.name)))
    }

    pub fn has_panicked(&self) -> bool {
        self.whole_log().contains("panicked at")
    }

    /// Packets that named a session this backend never created, over all runs of the process, save
    /// questions of a gateway that a stranger has to disown.
    pub fn foreign_packets(&self) -> usize {
        let question = "packet=fragment length=1 agent=\"bits-gateway/";
        let log = self.whole_log();
        let foreign = log.lines().filter(|line| line.contains("event=foreign_packet"));
        foreign.filter(|line| !line.contains(question)).count()
    }

    #[track_caller]
    fn control(&self, method: &str, target: &str, body: &str) -> Value {
        http::json(self.control.address(), method, target, body)
    }

    #[track_caller]
    fn running(&self) -> Process {
        self.process().take().unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    fn whole_log(&self) -> String {
        read(&self.logs.join(format!("{}.err", self.name)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = self.process().as_mut() {
            process.signal(signal);
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // A start that failed must not hide behind a poisoned lock.
        self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
