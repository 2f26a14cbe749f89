//! The steps of a request that are the same whatever carries it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::{ArcSwap, Guard};
use gateway_core::fault::Fault;
use gateway_core::protocol::answer::AnswerHead;
use gateway_core::protocol::head::RequestHead;
use http::StatusCode;

use super::Gateway;
use super::arrival::Arrival;
use super::forwarding::Forwarding;
use super::login::Login;
use super::state::Exchange;
use crate::clock;
use crate::farm::Farm;
use crate::guard::Conn;

/// Each 1xx starts the wait for the answer anew, so there is an end to them.
const MAX_INTERIM: u8 = 100;

impl Gateway {
    pub fn farms(&self) -> &Arc<ArcSwap<Farm>> {
        &self.farm
    }

    /// The farm as it stands.
    pub fn farm(&self) -> Guard<Arc<Farm>> {
        self.farm.load()
    }

    /// A request is about to come.
    pub fn expect(&self) -> Exchange {
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut arrival = Arrival::new(self.farm.load_full(), id, clock::now(), clock::steady());
        arrival.running = Some(self.running.enter());
        Exchange::new(arrival)
    }

    /// Its head is here. From now on it owes one report, however it ends.
    pub fn arrive(
        &self,
        conn: Option<Arc<Conn>>,
        head: &Arc<RequestHead>,
        exchange: &mut Exchange,
    ) {
        exchange.owe_report(&self.reporter, head);
        exchange.arrival.conn = conn;
        if let Some(conn) = &exchange.arrival.conn {
            let forwarding = Forwarding::of(&exchange.arrival.farm.config.http);
            let (client, speaker) = forwarding.client(conn, head);
            exchange.arrival.client = client;
            exchange.admitted.login = Login::of(conn, speaker);
        }
        let listener = exchange.arrival.conn.as_ref().map_or(0, |conn| conn.listener);
        exchange.arrival.request = Some(self.reporter.metrics.request(listener));
        if let Some(conn) = &exchange.arrival.conn {
            conn.wait_for_body(exchange.arrival.farm.config.timeouts.client_body);
        }
    }

    /// So many bytes of the body have come, and are about to go on; `end` says that these are the
    /// last. Waits until the bandwidth allows for them.
    ///
    /// # Errors
    /// The body must not go on. The findings hold the fault.
    pub async fn body_came(
        &self,
        bytes: usize,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        exchange.attempt.bytes_in += bytes as u64;
        let came = exchange.attempt.bytes_in;
        let range = exchange.admitted.range;
        if range.is_some_and(|range| came > range.len() || (end && came < range.len())) {
            // Only a chunked body can differ from its range; the backend must not take it for
            // whole.
            exchange.findings.fault = Some(Fault::BadRequest);
            return Err(Fault::BadRequest);
        }
        self.keep_pace(bytes, end, exchange).await;
        if end {
            let whole = self.came_whole(exchange);
            whole.inspect_err(|fault| exchange.findings.fault = Some(*fault))?;
            let now = clock::steady();
            exchange.attempt.body_done = Some(now);
            let waits = exchange.answered.first_byte.is_none();
            if let Some(conn) = exchange.arrival.conn.as_ref().filter(|_| waits) {
                conn.expect_answer(now + exchange.attempt.patience);
            }
            self.unwatch(exchange);
        }
        Ok(())
    }

    /// Waits until the bandwidth allows for so many bytes of a body.
    pub async fn keep_pace(&self, bytes: usize, end: bool, exchange: &mut Exchange) {
        let Arrival { farm, conn, .. } = &exchange.arrival;
        let pace = &mut exchange.admitted.pace;
        self.bandwidth.wait(bytes, end, pace, &farm.config.limits, conn.as_deref()).await;
    }

    /// The rate at which the client of a request may send its body.
    pub fn begin_body(&self, exchange: &mut Exchange) {
        let Arrival { farm, client, .. } = &exchange.arrival;
        exchange.admitted.pace = self.bandwidth.of(*client, &farm.config.limits);
    }

    /// The head of an answer has come. False for a 1xx: another head follows.
    ///
    /// # Errors
    /// It does not go on. The findings hold the fault.
    pub fn answer_came(
        &self,
        response: &AnswerHead,
        exchange: &mut Exchange,
    ) -> Result<bool, Fault> {
        exchange.attempt.answer_began = true;
        // Nobody asked for a switch of protocols: an upgrade never reaches a backend.
        let mut legal = response.status != StatusCode::SWITCHING_PROTOCOLS;
        let interim = response.status.is_informational();
        if legal && interim {
            exchange.attempt.interim += 1;
            legal = exchange.attempt.interim <= MAX_INTERIM;
        }
        if !legal {
            exchange.findings.fault = Some(Fault::BackendAnswer);
            return Err(Fault::BackendAnswer);
        }
        if interim {
            return Ok(false);
        }
        let now = clock::steady();
        exchange.answered.first_byte = Some(now);
        if let Some(conn) = &exchange.arrival.conn {
            conn.expect_answer(now + exchange.attempt.patience);
        }
        Ok(true)
    }

    /// The fault to answer with when no answer came: what was found on the way counts before what
    /// the carrier says. `None` where nobody is left to be answered.
    pub fn fault_of_failure(&self, seen: Option<Fault>, exchange: &mut Exchange) -> Option<Fault> {
        let login = &exchange.admitted.login;
        if exchange.findings.fault == Some(Fault::LoginLost) && !login.is_behind_proxy() {
            // Its client is to see the end of the connection.
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
        self.note_silence(exchange, fault);
        Some(fault)
    }

    /// The answer that is about to be written is the last one on its connection: the process is
    /// about to end, and the next request belongs to another.
    pub fn is_leaving(&self) -> bool {
        self.farewell.is_leaving()
    }

    /// The request is over; `exchange.sent` says what its client got.
    pub async fn finish(&self, head: &RequestHead, exchange: &mut Exchange) {
        exchange.report();
        if exchange.answered.opened.is_some() {
            Box::pin(self.end_undelivered(head, exchange)).await;
        }
        let limits = &exchange.arrival.farm.config.limits;
        self.bandwidth.settle(&mut exchange.admitted.pace, limits);
        // The session's next request may come on another connection as soon as this one is over.
        exchange.admitted.turn = None;
        if let Some(conn) = &exchange.arrival.conn {
            conn.request_done();
        }
    }
}
