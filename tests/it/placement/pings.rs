//! Probes that only connect see more with Pings beside them, in the folders where uploads are.

use e2e_tests::client::{FragmentSizes, PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Stub, StubFault};
use e2e_tests::raw_backend::{RawBackend, Reply};
use e2e_tests::wait;
use serde_json::json;

use super::open;
use crate::packets::{create, fragment, server, session_of};

const MANY: u64 = 1_000_000;

/// Without trials, so that nothing but Pings gives new uploads back.
fn farm(stubs: usize) -> FarmBuilder {
    Farm::of_stubs(stubs)
        .set("health.kind", "\"tcp\"")
        .set("health.interval", "\"50ms\"")
        .set("health.timeout", "\"1s\"")
        .set("health.retry_after", "\"1h\"")
}

fn barred(farm: &Farm) -> f64 {
    farm.metric("bitsgw_barred_folders", &[("reason", "ping")])
}

fn answers(status: u16, headers: &[(&str, &str)]) -> StubFault {
    let fault = StubFault::on(PacketType::Ping, "answer").with("status", status);
    fault.with("headers", json!(headers)).times(MANY)
}

/// An upload has begun at each of the two.
fn begun(builder: FarmBuilder) -> Farm {
    let farm = builder.start();
    let (_, first) = open(&farm, "/in/first.bin");
    let (_, second) = open(&farm, "/in/second.bin");
    assert_ne!(first, second);
    farm
}

#[track_caller]
fn wait_for_pings(stub: &Stub, count: u64) {
    let before = stub.stats().ping;
    wait::until("it was pinged", || stub.stats().ping >= before + count);
}

/// New sessions that each server gets of 12.
#[track_caller]
fn shares(farm: &Farm, round: &str) -> Vec<u64> {
    let counts = || farm.stubs().iter().map(|stub| stub.stats().create_session);
    let before: Vec<_> = counts().collect();
    for number in 0..12 {
        let packet = create(&format!("/in/{round}{number}.bin"));
        session_of(&exchange(farm.entrance(), &packet.bytes()).expect("an answer"));
    }
    counts().zip(before).map(|(now, before)| now - before).collect()
}

