//! A server that refuses Create-Sessions eats no uploads, and keeps what it has.

use e2e_tests::client::{Answer, FragmentSizes, PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Stub, StubFault};
use e2e_tests::ports::Port;
use e2e_tests::raw_backend::{RawBackend, Reply};
use e2e_tests::wait;
use serde_json::json;

use super::open;
use crate::packets::{TARGET, create, fragment, session_of};

const MANY: u64 = 1_000_000;

fn on_create(kind: &str) -> StubFault {
    StubFault::on(PacketType::CreateSession, kind).times(MANY)
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> StubFault {
    on_create("answer").with("status", status).with("headers", json!(headers)).with("body", body)
}

fn words(status: u16, code: &str) -> StubFault {
    let headers =
        [("BITS-Packet-Type", "Ack"), ("BITS-Error", code), ("BITS-Error-Context", "0x5")];
    answer(status, &headers, "")
}

const PAGE: &str = "<html><body>It works!</body></html>";

/// What broken servers say to a Create-Session, and what they do.
fn refusals() -> Vec<(&'static str, StubFault)> {
    let ack = [("BITS-Packet-Type", "Ack")];
    let raw = |bytes: &str| on_create("raw").with("latin1", bytes);
    vec![
        ("404 without words", answer(404, &[], "")),
        ("404 with a page", answer(404, &[("Content-Type", "text/html")], PAGE)),
        ("405", answer(405, &[("Allow", "GET, HEAD")], "")),
        ("400", answer(400, &[], "")),
        ("403", answer(403, &[], PAGE)),
        ("501", answer(501, &[], "")),
        ("503 with a page", answer(503, &[("Content-Type", "text/html")], PAGE)),
        ("500 path not found", words(500, "0x80070003")),
        ("500 session not found", words(500, "0x8020001F")),
        ("500 disk full", on_create("disk_full")),
        ("a page with 200", answer(200, &[("Content-Type", "text/html")], PAGE)),
        ("an Ack without an id", answer(200, &ack, "")),
        ("204", answer(204, &[], "")),
        ("a redirect", answer(302, &[("Location", "http://other.test/")], "")),
        ("closed", on_create("close")),
        ("closed after the body", on_create("close_after_body")),
        ("reset", on_create("reset")),
        ("done and closed", on_create("apply_then_close")),
        ("garbage", raw("SMTP ready\r\n\r\n")),
        ("two lengths", raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")),
        ("101", raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")),
    ]
}

fn creates(stub: &Stub) -> u64 {
    stub.stats().create_session
}

fn farm(stubs: usize) -> FarmBuilder {
    Farm::of_stubs(stubs).set("placement.policy", "\"least-sessions\"")
}

/// Nothing but connections says that a server is away.
fn unnoticed(farm: FarmBuilder) -> FarmBuilder {
    farm.set("health.kind", "\"off\"")
        .set("health.passive_failures", "0")
        .set("health.passive_errors", "0")
}

fn say(farm: &Farm, target: &str) -> Answer {
    exchange(farm.entrance(), &create(target).bytes()).expect("an answer")
}

/// How often the Create of this target went to a server.
fn asked(farm: &Farm, target: &str) -> usize {
    let of = |stub: &Stub| {
        let seen = stub.requests();
        seen.iter().filter(|seen| seen.request_line().contains(&format!(" {target} "))).count()
    };
    farm.stubs().iter().map(of).sum()
}

/// Item 85.
/// Fault: backend refuses new uploads.
#[test]
fn a_server_that_refuses_creates_eats_no_upload() {
    let content = Content::seeded(1, 3000);
    for (name, fault) in refusals() {
        let farm = farm(3).start();
        farm.stub(0).fault(fault);
        let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(1500));
        for number in 0..30 {
            let path = format!("/in/{number}.bin");
            client.upload(&farm.url(&path), &content).expect_smooth();
            assert_ne!(farm.expect_stored(&path, &content), "up01", "{name}");
        }
        // Two signs, and then trials.
        let tries = creates(farm.stub(0));
        assert!((1..=4).contains(&tries), "{name}: {tries}");
        let moved = farm.metric("bitsgw_refused_creates_total", &[("result", "moved")]);
        assert_eq!(moved as u64, tries, "{name}");
        let why = if name == "500 disk full" { "full" } else { "refuses" };
        assert_eq!(farm.metric("bitsgw_barred_folders", &[("reason", why)]), 1.0, "{name}");
    }
}

#[test]
fn two_broken_servers_of_three_eat_none_either() {
    let farm = farm(3).start();
    farm.stub(0).fault(answer(404, &[], ""));
    farm.stub(1).fault(on_create("close"));
    for number in 0..30 {
        session_of(&say(&farm, &format!("/in/{number}.bin")));
    }
    assert_eq!(creates(farm.stub(2)), 30);
    assert!(creates(farm.stub(0)) <= 4 && creates(farm.stub(1)) <= 4);
}

/// Item 85.
#[test]
fn what_all_refuse_the_client_hears_from_the_last_one() {
    for (name, fault) in refusals() {
        // The other rule has servers left out that answer 503.
        let farm = farm(4).set("health.passive_errors", "0").start();
        for stub in farm.stubs() {
            stub.fault(fault.clone());
        }
        let alone = exchange(farm.stub(0).address(), &create("/in/alone.bin").bytes()).ok();
        let said = say(&farm, TARGET);
        // What is no answer has one of ours in its place, and so has a redirect.
        let passes = !["an Ack without an id", "a redirect", "garbage", "two lengths", "101"]
            .contains(&name);
        match alone.filter(|_| passes) {
            Some(own) => assert_eq!((said.status, &said.body), (own.status, &own.body), "{name}"),
            None => assert_eq!(said.status, 502, "{name}"),
        }
        assert_eq!(asked(&farm, TARGET), 3, "{name}");
        // No server is worse than the others.
        for number in 0..8 {
            let target = format!("/in/{number}.bin");
            say(&farm, &target);
            assert_eq!(asked(&farm, &target), 3, "{name}");
        }
        for stub in farm.stubs() {
            stub.clear_faults();
        }
        for number in 0..8 {
            open(&farm, &format!("/again/{number}.bin"));
        }
        assert!(farm.stubs().iter().all(|stub| stub.stats().sessions >= 2), "{name}");
    }
}

/// A server that cannot be reached is no second opinion.
/// Item 85.
#[test]
fn a_refusal_is_not_passed_on_while_another_server_cannot_be_reached() {
    for (name, fault) in refusals() {
        let away = Port::reserve();
        let farm = unnoticed(farm(1)).backend("up02", away.address()).start();
        farm.stub(0).fault(fault);
        for number in 0..6 {
            let target = format!("/in/{number}.bin");
            let said = say(&farm, &target);
            // Nothing that ends a job for good, whichever of the two was tried first.
            assert!([502, 503].contains(&said.status), "{name}: {}", said.head);
            assert_eq!(asked(&farm, &target), 1, "{name}");
        }
    }
}

/// Item 85.
#[test]
fn a_create_that_is_refused_passes_every_server_that_cannot_be_reached() {
    let away: Vec<_> = (0..9).map(|_| Port::reserve()).collect();
    let all = |farm: FarmBuilder| {
        (0..9).fold(unnoticed(farm), |farm, number| {
            farm.backend(&format!("away{number}"), away[number].address())
        })
    };
    // One that accepts is found, however many are away before it, as far as tries go.
    let few = unnoticed(farm(2)).backend("away0", away[0].address());
    let few = few.backend("away1", away[1].address()).start();
    few.stub(0).fault(answer(404, &[], ""));
    for number in 0..8 {
        assert_eq!(open_anywhere(&few, &format!("/in/{number}.bin")), "up02");
    }
    // None accepts.
    let none = all(farm(1)).start();
    none.stub(0).fault(answer(404, &[], PAGE));
    for number in 0..40 {
        let target = format!("/in/{number}.bin");
        assert_eq!(say(&none, &target).status, 503);
        assert!(asked(&none, &target) <= 1);
    }
}

#[test]
fn what_is_about_the_request_is_asked_of_one_server() {
    let ack = [("BITS-Packet-Type", "Ack")];
    for fault in [
        answer(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""),
        answer(407, &[], ""),
        answer(409, &ack, ""),
        answer(413, &[], ""),
        words(500, "0x80070057"),
        words(500, "0x80070005"),
        words(403, "0x80070005"),
        words(500, "0x80200020"),
    ] {
        let farm = farm(3).start();
        farm.stub(0).fault(fault.clone());
        let mut refused = 0;
        for number in 0..12 {
            let target = format!("/in/{number}.bin");
            let answer = say(&farm, &target);
            assert_eq!(asked(&farm, &target), 1, "{fault:?}");
            refused += u64::from(answer.status != 200);
        }
        // However often it says so: it has the fewest sessions.
        assert!(refused >= 4 && refused == creates(farm.stub(0)), "{refused} {fault:?}");
    }
}

#[test]
fn a_server_that_accepts_a_trial_gets_its_share_again() {
    let farm = farm(3).set("health.retry_after", "\"300ms\"").start();
    farm.stub(0).fault(answer(404, &[], ""));
    for number in 0..6 {
        session_of(&say(&farm, &format!("/in/{number}.bin")));
    }
    let before = creates(farm.stub(0));
    // It is tried, and refuses again.
    let mut number = 6;
    let mut next = || {
        number += 1;
        session_of(&say(&farm, &format!("/in/{number}.bin")));
    };
    wait::until("a trial", || {
        next();
        creates(farm.stub(0)) > before
    });
    farm.stub(0).clear_faults();
    wait::until("its share", || {
        next();
        let stats = farm.stubs().iter().map(|stub| stub.stats().sessions).collect::<Vec<_>>();
        stats[0] >= stats[1].min(stats[2])
    });
    farm.gateway().expect_logged("a backend gets new sessions of a folder again");
}

#[test]
fn only_new_uploads_of_the_folder_stay_away() {
    let farm = farm(2).start();
    let (id, owner) = open(&farm, TARGET);
    let mut here = (id, owner, TARGET.to_owned());
    if here.1 != "up01" {
        let (id, owner) = open(&farm, "/in/b.bin");
        here = (id, owner, "/in/b.bin".to_owned());
    }
    assert_eq!(here.1, "up01");
    farm.stub(0).fault(answer(404, &[], ""));
    for number in 0..6 {
        assert_eq!(open_anywhere(&farm, &format!("/in/{number}.bin")), "up02");
    }
    farm.stub(0).clear_faults();
    // What it has goes on, and another folder is as good as before.
    let packet = fragment(&here.2, &here.0, "bytes 0-2/9", b"abc");
    assert_eq!(exchange(farm.entrance(), &packet.bytes()).expect("an answer").status, 200);
    assert_eq!(open_anywhere(&farm, "/other/a.bin"), "up01");
    assert_eq!(open_anywhere(&farm, "/IN/7.bin"), "up02", "the same folder on Windows");
    assert_eq!(open_anywhere(&farm, "/a.bin"), "up01", "the root is a folder");
}

#[test]
fn half_a_head_is_a_refusal() {
    let broken = RawBackend::answering(|request| match request.packet_type().as_str() {
        "create-session" => Reply::SendAndClose(b"HTTP/1.1 200 OK\r\nBITS-Packet-Type: A".into()),
        _ => Reply::Hang,
    });
    let farm = farm(2).backend("up03", broken.address()).plain().start();
    for number in 0..30 {
        session_of(&say(&farm, &format!("/in/{number}.bin")));
    }
    assert!((1..=4).contains(&broken.requests().len()));
}

/// The backend that has opened the session at last.
#[track_caller]
fn open_anywhere(farm: &Farm, target: &str) -> String {
    let before: Vec<_> = farm.stubs().iter().map(|stub| stub.stats().sessions).collect();
    session_of(&say(farm, target));
    let mut all = farm.stubs().iter().zip(before);
    let (stub, _) = all.find(|(stub, before)| stub.stats().sessions > *before).expect("one has it");
    stub.name().to_owned()
}

#[test]
fn the_last_server_is_never_left_out() {
    let farm = farm(2).start();
    farm.stub(0).fault(answer(404, &[], ""));
    for number in 0..6 {
        session_of(&say(&farm, &format!("/in/{number}.bin")));
    }
    let before = creates(farm.stub(0));
    // The only one that is good goes away: the other is better than none.
    farm.stub(1).kill();
    for number in 6..10 {
        assert!([404, 503].contains(&say(&farm, &format!("/in/{number}.bin")).status));
    }
    assert!(creates(farm.stub(0)) > before);
    farm.stub(0).clear_faults();
    session_of(&say(&farm, TARGET));
}

#[test]
fn a_client_gets_its_session_from_the_second_server_whatever_it_sends() {
    let farm = farm(3).start();
    farm.stub(0).fault(answer(404, &[], PAGE));
    farm.stub(1).fault(answer(503, &[], PAGE));
    for number in 0..4 {
        let target = format!("/in/{number}.bin");
        let packet = create(&target).with("Expect", "100-continue");
        let mut connection =
            e2e_tests::client::Connection::open(farm.entrance()).expect("a connection");
        session_of(&connection.exchange(&packet.bytes()).expect("an answer"));
        // On the same connection.
        session_of(&connection.exchange(&create(&target).bytes()).expect("an answer"));
    }
}
