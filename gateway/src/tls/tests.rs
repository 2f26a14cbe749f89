use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, date_time_ymd};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

use super::client::Said;
use super::settings::{self, CertificateFiles, Verify};
use super::test_pki::{Pki, authority};
use super::{BackendTls, Contents, ListenerTls, Reloadable, provider};
use crate::base::clock;

/// An authority that has long ended.
fn over() -> CertificateParams {
    let mut params = authority();
    params.not_after = date_time_ymd(2000, 1, 1);
    params
}

fn load(certificates: &[&CertificateFiles], ca: Option<&Path>) -> (Arc<ListenerTls>, Contents) {
    let certificates = certificates.iter().copied().cloned().collect();
    let settings = settings::ListenerTlsSettings { certificates, client_ca: ca.map(Into::into) };
    ListenerTls::load("public", &settings).unwrap()
}

#[test]
fn a_renewal_changes_something_only_where_the_files_hold_something_else() {
    let pki = Pki::new();
    let files = pki.issue("up.test", &PKCS_ECDSA_P256_SHA256, "");
    let ca = pki.write("ca.pem", &pki.authority.pem());
    let (tls, first) = load(&[&files], Some(&ca));
    let before = tls.current();

    pki.write("ca.pem", &pki.authority.pem());
    let same = tls.reload(&first).unwrap();
    assert_eq!(same.digest, first.digest);
    assert!(Arc::ptr_eq(&tls.current(), &before), "tickets go on");

    pki.write("ca.pem", &Pki::new().authority.pem());
    let other_authority = tls.reload(&same).unwrap();
    assert_ne!(other_authority.digest, same.digest);
    let after = tls.current();
    assert!(!Arc::ptr_eq(&after, &before), "tickets end with the authority of their clients");

    pki.issue("up.test", &PKCS_ECDSA_P256_SHA256, "");
    tls.reload(&other_authority).unwrap();
    assert!(!Arc::ptr_eq(&tls.current(), &after));
}

/// What is shown to a client that knows no keys but Ed25519.
fn shown_for_ed25519(tls: &ListenerTls, pki: &Pki, name: Option<&str>) -> Option<Vec<u8>> {
    let mut provider = (*provider()).clone();
    let known = &mut provider.signature_verification_algorithms;
    let ed25519 = tokio_rustls::rustls::SignatureScheme::ED25519;
    // All that an authority may have signed with, but this alone for the handshake.
    known.mapping = known
        .mapping
        .iter()
        .position(|(scheme, _)| *scheme == ed25519)
        .map_or(&[], |at| &known.mapping[at..=at]);
    let mut roots = RootCertStore::empty();
    roots.add(pki.authority.der().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = name.is_some();
    let name = ServerName::try_from(name.unwrap_or("second.test").to_owned()).unwrap();
    shake(tls, config, name)
}

/// Returns what the client was shown if both agree.
fn shake(tls: &ListenerTls, config: ClientConfig, name: ServerName<'static>) -> Option<Vec<u8>> {
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = ServerConnection::new(tls.current()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().ok()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().ok()?;
    }
    Some(client.peer_certificates()?[0].to_vec())
}

#[test]
fn without_a_name_the_first_certificate_that_the_client_understands_is_shown() {
    let pki = Pki::new();
    let first = pki.issue("first.test", &PKCS_ECDSA_P256_SHA256, "");
    let second = pki.issue("second.test", &PKCS_ED25519, "");
    let (tls, contents) = load(&[&first, &second], None);
    let expected = contents.identities[1].own().unwrap().to_vec();
    assert_eq!(shown_for_ed25519(&tls, &pki, Some("second.test")), Some(expected.clone()));
    assert_eq!(shown_for_ed25519(&tls, &pki, None), Some(expected));
    assert_eq!(shown_for_ed25519(&tls, &pki, Some("first.test")), None, "not for that name");
}

#[test]
fn a_chain_ends_with_its_first_certificate_to_end() {
    let pki = Pki::new();
    let files = pki.issue("up.test", &PKCS_ECDSA_P256_SHA256, &Pki::of(over()).authority.pem());
    let (_, contents) = load(&[&files], None);
    let end = &contents.expiries()[0];
    assert_eq!((end.path.as_path(), end.at), (files.certificate.as_path(), 946_684_800));
}

/// Those are looked after by nobody, so that the gauge does not warn of them either.
#[test]
fn an_authority_that_has_ended_is_trusted_until_it_is_taken_out_of_its_file() {
    let pki = Pki::of(over());
    let server = pki.issue("up.test", &PKCS_ECDSA_P256_SHA256, "");
    let own = pki.issue("client.test", &PKCS_ECDSA_P256_SHA256, "");
    let ca = pki.write("ca.pem", &pki.authority.pem());
    let (tls, contents) = load(&[&server], Some(&ca));
    let mut roots = RootCertStore::empty();
    roots.add(pki.authority.der().clone()).unwrap();
    let (_, shown) = load(&[&own], None);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(
            &shown.identities[0].certified,
        ))));
    let name = ServerName::try_from("up.test").unwrap();
    let expected = contents.identities[0].own().unwrap().to_vec();
    assert_eq!(shake(&tls, config, name), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_go_on_with_a_handshake_is_noted() {
    let settings =
        settings::BackendTlsSettings { name: None, ca: None, identity: None, verify: Verify::Off };
    let (tls, _) = BackendTls::load("up01", "up01.test", &settings).unwrap();
    let (ours, _theirs) = tokio::io::duplex(64 * 1024);
    let error = tls.connect(ours, clock::stopwatch() + Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(tls.said.lock().failing.as_deref(), Some("no handshake in time"));
}

#[test]
fn a_backend_that_fails_now_and_then_does_not_fill_the_log() {
    let mut said = Said::default();
    let mut lines = |seconds: u64, failing: Option<&str>| {
        said.is_news(failing.map(str::to_owned), Duration::from_secs(seconds))
    };
    assert!(!lines(1, None), "nothing was ever wrong");
    assert!(lines(2, Some("late")));
    for second in 3..12 {
        assert!(!lines(second, None) && !lines(second, Some("late")) && !lines(second, Some("x")));
    }
    assert!(!lines(12, Some("late")), "that is what was said");
    assert!(lines(12, None));
}
