//! What kind of farm a seed stands for.

use std::time::Duration;

pub use gateway_core::routing::Then;
use gateway_core::routing::{self, Placement, Policy, UnknownSession};
use gateway_core::session::limits::Sizes;
use gateway_core::session::lost_close::LostClose;

use crate::disk::Sync;
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
    /// One gateway with a table in memory and a disk behind it. Only here backends are given up,
    /// clocks jump, and disks and power fail.
    Disk(Sync),
}

/// `[failover]`, in steps.
#[derive(Debug, Clone, Copy)]
pub struct Failover {
    /// Whether requests wait for their backend at all.
    pub holds: bool,
    /// Until its sessions start over, or move.
    pub restart_after: u64,
    pub then: Then,
}

impl Failover {
    /// As the core has it, with a second for each step.
    pub fn rule(self) -> routing::Failover {
        let patience = Duration::from_secs(self.restart_after);
        let hold = if self.holds { Duration::from_secs(1) } else { Duration::ZERO };
        let (restart_after, reassign_after) = (patience, patience);
        routing::Failover { hold, restart_after, reassign_after, then: self.then }
    }
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
    /// `sessions.shared_farm = true`: each gateway knows that others open sessions too.
    pub shared_farm: bool,
    /// `sessions.bind = "certificate"`.
    pub binds: bool,
    /// `limits.fragment` and `limits.upload`.
    pub sizes: Sizes,
    /// `sessions.lost_close`.
    pub lost_close: LostClose,
    /// Servers that lose their disk come back from a backup, and give out their last ids again.
    pub reissues: bool,
    pub policy: Policy,
    pub failover: Failover,
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
    /// - Colliding ids where pins are dropped, for the same reason; and where servers share one
    ///   storage, for there they would overwrite each other.
    /// - Outages with ids that the backend does not know, or with aliases of other backends. Only
    ///   the table knows better than the alias.
    pub fn of(rng: &mut Rng) -> Self {
        let tables = rng.pick(&[
            Tables::Durable,
            Tables::Durable,
            Tables::DurableWithOutages,
            Tables::Lossy,
            Tables::Disk(Sync::Power),
            Tables::Disk(Sync::Power),
            Tables::Disk(Sync::Crash),
        ]);
        let on_disk = matches!(tables, Tables::Disk(_));
        let then = rng.pick(&[Then::Restart, Then::Reassign]);
        let failover = match on_disk {
            true => {
                let restart_after = rng.pick(&[0, 40, 200]);
                Failover { holds: rng.chance(70), restart_after, then }
            }
            false => Failover { holds: false, restart_after: u64::MAX, then: Then::Restart },
        };
        let shared_farm = tables == Tables::Lossy && rng.chance(60);
        let reissues = tables == Tables::Durable && rng.chance(60);
        let ids = match tables {
            // Those that count name a session by a number that they have used before.
            _ if reissues => rng.pick(&[Ids::Colliding, Ids::Illegal]),
            // No other gateway knows an id that one of them made.
            _ if shared_farm => Ids::Unique,
            Tables::Durable => rng.pick(&[Ids::Unique, Ids::Colliding, Ids::Illegal]),
            Tables::DurableWithOutages => Ids::Unique,
            Tables::Disk(_) if failover.then == Then::Reassign => Ids::Unique,
            Tables::Lossy | Tables::Disk(_) => rng.pick(&[Ids::Unique, Ids::Unique, Ids::Illegal]),
        };
        let host_ids = match tables {
            _ if shared_farm => rng.pick(&[HostIds::All, HostIds::None, HostIds::None]),
            Tables::Durable | Tables::Disk(_) => {
                rng.pick(&[HostIds::All, HostIds::Some, HostIds::None])
            }
            _ => rng.pick(&[HostIds::All, HostIds::None]),
        };
        let placement = rng.pick(&Placement::ALL);
        let unknown = match tables {
            // Every server would claim what lies in the storage of all.
            Tables::Disk(_) if failover.then == Then::Reassign => UnknownSession::Restart,
            // Whose pin was dropped for a reason would wait for ever.
            Tables::Disk(_) => rng.pick(&[UnknownSession::Ask, UnknownSession::Restart]),
            Tables::Lossy if shared_farm => UnknownSession::Ask,
            // Only a table that is lost makes anybody ask.
            Tables::Lossy => {
                rng.pick(&[UnknownSession::Ask, UnknownSession::Ask, UnknownSession::Wait])
            }
            _ => rng.pick(&[UnknownSession::Ask, UnknownSession::Restart, UnknownSession::Wait]),
        };
        Self {
            servers: 1 + rng.below(5),
            gateways: if on_disk { 1 } else { 1 + usize::from(shared_farm) + rng.below(3) },
            clients: 1 + rng.below(12),
            tables,
            ids,
            host_ids,
            minted: tables != Tables::DurableWithOutages && !shared_farm && rng.chance(25),
            shared_farm,
            binds: rng.chance(30),
            sizes: Self::sizes(rng),
            // A clock that jumps in the middle of an upload makes the evidence worthless.
            lost_close: match on_disk || rng.chance(40) {
                true => LostClose::Restart,
                false => LostClose::Verify,
            },
            reissues,
            policy: Policy { placement, unknown },
            failover,
            loss: rng.pick(&[0, 2, 5, 15]),
            trouble: if reissues { rng.pick(&[5, 15]) } else { rng.pick(&[0, 2, 5, 15]) },
        }
    }

    /// Limits that an honest client can live with, or that end its upload at once.
    pub fn sizes(rng: &mut Rng) -> Sizes {
        let fragment = rng.pick(&[None, None, Some(6), Some(10)]);
        Sizes { fragment, upload: rng.pick(&[None, None, None, Some(50)]) }
    }

    /// Whether servers may believe the size that a question names. Not where gateways share no table
    /// and do not know of each other: one of them may have the pin of a session without a byte that
    /// another one asks for, and whose server then refuses the Fragments that the pin leads there.
    pub fn may_be_credulous(&self) -> bool {
        self.gateways == 1 || self.tables != Tables::Lossy || self.shared_farm
    }

    /// Whether a client may begin another session in the middle of its file. Not where the gateways
    /// of a shared farm meet servers that are credulous: such a session is asked for with a size that
    /// no Fragment has.
    pub fn may_keep_offsets(&self) -> bool {
        !self.shared_farm
    }

    /// Whether a client may send another range when no Ack has come. Not where gateways share a farm: a
    /// session is asked for with the byte behind the range, and the server may have got that byte with a
    /// longer range before.
    pub fn may_resize(&self) -> bool {
        !self.shared_farm
    }

    /// Whether clients upload to one path. Not where servers also name sessions alike: an id that
    /// was given up by one session and taken by another of the same path is one that a client
    /// who has not heard of the end of its own may still use. Nor where a file at the destination
    /// proves a delivery.
    pub fn shares_paths(&self) -> bool {
        let proves = self.lost_close == LostClose::Verify;
        !proves && !self.reissues && self.ids != Ids::Colliding && self.host_ids != HostIds::None
    }
}
