//! Packets written by hand for any host and destination, and farms of servers that record what reaches them.

use e2e_tests::client::ack::SESSION_NOT_FOUND;
use e2e_tests::client::packet::PROTOCOL;
use e2e_tests::client::{Ack, AckRules, Answer, Connection, Head, PacketType, exchange};
use e2e_tests::farm::{Farm, FarmBuilder, ORIGIN};
use e2e_tests::raw_backend::{RawBackend, Reply, Request, agree};

/// A destination for tests that need only one.
pub const TARGET: &str = "/in/a.bin";

/// One packet, to be changed and sent.
#[derive(Clone, Debug)]
pub struct Packet {
    pub kind: PacketType,
    method: &'static str,
    target: String,
    host: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

pub fn create(target: &str) -> Packet {
    plain(PacketType::CreateSession, target).with("BITS-Supported-Protocols", PROTOCOL)
}

pub fn ping(target: &str) -> Packet {
    plain(PacketType::Ping, target)
}

/// `range` is the whole value of Content-Range; Content-Length is that of `body`.
pub fn fragment(target: &str, id: &str, range: &str, body: &[u8]) -> Packet {
    let mut packet = plain(PacketType::Fragment, target)
        .with("BITS-Session-Id", id)
        .with("Content-Range", range);
    packet.body = body.to_vec();
    packet
}

pub fn close(target: &str, id: &str) -> Packet {
    plain(PacketType::CloseSession, target).with("BITS-Session-Id", id)
}

pub fn cancel(target: &str, id: &str) -> Packet {
    plain(PacketType::CancelSession, target).with("BITS-Session-Id", id)
}

/// The three packets that cannot do without a session.
pub fn of_session(target: &str, id: &str) -> [Packet; 3] {
    [fragment(target, id, "bytes 0-2/9", b"abc"), close(target, id), cancel(target, id)]
}

fn plain(kind: PacketType, target: &str) -> Packet {
    Packet {
        kind,
        method: "BITS_POST",
        target: target.to_owned(),
        host: ORIGIN.to_owned(),
        fields: Vec::new(),
        body: Vec::new(),
    }
}

impl Packet {
    /// Sent to that host rather than to the origin name.
    pub fn at(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// By another method: a packet to those who are told so by a field.
    pub fn by(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn head(&self) -> Head {
        let mut head = Head::new(self.method, &self.target)
            .field("Host", &self.host)
            .field("BITS-Packet-Type", self.kind.title());
        for (name, value) in &self.fields {
            head = head.field(name, value);
        }
        head.field("Content-Length", self.body.len())
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.head().with_body(&self.body)
    }
}

/// The session id in the Ack of a successful Create-Session.
#[track_caller]
pub fn session_of(answer: &Answer) -> String {
    let ack = AckRules::farm().expect(PacketType::CreateSession, answer);
    let success = matches!(answer.status, 200 | 201);
    ack.session.filter(|_| success).unwrap_or_else(|| panic!("no session in {}", answer.head))
}

/// The gateway itself says "start over", in the form of the fault table.
#[track_caller]
pub fn expect_not_found(kind: PacketType, answer: &Answer) -> Ack {
    let ack = AckRules::own_answer().expect(kind, answer);
    let said = (answer.status, ack.hresult, ack.context);
    assert_eq!(said, (500, Some(SESSION_NOT_FOUND), Some(5)), "{}", answer.head);
    ack
}

/// The gateway itself says "not now": a status that is transient for every client, and no error fields.
#[track_caller]
pub fn expect_not_now(statuses: &[u16], kind: PacketType, answer: &Answer) {
    let ack = AckRules::own_answer().expect(kind, answer);
    assert!(statuses.contains(&answer.status), "{}", answer.head);
    assert_eq!((ack.hresult, ack.context), (None, None), "{}", answer.head);
}

/// A gateway in front of servers that record every byte, `up01`, `up02`, ...
pub struct Servers {
    pub farm: Farm,
    pub backends: Vec<RawBackend>,
}

impl Servers {
    /// Servers that say yes to everything and whose session ids differ.
    #[track_caller]
    pub fn start(count: usize) -> Self {
        Self::with(count, |farm| farm)
    }

    #[track_caller]
    pub fn with(count: usize, change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Self {
        Self::of((0..count).map(|number| RawBackend::answering(server(number))).collect(), change)
    }

    #[track_caller]
    pub fn of(backends: Vec<RawBackend>, change: impl FnOnce(FarmBuilder) -> FarmBuilder) -> Self {
        let mut farm = Farm::of_stubs(0);
        for (number, backend) in backends.iter().enumerate() {
            farm = farm.backend(&format!("up{:02}", number + 1), backend.address());
        }
        Self { farm: change(farm).start(), backends }
    }

    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.farm.entrance()).expect("the gateway accepts connections")
    }

    /// One packet on a connection of its own.
    #[track_caller]
    pub fn ask(&self, packet: &Packet) -> Answer {
        self.ask_bytes(&packet.bytes())
    }

    #[track_caller]
    pub fn ask_bytes(&self, bytes: &[u8]) -> Answer {
        exchange(self.farm.entrance(), bytes).unwrap_or_else(|error| {
            let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
            panic!("{error} to {sent:?}")
        })
    }

    /// Opens a session on a connection of its own; returns its id as the client sees it, and its backend.
    #[track_caller]
    pub fn open(&self, target: &str) -> (String, usize) {
        let before = self.counts();
        let answer = self.ask(&create(target));
        (session_of(&answer), self.only_one_since(&before))
    }

    /// The packet reaches one backend and is answered 200; returns which, what it saw, and the answer.
    #[track_caller]
    pub fn passes(&self, packet: &Packet) -> (usize, Request, Answer) {
        let before = self.counts();
        let answer = self.ask(packet);
        assert_eq!(answer.status, 200, "{packet:?} was answered {}", answer.head);
        let backend = self.only_one_since(&before);
        (backend, self.last_request(backend), answer)
    }

    /// The packet is answered without any backend.
    #[track_caller]
    pub fn stays(&self, packet: &Packet) -> Answer {
        let before = self.counts();
        let answer = self.ask(packet);
        assert_eq!(self.counts(), before, "{packet:?} reached a backend");
        answer
    }

    /// Requests that each backend has got so far.
    pub fn counts(&self) -> Vec<usize> {
        self.backends.iter().map(|backend| backend.requests().len()).collect()
    }

    /// The backend that got one request since `before`, while no other got any.
    #[track_caller]
    pub fn only_one_since(&self, before: &[usize]) -> usize {
        let now = self.counts();
        let more: Vec<_> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        assert_eq!(more.iter().sum::<usize>(), 1, "one request reached the backends as {more:?}");
        more.iter().position(|&count| count == 1).expect("the sum is one")
    }

    #[track_caller]
    pub fn last_request(&self, backend: usize) -> Request {
        self.backends[backend].requests().pop().expect("the backend was asked")
    }
}

/// The answers of server number `number`: those of [`agree`], but with ids that no other server gives.
pub fn server(number: usize) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let agree = agree();
    move |request| match (agree(request), &*request.packet_type()) {
        (Reply::Send(bytes), "create-session") => {
            let text = String::from_utf8_lossy(&bytes);
            Reply::raw(&text.replace("{00000000-", &format!("{{{number:08X}-")))
        }
        (reply, _) => reply,
    }
}

/// An Ack of Create-Session with that id.
pub fn created(id: &str) -> Reply {
    let fields =
        [("BITS-Protocol", PROTOCOL), ("BITS-Session-Id", id), ("Accept-Encoding", "identity")];
    Reply::ack("200 OK", &fields)
}
