//! What a stranger can make the gateway hold.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e_tests::farm::{Farm, ORIGIN};
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

const READERS: usize = 60;

/// Pieces that wait for a client, and the buffer that they were read into.
const MOST_FOR_AN_ANSWER: u64 = 400 * 1024;

/// A server whose answers are far longer than all that sockets hold, and how much it could write.
fn endless() -> (SocketAddr, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                if !matches!(connection.read(&mut head), Ok(1..)) {
                    return;
                }
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
                let piece = [b'x'; 64 * 1024];
                let mut next: &[u8] = head.as_bytes();
                while let Ok(count) = connection.write(next) {
                    counted.fetch_add(count, Ordering::Relaxed);
                    next = if count < next.len() { &next[count..] } else { &piece };
                }
            });
        }
    });
    (address, written)
}

/// Threat: T9.
#[test]
fn t9_answers_that_nobody_reads_are_not_held() {
    let (server, written) = endless();
    let farm = Farm::of_stubs(0).backend("up01", server).plain().without_host_ids().start();
    let ask = || {
        let mut client = TcpStream::connect(farm.entrance()).expect("it accepts connections");
        // A small window, or the kernel takes more of the answer for us.
        rustix::net::sockopt::set_socket_recv_buffer_size(&client, 4096).expect("an option");
        client.set_read_timeout(Some(Duration::from_secs(30))).expect("an option");
        let request = format!("GET /big HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
        client.write_all(request.as_bytes()).expect("sent");
        client.read_exact(&mut [0; 512]).expect("the beginning of the answer");
        client
    };
    let all_ways_are_full = || {
        let (mut before, mut same) = (0, 0);
        wait::until_within("nothing moves any more", Duration::from_secs(60), || {
            let now = written.load(Ordering::Relaxed);
            same = if now == before { same + 1 } else { 0 };
            before = now;
            same == 20
        });
    };
    // The first ones pay for what is made once.
    let _first: Vec<_> = (0..4).map(|_| ask()).collect();
    all_ways_are_full();
    let before = farm.gateway().rss_bytes();
    let _clients: Vec<_> = (0..READERS).map(|_| ask()).collect();
    all_ways_are_full();
    let grown = farm.gateway().rss_bytes().saturating_sub(before) / READERS as u64;
    assert!(grown < MOST_FOR_AN_ANSWER, "{grown} bytes for each client that reads slowly");
    farm.expect_healthy();
}
