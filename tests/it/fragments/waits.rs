//! How long an answer may take: item 79.

use std::sync::{Arc, Condvar, Mutex};

use e2e_tests::client::Connection;
use e2e_tests::raw_backend::{RawBackend, Reply, Request};
use e2e_tests::wait;

use crate::packets::{
    Packet, Servers, TARGET, cancel, close, create, expect_not_now, fragment, ping, server,
};

/// Holds answers back until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut open = self.open.lock().expect("nobody panics with it");
        while !*open {
            open = self.opened.wait(open).expect("nobody panics with it");
        }
    }

    fn set(&self, open: bool) {
        *self.open.lock().expect("nobody panics with it") = open;
        self.opened.notify_all();
    }
}

/// A server that answers while the gate is open.
fn slow(settings: &[(&str, &str)]) -> (Servers, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    gate.set(true);
    let (holding, answer) = (gate.clone(), server(0));
    let backend = RawBackend::answering(move |request: &Request| -> Reply {
        holding.pass();
        answer(request)
    });
    let servers = Servers::of(vec![backend], |farm| {
        settings.iter().fold(farm, |farm, (key, value)| farm.set(key, value))
    });
    (servers, gate)
}

/// Opens the gate also when the test fails, or its backend would never end.
struct OpenAtLast(Arc<Gate>);

impl Drop for OpenAtLast {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

/// Sends the packet on a connection of its own and waits until the backend has it.
#[track_caller]
fn begin(servers: &Servers, packet: &Packet) -> Connection {
    let before = servers.counts()[0];
    let mut client = servers.connect();
    client.send(&packet.bytes()).expect("a packet is taken");
    wait::until("the backend has the packet", || servers.counts()[0] == before + 1);
    client
}

/// Item 79.
#[test]
fn a_fragment_and_a_close_may_take_longer_than_any_other_packet() {
    // 60 s and 310 s by default.
    let (servers, gate) = slow(&[
        ("timeouts.answer", "\"500ms\""),
        ("timeouts.answer_long", "\"60s\""),
        ("timeouts.client_body", "\"30s\""),
    ]);
    let _end = OpenAtLast(gate.clone());
    let (one, _) = servers.open(TARGET);
    let (two, _) = servers.open(TARGET);
    let final_fragment = fragment(TARGET, &one, "bytes 0-2/3", b"abc");
    for patient in [final_fragment, close(TARGET, &one)] {
        gate.set(false);
        let mut waiting = begin(&servers, &patient);
        // They began later and are given up: the time that others have is over for the patient one too.
        let with_id = ping(TARGET).with("BITS-Session-Id", &two);
        for other in [with_id, create("/in/b.bin"), cancel(TARGET, &two)] {
            println!("{:?} while {:?} waits", other.kind, patient.kind);
            let answer = begin(&servers, &other).read_answer().expect("an answer");
            expect_not_now(&[504], other.kind, &answer);
        }
        assert!(!waiting.is_readable(), "{patient:?} was given up");
        gate.set(true);
        let answer = waiting.read_answer().expect("an answer");
        assert_eq!(answer.status, 200, "{patient:?}: {}", answer.head);
    }
}

/// Item 79.
#[test]
fn a_backend_that_never_answers_is_given_up_in_the_end() {
    let (servers, gate) = slow(&[
        ("timeouts.answer", "\"500ms\""),
        ("timeouts.answer_long", "\"1500ms\""),
        ("timeouts.client_body", "\"1s\""),
    ]);
    let _end = OpenAtLast(gate.clone());
    let (id, owner) = servers.open(TARGET);
    gate.set(false);
    for packet in [fragment(TARGET, &id, "bytes 0-2/3", b"abc"), close(TARGET, &id)] {
        let answer = begin(&servers, &packet).read_answer().expect("an answer");
        expect_not_now(&[504], packet.kind, &answer);
    }
    // The pin has stayed, for the client comes again.
    gate.set(true);
    let (backend, ..) = servers.passes(&fragment(TARGET, &id, "bytes 0-2/3", b"abc"));
    assert_eq!(backend, owner);
    servers.passes(&close(TARGET, &id));
}

/// Item 79.
#[test]
fn a_backend_that_was_given_up_is_not_asked_a_second_time() {
    let (servers, gate) = slow(&[("timeouts.answer", "\"500ms\"")]);
    let _end = OpenAtLast(gate.clone());
    // Over a connection that has served before: only one that died may be replaced by another.
    let (id, _) = servers.open(TARGET);
    for packet in [ping(TARGET), cancel(TARGET, &id)] {
        gate.set(true);
        servers.passes(&ping(TARGET));
        gate.set(false);
        let asked = servers.counts()[0] + 1;
        let answer = begin(&servers, &packet).read_answer().expect("an answer");
        expect_not_now(&[504], packet.kind, &answer);
        assert_eq!(servers.counts()[0], asked, "{packet:?}");
    }
}
