//! One gateway before one recording backend. After each input an honest upload must work, and when the rig ends every
//! byte that the backend got is judged.

use std::cell::Cell;

use e2e_tests::client::ack::INVALID_ARGUMENT;
use e2e_tests::client::packet::{PROTOCOL, latin1};
use e2e_tests::client::{Ack, AckRules, Answer, Connection, PacketType, WireError};
use e2e_tests::farm::{Farm, FarmBuilder, ORIGIN};
use e2e_tests::raw_backend::RawBackend;

use super::wellformed;

/// The only destination that a refused input may name. The backend must never hear of it.
pub const FORBIDDEN: &str = "/forbidden";

/// The destination of inputs that must pass.
pub const ALLOWED: &str = "/allowed";

pub struct Rig {
    pub farm: Farm,
    pub backend: RawBackend,
    uploads: Cell<u32>,
    judges: Cell<bool>,
}

/// How an input that never reaches a backend ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An Ack with E_INVALIDARG, then the end of the connection.
    Ack(u16),
    /// The same, but the connection goes on.
    AckAndKeep(u16),
    /// An answer without a word of BITS, then the end of the connection.
    Plain(u16),
    /// Nothing but the end of the connection, or a 400 before it.
    End,
}

impl Rig {
    #[track_caller]
    pub fn start() -> Self {
        Self::with(|farm| farm)
    }

    #[track_caller]
    pub fn with(change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Self {
        Self::of(RawBackend::agreeable(), change)
    }

    #[track_caller]
    pub fn of(backend: RawBackend, change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Self {
        let farm = change(Farm::of_stubs(0).backend("up01", backend.address())).start();
        Self { farm, backend, uploads: Cell::new(0), judges: Cell::new(true) }
    }

    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.farm.entrance()).expect("the gateway accepts connections")
    }

    /// Sends `input` as Latin-1 and expects its refusal.
    #[track_caller]
    pub fn refuses(&self, refusal: Refusal, input: &str) {
        self.refuses_bytes(refusal, &latin1(input));
    }

    #[track_caller]
    pub fn refuses_bytes(&self, refusal: Refusal, input: &[u8]) {
        let heard = self.heard();
        let shown = excerpt(input);
        let mut client = self.connect();
        // A gateway that ends the connection before it has read all fails the sending; the answer tells more.
        let _ = client.send(input);
        match refusal {
            Refusal::End => {
                let _ = client.finish();
                let got = client.read_to_end().unwrap_or_else(|e| panic!("{e} after {shown:?}"));
                let refused = got.is_empty() || got.starts_with(b"HTTP/1.1 400 Bad Request\r\n");
                assert!(refused, "{shown:?} was answered {:?}", excerpt(&got));
            }
            _ => {
                let answer = read(&mut client, &shown);
                judge(refusal, &answer, &shown);
                match refusal {
                    Refusal::AckAndKeep(_) => self.expect_goes_on(&mut client, &shown),
                    _ => expect_end(&mut client, &shown),
                }
            }
        }
        self.upload_works(&shown);
        self.expect_unheard(heard, &shown);
    }

    /// A packet with this line among its fields is refused, and so is an ordinary request.
    #[track_caller]
    pub fn refuses_field(&self, line: &str) {
        self.refuses(Refusal::Ack(400), &ping_with(FORBIDDEN, line));
        let get = format!("GET {FORBIDDEN} HTTP/1.1\r\nHost: {ORIGIN}\r\n{line}\r\n\r\n");
        self.refuses(Refusal::Plain(400), &get);
    }

    /// A packet with this line among its fields reaches the backend.
    #[track_caller]
    pub fn passes_field(&self, line: &str) {
        self.passes(&ping_with(ALLOWED, line));
    }

    /// The control: the input reaches the backend once, and its 200 comes back.
    #[track_caller]
    pub fn passes(&self, input: &str) -> Answer {
        let (before, shown) = (self.backend.requests().len(), excerpt(&latin1(input)));
        let mut client = self.connect();
        client.send(&latin1(input)).unwrap_or_else(|e| panic!("{e}: {shown:?}"));
        let answer = read(&mut client, &shown);
        assert_eq!(answer.status, 200, "{shown:?} was answered {}", answer.head);
        let requests = self.backend.requests();
        assert_eq!(requests.len(), before + 1, "{shown:?}");
        assert!(requests[before].target().starts_with(ALLOWED), "{shown:?}");
        answer
    }

