//! What the session store costs: `cargo bench -p bits-gateway --bench store [-- PINS [DIRECTORY]]`.
//!
//! The directory should lie on the disk that is to be judged; a memory file system has nothing to
//! wait for.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bits_gateway::base::clock;
use bits_gateway::sessions::Setup;
use bits_gateway::sessions::store::{
    OnError, Options, Record, Store, StoredPin, SyncMode, read_only,
};
use bits_gateway::telemetry::events::Events;
use bits_gateway::telemetry::metrics::Metrics;
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::{TargetHash, Timestamp};
use uuid::Uuid;

/// Pins under way at once while the table is filled.
const AT_ONCE: u32 = 1000;

const TOMBSTONE: Duration = Duration::from_secs(24 * 3600);

fn main() {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let count = arguments.next().map_or(1_000_000, |count| count.parse().expect("a number"));
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::TempDir::with_prefix_in("bits-store", base).expect("a directory");
    let path = directory.path().join("store");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");

    let store = open(&path, SyncMode::Power, &mut |_| true);
    let began = clock::stopwatch();
    runtime.block_on(fill(&store, count));
    rate("insert", count, began.elapsed());
    for (sync, name) in [(SyncMode::Power, "power"), (SyncMode::Crash, "crash")] {
        let path = directory.path().join(name);
        let store = open(&path, sync, &mut |_| true);
        for at_once in [1, 32] {
            let latencies = runtime.block_on(commit(&store, at_once));
            let label = format!("one pin, sync = {name}, {at_once} at once");
            latency(&label, latencies);
        }
        runtime.block_on(store.close());
    }
    let began = clock::stopwatch();
    runtime.block_on(store.close());
    println!("{:44} {:>10}", "close", show(began.elapsed()));
    let bytes = path.join("sessions.db").metadata().expect("a file").len();
    let each = bytes / u64::from(count);
    println!("{:44} {:>7} MiB  {each} bytes a pin", "size on disk", bytes >> 20);

    for round in 1..=3 {
        let began = clock::stopwatch();
        let mut seen = 0u64;
        let store = open(&path, SyncMode::Power, &mut |record| {
            seen += u64::from(matches!(record, Record::Pin(_)));
            true
        });
        rate(&format!("open and read, round {round}"), count, began.elapsed());
        assert_eq!(seen, u64::from(count));
        runtime.block_on(store.close());
    }
    // As at a start of the gateway: into the table that packets are looked up in.
    let began = clock::stopwatch();
    let before = resident();
    let setup = Setup { ids: Arc::default(), limit: u64::from(count), tombstone: TOMBSTONE };
    let opened = setup.in_store(&path, options(SyncMode::Power)).expect("a store");
    rate("open, and fill the session table", count, began.elapsed());
    let held = (resident() - before) / u64::from(count);
    println!("{:44} {held:>7} bytes a pin", "memory for that");
    let sessions = opened.sessions;
    assert_eq!(sessions.len(), u64::from(count));

    let began = clock::stopwatch();
    let mut live: Vec<(SessionKey, Timestamp)> = Vec::with_capacity(count as usize);
    for pin in read_only(&path).expect("readable").map_while(Result::ok) {
        let id = SessionId::parse(&pin.id).expect("the id of a session");
        live.push((id.key().clone(), pin.created));
    }
    rate("read beside the writer", live.len() as u32, began.elapsed());

    let began = clock::stopwatch();
    let (store, ends) = (sessions.store(), live.len().min(100_000));
    runtime.block_on(async {
        for chunk in live[..ends].chunks(AT_ONCE as usize) {
            let ends = chunk.iter().map(|(key, created)| store.end(key, *created, None));
            futures_util::future::join_all(ends).await.into_iter().for_each(|ended| {
                ended.expect("ended");
            });
        }
    });
    rate("end", ends as u32, began.elapsed());
    runtime.block_on(sessions.close());
}

fn open(path: &Path, sync: SyncMode, visitor: &mut dyn FnMut(Record<'_>) -> bool) -> Store {
    let (store, loaded) = Store::open(path, options(sync), visitor).expect("a store");
    assert_eq!(loaded.report, Vec::<String>::new());
    store
}

fn options(sync: SyncMode) -> Options {
    Options {
        sync,
        on_error: OnError::Refuse,
        slow: Duration::from_secs(2),
        metrics: Metrics::new(&[], &[]),
        events: Events::default(),
        lock: None,
    }
}

fn pin(n: u32) -> StoredPin {
    StoredPin {
        id: gateway_core::protocol::ids::mint(Uuid::new_v4()),
        backend: format!("up{:02}", n % 20),
        backend_session: None,
        target: TargetHash(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        created: Timestamp(1_700_000_000_000 + u64::from(n / 3)),
        subject: None,
        spelling: None,
    }
}

async fn fill(store: &Store, count: u32) {
    for first in (0..count).step_by(AT_ONCE as usize) {
        let pins = (first..count.min(first + AT_ONCE)).map(|n| store.pin(pin(n)));
        futures_util::future::join_all(pins).await.into_iter().for_each(|pinned| {
            pinned.expect("pinned");
        });
    }
}

async fn commit(store: &Store, at_once: u32) -> Vec<Duration> {
    let store = Arc::new(store.clone());
    let tasks: Vec<_> = (0..at_once)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for n in 0..2000 / at_once.min(4) {
                    let began = clock::stopwatch();
                    store.pin(pin(n)).await.expect("pinned");
                    latencies.push(began.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("a task"));
    }
    all
}

fn latency(label: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |share: f64| show(latencies[(latencies.len() as f64 * share) as usize]);
    println!("{label:44} median {:>9}  99 % {:>9}", at(0.5), at(0.99));
}

fn rate(label: &str, count: u32, took: Duration) {
    let rate = f64::from(count) / took.as_secs_f64();
    println!("{label:44} {:>10}  {rate:>9.0} pins/s", show(took));
}

fn show(took: Duration) -> String {
    format!("{:.3} ms", took.as_secs_f64() * 1000.0)
}

/// Bytes of memory of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
