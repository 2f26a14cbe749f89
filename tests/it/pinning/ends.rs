//! What keeps a session alive and what ends it: items 53, 54 and 57 to 59.

use std::sync::atomic::{AtomicU32, Ordering};

use e2e_tests::client::{Ack, AckRules, FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::raw_backend::{RawBackend, Reply, Request};
use e2e_tests::wait;

use crate::packets::{
    Packet, Servers, TARGET, cancel, close, create, expect_not_found, expect_not_now, fragment,
    of_session, ping, server, session_of,
};

fn first_bytes(id: &str) -> Packet {
    fragment(TARGET, id, "bytes 0-2/9", b"abc")
}

/// One server that answers packets of `kind` with `answer`, given how many of them came before, where that says
/// anything.
fn answering(
    kind: &'static str,
    answer: impl Fn(u32) -> Option<Reply> + Send + Sync + 'static,
) -> Servers {
    let (agree, count) = (server(0), AtomicU32::new(0));
    let reply = move |request: &Request| {
        let made_up = (request.packet_type() == kind)
            .then(|| answer(count.fetch_add(1, Ordering::SeqCst)))
            .flatten();
        made_up.unwrap_or_else(|| agree(request))
    };
    Servers::of(vec![RawBackend::answering(reply)], |farm| farm.without_host_ids())
}

/// Item 53.
#[test]
fn progress_renews_the_lifetime_of_a_session() {
    let servers =
        Servers::with(1, |farm| farm.without_host_ids().set("sessions.idle_timeout", "\"4s\""));
    let (silent, _) = servers.open(TARGET);
    let (busy, _) = servers.open(TARGET);
    servers.passes(&first_bytes(&busy));
    // Both are equally old all the time, and the silent one's end shows that their time was over.
    wait::until("the silent session has expired", || {
        assert_eq!(servers.ask(&first_bytes(&busy)).status, 200);
        expired(&servers.farm) > 0.0
    });
    expect_not_found(PacketType::Fragment, &servers.stays(&first_bytes(&silent)));
    servers.passes(&first_bytes(&busy));
    assert_eq!(expired(&servers.farm), 1.0);
    assert_eq!(pinned(&servers.farm), 1.0);
}

/// Item 53.
#[test]
fn a_session_that_is_not_closed_expires_and_its_end_is_logged() {
    let servers =
        Servers::with(1, |farm| farm.without_host_ids().set("sessions.idle_timeout", "\"1s\""));
    let (id, _) = servers.open(TARGET);
    wait::until("the session has expired", || expired(&servers.farm) > 0.0);
    expect_not_found(PacketType::Fragment, &servers.stays(&first_bytes(&id)));
    let ended = wait::some("its end is in the access log", || {
        let log = servers.farm.gateway().access_log();
        log.into_iter().find(|line| line["event"] == "upload_end")
    });
    assert_eq!(ended["reason"], "expired");
}

/// Item 54.
#[test]
fn a_close_or_cancel_with_200_removes_the_pin() {
    for end in [close, cancel] {
        let servers = Servers::with(2, |farm| farm.without_host_ids());
        let (ended, _) = servers.open(TARGET);
        let (other, owner) = servers.open(TARGET);
        servers.passes(&first_bytes(&ended));
        assert_eq!(pinned(&servers.farm), 2.0);
        servers.passes(&end(TARGET, &ended));
        expect_not_found(PacketType::Fragment, &servers.stays(&first_bytes(&ended)));
        assert_eq!(pinned(&servers.farm), 1.0);
        assert_eq!(servers.passes(&first_bytes(&other)).0, owner, "the other session lives");
    }
}

/// Item 57.
#[test]
fn session_not_found_of_a_backend_removes_the_pin_and_is_passed_on() {
    let spellings = [
        "BITS-Error: 0x8020001F\r\nBITS-Error-Context: 0x5",
        "BITS-Error-Code: 0x8020001F\r\nBITS-Error-Context: 0x5",
        "bits-error-code: 0X8020001f\r\nBITS-Error-Context: 0x7",
        "BITS-Error: 8020001f",
    ];
    for fields in spellings {
        let said = format!(
            "HTTP/1.1 500 Gone\r\nBITS-Packet-Type: Ack\r\n{fields}\r\nContent-Length: 0\r\n\r\n"
        );
        let lost = said.clone();
        let servers = answering("fragment", move |_| Some(Reply::raw(&lost)));
        for packet in [0, 1, 2] {
            let (id, _) = servers.open(TARGET);
            let answer = servers.ask(&first_bytes(&id));
            assert_eq!(answer.status, 500);
            for line in said.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
                let (name, value) = line.split_once(": ").expect("a field line");
                assert_eq!(answer.field(name), Some(value), "{}", answer.head);
            }
            // From now on the gateway itself says so.
            let again = of_session(TARGET, &id)[packet].clone();
            expect_not_found(again.kind, &servers.stays(&again));
        }
        assert_eq!(pinned(&servers.farm), 0.0);
        assert_eq!(servers.farm.metric("bitsgw_sessions_ended_total", &[("reason", "lost")]), 3.0);
    }
}

