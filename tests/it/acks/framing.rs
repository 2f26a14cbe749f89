//! Where answers end, and connections: items 41 to 43.

use e2e_tests::client::{AckRules, Connections, Framing, Head};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::raw_backend::{RawBackend, Reply, Request, agree};

use crate::bench::{Bench, cancel, close, create, fragment, ping};

/// Item 41.
#[test]
fn an_ack_without_a_length_on_an_open_connection_reaches_the_client_at_once() {
    let fields = |request: &Request| match &*request.packet_type() {
        "create-session" => "BITS-Packet-Type: Ack\r\nBITS-Session-Id: x\r\n",
        // How SimpleBITSServer refuses: no Ack header either.
        "fragment" => "BITS-Error-Code: 0x1\r\nBITS-Error-Context: 0x5\r\n",
        _ => "BITS-Packet-Type: Ack\r\n",
    };
    let backend = RawBackend::answering(move |request| {
        let status = match &*request.packet_type() {
            "fragment" => "500 Internal Server Error",
            _ => "200 OK",
        };
        Reply::raw(&format!("HTTP/1.1 {status}\r\n{}\r\n", fields(request)))
    });
    let bench = Bench::with(backend, |farm| farm);
    for (bytes, status) in [
        (create().to_bytes(), 200),
        (ping().to_bytes(), 200),
        (fragment("x", b"abc"), 500),
        (close("x").to_bytes(), 200),
    ] {
        let answer = bench.exchange(&bytes);
        assert_eq!((answer.status, answer.framing), (status, Framing::ContentLength));
        assert_eq!(answer.body, b"");
    }
    // A whole upload through a server that never says how long its answers are.
    let farm = Farm::of_stubs(1).start();
    farm.stub(0).fault(StubFault::on_any("no_content_length").times(1000));
    let content = Content::seeded(41, 30_000);
    let report = farm.client().upload(&farm.url("/in/a.bin"), &content);
    report.expect_complete();
    assert_eq!((report.retries, report.restarts, report.resyncs), (0, 0, 0), "{report}");
    farm.expect_stored("/in/a.bin", &content);
}

/// Item 42.
#[test]
fn vendor_fields_and_the_body_of_a_close_answer_pass() {
    const RESOURCE: &str = "X-Resource-Id: 6F1C0DE5A1B2C3D4!105";
    for (framing, body) in [
        ("Content-Length: 9", "asset 105"),
        ("Transfer-Encoding: chunked", "6\r\nasset \r\n3\r\n105\r\n0\r\n\r\n"),
    ] {
        let agree = agree();
        let backend = RawBackend::answering(move |request| match &*request.packet_type() {
            "close-session" => Reply::raw(&format!(
                "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n{RESOURCE}\r\n{framing}\r\n\r\n{body}"
            )),
            _ => agree(request),
        });
        let bench = Bench::with(backend, |farm| farm);
        let id = bench.session();
        bench.passes(&fragment(&id, b"abc"));
        let (_, answer) = bench.passes(&close(&id).to_bytes());
        assert_eq!(answer.body_text(), "asset 105");
        assert!(answer.head.split("\r\n").any(|line| line == RESOURCE), "{}", answer.head);
        assert_ne!(answer.framing, Framing::Chunked, "no Ack is ever chunked");
        // The session is over all the same.
        assert_eq!(bench.exchange(&fragment(&id, b"abc")).status, 500);
    }
    let farm = Farm::of_stubs(2).each_stub(&["--flavour", "onedrive"]).start();
    let content = Content::seeded(42, 30_000);
    let client = farm.client().with(|o| o.acks = AckRules::off());
    client.upload(&farm.url("/in/a.bin"), &content).expect_complete();
    farm.expect_stored("/in/a.bin", &content);
}

/// Item 43.
#[test]
fn a_backend_that_closes_its_connections_does_not_close_the_clients() {
    let agree = agree();
    let backend = RawBackend::answering(move |request| match agree(request) {
        Reply::Send(bytes) => {
            let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
            Reply::SendAndClose(text.replacen("\r\n", "\r\nConnection: Close\r\n", 1).into_bytes())
        }
        other => other,
    });
    let bench = Bench::with(backend, |farm| farm);
    let mut client = bench.connect();
    let opened = client.exchange(&create().to_bytes()).expect("an answer");
    let id = opened.field("BITS-Session-Id").expect("an id");
    let other = client.exchange(&create().to_bytes()).expect("the connection goes on");
    let other = other.field("BITS-Session-Id").expect("an id");
    let mut exchanges = 2;
    for bytes in [
        ping().to_bytes(),
        fragment(id, b"abc"),
        close(id).to_bytes(),
        Head::new("GET", "/page").field("Host", "up.test").to_bytes(),
        cancel(other).to_bytes(),
    ] {
        let answer = client.exchange(&bytes).expect("the connection goes on");
        exchanges += 1;
        assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.head);
    }
    assert_eq!(bench.backend.connections().len(), exchanges, "the backend did close");

    let farm = Farm::of_stubs(1).each_stub(&["--flavour", "path-id"]).without_host_ids().start();
    let content = Content::seeded(43, 30_000);
    let client = farm.client().with(|o| o.connections = Connections::Reuse);
    let report = client.upload(&farm.url("/in/a.bin"), &content);
    report.expect_smooth();
    assert_eq!(report.connections, 1, "{report}");
    farm.expect_stored("/in/a.bin", &content);
}
