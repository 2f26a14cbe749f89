//! A Create-Session that its backend refuses goes to another one, before its client hears of it.
//!
//! What is refused by a broken server is accepted by the next; what all refuse, the client hears
//! from the last one, in its own words. Where the next ones cannot be reached, the client comes back
//! later: one of them may accept it. No Create is sent again once a session id has come.

use gateway_core::farm::{BackendId, Create, Directory, Folder};
use gateway_core::fault::Fault;
use gateway_core::protocol::{Ack, HResult, PacketType};
use gateway_core::routing::{Lookup, Refusal};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use super::{Ctx, Gateway, errors};
use crate::metrics::RefusedCreate;

/// Ends the exchange with a backend that refused: the next one has been chosen.
pub const GOES_ELSEWHERE: ErrorType = ErrorType::Custom("a Create goes to another backend");

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

impl Gateway {
    /// What counts of a packet as a Create.
    pub(super) fn create_of(&self, downstream: &Session, ctx: &Ctx) -> Create {
        let target = downstream.req_header().raw_path();
        Create {
            folder: Folder::of(target),
            directory: Directory::of(target),
            target: ctx.arrival.target.hash().0,
            client: ctx.arrival.counted_client(),
            without_body: !ctx.arrival.has_body,
        }
    }

    /// A Create goes to `backend`.
    pub(super) fn asks(&self, backend: BackendId, ctx: &mut Ctx) {
        ctx.admitted.opening = Some(self.sessions.opening(backend));
        if let Some(create) = &ctx.admitted.creating.create {
            ctx.admitted.creating.asking = Some(self.health.asks(
                backend,
                create,
                &ctx.arrival.farm.config.health.folder_rules(),
            ));
        }
    }

    /// Learns what the answer to a Create says of its backend.
    pub(super) fn judge_create(
        &self,
        downstream: &Session,
        response: &ResponseHeader,
        ack: &Ack<'_>,
        ctx: &mut Ctx,
    ) -> Follows {
        if ctx.admitted.kind != Some(PacketType::CreateSession) {
            return Follows::Answer;
        }
        if let Some(refusal) = Refusal::of(response, ack) {
            return self.refused(downstream, refusal, ctx);
        }
        ctx.admitted.creating.id_came = true;
        if let Some(asking) = ctx.admitted.creating.asking.take().filter(|_| ack.is_success()) {
            asking.accepted(&ctx.admitted.creating.refusers.signs());
        }
        Follows::Answer
    }

    /// A server that has no room for a Fragment has none for the next upload either.
    pub(super) fn judge_disk(
        &self,
        downstream: &Session,
        ack: &Ack<'_>,
        backend: BackendId,
        ctx: &Ctx,
    ) {
        let full = ack.error.is_some_and(HResult::is_disk_full) && !ack.status.is_success();
        if full && ctx.admitted.kind != Some(PacketType::CreateSession) {
            self.health.full(
                backend,
                &self.create_of(downstream, ctx),
                &ctx.arrival.farm.config.health.folder_rules(),
            );
        }
    }

    /// Whether a Create whose exchange failed goes to another backend.
    pub(super) fn outlives(&self, downstream: &Session, error: &Error, ctx: &mut Ctx) -> bool {
        if *error.etype() == GOES_ELSEWHERE {
            return true;
        }
        let conn = ctx.arrival.conn.as_ref();
        let ours = conn.is_some_and(|conn| {
            conn.is_answer_overdue() || conn.has_stalled() || conn.malformed_body().is_some()
        });
        let fault = ctx.findings.fault.or_else(|| errors::fault(error));
        // What was refused here, or has not come.
        if ours || !matches!(fault, Some(Fault::BackendFailed | Fault::BackendAnswer)) {
            return false;
        }
        let stale = ctx.attempt.reused && errors::died_silently(error);
        self.refused(downstream, Refusal::without_answer(stale), ctx) == Follows::Elsewhere
    }

    fn refused(&self, downstream: &Session, refusal: Refusal, ctx: &mut Ctx) -> Follows {
        let Some(backend) = ctx.admitted.backend.filter(|_| !ctx.admitted.creating.id_came) else {
            return Follows::Answer;
        };
        if let Some(asking) = ctx.admitted.creating.asking.take() {
            asking.refused(refusal.sign.is_some());
        } else {
            // It was judged by its answer.
            return Follows::Answer;
        }
        ctx.admitted.creating.refusers.note(backend, refusal);
        let whole = !ctx.arrival.has_body
            || (ctx.attempt.body_done.is_some() && !downstream.as_ref().retry_buffer_truncated());
        let refusers = &ctx.admitted.creating.refusers;
        let bound = ctx.admitted.login.bound;
        let may =
            ctx.admitted.kind.is_some_and(|kind| refusers.lets_go_elsewhere(kind, bound, whole));
        let moves = may && self.choose_another(downstream, backend, ctx);
        let result = if moves { RefusedCreate::Moved } else { RefusedCreate::Final };
        self.reporter.metrics.refused_create(result);
        if moves {
            ctx.admitted.creating.chosen = true;
            ctx.begin_anew();
            Follows::Elsewhere
        } else if may && !ctx.admitted.creating.refusers.include_all(&ctx.attempt.avoid) {
            Follows::Later
        } else {
            Follows::Answer
        }
    }

    /// Chooses the backend of the next try, if there is one.
    fn choose_another(&self, downstream: &Session, refuser: BackendId, ctx: &mut Ctx) -> bool {
        let Some(packet) = ctx.admitted.packet.clone() else { return false };
        ctx.attempt.avoid.push(refuser);
        let alias = self.alias_of(downstream.req_header(), ctx).unwrap_or_default();
        self.decide(&packet, &Lookup::NotAsked, ctx, alias).is_ok()
    }
}
