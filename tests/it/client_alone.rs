//! The client against one server without a gateway: what it does must be right before it judges anything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use e2e_tests::client::{
    AfterRestart, Client, CloseNotFound, Connections, Credentials, End, Event, FragmentSizes,
    PacketType, Report, Resolver, Timeouts,
};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::raw_backend::{Moment, RawBackend, Reply, Request, agree};
use serde_json::json;

const URL: &str = "http://up.test/in/a.bin";

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

fn stub(arguments: &[&str]) -> Farm {
    Farm::of_stubs(1).each_stub(arguments).without_gateway().start()
}

/// Uploads five fragments through the stub and wants the file there.
#[track_caller]
fn uploads_whole(farm: &Farm, client: &Client) -> Report {
    let content = Content::seeded(3, 50_000);
    let report = client.upload(URL, &content);
    report.expect_complete();
    farm.expect_stored("/in/a.bin", &content);
    assert_eq!(farm.stub(0).stats().foreign, 0);
    report
}

/// A client of a server whose fragment answers come from `answer`, asked with the count of fragments so far; `None` is
/// the right answer.
fn client_of(
    answer: impl Fn(u32) -> Option<Reply> + Send + Sync + 'static,
) -> (RawBackend, Client) {
    let fragments = AtomicU32::new(0);
    let agree = agree();
    let backend = RawBackend::answering(move |request| {
        let made_up = match &*request.packet_type() {
            "fragment" => answer(fragments.fetch_add(1, Ordering::SeqCst)),
            _ => None,
        };
        made_up.unwrap_or_else(|| agree(request))
    });
    let client = Client::new(Resolver::new().with("up.test", backend.address()));
    (backend, client.with(|o| o.fragments = PIECES))
}

fn types(backend: &RawBackend) -> Vec<String> {
    backend.requests().iter().map(Request::packet_type).collect()
}

#[test]
fn files_of_every_size_arrive_whole() {
    let farm = stub(&[]);
    for (number, size) in [0, 1, 5 * 1024, 13 * 1024 * 1024 + 1].into_iter().enumerate() {
        let content = Content::seeded(number as u64, size);
        let sizes = FragmentSizes::Random { seed: size, low: 5 * 1024, high: 1 << 20 };
        let client = farm.client_of_stub(0).with(|o| o.fragments = sizes);
        let path = format!("/in/{size}.bin");
        let report = client.upload(&farm.url(&path), &content);
        report.expect_smooth();
        assert_eq!(report.bytes_sent, size);
        assert_eq!(report.connections, 1);
        farm.expect_stored(&path, &content);
    }
}

#[test]
fn every_spelling_of_packet_types_and_every_connection_works() {
    use e2e_tests::client::Spelling::{Lower, Mixed, Title, Upper};
    let farm = stub(&["--allow-overwrites"]);
    for spelling in [Title, Upper, Lower, Mixed] {
        let client = farm.client_of_stub(0).with(|o| {
            o.fragments = PIECES;
            o.spelling = spelling;
            o.connections = Connections::PerPacket;
        });
        let report = uploads_whole(&farm, &client);
        assert_eq!(report.connections, 7);
    }
}

#[test]
fn a_host_id_moves_every_later_packet_after_a_ping() {
    let farm = stub(&["--host-id", "N3.up.test", "--host-id-fallback-timeout", "900"]);
    let address = farm.stub(0).address();
    let resolver = Resolver::new().with("up.test", address).with("n3.up.test", address);
    let report = uploads_whole(&farm, &Client::new(resolver).with(|o| o.fragments = PIECES));
    assert_eq!(report.host_ids, ["N3.up.test"]);
    let seen = farm.stub(0).requests();
    let packets: Vec<_> = seen
        .iter()
        .map(|seen| (seen.packet_type(), seen.field("Host").unwrap_or_default().to_owned()))
        .collect();
    assert_eq!(packets[0], ("create-session".to_owned(), "up.test".to_owned()));
    assert_eq!(packets[1], ("ping".to_owned(), "N3.up.test".to_owned()));
    assert!(packets[1..].iter().all(|(_, host)| host == "N3.up.test"), "{packets:?}");
}

