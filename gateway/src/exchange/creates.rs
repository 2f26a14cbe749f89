//! A Create-Session that its backend refuses goes to another one, before its client hears of it.
//!
//! What is refused by a broken server is accepted by the next; what all refuse, the client hears
//! from the last one, in its own words. Where the next ones cannot be reached, the client comes back
//! later: one of them may accept it. No Create is sent again once a session id has come.

use std::sync::Arc;

use gateway_core::farm::{BackendId, Create, Directory, Folder};
use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::{Ack, HResult, PacketType};
use gateway_core::routing::{Lookup, Refusal};

use super::Exchange;
use super::failure::ExchangeFailure;
use super::report::Reporter;
use super::router::{Router, follow};
use crate::farm::health::FarmHealth;
use crate::telemetry::metrics::RefusedCreate;

/// What follows from the answer of a backend to a Create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// Its client gets it.
    Answer,
    /// The Create goes to another backend, and the answer to no client.
    Elsewhere,
    /// The backend refuses, and another one could not be reached: the client comes back.
    Later,
}

/// Judges the answers to Creates, and what they say of their backends.
pub(super) struct Creates {
    pub health: FarmHealth,
    pub reporter: Arc<Reporter>,
    pub router: Arc<Router>,
}

impl Creates {
    /// Learns what the answer to a Create says of its backend.
    pub fn judge(
        &self,
        head: &RequestHead,
        response: &AnswerHead,
        ack: &Ack<'_>,
        exchange: &mut Exchange,
    ) -> Follows {
        if exchange.admitted.kind() != Some(PacketType::CreateSession) {
            return Follows::Answer;
        }
        if let Some(refusal) = Refusal::of(response, ack) {
            return self.refused(head, refusal, exchange);
        }
        exchange.admitted.creating.id_came = true;
        if let Some(asking) = exchange.admitted.creating.asking.take().filter(|_| ack.is_success())
        {
            asking.accepted(&exchange.admitted.creating.refusers.signs());
        }
        Follows::Answer
    }

    /// A server that has no room for a Fragment has none for the next upload either.
    pub fn judge_disk(
        &self,
        head: &RequestHead,
        ack: &Ack<'_>,
        backend: BackendId,
        exchange: &Exchange,
    ) {
        let full = ack.error.is_some_and(HResult::is_disk_full) && !ack.status.is_success();
        if full && exchange.admitted.kind() != Some(PacketType::CreateSession) {
            self.health.full(
                backend,
                &create_of(head, exchange),
                &exchange.arrival.farm.config.health.folder_rules(),
            );
        }
    }

    /// Whether a Create whose exchange failed goes to another backend.
    pub fn outlives(
        &self,
        head: &RequestHead,
        failure: ExchangeFailure,
        exchange: &mut Exchange,
    ) -> bool {
        let conn = exchange.arrival.conn.as_ref();
        let ours = conn.is_some_and(|conn| {
            conn.is_answer_overdue() || conn.has_stalled() || conn.malformed_body().is_some()
        });
        let fault = exchange.findings.fault.or(failure.fault);
        // What was refused here, or has not come.
        if ours || !matches!(fault, Some(Fault::BackendFailed | Fault::BackendAnswer)) {
            return false;
        }
        let stale = exchange.tries.reused && failure.died_silently;
        exchange.attempt.replayable = failure.replayable;
        self.refused(head, Refusal::without_answer(stale), exchange) == Follows::Elsewhere
    }

    fn refused(&self, head: &RequestHead, refusal: Refusal, exchange: &mut Exchange) -> Follows {
        let Some(backend) =
            exchange.admitted.backend.filter(|_| !exchange.admitted.creating.id_came)
        else {
            return Follows::Answer;
        };
        if let Some(asking) = exchange.admitted.creating.asking.take() {
            asking.refused(refusal.sign.is_some());
        } else {
            // It was judged by its answer.
            return Follows::Answer;
        }
        exchange.admitted.creating.refusers.note(backend, refusal);
        let whole = !exchange.arrival.has_body
            || (exchange.attempt.body_done.is_some() && exchange.attempt.replayable);
        let refusers = &exchange.admitted.creating.refusers;
        let bound = exchange.admitted.login.bound;
        let may = exchange
            .admitted
            .kind()
            .is_some_and(|kind| refusers.lets_go_elsewhere(kind, bound, whole));
        let moves = may && self.choose_another(head, backend, exchange);
        let result = if moves { RefusedCreate::Moved } else { RefusedCreate::Final };
        self.reporter.metrics.refused_create(result);
        if moves {
            exchange.admitted.creating.chosen = true;
            exchange.begin_anew();
            Follows::Elsewhere
        } else if may && !exchange.admitted.creating.refusers.include_all(&exchange.tries.avoid) {
            Follows::Later
        } else {
            Follows::Answer
        }
    }

    /// Chooses the backend of the next try, if there is one.
    fn choose_another(
        &self,
        head: &RequestHead,
        refuser: BackendId,
        exchange: &mut Exchange,
    ) -> bool {
        let Some(packet) = exchange.admitted.packet.clone() else { return false };
        exchange.tries.avoid.push(refuser);
        let alias = self.router.alias_of(head, exchange).unwrap_or_default();
        let decision = self.router.decide(&packet, &Lookup::NotAsked, exchange, alias);
        follow(decision, exchange).is_ok()
    }
}

/// What counts of a packet as a Create.
pub(super) fn create_of(head: &RequestHead, exchange: &Exchange) -> Create {
    let target = head.target();
    Create {
        folder: Folder::of(target),
        directory: Directory::of(target),
        target: exchange.arrival.target.hash().0,
        client: exchange.arrival.counted_client(),
        without_body: !exchange.arrival.has_body,
    }
}

#[cfg(test)]
#[path = "creates_tests.rs"]
mod tests;
