//! What is known of one request on its way through.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::{ContentRange, HResult, PacketType, SessionKey};
use gateway_core::routing::Why;
use gateway_core::session::{TargetHash, Timestamp};
use http::HeaderValue;

use crate::guard::Conn;
use crate::metrics::{Gauged, ProtocolError};
use crate::supervisor::InFlightGuard;

use super::flights::Claim;

#[derive(Default)]
pub struct Ctx {
    /// Unique for the life of the process.
    pub id: u64,
    pub now: Timestamp,
    /// By the steady clock.
    pub started: Duration,
    pub conn: Option<Arc<Conn>>,
    /// Whether the request is a packet, however broken.
    pub is_packet: bool,
    pub kind: Option<PacketType>,
    pub key: Option<SessionKey>,
    pub range: Option<ContentRange>,
    pub target: TargetHash,
    /// Where it goes.
    pub backend: Option<BackendId>,
    pub why: Option<Why>,
    /// The id by which the backend knows the session, where the client has another.
    pub backend_session: Option<Box<str>>,
    pub public_session: Option<HeaderValue>,
    /// Backends that could not be reached.
    pub avoid: Vec<BackendId>,
    pub attempts: u32,
    /// The backend refused the last try, so it may need a moment.
    pub wait_before_retry: bool,
    /// The owner of the session has been away for too long.
    pub given_up: bool,
    /// A pooled connection turned out to be dead: the next try takes a new one.
    pub avoid_pool: bool,
    /// The backend has begun to answer, be it with a 1xx.
    pub answer_began: bool,
    /// The request has a body.
    pub has_body: bool,
    pub reused: bool,
    /// The session's turn.
    pub claim: Option<Claim>,
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
    pub alias_found: Option<bool>,
    pub protocol_error: Option<ProtocolError>,
    /// Held until the last byte of the answer is out: the process does not end before.
    pub running: Option<InFlightGuard>,
    /// Held for the in-flight gauges.
    pub request: Option<Gauged>,
    pub backend_request: Option<Gauged>,
}
