//! What a request costs in memory to be counted and logged: nothing, once everything is warm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bits_gateway::sessions::Sessions;
use bits_gateway::sessions::live_uploads::{LiveUploads, Packet};
use bits_gateway::telemetry::access_log::{AccessLog, RequestLine};
use bits_gateway::telemetry::log_writer::Destination;
use bits_gateway::telemetry::metrics::{Carrier, Metrics, Outcome, PacketLabel, ProtocolError};
use futures_util::FutureExt;
use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::client::ClientKey;
use gateway_core::protocol::{ContentRange, HResult, PacketType, SessionId};
use gateway_core::routing::Why;
use gateway_core::session::live::Wait;
use gateway_core::session::{Binding, Pin, Progress, Target, Timestamp};
use uuid::Uuid;

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that it has asked for, without those that it has given back.
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get().wrapping_add(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get().wrapping_add(size).wrapping_sub(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[track_caller]
fn check(mut work: impl FnMut()) {
    work();
    let before = ALLOCATIONS.get();
    for _ in 0..20 {
        work();
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[test]
fn counting_a_request_allocates_nothing() {
    let up01 = BackendId(0);
    let metrics = Metrics::new(&["public".to_owned()], &[(up01, "up01".to_owned(), 1)]);
    let mut outcome = Outcome::new(0, PacketLabel::Fragment);
    outcome.status = 503;
    outcome.fault = Some(Fault::BackendDown);
    outcome.backend = Some(up01);
    outcome.protocol_error = Some(ProtocolError::Range);
    outcome.range = ContentRange::new(0, 9, 10).ok();
    outcome.pin_found = Some(true);
    outcome.backend_wait = Some(Duration::from_millis(1));
    check(|| {
        let _guards = (metrics.request(0), metrics.backend_connected(up01, true));
        metrics.record(&outcome);
    });
}

fn fragment() -> Packet<'static> {
    Packet {
        kind: PacketType::Fragment,
        range: ContentRange::new(0, 9, 10).ok(),
        path: b"/in/a.bin",
        user_agent: Some(b"Microsoft BITS/7.8"),
        client: Some("192.0.2.1".parse().unwrap()),
        backend: BackendId(0),
        arrived: Duration::ZERO,
    }
}

#[test]
fn showing_a_packet_of_an_upload_allocates_nothing() {
    let sessions = Sessions::new(10, Duration::from_secs(60));
    let id = SessionId::parse("{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}").unwrap();
    let pin = Pin {
        backend: BackendId(0),
        backend_session: None,
        binding: Binding::to(Target::of(b"/in/a.bin"), b"/in/a.bin"),
        created: Timestamp(0),
        subject: None,
    };
    let pinned = sessions.pin(id.key().clone(), pin, Progress::default(), Duration::ZERO);
    assert!(pinned.now_or_never().unwrap().is_ok());
    check(|| {
        let live = sessions.show_live(id.key(), &fragment(), || None).unwrap();
        live.came(10);
        live.waits_for(Wait::Answer);
        live.answered(Some(200));
    });
}

/// What the documents say.
#[test]
fn all_live_uploads_with_the_longest_texts_take_20_mb() {
    let before = BYTES.get();
    let uploads = LiveUploads::default();
    let longest = [b'a'; 300];
    let packet = |number| Packet {
        path: &longest,
        user_agent: Some(&longest),
        client: Some(IpAddr::from(Ipv4Addr::from_bits(number))),
        ..fragment()
    };
    let begin = |number: u32| {
        let id = SessionId::parse(&format!("{{{}}}", Uuid::from_u128(number.into()))).unwrap();
        let holder = ClientKey::of(Ipv4Addr::from_bits(number).into());
        drop(uploads.begin(id.key(), &packet(number), || Some(holder)));
    };
    (0..20_000).for_each(begin);
    let full = BYTES.get() - before;
    println!("{full} bytes");
    assert_eq!(uploads.len(), 20_000);
    assert!((18_000_000..20_000_000).contains(&full), "{full}");
    // Who comes later takes the room of another one.
    (20_000..20_100).for_each(begin);
    assert_eq!(uploads.len(), 20_000);
    assert!(BYTES.get() - before < 20_000_000);
}

#[test]
fn a_target_is_compared_without_allocating() {
    for text in [&b"/in/a.bin?x=1"[..], b"/in/a%20b%C3%A9.bin"] {
        let target = Target::of(text);
        check(|| {
            let target = Target::of(text);
            let binding = Binding::to(target, text);
            assert!(target.is(binding.target) && binding.onward(target, text).is_none());
        });
        // Of all spellings, only what is to be sent on is written.
        check(|| assert!(!Target::of(b"/in/%62").is(target.hash())));
    }
}

#[test]
fn logging_a_request_allocates_nothing() {
    let folder = std::env::temp_dir().join(format!("allocations-{}", Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let metrics = Metrics::new(&[], &[]);
    let path = folder.join("access.log");
    let (log, guard) = AccessLog::open(Destination::File(path.clone()), metrics.logs()).unwrap();
    let session = SessionId::parse("{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}").unwrap();
    let line = RequestLine {
        ts: Timestamp(1_782_828_000_123),
        request_id: Uuid::from_u128(1),
        session: Some(session.key()),
        packet: PacketLabel::Fragment,
        method: b"BITS_POST",
        host: Some(b"up01.uploads.example.com"),
        target: b"/in/a.bin?x",
        client: Some("192.0.2.1".parse().unwrap()),
        tls_version: Some("TLSv1.2"),
        backend: Some("up01"),
        carrier: Some(Carrier::Relay),
        pin_source: Some(Why::Pin),
        status: Some(500),
        bits_error: Some(HResult::SESSION_NOT_FOUND),
        rule: None,
        fault: Some(Fault::UnknownSession),
        bytes_in: 10,
        bytes_out: 0,
        range: ContentRange::new(0, 9, 10).ok(),
        total_time: Duration::from_micros(12_345),
        backend_time: Some(Duration::from_micros(2_345)),
        retries: 0,
        conn_reused: Some(true),
        user_agent: Some(b"Microsoft BITS/7.8"),
        traceparent: Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    };
    check(|| log.request(|| line.clone()));
    drop(guard);
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 21);
    std::fs::remove_dir_all(folder).unwrap();
}
