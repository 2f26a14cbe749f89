//! Sessions that end by a request: out of the table, remembered, and told of.

use std::sync::Arc;

use gateway_core::protocol::head::RequestHead;
use gateway_core::session::EndReason;

use super::Exchange;
use super::deliveries::Deliveries;
use super::report::Reporter;
use super::told::Loss;
use crate::base::clock;
use crate::sessions::Sessions;

/// Ends sessions.
pub(super) struct Ends {
    pub sessions: Arc<Sessions>,
    pub reporter: Arc<Reporter>,
    pub deliveries: Arc<Deliveries>,
}

impl Ends {
    /// An end that came without a pin is remembered like any.
    pub async fn end(&self, reason: EndReason, head: &RequestHead, exchange: &Exchange) {
        let Some(key) = &exchange.admitted.key else { return };
        if let (EndReason::Closed, Some(backend)) = (reason, exchange.admitted.backend) {
            self.deliveries.note(head.target(), backend);
        }
        let steady = clock::steady();
        if let Some(ended) = self.sessions.unpin(key, reason, steady).await {
            self.reporter.ended(&ended, Some((&exchange.arrival, head.target())));
            if reason == EndReason::Lost {
                self.reporter.lost(&ended, Loss::NotFound);
            }
        } else if let Some(backend) = exchange.admitted.backend {
            let pin = exchange.arrival.pin(backend, None);
            self.sessions.remember_end(key, &pin, reason, steady).await;
        }
    }

    /// Ends the pin to a backend that was given up, or does not have the session.
    pub async fn end_as_lost(&self, loss: Loss, head: &RequestHead, exchange: &Exchange) {
        let Some(key) = &exchange.admitted.key else { return };
        if let Some(ended) = self.sessions.unpin(key, EndReason::Lost, clock::steady()).await {
            self.reporter.ended(&ended, Some((&exchange.arrival, head.target())));
            self.reporter.lost(&ended, loss);
        }
    }
}
