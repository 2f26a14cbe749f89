//! Certificate files, which a configuration only names.

use std::path::{Path, PathBuf};

use e2e_tests::client::exchange;
use e2e_tests::farm::{Farm, Tls};
use e2e_tests::pki::{self, Authority};
use e2e_tests::wait;

use crate::packets::{TARGET, ping};

/// How often certificates of that owner were taken from their files.
fn taken(farm: &Farm, owner: &str) -> usize {
    said(farm, owner, "certificates replaced")
}

/// How often they were read and found to be what they were.
fn the_same(farm: &Farm, owner: &str) -> usize {
    said(farm, owner, "certificates read again, nothing has changed")
}

fn said(farm: &Farm, owner: &str, what: &str) -> usize {
    let log = farm.gateway().log();
    let said = |line: &&str| line.contains(what) && line.contains(owner);
    log.lines().filter(said).count()
}

/// One stub that speaks TLS, and whose gateway trusts the authority in the file returned.
fn secured(authority: &Authority) -> (Farm, PathBuf) {
    let farm = Farm::of_stubs(1).tls(Tls::Both).start();
    let path = farm.directory().join("other-ca.pem");
    pki::write(&path, &authority.pem(), 0o644);
    (farm, path)
}

fn trust(farm: &Farm, path: &Path) {
    let text = format!("{:?}", path.display().to_string());
    farm.gateway().configure(|settings| settings.set_backend("up01", "tls.ca", &text));
}

#[track_caller]
fn status(farm: &Farm) -> u16 {
    exchange(farm.entrance(), &ping(TARGET).bytes()).expect("an answer").status
}

#[test]
fn a_signal_reads_all_certificates_again_though_nothing_has_changed() {
    let farm = Farm::of_stubs(1).tls(Tls::Mutual).start();
    assert_eq!((the_same(&farm, "listener public"), the_same(&farm, "backend up01")), (0, 0));
    assert!(farm.gateway().reload());
    wait::until("both were read", || {
        the_same(&farm, "listener public") == 1 && the_same(&farm, "backend up01") == 1
    });
    assert_eq!((taken(&farm, "listener public"), taken(&farm, "backend up01")), (0, 0));
    assert_eq!(status(&farm), 200);
}

#[test]
fn another_authority_of_a_backend_counts_and_is_watched() {
    let (farm, path) = secured(&Authority::new("strangers"));
    assert_eq!(status(&farm), 200);
    trust(&farm, &path);
    assert!(farm.gateway().reload());
    assert_eq!(status(&farm), 502, "a connection that was made before must not serve any more");
    let before = taken(&farm, "backend up01");
    pki::write(&path, &pki::servers().pem(), 0o644);
    wait::until("the file is read again", || taken(&farm, "backend up01") > before);
    wait::until("the backend is trusted again", || status(&farm) == 200);
}

#[test]
fn an_authority_that_cannot_be_read_leaves_everything_as_it_was() {
    let (farm, path) = secured(pki::servers());
    trust(&farm, &path.with_extension("missing"));
    assert!(!farm.gateway().reload());
    farm.gateway().expect_logged("other-ca.missing");
    assert_eq!(status(&farm), 200);
    trust(&farm, &path);
    assert!(farm.gateway().reload());
    assert_eq!(status(&farm), 200);
}