#[test]
fn a_client_that_ignores_host_ids_stays_at_the_origin_name() {
    let farm = stub(&["--host-id", "n3.up.test", "--host-id-fallback-timeout", "900"]);
    let client = farm.client_of_stub(0).with(|o| o.ignore_host_id = true);
    let report = uploads_whole(&farm, &client);
    assert_eq!(report.sent(PacketType::Ping), 0);
}

#[test]
fn an_unreachable_host_id_is_left_after_its_timeout_with_the_same_session() {
    let farm = stub(&["--host-id", "n3.up.test", "--host-id-fallback-timeout", "900"]);
    // The Host-Id resolves to nothing.
    let report = uploads_whole(&farm, &farm.client_of_stub(0).with(|o| o.fragments = PIECES));
    assert_eq!((report.fallbacks, report.restarts), (1, 0));
    assert_eq!(report.sessions.len(), 1);
    // The timer starts with the first failure, 900 s are over after the second delay of 600 s.
    assert_eq!(report.retries, 2);
}

#[test]
fn a_host_id_without_timeout_is_never_left() {
    let farm = stub(&["--host-id", "n3.up.test"]);
    let client = farm.client_of_stub(0).with(|o| {
        o.no_progress_timeout = Duration::from_secs(10 * 600);
        // A server alone may send a Host-Id without a timeout; only the gateway always sends both.
        o.acks = e2e_tests::client::AckRules::off();
    });
    let report = client.upload(URL, &Content::seeded(1, 10));
    assert!(matches!(report.end, End::GaveUp), "{report}");
    assert_eq!(report.fallbacks, 0);
}

#[test]
fn a_lost_ack_is_resynchronised_by_416() {
    let farm = stub(&["--strict-ranges"]);
    farm.stub(0).fault(StubFault::on(PacketType::Fragment, "apply_then_close").skip(1));
    let report = uploads_whole(&farm, &farm.client_of_stub(0).with(|o| o.fragments = PIECES));
    assert_eq!((report.retries, report.resyncs, report.restarts), (1, 1, 0));
    assert_eq!(report.sent(PacketType::Ping), 1);
}

#[test]
fn a_lower_offset_is_obeyed() {
    let farm = stub(&[]);
    let headers = json!([
        ["BITS-Packet-Type", "Ack"],
        ["BITS-Received-Content-Range", "5000"],
        ["Content-Length", "0"]
    ]);
    let fault = StubFault::on(PacketType::Fragment, "answer")
        .with("status", 416)
        .with("headers", headers)
        .with("body", "")
        .skip(3);
    farm.stub(0).fault(fault);
    let report = uploads_whole(&farm, &farm.client_of_stub(0).with(|o| o.fragments = PIECES));
    assert!(report.events.contains(&Event::Resynced { to: 5_000 }), "{report}");
    assert_eq!(report.retries, 0);
}

#[test]
fn fragments_shrink_on_413_but_not_below_5_kib() {
    let farm = stub(&["--max-fragment-size", "6000"]);
    let client = farm.client_of_stub(0).with(|o| o.fragments = FragmentSizes::Whole);
    let report = uploads_whole(&farm, &client);
    assert!(report.events.contains(&Event::Shrunk { to: 5 * 1024 }), "{report}");
    assert_eq!(report.retries, 0);
}

#[test]
fn a_413_for_the_smallest_fragment_is_no_fatal_answer() {
    let farm = stub(&["--max-fragment-size", "1000"]);
    let client =
        farm.client_of_stub(0).with(|o| o.no_progress_timeout = Duration::from_secs(6_000));
    let report = client.upload(URL, &Content::seeded(1, 50_000));
    assert!(matches!(report.end, End::GaveUp), "{report}");
}

#[test]
fn a_lost_session_is_begun_anew_and_the_offset_comes_back_by_416() {
    let farm = stub(&[]);
    farm.stub(0).fault(StubFault::on(PacketType::Fragment, "lose_sessions").skip(2));
    let report = uploads_whole(&farm, &farm.client_of_stub(0).with(|o| o.fragments = PIECES));
    assert_eq!((report.restarts, report.retries), (1, 0));
    assert_eq!(report.sessions.len(), 2);
    assert!(report.events.contains(&Event::Resynced { to: 0 }), "{report}");
}

