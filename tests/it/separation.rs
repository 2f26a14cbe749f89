//! The listeners for clients, for watchers and for operators share nothing, and the process may do nothing special: threats T12 and T16.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};

use e2e_tests::binaries;
use e2e_tests::client::exchange;
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use crate::packets::{Servers, TARGET, create};

const TOKEN: &str = "0123456789abcdef0123456789abcdef-separate";

const OPS: [&str; 5] = ["/metrics", "/livez", "/readyz", "/health", "/version"];
const ADMIN: [&str; 4] =
    ["/api/v1/status", "/api/v1/sessions", "/api/v1/backends", "/api/v1/backends/up01/drain"];

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
        .into_bytes()
}

/// With a token that only its owner may read.
fn started() -> (Servers, TempDir) {
    let folder = TempDir::new("separation");
    let token = folder.join("token");
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&token);
    file.and_then(|mut file| writeln!(file, "{TOKEN}")).expect("a fresh folder is writable");
    let servers = Servers::with(1, |farm| {
        farm.set("admin.address", "\"{{listen:admin}}\"")
            .set("admin.token_file", &format!("{:?}", token.display().to_string()))
    });
    (servers, folder)
}

/// Threat: T12.
#[test]
fn the_listeners_share_no_path() {
    let (servers, _folder) = started();
    let listener = |name: &str| servers.farm.gateway().listener(name);
    // On the listener for clients these are paths like any other, and the backend's business.
    for target in OPS.iter().chain(&ADMIN) {
        let before = servers.counts();
        let head = format!("GET {target} HTTP/1.1\r\nHost: {ORIGIN}\r\n\r\n");
        assert_eq!(servers.ask_bytes(head.as_bytes()).status, 200);
        assert_eq!(servers.only_one_since(&before), 0);
        assert_eq!(servers.last_request(0).target(), *target);
    }
    let seen = servers.counts();
    let status = |name: &str, bytes: &[u8]| {
        exchange(listener(name), bytes).unwrap_or_else(|e| panic!("{e} from {name}")).status
    };
    // `/readyz` says so a moment after the ready file.
    wait::until("it is ready", || status("ops", &get("/readyz")) == 200);
    for target in OPS {
        assert_eq!(status("ops", &get(target)), 200, "{target}");
        assert_eq!(status("admin", &get(target)), 404, "{target}");
    }
    for target in ADMIN {
        assert_eq!(status("admin", &get(target)), 200, "{target}");
        assert_eq!(status("ops", &get(target)), 404, "{target}");
    }
    // Neither takes packets or plain requests for backends.
    for name in ["ops", "admin"] {
        let address = listener(name);
        let plain = format!("GET {TARGET} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        for bytes in [create(TARGET).bytes(), plain.into_bytes()] {
            let answer = exchange(address, &bytes).expect("an answer");
            assert!((400..500).contains(&answer.status), "{name}: {}", answer.head);
            assert_eq!(answer.field("BITS-Packet-Type"), None, "{name}: {}", answer.head);
        }
    }
    assert_eq!(servers.counts(), seen, "a request to another listener reached a backend");
}

/// What `check` says of a configuration with these lines.
fn check(lines: &str) -> (Option<i32>, String) {
    let folder = TempDir::new("check");
    let path = folder.join("gw.toml");
    let smallest = "[listeners.public]\naddress = \"127.0.0.1:0\"\n\
                    [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:9\"\n";
    std::fs::write(&path, format!("{smallest}{lines}")).expect("a fresh folder is writable");
    let output = std::process::Command::new(binaries::gateway())
        .args(["check", "--portable", "--config"])
        .arg(&path)
        .output()
        .expect("the gateway's binary runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_admin_listener_cannot_be_opened_to_the_network_or_to_everybody() {
    let folder = TempDir::new("token");
    let token = folder.join("token");
    std::fs::write(&token, TOKEN).expect("a fresh folder is writable");
    let mode = |mode| std::fs::set_permissions(&token, PermissionsExt::from_mode(mode));
    mode(0o600).expect("it is ours");
    let admin =
        |address: &str, token: &str| check(&format!("[admin]\naddress = \"{address}\"\n{token}\n"));
    let with_token = format!("token_file = {:?}", token.display().to_string());
    assert_eq!(admin("127.0.0.1:9081", &with_token).0, Some(0));
    for open in ["0.0.0.0:9081", "[::]:9081", "192.0.2.1:9081"] {
        let (code, said) = admin(open, &with_token);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("open to the network"), "{said}");
    }
    let (code, said) = admin("127.0.0.1:9081", "");
    assert_eq!((code, said.contains("token_file")), (Some(78), true), "{said}");
    for readable in [0o644, 0o604] {
        mode(readable).expect("it is ours");
        let (code, said) = admin("127.0.0.1:9081", &with_token);
        assert_ne!(code, Some(0), "{readable:o}: {said}");
    }
}

/// Threat: T16.
///
/// Tests that run as root start it as `nobody`, from a copy that this user can reach; others as they are.
#[test]
fn a_user_without_privileges_runs_it() {
    const ROOT: &str = "this process runs as root";
    let is_root = std::fs::metadata("/proc/self").expect("this is Linux").uid() == 0;
    let as_nobody = "folder=$(dirname \"$3\") && cp \"$0\" \"$folder/gateway\" && \
        chown -R 65534:65534 \"$folder\" && \
        exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$folder/gateway\" \"$@\"";
    let farm = Farm::of_stubs(2);
    let farm = if is_root { farm.under(&["sh", "-c", as_nobody]).start() } else { farm.start() };
    let process = format!("/proc/{}", farm.gateway().pid());
    assert_ne!(std::fs::metadata(process).expect("it runs").uid(), 0);
    let content = Content::seeded(1, 100_000);
    farm.client().upload(&farm.url("/in/a.bin"), &content).expect_smooth();
    farm.expect_stored("/in/a.bin", &content);
    farm.gateway().restart();
    assert!(!farm.gateway().log().contains(ROOT));
    if is_root {
        Farm::of_stubs(1).start().gateway().expect_logged(ROOT);
    }
}
