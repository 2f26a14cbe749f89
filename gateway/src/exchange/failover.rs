//! A packet whose owner does not serve it: the shell of [`gateway_core::routing::failover`].

use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::{BackendId, Reason};
use gateway_core::fault::Fault;
use gateway_core::protocol::head::RequestHead;
use gateway_core::routing::failover::Owner;
use gateway_core::routing::{Absence, Step};

use super::Exchange;
use super::ends::Ends;
use super::outages::Outages;
use super::router::{Denied, Router};
use super::told::Loss;
use crate::base::clock;
use crate::farm::health::FarmHealth;

/// A request that is held looks this often whether it still should be.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What became of a packet that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// Its owner may serve it by now.
    Again,
    /// Another backend has been chosen.
    Elsewhere,
}

/// Knows for how long each backend has been away, and carries out what follows for its packets.
pub(super) struct FailoverRunner {
    health: FarmHealth,
    outages: Outages,
    ends: Arc<Ends>,
    router: Arc<Router>,
    /// When it began, by the steady clock.
    begun: Duration,
}

impl FailoverRunner {
    pub fn new(health: FarmHealth, ends: Arc<Ends>, router: Arc<Router>) -> Self {
        Self { health, outages: Outages::default(), ends, router, begun: clock::steady() }
    }

    /// A connection to it came about.
    pub fn is_back(&self, backend: BackendId) {
        self.outages.over(backend);
    }

    /// What keeps the owner of a packet from serving it, if that is why it was decided so.
    pub fn absent(&self, owner: BackendId, fault: Fault) -> Option<Owner> {
        match fault {
            Fault::BackendDown => Some(Owner::Down(self.health.absence(owner))),
            Fault::BackendRemoved => {
                let missing = clock::steady().saturating_sub(self.begun);
                Some(Owner::Missing(Absence::of(missing, self.health.is_lost(owner))))
            }
            _ => None,
        }
    }

    /// The same where a connection to it has failed.
    pub fn refuses(&self, owner: BackendId, distrusted: bool, exchange: &Exchange) -> Owner {
        if distrusted {
            return Owner::Distrusted;
        }
        if self.health.state(owner).is_some_and(|state| state.reason == Reason::ProbesPass) {
            // The outage before is over; this one is too young for the probes to have seen.
            self.outages.over(owner);
        }
        let away = self.outages.failed(owner, clock::steady());
        let absence = Absence::of(away, self.health.is_lost(owner));
        Owner::Refuses { absence, tries: exchange.tries.count }
    }

    /// Does what the rule says. `changed` ends a wait before its time.
    pub async fn carry_out(
        &self,
        step: Step,
        owner: BackendId,
        changed: impl Future<Output = ()>,
        head: &RequestHead,
        exchange: &mut Exchange,
    ) -> Result<Went, Fault> {
        match step {
            Step::Wait(left) => {
                // In short waits, because a newer request of the session may come meanwhile.
                let _ = tokio::time::timeout(left.min(LOOK_AGAIN), changed).await;
                Ok(Went::Again)
            }
            Step::Later(fault) => Err(fault),
            Step::Restart => {
                self.ends.end_as_lost(Loss::GivenUp, head, exchange).await;
                Err(Fault::BackendGivenUp)
            }
            // The old pin goes when an Ack shows that the new backend has taken the session.
            Step::Reassign => {
                exchange.admitted.moved = true;
                exchange.tries.avoid.push(owner);
                self.router.decide_again(exchange).map_err(Denied::fault)?;
                Ok(Went::Elsewhere)
            }
        }
    }
}

#[cfg(test)]
#[path = "failover_tests.rs"]
mod tests;
