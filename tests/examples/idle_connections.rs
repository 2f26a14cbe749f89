//! What an idle client connection costs the gateway: `idle_connections COUNT [off|front|mutual]`.
//!
//! Opens so many connections, has each serve one Ping, and divides what the gateway's memory has grown by. Both processes
//! need COUNT descriptors; the kernel's buffers are not in the figure.

use e2e_tests::client::{Connection, Head, PacketType};
use e2e_tests::farm::{Farm, ORIGIN, Tls};

fn main() {
    let mut words = std::env::args().skip(1);
    let count: u64 = words.next().and_then(|word| word.parse().ok()).expect("COUNT is a number");
    let tls = match words.next().as_deref() {
        None | Some("off") => Tls::Off,
        Some("front") => Tls::Front,
        Some("mutual") => Tls::Mutual,
        Some(other) => panic!("off, front or mutual, not {other}"),
    };
    let farm = Farm::of_stubs(1).tls(tls).set("timeouts.client_idle", "\"1h\"").start();
    let ping = Head::bits("/in/a.bin")
        .field("Host", ORIGIN)
        .field("BITS-Packet-Type", PacketType::Ping.title())
        .field("Content-Length", 0)
        .to_bytes();
    let open = || {
        let mut connection = Connection::open(farm.entrance()).expect("a connection");
        assert_eq!(connection.exchange(&ping).expect("an answer").status, 200);
        connection
    };
    // What is allocated once is not the price of a connection.
    let mut held: Vec<_> = (0..200).map(|_| open()).collect();
    let before = farm.gateway().rss_bytes();
    held.extend((0..count).map(|_| open()));
    let after = farm.gateway().rss_bytes();
    let each = (after - before) / count;
    println!(
        "{count} idle connections, TLS {tls:?}: {} KiB in all, {each} bytes each",
        after / 1024
    );
    drop(held);
}
