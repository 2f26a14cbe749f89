//! What `check` says of certificates, and what a gateway does not start with.

use std::path::Path;
use std::process::{Command, Output};

use e2e_tests::binaries;
use e2e_tests::farm::{Farm, Tls};
use e2e_tests::pki::{self, Issued, Validity};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

/// `bits-gateway check` with a listener that shows `issued`.
fn check(issued: &Issued, harm: impl FnOnce(&Path), more: &str) -> (Output, String) {
    let directory = TempDir::new("check");
    let files = issued.write(directory.path(), "server");
    harm(directory.path());
    let config = directory.join("gateway.toml");
    let text = format!(
        "[listeners.public]\naddress = \"127.0.0.1:0\"\n\
         tls = {{ certificate = {:?}, key = {:?} }}\n\
         [store]\nkind = \"memory\"\n\
         [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:9\"\n{more}",
        files.certificate, files.key
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(binaries::gateway())
        .args(["check", "--portable"])
        .arg("--config")
        .arg(&config)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[track_caller]
fn says(issued: &Issued, harm: impl FnOnce(&Path), more: &str, code: i32, words: &[&str]) {
    let (output, said) = check(issued, harm, more);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
    assert!(!words.is_empty() || !said.contains("warning"), "{said}");
}

const NAMES: &str = "[affinity]\nhost_id_domain = \"up.test\"\n[http]\nhosts = [\"up.test\"]\n";

#[test]
fn a_certificate_that_fits_needs_no_word() {
    says(pki::server(), |_| (), NAMES, 0, &[]);
}

#[test]
fn names_that_no_certificate_is_for_are_shown() {
    let narrow = pki::servers().issue(&["up.test"]);
    says(&narrow, |_| (), NAMES, 0, &["no certificate is for up01.up.test", "it is for up.test"]);
    let other = pki::servers().issue(&["*.up.test"]);
    says(&other, |_| (), NAMES, 0, &["no certificate is for up.test"]);
}

/// Nobody is told those names of the gateway.
#[test]
fn names_that_are_not_announced_need_no_certificate() {
    let config = |mode: &str| {
        format!(
            "public_name = \"up01.example.com\"\nhost_id = \"up01.up.test\"\n\
             [affinity]\nhost_id = {mode:?}\n[http]\nhosts = [\"up.test\"]\n"
        )
    };
    let narrow = pki::servers().issue(&["up.test"]);
    for (mode, expected) in [("direct", false), ("none", false), ("backend", true)] {
        let (output, said) = check(&narrow, |_| (), &config(mode));
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("no certificate is for up01.up.test"), expected, "{said}");
    }
}

#[test]
fn an_end_that_is_near_is_shown() {
    let over = pki::servers().issue_valid(&["up.test"], Validity::Over);
    says(&over, |_| (), "", 0, &["has expired", "no client will accept it"]);
    let mut chain = pki::servers().issue(&["up.test"]);
    chain.certificate.push_str(&over.certificate);
    says(&chain, |_| (), "", 0, &["a certificate behind the first in", "clients may refuse it"]);
}

/// Threat: T16.
#[test]
fn files_that_cannot_be_used_are_mistakes() {
    use std::os::unix::fs::PermissionsExt;
    let ok = pki::server();
    let other = pki::servers().issue(&["up.test"]);
    says(
        ok,
        |at| {
            let open = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(at.join("server-key.pem"), open).unwrap();
        },
        "",
        78,
        &["server-key.pem can be read by others (mode 0644)", "chmod 600"],
    );
    says(
        ok,
        |at| pki::write(&at.join("server-key.pem"), &other.key, 0o600),
        "",
        78,
        &["is not the one of the certificate"],
    );
    says(
        ok,
        |at| pki::write(&at.join("server.pem"), "nothing", 0o644),
        "",
        78,
        &["there is no certificate in"],
    );
    let turned = format!("{}{}", pki::servers().pem(), ok.certificate);
    says(
        ok,
        |at| pki::write(&at.join("server.pem"), &turned, 0o644),
        "",
        78,
        &["server.pem begins with the certificate of an authority", "own certificate first"],
    );
    says(
        ok,
        |at| pki::write(&at.join("server.pem"), &format!("\u{feff}{}", ok.certificate), 0o644),
        "",
        78,
        &["server.pem begins with a byte-order mark", "tls = ", "write it without one"],
    );
    says(
        ok,
        |at| {
            let bytes: Vec<u8> = ok.key.encode_utf16().flat_map(u16::to_le_bytes).collect();
            std::fs::write(at.join("server-key.pem"), [b"\xff\xfe", &*bytes].concat()).unwrap();
        },
        "",
        78,
        &["server-key.pem is written in UTF-16", "tls = ", "iconv"],
    );
    says(
        ok,
        |at| {
            std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o777)).unwrap();
        },
        "",
        78,
        &["the folder of the private key", "can be written by others", "(mode 0777)", "chmod go-w"],
    );
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// Threat: T16.
#[test]
fn a_folder_on_the_way_that_others_can_write_to_is_pointed_out() {
    let inner = |at: &Path, mode: u32| {
        let folder = at.join("keys/of");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::rename(at.join("server-key.pem"), folder.join("key.pem")).unwrap();
        std::os::unix::fs::symlink("keys/of/key.pem", at.join("server-key.pem")).unwrap();
        set_mode(&at.join("keys"), mode);
    };
    let words =
        ["/keys leads to a private key and can be written by others (mode 0757)", "chmod o-w"];
    says(pki::server(), |at| inner(at, 0o757), "", 0, &words);
    for mode in [0o755, 0o711, 0o1777] {
        says(pki::server(), |at| inner(at, mode), "", 0, &[]);
    }
    // A key that its group may read, and a certificate that anybody may.
    says(pki::server(), |at| set_mode(&at.join("server-key.pem"), 0o640), "", 0, &[]);
    says(pki::server(), |at| set_mode(at, 0o755), "", 0, &[]);
}

