//! The process under test: it pins sessions and says on standard output which were acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bits_gateway::sessions::store::{
    EndKind, Loaded, OnError, Options, Record, Store, StoredPin, SyncMode, Tombstone,
};
use bits_gateway::telemetry::events::Events;
use bits_gateway::telemetry::metrics::Metrics;
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::{TargetHash, Timestamp};

/// The variable that makes this executable the process under test: its store.
const DIRECTORY: &str = "STORE_TEST_DIRECTORY";
/// The number of its first pin.
const FIRST: &str = "STORE_TEST_FIRST";

/// Pins under way at once.
const TASKS: u32 = 8;

/// Every such pin is ended again.
pub const ENDED: u32 = 5;

pub fn options(on_error: OnError) -> Options {
    let (slow, metrics) = (Duration::from_secs(5), Metrics::new(&[], &[]));
    let (sync, events) = (SyncMode::Power, Events::default());
    Options { sync, on_error, slow, metrics, events, lock: None }
}

pub fn pin(n: u32) -> StoredPin {
    StoredPin {
        id: format!("{{3F9C1E52-7B0D-4E7A-9C44-{n:012X}}}"),
        backend: format!("up{:02}", n % 3),
        backend_session: None,
        target: TargetHash(u64::from(n)),
        created: Timestamp(1_700_000_000_000 + u64::from(n / 10)),
        subject: None,
        spelling: None,
    }
}

pub fn key(n: u32) -> SessionKey {
    let id = pin(n).id;
    SessionId::parse(&id).expect("a legal id").key().clone()
}

pub fn tombstone(n: u32) -> Tombstone {
    let StoredPin { id, backend, target, .. } = pin(n);
    Tombstone { id, kind: EndKind::Close, backend, target, status: 200, ended: Timestamp(9) }
}

/// Everything that a store holds, by number.
#[derive(Debug, Default)]
pub struct Kept {
    pub pins: Vec<u32>,
    pub tombstones: Vec<u32>,
    pub loaded: Loaded,
}

/// Opens a store and checks that every pin in it is right.
pub fn open(path: &Path, on_error: OnError) -> (Store, Kept) {
    let mut kept = Kept::default();
    let number = |id: &str| u32::from_str_radix(&id[25..37], 16).expect("an id of these tests");
    let opened = Store::open(path, options(on_error), &mut |record| {
        match record {
            Record::Pin(stored) => {
                let n = number(stored.id);
                assert_eq!(stored.to_pin(), pin(n));
                kept.pins.push(n);
            }
            Record::Tombstone(stored) => {
                let n = number(&stored.id);
                assert_eq!(stored, tombstone(n));
                kept.tombstones.push(n);
            }
            Record::Backend(_) | Record::Progress(_) | Record::Spelling(_) | Record::Event(_) => {}
        }
        true
    });
    let (store, loaded) = opened.unwrap_or_else(|error| panic!("{error}"));
    kept.loaded = loaded;
    (store, kept)
}

/// The part of the process under test; nothing to do in the process that runs the tests.
#[test]
fn child() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let first = std::env::var(FIRST).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (store, _) = open(Path::new(&path), OnError::Refuse);
        let next = Arc::new(AtomicU32::new(first));
        let tasks: Vec<_> =
            (0..TASKS).map(|_| tokio::spawn(work(store.clone(), Arc::clone(&next)))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Goes on until the process is killed.
async fn work(store: Store, next: Arc<AtomicU32>) {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        match store.pin(pin(n)).await {
            Ok(()) => say(&format!("pinned {n}")),
            Err(error) => {
                say(&format!("refused {n} {error}"));
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                continue;
            }
        }
        if n.is_multiple_of(ENDED) {
            match store.end(&key(n), pin(n).created, Some(tombstone(n))).await {
                Ok(()) => say(&format!("ended {n}")),
                Err(error) => say(&format!("unended {n} {error}")),
            }
        }
    }
}

/// A whole line at once, so that a kill does not cut it.
fn say(line: &str) {
    let line = format!("@{line}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).expect("somebody reads");
}

/// What a process under test has said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Pinned(u32),
    Ended(u32),
    Refused(String),
}

/// A process under test; killed when it is dropped.
pub struct Process {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    /// `wrapper` is a command that runs what follows it.
    pub fn start(wrapper: &[&str], directory: &Path, first: u32) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut command = match wrapper {
            [] => Command::new(&this),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&this);
                command
            }
        };
        let mut child = command
            .args(["--exact", "child::child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .env(FIRST, first.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("{wrapper:?}: {error}"));
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next thing that it says; `None` when it has ended.
    pub fn next(&mut self) -> Option<Said> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The rest is the test harness's own.
            let Some(at) = line.find('@') else { continue };
            let (what, rest) = line[at + 1..].trim_end().split_once(' ').unwrap();
            return Some(match what {
                "pinned" => Said::Pinned(rest.parse().unwrap()),
                "ended" => Said::Ended(rest.parse().unwrap()),
                "unended" => continue,
                _ => Said::Refused(rest.to_owned()),
            });
        }
    }

    /// SIGKILL, and what it had said before.
    pub fn kill(mut self) -> Vec<Said> {
        self.child.kill().unwrap();
        let mut rest = Vec::new();
        while let Some(said) = self.next() {
            rest.push(said);
        }
        self.child.wait().unwrap();
        rest
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
