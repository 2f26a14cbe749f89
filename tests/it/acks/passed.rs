//! Answers of backends that pass: items 30, 32, 33 and 38 to 40.

use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::client::{AckRules, Answer, FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::raw_backend::{RawBackend, Reply, Request, agree};

use crate::bench::{Bench, cancel, close, create, fragment, ping};

/// A gateway whose backend answers fragments with these exact bytes.
#[track_caller]
fn answering_fragments(answer: &'static str) -> Bench {
    let agree = agree();
    let backend = RawBackend::answering(move |request| match &*request.packet_type() {
        "fragment" => Reply::raw(answer),
        _ => agree(request),
    });
    Bench::with(backend, |farm| farm)
}

/// The field lines of an answer that the backend wrote.
fn lines<'a>(head: &'a str, of: &str) -> Vec<&'a str> {
    let original: Vec<_> = of.split("\r\n").collect();
    head.split("\r\n").filter(|line| original.contains(line) && !line.is_empty()).collect()
}

const PAGES: [&str; 4] = [
    "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/html\r\nServer: Microsoft-IIS/10.0\r\n\
     WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nWWW-Authenticate: Basic realm=\"up\"\r\n\
     X-Powered-By: ASP.NET\r\nContent-Length: 12\r\n\r\n<p>who?</p>\n",
    "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nServer: Microsoft-IIS/10.0\r\n\
     Content-Length: 22\r\n\r\n<h1>404 - no such</h1>",
    "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno",
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Type: text/plain\r\n\
     Transfer-Encoding: chunked\r\n\r\n4\r\nlate\r\n2\r\nr!\r\n0\r\n\r\n",
];

/// Item 30.
#[test]
fn pages_of_a_backend_pass_unchanged_and_become_no_acks() {
    for page in PAGES {
        let bench = answering_fragments(page);
        let id = bench.session();
        let answer = bench.exchange(&fragment(&id, b"abc"));
        let (head, body) = page.split_once("\r\n\r\n").expect("a page has a head");
        let all: Vec<_> = head.split("\r\n").collect();
        assert_eq!(lines(&answer.head, head), all, "{}", answer.head);
        let body = if head.contains("chunked") { "later!" } else { body };
        assert_eq!(answer.body_text(), body);
        assert!(!answer.head.contains("BITS-"), "{}", answer.head);
        // It was no answer of the protocol, so the session is none the worse.
        assert_eq!(bench.exchange(&close(&id).to_bytes()).status, 200);
    }
    // The refusal of a Create-Session passes as it is.
    let challenge = PAGES[0];
    let bench = Bench::with(RawBackend::answering(move |_| Reply::raw(challenge)), |farm| farm);
    let answer = bench.exchange(&create().to_bytes());
    let schemes: Vec<_> = answer.fields_named("WWW-Authenticate").collect();
    assert_eq!((answer.status, schemes), (401, vec!["Negotiate", "NTLM", "Basic realm=\"up\""]));
    assert!(!answer.head.contains("BITS-"), "{}", answer.head);
}

/// Item 32.
#[test]
fn no_ack_is_chunked_or_compressed() {
    let empty = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let with_body = "Transfer-Encoding: chunked\r\n\r\n3\r\nwhy\r\n0\r\n\r\n";
    for framing in [empty, with_body] {
        let answer = move |request: &Request| {
            let fields = match &*request.packet_type() {
                "create-session" => "BITS-Session-Id: x\r\n",
                "fragment" => "BITS-Received-Content-Range: 3\r\n",
                // The body of a Close answer is some client's business.
                "close-session" => return Reply::ack("200 OK", &[]),
                _ => "",
            };
            Reply::raw(&format!("HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n{fields}{framing}"))
        };
        let bench = Bench::with(RawBackend::answering(answer), |farm| farm);
        no_ack_is_encoded(&bench);
    }
    no_ack_is_encoded(&Bench::start());
}

#[track_caller]
fn no_ack_is_encoded(bench: &Bench) {
    const CODINGS: &str = "gzip, deflate, br, zstd, identity;q=0";
    let mut client = bench.connect();
    let mut id = "x".to_owned();
    for kind in [
        PacketType::CreateSession,
        PacketType::Ping,
        PacketType::Fragment,
        PacketType::CloseSession,
        PacketType::CancelSession,
    ] {
        let head = crate::bench::packet(kind).field("Accept-Encoding", CODINGS);
        let bytes = match kind {
            PacketType::CreateSession => {
                head.field("BITS-Supported-Protocols", PROTOCOL).to_bytes()
            }
            PacketType::Fragment => head
                .field("BITS-Session-Id", &id)
                .field("Content-Range", "bytes 0-2/3")
                .field("Content-Length", 3)
                .with_body(b"abc"),
            PacketType::Ping => head.to_bytes(),
            _ => head.field("BITS-Session-Id", &id).to_bytes(),
        };
        let answer = client.exchange(&bytes).expect("an answer");
        // Cancel comes after Close: the gateway's own answer keeps the rule as well.
        let rules = AckRules::farm();
        let ack = rules.expect(kind, &answer);
        assert!(ack.is_ack, "{}", answer.head);
        id = ack.session.unwrap_or(id);
    }
    for request in bench.backend.requests() {
        assert_eq!(request.field("Accept-Encoding"), Some(CODINGS), "fields pass");
    }
}

