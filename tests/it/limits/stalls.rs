//! Peers that stop: each timeout counts from the last progress, so who is slow finishes and who stands still ends.

use std::time::Duration;

use e2e_tests::client::{Connection, FragmentSizes, PacketType, Timeouts, WireError};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::fault_link::{Direction, Plan};
use e2e_tests::raw_backend::{Moment, RawBackend, Reply};
use e2e_tests::wait;

use crate::packets::{Servers, TARGET, close, expect_not_now, fragment, ping, server};

fn impatient(farm: FarmBuilder) -> FarmBuilder {
    farm.set("timeouts.client_body", "\"600ms\"")
        .set("timeouts.answer_long", "\"20s\"")
        .set("timeouts.backend_write", "\"600ms\"")
}

/// Item 80.
///
/// Threat: T8.
///
/// Fault: client stands still.
#[test]
fn a_client_that_stops_inside_a_body_is_given_up_and_keeps_its_pin() {
    let servers = Servers::with(1, impatient);
    let (id, owner) = servers.open(TARGET);
    let packet = fragment(TARGET, &id, "bytes 0-99999/200000", &[7; 100_000]);
    for sent in [0, 1, 50_000, 99_999] {
        let before = servers.counts()[0];
        let head = packet.head().to_bytes().len();
        let mut client = servers.connect();
        client.send(&packet.bytes()[..head + sent]).expect("a part is taken");
        match client.read_answer() {
            Ok(answer) => {
                expect_not_now(&[503], PacketType::Fragment, &answer);
                assert!(answer.closes(), "{}", answer.head);
                assert!(client.read_to_end().expect("the end").is_empty());
            }
            Err(WireError::Closed | WireError::Broken { .. }) => {}
            Err(error) => panic!("{error} after {sent} bytes"),
        }
        // What the backend has of it is no whole fragment.
        let request = servers.backends[0].request(before);
        servers.backends[0].ended(request.connection);
        let request = servers.backends[0].request(before);
        assert!(!request.complete && request.body.len() <= sent, "{sent}");
    }
    let stalled = [("reason", "client_stalled")];
    assert_eq!(servers.farm.metric("bitsgw_rejected_requests_total", &stalled), 4.0);
    let (backend, ..) = servers.passes(&packet);
    assert_eq!(backend, owner);
}

/// Item 80.
///
/// Threat: T8.
///
/// Fault: client is slow.
#[test]
fn a_client_that_is_slow_and_never_stands_still_finishes() {
    let farm = impatient(Farm::of_stubs(1)).link_front().start();
    // One fragment takes several times as long as a client may stand still.
    farm.front().plan_all(Plan::pass().slow(50_000));
    let content = Content::seeded(1, 150_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Whole);
    client.upload(&farm.url("/in/a.bin"), &content).expect_smooth();
    farm.expect_stored("/in/a.bin", &content);
}

#[test]
fn a_connection_without_a_request_ends_after_its_idle_time() {
    let servers = Servers::with(1, |farm| farm.set("timeouts.client_idle", "\"1s\""));
    let mut client = servers.connect();
    assert_eq!(client.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
    // Nothing is said: an answer that nobody asked for would be taken for the next one.
    assert!(client.read_to_end().expect("the connection ends").is_empty());
}

/// Item 81.
#[test]
fn a_backend_that_stops_reading_ends_the_request_and_nothing_else() {
    let honest = server(0);
    let backend = RawBackend::scripted(move |moment, request| match moment {
        Moment::Head if request.field("X-Stuck").is_some() => Reply::Hang,
        Moment::Head => Reply::Wait,
        Moment::Body => honest(request),
    });
    let servers = Servers::of(vec![backend], impatient);
    let (id, _) = servers.open(TARGET);
    let (other, _) = servers.open("/in/b.bin");
    let size = 40 << 20;
    let range = format!("bytes 0-{}/{}", size - 1, 2 * size);
    let stuck = fragment(TARGET, &id, &range, &vec![7; size]).with("X-Stuck", "1").bytes();
    let before = servers.farm.gateway().rss_bytes();
    let entrance = servers.farm.entrance();
    let sender = std::thread::spawn(move || {
        let timeouts = Timeouts { send: Duration::from_secs(60), ..Timeouts::short() };
        Connection::open_with(entrance, timeouts).expect("a connection").exchange(&stuck)
    });
    wait::until("the backend has the head", || {
        servers.backends[0].requests().iter().any(|r| r.field("X-Stuck").is_some())
    });
    // Others are served by the same backend meanwhile.
    servers.passes(&fragment("/in/b.bin", &other, "bytes 0-2/9", b"abc"));
    let heard = sender.join().expect("the client does not panic");
    match heard {
        Ok(answer) => expect_not_now(&[502, 504], PacketType::Fragment, &answer),
        Err(WireError::Closed | WireError::Broken { .. } | WireError::Send { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let growth = servers.farm.gateway().rss_bytes().saturating_sub(before);
    assert!(growth < 8 << 20, "the body was kept in memory: {growth} bytes");
    servers.passes(&close(TARGET, &id));
    wait::until("no request is left", || {
        servers.farm.metric("bitsgw_requests_in_flight", &[]) == 0.0
    });
}

/// Item 81.
#[test]
fn a_backend_that_stops_inside_its_answer_is_given_up() {
    let answers = [
        "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\nhello",
        "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ];
    let honest = server(0);
    let backend = RawBackend::answering(move |request| match request.field("X-Say") {
        Some(number) => Reply::raw(answers[number.parse::<usize>().expect("a number")]),
        None => honest(request),
    });
    let servers = Servers::of(vec![backend], |farm| farm.set("timeouts.answer", "\"500ms\""));
    let heard = |number: usize| {
        servers.connect().exchange(&ping(TARGET).with("X-Say", &number.to_string()).bytes())
    };
    let answer = heard(0).expect("an answer");
    expect_not_now(&[504], PacketType::Ping, &answer);
    for number in [1, 2] {
        let error = heard(number).expect_err("half a page is no page");
        assert!(!matches!(error, WireError::TimedOut { .. }), "{error}");
    }
    servers.passes(&ping(TARGET));
}

/// Items 80, 81.
/// Fault: the network goes silent.
#[test]
fn a_network_that_goes_silent_ends_the_request_on_both_sides() {
    let farm = impatient(Farm::of_stubs(1)).link_backends().start();
    farm.link(0).plan_all(Plan::pass().stall_after(Direction::ToServer, 200_000));
    let content = Content::seeded(1, 6_000_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(4_000_000));
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.report().retries == 1));
    farm.link(0).plan_all(Plan::pass());
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}
