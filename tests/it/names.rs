//! Backends that are called by a name: one without an address, and one with several.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::client::{Answer, FragmentSizes, PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Stub};
use e2e_tests::fault_link::FaultLink;
use e2e_tests::hosts::{self, Hosts};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use crate::packets::{Packet, TARGET, close, create, expect_not_now, fragment, ping, session_of};

/// What a backend is called.
const NAME: &str = "server.test";

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// With a backend that is called by its name.
fn called(farm: FarmBuilder, backend: &str, port: u16) -> FarmBuilder {
    farm.backend(backend, SocketAddr::from((LOCAL, port)))
        .set_backend(backend, "address", &format!("\"{NAME}:{port}\""))
        .set("health.resolve", "\"1s\"")
        .set("failover.hold", "\"0s\"")
}

/// The gateway soon sees that a server is away or back.
fn probed(farm: FarmBuilder) -> FarmBuilder {
    farm.set("health.kind", "\"tcp\"").set("health.interval", "\"200ms\"")
}

fn is_up(farm: &Farm, backend: &str) -> bool {
    farm.metric("bitsgw_backend_up", &[("backend", backend)]) == 1.0
}

#[track_caller]
fn ask(farm: &Farm, packet: &Packet) -> Answer {
    exchange(farm.entrance(), &packet.bytes()).expect("an answer")
}

/// The backend that has it, of those of the farm.
#[track_caller]
fn upload(farm: &Farm, number: u64) -> Vec<String> {
    let (path, content) = (format!("/in/{number}.bin"), Content::seeded(number, 20_000));
    farm.client().upload(&farm.url(&path), &content).expect_complete();
    farm.stored(&path).into_iter().map(|stored| stored.backend).collect()
}

#[test]
fn a_backend_whose_name_has_no_address_is_away_and_the_others_serve() {
    let (hosts, folder) = (Hosts::default(), TempDir::new("server"));
    hosts.set(&[]);
    let stub = Stub::start_new("up03", &[], folder.path());
    let farm = probed(called(Farm::of_stubs(2), "up03", stub.address().port()));
    let farm = hosts.obeyed_by(farm).start();
    farm.gateway().expect_logged("the name of a backend has no address");
    assert!(!is_up(&farm, "up03"));
    let stored: Vec<_> = (0..4).flat_map(|number| upload(&farm, number)).collect();
    assert_eq!(stored.len(), 4, "{stored:?}");
    // It comes up when its name has an address.
    hosts.set(&[(NAME, &[LOCAL])]);
    wait::until("it is up", || is_up(&farm, "up03"));
    let mut number = 4;
    wait::until("it has an upload", || {
        number += 1;
        upload(&farm, number).is_empty()
    });
    // The others are elsewhere, and this one is on the server that the farm does not know.
    assert!(stub.file(&format!("/in/{number}.bin")).is_file());
    // By a reload it goes away again.
    let gateway = farm.gateway();
    gateway.configure(|settings| {
        settings.set_backend("up03", "address", "\"gone.test:80\"");
    });
    assert!(gateway.reload());
    wait::until("it is down", || !is_up(&farm, "up03"));
    for number in 100..104 {
        assert_eq!(upload(&farm, number).len(), 1);
    }
    farm.expect_healthy();
}

