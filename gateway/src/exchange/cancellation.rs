//! Sessions that no client will use any more: those that were opened for nobody (`orphans`), and
//! those whose file is refused for its size. The client of the latter knows of its session, and hears
//! at the same moment that nothing will come of it.

use std::sync::Arc;

use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::{SessionId, headers, latin1};
use gateway_core::routing::ownership::ended_by_refusal;
use gateway_core::session::EndReason;
use gateway_core::session::opening::is_orphan;
use http::HeaderValue;

use super::Exchange;
use super::lookup::{find, look_up};
use super::orphans::{Orphan, Orphans};
use super::report::Reporter;
use super::session_turns::SessionTurns;
use crate::base::clock;
use crate::exchange::forwarding::told_with;
use crate::farm::backend_client::{BackendClient, BackendRequest};
use crate::sessions::{Place, Sessions};
use crate::telemetry::metrics::OrphanResult;

/// Has sessions cancelled that no client will use.
pub(super) struct Cancellation {
    pub sessions: Arc<Sessions>,
    pub reporter: Arc<Reporter>,
    pub turns: Arc<SessionTurns>,
    pub client: Arc<BackendClient>,
    pub orphans: Orphans,
}

impl Cancellation {
    /// The session was opened, and its client hears of something else. `place` is the one that it
    /// has.
    pub fn orphan(&self, head: &RequestHead, exchange: &Exchange, id: &str, place: Option<Place>) {
        let Some(backend) = exchange.admitted.backend else { return };
        let parsed = SessionId::parse(id);
        let taken = parsed.as_ref().and_then(|id| self.sessions.holder(backend, id.key()));
        if taken.is_some() {
            // The backend gave the id out twice, and somebody uploads under it.
            return;
        }
        // Under an id that is none, nobody knows what the backend would cancel.
        let http = &exchange.arrival.farm.config.http;
        let known = parsed.and_then(|id| {
            let value = HeaderValue::from_str(id.as_str()).ok()?;
            Some((
                id.key().clone(),
                BackendRequest::of(
                    head,
                    value,
                    told_with(head, exchange.arrival.conn.as_deref(), http),
                )?,
            ))
        });
        if self.orphans.try_send(Orphan { backend, known, _place: place }).is_err() {
            self.reporter.orphaned(backend, OrphanResult::Dropped);
        }
    }

    /// The file is too large for this gateway, so the session waits for nothing: its client gives up
    /// without a word. It ends before the client hears of that, or it could open the next one
    /// under the same id meanwhile.
    ///
    /// Only one that surely has no byte yet: a limit that was lowered must not cost what is there.
    /// Where the backend cannot be told, the pin stays, and leads the client's own Cancel there.
    pub async fn end_refused(&self, head: &RequestHead, exchange: &mut Exchange) {
        let Some(key) = exchange.admitted.key.clone() else { return };
        let Some(range) = exchange.admitted.range() else { return };
        // Whether it is untouched is known only behind the request under way.
        if ended_by_refusal(
            &range,
            &look_up(&self.sessions, exchange).await,
            exchange.arrival.target,
            true,
        )
        .is_none()
        {
            return;
        }
        // The request under way may bring bytes, or the end.
        let Some(packet) = exchange.admitted.packet.clone() else { return };
        if !matches!(self.turns.take(head, &packet, &key, exchange).await, Ok(None)) {
            return;
        }
        let found = find(&self.sessions, Some(&key), &exchange.arrival);
        let untouched = self.sessions.is_untouched(&key);
        let Some(pin) = ended_by_refusal(&range, &found, exchange.arrival.target, untouched) else {
            return;
        };
        let farm = Arc::clone(&exchange.arrival.farm);
        if farm.view.backend(pin.backend).is_none_or(|backend| !backend.is_reachable()) {
            return;
        }

        let id = match &pin.backend_session {
            Some(id) => latin1::encode(id).and_then(|id| HeaderValue::from_bytes(&id).ok()),
            None => head.value(&headers::SESSION_ID),
        };
        let http = &farm.config.http;
        let request = id.and_then(|id| {
            BackendRequest::of(head, id, told_with(head, exchange.arrival.conn.as_deref(), http))
        });
        let Some(request) = request else { return };
        let onward = pin.binding.onward(exchange.arrival.target, head.target());
        let request = request.spelled(onward.as_deref());
        let result = self.client.cancel(&request, &farm, pin.backend).await;
        self.reporter.orphaned(pin.backend, result);
        if result != OrphanResult::Cancelled {
            return;
        }
        if let Some(ended) = self.sessions.unpin(&key, EndReason::Cancelled, clock::steady()).await
        {
            self.reporter.ended(&ended, Some((&exchange.arrival, head.target())));
        }
    }

    /// Called when the request is over.
    pub async fn cancel_undelivered(&self, head: &RequestHead, exchange: &mut Exchange) {
        let Some(opened) = exchange.answered.opened.take() else { return };
        let written = exchange.arrival.conn.as_ref().is_none_or(|conn| conn.has_answered());
        // Whatever failed behind it: only another answer in its place takes an Ack back.
        let refused = exchange.sent.status.is_some_and(|status| !(200..300).contains(&status));
        if !is_orphan(written, refused) {
            return;
        }
        // Before the session leaves the table, or its place would be somebody else's.
        let place = exchange.admitted.key.as_ref().and_then(|key| self.sessions.hold_place(key));
        if let Some(key) = &exchange.admitted.key
            && let Some(ended) =
                self.sessions.unpin(key, EndReason::Cancelled, clock::steady()).await
        {
            self.reporter.ended(&ended, None);
        }
        self.orphan(head, exchange, &opened, place);
    }
}

#[cfg(test)]
#[path = "cancellation_tests.rs"]
mod tests;
