//! What the session store costs: `cargo bench -p bits-gateway --bench store [-- PINS [DIRECTORY]]`.
//!
//! The directory should lie on the disk that is to be judged; a memory file system has nothing to
//! wait for.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bits_gateway::clock;
use bits_gateway::metrics::Metrics;
use bits_gateway::store::{OnError, Options, Record, Store, StoredPin, SyncMode, read_only};
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::{Pin, TargetHash, Timestamp};
use uuid::Uuid;

/// Pins under way at once while the table is filled.
const AT_ONCE: u32 = 1000;

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
    let began = clock::stopwatch();
    let before = resident();
    let mut live: Vec<(SessionKey, Pin)> = Vec::with_capacity(count as usize);
    let store = open(&path, SyncMode::Power, &mut |record| {
        if let Record::Pin(pin) = record
            && let Some(id) = SessionId::parse(pin.id)
        {
            let backend = gateway_core::farm::BackendId(u32::from(pin.backend.len() as u16));
            let backend_session = pin.backend_session.map(Into::into);
            let made = Pin { backend, backend_session, target: pin.target, created: pin.created };
            live.push((id.key().clone(), made));
        }
        true
    });
    rate("open, read and keep", count, began.elapsed());
    println!("{:44} {:>7} MiB", "memory for that", (resident() - before) >> 20);

    let began = clock::stopwatch();
    let read = read_only(&path).expect("readable").filter(Result::is_ok).count();
    rate("read beside the writer", read as u32, began.elapsed());

    let began = clock::stopwatch();
    let ends = live.len().min(100_000);
    runtime.block_on(async {
        for chunk in live[..ends].chunks(AT_ONCE as usize) {
            let ends = chunk.iter().map(|(key, pin)| store.end(key, pin.created, None));
            futures_util::future::join_all(ends).await.into_iter().for_each(|ended| {
                ended.expect("ended");
            });
        }
    });
    rate("end", ends as u32, began.elapsed());
    runtime.block_on(store.close());
}

fn open(path: &Path, sync: SyncMode, visitor: &mut dyn FnMut(Record<'_>) -> bool) -> Store {
    let metrics = Metrics::new(&[], &[]);
    let options = Options { sync, on_error: OnError::Refuse, metrics };
    let (store, loaded) = Store::open(path, options, visitor).expect("a store");
    assert_eq!(loaded.report, Vec::<String>::new());
    store
}

fn pin(n: u32) -> StoredPin {
    StoredPin {
        id: gateway_core::protocol::ids::mint(Uuid::new_v4()),
        backend: format!("up{:02}", n % 20),
        backend_session: None,
        target: TargetHash(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        created: Timestamp(1_700_000_000_000 + u64::from(n / 3)),
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