#[test]
fn a_client_may_begin_anew_from_zero() {
    let farm = stub(&[]);
    farm.stub(0).fault(StubFault::on(PacketType::Fragment, "lose_sessions").skip(2));
    let client = farm.client_of_stub(0).with(|o| {
        o.fragments = PIECES;
        o.after_restart = AfterRestart::FromZero;
    });
    let report = uploads_whole(&farm, &client);
    assert_eq!((report.restarts, report.resyncs), (1, 0));
}

#[test]
fn a_session_lost_at_close_is_begun_anew_or_taken_for_done() {
    let farm = stub(&["--allow-overwrites"]);
    let lose = || farm.stub(0).fault(StubFault::on(PacketType::CloseSession, "lose_sessions"));
    lose();
    let client = farm.client_of_stub(0).with(|o| o.fragments = PIECES);
    let report = uploads_whole(&farm, &client);
    assert_eq!(report.restarts, 1);
    lose();
    let client = client.with(|o| o.close_not_found = CloseNotFound::Accept);
    let report = client.upload("http://up.test/in/b.bin", &Content::seeded(1, 50_000));
    report.expect_complete();
    assert_eq!(report.restarts, 0);
}

#[test]
fn a_killed_server_is_waited_for() {
    let farm = Arc::new(stub(&[]));
    let content = Content::seeded(3, 50_000);
    let repair = Arc::downgrade(&farm);
    let waits = AtomicU32::new(0);
    let client = farm.client_of_stub(0).with(|o| {
        o.fragments = PIECES;
        o.wait = Arc::new(move |_| {
            if waits.fetch_add(1, Ordering::SeqCst) == 2 {
                repair.upgrade().expect("the farm outlives the upload").stub(0).start();
            }
        });
    });
    let mut upload = client.begin(URL, &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    farm.stub(0).kill();
    let report = upload.run();
    report.expect_complete();
    assert_eq!((report.retries, report.restarts), (3, 0));
    farm.expect_stored("/in/a.bin", &content);
}

#[test]
fn an_interrupted_upload_resumes_with_a_ping() {
    let farm = stub(&[]);
    let content = Content::seeded(3, 50_000);
    let client = farm.client_of_stub(0).with(|o| o.fragments = PIECES);
    let mut upload = client.begin(URL, &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    upload.interrupt();
    let report = upload.run();
    report.expect_smooth();
    assert_eq!((report.sent(PacketType::Ping), report.connections), (1, 2));
    farm.expect_stored("/in/a.bin", &content);
}

#[test]
fn a_cancelled_upload_leaves_nothing() {
    let farm = stub(&[]);
    let client = farm.client_of_stub(0).with(|o| o.fragments = PIECES);
    let mut upload = client.begin(URL, &Content::seeded(3, 50_000));
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let report = upload.cancel();
    assert!(matches!(report.end, End::Cancelled), "{report}");
    assert_eq!(farm.stored("/in/a.bin"), []);
    assert_eq!(farm.stub(0).stats().sessions, 0);
}

#[test]
fn transient_statuses_are_retried_with_a_ping() {
    for status in [408, 409, 500, 502, 503, 504] {
        let answer = move |n| (n == 1).then(|| Reply::ack(&format!("{status} X"), &[]));
        let (backend, client) = client_of(answer);
        let report = client.upload(URL, &Content::seeded(1, 30_000));
        report.expect_complete();
        assert_eq!((report.retries, report.restarts), (1, 0), "{status}");
        let expected = [
            "create-session",
            "fragment",
            "fragment",
            "ping",
            "fragment",
            "fragment",
            "close-session",
        ];
        assert_eq!(types(&backend), expected, "{status}");
    }
}

#[test]
fn fatal_statuses_end_the_upload() {
    for status in [301, 302, 307, 400, 403, 404, 405, 421, 429, 501, 505] {
        let answer = move |n| (n == 1).then(|| Reply::ack(&format!("{status} X"), &[]));
        let (_backend, client) = client_of(answer);
        let report = client.upload(URL, &Content::seeded(1, 30_000));
        assert_eq!(report.expect_fatal().status, Some(status));
    }
}

#[test]
fn codes_that_end_an_upload_do_so_with_a_transient_status() {
    for code in ["0x80200020", "0x80070057"] {
        let answer = move |_| {
            let fields = [("BITS-Error-Code", code), ("BITS-Error-Context", "0x5")];
            Some(Reply::ack("500 X", &fields))
        };
        let (_backend, client) = client_of(answer);
        let report = client.upload(URL, &Content::seeded(1, 30_000));
        assert_eq!(report.expect_fatal().packet, PacketType::Fragment);
    }
}

#[test]
fn answers_that_are_no_acks_end_the_upload() {
    let raw = [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nBITS-Packet-Type: Ack\r\nBITS-Received-Content-Range: 10000\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nBITS-Received-Content-Range: 99999\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    ];
    for answer in raw {
        let (_backend, client) = client_of(move |_| Some(Reply::raw(answer)));
        client.upload(URL, &Content::seeded(1, 30_000)).expect_fatal();
    }
}

#[test]
fn an_answer_that_never_ends_is_a_transient_error() {
    let endless =
        "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nBITS-Received-Content-Range: 10000\r\n\r\n";
    let (_backend, client) = client_of(move |n| (n == 0).then(|| Reply::raw(endless)));
    let client = client.with(|o| {
        o.timeouts = Timeouts { answer: Duration::from_millis(200), ..Timeouts::short() };
    });
    let report = client.upload(URL, &Content::seeded(1, 30_000));
    report.expect_complete();
    assert_eq!(report.retries, 1);
}

#[test]
fn fields_that_no_ack_has_are_noticed() {
    let fields = [("BITS-Received-Content-Range", "10000"), ("X-Served-By", "up01")];
    let (_backend, client) = client_of(move |n| (n == 0).then(|| Reply::ack("200 OK", &fields)));
    let report = client.upload(URL, &Content::seeded(1, 30_000));
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.violations.len(), 1, "{report}");
    let client = client.with(|o| o.acks = o.acks.clone().allow("x-served-by"));
    client.upload(URL, &Content::seeded(1, 30_000)).expect_complete();
}

/// A server that wants `Basic dTpw` on every packet.
fn guarded() -> (RawBackend, Client) {
    let agree = agree();
    let backend = RawBackend::answering(move |request| match request.field("Authorization") {
        Some("Basic dTpw") => agree(request),
        _ => Reply::raw(
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 3\r\n\r\nno!",
        ),
    });
    let client = Client::new(Resolver::new().with("up.test", backend.address()));
    (backend, client)
}

#[test]
fn a_challenge_without_credentials_is_left_to_the_caller() {
    let (_backend, client) = guarded();
    let report = client.upload(URL, &Content::seeded(1, 10));
    let End::Challenged(answer) = &report.end else { panic!("{report}") };
    assert_eq!(answer.field("www-authenticate"), Some("Basic realm=\"x\""));
}

#[test]
fn a_challenge_is_answered_by_the_same_packet_with_credentials() {
    let (backend, client) = guarded();
    let credentials = Credentials::Basic { user: "u".to_owned(), password: "p".to_owned() };
    let client = client.with(|o| o.credentials = credentials);
    client.upload(URL, &Content::seeded(1, 10)).expect_smooth();
    assert_eq!(types(&backend), ["create-session", "create-session", "fragment", "close-session"]);
    let client = client.with(|o| {
        o.credentials = Credentials::Basic { user: "u".to_owned(), password: "wrong".to_owned() };
    });
    let report = client.upload(URL, &Content::seeded(1, 10));
    assert!(matches!(report.end, End::Challenged(_)), "{report}");
}

#[test]
fn an_early_answer_counts_although_the_body_was_not_taken() {
    let agree = agree();
    let fragments = AtomicU32::new(0);
    let backend =
        RawBackend::scripted(move |moment, request| match (moment, &*request.packet_type()) {
            (Moment::Head, "fragment") if fragments.fetch_add(1, Ordering::SeqCst) == 0 => {
                Reply::SendAndClose(
                    b"HTTP/1.1 413 X\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n"
                        .to_vec(),
                )
            }
            (Moment::Head, _) => Reply::Wait,
            (Moment::Body, _) => agree(request),
        });
    let client = Client::new(Resolver::new().with("up.test", backend.address()))
        .with(|o| o.fragments = FragmentSizes::Whole);
    let report = client.upload(URL, &Content::seeded(1, 8 << 20));
    report.expect_complete();
    assert!(report.events.contains(&Event::Shrunk { to: 4 << 20 }), "{report}");
    assert_eq!(report.retries, 0);
}
