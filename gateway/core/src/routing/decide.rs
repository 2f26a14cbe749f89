//! The decision table.

use crate::farm::{AdminState, Backend, BackendId, Barred, FarmView};
use crate::fault::Fault;
use crate::protocol::{PacketType, RequestPacket};
use crate::session::{Pin, Target, TargetHash};

use super::placement::{Loads, Placement};

/// What the session table said about the id of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The packet has no id.
    NotAsked,
    /// The table is healthy and has no such session.
    Unknown,
    Pinned(Pin),
    /// The session is bound to another client than the one that asks.
    Foreign,
    /// The session ended with an Ack of Close or Cancel that we saw.
    Ended(TargetHash),
    /// An operator ended the session, or its file is corrupted: its client starts over, whatever its
    /// alias says.
    Forgotten,
    /// The table could not be asked, or cannot keep a new session. Never read as
    /// [`Lookup::Unknown`]: that would make the client throw its upload away.
    StoreDown,
}

/// What the operator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    pub placement: Placement,
    pub unknown: UnknownSession,
}

/// What a client hears whose session nobody here knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UnknownSession {
    /// What the backends say when they are asked: see [`super::recovery`].
    #[default]
    Ask,
    /// Start over.
    Restart,
    /// Come back later: somebody may bring the table back.
    Wait,
}

/// Everything a decision may rest on.
#[derive(Debug)]
pub struct Evidence<'a> {
    pub lookup: &'a Lookup,
    /// The request-target, which binds a session to its destination.
    pub target: Target,
    /// Size of the session's file; 0 where no Fragment has told it yet.
    pub total: u64,
    /// The backend that the Host of the request stands for.
    pub alias: Option<BackendId>,
    /// The backend last used on this client connection.
    pub connection: Option<BackendId>,
    /// A login of the client, begun or finished, binds the connection to that backend.
    pub login: bool,
    /// Whether the session table takes one more session.
    pub room: bool,
    /// Backends that this request has already failed to reach, or that refused it.
    pub avoid: &'a [BackendId],
    /// Backends that are to get no new session of its folder, see [`crate::farm::folders`].
    pub barred: &'a [Barred],
    /// A backend has refused this Create: the next one is asked for a second opinion.
    pub refused: bool,
    /// What the `hash` policy hashes.
    pub hash: u64,
    /// A number that grows by one from request to request; breaks ties and drives round-robin.
    pub turn: u64,
}

/// Which evidence won.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    Pin,
    Alias,
    /// What the backends said when they were asked for a session without a pin.
    Asked,
    /// It has delivered the file that is asked for.
    Delivered,
    Connection,
    Placement,
}

