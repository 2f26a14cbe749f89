//! What is known of one request on its way through.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::client::ClientKey;
use gateway_core::protocol::{ContentRange, HResult, PacketType, RequestPacket, SessionKey};
use gateway_core::routing::failover::Distrust;
use gateway_core::routing::ownership::Asker;
use gateway_core::routing::{Step, Why};
use gateway_core::session::{Binding, Pin, Subject, Target, Timestamp};
use http::HeaderValue;

use crate::config::Bind;
use crate::farm::Farm;
use crate::guard::Conn;
use crate::metrics::{Gauged, ProtocolError};
use crate::sessions::{Opening, Place};
use crate::supervisor::InFlightGuard;

use super::creates::Creating;
use super::early::Early;
use super::logins::Login;
use crate::exchange::bandwidth::BodyPace;
use crate::exchange::turns::Turn;

pub struct Ctx {
    /// The farm as it was when the request came: one request sees one picture.
    pub farm: Arc<Farm>,
    /// Unique for the life of the process.
    pub id: u64,
    pub now: Timestamp,
    /// By the steady clock.
    pub started: Duration,
    pub conn: Option<Arc<Conn>>,
    /// The client, behind trusted proxies too.
    pub client: Option<IpAddr>,
    /// The place of the session that is being opened.
    pub place: Option<Place>,
    /// A Create counts at its backend until its session does.
    pub opening: Option<Opening>,
    pub creating: Creating,
    /// The rate at which its client may send its body.
    pub pace: BodyPace,
    /// Whether the request is a packet, however broken.
    pub is_packet: bool,
    /// The packet, once it was read and found to be one.
    pub packet: Option<RequestPacket>,
    pub kind: Option<PacketType>,
    pub key: Option<SessionKey>,
    pub range: Option<ContentRange>,
    pub target: Target,
    /// What a session is bound to that has its pin from this packet.
    pub binding: Binding,
    /// The target under which it goes to its backend, where that is another spelling than its own.
    pub spelling: Option<Arc<str>>,
    /// Size of its session's file, as far as it is known; otherwise 0.
    pub total: u64,
    /// Where it goes.
    pub backend: Option<BackendId>,
    pub why: Option<Why>,
    /// The id by which the backend knows the session, where the client has another.
    pub backend_session: Option<Box<str>>,
    pub public_session: Option<HeaderValue>,
    /// Backends that could not be reached.
    pub avoid: Vec<BackendId>,
    pub attempts: u32,
    /// The owner refused the last try, and this is done about it before the next one.
    pub step: Option<Step>,
    pub distrust: Distrust,
    /// The session goes to another backend than its pin says, because that one was given up.
    pub moved: bool,
    /// A pooled connection turned out to be dead: the next try takes a new one.
    pub avoid_pool: bool,
    /// The backend has begun to answer, be it with a 1xx.
    pub answer_began: bool,
    /// How long the backend may take for the head of its answer, and for each piece of the rest.
    pub patience: Duration,
    /// How many 1xx came before the answer.
    pub interim: u8,
    pub early: Early,
    /// The request has a body.
    pub has_body: bool,
    pub reused: bool,
    /// The session's turn.
    pub turn: Option<Turn>,
    pub login: Login,
    /// The packet may reach its backend twice, and its body fits the buffer for a second try.
    pub repeatable: bool,
    /// The body of the answer is to be thrown away.
    pub drop_body: bool,
    /// The answer has no length and ends with the connection.
    pub until_close: bool,
    /// We answered in the backend's place after it had begun to.
    pub answered: bool,
    pub fault: Option<Fault>,
    pub backend_status: Option<u16>,
    pub backend_error: Option<HResult>,
    /// By the steady clock: first byte of the backend's answer.
    pub first_byte: Option<Duration>,
    /// By the steady clock: last byte of the request.
    pub body_done: Option<Duration>,
    pub bytes_in: u64,
    pub pin_found: Option<bool>,
    /// The session is bound to another client's certificate.
    pub foreign: bool,
    pub alias_found: Option<bool>,
    /// Nobody has asked the backends for the session yet, and somebody should.
    pub unasked: bool,
    /// Whether the backends, asked for the session, said whose it is.
    pub owner_found: Option<bool>,
    /// The table could not be asked, so an alias may be wrong.
    pub doubtful: bool,
    /// The backend opened a session with this id; nobody has heard of it before the Ack is out.
    pub opened: Option<Box<str>>,
    pub protocol_error: Option<ProtocolError>,
    /// Held until the last byte of the answer is out: the process does not end before.
    pub running: Option<InFlightGuard>,
    /// Held for the in-flight gauges.
    pub request: Option<Gauged>,
    pub backend_request: Option<Gauged>,
}

