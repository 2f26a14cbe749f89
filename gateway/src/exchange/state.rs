//! The states of a request, in their order: [`Arrival`], [`Admitted`], [`Attempt`], [`Answered`].
//! Beside them stand what the [tries](Tried) before have shown, and the [`Findings`], which its report
//! tells.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::{ContentRange, HResult, PacketType, RequestPacket, SessionKey};
use gateway_core::routing::failover::{Distrust, Held, ends_or_moves};
use gateway_core::routing::{Step, Why};
use http::{HeaderValue, StatusCode};

use crate::base::clock;
use crate::config::Denial;
use crate::guard::Reading;
use crate::sessions::live_uploads::LiveRequest;
use crate::sessions::{Opening, Place};
use crate::telemetry::metrics::{Gauged, ProtocolError};

use super::arrival::Arrival;
use super::bandwidth::BodyPace;
use super::creating::Creating;
use super::login::Login;
use super::report::{Counted, Report, Reporter, Sent};
use super::turns::Turn;

/// Each 1xx starts the wait for the answer anew, so there is an end to them.
const MAX_INTERIM: u8 = 100;

/// One request on its way through, and its answer.
pub struct Exchange {
    pub arrival: Arrival,
    pub admitted: Admitted,
    pub tries: Tried,
    pub attempt: Attempt,
    pub answered: Answered,
    pub findings: Findings,
    /// What the client was sent so far.
    pub sent: Sent,
    pub counted: Counted,
    /// The report that its end owes; `None` before there is a head, and once it was made.
    owed: Option<(Arc<Reporter>, Arc<RequestHead>)>,
}

impl Exchange {
    pub fn new(arrival: Arrival) -> Self {
        Self {
            arrival,
            admitted: Admitted::default(),
            tries: Tried::default(),
            attempt: Attempt::default(),
            answered: Answered::default(),
            findings: Findings::default(),
            sent: Sent::default(),
            counted: Counted::default(),
            owed: None,
        }
    }

    /// The answer that was seen goes to nobody, and there will be another.
    pub fn begin_anew(&mut self) {
        self.findings.fault = None;
        debug_assert!(self.answered.opened.is_none(), "a session is opened once");
        self.answered = Answered::default();
        self.tries.avoid_pool = false;
        self.tries.step = None;
    }

    /// From now on the request owes one report, however it ends.
    pub fn owe_report(&mut self, reporter: &Arc<Reporter>, head: &Arc<RequestHead>) {
        self.owed = Some((Arc::clone(reporter), Arc::clone(head)));
    }

    /// For how long the request has been here.
    pub fn waited(&self) -> Duration {
        clock::steady().saturating_sub(self.arrival.started)
    }

    /// What counts of the request where its backend is away.
    pub fn held(&self) -> Held {
        Held {
            waited: self.waited(),
            ends_or_moves: ends_or_moves(self.admitted.kind(), self.admitted.key.is_some()),
            superseded: self.admitted.turn.as_ref().is_some_and(Turn::is_cancelled),
        }
    }

    /// The head of an answer has come. False for a 1xx: another head follows.
    ///
    /// # Errors
    /// It does not go on. The findings hold the fault.
    pub fn answer_came(&mut self, response: &AnswerHead) -> Result<bool, Fault> {
        self.attempt.answer_began = true;
        // Nobody asked for a switch of protocols: an upgrade never reaches a backend.
        let mut legal = response.status != StatusCode::SWITCHING_PROTOCOLS;
        let interim = response.status.is_informational();
        if legal && interim {
            self.attempt.interim += 1;
            legal = self.attempt.interim <= MAX_INTERIM;
        }
        if !legal {
            self.findings.fault = Some(Fault::BackendAnswer);
            return Err(Fault::BackendAnswer);
        }
        if interim {
            return Ok(false);
        }
        let now = clock::steady();
        self.answered = Answered::at(now);
        if let Some(conn) = &self.arrival.conn {
            conn.expect_answer(now + self.attempt.patience);
        }
        Ok(true)
    }

    /// Whether its client is to see the end of the connection in place of an answer to the fault.
    pub fn ends_unanswered(&self) -> bool {
        match self.findings.fault {
            Some(Fault::LoginLost) => !self.admitted.login.is_behind_proxy(),
            Some(Fault::AccessDenied) => {
                self.arrival.access().is_none_or(|access| access.denial == Denial::Close)
            }
            _ => false,
        }
    }

    /// What was found of the head, once the request has been told of.
    pub fn take_reading(&mut self) -> Option<Reading> {
        let target = self.arrival.target;
        self.admitted.packet.take().map(|packet| Reading { target, packet })
    }

