//! Sessions of backends that are not part of the farm.

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::routing::{Absence, Step};

use super::admit::names_session;
use super::{Ctx, Gateway};
use crate::clock;

impl Gateway {
    /// A backend that the configuration does not name may come back to it, with the half file: until
    /// it was missing for too long, or an operator says that it is lost, its sessions wait as if it
    /// were down. There is nothing that a packet could wait for in the gateway.
    pub(super) async fn missing(&self, owner: BackendId, ctx: &mut Ctx) -> Result<(), Fault> {
        let absence = match self.health.is_lost(owner) {
            true => Absence::Lost,
            false => Absence::For(clock::steady().saturating_sub(self.begun)),
        };
        let failover = ctx.farm.config.failover;
        match failover.step(absence, failover.hold, names_session(ctx)) {
            Step::Restart => self.start_over(ctx).await,
            Step::Reassign => self.move_on(owner, ctx),
            Step::Later | Step::Wait(_) => Err(Fault::BackendDown),
        }
    }
}
