//! Which certificate a client is shown.

use e2e_tests::client::{Connection, Secure};
use e2e_tests::farm::{Farm, Tls};
use e2e_tests::pki::{self, Authority, Issued};
use e2e_tests::temp::TempDir;

use crate::packets::{TARGET, ping};

/// The common part of what a client does that asks for `name`: it must trust what it is shown.
fn shown(farm: &Farm, secure: &Secure) -> Vec<u8> {
    let mut connection = Connection::open_secure(farm.entrance(), secure).expect("a handshake");
    assert_eq!(connection.exchange(&ping(TARGET).bytes()).unwrap().status, 200);
    connection.session().unwrap().certificates()[0].to_vec()
}

fn der(issued: &Issued) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(issued.certificate.as_bytes())
        .unwrap()
        .to_vec()
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let directory = TempDir::new("names");
    let authority = Authority::new("names");
    let first = authority.issue(&["first.test"]);
    let exact = authority.issue(&["a.wild.test"]);
    let wild = authority.issue(&["*.wild.test"]);
    let [one, two, three] = [(&first, "first"), (&exact, "exact"), (&wild, "wild")]
        .map(|(issued, name)| issued.write(directory.path(), name));
    let pair = |files: &pki::Files| {
        format!("{{ certificate = {:?}, key = {:?} }}", files.certificate, files.key)
    };
    let farm = Farm::of_stubs(1)
        .set("listeners.public.tls.certificate", &format!("{:?}", one.certificate))
        .set("listeners.public.tls.key", &format!("{:?}", one.key))
        .set("listeners.public.tls.certificates", &format!("[{}, {}]", pair(&two), pair(&three)))
        .tls(Tls::Off)
        .start();
    let asking = |name: &str| Secure::new(&authority.pem(), name, None);
    for (name, expected) in [
        ("first.test", &first),
        ("a.wild.test", &exact),
        ("A.Wild.test", &exact),
        ("b.wild.test", &wild),
    ] {
        assert_eq!(shown(&farm, &asking(name)), der(expected), "{name}");
    }
    for stranger in ["other.test", "wild.test", "x.b.wild.test"] {
        let refused = Connection::open_secure(farm.entrance(), &asking(stranger));
        assert!(refused.is_err(), "{stranger}: the first certificate is not for it");
    }
    let nameless = asking("first.test").with(|config| config.enable_sni = false);
    assert_eq!(shown(&farm, &nameless), der(&first), "without a name the first is shown");
}
