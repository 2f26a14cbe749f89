//! A table that one client has filled: how far it gets, and how others get in.

use e2e_tests::binaries;
use e2e_tests::client::{PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::temp::TempDir;
use e2e_tests::wait;

use crate::packets::{
    Packet, close, create, expect_not_found, expect_not_now, fragment, session_of,
};

/// Clients have addresses of their choice behind a proxy that these tests play.
fn farm_for(limit: u64) -> FarmBuilder {
    Farm::of_stubs(2)
        .without_host_ids()
        .set("http.trusted_proxies", "[\"127.0.0.0/8\"]")
        .set("sessions.limit", &limit.to_string())
}

fn of(client: &str, packet: &Packet) -> Packet {
    packet.clone().with("X-Forwarded-For", client)
}

fn path(number: u64) -> String {
    format!("/in/{number}.bin")
}

/// What a test says to its farm.
struct Table {
    farm: Farm,
    folder: TempDir,
}

impl Table {
    /// With clocks that can be set forward, the one that never jumps as well.
    #[track_caller]
    fn with_clocks(farm: FarmBuilder) -> Self {
        let folder = TempDir::new("clocks");
        let clock = folder.join("offset");
        std::fs::write(&clock, "+0").expect("a file can be written");
        let library = binaries::library("faketime/libfaketime.so.1", "faketime");
        let farm = farm
            .env("LD_PRELOAD", &library)
            .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("a plain path"))
            .env("FAKETIME_NO_CACHE", "1")
            .set("timeouts.client_idle", "\"10h\"")
            .start();
        Self { farm, folder }
    }

    fn set_clocks(&self, offset: &str) {
        std::fs::write(self.folder.join("offset"), offset).expect("a file can be written");
    }

    #[track_caller]
    fn ask(&self, client: &str, packet: &Packet) -> e2e_tests::client::Answer {
        exchange(self.farm.entrance(), &of(client, packet).bytes()).expect("an answer")
    }

    #[track_caller]
    fn open(&self, client: &str, number: u64) -> String {
        session_of(&self.ask(client, &create(&path(number))))
    }

    /// Sessions that the servers have.
    fn at_servers(&self) -> u64 {
        self.farm.stubs().iter().map(|stub| stub.stats().sessions).sum()
    }

    fn evicted(&self) -> f64 {
        self.farm.metric("bitsgw_sessions_ended_total", &[("reason", "evicted")])
    }
}

const GREEDY: &str = "192.0.2.66";

/// Threat: T7.
///
/// Fault: session table is full.
#[test]
fn one_client_gets_no_more_than_three_quarters_of_the_table() {
    let farm = farm_for(40).start();
    let ask = |client: &str, packet: &Packet| {
        exchange(farm.entrance(), &of(client, packet).bytes()).expect("an answer")
    };
    let mut opened = 0;
    let refused = loop {
        let answer = ask(GREEDY, &create(&path(opened)));
        match answer.status {
            200 => opened += 1,
            _ => break answer,
        }
        assert!(opened <= 40);
    };
    expect_not_now(&[503], PacketType::CreateSession, &refused);
    assert_eq!(refused.field("Retry-After"), Some("60"), "{}", refused.head);
    // What is free to all is free to one, and the last quarter is for others.
    assert_eq!(opened, 30);
    for number in 0..10 {
        session_of(&ask(&format!("192.0.2.{number}"), &create(&path(100 + number))));
    }
    for again in 0..3 {
        assert_eq!(ask(GREEDY, &create(&path(again))).status, 503);
    }
    let rejected = |reason| farm.metric("bitsgw_rejected_requests_total", &[("reason", reason)]);
    wait::until("the refusals are counted", || rejected("client_sessions") == 4.0);
    let said = farm.gateway().log().matches("sessions.limit_per_client").count();
    assert_eq!(said, 1, "{}", farm.gateway().log());
}

#[test]
fn a_trusted_proxy_that_names_no_client_may_fill_the_table() {
    let farm = farm_for(10).start();
    for number in 0..10 {
        let answer = exchange(farm.entrance(), &create(&path(number)).bytes());
        session_of(&answer.expect("an answer"));
    }
}

#[test]
fn a_limit_of_a_client_that_was_set_binds_in_an_empty_table_too() {
    let farm = farm_for(40).set("sessions.limit_per_client", "2").start();
    let ask = |number| {
        exchange(farm.entrance(), &of(GREEDY, &create(&path(number))).bytes()).expect("an answer")
    };
    session_of(&ask(1));
    session_of(&ask(2));
    expect_not_now(&[503], PacketType::CreateSession, &ask(3));
}

