//! How a try at a backend can fail, whatever carries its bytes.

use gateway_core::farm::Answer;
use gateway_core::fault::Fault;
use gateway_core::protocol::PacketType;

use super::Exchange;
use crate::farm::health::FarmHealth;
use crate::telemetry::metrics::ConnectError;

/// No connection to a backend came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectFailure {
    pub error: ConnectError,
    /// It failed at the backend, not for want of descriptors or ports here: running out of those
    /// must not take the farm down.
    pub by_backend: bool,
    /// The backend showed a certificate that is not to be trusted. No wait makes it better, and it
    /// is nothing that a client should be told to wait for.
    pub distrust: bool,
    /// As many connections to the backend are open as may be.
    pub busy: bool,
}

/// A connection ended, or was given up, before its request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeFailure {
    /// The connection had served a request before.
    pub reused: bool,
    /// It died before a byte of an answer came. A backend that only takes its time, or has begun to
    /// answer, has the packet and may be working on it.
    pub died_silently: bool,
    /// Head and body can be sent once more: all of them are still at hand.
    pub replayable: bool,
    /// What its client is told, if nobody finds a better answer; `None` where the client has gone.
    pub fault: Option<Fault>,
}

/// The fault to answer with when no answer came: what was found on the way counts before what
/// the carrier says. `None` where nobody is left to be answered.
pub(super) fn fault_of_failure(
    seen: Option<Fault>,
    health: &FarmHealth,
    exchange: &mut Exchange,
) -> Option<Fault> {
    if exchange.ends_unanswered() {
        return None;
    }
    let conn = exchange.arrival.conn.as_ref();
    let found = conn.and_then(|conn| {
        let malformed = conn.malformed_body().map(|_| Fault::BadRequest);
        let overdue = || conn.is_answer_overdue().then_some(Fault::BackendTimeout);
        let stalled = || conn.has_stalled().then_some(Fault::ClientStalled);
        malformed.or_else(overdue).or_else(stalled)
    });
    let fault = exchange.findings.fault.or(found).or(seen)?;
    exchange.findings.fault = Some(fault);
    exchange.admitted.place = None;
    note_silence(health, fault, exchange);
    Some(fault)
}

/// A backend that takes connections and answers nothing gets no new sessions for a while. Only
/// packets tell that no application has a part in: a slow one must not look like a dead server.
/// Of Creates [`gateway_core::farm::folders`] knows more.
fn note_silence(health: &FarmHealth, fault: Fault, exchange: &Exchange) {
    let simple =
        matches!(exchange.admitted.kind(), Some(PacketType::Ping | PacketType::CreateSession));
    if let Some(backend) =
        exchange.admitted.backend.filter(|_| simple && fault == Fault::BackendTimeout)
    {
        health.answered(backend, Answer::Silent, || exchange.arrival.counted_client());
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
