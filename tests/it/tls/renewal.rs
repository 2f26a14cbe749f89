//! Certificates that are replaced while the gateway runs.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use e2e_tests::client::{Connection, FragmentSizes, Secure};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN, Tls};
use e2e_tests::pki::{self, Issued, Validity};
use e2e_tests::wait;

use crate::packets::{TARGET, ping};

/// What a new client is shown now.
fn shown(farm: &Farm) -> Vec<u8> {
    let client = Secure::new(&pki::servers().pem(), ORIGIN, None);
    let connection = Connection::open_secure(farm.entrance(), &client).expect("a handshake");
    connection.session().unwrap().certificates()[0].to_vec()
}

fn fresh(names: &[&str]) -> Issued {
    pki::servers().issue(names)
}

fn replace(farm: &Farm, issued: &Issued) {
    issued.write(farm.directory().path(), "server");
}

/// The lines of the log that say why new certificates were not taken.
fn complaints(farm: &Farm) -> Vec<String> {
    let log = farm.gateway().log();
    log.lines().filter(|line| line.contains("the old ones stay")).map(str::to_owned).collect()
}

/// Threat: T15.
#[test]
fn a_certificate_is_replaced_under_load_without_a_failed_request() {
    let farm = Farm::of_stubs(2).tls(Tls::Front).start();
    let old = shown(&farm);
    let done = AtomicBool::new(false);
    let served = AtomicU64::new(0);
    std::thread::scope(|scope| {
        // Some keep their connection, and some make a new one each time.
        for keep in [true, true, false, false] {
            let (farm, done, served) = (&farm, &done, &served);
            scope.spawn(move || {
                let mut kept = Connection::open(farm.entrance()).expect("a connection");
                while !done.load(Ordering::SeqCst) {
                    if !keep {
                        kept = Connection::open(farm.entrance()).expect("a new connection");
                    }
                    let answer = kept.exchange(&ping(TARGET).bytes()).expect("an answer");
                    assert_eq!(answer.status, 200);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let content = Content::seeded(7, 3_000_000);
        let (farm, done) = (&farm, &done);
        let upload = scope.spawn(move || {
            let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(50_000));
            client.upload(&farm.url("/in/long.bin"), &content).expect_smooth();
            farm.expect_stored("/in/long.bin", &content);
        });
        let mut before = old;
        for _ in 0..3 {
            replace(farm, &fresh(&[ORIGIN, "*.up.test"]));
            let after = wait::some_within("the new one is shown", Duration::from_secs(10), || {
                let now = shown(farm);
                (now != before).then_some(now)
            });
            before = after;
            let so_far = served.load(Ordering::SeqCst);
            wait::until("requests go on", || served.load(Ordering::SeqCst) > so_far + 20);
        }
        let ended = upload.join();
        done.store(true, Ordering::SeqCst);
        ended.expect("the upload that began before is whole");
    });
    assert_eq!(complaints(&farm), Vec::<String>::new());
    farm.expect_healthy();
}

/// What is wrong, how it comes about, and words that the log must have.
type Case<'c> = (&'c str, &'c dyn Fn(), &'c [&'c str]);

/// Threat: T15. Threat: T16.
#[test]
fn what_cannot_be_used_is_not_used_and_the_log_says_why() {
    let farm = Farm::of_stubs(1).tls(Tls::Front).start();
    let good = shown(&farm);
    let directory = farm.directory().path().to_path_buf();
    let (certificate, key) = (directory.join("server.pem"), directory.join("server-key.pem"));
    let other = fresh(&[ORIGIN]);
    let over = pki::servers().issue_valid(&[ORIGIN], Validity::Over);
    let not_yet = pki::servers().issue_valid(&[ORIGIN], Validity::NotYet);
    let put = |issued: &Issued| replace(&farm, issued);
    let cases: [Case; 7] = [
        (
            "a key of another certificate",
            &|| pki::write(&key, &other.key, 0o600),
            &["server-key.pem", "is not the one of the certificate", "openssl"],
        ),
        ("expired", &|| put(&over), &["server.pem", "has expired", "2000"]),
        ("not valid yet", &|| put(&not_yet), &["server.pem", "is not valid before", "4000"]),
        (
            "no such file",
            &|| std::fs::remove_file(&certificate).unwrap(),
            &["server.pem", "cannot read", "put a PEM file at"],
        ),
        (
            "no certificate in it",
            &|| pki::write(&certificate, "hello\n", 0o644),
            &["server.pem", "no certificate"],
        ),
        (
            "a key that others can read",
            &|| {
                pki::write(&certificate, &other.certificate, 0o644);
                pki::write(&key, &other.key, 0o644);
            },
            &["server-key.pem", "can be read by others (mode 0644)", "chmod 600"],
        ),
        ("no key in it", &|| pki::write(&key, "", 0o600), &["server-key.pem", "no private key"]),
    ];
    for (what, harm, words) in cases {
        let before = complaints(&farm).len();
        harm();
        let said = wait::some(what, || {
            let all = complaints(&farm);
            all[before..].iter().find(|line| words.iter().all(|word| line.contains(word))).cloned()
        });
        assert!(said.contains("\"level\":\"ERROR\"") || said.contains("\"ERROR\""), "{said}");
        assert_eq!(shown(&farm), good, "{what}: the old one stays");
    }
    replace(&farm, &other);
    wait::until("what is right again is used again", || shown(&farm) != good);
    farm.expect_healthy();
}

/// Threat: T15.
#[test]
fn the_end_of_a_certificate_is_shown_and_follows_it() {
    let farm = Farm::of_stubs(1).tls(Tls::Mutual).start();
    let file = |name: &str| farm.directory().join(name).display().to_string();
    let expiry = |name: &str| {
        farm.metric("bitsgw_tls_certificate_expiry_timestamp_seconds", &[("name", &file(name))])
    };
    // What rcgen gives: the first day of 4096.
    let default = 67_090_118_400.0;
    assert_eq!(expiry("server.pem"), default);
    assert_eq!(expiry("gateway-as-client.pem"), default, "what is shown to backends counts too");
    let soon = pki::servers().issue_until(&[ORIGIN], 2999);
    soon.write(farm.directory().path(), "server");
    wait::until("the gauge follows", || expiry("server.pem") < default);
    assert!(expiry("server.pem") > 0.0);
}

#[test]
fn a_directory_of_secrets_that_is_swapped_by_a_link_is_seen() {
    let farm_files = e2e_tests::temp::TempDir::new("secrets");
    let issue = |version: &str| {
        let directory = farm_files.join(version);
        std::fs::create_dir(&directory).unwrap();
        fresh(&[ORIGIN]).write(&directory, "server");
    };
    let link = |version: &str| {
        let fresh = farm_files.join("new");
        std::os::unix::fs::symlink(version, &fresh).unwrap();
        std::fs::rename(&fresh, farm_files.join("current")).unwrap();
    };
    issue("1");
    link("1");
    let text = |path: &Path| format!("{path:?}");
    let farm = Farm::of_stubs(1)
        .tls(Tls::Off)
        .set("listeners.public.tls.certificate", &text(&farm_files.join("current/server.pem")))
        .set("listeners.public.tls.key", &text(&farm_files.join("current/server-key.pem")))
        .start();
    let old = shown(&farm);
    issue("2");
    link("2");
    wait::until("the new one is shown", || shown(&farm) != old);
    assert_eq!(complaints(&farm), Vec::<String>::new());
}