/// Threat: T7.
///
/// Fault: session table is full.
#[test]
fn a_full_table_takes_a_new_upload_in_place_of_an_empty_session_of_who_holds_most() {
    const LIMIT: u64 = 12;
    let table = Table::with_clocks(farm_for(LIMIT).set("sessions.limit_per_client", "0"));
    // One that has begun, one that has not, and the rest of somebody else.
    let begun = table.open("192.0.2.1", 0);
    let first = fragment(&path(0), &begun, "bytes 0-2/6", b"abc");
    assert_eq!(table.ask("192.0.2.1", &first).status, 200);
    let empty = table.open("192.0.2.2", 1);
    let greedy: Vec<_> = (2..LIMIT).map(|number| table.open(GREEDY, number)).collect();
    // Nothing is old enough.
    let refused = table.ask("192.0.2.3", &create(&path(50)));
    expect_not_now(&[503], PacketType::CreateSession, &refused);
    assert_eq!(refused.field("Retry-After"), Some("60"), "{}", refused.head);
    table.set_clocks("+59m");
    assert_eq!(table.ask("192.0.2.3", &create(&path(50))).status, 503);
    table.set_clocks("+61m");
    let uploads = greedy.len() as u64 - 1;
    let ids: Vec<_> = (0..uploads).map(|number| table.open("192.0.2.3", 50 + number)).collect();
    wait::until("what made room is cancelled", || table.at_servers() == LIMIT);
    assert_eq!(table.evicted(), uploads as f64);
    assert_eq!(table.farm.metric("bitsgw_sessions", &[]), LIMIT as f64);
    // An empty one of who had few is still there, and so is what has a byte.
    let whole = fragment(&path(1), &empty, "bytes 0-2/3", b"abc");
    assert_eq!(table.ask("192.0.2.2", &whole).status, 200);
    let rest = fragment(&path(0), &begun, "bytes 3-5/6", b"def");
    assert_eq!(table.ask("192.0.2.1", &rest).status, 200);
    assert_eq!(table.ask("192.0.2.1", &close(&path(0), &begun)).status, 200);
    table.farm.expect_stored(&path(0), &Content::bytes(b"abcdef".to_vec()));
    // The new ones are uploads like any.
    let new = fragment(&path(50), &ids[0], "bytes 0-2/3", b"xyz");
    assert_eq!(table.ask("192.0.2.3", &new).status, 200);
    assert_eq!(table.ask("192.0.2.3", &close(&path(50), &ids[0])).status, 200);
    table.farm.expect_stored(&path(50), &Content::bytes(b"xyz".to_vec()));
    // Whose session made room starts over.
    let late = fragment(&path(2), &greedy[0], "bytes 0-2/3", b"abc");
    expect_not_found(late.kind, &table.ask(GREEDY, &late));
    table.farm.expect_healthy();
}

#[test]
fn what_may_have_a_byte_is_never_evicted() {
    const LIMIT: u64 = 3;
    let table = Table::with_clocks(farm_for(LIMIT).set("sessions.limit_per_client", "0"));
    let ids: Vec<_> = (0..LIMIT).map(|number| table.open(GREEDY, number)).collect();
    for (number, id) in ids.iter().enumerate() {
        let path = path(number as u64);
        // The bytes are at the server, and its Ack is lost, also when they come once more over a new
        // connection.
        for stub in table.farm.stubs() {
            let fault = e2e_tests::farm::StubFault::on(PacketType::Fragment, "apply_then_close");
            stub.fault(fault.times(2));
        }
        let first = fragment(&path, id, "bytes 0-2/6", b"abc");
        assert_eq!(table.ask(GREEDY, &first).status, 502);
    }
    table.set_clocks("+5h");
    for number in 0..3 {
        assert_eq!(table.ask("192.0.2.1", &create(&path(10 + number))).status, 503);
    }
    table.farm.gateway().restart();
    table.set_clocks("+10h");
    for number in 0..3 {
        assert_eq!(table.ask("192.0.2.1", &create(&path(10 + number))).status, 503);
    }
    assert_eq!((table.evicted(), table.at_servers()), (0.0, LIMIT));
}

/// Whose it is and where it was opened, nobody knows any more.
#[test]
fn after_a_restart_an_empty_session_gives_way_without_a_word_to_its_server() {
    const LIMIT: u64 = 3;
    let table = Table::with_clocks(farm_for(LIMIT).set("sessions.limit_per_client", "0"));
    for number in 0..LIMIT {
        table.open(GREEDY, number);
    }
    table.farm.gateway().restart();
    table.set_clocks("+59m");
    assert_eq!(table.ask("192.0.2.1", &create(&path(10))).status, 503);
    table.set_clocks("+61m");
    table.open("192.0.2.1", 11);
    assert_eq!((table.evicted(), table.at_servers()), (1.0, LIMIT + 1));
    let told: u64 = table.farm.stubs().iter().map(|stub| stub.stats().cancel_session).sum();
    assert_eq!(told, 0);
}
