//! Programs seen in the field, replayed byte for byte: [`windows`] K1, K2 and Configuration Manager K10, [`programs`] K3,
//! K4 and K9, [`onedrive`] K5 to K8; and uploads to every server seen in the field ([`servers`]).
//!
//! Each client's heads are literals in the order and spelling of that client. What the backend received is compared with
//! them after the edits that the gateway documents, and what the client got back is held to that client's own rules.

mod onedrive;
mod programs;
mod servers;
mod windows;

use e2e_tests::client::packet::latin1;
use e2e_tests::client::{Answer, Connection};
use e2e_tests::data;
use e2e_tests::farm::{Farm, FarmBuilder, ORIGIN, Seen};
use e2e_tests::raw_backend::Request;

/// A farm whose backends see one stable name whatever alias a client uses.
fn farm(stubs: usize) -> FarmBuilder {
    Farm::of_stubs(stubs).set("http.hosts", &format!("[\"{ORIGIN}\"]"))
}

/// One client program at work, on one connection at a time.
struct Replay {
    farm: Farm,
    connection: Connection,
    /// Takes the place of `<ID>` in heads.
    id: String,
    sent: Vec<Sent>,
}

struct Sent {
    head: String,
    body: Vec<u8>,
}

/// A request as it arrived at a backend.
struct Arrived {
    head: String,
    body_sha256: String,
}

impl Replay {
    #[track_caller]
    fn on(farm: Farm) -> Self {
        let connection = Connection::open(farm.entrance()).expect("the gateway accepts");
        Self { farm, connection, id: String::new(), sent: Vec::new() }
    }

    /// Lines end in LF here and in CRLF on the wire; the empty line is added.
    #[track_caller]
    fn send(&mut self, head: &str, body: &[u8]) -> Answer {
        self.record(head, body);
        let bytes = [&latin1(&self.sent[self.sent.len() - 1].head), body].concat();
        let answer = self.connection.exchange(&bytes);
        let answer = answer.unwrap_or_else(|error| panic!("{error} to {head}"));
        // What every client does before its next request.
        if answer.closes() {
            self.reconnect();
        }
        answer
    }

    /// As [`send`](Self::send) with the body held back until the gateway asks for it.
    #[track_caller]
    fn send_expecting(&mut self, head: &str, body: &[u8]) -> Answer {
        self.record(head, body);
        let head = latin1(&self.sent[self.sent.len() - 1].head);
        self.connection.send(&head).expect("the head is sent");
        assert_eq!(self.connection.read_interim().expect("an interim answer"), 100);
        self.connection.exchange(body).expect("a final answer")
    }

    /// As [`send`](Self::send), and remembers the session that the answer opens.
    #[track_caller]
    fn open(&mut self, head: &str) -> Answer {
        let answer = self.send(head, b"");
        let id = answer.field("BITS-Session-Id");
        self.id = id.unwrap_or_else(|| panic!("no session in {}", answer.head)).to_owned();
        answer
    }

    /// The connection breaks, as far as the client can tell.
    #[track_caller]
    fn reconnect(&mut self) {
        self.connection = Connection::open(self.farm.entrance()).expect("the gateway accepts");
    }

    /// All that was sent arrived, in that order, with no more than the documented edits.
    #[track_caller]
    fn expect_arrived(&self, arrived: &[Arrived]) {
        assert_eq!(arrived.len(), self.sent.len(), "every request arrived once");
        for (sent, arrived) in self.sent.iter().zip(arrived) {
            let difference = difference(&sent.head, &arrived.head);
            assert_eq!(difference, None, "sent was {}", sent.head);
            assert_eq!(arrived.body_sha256, data::sha256(&sent.body), "body of {}", sent.head);
        }
    }

    fn record(&mut self, head: &str, body: &[u8]) {
        let head = head.replace("<ID>", &self.id).trim_end().replace('\n', "\r\n") + "\r\n\r\n";
        self.sent.push(Sent { head, body: body.to_vec() });
    }
}

/// The lines that should have arrived and those that did, where they differ.
fn difference(sent: &str, arrived: &str) -> Option<(Vec<String>, Vec<String>)> {
    let (mut expected, in_order) = documented_edits(sent);
    let mut got: Vec<String> =
        arrived.trim_end_matches("\r\n").split("\r\n").map(str::to_owned).collect();
    // By this the gateway knows a request that comes back. Its id is another in each process.
    got.retain(|line| !line.starts_with("CDN-Loop: bits-gateway;id="));
    // By this its operators find the request in the gateway's log. No client that was seen sends one.
    got.retain(|line| !line.starts_with("X-Request-Id: "));
    if !in_order {
        // The request line stays where it is.
        expected[1..].sort_unstable();
        got[1..].sort_unstable();
    }
    (expected != got).then_some((expected, got))
}