impl Why {
    pub fn label(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Alias => "alias",
            Self::Asked => "asked",
            Self::Delivered => "delivered",
            Self::Connection => "connection",
            Self::Placement => "placement",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Forward {
        backend: BackendId,
        why: Why,
    },
    Answer(Fault),
    /// Find out which backend has the session; one that is found gets its pin back.
    Ask,
}

/// Chooses where a packet goes, or the fault to answer with.
///
/// Pure: same arguments, same decision. A refusal is not an `Err`, because on the wire it is an
/// answer. The arms stand in the order of the decision table in `docs/architecture.md`.
///
/// # Source
/// MC-BUP 1.3.4.2 (several servers behind one name), 3.1.5.2.1 (what a client does with each
/// error).
pub fn decide(
    packet: &RequestPacket,
    evidence: &Evidence<'_>,
    farm: &FarmView,
    policy: Policy,
    loads: &impl Loads,
) -> Decision {
    let kind = packet.packet_type();
    // A Ping asks whether its client may go on. Where the owner is gone for good, it may: it hears
    // that it has to start over with the next packet.
    let is_gone = |id| {
        let lost = farm.backend(id).is_some_and(|backend| backend.admin == AdminState::Lost);
        kind == PacketType::Ping && lost
    };
    match evidence.lookup {
        Lookup::Pinned(pin) if evidence.target.is(pin.binding.target) && !is_gone(pin.backend) => {
            // The size of a file is constant: two of them are two ideas of where it ends.
            if let RequestPacket::Fragment { range, .. } = packet
                && evidence.total != 0
                && evidence.total != range.total()
            {
                return Decision::Answer(Fault::BadRequest);
            }
            return to_owner(pin.backend, Why::Pin, farm);
        }
        // No word about the session to somebody who does not know its destination, or is not its
        // client: the answer is that for a session that nobody here knows. Nobody is asked for it:
        // the question might reach its file, and whoever has it is known. A Ping asks for a
        // connection only, so it is routed as if it had named no session.
        Lookup::Pinned(_) | Lookup::Foreign if kind != PacketType::Ping => {
            return Decision::Answer(match policy.unknown {
                UnknownSession::Wait => Fault::SessionNotHere,
                UnknownSession::Ask | UnknownSession::Restart => Fault::UnknownSession,
            });
        }
        Lookup::Forgotten if kind != PacketType::Ping => {
            return Decision::Answer(Fault::UnknownSession);
        }
        // The Ack got lost. For anything else the session is as unknown as any.
        Lookup::Ended(target) if evidence.target.is(*target) && ends(kind) => {
            return Decision::Answer(Fault::AlreadyEnded);
        }
        _ => {}
    }
    match (kind, evidence.alias) {
        (PacketType::CreateSession, _) if *evidence.lookup == Lookup::StoreDown => {
            Decision::Answer(Fault::StoreDown)
        }
        (PacketType::CreateSession, _) if !evidence.room => Decision::Answer(Fault::TableFull),
        (PacketType::CreateSession, _) => place_new(evidence, farm, policy.placement, loads),
        (_, Some(alias)) if !is_gone(alias) => to_owner(alias, Why::Alias, farm),
        (PacketType::Ping, _) => place_anywhere(evidence, farm, policy.placement, loads),
        _ if *evidence.lookup == Lookup::StoreDown => Decision::Answer(Fault::StoreDown),
        // Its backend has forgotten it: we saw it say so.
        _ if is_ended(evidence.lookup) && policy.unknown == UnknownSession::Ask => {
            Decision::Answer(Fault::UnknownSession)
        }
        _ => unknown(policy.unknown),
    }
}

fn is_ended(lookup: &Lookup) -> bool {
    matches!(lookup, Lookup::Ended(_))
}

fn ends(kind: PacketType) -> bool {
    matches!(kind, PacketType::CloseSession | PacketType::CancelSession)
}

/// A new owner for a session whose own was given up. Only for backends that share one storage.
pub fn reassign(
    evidence: &Evidence<'_>,
    farm: &FarmView,
    placement: Placement,
    loads: &impl Loads,
) -> Decision {
    place_new(evidence, farm, placement, loads)
}

/// Places a new session. A connection says nothing about it by itself: a proxy in front may send
/// the sessions of all its clients over one. Only who has logged in over it must not leave it.
///
/// A backend that is barred is for the case that no other is left: then the one that has been quiet
/// for the longest time. One that does not answer is not asked for a second opinion.
fn place_new(
    evidence: &Evidence<'_>,
    farm: &FarmView,
    placement: Placement,
    loads: &impl Loads,
) -> Decision {
    let connection = evidence.connection.filter(|_| evidence.login);
    let evidence = Evidence { connection, ..*evidence };
    let barred = |id| evidence.barred.iter().any(|barred| barred.backend == id);
    let open = |backend: &Backend| {
        backend.is_eligible() && (!barred(backend.id) || Some(backend.id) == connection)
    };
    match place(open, &evidence, farm, placement, loads) {
        Decision::Answer(fault) => last_resort(&evidence, farm).unwrap_or(Decision::Answer(fault)),
        placed => placed,
    }
}

fn last_resort(evidence: &Evidence<'_>, farm: &FarmView) -> Option<Decision> {
    let may_have = |barred: &&Barred| {
        let backend = farm.backend(barred.backend).is_some_and(Backend::is_eligible);
        let hangs = evidence.refused && barred.why.may_hang();
        backend && !hangs && !evidence.avoid.contains(&barred.backend)
    };
    let quiet = evidence.barred.iter().filter(may_have).min_by_key(|barred| barred.since)?;
    Some(Decision::Forward { backend: quiet.backend, why: Why::Placement })
}

fn unknown(policy: UnknownSession) -> Decision {
    match policy {
        UnknownSession::Ask => Decision::Ask,
        UnknownSession::Restart => Decision::Answer(Fault::UnknownSession),
        UnknownSession::Wait => Decision::Answer(Fault::SessionNotHere),
    }
}

/// Where a file lies that was uploaded a while ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    pub backend: BackendId,
    /// Others have it too: backends share one storage.
    pub shared: bool,
}

