//! Bodies of Acks: the head is the Ack, and what follows it neither reaches the client nor takes the Ack back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use e2e_tests::client::packet::latin1;
use e2e_tests::client::{Answer, Framing, Head};
use e2e_tests::raw_backend::{RawBackend, Reply, Request, agree};
use e2e_tests::wait;

use crate::bench::{Bench, TARGET, cancel, close, create, fragment, packet, ping};

/// How a server ends, or does not end, an answer behind its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// As it says, with Content-Length.
    Whole,
    WholeInChunks,
    /// The end of the connection ends it.
    UntilClose,
    /// Ten bytes of a hundred, then FIN.
    CutOff,
    /// The same with RST.
    Reset,
    /// The same, and the connection stays open.
    Silent,
    SilentInChunks,
    /// No length, and the connection stays open.
    Endless,
    /// Two thousand bytes, one by one.
    Slow,
}

const BODIES: [Body; 9] = {
    use Body::*;
    [Whole, WholeInChunks, UntilClose, CutOff, Reset, Silent, SilentInChunks, Endless, Slow]
};

impl Body {
    fn reply(self, fields: &str) -> Reply {
        let head = |framing: &str| {
            format!("HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\n{fields}{framing}\r\n\r\n")
        };
        let ten = "0123456789";
        let bytes = |framing: &str, body: &str| latin1(&(head(framing) + body));
        match self {
            Self::Whole => Reply::Send(bytes("Content-Length: 10", ten)),
            Self::WholeInChunks => {
                Reply::Send(bytes("Transfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n"))
            }
            Self::UntilClose => Reply::SendAndClose(bytes("Connection: close", ten)),
            Self::CutOff => Reply::SendAndClose(bytes("Content-Length: 100", ten)),
            Self::Reset => Reply::SendAndReset(bytes("Content-Length: 100", ten)),
            Self::Silent => Reply::Send(bytes("Content-Length: 100", ten)),
            Self::SilentInChunks => {
                Reply::Send(bytes("Transfer-Encoding: chunked", "64\r\n0123456789"))
            }
            Self::Endless => Reply::Send(bytes("X-Length: none", ten)),
            Self::Slow => {
                let text = bytes("Content-Length: 2000", &ten.repeat(200));
                Reply::Trickle(text, Duration::from_millis(1))
            }
        }
    }

    /// A reset may overtake the head, and then nobody has an Ack.
    fn is_certain(self) -> bool {
        self != Self::Reset
    }

    /// The client hears of the end of the server's connection by the end of its own where both come
    /// in one piece with the head.
    fn keeps_the_client(self) -> bool {
        !matches!(self, Self::CutOff | Self::Reset)
    }
}

/// A server that answers a packet with `X-Body: n` by the body of that number.
fn server() -> RawBackend {
    let (agree, sessions) = (agree(), AtomicU64::new(0));
    RawBackend::answering(move |request: &Request| {
        let body = request.field("X-Body").and_then(|number| number.parse::<usize>().ok());
        let Some(body) = body.map(|number| BODIES[number]) else { return agree(request) };
        let number = sessions.fetch_add(1, Ordering::Relaxed);
        let fields = match &*request.packet_type() {
            "create-session" => {
                format!("BITS-Session-Id: {{10000000-0000-4000-8000-{number:012X}}}\r\n")
            }
            "fragment" => "BITS-Received-Content-Range: 3\r\n".to_owned(),
            _ => String::new(),
        };
        body.reply(&fields)
    })
}

fn with_body(head: Head, body: Body) -> Head {
    let number = BODIES.iter().position(|each| *each == body).expect("it is one of them");
    head.field("X-Body", number)
}

fn first_half(id: &str, body: Body) -> Vec<u8> {
    let head = packet(e2e_tests::client::PacketType::Fragment)
        .field("BITS-Session-Id", id)
        .field("Content-Range", "bytes 0-2/9")
        .field("Content-Length", 3);
    with_body(head, body).with_body(b"abc")
}

fn second_half(id: &str) -> Vec<u8> {
    packet(e2e_tests::client::PacketType::Fragment)
        .field("BITS-Session-Id", id)
        .field("Content-Range", "bytes 3-8/9")
        .field("Content-Length", 6)
        .with_body(b"defghi")
}

#[track_caller]
fn expect_bare(answer: &Answer, body: Body) {
    assert_eq!(answer.status, 200, "{body:?}: {}", answer.head);
    assert_eq!((answer.framing, answer.body_text().as_str()), (Framing::ContentLength, ""));
    assert_eq!(answer.field("Content-Length"), Some("0"), "{body:?}: {}", answer.head);
}

