//! A client that follows the state machine of MC-BUP 3.1, written from the specification. It
//! shares no code with the core.

use gateway_core::session::Subject;
use http::{request, response};

use crate::gateway::Connection;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::server::{Request, Tag};
use crate::turns::UnderWay;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ping,
    Create,
    Fragment,
    Close,
    Cancel,
}

/// What an answer meant to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Pinged,
    Opened,
    /// Everything before this offset is stored, says the server.
    Acknowledged(u64),
    TooLarge,
    /// Told that its session is gone.
    Restarted,
    Finished,
    Cancelled,
    /// Its file is too large for the gateway.
    GivesUp,
    /// Comes back later.
    Retries,
}

/// What users set and versions differ in.
#[derive(Debug, Clone, Copy)]
struct Habits {
    /// Does as Host-Id says.
    obeys: bool,
    pings: bool,
    pings_with_id: bool,
    /// Starts over where it was, and lets a 416 send it back (MC-BUP 3.1.5.1.7).
    keeps_offset: bool,
    /// Sends another range than before when no Ack has come.
    resizes: bool,
    names_port: bool,
    /// Every packet goes over a connection of its own.
    reconnects: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: String,
    pub tag: Tag,
}

pub struct Client {
    number: usize,
    habits: Habits,
    pub path: String,
    /// Of its certificate.
    pub subject: Subject,
    /// A request that it has given up, and its gateway has not.
    pub under_way: Option<UnderWay>,
    pub file: Vec<u8>,
    pub session: Option<Session>,
    pub connection: Option<Connection>,
    /// Consecutive errors.
    pub failures: u32,
    /// Uploads that came to an end.
    pub ended: u32,
    pub retry_at: u64,
    attempts: u64,
    offset: usize,
    fragment: usize,
    created: bool,
    cancels: bool,
    /// Has asked for the end; from then on it asks for nothing else.
    cancelling: bool,
    ping_first: bool,
    host_id: Option<String>,
    fallback: Option<u64>,
    timer: Option<u64>,
}

impl Client {
    pub fn new(number: usize, scenario: &Scenario, rng: &mut Rng) -> Self {
        let habits = Habits {
            obeys: rng.chance(70),
            pings: rng.chance(70),
            pings_with_id: rng.chance(30),
            keeps_offset: rng.chance(50) && scenario.may_keep_offsets(),
            resizes: scenario.may_resize(),
            names_port: rng.chance(30),
            reconnects: scenario.shared_farm && rng.chance(50),
        };
        let mut client = Self {
            number,
            habits,
            path: String::new(),
            subject: Subject::new([1 + u8::try_from(number).expect("few clients"); 16]),
            under_way: None,
            file: Vec::new(),
            session: None,
            connection: None,
            failures: 0,
            ended: 0,
            retry_at: 0,
            attempts: 0,
            offset: 0,
            fragment: 1,
            created: false,
            cancels: false,
            cancelling: false,
            ping_first: false,
            host_id: None,
            fallback: None,
            timer: None,
        };
        client.next_upload(scenario.shares_paths(), rng);
        client
    }

    /// Begins another upload with nothing remembered of the one before.
    pub fn next_upload(&mut self, shared_paths: bool, rng: &mut Rng) {
        self.ended += 1;
        self.path = match shared_paths && rng.chance(50) {
            true => "/in/same.bin".to_owned(),
            false => format!("/in/{}-{}.bin", self.number, self.ended),
        };
        let size = rng.pick(&[0, 1, 7, 40, 100]);
        self.file = rng.bytes(size);
        self.fragment = 1 + rng.below(20);
        (self.cancels, self.cancelling) = (rng.chance(20), false);
        (self.session, self.created, self.offset, self.ping_first) = (None, false, 0, false);
        (self.host_id, self.fallback, self.timer) = (None, None, None);
        (self.failures, self.connection) = (0, None);
    }

    pub fn tag(&self) -> Tag {
        Tag { client: self.number, attempt: self.attempts }
    }

    /// The next request, on whichever connection it takes.
    pub fn request(&mut self, gateways: usize, rng: &mut Rng, now: u64) -> (Kind, Request) {
        if self.timer.zip(self.fallback).is_some_and(|(since, after)| now - since > after) {
            // The session id is kept: the origin name may know it (MC-BUP 3.1.6.3).
            (self.host_id, self.timer, self.connection) = (None, None, None);
        }
        if self.connection.is_none() || self.habits.reconnects {
            self.connection = Some(Connection { gateway: rng.below(gateways), backend: None });
        }
        let kind = self.next_kind(rng);
        let mut body = Vec::new();
        let host = match (self.host_id.as_deref().unwrap_or("up.test"), self.habits.names_port) {
            (host, true) => format!("{host}:80"),
            (host, false) => host.to_owned(),
        };
        let mut head = http::Request::builder().method("BITS_POST").uri(self.path.as_str());
        head = head.header("Host", host);
        let id = self.session.as_ref().map_or("", |session| session.id.as_str());
        match kind {
            Kind::Ping => {
                head = head.header("BITS-Packet-Type", "Ping");
                if self.habits.pings_with_id && !id.is_empty() {
                    head = head.header("BITS-Session-Id", id);
                }
            }
            Kind::Create => {
                self.attempts += 1;
                let protocols = "{7df0354d-249b-430f-820d-3d2a9bef4931}";
                head = head.header("BITS-Packet-Type", "Create-Session");
                head = head.header("BITS-Supported-Protocols", protocols);
            }
            Kind::Fragment => {
                let end = (self.offset + self.fragment).min(self.file.len());
                body = self.file[self.offset..end].to_vec();
                let range = format!("bytes {}-{}/{}", self.offset, end - 1, self.file.len());
                head = head.header("BITS-Packet-Type", "Fragment").header("Content-Range", range);
                head = head.header("BITS-Session-Id", id);
            }
            Kind::Close => {
                head = head.header("BITS-Packet-Type", "Close-Session");
                head = head.header("BITS-Session-Id", id);
            }
            Kind::Cancel => {
                head = head.header("BITS-Packet-Type", "Cancel-Session");
                head = head.header("BITS-Session-Id", id);
            }
        }
        let head: request::Parts =
            head.header("Content-Length", body.len()).body(()).expect("legal head").into_parts().0;
        let tag = self.session.as_ref().map_or(self.tag(), |session| session.tag);
        (kind, Request { head, body, tag, subject: Some(self.subject.clone()) })
    }

