//! TLS between the gateway and its backends.

use std::path::Path;

use e2e_tests::client::FragmentSizes;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, ORIGIN, StubFault, Tls};
use e2e_tests::pki::{self, Authority, Issued, Validity};
use e2e_tests::ports::Port;
use e2e_tests::raw_backend::{RawBackend, Reply};
use e2e_tests::temp::TempDir;
use e2e_tests::tls_link::TlsLink;
use e2e_tests::wait;

use crate::packets::{TARGET, create, ping};
use e2e_tests::client::{WireError, exchange};

/// A farm of one stub that shows `issued`, and a gateway that trusts the authority of all tests.
fn showing(issued: &Issued, directory: &TempDir) -> FarmBuilder {
    let files = issued.write(directory.path(), "stub");
    let authority = directory.join("ca.pem");
    pki::write(&authority, &pki::servers().pem(), 0o644);
    let text = |path: &Path| path.display().to_string();
    Farm::of_stubs(1)
        .tls(Tls::Off)
        .each_stub(&["--tls-cert", &text(&files.certificate), "--tls-key", &text(&files.key)])
        .set_backend("up01", "tls.ca", &format!("{authority:?}"))
}

#[track_caller]
fn refused(farm: &Farm, words: &[&str]) {
    let answer = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
    assert_eq!(answer.status, 502, "{}", answer.head);
    wait::until(&format!("the log says {words:?}"), || {
        let log = farm.gateway().log();
        log.lines().any(|line| {
            line.contains("no TLS connection to a backend")
                && words.iter().all(|w| line.contains(w))
        })
    });
    assert_eq!(farm.stub(0).stats().create_session, 0);
}

#[test]
fn uploads_go_over_tls_to_the_backend_and_sessions_are_resumed() {
    let directory = TempDir::new("upstream");
    // Each thread has connections of its own.
    let farm = showing(pki::server(), &directory).set("process.threads", "1").start();
    let content = Content::seeded(1, 300_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(50_000));
    client.upload(&farm.url(TARGET), &content).expect_smooth();
    farm.expect_stored(TARGET, &content);
    let stats = farm.stub(0).stats();
    assert!(stats.connections <= 3, "connections are kept: {stats:?}");
    // Each packet gets a connection of its own from now on.
    let closing = StubFault::on_any("connection_close").times(100);
    farm.stub(0).fault(closing);
    let before = farm.stub(0).stats();
    for _ in 0..4 {
        assert_eq!(exchange(farm.entrance(), &ping(TARGET).bytes()).unwrap().status, 200);
    }
    let after = farm.stub(0).stats();
    assert!(before.full_handshakes >= 1, "the first has nothing to resume: {before:?}");
    assert_eq!(after.full_handshakes, before.full_handshakes, "{after:?}");
    assert!(after.resumed_handshakes >= before.resumed_handshakes + 3, "{before:?} {after:?}");
    farm.expect_healthy();
}

#[test]
fn what_was_resumed_under_an_authority_ends_with_it() {
    let directory = TempDir::new("upstream");
    let farm = showing(pki::server(), &directory).start();
    farm.stub(0).fault(StubFault::on_any("connection_close").times(100));
    let status = || exchange(farm.entrance(), &ping(TARGET).bytes()).unwrap().status;
    for _ in 0..3 {
        assert_eq!(status(), 200);
    }
    assert!(farm.stub(0).stats().resumed_handshakes > 0);
    pki::write(&directory.join("ca.pem"), &Authority::new("others").pem(), 0o644);
    wait::until("the backend is not trusted any more", || status() == 502);
    assert_eq!(status(), 502);
}

#[test]
fn the_name_of_the_backend_may_be_said() {
    let directory = TempDir::new("upstream");
    let named = pki::servers().issue(&["inner.test"]);
    let farm =
        showing(&named, &directory).set_backend("up01", "tls.name", "\"inner.test\"").start();
    assert_eq!(exchange(farm.entrance(), &ping(TARGET).bytes()).unwrap().status, 200);
}

#[test]
fn a_backend_whose_certificate_has_expired_is_refused() {
    let directory = TempDir::new("upstream");
    let over = pki::servers().issue_valid(&["127.0.0.1"], Validity::Over);
    refused(&showing(&over, &directory).start(), &["up01", "xpired"]);
}

/// Threat: T15.
#[test]
fn a_backend_with_another_name_is_refused() {
    let directory = TempDir::new("upstream");
    let other = pki::servers().issue(&["other.test"]);
    refused(&showing(&other, &directory).start(), &["up01", "127.0.0.1"]);
}

