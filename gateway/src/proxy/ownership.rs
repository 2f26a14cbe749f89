//! The turn of a session, from a packet's arrival to its answer.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::fault::Fault;
use gateway_core::protocol::{Ack, RequestPacket, SessionKey, login};
use gateway_core::routing::ownership::{self, Identity};
use http::{HeaderName, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use crate::clock;
use crate::sessions::Elsewhere;

use super::head::expects_continue;
use super::{Ctx, Gateway};
use crate::exchange::arrival::Arrival;
use crate::exchange::turns::{Answer, Entered, Shared, Turn, TurnRequest};

/// Other processes say nothing when an end is over, so it is looked for this often.
const STEP: Duration = Duration::from_millis(50);

impl Gateway {
    /// Takes the session's turn, or returns what the same packet was answered that came before.
    pub(super) async fn take_turn(
        &self,
        downstream: &Session,
        packet: &RequestPacket,
        key: &SessionKey,
        ctx: &mut Ctx,
    ) -> Result<Option<Arc<Answer>>, Fault> {
        let patience = ctx.arrival.farm.config.timeouts.answer_long;
        let identity = identity(downstream, packet, ctx);
        let (conn, whole) = (ctx.arrival.conn.clone(), !ctx.arrival.has_body);
        let request = TurnRequest { conn, identity, whole, patience };
        match self.turns.enter(key, request).await {
            Ok(Entered::Turn(turn)) => {
                let turn = ctx.admitted.turn.insert(turn);
                if self.sessions.follows_others() {
                    self.wait_for_others(key, turn, patience).await?;
                }
                if !ctx.arrival.has_body {
                    self.lock_end(ctx)?;
                }
                Ok(None)
            }
            Ok(Entered::Joined(Shared::End)) => Err(Fault::AlreadyEnded),
            Ok(Entered::Joined(Shared::Answer(answer))) => Ok(Some(answer)),
            Err(_) => Err(Fault::Superseded),
        }
    }

    /// The last byte of the body has come. From here on no newer request cancels one that must not
    /// reach its server twice.
    pub(super) fn came_whole(&self, ctx: &mut Ctx) -> pingora::Result<()> {
        let called_off = ctx.admitted.turn.as_ref().is_some_and(|turn| !turn.came_whole());
        if called_off || self.lock_end(ctx).is_err() {
            ctx.findings.fault = Some(Fault::Superseded);
            return Err(Error::new(ErrorType::ConnectionClosed));
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
    fn lock_end(&self, ctx: &mut Ctx) -> Result<(), Fault> {
        let (Some(turn), Some(key)) = (&mut ctx.admitted.turn, &ctx.admitted.key) else {
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

    /// What those that have joined the packet get of its answer.
    pub(super) fn shares(&self, ack: &Ack<'_>, ctx: &Ctx) -> ownership::Shared {
        let packet = ctx.admitted.turn.as_ref().and_then(|turn| turn.identity());
        packet.map_or(ownership::Shared::Nothing, |packet| {
            ownership::shared(packet, ack, ctx.admitted.login.bound || ctx.admitted.login.once)
        })
    }

    /// Gives it to them. `response` is the answer as its own client gets it.
    pub(super) fn share(&self, what: ownership::Shared, response: &ResponseHeader, ctx: &Ctx) {
        let Some(turn) = &ctx.admitted.turn else { return };
        match what {
            ownership::Shared::Nothing => {}
            ownership::Shared::End => turn.share(Shared::End),
            ownership::Shared::Answer => {
                let fields = response.headers.iter().filter(|(name, _)| is_of_protocol(name));
                let fields = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
                turn.share(Shared::Answer(Arc::new(Answer { status: response.status, fields })));
            }
        }
    }

    /// Answers a final Fragment that came twice with the answer to the first. Its server has those
    /// bytes, so they are read and thrown away.
    pub(super) async fn answer_again(
        &self,
        downstream: &mut Session,
        ctx: &mut Ctx,
        answer: &Answer,
    ) -> pingora::Result<()> {
        if expects_continue(downstream) {
            // Its client sends no body unless it is told to.
            downstream.set_keepalive(None);
        } else {
            self.drain(downstream, ctx).await?;
        }
        let mut response = ResponseHeader::build(answer.status, Some(answer.fields.len() + 1))?;
        for (name, value) in &answer.fields {
            response.append_header(name.clone(), value.clone())?;
        }
        response.insert_header("Content-Length", "0")?;
        self.take_leave(downstream);
        downstream.write_response_header(Box::new(response), true).await
    }

    /// Reads the body under the limits that it would have on its way to a server.
    async fn drain(&self, downstream: &mut Session, ctx: &mut Ctx) -> pingora::Result<()> {
        ctx.admitted.pace = self.bandwidth.of(ctx.arrival.client, &ctx.arrival.farm.config.limits);
        loop {
            let read = downstream.read_request_body().await.map_err(Error::into_down)?;
            let Some(bytes) = read else { break };
            ctx.attempt.bytes_in += bytes.len() as u64;
            let Arrival { farm, conn, .. } = &ctx.arrival;
            let (pace, limits) = (&mut ctx.admitted.pace, &farm.config.limits);
            self.bandwidth.wait(bytes.len(), false, pace, limits, conn.as_deref()).await;
        }
        if ctx.admitted.range.is_some_and(|range| range.len() != ctx.attempt.bytes_in) {
            ctx.findings.fault = Some(Fault::BadRequest);
            return Err(Error::new(ErrorType::InvalidHTTPHeader).into_down());
        }
        Ok(())
    }
}

fn identity(downstream: &Session, packet: &RequestPacket, ctx: &Ctx) -> Option<Identity> {
    let credentials = downstream.req_header().headers.get_all(header::AUTHORIZATION);
    let logs_in = || credentials.iter().any(|value| login::binds(value.as_bytes()));
    // Without a bond yet, or ever, no other packet has its login.
    let bond = ctx.admitted.login.bond.as_ref().map(|bond| bond.key);
    let connection = bond.or_else(|| logs_in().then_some(ctx.arrival.id));
    Identity::of(packet, ctx.arrival.target, ctx.arrival.subject(), credentials, connection)
}

fn is_of_protocol(name: &HeaderName) -> bool {
    name.as_str().starts_with("bits-")
}
