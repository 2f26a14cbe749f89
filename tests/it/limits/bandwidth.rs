//! Uploads at a configured rate.

use std::sync::Mutex;
use std::time::Duration;

use e2e_tests::client::{Connection, FragmentSizes};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, ORIGIN, Tls};
use e2e_tests::pki;
use e2e_tests::raw_backend::RawBackend;
use e2e_tests::temp::TempDir;

const KIB: u64 = 1024;

/// Uploads so many files at once and returns how long that took.
fn upload(farm: FarmBuilder, files: u64, size: u64) -> Duration {
    let farm = farm.start();
    let begin = e2e_tests::clock::now();
    std::thread::scope(|scope| {
        for file in 0..files {
            let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(size));
            let url = farm.url(&format!("/in/{file}.bin"));
            scope.spawn(move || {
                client.upload(&url, &Content::seeded(file, size)).expect_smooth();
            });
        }
    });
    let took = e2e_tests::clock::now() - begin;
    for file in 0..files {
        farm.expect_stored(&format!("/in/{file}.bin"), &Content::seeded(file, size));
    }
    farm.expect_healthy();
    took
}

/// A fragment that takes longer than any wait for progress, none of which it is.
fn impatient() -> FarmBuilder {
    Farm::of_stubs(1)
        .set("timeouts.client_body", "\"1s\"")
        .set("timeouts.backend_write", "\"1s\"")
        .set("timeouts.answer_long", "\"1500ms\"")
}

/// Less a quarter of a second, and the piece of 64 KiB that each goes ahead by.
fn least(bytes: u64, files: u64, rate: u64) -> Duration {
    let held_back = bytes - files * 64 * KIB - rate / 4;
    Duration::from_millis(held_back * 1000 / rate)
}

#[test]
fn all_uploads_together_keep_to_a_rate_and_trip_no_timeout() {
    let rate = 256 * KIB;
    let farm = impatient().set("limits.bandwidth", "\"256KiB\"");
    let took = upload(farm, 3, 320 * KIB);
    assert!(took >= least(3 * 320 * KIB, 3, rate), "{took:?}");
}

#[test]
fn one_client_keeps_to_its_rate_over_all_its_connections() {
    let rate = 128 * KIB;
    let farm = impatient().set("limits.bandwidth_per_client", "\"128KiB\"");
    let took = upload(farm, 2, 256 * KIB);
    assert!(took >= least(2 * 256 * KIB, 2, rate), "{took:?}");
}

/// Over TLS a piece is a record of 16 KiB at most, and without it four times that.
#[test]
fn uploads_share_a_rate_by_bytes_whatever_the_pieces_they_come_in() {
    const SIZE: usize = 1_500_000;
    let files = pki::server();
    let directory = TempDir::new("shares");
    let files = files.write(directory.path(), "server");
    let backend = RawBackend::agreeable();
    let farm = Farm::of_stubs(0)
        .backend("up01", backend.address())
        .without_host_ids()
        .set("limits.bandwidth", "\"512KiB\"")
        .set("listeners.secure.address", "\"127.0.0.1:0\"")
        .set("listeners.secure.tls.certificate", &format!("{:?}", files.certificate))
        .set("listeners.secure.tls.key", &format!("{:?}", files.key))
        .plain()
        .start();
    let plain = Connection::open_plain(farm.gateway().listener("public"));
    let secure = Connection::open_secure(farm.gateway().listener("secure"), &Tls::Front.client());
    let arrived = |path: &str| {
        let start = format!("POST {path} ");
        let all = backend.connections();
        let mut theirs = all.iter().filter(|one| one.bytes.starts_with(start.as_bytes()));
        theirs.next().map_or(0, |one| one.bytes.len())
    };
    let least = Mutex::new(None);
    std::thread::scope(|scope| {
        for (connection, path, other) in
            [(plain, "/plain", "/secure"), (secure, "/secure", "/plain")]
        {
            let (least, arrived) = (&least, &arrived);
            let mut connection = connection.expect("a connection");
            scope.spawn(move || {
                let mut bytes = format!(
                    "POST {path} HTTP/1.1\r\nHost: {ORIGIN}\r\nContent-Length: {SIZE}\r\n\r\n"
                )
                .into_bytes();
                bytes.resize(bytes.len() + SIZE, b'x');
                let answer = connection.exchange(&bytes).expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.head);
                least.lock().expect("no panic").get_or_insert_with(|| arrived(other));
            });
        }
    });
    let least = least.into_inner().expect("no panic").expect("one was first");
    assert!(least > SIZE * 3 / 4, "{least} bytes of the one had come at the end of the other");
}
