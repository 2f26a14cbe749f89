//! What the metrics learn of backends on the way of a request.

use gateway_core::farm::{Answer, BackendId};
use gateway_core::fault::Fault;
use gateway_core::protocol::PacketType;
use pingora::Error;

use crate::metrics::FailoverReason;

use super::errors::connect_error;
use super::{Ctx, Gateway};

impl Gateway {
    pub(super) fn note_connect_error(&self, backend: BackendId, error: &Error, moves_on: bool) {
        let metrics = &self.reporter.metrics;
        metrics.connect_error(backend, connect_error(error));
        if moves_on {
            metrics.failover(backend, FailoverReason::Connect);
        }
    }

    pub(super) fn note_connected(&self, backend: BackendId, ctx: &mut Ctx) {
        let metrics = &self.reporter.metrics;
        metrics.backend_connected(backend, ctx.attempt.reused);
        ctx.attempt.backend_request = Some(metrics.backend_request(backend));
    }

    pub(super) fn backend_name(&self, backend: BackendId) -> &str {
        self.reporter.name(backend)
    }

    /// A backend that takes connections and answers nothing gets no new sessions for a while. Only
    /// packets tell that no application has a part in: a slow one must not look like a dead server.
    /// Of Creates [`gateway_core::farm::folders`] knows more.
    pub(super) fn note_silence(&self, ctx: &Ctx, fault: Fault) {
        let simple =
            matches!(ctx.admitted.kind, Some(PacketType::Ping | PacketType::CreateSession));
        if let Some(backend) =
            ctx.admitted.backend.filter(|_| simple && fault == Fault::BackendTimeout)
        {
            self.health.answered(backend, Answer::Silent, || ctx.arrival.counted_client());
        }
    }

    pub(super) fn note_moved(&self, from: BackendId) {
        self.reporter.metrics.failover(from, FailoverReason::Connect);
    }

    pub(super) fn note_created(&self, backend: BackendId) {
        self.reporter.metrics.session_created(backend);
    }
}