impl Ctx {
    pub fn new(farm: Arc<Farm>) -> Self {
        Self {
            farm,
            id: Default::default(),
            now: Default::default(),
            started: Default::default(),
            conn: Default::default(),
            client: Default::default(),
            place: Default::default(),
            opening: Default::default(),
            creating: Default::default(),
            pace: Default::default(),
            is_packet: Default::default(),
            packet: Default::default(),
            kind: Default::default(),
            key: Default::default(),
            range: Default::default(),
            target: Default::default(),
            binding: Default::default(),
            spelling: Default::default(),
            total: Default::default(),
            backend: Default::default(),
            why: Default::default(),
            backend_session: Default::default(),
            public_session: Default::default(),
            avoid: Default::default(),
            attempts: Default::default(),
            step: Default::default(),
            distrust: Default::default(),
            moved: Default::default(),
            avoid_pool: Default::default(),
            answer_began: Default::default(),
            patience: Default::default(),
            interim: Default::default(),
            early: Default::default(),
            has_body: Default::default(),
            reused: Default::default(),
            turn: Default::default(),
            login: Default::default(),
            repeatable: Default::default(),
            drop_body: Default::default(),
            until_close: Default::default(),
            answered: Default::default(),
            fault: Default::default(),
            backend_status: Default::default(),
            backend_error: Default::default(),
            first_byte: Default::default(),
            body_done: Default::default(),
            bytes_in: Default::default(),
            pin_found: Default::default(),
            foreign: Default::default(),
            alias_found: Default::default(),
            unasked: Default::default(),
            owner_found: Default::default(),
            doubtful: Default::default(),
            opened: Default::default(),
            protocol_error: Default::default(),
            running: Default::default(),
            request: Default::default(),
            backend_request: Default::default(),
        }
    }

    /// The answer that was seen goes to nobody, and there will be another.
    pub fn begin_anew(&mut self) {
        self.fault = None;
        self.answer_began = false;
        self.interim = 0;
        self.first_byte = None;
        self.backend_status = None;
        self.backend_error = None;
        self.protocol_error = None;
        self.avoid_pool = false;
        self.step = None;
    }

    /// Who the client is by its certificate.
    pub fn subject(&self) -> Option<&Subject> {
        self.conn.as_ref()?.tls.as_ref()?.subject.as_ref()
    }

    /// Whose share of what all clients share the request is on. Behind a proxy of ours that names
    /// nobody are many clients, of whom none is held to a share.
    pub fn counted_client(&self) -> Option<ClientKey> {
        let trusted = &self.farm.config.http.trusted_proxies;
        let client = self.client?;
        let proxy = trusted.iter().any(|network| network.contains(client));
        (!proxy).then(|| ClientKey::of(client))
    }

    /// The client, as sessions are shown to it.
    pub fn asker(&self) -> Asker<'_> {
        let binds = self.farm.config.sessions.bind == Bind::Certificate;
        Asker { target: self.target, subject: self.subject(), binds }
    }

    /// The pin of a session that this packet opens, or that it has shown to be there.
    pub fn pin(&self, backend: BackendId, backend_session: Option<Box<str>>) -> Pin {
        Pin {
            backend,
            backend_session,
            binding: self.binding.clone(),
            created: self.now,
            subject: self.asker().bound_to(),
        }
    }
}