/// Item 33.
#[test]
fn accept_encoding_identity_of_a_create_ack_survives() {
    // IIS writes it like this.
    let line = "Accept-encoding: identity";
    let iis = RawBackend::answering(move |_| {
        Reply::raw(&format!(
            "HTTP/1.1 200 OK\r\nPragma: no-cache\r\nBITS-Packet-Type: Ack\r\nBITS-Protocol: {PROTOCOL}\r\n\
             BITS-Session-Id: {{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}}\r\n{line}\r\nContent-Length: 0\r\n\r\n"
        ))
    });
    let bench = Bench::with(iis, |farm| farm);
    let (_, answer) = bench.passes(&create().to_bytes());
    assert!(answer.head.split("\r\n").any(|found| found == line), "{}", answer.head);
    assert_eq!(answer.fields_named("Accept-Encoding").count(), 1);
    // Where a backend leaves it out, the Ack still has it.
    let silent = RawBackend::answering(|_| Reply::ack("200 OK", &[("BITS-Session-Id", "x")]));
    let (_, answer) = Bench::with(silent, |farm| farm).passes(&create().to_bytes());
    assert_eq!(answer.field("Accept-Encoding"), Some("identity"));
    assert_eq!(answer.field("BITS-Protocol"), Some(PROTOCOL));
}

/// Item 38.
#[test]
fn errors_of_the_application_behind_a_backend_pass_with_their_context() {
    for (answer, status) in [
        (
            "HTTP/1.1 500 Internal Server Error\r\nBITS-Packet-Type: Ack\r\nBITS-Error: 0x80070070\r\n\
             BITS-Error-Context: 0x7\r\nContent-Length: 0\r\n\r\n",
            500,
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nBITS-Packet-Type: Ack\r\nBITS-Error-Code: 80070005\r\n\
             BITS-Error-Context: 0x7\r\nContent-Length: 0\r\n\r\n",
            403,
        ),
        (
            "HTTP/1.1 408 Request Timeout\r\nBITS-Packet-Type: Ack\r\nBITS-Error: x80070112\r\n\
             BITS-Error-Context: 7\r\nContent-Length: 0\r\n\r\n",
            408,
        ),
    ] {
        let bench = answering_fragments(answer);
        let id = bench.session();
        let passed = bench.exchange(&fragment(&id, b"abc"));
        assert_eq!(passed.status, status);
        let head = answer.trim_end();
        assert_eq!(lines(&passed.head, head), head.split("\r\n").collect::<Vec<_>>());
        let names = ["BITS-Error", "BITS-Error-Code"];
        let count: usize = names.iter().map(|name| passed.fields_named(name).count()).sum();
        assert_eq!(count, 1, "nothing was added: {}", passed.head);
    }
}

/// Item 39.
#[test]
fn the_status_of_a_create_ack_is_that_of_the_backend() {
    let farm = Farm::of_stubs(2).stub(1, &["--create-status", "201"]).start();
    let content = Content::seeded(39, 25_000);
    let create_at = |host: &str| -> Answer {
        let head = e2e_tests::client::Head::bits("/in/s.bin")
            .field("Host", host)
            .field("BITS-Packet-Type", "Create-Session")
            .field("BITS-Supported-Protocols", PROTOCOL)
            .field("Content-Length", 0);
        e2e_tests::client::exchange(farm.entrance(), &head.to_bytes()).expect("an answer")
    };
    for (host, status) in [("up01.up.test", 200), ("up02.up.test", 201)] {
        let answer = create_at(host);
        AckRules::farm().expect(PacketType::CreateSession, &answer);
        assert_eq!(answer.status, status, "{host}");
    }
    for path in ["/in/a.bin", "/in/b.bin"] {
        let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
        client.upload(&farm.url(path), &content).expect_smooth();
        farm.expect_stored(path, &content);
    }
}

/// Item 40.
#[test]
fn bits_protocol_passes_unchanged() {
    for protocol in [PROTOCOL.to_owned(), PROTOCOL.to_ascii_uppercase()] {
        let sent = protocol.clone();
        let backend = RawBackend::answering(move |_| {
            Reply::ack("200 OK", &[("BITS-Session-Id", "x"), ("BITS-Protocol", &sent)])
        });
        let (_, answer) = Bench::with(backend, |farm| farm).passes(&create().to_bytes());
        assert_eq!(answer.fields_named("BITS-Protocol").collect::<Vec<_>>(), [&*protocol]);
    }
    // Not even a wrong one is the gateway's to correct; only Create-Session Acks have it at all.
    let bench = Bench::start();
    let id = bench.session();
    for bytes in [ping().to_bytes(), fragment(&id, b"abc"), cancel(&id).to_bytes()] {
        assert_eq!(bench.passes(&bytes).1.field("BITS-Protocol"), None);
    }
}