/// Fault: backend hangs, and no upload begins there.
#[test]
fn a_server_that_hangs_gets_no_new_uploads_though_none_was_sent_there() {
    let farm = farm(2).start();
    let content = Content::seeded(1, 9000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(1500));
    let mut upload = client.begin(&farm.url("/in/long.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() > 0));
    let hangs = farm.stubs().iter().position(|stub| stub.stats().sessions > 0).expect("one has it");
    wait_for_pings(farm.stub(hangs), 1);
    for packet in [PacketType::Ping, PacketType::CreateSession] {
        farm.stub(hangs).fault(StubFault::on(packet, "stall").times(MANY));
    }
    wait::until("it gets no new uploads", || barred(&farm) == 1.0);
    let mut expected = [12, 12];
    expected[hangs] = 0;
    assert_eq!(shares(&farm, "a"), expected);
    let log = farm.gateway();
    log.expect_logged("a backend gets no new sessions of a folder but a trial now and then");
    log.expect_logged("it fails the Pings of probes");
    // It is not down, and its upload goes on.
    let name = farm.stub(hangs).name().to_owned();
    assert_eq!(farm.metric("bitsgw_backend_up", &[("backend", &name)]), 1.0);
    upload.run().expect_smooth();
    assert_eq!(farm.expect_stored("/in/long.bin", &content), name);
    farm.stub(hangs).clear_faults();
    wait::until("it gets new uploads again", || barred(&farm) == 0.0);
    assert_eq!(shares(&farm, "b"), [6, 6]);
    log.expect_logged("a backend gets new sessions of a folder again");
}

/// Fault: backend hangs, and no upload begins there.
#[test]
fn a_server_that_has_never_answered_a_ping_counts_as_hanging_too() {
    let agree = server(2);
    let opened = std::sync::atomic::AtomicBool::new(false);
    let hanging = RawBackend::answering(move |request| {
        use std::sync::atomic::Ordering::SeqCst;
        let first = request.packet_type() == "create-session" && !opened.swap(true, SeqCst);
        if first || request.packet_type() == "fragment" { agree(request) } else { Reply::Wait }
    });
    let farm = farm(2).backend("up03", hanging.address()).plain().start();
    let create_at = |target: &str| {
        let answer = exchange(farm.entrance(), &create(target).bytes()).expect("an answer");
        Some(session_of(&answer)).filter(|id| id.starts_with("{00000002-"))
    };
    let mut number = 0;
    let id = loop {
        number += 1;
        if let Some(id) = create_at(&format!("/in/{number}.bin")) {
            break id;
        }
    };
    wait::until("it gets no new uploads", || barred(&farm) == 1.0);
    for more in 0..12 {
        assert_eq!(create_at(&format!("/in/more{more}.bin")), None);
    }
    let packet = fragment(&format!("/in/{number}.bin"), &id, "bytes 0-2/9", b"abc");
    assert_eq!(exchange(farm.entrance(), &packet.bytes()).expect("an answer").status, 200);
    let seen = hanging.requests();
    let of = |kind: &str| seen.iter().filter(|r| r.packet_type() == kind).count();
    assert_eq!(of("create-session"), 1);
    let pinged = seen.iter().find(|request| request.packet_type() == "ping").expect("a Ping");
    assert_eq!(pinged.request_line(), "BITS_POST /in/ HTTP/1.1");
}

#[test]
fn what_a_server_always_answers_to_pings_is_no_evidence() {
    let login = [("WWW-Authenticate", "Negotiate")];
    for fault in [answers(401, &login), answers(403, &[]), answers(404, &[]), answers(500, &[])] {
        let farm = farm(2).start();
        farm.stub(0).fault(fault.clone());
        open(&farm, "/in/first.bin");
        open(&farm, "/in/second.bin");
        wait_for_pings(farm.stub(0), 10);
        assert_eq!(barred(&farm), 0.0, "{fault:?}");
        assert_eq!(shares(&farm, "a"), [6, 6], "{fault:?}");
    }
}

#[test]
fn pings_that_fail_after_others_have_passed_take_new_uploads_and_give_them_back() {
    let closes = StubFault::on(PacketType::Ping, "close").times(MANY);
    let raw = StubFault::on(PacketType::Ping, "raw").with("latin1", "SMTP ready\r\n\r\n");
    let kinds = [answers(500, &[]), answers(404, &[]), answers(200, &[]), closes, raw.times(MANY)];
    let farm = begun(farm(2));
    for (number, fault) in kinds.into_iter().enumerate() {
        wait_for_pings(farm.stub(0), 2);
        farm.stub(0).fault(fault.clone());
        wait::until("it gets no new uploads", || barred(&farm) == 1.0);
        assert_eq!(shares(&farm, &format!("{number}-")), [0, 12], "{fault:?}");
        farm.stub(0).clear_faults();
        wait::until("it gets new uploads again", || barred(&farm) == 0.0);
    }
    assert_eq!(shares(&farm, "last"), [6, 6]);
}

#[test]
fn only_uploads_of_the_folder_go_elsewhere() {
    let farm = begun(farm(2));
    wait_for_pings(farm.stub(0), 2);
    farm.stub(0).fault(answers(500, &[]));
    wait::until("it gets no new uploads", || barred(&farm) == 1.0);
    let others = (0..6).map(|number| open(&farm, &format!("/other/{number}.bin")).1);
    assert_eq!(others.filter(|name| name == "up01").count(), 3);
}

#[test]
fn where_all_fail_their_pings_uploads_begin_all_the_same() {
    let farm = begun(farm(2));
    for stub in farm.stubs() {
        wait_for_pings(stub, 2);
        stub.fault(answers(500, &[]));
    }
    wait::until("all fail", || barred(&farm) == 2.0);
    assert_eq!(shares(&farm, "a").iter().sum::<u64>(), 12);
}

#[test]
fn the_last_server_keeps_its_new_uploads() {
    let farm = farm(1).start();
    open(&farm, "/in/first.bin");
    wait_for_pings(farm.stub(0), 2);
    farm.stub(0).fault(answers(500, &[]));
    wait::until("it fails its Pings", || barred(&farm) == 1.0);
    assert_eq!(shares(&farm, "a"), [12]);
    // It opens uploads, so Pings say nothing.
    wait::until("that is seen", || barred(&farm) == 0.0);
}

#[test]
fn folders_are_not_pinged_where_that_is_switched_off() {
    let off = [("health.ping_folders", "false"), ("health.kind", "\"bits-ping\"")];
    for (key, value) in off {
        let farm = begun(farm(2).set("health.path", "\"/alive/\"").set(key, value));
        let passed = || {
            let labels = [("backend", "up01"), ("result", "success")];
            farm.metric("bitsgw_backend_health_checks_total", &labels)
        };
        let before = passed();
        wait::until("it was probed", || passed() >= before + 5.0);
        let seen = farm.stub(0).requests();
        let lines = seen.iter().map(|seen| seen.request_line().to_owned());
        assert!(lines.filter(|line| line.contains(" /in/ ")).count() == 0, "{key}");
    }
}

#[test]
fn a_page_that_comes_does_not_hide_that_uploads_hang() {
    let agree = server(2);
    let hanging = RawBackend::answering(move |request| match &*request.packet_type() {
        "" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        "ping" => Reply::Wait,
        _ => agree(request),
    });
    // The stub has no such page.
    let farm = farm(1)
        .backend("up02", hanging.address())
        .set_backend("up02", "health.kind", "\"http\"")
        .plain()
        .start();
    for number in 0..2 {
        let packet = create(&format!("/in/{number}.bin"));
        session_of(&exchange(farm.entrance(), &packet.bytes()).expect("an answer"));
    }
    wait::until("it gets no new uploads", || barred(&farm) == 1.0);
    assert_eq!(farm.metric("bitsgw_backend_up", &[("backend", "up02")]), 1.0);
    assert_eq!(shares(&farm, "a"), [12]);
}

/// The Ping has the TLS and the Host of the backend's requests.
#[test]
fn over_tls_folders_are_pinged_as_well() {
    use e2e_tests::farm::Tls;
    use e2e_tests::pki;
    let directory = e2e_tests::temp::TempDir::new("pings");
    let files = pki::server().write(directory.path(), "stub");
    let authority = directory.join("ca.pem");
    pki::write(&authority, &pki::servers().pem(), 0o644);
    let text = |path: &std::path::Path| path.display().to_string();
    let builder = farm(2).tls(Tls::Off).set("http.hosts", "[\"up.test\"]");
    let builder = builder.each_stub(&[
        "--tls-cert",
        &text(&files.certificate),
        "--tls-key",
        &text(&files.key),
    ]);
    let ca = format!("{authority:?}");
    let builder = builder.set_backend("up01", "tls.ca", &ca).set_backend("up02", "tls.ca", &ca);
    let farm = begun(builder);
    wait_for_pings(farm.stub(0), 2);
    let seen = farm.stub(0).requests();
    let pinged = seen.iter().find(|seen| seen.packet_type() == "ping").expect("a Ping");
    assert_eq!(pinged.request_line(), "BITS_POST /in/ HTTP/1.1");
    assert_eq!(pinged.field("Host"), Some("up.test"));
    farm.stub(0).fault(StubFault::on(PacketType::Ping, "stall").times(MANY));
    wait::until("it gets no new uploads", || barred(&farm) == 1.0);
    assert_eq!(shares(&farm, "a"), [0, 12]);
    farm.stub(0).clear_faults();
    wait::until("it gets new uploads again", || barred(&farm) == 0.0);
}
