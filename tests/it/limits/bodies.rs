//! Memory that the bodies of requests take while their servers read none of them.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use e2e_tests::raw_backend::{Moment, RawBackend, Reply};

use crate::packets::{Servers, TARGET, fragment, ping, server};

const FRAGMENTS: usize = 208;

/// Bytes for each of them, of a debug build. It takes 29 KB; with a budget that is never used up,
/// 91 KB.
const MOST: u64 = 60 * 1024;

/// More than all sockets on the way hold.
const LENGTH: usize = 64 << 20;

/// A server that reads no body of some Fragments.
fn stuck() -> RawBackend {
    let honest = server(0);
    RawBackend::scripted(move |moment, request| match moment {
        Moment::Head if request.field("X-Stuck").is_some() => Reply::Hang,
        Moment::Head => Reply::Wait,
        Moment::Body => honest(request),
    })
}

/// Sends a Fragment until its way is full.
fn fill(servers: &Servers, (target, id): &(String, String)) -> TcpStream {
    let range = format!("bytes 0-{}/{LENGTH}", LENGTH - 1);
    let head = String::from_utf8(fragment(target, id, &range, b"").with("X-Stuck", "1").bytes());
    let head = head.expect("ASCII");
    let head = head.replace("Content-Length: 0", &format!("Content-Length: {LENGTH}"));
    let mut client = TcpStream::connect(servers.farm.entrance()).expect("a connection");
    client.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket option");
    client.write_all(head.as_bytes()).expect("the head is taken");
    let piece = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while let Ok(count) = client.write(&piece) {
        sent += count;
        assert!(sent < LENGTH, "backpressure reaches the client");
    }
    client
}

/// Threat: T9.
#[test]
fn t9_bodies_share_one_budget_of_memory() {
    let servers = Servers::of(vec![stuck()], |farm| farm.set("limits.body_memory", "\"4 MiB\""));
    servers.passes(&ping(TARGET));
    let uploads: Vec<_> = (0..FRAGMENTS)
        .map(|number| {
            let target = format!("/in/{number}.bin");
            let (id, _) = servers.open(&target);
            (target, id)
        })
        .collect();
    let (free, _) = servers.open("/in/a.bin");
    let before = servers.farm.gateway().rss_bytes();
    let held: Vec<TcpStream> = std::thread::scope(|scope| {
        let fill_all = |uploads| {
            let servers = &servers;
            scope.spawn(move || -> Vec<_> {
                <[_]>::iter(uploads).map(|upload| fill(servers, upload)).collect()
            })
        };
        let threads: Vec<_> = uploads.chunks(FRAGMENTS / 16).map(fill_all).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let grown = servers.farm.gateway().rss_bytes().saturating_sub(before);
    assert_eq!(held.len(), FRAGMENTS);
    // The smallest pieces, and what any request under way takes.
    assert!(grown < FRAGMENTS as u64 * MOST, "{grown} bytes for {FRAGMENTS} Fragments");
    // Where bodies are read in the smallest pieces, they still pass.
    let body = vec![b'y'; 300_000];
    let answer = servers.ask(&fragment("/in/a.bin", &free, "bytes 0-299999/300000", &body));
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(servers.backends[0].requests().iter().any(|request| request.body == body));
}
