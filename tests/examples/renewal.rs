//! How soon a new certificate is served: `renewal ROUNDS [CONNECTIONS]`.
//!
//! Replaces certificate and key again and again and makes handshakes until the new one is shown, while so many connections ask
//! for things all the time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use e2e_tests::client::{Connection, Head, PacketType, Secure};
use e2e_tests::clock;
use e2e_tests::farm::{Farm, ORIGIN, Tls};
use e2e_tests::pki;

fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = |default: usize| match words.next() {
        Some(word) => word.parse().expect("a number"),
        None => default,
    };
    let (rounds, connections) = (number(20), number(4));
    let farm = Farm::of_stubs(1).tls(Tls::Front).start();
    let ping = Head::bits("/in/a.bin")
        .field("Host", ORIGIN)
        .field("BITS-Packet-Type", PacketType::Ping.title())
        .field("Content-Length", 0)
        .to_bytes();
    let (done, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let client = Secure::new(&pki::servers().pem(), ORIGIN, None);
    let shown = || {
        let connection = Connection::open_secure(farm.entrance(), &client).expect("a handshake");
        connection.session().expect("TLS").certificates()[0].to_vec()
    };
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut connection = Connection::open(farm.entrance()).expect("a connection");
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(connection.exchange(&ping).expect("an answer").status, 200);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let measure = |_| {
            let before = shown();
            pki::servers().issue(&[ORIGIN]).write(farm.directory().path(), "server");
            let written = clock::now();
            while shown() == before {}
            clock::now() - written
        };
        let took = (0..rounds).map(measure).collect();
        done.store(true, Ordering::SeqCst);
        took
    });
    took.sort();
    println!(
        "{rounds} certificates, {} requests meanwhile: served {:?} after they were written in the middle, {:?} at the latest",
        served.load(Ordering::SeqCst),
        took[rounds / 2],
        took[rounds - 1]
    );
}
