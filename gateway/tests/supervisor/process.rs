//! Starting, watching and ending the process under test.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bits_gateway::base::clock;
use rustix::process::{Pid, Signal, kill_process};

use crate::backend::{Backend, Client, DEADLINE};
use crate::child::{Part, command};

pub struct Process {
    child: Child,
    events: Arc<Mutex<Vec<String>>>,
    errors: Arc<Mutex<String>>,
    folder: PathBuf,
    ready_file: PathBuf,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    /// Starts the process without waiting for it.
    pub fn spawn(part: &Part) -> Self {
        Self::spawn_through(part, command(part))
    }

    /// Starts the process by a command that leads to it.
    pub fn spawn_through(part: &Part, mut command: Command) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir()
            .join(format!("bits-gateway-supervisor-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary directory");
        let mut child = command
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let events = Arc::new(Mutex::new(Vec::new()));
        let errors = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let readers = vec![
            thread::spawn({
                let events = Arc::clone(&events);
                move || {
                    let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                    let ours =
                        lines.filter_map(|line| line.strip_prefix("event ").map(str::to_owned));
                    ours.for_each(|event| events.lock().expect("not poisoned").push(event));
                }
            }),
            thread::spawn({
                let errors = Arc::clone(&errors);
                move || {
                    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
                    lines.for_each(|line| {
                        errors.lock().expect("not poisoned").push_str(&(line + "\n"))
                    });
                }
            }),
        ];
        let ready_file = folder.join(&part.ready_file);
        Self { child, events, errors, folder, ready_file, readers }
    }

    /// Starts the process and waits until it is ready.
    pub fn start(part: &Part) -> Self {
        let process = Self::spawn(part);
        process.wait_for("ready");
        process
    }

    pub fn ready_file(&self) -> PathBuf {
        self.ready_file.clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the listener of this name is, as the ready file has it.
    pub fn address(&self, name: &str) -> SocketAddr {
        let text = std::fs::read(self.ready_file()).expect("a ready file");
        let content: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        content["listeners"][name]
            .as_str()
            .expect("the listener is named")
            .parse()
            .expect("an address")
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address("public"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Asserts that an upload gets through, from a new connection.
    #[track_caller]
    pub fn expect_serving(&self, backend: &Backend) {
        let mut client = self.client();
        client.send();
        backend.request().answer(b"served");
        assert_eq!(client.answer().body, b"served");
    }

    pub fn events(&self) -> Vec<String> {
        self.events.lock().expect("not poisoned").clone()
    }

    pub fn errors(&self) -> String {
        self.errors.lock().expect("not poisoned").clone()
    }

    #[track_caller]
    pub fn wait_for(&self, event: &str) {
        self.until(&format!("event {event:?}"), || self.events().iter().any(|seen| seen == event));
    }

    #[track_caller]
    pub fn wait_for_log(&self, level: &str, text: &str) {
        let level = format!("\"level\":\"{level}\"");
        let is_it = |line: &str| line.contains(&level) && line.contains(text);
        self.until(&format!("log line {text:?}"), || self.errors().lines().any(is_it));
    }

    #[track_caller]
    pub fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let end = clock::steady() + DEADLINE;
        while !condition() {
            let (events, errors) = (self.events(), self.errors());
            assert!(clock::steady() < end, "{what} did not come\nevents: {events:?}\n{errors}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asserts that these events came in this order, others between them or not.
    #[track_caller]
    pub fn expect_order(&self, expected: &[&str]) {
        let events = self.events();
        let mut seen = events.iter();
        for event in expected {
            assert!(
                seen.any(|seen| seen == event),
                "{event:?} of {expected:?} is missing or out of order in {events:?}"
            );
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    /// Waits for the end of a process that was killed.
    pub fn expect_killed(&mut self) {
        assert!(self.end().code().is_none(), "it ended by itself");
    }

    /// Waits for the end and returns the exit code; everything the process said has been read then.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        let status = self.end();
        status.code().unwrap_or_else(|| panic!("killed: {status}\n{}", self.errors()))
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let end = clock::steady() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                break status;
            }
            let (events, errors) = (self.events(), self.errors());
            assert!(
                clock::steady() < end,
                "the process does not end\nevents: {events:?}\n{errors}"
            );
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("the reader ended");
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already in most tests; a failed one must not leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The process under test as the arguments of a shell script.
pub fn through_shell(script: &str, part: &Part) -> Command {
    let inner = command(part);
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(inner.get_program()).args(inner.get_args());
    shell.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// What a GET to the side listener brings.
pub fn ask_side(address: SocketAddr) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("the side listener accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}
