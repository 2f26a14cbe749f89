//! Two processes at once: each knows the sessions of the other, and what belongs to one process only changes hands.

use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::client::PacketType;
use e2e_tests::farm::{FarmBuilder, Signal};
use serde_json::Value;

use crate::packets::{Servers, TARGET, close, create, fragment, ping, session_of};

pub(super) fn upgradable(farm: FarmBuilder) -> FarmBuilder {
    farm.without_host_ids()
        .set("process.upgrade_socket", "\"{{tmp}}/upgrade.sock\"")
        .set("admin.socket", "\"{{tmp}}/admin.sock\"")
}

#[track_caller]
fn type_in(servers: &Servers, words: &[&str]) -> String {
    let socket = servers.farm.directory().join("admin.sock");
    let output = Command::new(binaries::gateway())
        .args(words)
        .args(["--admin", &format!("unix:{}", socket.display())])
        .output()
        .expect("the gateway's binary runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}");
    String::from_utf8(output.stdout).expect("text")
}

/// Fault: gateway is upgraded.
#[test]
fn a_session_opened_in_either_process_goes_on_in_the_other() {
    let servers = Servers::with(2, upgradable);
    let mut kept = [servers.connect(), servers.connect(), servers.connect()];
    for connection in &mut kept {
        assert_eq!(connection.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
    }
    let (before, owner) = servers.open("/in/before.bin");
    let mut old = servers.farm.gateway().upgrade();
    let [creates, continues, stranger] = &mut kept;

    // Opened by the old process, in its last answer on this connection.
    let answer = creates.exchange(&create("/in/late.bin").bytes()).expect("an answer");
    assert!(answer.closes(), "{}", answer.head);
    let late = session_of(&answer);
    servers.passes(&fragment("/in/late.bin", &late, "bytes 0-2/9", b"abc"));

    // Opened by the new one, and a packet of it comes to the old one.
    let (young, at) = servers.open("/in/young.bin");
    let packet = fragment("/in/young.bin", &young, "bytes 0-2/9", b"abc");
    let seen = servers.counts()[at];
    let answer = continues.exchange(&packet.bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.closes(), "{}", answer.head);
    assert_eq!(servers.counts()[at], seen + 1, "at its backend");

    // Its target is still what binds it.
    let packet = fragment("/in/other.bin", &young, "bytes 3-5/9", b"def");
    let answer = stranger.exchange(&packet.bytes()).expect("an answer");
    crate::packets::expect_not_found(PacketType::Fragment, &answer);

    let (backend, ..) = servers.passes(&close("/in/before.bin", &before));
    assert_eq!(backend, owner);
    assert_eq!(old.wait().code(), Some(0));
    servers.passes(&close("/in/late.bin", &late));
    servers.passes(&close("/in/young.bin", &young));
    let nobody = servers.stays(&close(TARGET, "{00000000-0000-4000-8000-000000000000}"));
    crate::packets::expect_not_found(PacketType::CloseSession, &nobody);
}

#[test]
fn the_admin_socket_and_what_operators_said_change_hands() {
    let servers = Servers::with(2, upgradable);
    type_in(&servers, &["backends", "drain", "up01"]);
    let mut old = servers.farm.gateway().upgrade();
    assert_eq!(old.wait().code(), Some(0));
    let text = type_in(&servers, &["backends", "list", "--json"]);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["backends"][0]["admin_state"], "drain", "{text}");
    let (_, backend) = servers.open(TARGET);
    assert_eq!(backend, 1);
}

/// Fault: gateway is upgraded, and the new process fails.
#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let servers = Servers::with(1, upgradable);
    let (id, _) = servers.open(TARGET);
    let gateway = servers.farm.gateway();
    let good = std::fs::read_to_string(gateway.config_file()).expect("a file");
    // A port that is taken, by somebody else.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address");
    let bad = format!("{good}\n[listeners.more]\naddress = \"{address}\"\n");
    std::fs::write(gateway.config_file(), bad).expect("written");
    let mut new = gateway.start_successor();
    assert_eq!(new.wait().code(), Some(74));
    std::fs::write(gateway.config_file(), good).expect("written");
    assert!(gateway.is_running());
    assert!(type_in(&servers, &["backends", "list"]).contains("up01"));
    servers.passes(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
    // The next one does it.
    assert_eq!(gateway.upgrade().wait().code(), Some(0));
    servers.passes(&close(TARGET, &id));
}

#[test]
fn sigusr2_starts_the_successor() {
    let servers = Servers::with(1, upgradable);
    let (id, _) = servers.open(TARGET);
    let gateway = servers.farm.gateway();
    let before = gateway.pid();
    gateway.signal(Signal::USR2);
    let after = gateway.adopt_successor();
    assert_ne!(before, after.pid());
    servers.passes(&fragment(TARGET, &id, "bytes 0-2/9", b"abc"));
    servers.passes(&close(TARGET, &id));
    after.terminate();
}
