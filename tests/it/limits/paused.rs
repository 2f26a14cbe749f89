//! A gateway that stands still for longer than it waits for anybody: a virtual machine that was paused. What came
//! meanwhile lies in its sockets, and nobody has stalled.

use std::time::Duration;

use e2e_tests::client::PacketType;
use e2e_tests::clock;
use e2e_tests::farm::{FarmBuilder, Signal};
use e2e_tests::raw_backend::Reply;
use e2e_tests::wait;

use crate::packets::{Packet, Servers, TARGET, cancel, close, fragment, ping};
use crate::slow::{Slow, last, ok, took_all};

/// Longer than any timeout below.
const PAUSE: Duration = Duration::from_millis(4_300);

/// Which timer runs first when the process wakes is chance.
const ROUNDS: usize = 2;

fn impatient(farm: FarmBuilder) -> FarmBuilder {
    farm.set("timeouts.client_head", "\"3s\"")
        .set("timeouts.client_body", "\"3s\"")
        .set("timeouts.client_idle", "\"4s\"")
        .set("timeouts.answer", "\"3s\"")
        .set("timeouts.answer_long", "\"4s\"")
}

/// Stops the gateway, has `meanwhile` happen, and wakes it after all its timers.
fn paused(servers: &Servers, meanwhile: impl FnOnce()) {
    let gateway = servers.farm.gateway();
    gateway.signal(Signal::STOP);
    let begun = clock::now();
    meanwhile();
    wait::until("the pause is over", || clock::now() - begun > PAUSE);
    gateway.signal(Signal::CONT);
}

/// Fault: virtual machine is paused.
#[test]
fn a_head_whose_end_came_during_a_pause_is_served() {
    let servers = Servers::with(1, impatient);
    let packet = ping(TARGET).bytes();
    for _ in 0..ROUNDS {
        let mut client = servers.connect();
        client.send(&packet[..packet.len() / 2]).expect("a part is taken");
        wait::until("the gateway knows the client", || {
            servers.farm.metric("bitsgw_connections", &[]) == 1.0
        });
        paused(&servers, || client.send(&packet[packet.len() / 2..]).expect("the rest is taken"));
        assert_eq!(client.read_answer().expect("an answer").status, 200);
        drop(client);
        wait::until("the client has gone", || {
            servers.farm.metric("bitsgw_connections", &[]) == 0.0
        });
    }
}

/// Fault: virtual machine is paused.
#[test]
fn a_body_whose_rest_came_during_a_pause_goes_on() {
    let servers = Servers::with(1, impatient);
    let (id, _) = servers.open(TARGET);
    let packet = fragment(TARGET, &id, "bytes 0-99999/200000", &[7; 100_000]).bytes();
    for _ in 0..ROUNDS {
        let before = servers.counts()[0];
        let mut client = servers.connect();
        client.send(&packet[..50_000]).expect("a part is taken");
        wait::until("half of it is at its server", || servers.counts()[0] > before);
        paused(&servers, || client.send(&packet[50_000..]).expect("the rest is taken"));
        let answer = client.read_answer().expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
        let arrived = servers.last_request(0);
        assert_eq!((arrived.complete, arrived.body.len()), (true, 100_000));
    }
}

/// Fault: virtual machine is paused.
#[test]
fn a_packet_that_came_on_an_idle_connection_during_a_pause_is_served() {
    let servers = Servers::with(1, impatient);
    let (id, _) = servers.open(TARGET);
    let mut client = servers.connect();
    for _ in 0..ROUNDS {
        assert_eq!(client.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
        let packet = fragment(TARGET, &id, "bytes 0-2/9", b"abc").bytes();
        paused(&servers, || client.send(&packet).expect("it is taken"));
        assert_eq!(client.read_answer().expect("an answer").status, 200);
    }
}

/// Fault: virtual machine is paused.
#[test]
fn an_answer_that_came_during_a_pause_is_passed_on() {
    type Make = fn(&str) -> Packet;
    type Case = (PacketType, Make, fn() -> Reply);
    let cases: [Case; 3] = [
        (PacketType::CloseSession, |id| close(TARGET, id), ok),
        (PacketType::CancelSession, |id| cancel(TARGET, id), ok),
        (PacketType::Fragment, last, took_all),
    ];
    for (kind, packet, answer) in cases {
        let slow = Slow::with(kind, answer(), impatient);
        let (id, _) = slow.servers.open(TARGET);
        let mut client = slow.send_first(&packet(&id));
        paused(&slow.servers, || slow.gate.open());
        let answer = client.read_answer().expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(slow.seen(), 1);
    }
}
