//! What the control listener tells: counters, and the last requests byte for byte.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::packet::{Class, Kind};

/// Requests kept.
const RING: usize = 4096;

/// Bytes of request heads kept; a ring of the longest heads would take 256 MiB.
const RING_BYTES: usize = 32 * 1024 * 1024;

/// Counters since the process started.
#[derive(Default)]
pub struct Stats {
    packets: [AtomicU64; 6],
    pub foreign: AtomicU64,
    pub connections: AtomicU64,
    pub open_connections: AtomicU64,
    /// Handshakes of TLS that were done in full, and those that went on where an earlier one ended.
    pub full_handshakes: AtomicU64,
    pub resumed_handshakes: AtomicU64,
    pub body_bytes: AtomicU64,
}

/// `GET /stats`.
#[derive(Debug, Serialize)]
pub struct StatsView {
    packets: PacketsView,
    foreign: u64,
    connections: u64,
    open_connections: u64,
    full_handshakes: u64,
    resumed_handshakes: u64,
    sessions: u64,
    body_bytes: u64,
}

#[derive(Debug, Serialize)]
struct PacketsView {
    ping: u64,
    create_session: u64,
    fragment: u64,
    close_session: u64,
    cancel_session: u64,
    other: u64,
}

/// One request of `GET /requests`.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub connection: u64,
    /// The exact bytes, each as the character with its number.
    pub head: String,
    pub body_bytes: u64,
    pub body_sha256: String,
    pub complete: bool,
    pub status: Option<u16>,
}

/// The last requests. Keeps nothing when nobody can ask.
pub struct Requests {
    ring: Option<Mutex<Ring>>,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<Record>,
    /// Number of the first record in the ring.
    first: u64,
    bytes: usize,
}

impl Stats {
    pub fn count(&self, class: Class) {
        let at = match class {
            Class::Packet(Kind::Ping) => 0,
            Class::Packet(Kind::CreateSession) => 1,
            Class::Packet(Kind::Fragment) => 2,
            Class::Packet(Kind::CloseSession) => 3,
            Class::Packet(Kind::CancelSession) => 4,
            _ => 5,
        };
        self.packets[at].fetch_add(1, Relaxed);
    }

    pub fn view(&self, sessions: usize) -> StatsView {
        let [ping, create_session, fragment, close_session, cancel_session, other] =
            std::array::from_fn(|at| self.packets[at].load(Relaxed));
        StatsView {
            packets: PacketsView {
                ping,
                create_session,
                fragment,
                close_session,
                cancel_session,
                other,
            },
            foreign: self.foreign.load(Relaxed),
            connections: self.connections.load(Relaxed),
            open_connections: self.open_connections.load(Relaxed),
            full_handshakes: self.full_handshakes.load(Relaxed),
            resumed_handshakes: self.resumed_handshakes.load(Relaxed),
            sessions: sessions as u64,
            body_bytes: self.body_bytes.load(Relaxed),
        }
    }
}

impl Requests {
    pub fn new(keep: bool) -> Self {
        Self { ring: keep.then(Mutex::default) }
    }

    pub fn are_kept(&self) -> bool {
        self.ring.is_some()
    }

    /// Adds a request whose head has arrived, and returns its number.
    pub fn begin(&self, connection: u64, head: &[u8]) -> u64 {
        let Some(mut ring) = self.lock() else {
            return 0;
        };
        ring.bytes += head.len();
        ring.records.push_back(Record {
            connection,
            head: head.iter().map(|&byte| char::from(byte)).collect(),
            body_bytes: 0,
            body_sha256: String::new(),
            complete: false,
            status: None,
        });
        let number = ring.first + ring.records.len() as u64 - 1;
        while ring.records.len() > RING || ring.bytes > RING_BYTES {
            if let Some(oldest) = ring.records.pop_front() {
                ring.first += 1;
                ring.bytes -= oldest.head.chars().count();
            }
        }
        number
    }

    /// Notes how a request went on, if it is still in the ring.
    pub fn update(&self, number: u64, change: impl FnOnce(&mut Record)) {
        if let Some(mut ring) = self.lock()
            && let Some(at) = number.checked_sub(ring.first)
            && let Ok(at) = usize::try_from(at)
            && let Some(record) = ring.records.get_mut(at)
        {
            change(record);
        }
    }

    pub fn all(&self) -> Vec<Record> {
        self.lock().map_or_else(Vec::new, |ring| ring.records.iter().cloned().collect())
    }

    pub fn clear(&self) {
        if let Some(mut ring) = self.lock() {
            ring.first += ring.records.len() as u64;
            ring.records.clear();
            ring.bytes = 0;
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Ring>> {
        self.ring.as_ref().map(|ring| ring.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest() {
        let requests = Requests::new(true);
        for number in 0..5000_u64 {
            assert_eq!(requests.begin(number, b"GET"), number);
        }
        let all = requests.all();
        assert_eq!(all.len(), RING);
        assert_eq!(all[0].connection, 5000 - RING as u64);
        requests.update(4999, |record| record.status = Some(200));
        requests.update(0, |record| record.status = Some(500));
        assert_eq!(requests.all()[RING - 1].status, Some(200));
        assert_eq!(requests.all()[0].status, None);
    }

    #[test]
    fn a_request_may_end_after_the_ring_was_cleared() {
        let requests = Requests::new(true);
        let old = requests.begin(1, b"GET");
        requests.clear();
        let new = requests.begin(2, b"GET");
        requests.update(old, |record| record.status = Some(500));
        requests.update(new, |record| record.status = Some(200));
        assert_eq!(requests.all().len(), 1);
        assert_eq!(requests.all()[0].status, Some(200));
    }

    #[test]
    fn heads_are_kept_byte_for_byte() {
        let requests = Requests::new(true);
        requests.begin(1, b"A\xff\x00\"");
        let text = serde_json::to_string(&requests.all()[0].head).unwrap();
        assert_eq!(text, "\"A\u{ff}\\u0000\\\"\"");
    }
}