    /// Create-Session, two Fragments and Close-Session over one connection, answered as they should be.
    #[track_caller]
    pub fn upload_works(&self, after: &str) {
        let number = self.uploads.get();
        self.uploads.set(number + 1);
        let mut client = self.connect();
        let mut ask = |kind: PacketType, fields: &str, body: &str| -> Ack {
            let bytes = format!(
                "BITS_POST /honest/{number} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: {}\r\n{fields}\
                Content-Length: {}\r\n\r\n{body}",
                kind.title(),
                body.len()
            );
            let answer = client
                .exchange(bytes.as_bytes())
                .unwrap_or_else(|e| panic!("{} after {after:?}: {e}", kind.title()));
            assert_eq!(answer.status, 200, "{} after {after:?}: {}", kind.title(), answer.head);
            AckRules::farm().expect(kind, &answer)
        };
        let protocols = format!("BITS-Supported-Protocols: {PROTOCOL}\r\n");
        let opened = ask(PacketType::CreateSession, &protocols, "");
        let id = format!("BITS-Session-Id: {}\r\n", opened.session.expect("an id"));
        let range = |range: &str| format!("{id}Content-Range: bytes {range}\r\n");
        assert_eq!(ask(PacketType::Fragment, &range("0-4/11"), "hello").received, Some(5));
        assert_eq!(ask(PacketType::Fragment, &range("5-10/11"), " world").received, Some(11));
        ask(PacketType::CloseSession, &id, "");
    }

    /// Bytes that have reached the backend.
    pub fn heard(&self) -> usize {
        self.backend.connections().iter().map(|recorded| recorded.bytes.len()).sum()
    }

    /// The test has judged by itself what reached the backend.
    pub fn judged(&self) {
        self.judges.set(false);
    }

    /// Only the honest upload has reached the backend since `heard`.
    #[track_caller]
    fn expect_unheard(&self, heard: usize, shown: &str) {
        assert!(self.heard() > heard, "the recorder works");
        for request in self.backend.requests() {
            let target = request.target();
            assert!(
                target.starts_with("/honest/") || target.starts_with(ALLOWED),
                "{shown:?} let {target} pass"
            );
        }
    }

    /// The connection serves a packet after the refusal.
    #[track_caller]
    fn expect_goes_on(&self, client: &mut Connection, shown: &str) {
        let before = self.backend.requests().len();
        let answer = client.exchange(ping_with(ALLOWED, "X-After: 1").as_bytes());
        let answer = answer.unwrap_or_else(|e| panic!("{e} on the connection of {shown:?}"));
        assert_eq!(answer.status, 200, "{shown:?} then {}", answer.head);
        assert_eq!(self.backend.requests().len(), before + 1, "{shown:?}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for recorded in self.backend.connections().into_iter().filter(|_| self.judges.get()) {
            for request in wellformed::requests(&recorded.bytes) {
                let known = [ALLOWED, "/honest/"].iter().any(|p| request.target.starts_with(p));
                assert!(known, "the backend got {request:?}");
            }
        }
        self.farm.expect_healthy();
    }
}

/// A Ping with one more line.
pub fn ping_with(target: &str, line: &str) -> String {
    format!(
        "BITS_POST {target} HTTP/1.1\r\nHost: {ORIGIN}\r\nBITS-Packet-Type: Ping\r\n{line}\r\n\
        Content-Length: 0\r\n\r\n"
    )
}

#[track_caller]
pub fn read(client: &mut Connection, shown: &str) -> Answer {
    client.read_answer().unwrap_or_else(|error: WireError| panic!("{error} after {shown:?}"))
}

#[track_caller]
fn judge(refusal: Refusal, answer: &Answer, shown: &str) {
    let (status, is_ack) = match refusal {
        Refusal::Ack(status) | Refusal::AckAndKeep(status) => (status, true),
        Refusal::Plain(status) => (status, false),
        Refusal::End => unreachable!("the end is no answer"),
    };
    assert_eq!(answer.status, status, "{shown:?} was answered {}", answer.head);
    assert_eq!(answer.closes(), !matches!(refusal, Refusal::AckAndKeep(_)), "{}", answer.head);
    assert_eq!(answer.field("Server"), None, "{}", answer.head);
    if is_ack {
        let ack = AckRules::own_answer().expect(PacketType::Ping, answer);
        assert_eq!((ack.hresult, ack.context), (Some(INVALID_ARGUMENT), Some(5)), "{shown:?}");
    } else {
        let bits =
            answer.fields.iter().find(|(name, _)| name.to_ascii_lowercase().starts_with("bits"));
        assert_eq!(bits, None, "{shown:?} is no packet: {}", answer.head);
        assert_eq!(answer.field("Content-Length"), Some("0"), "{}", answer.head);
    }
}

#[track_caller]
pub fn expect_end(client: &mut Connection, shown: &str) {
    let rest = client.read_to_end().unwrap_or_else(|error| panic!("{error} after {shown:?}"));
    assert!(rest.is_empty(), "{shown:?} was answered more: {:?}", excerpt(&rest));
}

pub fn excerpt(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(400)];
    start.iter().map(|&byte| char::from(byte)).collect()
}
