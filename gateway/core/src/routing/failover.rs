//! How long a packet waits for the one backend that has its session, and when that one is given up.
//!
//! Waiting costs a client minutes, starting over costs it the whole file, and a client waits 14
//! days. So a backend that is down is given up late where its uploads would start over, and soon
//! where servers share one storage and nothing is lost.
//!
//! A request that several backends may serve waits for none of them: it [tries another](try_another).

use std::time::Duration;

use crate::fault::Fault;
use crate::protocol::PacketType;

/// A server that restarts refuses connections for a moment. Each try waits longer by that time.
const BACKOFF: Duration = Duration::from_millis(100);

/// Between two tries at most.
const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// How often a request that several backends may serve tries. Each failed try rules one out, so this
/// many may be down at once before a client is told so.
pub const MAX_TRIES: u32 = 8;

/// What the operator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// How long a packet waits inside the gateway.
    pub hold: Duration,
    /// From when the backend went away until its uploads start over.
    pub restart_after: Duration,
    /// The same until they go on at another backend, where `then` says so.
    pub reassign_after: Duration,
    pub then: Then,
}

/// What becomes of the sessions of a backend that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Restart,
    Reassign,
}

/// Why the backend serves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It is up, and an operator keeps it from serving: it is as good as there.
    Kept,
    /// It has been away for so long.
    For(Duration),
    /// An operator said that it does not come back.
    Lost,
}

/// The one backend that may serve a packet, and what keeps it from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Its probes fail, or an operator keeps it from serving.
    Down(Absence),
    /// The configuration does not name it. It may come back to it, with the half file; there is
    /// nothing that a packet could wait for in the gateway.
    Missing(Absence),
    /// It counts as up and takes no connection. The packet has tried so often.
    Refuses { absence: Absence, tries: u32 },
    /// It shows a certificate that is not to be trusted. No wait makes that better.
    Distrusted,
}

/// A packet that its owner does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// How long it has waited.
    pub waited: Duration,
    /// Its upload can [end or move](ends_or_moves) by it.
    pub ends_or_moves: bool,
    /// A newer request of the session has come.
    pub superseded: bool,
}

/// What a packet does whose owner does not serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waits in the gateway, no longer than that. Then it is decided again.
    Wait(Duration),
    /// Is answered with that fault, and its session stays as it is.
    Later(Fault),
    /// Is answered: start over. The pin goes.
    Restart,
    /// Goes to another backend.
    Reassign,
}

/// What a packet does before the backends are asked for its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeforeAsking {
    /// Each backend serves, or is given up and counts as one that does not have the session.
    Ask,
    /// One that does not serve may have the session. The packet waits, no longer than that.
    Wait(Duration),
    /// The same, and the packet has waited long enough.
    Unclear,
}

/// Whether an upload can end or move by a packet of that type, which has a session id or has none.
/// None does by a Ping, or by what is no packet.
pub fn ends_or_moves(kind: Option<PacketType>, has_session: bool) -> bool {
    match kind {
        None | Some(PacketType::Ping | PacketType::CreateSession) => false,
        Some(PacketType::Fragment | PacketType::CloseSession | PacketType::CancelSession) => {
            has_session
        }
    }
}

impl Absence {
    /// Of a backend that has been away for so long.
    pub fn of(away: Duration, lost: bool) -> Self {
        if lost { Self::Lost } else { Self::For(away) }
    }
}

impl Failover {
    /// The promise of the gateway to a packet whose owner does not serve it: wait, come back later,
    /// and in the end start over or go on at another backend.
    pub fn step(&self, owner: Owner, held: &Held) -> Step {
        let (absence, most) = match owner {
            // The newer request is the one that its client waits for.
            _ if held.superseded => return Step::Later(Fault::Superseded),
            Owner::Distrusted => return Step::Later(Fault::BackendFailed),
            Owner::Down(absence) => (absence, self.hold),
            Owner::Missing(absence) => (absence, Duration::ZERO),
            Owner::Refuses { absence, tries } => {
                (absence, (BACKOFF * tries.max(1)).min(BACKOFF_MOST))
            }
        };
        let given_up = self.is_given_up(absence);
        let left = self.hold.saturating_sub(held.waited).min(most);
        match self.then {
            _ if absence == Absence::Kept => Step::Later(Fault::BackendDown),
            _ if given_up && !held.ends_or_moves => Step::Later(Fault::BackendDown),
            Then::Restart if given_up => Step::Restart,
            Then::Reassign if given_up => Step::Reassign,
            _ if left.is_zero() => Step::Later(Fault::BackendDown),
            _ => Step::Wait(left),
        }
    }

    /// The same before all backends are asked for a session. `absences` are of those that do not
    /// serve. While one of them may have the session there is no point in asking the others.
    pub fn before_asking(
        &self,
        absences: impl IntoIterator<Item = Absence>,
        waited: Duration,
    ) -> BeforeAsking {
        let held = Held { waited, ends_or_moves: true, superseded: false };
        let steps = absences.into_iter().map(|absence| self.step(Owner::Down(absence), &held));
        steps.fold(BeforeAsking::Ask, |before, step| match (before, step) {
            (_, Step::Wait(left)) | (BeforeAsking::Wait(left), _) => BeforeAsking::Wait(left),
            (_, Step::Later(_)) | (BeforeAsking::Unclear, _) => BeforeAsking::Unclear,
            (BeforeAsking::Ask, Step::Restart | Step::Reassign) => BeforeAsking::Ask,
        })
    }

    /// Whether nothing more is expected of the backend: it has no session any more, whoever asks.
    fn is_given_up(&self, absence: Absence) -> bool {
        let patience = match self.then {
            Then::Restart => self.restart_after,
            Then::Reassign => self.reassign_after,
        };
        match absence {
            Absence::Kept => false,
            Absence::For(away) => away >= patience,
            Absence::Lost => true,
        }
    }
}

/// Whether every backend that a request has tried showed a certificate that is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Distrust(Option<bool>);

impl Distrust {
    /// A try has failed, for that reason or for another.
    pub fn note(&mut self, distrusted: bool) {
        self.0 = Some(self.0.unwrap_or(true) && distrusted);
    }

    /// What a client is told when no backend is left. It is not told to wait for a certificate.
    pub fn when_none_is_left(self) -> Fault {
        if self.0 == Some(true) { Fault::BackendFailed } else { Fault::NoBackend }
    }
}

/// Whether a request that several backends may serve tries another one after so many tries.
///
/// # Errors
/// The fault to answer with.
pub fn try_another(tries: u32, distrust: Distrust) -> Result<(), Fault> {
    if tries < MAX_TRIES { Ok(()) } else { Err(distrust.when_none_is_left()) }
}

#[cfg(test)]
#[path = "failover_tests.rs"]
mod tests;