/// What the gateway may change, and nothing else: Host becomes the public name, a packet without a length gets one,
/// fields that speak of the client's connection stay behind, and the client's address is added.
///
/// False when a field goes that was not the last: another may take its place, as the order of fields with different names
/// means nothing (RFC 9110 section 5.3).
fn documented_edits(head: &str) -> (Vec<String>, bool) {
    let stays_behind = |line: &str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        ["connection", "expect"].contains(&&*name)
    };
    let has = |name: &str| {
        let name = format!("\r\n{}:", name.to_ascii_lowercase());
        head.to_ascii_lowercase().contains(&name)
    };
    let mut lines: Vec<String> = head.trim_end().split("\r\n").map(str::to_owned).collect();
    // The framing of a chunked body is the gateway's own towards the backend, written last.
    let mut in_order = !has("Transfer-Encoding");
    while let Some(at) = lines.iter().position(|line| stays_behind(line)) {
        in_order &= lines[at..].iter().all(|line| stays_behind(line));
        lines.remove(at);
    }
    for line in &mut lines {
        if line.to_ascii_lowercase().starts_with("host:") {
            *line = format!("{}: {ORIGIN}", &line[..4]);
        }
    }
    lines.push("X-Forwarded-For: 127.0.0.1".to_owned());
    if has("BITS-Packet-Type") && !has("Content-Length") && !has("Transfer-Encoding") {
        lines.push("Content-Length: 0".to_owned());
    }
    (lines, in_order)
}

impl Arrived {
    fn at_stub(seen: &Seen) -> Self {
        Self { head: seen.head.clone(), body_sha256: seen.body_sha256.clone() }
    }

    fn at_raw(request: &Request) -> Self {
        Self { head: request.head.clone(), body_sha256: data::sha256(&request.body) }
    }
}

/// What arrived at all stubs, for clients that talk to one backend only.
#[track_caller]
fn at_the_only_stub(farm: &Farm) -> Vec<Arrived> {
    let with_requests: Vec<_> =
        farm.stubs().iter().map(|stub| stub.requests()).filter(|seen| !seen.is_empty()).collect();
    assert_eq!(with_requests.len(), 1, "one backend got everything");
    with_requests[0].iter().map(Arrived::at_stub).collect()
}

/// `answer` is what the backend wrote, but for fields that are the gateway's: the pair of the host id, and what speaks of
/// the connection. Values and spellings count, the order of fields does not.
#[track_caller]
fn expect_answer(answer: &Answer, backends: &str, announced: Option<(&str, &str)>) {
    let own = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        ["bits-host-id", "bits-host-id-fallback-timeout", "connection", "date"].contains(&&*name)
    };
    let (head, body) = backends.split_once("\r\n\r\n").expect("an answer has a head");
    let mut expected: Vec<&str> = head.split("\r\n").filter(|line| !own(line)).collect();
    let mut got: Vec<&str> =
        answer.head.trim_end().split("\r\n").filter(|line| !own(line)).collect();
    assert_eq!(got[0], expected[0], "the status line");
    expected.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, expected);
    assert_eq!(answer.body_text(), body);
    let pair = ["BITS-Host-Id", "BITS-Host-Id-Fallback-Timeout"].map(|name| answer.field(name));
    assert_eq!(pair, [announced.map(|(host, _)| host), announced.map(|(_, seconds)| seconds)]);
}

#[test]
fn a_comparison_notices_every_change_but_the_documented_ones() {
    let sent = "BITS_POST /in/A%20b HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Ping\r\nHost: N1.UP.TEST\r\n\
        Connection: Keep-Alive\r\n\r\n";
    let right = "BITS_POST /in/A%20b HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: Ping\r\nHost: up.test\r\n\
        X-Forwarded-For: 127.0.0.1\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(difference(sent, right), None);
    for (from, to) in [
        ("BITS_POST", "POST"),
        ("%20", " "),
        ("Accept: */*\r\n", ""),
        ("Accept: */*", "Accept:  */*"),
        ("BITS-Packet-Type", "Bits-Packet-Type"),
        ("Accept: */*\r\nBITS-Packet-Type: Ping", "BITS-Packet-Type: Ping\r\nAccept: */*"),
        ("up.test", "N1.UP.TEST"),
        ("Content-Length: 0\r\n", ""),
        ("Content-Length: 0", "Content-Length: 0\r\nVia: 1.1 gateway"),
    ] {
        assert!(difference(sent, &right.replace(from, to)).is_some(), "{from:?} to {to:?}");
    }
    // A field that goes from the middle may change the order, and nothing else.
    let moved = "GET / HTTP/1.1\r\nConnection: close\r\nHost: up.test\r\nA: 1\r\n\r\n";
    let swapped = "GET / HTTP/1.1\r\nA: 1\r\nHost: up.test\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n";
    assert_eq!(difference(moved, swapped), None);
    assert!(difference(moved, &swapped.replace("A: 1", "A: 2")).is_some());
}
