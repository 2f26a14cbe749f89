//! What a session takes in memory: `cargo run -p bits-gateway --example pins -- KIND`.
//!
//! Fills the table in this process, without a store, from 500,000 to 2,000,000 sessions, and prints
//! how many bytes of resident memory each takes. The allocator is the gateway's. A debug build takes
//! as much memory as another.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bits_gateway::base::clock;
use bits_gateway::sessions::{Birth, Pinned, Sessions};
use gateway_core::farm::BackendId;
use gateway_core::protocol::client::ClientKey;
use gateway_core::protocol::{SessionId, ids};
use gateway_core::session::limits::PerClient;
use gateway_core::session::{Binding, EndReason, Pin, Progress, Subject, TargetHash};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: bits_gateway::base::allocator::Allocator =
    bits_gateway::base::allocator::Allocator;

const FIRST: u64 = 500_000;
const LAST: u64 = 2_000_000;
const STEP: u64 = 50_000;

/// What the sessions are like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Under the ids of their backends, which are GUIDs, of a thousand clients.
    Usual,
    /// As the usual ones, each of a client of its own.
    Clients,
    /// Under ids of the gateway's own.
    Minted,
    /// As the usual ones, each bound to a certificate of its own.
    Bound,
    /// Under ids that are no GUIDs.
    Text,
    /// Ended and remembered.
    Ended,
    /// As the usual ones; half of them end, and as many others come, four times at each step.
    Churn,
}

const KINDS: [(&str, Kind); 7] = [
    ("usual", Kind::Usual),
    ("clients", Kind::Clients),
    ("minted", Kind::Minted),
    ("bound", Kind::Bound),
    ("text", Kind::Text),
    ("ended", Kind::Ended),
    ("churn", Kind::Churn),
];

fn main() {
    let asked = std::env::args().nth(1).unwrap_or_default();
    let Some((_, kind)) = KINDS.into_iter().find(|(name, _)| *name == asked) else {
        let names = KINDS.map(|(name, _)| name).join(" | ");
        eprintln!("usage: pins {names}");
        std::process::exit(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(fill(kind));
}

async fn fill(kind: Kind) {
    let sessions = Sessions::new(LAST * 2, Duration::from_secs(24 * 3600));
    // In its final size and resident, so that it does not count.
    let mut open = vec![u64::MAX; usize::try_from(LAST).expect("it fits")];
    open.clear();
    let mut table = Filled { kind, sessions, open, next: 0 };
    // What the first ones load is not theirs.
    table.fill(1000).await;
    let before = resident();
    let mut worst = (0, 0);
    for count in (FIRST..=LAST).step_by(STEP as usize) {
        table.fill(count).await;
        if kind == Kind::Churn {
            for _ in 0..4 {
                table.end_half().await;
                table.fill(count).await;
            }
        }
        let held = resident().saturating_sub(before);
        let each = held / count;
        println!("{count:>9} sessions {each:>5} bytes each");
        worst = worst.max((each, count));
    }
    println!("{:>9} sessions {:>5} bytes each: the most", worst.1, worst.0);
}

struct Filled {
    kind: Kind,
    sessions: Arc<Sessions>,
    /// The numbers of those that are there.
    open: Vec<u64>,
    next: u64,
}

impl Filled {
    async fn fill(&mut self, count: u64) {
        while (self.open.len() as u64) < count {
            self.open().await;
        }
    }

    /// In no order.
    async fn end_half(&mut self) {
        self.open.sort_unstable_by_key(|number| mixed(*number ^ self.next));
        for number in self.open.drain(self.open.len() / 2..) {
            let id = SessionId::parse(&public_id(self.kind, number)).expect("a legal id");
            let ended = self.sessions.unpin(id.key(), EndReason::Lost, clock::steady()).await;
            assert!(ended.is_some());
        }
    }

    async fn open(&mut self) {
        let number = self.next;
        self.next += 1;
        self.open.push(number);
        let id = public_id(self.kind, number);
        let key = SessionId::parse(&id).expect("a legal id").key().clone();
        let (created, steady) = (clock::now(), clock::steady());
        let minted = self.kind == Kind::Minted;
        let pin = Pin {
            backend: BackendId(u32::try_from(number % 20).expect("small")),
            backend_session: minted.then(|| ids::mint(guid(number, 2)).into()),
            binding: Binding::unspelled(TargetHash(mixed(number))),
            created,
            subject: (self.kind == Kind::Bound)
                .then(|| Subject::new(u128::from(number).to_be_bytes())),
        };
        if self.kind == Kind::Ended {
            self.sessions.remember_end(&key, &pin, EndReason::Closed, steady).await;
            return;
        }
        let client = match self.kind {
            Kind::Clients => number,
            _ => number % 1000,
        };
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(client) << 64);
        let client = Some(ClientKey::of(IpAddr::V6(address)));
        let place = self.sessions.places().reserve(client, PerClient::Most(u64::MAX));
        let mut place = Some(place.expect("there is room"));
        let pinned = self.sessions.pin_opened(&mut place, key.clone(), pin, created, steady).await;
        assert_eq!(pinned.expect("there is room"), Pinned::New);
        // As an upload does.
        let target = format!("/upload/file-{number}.bin").into_bytes();
        self.sessions.keep_birth(&key, &Birth { target, id });
        let progress = Progress { next_offset: 4096, total: 1 << 20, seen: clock::now() };
        assert!(self.sessions.progress(&key, progress, steady));
    }
}

fn public_id(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Text => format!("upload-session-{number:010}"),
        _ => ids::mint(guid(number, 1)),
    }
}

/// As random as those of servers, and the same each time.
fn guid(number: u64, salt: u64) -> Uuid {
    Uuid::from_u64_pair(mixed(number * 4 + salt), mixed(!(number * 4 + salt)))
}

/// The finalizer of splitmix64.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Bytes of memory of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
