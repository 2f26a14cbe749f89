//! How long a certificate that was replaced goes on being shown, and what that costs clients: `renewal COUNT`.
//!
//! Four clients send Pings meanwhile, two of them over a new connection each time. The time runs from the moment at which
//! the new files are there to the end of the first handshake that shows the new certificate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use e2e_tests::client::{Connection, Head, PacketType, Secure};
use e2e_tests::clock;
use e2e_tests::farm::{Farm, ORIGIN, Tls};
use e2e_tests::pki;

fn main() {
    let count =
        std::env::args().nth(1).and_then(|word| word.parse().ok()).expect("COUNT is a number");
    let farm = Farm::of_stubs(2).tls(Tls::Front).start();
    let ping = Head::bits("/in/a.bin")
        .field("Host", ORIGIN)
        .field("BITS-Packet-Type", PacketType::Ping.title())
        .field("Content-Length", 0)
        .to_bytes();
    let (done, served, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let took = std::thread::scope(|scope| {
        for keep in [true, true, false, false] {
            let (farm, ping, done, served, failed) = (&farm, &ping, &done, &served, &failed);
            scope.spawn(move || {
                let mut kept = None;
                while !done.load(Ordering::SeqCst) {
                    let answer = kept
                        .take()
                        .map_or_else(|| Connection::open(farm.entrance()).map_err(drop), Ok)
                        .and_then(|mut connection| {
                            let answer = connection.exchange(ping).map_err(drop)?;
                            kept = keep.then_some(connection);
                            Ok(answer.status)
                        });
                    let counter = if answer == Ok(200) { served } else { failed };
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let took = replace(&farm, count);
        done.store(true, Ordering::SeqCst);
        took
    });
    let (served, failed) = (served.into_inner(), failed.into_inner());
    println!("{served} requests served, {failed} failed, while {count} certificates were replaced");
    println!(
        "a new one was shown after {:?} to {:?}, {:?} in the middle",
        took[0],
        took[took.len() - 1],
        took[took.len() / 2]
    );
}

/// Times in order.
fn replace(farm: &Farm, count: usize) -> Vec<Duration> {
    let client = Secure::new(&pki::servers().pem(), ORIGIN, None);
    let shown = || {
        let connection = Connection::open_secure(farm.entrance(), &client).expect("a handshake");
        connection.session().expect("over TLS").certificates()[0].to_vec()
    };
    let mut before = shown();
    let mut took: Vec<_> = (0..count)
        .map(|_| {
            let issued = pki::servers().issue(&[ORIGIN, "*.up.test"]);
            issued.write(farm.directory().path(), "server");
            let start = clock::now();
            let after = std::iter::repeat_with(shown).find(|now| *now != before);
            let took = start.elapsed();
            before = after.expect("there is no end to asking");
            took
        })
        .collect();
    took.sort_unstable();
    took
}
