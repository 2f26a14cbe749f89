//! The life of the process: ready file, signals, exit codes.

use std::collections::BTreeSet;
use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::client::{Connection, FragmentSizes};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, Signal};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use crate::packets::{Servers, TARGET, close, fragment, ping};

/// A fragment whose second half has not been sent.
struct HalfSent {
    client: Connection,
    rest: Vec<u8>,
}

#[track_caller]
fn half_a_fragment(servers: &Servers, id: &str) -> HalfSent {
    let before = servers.counts()[0];
    let mut packet = fragment(TARGET, id, "bytes 0-99999/100000", &[7; 100_000]).bytes();
    let rest = packet.split_off(50_000);
    let mut client = servers.connect();
    client.send(&packet).expect("half a fragment is taken");
    servers.backends[0].request(before);
    HalfSent { client, rest }
}

#[track_caller]
fn wait_for_closed_door(servers: &Servers) {
    let entrance = servers.farm.entrance();
    wait::until("new connections are refused", || Connection::open(entrance).is_err());
}

/// Fault: gateway is told to end.
#[test]
fn sigterm_lets_the_fragment_in_flight_end_and_then_exits_0() {
    let servers = Servers::start(1);
    let (id, _) = servers.open(TARGET);
    let mut idle = servers.connect();
    assert_eq!(idle.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
    let mut half = half_a_fragment(&servers, &id);
    servers.farm.gateway().signal(Signal::TERM);
    wait_for_closed_door(&servers);
    assert!(idle.read_to_end().expect("the idle connection ends").is_empty());
    // The operators' listener still says what goes on.
    assert_eq!(servers.farm.metric("bitsgw_draining", &[]), 1.0);
    assert_eq!(servers.farm.metric("bitsgw_requests_in_flight", &[]), 1.0);
    assert_eq!(servers.farm.gateway().ops("/readyz").status, 503);
    assert_eq!(servers.farm.gateway().ops("/livez").status, 200);
    assert!(servers.farm.gateway().is_running());
    let answer = half.client.exchange(&half.rest).expect("the fragment in flight is answered");
    assert_eq!(answer.field("BITS-Received-Content-Range"), Some("100000"), "{}", answer.head);
    assert!(answer.closes(), "{}", answer.head);
    assert!(half.client.read_to_end().expect("the end").is_empty());
    assert_eq!(servers.farm.gateway().wait_ended().code(), Some(0));
    let ready = servers.farm.directory().join("gateway.ready");
    assert!(!ready.exists(), "a process that has ended is not ready");
    let fragment = servers.last_request(0);
    assert!(fragment.complete && fragment.body.len() == 100_000);
}

#[test]
fn a_second_sigterm_ends_the_process_at_once() {
    let servers = Servers::start(1);
    let (id, _) = servers.open(TARGET);
    let mut half = half_a_fragment(&servers, &id);
    servers.farm.gateway().signal(Signal::TERM);
    wait_for_closed_door(&servers);
    assert!(servers.farm.gateway().is_running());
    servers.farm.gateway().signal(Signal::TERM);
    assert_ne!(servers.farm.gateway().wait_ended().code(), Some(0), "work was cut off");
    let got = half.client.read_to_end().expect("the connection has ended");
    assert!(!got.starts_with(b"HTTP/1.1 2"), "nobody has acknowledged half a fragment");
    let sent = servers.backends[0].ended(servers.last_request(0).connection);
    assert!(sent.bytes.len() < 100_000 && !servers.last_request(0).complete);
}

#[test]
fn sighup_and_sigusr1_do_not_end_the_process() {
    let servers = Servers::start(1);
    let (id, _) = servers.open(TARGET);
    let mut half = half_a_fragment(&servers, &id);
    for signal in [Signal::HUP, Signal::USR1, Signal::HUP] {
        servers.farm.gateway().signal(signal);
    }
    assert_eq!(half.client.exchange(&half.rest).expect("an answer").status, 200);
    servers.passes(&close(TARGET, &id));
    assert!(servers.farm.gateway().is_running());
    assert_eq!(servers.farm.gateway().terminate().code(), Some(0));
}

/// Fault: gateway is told to end.
#[test]
fn sigterm_in_the_middle_of_uploads_costs_them_one_retry_each() {
    let farm = Farm::of_stubs(2).start();
    let content = Content::seeded(1, 60_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    let mut uploads: Vec<_> =
        (0..8).map(|n| client.begin(&farm.url(&format!("/in/{n}.bin")), &content)).collect();
    for upload in &mut uploads {
        assert!(upload.run_until(|upload| upload.position() >= 20_000));
    }
    assert_eq!(farm.gateway().terminate().code(), Some(0));
    farm.gateway().start();
    for (n, upload) in uploads.into_iter().enumerate() {
        let report = upload.run();
        report.expect_complete();
        assert_eq!(report.restarts, 0, "{report}");
        assert!(report.retries <= 1, "{report}");
        farm.expect_stored(&format!("/in/{n}.bin"), &content);
    }
    farm.expect_healthy();
}

/// Port 0 is any free port, and the ready file says which.
#[test]
fn the_ready_file_names_every_listener_with_its_real_port() {
    let farm = Farm::of_stubs(1)
        .config(
            "[listeners.public]\naddress = \"127.0.0.1:0\"\n[listeners.second]\naddress = \"127.0.0.1:0\"\n\
            [ops]\naddress = \"127.0.0.1:0\"\n{{backends}}",
        )
        .start();
    let text =
        std::fs::read_to_string(farm.directory().join("gateway.ready")).expect("it is ready");
    let ready: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(ready["pid"], farm.gateway().pid());
    let listeners = ready["listeners"].as_object().expect("an object");
    let names: BTreeSet<_> = listeners.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["ops", "public", "second"]));
    for name in ["public", "second"] {
        let address = farm.gateway().listener(name);
        assert_ne!(address.port(), 0);
        let answer =
            e2e_tests::client::exchange(address, &ping(TARGET).bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{name}: {}", answer.head);
    }
    wait::until("it is ready", || farm.gateway().ops("/readyz").status == 200);
    let left = std::fs::read_dir(farm.directory().path()).expect("it lists");
    let temporary = left.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let temporary: Vec<_> =
        temporary.filter(|n| n.contains("ready") && n != "gateway.ready").collect();
    assert!(temporary.is_empty(), "{temporary:?} was left behind");
}

#[test]
fn a_bad_configuration_exits_78_and_a_taken_port_does_not_start() {
    let directory = TempDir::new("exit");
    let run = |text: &str| {
        let file = directory.join("gateway.toml");
        let store = format!("[store]\npath = {:?}\n", directory.join("store"));
        std::fs::write(&file, format!("{text}{store}")).expect("the file is written");
        let ready = directory.join("ready");
        let output = Command::new(binaries::gateway())
            .arg("run")
            .arg("--config")
            .arg(&file)
            .arg("--ready-file")
            .arg(&ready)
            .output()
            .expect("the program runs");
        assert!(!ready.exists(), "it was never ready");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run("[listeners.public]\nadress = \"127.0.0.1:0\"\n");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("address") && said.contains("gateway.toml"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let (code, said) = run(&format!(
        "[listeners.public]\naddress = \"{address}\"\n[ops]\naddress = \"off\"\n\
        [[backends]]\nname = \"up01\"\naddress = \"127.0.0.1:1\"\n"
    ));
    assert!(code.is_some_and(|code| code != 0 && code != 78), "{code:?}: {said}");
    assert!(said.contains(&address.to_string()), "it names the address: {said}");
}
