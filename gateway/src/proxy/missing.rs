//! Sessions of backends that are not part of the farm.

use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;

use super::{Ctx, Gateway};
use crate::clock;

impl Gateway {
    /// A backend that the configuration does not name may come back to it, with the half file: until
    /// it was missing for too long, its sessions wait as if it were down.
    pub(super) async fn missing(&self, owner: BackendId, ctx: &mut Ctx) -> Result<(), Fault> {
        let away = clock::steady().saturating_sub(self.begun);
        if away >= ctx.farm.config.failover.restart_after {
            return self.give_up(owner, ctx).await;
        }
        Err(Fault::BackendDown)
    }
}