    fn next_kind(&mut self, rng: &mut Rng) -> Kind {
        if self.ping_first && self.habits.pings {
            return Kind::Ping;
        }
        if !self.created {
            return Kind::Create;
        }
        self.cancelling |= self.cancels && rng.chance(10);
        if self.cancelling {
            return Kind::Cancel;
        }
        if self.offset < self.file.len() { Kind::Fragment } else { Kind::Close }
    }

    /// The connection broke before an answer came.
    pub fn broken(&mut self, rng: &mut Rng, now: u64) -> Event {
        self.connection = None;
        self.failures += 1;
        // Clients choose the size of a Fragment by how fast the last one went.
        if self.habits.resizes && rng.chance(20) {
            self.fragment = 1 + rng.below(20);
        }
        // Its user does not wait for ever.
        self.cancelling |= self.cancels && rng.chance(50);
        self.retry_at = now + 1 + rng.next() % 20;
        self.ping_first = true;
        if self.host_id.is_some() && self.timer.is_none() {
            self.timer = Some(now);
        }
        Event::Retries
    }

    /// MC-BUP 3.1.5.
    pub fn answered(
        &mut self,
        kind: Kind,
        answer: &response::Parts,
        rng: &mut Rng,
        now: u64,
    ) -> Event {
        let header = |name: &str| answer.headers.get(name).map(|v| v.to_str().expect("text"));
        let status = answer.status.as_u16();
        let ack = header("BITS-Packet-Type").is_some_and(|v| v.eq_ignore_ascii_case("Ack"));
        let code = header("BITS-Error-Code").or(header("BITS-Error")).unwrap_or_default();
        let pair = (header("BITS-Host-Id"), header("BITS-Host-Id-Fallback-Timeout"));
        assert_eq!(pair.0.is_some(), pair.1.is_some(), "a Host-Id without its timeout");
        let opened = kind == Kind::Create && (status == 200 || status == 201);
        assert!(opened || pair.0.is_none(), "a Host-Id that nobody asked for");
        if code.contains("x8020001F") && status != 200 {
            return self.session_not_found(kind);
        }
        let event = match (kind, status) {
            (Kind::Fragment, 500) if code.contains("x80200020") => {
                assert_eq!(self.offset, 0, "a limit ends an upload that is under way");
                Event::GivesUp
            }
            (Kind::Ping, 200) => {
                self.ping_first = false;
                Event::Pinged
            }
            (Kind::Create, 200 | 201) => {
                let id = header("BITS-Session-Id").expect("an id").to_owned();
                assert!((1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()));
                assert_eq!(header("Accept-Encoding"), Some("identity"));
                assert!(header("BITS-Protocol").is_some_and(|p| p.contains("7df0354d")));
                self.session = Some(Session { id, tag: self.tag() });
                self.created = true;
                if let (Some(host), Some(after), true) = (pair.0, pair.1, self.habits.obeys) {
                    self.host_id = Some(host.to_owned());
                    self.fallback = Some(after.parse().expect("seconds"));
                    (self.timer, self.connection, self.ping_first) = (None, None, true);
                }
                Event::Opened
            }
            (Kind::Fragment, 200 | 416) => {
                let offset = header("BITS-Received-Content-Range").expect("an offset");
                self.offset = offset.parse().expect("a number");
                assert!(self.offset <= self.file.len(), "more stored than there is");
                self.timer = None;
                Event::Acknowledged(self.offset as u64)
            }
            (Kind::Fragment, 413) => {
                assert!(self.fragment > 5, "nobody refuses the smallest Fragment");
                self.fragment = (self.fragment / 2).max(5);
                Event::TooLarge
            }
            (Kind::Close, 200) => Event::Finished,
            (Kind::Cancel, 200) => Event::Cancelled,
            (_, 408 | 409 | 500 | 502..=504) => return self.broken(rng, now),
            _ => panic!("the answer to {kind:?} ends the upload for good: {answer:?}"),
        };
        assert!(ack || status == 413, "a client expects an Ack: {answer:?}");
        if !matches!(event, Event::Pinged | Event::TooLarge) {
            self.failures = 0;
        }
        event
    }

    fn session_not_found(&mut self, kind: Kind) -> Event {
        if kind == Kind::Cancel {
            return Event::Cancelled;
        }
        (self.session, self.created, self.ping_first) = (None, false, false);
        if !self.habits.keeps_offset || self.offset == self.file.len() {
            self.offset = 0;
        }
        Event::Restarted
    }
}
