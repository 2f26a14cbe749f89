//! Certificates of clients: required or not asked for.

use e2e_tests::client::{Connection, Secure};
use e2e_tests::farm::{Farm, ORIGIN, Tls};
use e2e_tests::pki::{self, Authority, Validity};
use e2e_tests::wait;

use crate::packets::{TARGET, ping};

fn works(farm: &Farm, secure: &Secure) -> bool {
    // With TLS 1.3 a client learns only from the first answer that it was refused.
    let opened = Connection::open_secure(farm.entrance(), secure);
    opened.and_then(|mut c| c.exchange(&ping(TARGET).bytes())).is_ok_and(|a| a.status == 200)
}

/// Threat: T15.
#[test]
fn t15_a_required_certificate_must_be_there_and_of_the_right_authority() {
    let farm = Farm::of_stubs(1).tls(Tls::Mutual).start();
    let authority = pki::servers().pem();
    let with = |own| Secure::new(&authority, ORIGIN, own);
    assert!(works(&farm, &with(Some(pki::client()))));
    let stranger = Authority::new("strangers").issue(&["client.test"]);
    let late = pki::clients().issue_valid(&["client.test"], Validity::Over);
    let early = pki::clients().issue_valid(&["client.test"], Validity::NotYet);
    for (who, own) in [
        ("nobody", None),
        ("a stranger", Some(&stranger)),
        ("late", Some(&late)),
        ("early", Some(&early)),
    ] {
        assert!(!works(&farm, &with(own)), "{who} got in");
    }
    let labels = [("reason", "client_certificate")];
    wait::until("all four are counted", || {
        farm.metric("bitsgw_tls_handshake_errors_total", &labels) == 4.0
    });
    assert!(works(&farm, &with(Some(pki::client()))), "the right one still gets in");
}

/// A ticket outlives the certificate that it was given for, and each use of one gives the next: whoever was let in once
/// would never be asked again.
///
/// Threat: T15.
#[test]
fn a_required_certificate_is_shown_at_every_handshake() {
    use rustls::version::{TLS12, TLS13};
    let farm = Farm::of_stubs(1).tls(Tls::Mutual).start();
    for version in [&TLS12, &TLS13] {
        let secure = Tls::Mutual.client().only(version);
        for _ in 0..3 {
            let mut connection = Connection::open_secure(farm.entrance(), &secure).unwrap();
            assert_eq!(connection.exchange(&ping(TARGET).bytes()).unwrap().status, 200);
            let session = connection.session().unwrap().connection();
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full), "{version:?}");
        }
    }
}

/// Threat: T15.
#[test]
fn a_client_of_an_authority_that_was_removed_does_not_get_in_any_more() {
    let farm = Farm::of_stubs(1).tls(Tls::Mutual).start();
    let authority = pki::servers().pem();
    let (others, before) = (Authority::new("new clients"), Tls::Mutual.client());
    let after = Secure::new(&authority, ORIGIN, Some(&others.issue(&["client.test"])));
    for _ in 0..3 {
        assert!(works(&farm, &before));
    }
    let mut open = Connection::open_secure(farm.entrance(), &before).unwrap();
    pki::write(&farm.directory().join("clients-ca.pem"), &others.pem(), 0o644);
    wait::until("the new authority counts", || works(&farm, &after));
    for _ in 0..10 {
        assert!(!works(&farm, &before), "by what it remembers of the connections before");
    }
    assert_eq!(open.exchange(&ping(TARGET).bytes()).unwrap().status, 200, "what is open stays");
}

#[test]
fn a_certificate_that_nobody_asked_for_changes_nothing() {
    let farm = Farm::of_stubs(1).tls(Tls::Front).start();
    let authority = pki::servers().pem();
    for own in [None, Some(pki::client())] {
        assert!(works(&farm, &Secure::new(&authority, ORIGIN, own)));
    }
}
