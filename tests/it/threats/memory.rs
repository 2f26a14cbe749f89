//! What a stranger can make the gateway hold.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use e2e_tests::farm::ORIGIN;
use e2e_tests::raw_backend::RawBackend;
use e2e_tests::wait;

use crate::packets::{Servers, TARGET, ping};

const CONNECTIONS: usize = 300;

#[track_caller]
fn connect(servers: &Servers) -> TcpStream {
    TcpStream::connect(servers.farm.entrance()).expect("the gateway accepts connections")
}

#[track_caller]
fn wait_for_connections(servers: &Servers, count: usize) {
    wait::until_within("all are open", Duration::from_secs(20), || {
        servers.farm.metric("bitsgw_connections", &[]) >= count as f64
    });
}

/// Threat: T9.
#[test]
fn t9_heads_that_never_end_cost_a_small_multiple_of_their_bytes() {
    let servers = Servers::with(1, |farm| farm.set("timeouts.client_head", "\"60s\""));
    servers.passes(&ping(TARGET));
    let before = servers.farm.gateway().rss_bytes();
    // Just below the limit of a head.
    let start = format!("BITS_POST {TARGET} HTTP/1.1\r\nHost: {ORIGIN}\r\nX: ");
    let head = format!("{start}{}", "y".repeat(32 * 1024 - start.len() - 100));
    let held: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = connect(&servers);
            client.write_all(head.as_bytes()).expect("sent");
            client
        })
        .collect();
    wait_for_connections(&servers, CONNECTIONS);
    servers.passes(&ping(TARGET));
    let grown = servers.farm.gateway().rss_bytes().saturating_sub(before);
    let sent = (CONNECTIONS * head.len()) as u64;
    assert!(grown < 10 * sent, "{grown} bytes for {sent}");
    drop(held);
}

/// Threat: T9.
#[test]
fn t9_bodies_that_nobody_reads_are_not_held() {
    // It reads no body, and never answers.
    let servers = Servers::of(
        vec![RawBackend::scripted(|_, _| e2e_tests::raw_backend::Reply::Hang)],
        |farm| farm,
    );
    let before = servers.farm.gateway().rss_bytes();
    const LENGTH: usize = 64 << 20;
    let head =
        format!("POST {TARGET} HTTP/1.1\r\nHost: {ORIGIN}\r\nContent-Length: {LENGTH}\r\n\r\n");
    let piece = vec![b'x'; 64 * 1024];
    let mut sent = 0_usize;
    let held: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut client = connect(&servers);
            client.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket option");
            client.write_all(head.as_bytes()).expect("sent");
            // Until the way is full.
            while let Ok(count) = client.write(&piece) {
                sent += count;
                assert!(sent < 20 * LENGTH, "backpressure reaches the client");
            }
            client
        })
        .collect();
    let grown = servers.farm.gateway().rss_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes for {} stuck bodies of {sent} bytes", held.len());
}
