//! What kind of farm a seed stands for.

use gateway_core::routing::{Placement, Policy, UnknownSession};

use crate::rng::Rng;

/// Where pins are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// One table that all gateways share and no restart loses.
    Durable,
    /// The same, and at times it cannot be asked.
    DurableWithOutages,
    /// Each gateway has its own and loses it when it restarts.
    Lossy,
}

/// How servers name their sessions. No server names two of its own alike (MC-BUP 2.2.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    Unique,
    /// Every server counts from 1, so servers name theirs alike.
    Colliding,
    /// Names that must not be shown to clients.
    Illegal,
}

/// Which backends announce a Host-Id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostIds {
    All,
    /// The first ones only, so that clients may remember the alias of another backend.
    Some,
    None,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub servers: usize,
    pub gateways: usize,
    pub clients: usize,
    pub tables: Tables,
    pub ids: Ids,
    pub host_ids: HostIds,
    /// `sessions.id = "minted"`.
    pub minted: bool,
    pub policy: Policy,
    /// Of requests and Acks, in percent.
    pub loss: u32,
    /// How much of all that happens happens to the farm, in percent.
    pub trouble: u32,
}

impl Scenario {
    /// Some combinations promise less than the invariants ask for, and are left out:
    ///
    /// - Colliding ids with lossy tables. A table that forgot who has an id gives it away again,
    ///   and a pin outranks the alias by which the first owner's packets come.
    /// - Outages with ids that the backend does not know, or with aliases of other backends. Only
    ///   the table knows better than the alias.
    pub fn of(rng: &mut Rng) -> Self {
        let tables = rng.pick(&[
            Tables::Durable,
            Tables::Durable,
            Tables::DurableWithOutages,
            Tables::Lossy,
        ]);
        let ids = match tables {
            Tables::Durable => rng.pick(&[Ids::Unique, Ids::Colliding, Ids::Illegal]),
            Tables::DurableWithOutages => Ids::Unique,
            Tables::Lossy => rng.pick(&[Ids::Unique, Ids::Unique, Ids::Illegal]),
        };
        let host_ids = match tables {
            Tables::Durable => rng.pick(&[HostIds::All, HostIds::Some, HostIds::None]),
            _ => rng.pick(&[HostIds::All, HostIds::None]),
        };
        let placement = rng.pick(&Placement::ALL);
        // Only a table that is lost makes anybody ask.
        let unknown = match tables {
            Tables::Lossy => {
                rng.pick(&[UnknownSession::Ask, UnknownSession::Ask, UnknownSession::Wait])
            }
            _ => rng.pick(&[UnknownSession::Ask, UnknownSession::Restart, UnknownSession::Wait]),
        };
        Self {
            servers: 1 + rng.below(5),
            gateways: 1 + rng.below(3),
            clients: 1 + rng.below(12),
            tables,
            ids,
            host_ids,
            minted: tables != Tables::DurableWithOutages && rng.chance(25),
            policy: Policy { placement, unknown },
            loss: rng.pick(&[0, 2, 5, 15]),
            trouble: rng.pick(&[0, 2, 5, 15]),
        }
    }
}
