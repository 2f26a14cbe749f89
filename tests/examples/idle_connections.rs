//! What an idle client connection costs the gateway: `idle_connections COUNT [off|front|mutual]`.
//!
//! Opens so many connections, has each serve one Ping, and divides what the gateway's memory has grown by. Both processes
//! need COUNT descriptors; the kernel's buffers are not in the figure.

use e2e_tests::crowd::idle;
use e2e_tests::farm::Tls;

fn main() {
    let mut words = std::env::args().skip(1);
    let count = words.next().and_then(|word| word.parse().ok()).expect("COUNT is a number");
    let tls = match words.next().as_deref() {
        None | Some("off") => Tls::Off,
        Some("front") => Tls::Front,
        Some("mutual") => Tls::Mutual,
        Some(other) => panic!("off, front or mutual, not {other}"),
    };
    println!("{count} idle connections, TLS {tls:?}: {} bytes each", idle(count, tls));
}