/// The same for a request that is no packet. `owner` is the backend that holds the reply asked
/// for, if it is one, and `holder` the one with the file asked for, if that is known.
pub fn decide_plain(
    owner: Option<BackendId>,
    holder: Option<Holder>,
    evidence: &Evidence<'_>,
    farm: &FarmView,
    placement: Placement,
    loads: &impl Loads,
) -> Decision {
    match (owner, evidence.alias, holder.filter(|holder| holder.is_waited_for(farm))) {
        (Some(owner), ..) => to_owner(owner, Why::Pin, farm),
        (None, Some(alias), _) => to_owner(alias, Why::Alias, farm),
        (None, None, Some(holder)) => to_owner(holder.backend, Why::Delivered, farm),
        (None, None, None) => place_anywhere(evidence, farm, placement, loads),
    }
}

impl Holder {
    /// Whether it is the one right backend. Of one that is gone, another server may have taken the
    /// files over.
    fn is_waited_for(&self, farm: &FarmView) -> bool {
        let backend = farm.backend(self.backend);
        backend.is_some_and(|backend| {
            backend.is_reachable() || (!self.shared && backend.admin != AdminState::Lost)
        })
    }
}

/// There is one right backend: it gets the packet, or nobody does.
fn to_owner(id: BackendId, why: Why, farm: &FarmView) -> Decision {
    match farm.backend(id) {
        None => Decision::Answer(Fault::BackendRemoved),
        Some(backend) if !backend.is_reachable() => Decision::Answer(Fault::BackendDown),
        Some(_) => Decision::Forward { backend: id, why },
    }
}

/// Places what opens no session. The backend of this connection may be draining; for the rest a
/// draining one is the last resort, or the fewer its sessions the more of such requests it got.
fn place_anywhere(
    evidence: &Evidence<'_>,
    farm: &FarmView,
    placement: Placement,
    loads: &impl Loads,
) -> Decision {
    if let Some(decision) = prefer(Backend::is_reachable, evidence, farm) {
        return decision;
    }
    match place(Backend::is_eligible, evidence, farm, placement, loads) {
        forward @ Decision::Forward { .. } => forward,
        _ => place(Backend::is_reachable, evidence, farm, placement, loads),
    }
}

/// Any backend that may have it will do; the ones that this client already talks to come first.
fn place(
    may_have: impl Fn(&Backend) -> bool,
    evidence: &Evidence<'_>,
    farm: &FarmView,
    placement: Placement,
    loads: &impl Loads,
) -> Decision {
    if let Some(decision) = prefer(&may_have, evidence, farm) {
        return decision;
    }
    let free = |backend: &Backend| may_have(backend) && !evidence.avoid.contains(&backend.id);
    let candidates = farm.backends().iter().filter(|backend| free(backend));
    match placement.choose(candidates, evidence.hash, evidence.turn, loads) {
        Some(backend) => Decision::Forward { backend, why: Why::Placement },
        None => Decision::Answer(Fault::NoBackend),
    }
}

fn prefer(
    may_have: impl Fn(&Backend) -> bool,
    evidence: &Evidence<'_>,
    farm: &FarmView,
) -> Option<Decision> {
    [(evidence.alias, Why::Alias), (evidence.connection, Why::Connection)].into_iter().find_map(
        |(preferred, why)| {
            let backend = farm.backend(preferred?).filter(|backend| may_have(backend))?;
            let free = !evidence.avoid.contains(&backend.id);
            free.then_some(Decision::Forward { backend: backend.id, why })
        },
    )
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
