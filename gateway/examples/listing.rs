//! How long the first page takes of a million sessions that sleep and one that moves.
//!
//! `cargo run --release -p bits-gateway --example listing [SESSIONS]`

use std::time::Duration;

use bits_gateway::base::clock;
use bits_gateway::sessions::Sessions;
use bits_gateway::sessions::listing::{Filter, Listings, Query};
use bits_gateway::sessions::live_uploads::Packet;
use bits_gateway::sessions::view::Moment;
use gateway_core::farm::BackendId;
use gateway_core::protocol::{ContentRange, PacketType, SessionId, SessionKey};
use gateway_core::session::{Binding, Pin, Progress, TargetHash, Timestamp};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: bits_gateway::base::allocator::Allocator =
    bits_gateway::base::allocator::Allocator;

const ROUNDS: u32 = 10;

fn key(number: u64) -> SessionKey {
    let id = Uuid::from_u64_pair(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number);
    SessionId::parse(&format!("{{{id}}}")).expect("a legal id").key().clone()
}

/// Of this thread, so that a busy machine does not count.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

fn main() {
    let count = std::env::args().nth(1).map_or(1_000_000, |count| count.parse().expect("a number"));
    let sessions = Sessions::new(count + 1, Duration::from_secs(60));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        for number in 0..=count {
            let pin = Pin {
                backend: BackendId((number % 20) as u32),
                backend_session: None,
                binding: Binding::unspelled(TargetHash(number)),
                created: Timestamp(0),
                subject: None,
            };
            let pinned = sessions.pin(key(number), pin, Progress::default(), Duration::ZERO).await;
            pinned.expect("there is room");
        }
    });
    let packet = Packet {
        kind: PacketType::Fragment,
        range: ContentRange::new(0, 99, 100).ok(),
        path: b"/in/a.bin",
        user_agent: None,
        client: None,
        backend: BackendId(0),
        arrived: clock::steady(),
    };
    let moving = key(count / 2);
    let request = sessions.show_live(&moving, &packet, || None).expect("room");
    for (what, filter) in [
        ("all", Filter::default()),
        ("of one path", Filter { path: Some("a.bin".to_owned()), ..Filter::default() }),
    ] {
        let query = Query { filter, after: None, limit: 50, more: true };
        let (begun, worked) = (clock::steady(), processor_time());
        for round in 1..=ROUNDS {
            request.came(u64::from(round));
            let page = Listings::default().page(&sessions, &query, Moment::now());
            let page = page.expect("it is the first");
            assert_eq!(page.rows[0].key, moving, "what moves is row 1");
        }
        let took = (clock::steady() - begun) / ROUNDS;
        let worked = (processor_time() - worked) / ROUNDS;
        println!("first page, {what}: {took:?}, of which {worked:?} on a processor");
    }
}
