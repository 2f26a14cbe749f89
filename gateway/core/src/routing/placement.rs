//! Choosing a backend where any would do.

use crate::farm::{Backend, BackendId};

/// How a backend is chosen for a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Placement {
    /// Fewest sessions for its weight. Connections would be the wrong measure: an upload is idle
    /// for most of its days.
    #[default]
    LeastSessions,
    /// Fewest bytes still to come for its weight. Sessions whose size is not known yet count as
    /// the others are on average, or a burst of new ones would all go to one backend.
    LeastBytesLeft,
    /// In turn; a backend of weight 3 gets three turns of a round.
    RoundRobin,
    /// The same key goes to the same backend for as long as that one is not much fuller than its
    /// share; a backend that leaves moves only its own keys.
    Hash,
}

/// What is pinned to each backend now.
pub trait Loads {
    fn sessions(&self, backend: BackendId) -> u64;

    /// Nothing, where nobody counts it.
    fn outstanding(&self, _backend: BackendId) -> Outstanding {
        Outstanding::default()
    }
}

/// What the sessions of a backend are still to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outstanding {
    /// Of the sessions whose size is known.
    pub bytes: u64,
    /// Sessions of unknown size.
    pub unsized_sessions: u64,
}

impl<F: Fn(BackendId) -> u64> Loads for F {
    fn sessions(&self, backend: BackendId) -> u64 {
        self(backend)
    }
}

impl Placement {
    pub const ALL: [Self; 4] =
        [Self::LeastSessions, Self::LeastBytesLeft, Self::RoundRobin, Self::Hash];

    /// One of the candidates; `None` only if there are none.
    pub fn choose<'f>(
        self,
        candidates: impl Iterator<Item = &'f Backend> + Clone,
        hash: u64,
        turn: u64,
        loads: &impl Loads,
    ) -> Option<BackendId> {
        match self {
            Self::LeastSessions => least_sessions(candidates, turn, loads),
            Self::LeastBytesLeft => least_bytes_left(candidates, turn, loads),
            Self::RoundRobin => round_robin(candidates, turn),
            Self::Hash => bounded_hash(candidates, hash, loads),
        }
    }
}

fn least_sessions<'f>(
    candidates: impl Iterator<Item = &'f Backend> + Clone,
    turn: u64,
    loads: &impl Loads,
) -> Option<BackendId> {
    least(candidates, turn, |id| u128::from(loads.sessions(id)))
}

fn least_bytes_left<'f>(
    candidates: impl Iterator<Item = &'f Backend> + Clone,
    turn: u64,
    loads: &impl Loads,
) -> Option<BackendId> {
    let (mut bytes, mut known) = (0u128, 0u128);
    for backend in candidates.clone() {
        let outstanding = loads.outstanding(backend.id);
        bytes += u128::from(outstanding.bytes);
        let sessions = loads.sessions(backend.id);
        known += u128::from(sessions.saturating_sub(outstanding.unsized_sessions));
    }
    // At least a byte, so that before the first Fragment sessions are what counts.
    let average = bytes.checked_div(known).unwrap_or(0).max(1);
    least(candidates, turn, |id| {
        let Outstanding { bytes, unsized_sessions } = loads.outstanding(id);
        u128::from(bytes).saturating_add(average.saturating_mul(unsized_sessions.into()))
    })
}

/// The one with the least for its weight. Those with equally little take turns, so that a burst on
/// an empty farm spreads.
fn least<'f>(
    candidates: impl Iterator<Item = &'f Backend> + Clone,
    turn: u64,
    load: impl Fn(BackendId) -> u128,
) -> Option<BackendId> {
    // The turn decides between a backend that is as full as the best one and the best one, by
    // counting distance from a moving start.
    let count = candidates.clone().count() as u64;
    let start = turn.checked_rem(count)?;
    let mut best: Option<(&Backend, u128, u64)> = None;
    for (position, backend) in (0u64..).zip(candidates) {
        let load = load(backend.id);
        let distance = (position + count - start) % count;
        let better = best.is_none_or(|(other, least, nearest)| {
            let mine = load.saturating_mul(other.weight.into());
            let theirs = least.saturating_mul(backend.weight.into());
            (mine, distance) < (theirs, nearest)
        });
        if better {
            best = Some((backend, load, distance));
        }
    }
    best.map(|(backend, ..)| backend.id)
}

/// Turn `n` takes slot `n * stride` of the slots that the weights span, after their common factor
/// is taken out. The stride is coprime to their number, so a round visits each slot once, and near
/// the golden section, so a heavy backend's turns are not in one row.
fn round_robin<'f>(
    candidates: impl Iterator<Item = &'f Backend> + Clone,
    turn: u64,
) -> Option<BackendId> {
    let factor = candidates.clone().fold(0, |sum, b| common_factor(sum, u64::from(b.weight)));
    let slots_of = |backend: &Backend| u64::from(backend.weight).checked_div(factor).unwrap_or(0);
    let slots: u64 = candidates.clone().map(slots_of).sum();
    let mut slot = u128::from(turn) * u128::from(stride(slots));
    slot = slot.checked_rem(u128::from(slots))?;
    for backend in candidates {
        let width = u128::from(slots_of(backend));
        if slot < width {
            return Some(backend.id);
        }
        slot -= width;
    }
    None
}

fn stride(slots: u64) -> u64 {
    let golden = (u128::from(slots) * 618 / 1000) as u64;
    (golden.max(1)..slots.max(2)).find(|&stride| common_factor(stride, slots) == 1).unwrap_or(1)
}

/// The greatest one; that of 0 and `b` is `b`.
fn common_factor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Weighted rendezvous hashing among the backends under the bound: nobody holds more than 1.25
/// times its share, so that one busy key cannot fill one server.
fn bounded_hash<'f>(
    candidates: impl Iterator<Item = &'f Backend> + Clone,
    hash: u64,
    loads: &impl Loads,
) -> Option<BackendId> {
    let mut sessions: u128 = 1;
    let mut weights: u128 = 0;
    for backend in candidates.clone() {
        sessions += u128::from(loads.sessions(backend.id));
        weights += u128::from(backend.weight);
    }
    // load < ceil(1.25 * sessions * weight / weights), in whole numbers. With one session more
    // than there are now to share out, at least one backend is always under its bound.
    let under = |backend: &&Backend| {
        let bound = (5 * sessions * u128::from(backend.weight)).div_ceil(4 * weights.max(1));
        u128::from(loads.sessions(backend.id)) < bound
    };
    let score = |backend: &Backend| {
        let mixed = mix(hash ^ crate::session::fnv1a(backend.name.as_bytes()));
        // A uniform number in (0, 1]; the smallest exponential variate of rate `weight` wins.
        let uniform = ((mixed >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -uniform.ln() / f64::from(backend.weight)
    };
    candidates.filter(under).min_by(|a, b| score(a).total_cmp(&score(b))).map(|backend| backend.id)
}

/// Spreads the bits of a sum that differs in few of them (the finaliser of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