#[test]
fn a_backend_that_is_not_trusted_makes_no_fault_of_another_that_is_down() {
    let directory = TempDir::new("upstream");
    let other = pki::servers().issue(&["other.test"]);
    let nobody = Port::reserve();
    let farm = showing(&other, &directory)
        .backend("up02", nobody.address())
        .set("placement.policy", "\"round-robin\"")
        .set("health.kind", "\"off\"")
        .start();
    for _ in 0..4 {
        // Whichever was tried first: the one that is down may come back, so it is worth a wait.
        let answer = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
        assert_eq!(answer.status, 503, "{}", answer.head);
    }
}

/// Threat: T15.
#[test]
fn a_backend_of_another_authority_is_refused() {
    let directory = TempDir::new("upstream");
    let strange = Authority::new("strangers").issue(&["127.0.0.1"]);
    let farm = showing(&strange, &directory).start();
    refused(&farm, &["up01", "UnknownIssuer"]);
    // And is taken where the operator says that nothing matters.
    let farm = showing(&strange, &directory).set_backend("up01", "tls.verify", "\"off\"").start();
    assert_eq!(exchange(farm.entrance(), &ping(TARGET).bytes()).unwrap().status, 200);
}

#[test]
fn a_backend_that_speaks_no_tls_is_no_backend() {
    let directory = TempDir::new("upstream");
    let authority = directory.join("ca.pem");
    pki::write(&authority, &pki::servers().pem(), 0o644);
    let farm = Farm::of_stubs(1)
        .tls(Tls::Off)
        .set("failover.hold", "\"0s\"")
        .set_backend("up01", "tls.ca", &format!("{authority:?}"))
        .start();
    let answer = exchange(farm.entrance(), &create(TARGET).bytes()).expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.head);
    assert_eq!(farm.stub(0).stats().create_session, 0);
}

#[test]
fn a_pinned_upload_waits_for_a_backend_with_a_bad_certificate_and_goes_on() {
    let directory = TempDir::new("upstream");
    let farm = showing(pki::server(), &directory).start();
    let content = Content::seeded(3, 60_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    let mut upload = client.begin(&farm.url(TARGET), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    pki::servers().issue_valid(&["127.0.0.1"], Validity::Over).write(directory.path(), "stub");
    farm.stub(0).restart();
    assert!(upload.run_until(|upload| upload.report().retries > 0));
    pki::server().write(directory.path(), "stub");
    farm.stub(0).restart();
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    farm.expect_stored(TARGET, &content);
}

#[test]
fn probes_go_over_tls() {
    let directory = TempDir::new("upstream");
    let farm = showing(pki::server(), &directory)
        .set("health.kind", "\"bits-ping\"")
        .set("health.path", "\"/in/\"")
        .set("health.interval", "\"100ms\"")
        .set("health.timeout", "\"5s\"")
        .start();
    wait::until("probes pass", || farm.stub(0).stats().ping >= 3);
    assert_eq!(farm.metric("bitsgw_backend_up", &[("backend", "up01")]), 1.0);
    pki::servers().issue_valid(&["127.0.0.1"], Validity::Over).write(directory.path(), "stub");
    farm.stub(0).restart();
    wait::until("a backend with a bad certificate is down", || {
        farm.metric("bitsgw_backend_up", &[("backend", "up01")]) == 0.0
    });
    pki::server().write(directory.path(), "stub");
    farm.stub(0).restart();
    wait::until("it comes back", || {
        farm.metric("bitsgw_backend_up", &[("backend", "up01")]) == 1.0
    });
}

/// Anybody on the way can end a connection; only the server can say goodbye.
///
/// Threat: T15.
#[test]
fn a_page_that_ends_with_its_connection_is_whole_only_with_a_goodbye() {
    let page = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it";
    let backend = RawBackend::answering(move |request| match request.target() {
        "/whole" => Reply::SendAndClose(page.into()),
        // A reset before the link, and an end without a word behind it.
        _ => Reply::SendAndReset(page.into()),
    });
    let (link, directory) = (TlsLink::to(backend.address()), TempDir::new("upstream"));
    let authority = directory.join("ca.pem");
    pki::write(&authority, &pki::servers().pem(), 0o644);
    let farm = Farm::of_stubs(0)
        .tls(Tls::Off)
        .backend("up01", link.address())
        .set_backend("up01", "tls.ca", &format!("{authority:?}"))
        .start();
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
        exchange(farm.entrance(), request.as_bytes())
    };
    let whole = get("/whole").expect("an answer");
    assert_eq!((whole.status, &*whole.body_text()), (200, "all of it"));
    let broken = get("/broken").expect_err("half a page is no page");
    assert!(
        matches!(
            broken,
            WireError::Truncated { .. } | WireError::Closed | WireError::Broken { .. }
        ),
        "{broken}"
    );
}
