//! A server that has done what it was told and says so only when the test lets it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use e2e_tests::client::{Answer, Connection, PacketType};
use e2e_tests::farm::FarmBuilder;
use e2e_tests::raw_backend::{RawBackend, Reply, Request};
use e2e_tests::wait;

use crate::packets::{Packet, Servers, TARGET, fragment, server};

const FINAL: &str = "bytes 6-8/9";

/// The final Fragment of a file of nine bytes.
pub fn last(id: &str) -> Packet {
    fragment(TARGET, id, FINAL, b"ghi")
}

/// Opens once, for all who wait.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().expect("no panic under the lock") = true;
        self.0.1.notify_all();
    }

    pub fn wait(&self) {
        let open = self.0.0.lock().expect("no panic under the lock");
        drop(self.0.1.wait_while(open, |open| !*open).expect("no panic under the lock"));
    }
}

/// One server that ends the session, or takes the last bytes, with the first packet of one kind, and tells only when the
/// gate is opened. From then on it says "session not found" to such packets.
pub struct Slow {
    pub servers: Servers,
    pub gate: Gate,
    kind: &'static str,
}

pub fn not_found() -> Reply {
    let fields = [("BITS-Error-Code", "0x8020001F"), ("BITS-Error-Context", "0x5")];
    Reply::ack("500 Gone", &fields)
}

impl Slow {
    pub fn to(packet: PacketType, first: Reply) -> Self {
        Self::with(packet, first, |farm| farm)
    }

    pub fn with(
        packet: PacketType,
        first: Reply,
        change: impl FnOnce(FarmBuilder) -> FarmBuilder,
    ) -> Self {
        let kind = match packet {
            PacketType::CloseSession => "close-session",
            PacketType::CancelSession => "cancel-session",
            _ => "fragment",
        };
        let (agree, gate, count) = (server(0), Gate::default(), AtomicUsize::new(0));
        let held = gate.clone();
        let answer = move |request: &Request| {
            let this = request.packet_type() == kind;
            let whole = kind != "fragment" || request.field("Content-Range") == Some(FINAL);
            if !(this && whole) {
                return agree(request);
            }
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                held.wait();
                return first.clone();
            }
            not_found()
        };
        let servers = Servers::of(vec![RawBackend::answering(answer)], |farm| {
            change(farm.without_host_ids())
        });
        Self { servers, gate, kind }
    }

    /// How many of the packet in question the server has got, whole.
    pub fn seen(&self) -> usize {
        let requests = self.servers.backends[0].requests();
        let whole = |request: &&Request| {
            let kind = request.packet_type() == self.kind;
            kind && request.complete && (self.kind != "fragment" || request.body == b"ghi")
        };
        requests.iter().filter(whole).count()
    }

    /// Sends a packet on a connection of its own and waits until the server has it.
    #[track_caller]
    pub fn send_first(&self, packet: &Packet) -> Connection {
        let mut connection = self.servers.connect();
        connection.send(&packet.bytes()).expect("it is taken");
        wait::until("the server has the first packet", || self.seen() == 1);
        connection
    }

    /// Waits until so many requests are in the gateway.
    #[track_caller]
    pub fn expect_in_flight(&self, count: usize) {
        wait::until("the gateway has the requests", || {
            self.servers.farm.metric("bitsgw_requests_in_flight", &[]) == count as f64
        });
    }

    /// Sends `packets` on connections of their own while the first one is under way, then opens the gate.
    #[track_caller]
    pub fn meanwhile(&self, packets: &[Packet]) -> Vec<Answer> {
        std::thread::scope(|scope| {
            let asking: Vec<_> = packets
                .iter()
                .zip(2..)
                .map(|(packet, count)| {
                    let asking = scope.spawn(|| self.servers.ask(packet));
                    // In their order.
                    self.expect_in_flight(count);
                    asking
                })
                .collect();
            self.gate.open();
            asking.into_iter().map(|answer| answer.join().expect("an answer")).collect()
        })
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.gate.open();
    }
}

pub fn ok() -> Reply {
    Reply::ack("200 OK", &[])
}

pub fn took_all() -> Reply {
    let fields = [("BITS-Received-Content-Range", "9"), ("BITS-Session-Id", "{not-it}")];
    Reply::ack("200 OK", &fields)
}