/// Item 57.
/// Fault: backend has lost its state.
#[test]
fn an_upload_whose_backend_forgot_it_starts_over_once() {
    let farm = Farm::of_stubs(2).start();
    let content = Content::seeded(1, 60_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    let mut upload = client.begin(&farm.url(TARGET), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    for stub in farm.stubs() {
        stub.lose_sessions();
    }
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 1, "{report}");
    farm.expect_stored(TARGET, &content);
    assert_eq!(pinned(&farm), 0.0);
}

/// Item 58.
/// Fault: backend refuses an end.
#[test]
fn a_close_refused_with_5xx_keeps_the_pin() {
    let ack = |status: &str, fields: &[(&str, &str)]| Reply::ack(status, fields);
    let refusals = [
        ack("500 X", &[("BITS-Error", "0x80004005"), ("BITS-Error-Context", "0x5")]),
        ack("500 X", &[("BITS-Error-Code", "0x80070070"), ("BITS-Error-Context", "0x5")]),
        ack("502 X", &[("BITS-Error-Code", "0x801901F6"), ("BITS-Error-Context", "0x7")]),
        ack("503 X", &[]),
        ack("599 X", &[]),
        // A page of something that is no upload server.
        Reply::raw("HTTP/1.1 503 X\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno"),
        // No answer at all.
        Reply::SendAndClose(Vec::new()),
        Reply::SendAndReset(Vec::new()),
    ];
    for refusal in refusals {
        let shown = format!("{refusal:?}");
        let servers = answering("close-session", move |n| (n < 2).then(|| refusal.clone()));
        let (id, _) = servers.open(TARGET);
        for attempt in 0..2 {
            let answer = servers.ask(&close(TARGET, &id));
            assert!((500..600).contains(&answer.status), "{shown}: {}", answer.head);
            assert_ne!(answer.status, 501);
            assert!(!Ack::read(&answer).is_session_not_found(), "{shown}: {}", answer.head);
            assert_eq!(servers.last_request(0).packet_type(), "close-session", "{attempt}");
            assert_eq!(pinned(&servers.farm), 1.0, "{shown}");
        }
        servers.passes(&close(TARGET, &id));
        assert_eq!(pinned(&servers.farm), 0.0, "{shown}");
    }
}

/// Item 59.
///
/// Threat: T7.
///
/// Fault: session table is full.
#[test]
fn a_full_table_refuses_new_sessions_with_503_and_serves_the_old_ones() {
    let servers = Servers::with(1, |farm| {
        farm.set("sessions.limit", "2").set("sessions.limit_per_client", "0")
    });
    let farm = &servers.farm;
    let (first, _) = servers.open(TARGET);
    let (second, _) = servers.open(TARGET);
    for refused in 1..=3 {
        // No backend opens a session that could not be kept.
        let answer = servers.stays(&create(TARGET));
        expect_not_now(&[503], PacketType::CreateSession, &answer);
        let full = [("reason", "table_full")];
        wait::until("the refusal is counted", || {
            farm.metric("bitsgw_rejected_requests_total", &full) == f64::from(refused)
        });
    }
    assert_eq!(farm.metric("bitsgw_sessions_limit", &[]), 2.0);
    assert_eq!(pinned(farm), 2.0);
    servers.passes(&first_bytes(&first));
    servers.passes(&ping(TARGET));
    servers.passes(&close(TARGET, &first));
    // One has gone, so one may come.
    let (third, _) = servers.open(TARGET);
    expect_not_now(&[503], PacketType::CreateSession, &servers.stays(&create(TARGET)));
    for id in [&second, &third] {
        servers.passes(&first_bytes(id));
    }
}

/// Item 59.
///
/// Threat: T7.
#[test]
fn many_creates_at_once_never_exceed_the_limit() {
    let servers = Servers::with(2, |farm| {
        farm.set("sessions.limit", "10").set("sessions.limit_per_client", "0")
    });
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..40).map(|_| scope.spawn(|| servers.ask(&create(TARGET)))).collect();
        asking.into_iter().map(|answer| answer.join().expect("an answer")).collect()
    });
    let (opened, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 200);
    assert!(opened.len() <= 10, "{} sessions in a table of 10", opened.len());
    assert_eq!(pinned(&servers.farm), opened.len() as f64);
    for answer in refused {
        expect_not_now(&[503], PacketType::CreateSession, answer);
    }
    // Where a backend had opened one before the table was full, it is told.
    let seen = |kind: &str| {
        let requests = servers.backends.iter().flat_map(|backend| backend.requests());
        requests.filter(|request| request.packet_type() == kind).count()
    };
    wait::until("what found no room is cancelled", || {
        seen("cancel-session") + opened.len() == seen("create-session")
    });
    for answer in opened {
        AckRules::farm().expect(PacketType::CreateSession, answer);
        servers.passes(&first_bytes(&session_of(answer)));
    }
}

fn pinned(farm: &Farm) -> f64 {
    farm.metric("bitsgw_sessions", &[])
}

fn expired(farm: &Farm) -> f64 {
    farm.metric("bitsgw_sessions_ended_total", &[("reason", "expired")])
}
