//! What the metrics learn of backends on the way of a request.

use gateway_core::farm::{Answer, BackendId};
use gateway_core::fault::Fault;
use gateway_core::protocol::PacketType;

use super::{Exchange, Gateway};
use crate::metrics::{ConnectError, FailoverReason};

impl Gateway {
    pub(super) fn note_connect_error(
        &self,
        backend: BackendId,
        error: ConnectError,
        moves_on: bool,
    ) {
        let metrics = &self.reporter.metrics;
        metrics.connect_error(backend, error);
        if moves_on {
            metrics.failover(backend, FailoverReason::Connect);
        }
    }

    pub(super) fn note_connected(&self, backend: BackendId, exchange: &mut Exchange) {
        let metrics = &self.reporter.metrics;
        metrics.backend_connected(backend, exchange.attempt.reused);
        exchange.attempt.backend_request = Some(metrics.backend_request(backend));
    }

    pub(super) fn backend_name(&self, backend: BackendId) -> &str {
        self.reporter.name(backend)
    }

    /// A backend that takes connections and answers nothing gets no new sessions for a while. Only
    /// packets tell that no application has a part in: a slow one must not look like a dead server.
    /// Of Creates [`gateway_core::farm::folders`] knows more.
    pub fn note_silence(&self, exchange: &Exchange, fault: Fault) {
        let simple =
            matches!(exchange.admitted.kind, Some(PacketType::Ping | PacketType::CreateSession));
        if let Some(backend) =
            exchange.admitted.backend.filter(|_| simple && fault == Fault::BackendTimeout)
        {
            self.health.answered(backend, Answer::Silent, || exchange.arrival.counted_client());
        }
    }

    pub(super) fn note_moved(&self, from: BackendId) {
        self.reporter.metrics.failover(from, FailoverReason::Connect);
    }

    pub(super) fn note_created(&self, backend: BackendId) {
        self.reporter.metrics.session_created(backend);
    }
}