/// As for a key: who can write there says who is trusted.
///
/// Threat: T16.
#[test]
fn authorities_that_others_can_write_are_pointed_out_at_the_start_and_at_a_reload() {
    let words =
        "ca.pem leads to the authorities that are trusted and can be written by others (mode 0666)";
    let farm = Farm::of_stubs(1).tls(Tls::Mutual).start();
    let ca = farm.directory().join("clients-ca.pem");
    assert!(!farm.gateway().log().contains("leads to"), "{}", farm.gateway().log());
    set_mode(&ca, 0o666);
    let said = |times: usize| {
        wait::until(&format!("it is said {times} times"), || {
            farm.gateway().log().matches(words).count() == times
        });
    };
    assert!(farm.gateway().reload());
    said(1);
    farm.gateway().restart();
    said(2);
    set_mode(&ca, 0o644);
    assert!(farm.gateway().reload());
    said(2);
    farm.expect_healthy();
}

/// It may be there the next time, and 78 would keep a service manager from trying.
#[test]
fn a_file_that_cannot_be_read_is_no_mistake_in_the_configuration() {
    let gone = |at: &Path| std::fs::remove_file(at.join("server.pem")).unwrap();
    says(pki::server(), gone, "", 74, &["cannot read"]);
    let directory = TempDir::new("run");
    let config = directory.join("gateway.toml");
    let missing = directory.join("missing.pem");
    let text = format!(
        "[listeners.public]\naddress = \"127.0.0.1:0\"\n\
         tls = {{ certificate = {missing:?}, key = {missing:?} }}\n\
         [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:9\"\n[store]\nkind = \"memory\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let run = Command::new(binaries::gateway()).arg("run").arg("--config").arg(&config).output();
    assert_eq!(run.expect("it runs").status.code(), Some(74));
}
