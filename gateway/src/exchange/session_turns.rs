//! The turn of a session, from a packet's arrival to its answer.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::passage::Edit;
use gateway_core::protocol::{Ack, RequestPacket, SessionKey, login};
use gateway_core::protocol::{Fields, headers};
use gateway_core::routing::ownership::{self, Identity};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::clock;
use crate::sessions::{Elsewhere, Sessions};

use super::Exchange;
use super::turns::{Entered, SharedAnswer, SharedOutcome, Turn, TurnRequest, Turns};

/// Other processes say nothing when an end is over, so it is looked for this often.
const STEP: Duration = Duration::from_millis(50);

/// Has packets take the turns of their sessions, here and beside other processes on the store.
pub(super) struct SessionTurns {
    pub turns: Arc<Turns>,
    pub sessions: Arc<Sessions>,
}

impl SessionTurns {
    /// The session's turn, if no request has it or waits for it. Beside other processes on the store
    /// there is more to wait for.
    pub fn try_take(
        &self,
        head: &RequestHead,
        packet: &RequestPacket,
        key: &SessionKey,
        exchange: &Exchange,
    ) -> Option<Turn> {
        if self.sessions.follows_others() {
            return None;
        }
        self.turns.try_enter(key, request(head, packet, exchange))
    }

    /// A packet that has the turn and no body goes out as soon as it may.
    pub fn begin(&self, exchange: &mut Exchange) -> Result<(), Fault> {
        if exchange.arrival.has_body { Ok(()) } else { self.lock_end(exchange) }
    }

    /// Takes the session's turn, or returns what the same packet was answered that came before.
    pub async fn take(
        &self,
        head: &RequestHead,
        packet: &RequestPacket,
        key: &SessionKey,
        exchange: &mut Exchange,
    ) -> Result<Option<Arc<SharedAnswer>>, Fault> {
        let request = request(head, packet, exchange);
        let patience = request.patience;
        match self.turns.enter(key, request).await {
            Ok(Entered::Turn(turn)) => {
                let turn = exchange.admitted.turn.insert(turn);
                if self.sessions.follows_others() {
                    Box::pin(self.wait_for_others(key, turn, patience)).await?;
                }
                self.begin(exchange)?;
                Ok(None)
            }
            Ok(Entered::Joined(SharedOutcome::End)) => Err(Fault::AlreadyEnded),
            Ok(Entered::Joined(SharedOutcome::Answer(answer))) => Ok(Some(answer)),
            Err(_) => Err(Fault::Superseded),
        }
    }

    /// The last byte of the body has come. From here on no newer request cancels one that must not
    /// reach its server twice.
    pub fn came_whole(&self, exchange: &mut Exchange) -> Result<(), Fault> {
        let called_off = exchange.admitted.turn.as_ref().is_some_and(|turn| !turn.came_whole());
        if called_off || self.lock_end(exchange).is_err() {
            return Err(Fault::Superseded);
        }
        Ok(())
    }

    /// Waits until no other process on the store has an end of the session under way, and learns
    /// what became of it.
    async fn wait_for_others(
        &self,
        key: &SessionKey,
        turn: &Turn,
        patience: Duration,
    ) -> Result<(), Fault> {
        let until = clock::stopwatch() + patience;
        let mut waited = false;
        while self.sessions.is_ending_elsewhere(key) {
            if turn.is_cancelled() || clock::stopwatch() >= until {
                return Err(Fault::Superseded);
            }
            waited = true;
            tokio::time::sleep(STEP).await;
        }
        // It may have ended a moment ago, and an end must not go out on old knowledge.
        let ends = turn.identity().is_some();
        let read = !(waited || ends) || self.sessions.catch_up().await;
        if waited && !read { Err(Fault::StoreDown) } else { Ok(()) }
    }

    /// Tells other processes of an end that goes out from here. An error if one of them was quicker.
    fn lock_end(&self, exchange: &mut Exchange) -> Result<(), Fault> {
        let (Some(turn), Some(key)) = (&mut exchange.admitted.turn, &exchange.admitted.key) else {
            return Ok(());
        };
        if turn.identity().is_none() || turn.lock.is_some() {
            return Ok(());
        }
        match self.sessions.lock_end(key) {
            Ok(lock) => turn.lock = lock,
            Err(Elsewhere) if self.sessions.follows_others() => return Err(Fault::Superseded),
            // Nobody is known to serve beside this process.
            Err(Elsewhere) => {}
        }
        Ok(())
    }
}

/// What those that have joined the packet get of its answer.
pub(super) fn shares(ack: &Ack<'_>, exchange: &Exchange) -> ownership::Shared {
    let packet = exchange.admitted.turn.as_ref().and_then(|turn| turn.identity());
    packet.map_or(ownership::Shared::Nothing, |packet| {
        ownership::shared(
            packet,
            ack,
            exchange.admitted.login.bound || exchange.admitted.login.once,
        )
    })
}

/// Gives it to them. `edits` make the answer what its own client gets.
pub fn share(what: ownership::Shared, response: &AnswerHead, edits: &[Edit], exchange: &Exchange) {
    let Some(turn) = &exchange.admitted.turn else { return };
    match what {
        ownership::Shared::Nothing => {}
        ownership::Shared::End => turn.share(SharedOutcome::End),
        ownership::Shared::Answer => {
            let mut map = HeaderMap::new();
            for (_, name, value) in response.all() {
                let name = HeaderName::from_bytes(name).ok().filter(is_of_protocol);
                if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                    map.append(name, value);
                }
            }
            edits.iter().for_each(|edit| edit.clone().apply_to(&mut map));
            let fields = map.iter().filter(|(name, _)| is_of_protocol(name));
            let fields = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
            turn.share(SharedOutcome::Answer(Arc::new(SharedAnswer {
                status: response.status,
                fields,
            })));
        }
    }
}

fn request(head: &RequestHead, packet: &RequestPacket, exchange: &Exchange) -> TurnRequest {
    let patience = exchange.arrival.farm.config.timeouts.answer_long;
    let identity = identity(head, packet, exchange);
    let (conn, whole) = (exchange.arrival.conn.clone(), !exchange.arrival.has_body);
    TurnRequest { conn, identity, whole, patience }
}

fn identity(head: &RequestHead, packet: &RequestPacket, exchange: &Exchange) -> Option<Identity> {
    let credentials = || head.values(&headers::AUTHORIZATION);
    let logs_in = || credentials().any(login::binds);
    // Without bound connections no other packet has its login.
    let bound_connections = exchange
        .admitted
        .login
        .bound_connections
        .as_ref()
        .map(|bound_connections| bound_connections.id);
    let connection = bound_connections.or_else(|| logs_in().then_some(exchange.arrival.id));
    Identity::of(
        packet,
        exchange.arrival.target,
        exchange.arrival.subject(),
        credentials(),
        connection,
    )
}

fn is_of_protocol(name: &HeaderName) -> bool {
    name.as_str().starts_with("bits-")
}

#[cfg(test)]
#[path = "session_turns_tests.rs"]
mod tests;