/// Opens a session by an answer with that body; repeats where the head itself may get lost.
#[track_caller]
fn open(bench: &Bench, body: Body) -> String {
    wait::some("a Create is acknowledged", || {
        let answer = bench.exchange(&with_body(create(), body).to_bytes());
        if !body.is_certain() && answer.status == 502 {
            return None;
        }
        expect_bare(&answer, body);
        Some(answer.field("BITS-Session-Id").expect("an id").to_owned())
    })
}

/// Fault: backend breaks off behind the head of an Ack.
#[test]
fn an_ack_counts_whatever_becomes_of_its_body() {
    let bench = Bench::with(server(), |farm| farm);
    for body in BODIES {
        let id = open(&bench, body);
        let fragment = bench.exchange(&first_half(&id, body));
        if body.is_certain() {
            expect_bare(&fragment, body);
        }
        // The session goes on: neither is it cancelled, nor has its pin gone.
        bench.passes(&second_half(&id));
        if body.is_certain() {
            expect_bare(&bench.exchange(&with_body(ping(), body).to_bytes()), body);
            expect_bare(&bench.exchange(&with_body(cancel(&id), body).to_bytes()), body);
            assert_eq!(
                bench.exchange(&first_half(&id, body)).status,
                500,
                "{body:?}: it has ended"
            );
        }
    }
    // An orphan would be cancelled at its server by a packet of the gateway's own.
    assert_eq!(bench.farm.metric("bitsgw_orphan_sessions_total", &[]), 0.0);
    let by_gateway = |request: &Request| {
        request.field("User-Agent").is_some_and(|agent| agent.starts_with("bits-gateway"))
    };
    assert!(!bench.backend.requests().iter().any(by_gateway));
    let log = bench.farm.gateway().access_log();
    let acknowledged = log.iter().filter(|line| line["status"] == 200).count();
    assert!(acknowledged >= BODIES.len() * 3, "{log:?}");
    assert!(log.iter().filter(|line| line["status"] == 200).all(|line| line["fault"].is_null()));
}

/// An answer that never ends must not hold up the client's next packet for `timeouts.answer`.
#[test]
fn the_client_goes_on_over_its_connection_while_a_body_does_not_end() {
    let bench = Bench::with(server(), |farm| farm);
    let mut client = bench.connect();
    let mut exchange = |bytes: Vec<u8>, body: Body| {
        let answer = client.exchange(&bytes).unwrap_or_else(|error| panic!("{error} at {body:?}"));
        assert_eq!((answer.status, answer.closes()), (200, false), "{body:?}: {}", answer.head);
        answer
    };
    for body in BODIES.into_iter().filter(|body| body.keeps_the_client()) {
        let opened = exchange(with_body(create(), body).to_bytes(), body);
        let id = opened.field("BITS-Session-Id").expect("an id").to_owned();
        exchange(with_body(ping(), body).to_bytes(), body);
        exchange(first_half(&id, body), body);
        exchange(second_half(&id), body);
        exchange(close(&id).to_bytes(), body);
    }
}

/// Bytes of a body that was dropped must not be taken for the answer to another packet.
#[test]
fn a_connection_with_a_body_left_in_it_serves_nobody_else() {
    // Each thread has connections of its own.
    let bench = Bench::with(server(), |farm| farm.set("process.threads", "1"));
    for body in BODIES {
        let before = bench.backend.requests().len();
        let answer = bench.exchange(&with_body(ping(), body).to_bytes());
        assert!(answer.status == 200 || !body.is_certain(), "{body:?}: {}", answer.head);
        for _ in 0..3 {
            bench.passes(&ping().to_bytes());
        }
        let requests = bench.backend.requests();
        let used = requests[before].connection;
        let shared = requests[before + 1..].iter().any(|request| request.connection == used);
        // What came as a whole in one piece costs no connection.
        assert_eq!(shared, matches!(body, Body::Whole | Body::WholeInChunks), "{body:?}");
    }
}

/// Zenfolio's clients read the answer to their Close.
#[test]
fn the_answer_to_a_close_keeps_its_body() {
    let bench = Bench::with(server(), |farm| farm);
    for body in [Body::Whole, Body::WholeInChunks, Body::UntilClose] {
        let id = bench.session();
        bench.passes(&fragment(&id, b"abc"));
        let answer = bench.exchange(&with_body(close(&id), body).to_bytes());
        assert_eq!((answer.status, answer.body_text().as_str()), (200, "0123456789"), "{body:?}");
    }
    assert!(bench.backend.requests().iter().all(|request| request.target() == TARGET));
}