    pub fn report(&mut self) {
        let Some((reporter, head)) = self.owed.take() else { return };
        reporter.tell(&Report {
            head: &head,
            arrival: &self.arrival,
            admitted: &self.admitted,
            tries: &self.tries,
            attempt: &self.attempt,
            answered: &self.answered,
            findings: &self.findings,
            sent: self.sent,
            counted: self.counted,
        });
    }
}

/// A request that panics, or that the end of the process cuts off, has no other end than this.
impl Drop for Exchange {
    fn drop(&mut self) {
        if self.owed.is_some() && std::thread::panicking() {
            self.findings.fault = Some(Fault::Internal);
        }
        self.report();
    }
}

/// What the request is, where it goes, and what it holds of the session for that.
#[derive(Default)]
pub struct Admitted {
    /// The packet, once it was read and found to be one.
    pub packet: Option<RequestPacket>,
    /// Its session; from the answer to a Create-Session on, the one that was opened.
    pub key: Option<SessionKey>,
    /// The length with which it goes on in place of chunks.
    pub length: Option<u64>,
    /// Where it goes.
    pub backend: Option<BackendId>,
    pub why: Option<Why>,
    /// The place of the session that is being opened.
    pub place: Option<Place>,
    /// A Create counts at its backend until its session does.
    pub opening: Option<Opening>,
    pub creating: Creating,
    /// The rate at which its client may send its body.
    pub pace: BodyPace,
    /// What people see of the upload. It ends before the turn does.
    pub live: Option<LiveRequest>,
    /// The session's turn.
    pub turn: Option<Turn>,
    pub login: Login,
    /// The packet may reach its backend twice, and its body fits the buffer for a second try.
    pub repeatable: bool,
    /// The target under which it goes to its backend, where that is another spelling than its own.
    pub spelling: Option<Arc<str>>,
    /// Size of its session's file, as far as it is known; otherwise 0.
    pub total: u64,
    /// The id by which the backend knows the session, where the client has another.
    pub backend_session: Option<Box<str>>,
    pub public_session: Option<HeaderValue>,
    /// The session goes to another backend than its pin says, because that one was given up.
    pub moved: bool,
    /// The table could not be asked, so an alias may be wrong.
    pub doubtful: bool,
}

impl Admitted {
    pub fn kind(&self) -> Option<PacketType> {
        self.packet.as_ref().map(RequestPacket::packet_type)
    }

    /// Of a Fragment.
    pub fn range(&self) -> Option<ContentRange> {
        self.packet.as_ref().and_then(RequestPacket::range)
    }
}

/// What the tries so far have shown.
#[derive(Default)]
pub struct Tried {
    pub count: u32,
    /// Backends that could not be reached, or that refused.
    pub avoid: Vec<BackendId>,
    pub distrust: Distrust,
    /// A backend had no place for one more connection.
    pub busy: bool,
    /// The owner refused the last try, and this is done about it before the next one.
    pub step: Option<Step>,
    /// A pooled connection turned out to be dead: the next try takes a new one.
    pub avoid_pool: bool,
    /// The last connection had served a request before.
    pub reused: bool,
    /// Held for the gauge of requests at backends, from the first connection on.
    pub backend_request: Option<Gauged>,
}

/// One try at a backend. Each begins with a new one.
#[derive(Default)]
pub struct Attempt {
    /// How long the backend may take for the head of its answer, and for each piece of the rest.
    pub patience: Duration,
    /// Bytes of the body that were read.
    pub bytes_in: u64,
    /// By the steady clock: last byte of the request.
    pub body_done: Option<Duration>,
    /// What came of the body is still at hand, so it can be sent once more.
    pub replayable: bool,
    /// The backend has begun to answer, be it with a 1xx.
    pub answer_began: bool,
    /// How many 1xx came before the answer.
    pub interim: u8,
}

impl Attempt {
    pub fn new(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }
}

/// What the backend has answered, and what becomes of that.
#[derive(Default)]
pub struct Answered {
    /// By the steady clock: first byte of the backend's answer.
    pub first_byte: Option<Duration>,
    pub backend_status: Option<u16>,
    pub backend_error: Option<HResult>,
    pub protocol_error: Option<ProtocolError>,
    /// The backend opened a session with this id; no client knows of it before the Ack is out.
    pub opened: Option<Box<str>>,
}

impl Answered {
    fn at(first_byte: Duration) -> Self {
        Self { first_byte: Some(first_byte), ..Self::default() }
    }
}

/// What was found out on the way, for the report.
#[derive(Default)]
pub struct Findings {
    /// The gateway answers by itself, for this reason.
    pub fault: Option<Fault>,
    pub pin_found: Option<bool>,
    /// The session is bound to another client's certificate.
    pub foreign: bool,
    pub alias_found: Option<bool>,
    /// Whether the backends, asked for the session, said whose it is.
    pub owner_found: Option<bool>,
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
