//! The bodies of requests on their way to backends: counted, paced, and whole at their end.

use std::sync::Arc;

use gateway_core::fault::Fault;
use gateway_core::session::live::Wait;

use super::Exchange;
use super::arrival::Arrival;
use super::bandwidth::Bandwidth;
use super::report::Reporter;
use super::session_turns::SessionTurns;
use crate::base::clock;

/// Lets bodies through.
pub(super) struct Bodies {
    bandwidth: Bandwidth,
    turns: Arc<SessionTurns>,
    reporter: Arc<Reporter>,
}

impl Bodies {
    pub fn new(turns: Arc<SessionTurns>, reporter: Arc<Reporter>) -> Self {
        Self { bandwidth: Bandwidth::default(), turns, reporter }
    }

    /// The rate at which the client of a request may send its body.
    pub fn begin(&self, exchange: &mut Exchange) {
        let Arrival { farm, client, .. } = &exchange.arrival;
        exchange.admitted.pace = self.bandwidth.of(*client, &farm.config.limits);
    }

    /// So many bytes of the body have come, and are about to go on; `end` says that these are the
    /// last. Waits until the bandwidth allows for them.
    ///
    /// # Errors
    /// The body must not go on. The findings hold the fault.
    pub async fn came(
        &self,
        bytes: usize,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        exchange.attempt.bytes_in += bytes as u64;
        let came = exchange.attempt.bytes_in;
        let range = exchange.admitted.range();
        if let Some(live) = &exchange.admitted.live {
            live.came(range.map_or(came, |range| came.min(range.len())));
        }
        if !end {
            exchange.waits_for(Wait::Client);
            self.reporter.count_body(exchange);
        }
        if range.is_some_and(|range| came > range.len() || (end && came < range.len())) {
            // Only a chunked body can differ from its range; the backend must not take it for
            // whole.
            exchange.findings.fault = Some(Fault::BadRequest);
            return Err(Fault::BadRequest);
        }
        self.keep_pace(bytes, end, exchange).await;
        if end {
            let whole = self.turns.came_whole(exchange);
            whole.inspect_err(|fault| exchange.findings.fault = Some(*fault))?;
            let now = clock::steady();
            exchange.attempt.body_done = Some(now);
            exchange.waits_for(Wait::Answer);
            let waits = exchange.answered.first_byte.is_none();
            if let Some(conn) = exchange.arrival.conn.as_ref().filter(|_| waits) {
                conn.expect_answer(now + exchange.attempt.patience);
            }
        }
        Ok(())
    }

    /// Waits until the bandwidth allows for so many bytes of a body.
    pub async fn keep_pace(&self, bytes: usize, end: bool, exchange: &mut Exchange) {
        let Arrival { farm, conn, .. } = &exchange.arrival;
        let pace = &mut exchange.admitted.pace;
        self.bandwidth.wait(bytes, end, pace, &farm.config.limits, conn.as_deref()).await;
    }

    /// The request is over: what it did not use of its share is given back.
    pub fn end(&self, exchange: &mut Exchange) {
        let limits = &exchange.arrival.farm.config.limits;
        self.bandwidth.settle(&mut exchange.admitted.pace, limits);
    }
}

#[cfg(test)]
#[path = "bodies_tests.rs"]
mod tests;
