//! One gateway in front of one scripted backend, and packets written by hand.

use e2e_tests::client::ack::INVALID_ARGUMENT;
use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::client::{AckRules, Answer, Connection, Head, PacketType, exchange};
use e2e_tests::farm::{Farm, FarmBuilder};
use e2e_tests::raw_backend::{RawBackend, Request};

/// The destination of the packets below.
pub const TARGET: &str = "/in/a.bin";

/// A gateway whose only backend, `up01`, records every byte and answers as the test says.
pub struct Bench {
    pub farm: Farm,
    pub backend: RawBackend,
}

impl Bench {
    /// The backend says yes to everything.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(RawBackend::agreeable(), |farm| farm)
    }

    #[track_caller]
    pub fn with(backend: RawBackend, change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Self {
        let farm = change(Farm::of_stubs(0).backend("up01", backend.address())).start();
        Self { farm, backend }
    }

    /// A client connection to the gateway.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.farm.entrance()).expect("the gateway accepts connections")
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn exchange(&self, bytes: &[u8]) -> Answer {
        exchange(self.farm.entrance(), bytes)
            .unwrap_or_else(|error| panic!("{error} to {:?}", String::from_utf8_lossy(bytes)))
    }

    /// Opens a session for [`TARGET`] and returns the id that the gateway showed.
    #[track_caller]
    pub fn session(&self) -> String {
        let answer = self.exchange(&create().to_bytes());
        let ack = AckRules::farm().expect(PacketType::CreateSession, &answer);
        ack.session.expect("the rules for an Ack of Create-Session demand an id")
    }

    /// The backend gets the request and its 200 comes back; returns both.
    #[track_caller]
    pub fn passes(&self, bytes: &[u8]) -> (Request, Answer) {
        let before = self.backend.requests().len();
        let answer = self.exchange(bytes);
        assert_eq!(answer.status, 200, "{:?} was answered {}", excerpt(bytes), answer.head);
        let requests = self.backend.requests();
        assert_eq!(requests.len(), before + 1, "{:?} reached the backend once", excerpt(bytes));
        (requests[before].clone(), answer)
    }

    /// The gateway itself answers 400 with E_INVALIDARG and context 0x5, and the backend hears nothing of the request.
    #[track_caller]
    pub fn refuses(&self, kind: PacketType, bytes: &[u8]) -> Answer {
        self.refuses_with(&[400], kind, bytes)
    }

    /// The same with any of these statuses.
    #[track_caller]
    pub fn refuses_with(&self, statuses: &[u16], kind: PacketType, bytes: &[u8]) -> Answer {
        let before = self.heard();
        let answer = self.exchange(bytes);
        let sent = excerpt(bytes);
        assert!(statuses.contains(&answer.status), "{sent:?} was answered {}", answer.head);
        let ack = AckRules::own_answer().expect(kind, &answer);
        assert_eq!((ack.hresult, ack.context), (Some(INVALID_ARGUMENT), Some(5)), "{sent:?}");
        assert_eq!(self.heard(), before, "the backend heard of {sent:?}");
        answer
    }

    /// Bytes that have reached the backend.
    pub fn heard(&self) -> usize {
        self.backend.connections().iter().map(|recorded| recorded.bytes.len()).sum()
    }
}

/// Everything up to the fields of the packet's own.
pub fn packet(kind: PacketType) -> Head {
    untyped().field("BITS-Packet-Type", kind.title())
}

/// A BITS_POST that does not say what it is.
pub fn untyped() -> Head {
    Head::bits(TARGET).field("Host", e2e_tests::farm::ORIGIN)
}

pub fn create() -> Head {
    packet(PacketType::CreateSession)
        .field("BITS-Supported-Protocols", PROTOCOL)
        .field("Content-Length", 0)
}

pub fn ping() -> Head {
    packet(PacketType::Ping).field("Content-Length", 0)
}

/// The whole file `body` in one fragment.
pub fn fragment(id: &str, body: &[u8]) -> Vec<u8> {
    fragment_head(id, body.len()).field("Content-Length", body.len()).with_body(body)
}

/// The head of a fragment that is the whole file, without Content-Length.
pub fn fragment_head(id: &str, length: usize) -> Head {
    packet(PacketType::Fragment)
        .field("BITS-Session-Id", id)
        .field("Content-Range", format!("bytes 0-{}/{length}", length - 1))
}

pub fn close(id: &str) -> Head {
    ending(PacketType::CloseSession, id)
}

pub fn cancel(id: &str) -> Head {
    ending(PacketType::CancelSession, id)
}

fn ending(kind: PacketType, id: &str) -> Head {
    packet(kind).field("BITS-Session-Id", id).field("Content-Length", 0)
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}