#[test]
fn uploads_of_a_backend_whose_name_has_no_address_wait_for_it() {
    let (hosts, folder) = (Hosts::default(), TempDir::new("server"));
    hosts.set(&[(NAME, &[LOCAL])]);
    let stub = Stub::start_new("up01", &[], folder.path());
    let farm = probed(called(Farm::of_stubs(0), "up01", stub.address().port()));
    let farm = hosts.obeyed_by(farm).start();
    let content = Content::seeded(1, 90_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    let mut upload = client.begin(&farm.url(TARGET), &content);
    assert!(upload.run_until(|upload| upload.position() >= 30_000));
    hosts.set(&[]);
    farm.gateway().restart();
    farm.gateway().expect_logged("the name of a backend has no address");
    let id = upload.session().expect("it has begun").to_owned();
    let packet = fragment(TARGET, &id, "bytes 30000-30002/90000", b"abc");
    expect_not_now(&[503], PacketType::Fragment, &ask(&farm, &packet));
    expect_not_now(&[503], PacketType::CreateSession, &ask(&farm, &create("/in/b.bin")));
    hosts.set(&[(NAME, &[LOCAL])]);
    wait::until("it is up", || is_up(&farm, "up01"));
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    let sha256 = e2e_tests::data::sha256_file(&stub.file(TARGET)).expect("it is there");
    assert_eq!(sha256, content.sha256());
}

/// A name with two addresses, and what listens there.
struct Two {
    _hosts: Hosts,
    /// In the order in which the gateway uses them.
    links: Vec<Option<FaultLink>>,
    addresses: Vec<SocketAddr>,
}

impl Two {
    /// `start` starts the gateway; it looks at one of the addresses, and that one is the first.
    fn new(
        targets: [SocketAddr; 2],
        start: impl FnOnce(&Hosts, u16) -> Farm,
    ) -> (Farm, Self, [usize; 2]) {
        let hosts = Hosts::default();
        hosts.set(&[(NAME, &[FIRST, SECOND])]);
        // A port that is free at one address may be taken at the other.
        let both = || {
            let one = FaultLink::at(SocketAddr::from((FIRST, 0)), targets[0]);
            let port = one.address().port();
            let other = FaultLink::try_at(SocketAddr::from((SECOND, port)), targets[1]).ok()?;
            Some((one, other, port))
        };
        let (one, other, port) = wait::some("a port that is free at both", both);
        let farm = start(&hosts, port);
        let used = wait::some("the gateway has looked at one of them", || {
            [&one, &other].iter().position(|link| link.accepted() > 0)
        });
        let mut order = [0, 1];
        let mut links = vec![one, other];
        if used == 1 {
            order.reverse();
            links.reverse();
        }
        let addresses = links.iter().map(FaultLink::address).collect();
        let links = links.into_iter().map(Some).collect();
        (farm, Self { _hosts: hosts, links, addresses }, order)
    }

    /// Nobody listens there any more.
    fn end(&mut self, which: usize) {
        self.links[which] = None;
    }

    fn begin(&mut self, which: usize, target: SocketAddr) {
        self.links[which] = Some(FaultLink::at(self.addresses[which], target));
    }

    fn accepted(&self, which: usize) -> usize {
        self.links[which].as_ref().expect("it is there").accepted()
    }
}

#[test]
fn the_next_address_is_tried_at_once_for_creates_where_no_upload_can_be() {
    let folder = TempDir::new("server");
    let stub = Stub::start_new("up01", &[], folder.path());
    let to = stub.address();
    let (farm, mut two, _) = Two::new([to, to], |hosts, port| {
        let farm = called(Farm::of_stubs(0), "up01", port);
        let farm = farm.set("health.kind", "\"off\"").set("health.passive_failures", "0");
        hosts.obeyed_by(farm.set("health.resolve", "\"1h\"")).start()
    });
    two.end(0);
    expect_not_now(&[503], PacketType::Ping, &ask(&farm, &ping(TARGET)));
    assert_eq!(two.accepted(1), 0, "a Ping went on");
    let id = session_of(&ask(&farm, &create(TARGET)));
    assert!(two.accepted(1) > 0);
    // It has acknowledged a packet now, so nothing goes elsewhere.
    two.begin(0, to);
    two.end(1);
    let packet = fragment(TARGET, &id, "bytes 0-2/3", b"abc");
    for packet in [&create("/in/b.bin"), &packet, &create("/in/b.bin"), &packet] {
        // 502 where a connection ended with the link.
        expect_not_now(&[502, 503], packet.kind, &ask(&farm, packet));
    }
    assert_eq!(two.accepted(0), 0);
    two.begin(1, to);
    assert_eq!(ask(&farm, &packet).status, 200);
    assert_eq!(ask(&farm, &close(TARGET, &id)).status, 200);
    assert_eq!(std::fs::read(stub.file(TARGET)).expect("it is there"), b"abc");
}

#[test]
fn an_address_that_can_be_reached_is_used_at_the_start() {
    let (hosts, folder) = (Hosts::default(), TempDir::new("server"));
    let stub = Stub::start_new("up01", &[], folder.path());
    for (at, dead) in [(FIRST, SECOND), (SECOND, FIRST)] {
        let link = FaultLink::at(SocketAddr::from((at, 0)), stub.address());
        hosts.set(&[(NAME, &[dead, at])]);
        let farm = called(Farm::of_stubs(0), "up01", link.address().port());
        let farm = hosts.obeyed_by(farm.set("health.kind", "\"off\"")).start();
        assert_eq!(ask(&farm, &ping(TARGET)).status, 200);
    }
}

/// Two machines under one name. The one with the upload goes away, the other one does not have it, and the first comes
/// back. Meanwhile the client is told `reason`, and to come again after so many seconds.
#[track_caller]
fn is_waited_for(
    change: fn(FarmBuilder) -> FarmBuilder,
    after_the_move: fn(&Farm),
    (reason, seconds): (&str, &str),
) {
    let folder = TempDir::new("servers");
    let stubs = ["one", "two"].map(|name| Stub::start_new(name, &[], folder.path()));
    let targets = [stubs[0].address(), stubs[1].address()];
    let (farm, mut two, order) = Two::new(targets, |hosts, port| {
        let farm = probed(called(Farm::of_stubs(0), "up01", port));
        hosts.obeyed_by(change(farm.set("health.resolve", "\"1h\""))).start()
    });
    let (used, other) = (order[0], order[1]);
    let id = session_of(&ask(&farm, &create(TARGET)));
    let first = fragment(TARGET, &id, "bytes 0-2/6", b"abc");
    assert_eq!(ask(&farm, &first).status, 200);
    two.end(0);
    farm.gateway().expect_logged("a backend has moved");
    after_the_move(&farm);
    let second = fragment(TARGET, &id, "bytes 3-5/6", b"def");
    wait::until("the other machine is asked", || {
        expect_not_now(&[502, 503], PacketType::Fragment, &ask(&farm, &second));
        stubs[other].stats().fragment > 0
    });
    for packet in [&second, &close(TARGET, &id)] {
        let answer = ask(&farm, packet);
        expect_not_now(&[503], packet.kind, &answer);
        assert_eq!(answer.field("Retry-After"), Some(seconds), "{}", answer.head);
    }
    wait::until("they are counted", || {
        farm.metric("bitsgw_rejected_requests_total", &[("reason", reason)]) >= 2.0
    });
    // Nothing was acknowledged there, so the first probe that fails leads back.
    two.begin(0, targets[used]);
    two.end(1);
    wait::until("the upload goes on", || ask(&farm, &second).status == 200);
    assert_eq!(ask(&farm, &close(TARGET, &id)).status, 200);
    assert_eq!(std::fs::read(stubs[used].file(TARGET)).expect("it is there"), b"abcdef");
}

#[test]
fn what_another_machine_does_not_have_is_waited_for_after_a_move() {
    is_waited_for(|farm| farm, |_| (), ("backend_moved", "30"));
}

/// The table is lost, too, so the machine is asked for the session.
#[test]
fn a_session_that_another_machine_is_asked_for_is_waited_for_after_a_move() {
    let restart = |farm: &Farm| {
        farm.gateway().restart();
        wait::until("it is up", || is_up(farm, "up01"));
    };
    let asking = |farm: FarmBuilder| farm.set("sessions.unknown", "\"ask\"").forgetful();
    is_waited_for(asking, restart, ("session_not_here", "60"));
}

#[test]
fn what_another_machine_does_not_have_is_lost_some_time_after_a_move() {
    let folder = TempDir::new("servers");
    let stubs = ["one", "two"].map(|name| Stub::start_new(name, &[], folder.path()));
    let (farm, mut two, _) = Two::new([stubs[0].address(), stubs[1].address()], |hosts, port| {
        hosts.obeyed_by(probed(called(Farm::of_stubs(0), "up01", port))).start()
    });
    let id = session_of(&ask(&farm, &create(TARGET)));
    two.end(0);
    let packet = fragment(TARGET, &id, "bytes 0-2/3", b"abc");
    let answer = wait::some("the session is given up", || {
        let answer = ask(&farm, &packet);
        (!matches!(answer.status, 502 | 503)).then_some(answer)
    });
    // In the words of the server that has never had it.
    assert_eq!((answer.status, answer.field("BITS-Error")), (500, Some("0x8020001F")));
}

#[test]
fn check_warns_of_names_that_lead_nowhere_or_to_several_addresses() {
    let (hosts, folder) = (Hosts::default(), TempDir::new("check"));
    hosts.set(&[(NAME, &[FIRST, SECOND]), ("one.test", &[FIRST])]);
    let backend = |name: &str, host: &str| {
        format!("[[backends]]\nname = \"{name}\"\naddress = \"{host}:80\"\n")
    };
    let text = format!(
        "[listeners.public]\naddress = \"127.0.0.1:8080\"\n{}{}{}",
        backend("up01", NAME),
        backend("up02", "one.test"),
        backend("up03", "gone.test")
    );
    let file = folder.join("gateway.toml");
    std::fs::write(&file, text).expect("a file can be written");
    let (name, value) = hosts.variable();
    let output = Command::new(binaries::gateway())
        .args(["check", "--portable", "--config"])
        .arg(&file)
        .env("LD_PRELOAD", hosts::preloaded())
        .env(name, value)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the name server.test has 2 addresses of one family"), "{said}");
    assert!(said.contains("the name gone.test has no address now"), "{said}");
    assert!(!said.contains("the name one.test"), "{said}");
}
