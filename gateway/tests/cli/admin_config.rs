//! What `check` says about `[admin]`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::support::{Output, Place, SMALLEST};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The file with a section `[admin]`, beside it a file `token` with that mode.
fn place(admin: &str, mode: u32) -> Place {
    let place = Place::with(format!("{SMALLEST}[admin]\n{admin}"));
    let path = place.path().join("token");
    fs::write(&path, TOKEN).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    place
}

#[track_caller]
fn refused(admin: &str, mode: u32, expected: &[&str]) {
    let Output { code, stderr, .. } = place(admin, mode).check();
    assert_eq!(code, 78, "{stderr}");
    for part in expected {
        assert!(stderr.contains(part), "no {part:?} in\n{stderr}");
    }
}

#[track_caller]
fn accepted(admin: &str, lines: &[&str]) -> String {
    let Output { code, stderr, stdout } = place(admin, 0o600).check();
    assert_eq!(code, 0, "{stderr}");
    for line in lines {
        assert!(stdout.contains(line), "no {line:?} in\n{stdout}");
    }
    stderr
}

#[test]
fn socket_and_address_are_shown() {
    let both = "socket = \"/run/gw/admin.sock\"\nsocket_mode = \"0660\"\n\
                address = \"127.0.0.1:9081\"\ntoken_file = \"./token\"\n";
    let lines = ["  admin       /run/gw/admin.sock, mode 0660\n", "127.0.0.1:9081, with a token\n"];
    assert_eq!(accepted(both, &lines), "");
    assert_eq!(accepted("", &["  admin       off\n"]), "");
    let v6 = "address = \"[::1]:9081\"\ntoken_file = \"./token\"\n";
    assert_eq!(accepted(v6, &["[::1]:9081"]), "");
}

/// Threat: T16.
#[test]
fn an_address_off_loopback_is_refused() {
    for address in ["0.0.0.0:9081", "10.0.0.1:9081", "[::]:9081", "[2001:db8::1]:9081"] {
        let admin = format!("address = \"{address}\"\ntoken_file = \"./token\"\n");
        refused(&admin, 0o600, &["would be open to the network", "gw.toml:7:11", "127.0.0.1:9081"]);
    }
}

#[test]
fn an_address_needs_a_token() {
    let expected = ["`admin.address` needs `admin.token_file`", "gw.toml:7:11"];
    refused("address = \"127.0.0.1:9081\"\n", 0o600, &expected);
}

/// Threat: T16.
#[test]
fn t16_a_token_that_others_can_read_is_refused() {
    let admin = "address = \"127.0.0.1:9081\"\ntoken_file = \"./token\"\n";
    refused(admin, 0o644, &["can be read by others (mode 0644)", "gw.toml:8:14", "chmod 600"]);
    let place = place(admin, 0o644);
    let run = place.run(&["run", "--config", "gw.toml"]);
    assert_eq!((run.code, run.stdout.as_str()), (78, ""), "{}", run.stderr);
    assert!(run.stderr.contains("can be read by others"), "{}", run.stderr);
}

#[test]
fn a_token_that_is_short_or_missing_is_refused() {
    let admin = "address = \"127.0.0.1:9081\"\ntoken_file = \"./token\"\n";
    let place = place(admin, 0o600);
    fs::write(place.path().join("token"), "short").unwrap();
    let short = place.check();
    assert_eq!(short.code, 78);
    assert!(short.stderr.contains("has 5 bytes, and 32 are the least"), "{}", short.stderr);
    assert!(!short.stderr.contains("\"short\""), "{}", short.stderr);
    fs::remove_file(place.path().join("token")).unwrap();
    let missing = place.check();
    assert!(missing.stderr.contains("cannot read the token file"), "{}", missing.stderr);
    assert!(missing.stderr.contains("openssl rand -hex 32"), "{}", missing.stderr);
}

#[test]
fn a_path_that_cannot_be_a_socket_is_refused() {
    let long = format!("socket = \"/{}\"\n", "x".repeat(100));
    refused(&long, 0o600, &["too long", "101 bytes, and 100 are the most"]);
    refused("socket = \"/run/\"\n", 0o600, &["does not end in a name"]);
    refused("socket = \"\"\n", 0o600, &["must be the path of a file", "this is empty"]);
    refused("socket = \"/run/a\"\nsocket_mode = \"0666\"\n", 0o600, &["\"0600\" or \"0660\""]);
}

#[test]
fn keys_without_effect_are_warned_of() {
    let warnings = accepted("token_file = \"./token\"\nsocket_mode = \"0660\"\n", &[]);
    assert!(warnings.contains("`admin.token_file` does nothing"), "{warnings}");
    assert!(warnings.contains("`admin.socket_mode` does nothing"), "{warnings}");
}

#[test]
fn the_names_and_addresses_of_listeners_are_their_own() {
    let clash = "address = \"127.0.0.1:9080\"\ntoken_file = \"./token\"\n";
    refused(clash, 0o600, &["127.0.0.1:9080", "give each its own port"]);
    let place = Place::with(format!("{SMALLEST}[listeners.admin]\naddress = \"127.0.0.1:0\"\n"));
    let output = place.check();
    assert_eq!(output.code, 78);
    assert!(output.stderr.contains("a listener cannot be named `admin`"), "{}", output.stderr);
}

#[test]
fn with_a_certificate_the_network_may_come_in() {
    let files = "tls = { certificate = \"./c.pem\", key = \"./k.pem\" }\n";
    let admin = format!("address = \"0.0.0.0:9443\"\ntoken_file = \"./token\"\n{files}");
    // The files are not there, and that is all.
    let Output { stderr, .. } = place(&admin, 0o600).check();
    assert!(!stderr.contains("open to the network"), "{stderr}");
    assert!(stderr.contains("c.pem"), "{stderr}");
    let half =
        "address = \"0.0.0.0:9443\"\ntoken_file = \"./token\"\ntls.certificate = \"./c.pem\"\n";
    refused(half, 0o600, &["`admin.tls.key` is missing"]);
    // Never plain where TLS was meant.
    let none = "address = \"127.0.0.1:9443\"\ntoken_file = \"./token\"\ntls = {}\n";
    refused(none, 0o600, &["`admin` has no certificate"]);
}

#[test]
fn viewers_have_a_token_of_their_own() {
    let same = "address = \"127.0.0.1:9081\"\ntoken_file = \"./token\"\n\
                viewer_token_file = \"./token\"\n";
    refused(same, 0o600, &["both tokens are the same", "gw.toml:9:21"]);
    let alone = "socket = \"/run/gw/admin.sock\"\nviewer_token_file = \"./token\"\n";
    let said = accepted(alone, &[]);
    assert!(said.contains("`admin.viewer_token_file` does nothing"), "{said}");
}
