//! A server has no more connections than it may have: `limits.backend_connections`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use e2e_tests::client::{Answer, Connection, PacketType, exchange};
use e2e_tests::farm::ORIGIN;
use e2e_tests::raw_backend::RawBackend;
use e2e_tests::wait;

use crate::packets::{Packet, Servers, create, expect_not_now, fragment, server};

const TARGET: &str = "/in/a.bin";

/// Requests that say so wait at their server until the gate is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        let mut open = self.open.lock().expect("no panic");
        while !*open {
            open = self.opened.wait(open).expect("no panic");
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.open.lock().expect("no panic") = true;
        self.opened.notify_all();
    }

    fn close(&self) {
        *self.open.lock().expect("no panic") = false;
    }

    fn expect_inside(&self, count: usize) {
        wait::until(&format!("{count} wait at their server"), || {
            self.inside.load(Ordering::SeqCst) == count
        });
    }
}

struct Rig {
    servers: Servers,
    gate: Arc<Gate>,
}

impl Rig {
    fn start(servers: usize, ceiling: usize, hold: &str) -> Self {
        let gate = Arc::<Gate>::default();
        let backend = |number| {
            let (answer, gate) = (server(number), Arc::clone(&gate));
            RawBackend::answering(move |request| {
                if request.field("X-Wait").is_some() {
                    gate.pass();
                }
                answer(request)
            })
        };
        let backends = (0..servers).map(backend).collect();
        let servers = Servers::of(backends, |farm| {
            farm.set("limits.backend_connections", &ceiling.to_string())
                .set("failover.hold", &format!("\"{hold}\""))
        });
        Self { servers, gate }
    }

    /// Sends it on a connection of its own.
    fn send(&self, bytes: Vec<u8>) -> JoinHandle<Answer> {
        let entrance = self.servers.farm.entrance();
        std::thread::spawn(move || exchange(entrance, &bytes).expect("an answer"))
    }

    fn connections(&self) -> f64 {
        self.servers.farm.metric("bitsgw_backend_connections", &[])
    }

    /// Waits until so many requests have arrived.
    fn expect_in_flight(&self, count: f64) {
        wait::until(&format!("{count} requests have arrived"), || {
            self.servers.farm.metric("bitsgw_requests_in_flight", &[]) == count
        });
    }

    fn waiting_packet(&self) -> Packet {
        let (id, _) = self.servers.open(TARGET);
        fragment(TARGET, &id, "bytes 0-2/9", b"abc").with("X-Wait", "1")
    }
}

fn get(more: &str) -> Vec<u8> {
    format!("GET /x HTTP/1.1\r\nHost: {ORIGIN}\r\nX-Wait: 1\r\n{more}\r\n").into_bytes()
}

#[test]
fn packets_wait_for_a_place_and_all_are_served() {
    let rig = Rig::start(1, 2, "60s");
    let packets: Vec<_> = (0..6).map(|_| rig.waiting_packet()).collect();
    let sent: Vec<_> = packets.iter().map(|packet| rig.send(packet.bytes())).collect();
    rig.gate.expect_inside(2);
    rig.expect_in_flight(6.0);
    assert_eq!(rig.connections(), 2.0);
    rig.gate.open();
    for answer in sent {
        let answer = answer.join().expect("it has not panicked");
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
    assert_eq!(rig.gate.most.load(Ordering::SeqCst), 2);
}

/// Plain requests go by another carrier, and logins have connections of their own.
#[test]
fn all_connections_to_a_server_count() {
    let rig = Rig::start(1, 1, "60s");
    let packet = rig.waiting_packet();
    let stuck = rig.send(packet.bytes());
    rig.gate.expect_inside(1);
    let plain = rig.send(get(""));
    rig.expect_in_flight(2.0);
    assert_eq!(rig.connections(), 1.0);
    rig.gate.open();
    assert_eq!(stuck.join().expect("an answer").status, 200);
    assert_eq!(plain.join().expect("an answer").status, 200);
    // A login keeps its place until its client leaves.
    let mut client = Connection::open(rig.servers.farm.entrance()).expect("a connection");
    let answer = client.exchange(&get("Authorization: NTLM eA==\r\n")).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(rig.connections(), 1.0);
    rig.gate.close();
    let waits = rig.send(packet.bytes());
    rig.expect_in_flight(1.0);
    assert_eq!(rig.gate.inside.load(Ordering::SeqCst), 0);
    drop(client);
    rig.gate.expect_inside(1);
    rig.gate.open();
    assert_eq!(waits.join().expect("an answer").status, 200);
    assert_eq!(rig.gate.most.load(Ordering::SeqCst), 1);
}

#[test]
fn a_packet_that_finds_no_place_comes_again_and_a_create_goes_elsewhere() {
    let rig = Rig::start(2, 1, "1s");
    let sessions: Vec<_> = (0..4).map(|_| rig.servers.open(TARGET)).collect();
    let of = |owner: usize| sessions.iter().filter(move |(_, at)| *at == owner).map(|(id, _)| id);
    let [first, second] = &of(0).collect::<Vec<_>>()[..] else { panic!("two each: {sessions:?}") };
    let packet = |id: &str| fragment(TARGET, id, "bytes 0-2/9", b"abc");
    let stuck = rig.send(packet(first).with("X-Wait", "1").bytes());
    rig.gate.expect_inside(1);
    let refused = rig.servers.stays(&packet(second));
    expect_not_now(&[503], PacketType::Fragment, &refused);
    assert_eq!(refused.field("Retry-After"), Some("30"));
    let busy =
        || rig.servers.farm.metric("bitsgw_rejected_requests_total", &[("reason", "backend_busy")]);
    // A request is counted when its client has its answer.
    wait::until("it is counted", || busy() == 1.0);
    for _ in 0..3 {
        assert_eq!(rig.servers.open(TARGET).1, 1, "the other one has no place");
    }
    // Nor has that one by now.
    let other = of(1).next().expect("two each");
    let also_stuck = rig.send(packet(other).with("X-Wait", "1").bytes());
    rig.gate.expect_inside(2);
    let refused = rig.servers.stays(&create(TARGET));
    expect_not_now(&[503], PacketType::CreateSession, &refused);
    wait::until("it is counted", || busy() == 2.0);
    // A higher ceiling lets them in at once.
    let farm = &rig.servers.farm;
    farm.gateway().configure(|config| config.set("limits.backend_connections", "0"));
    assert!(farm.gateway().reload());
    assert_eq!(rig.servers.ask(&packet(second)).status, 200);
    assert!(!farm.gateway().ops("/metrics").body_text().contains("bitsgw_backend_connections"));
    rig.gate.open();
    for stuck in [stuck, also_stuck] {
        assert_eq!(stuck.join().expect("an answer").status, 200);
    }
    farm.expect_healthy();
}
