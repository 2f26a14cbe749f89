//! How large an upload and its Fragments may be, how much of a whole one client may have, and which
//! session gives its place to a new one.

use std::collections::HashMap;
use std::time::Duration;

use crate::fault::Fault;
use crate::protocol::ContentRange;
use crate::protocol::client::ClientKey;

use super::pin::Progress;

/// The largest sizes that pass, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Of the body of a Fragment.
    pub fragment: Option<u64>,
    /// Of the whole file.
    pub upload: Option<u64>,
}

impl Sizes {
    /// Whether a Fragment passes. `known` tells what the table knows of its session; it is asked only
    /// if the file is too large.
    ///
    /// The limit of the upload counts for uploads that begin: one that was lowered does not end an
    /// upload that is under way.
    ///
    /// # Errors
    /// The fault to answer with. A file that is too large is told first, because no smaller Fragment
    /// helps it.
    pub fn check(
        &self,
        range: &ContentRange,
        known: impl FnOnce() -> Option<Progress>,
    ) -> Result<(), Fault> {
        if self.upload.is_some_and(|limit| range.total() > limit) && !has_begun(range, known()) {
            return Err(Fault::UploadTooLarge);
        }
        match self.fragment {
            Some(limit) if range.len() > limit => Err(Fault::FragmentTooLarge),
            _ => Ok(()),
        }
    }
}

/// Whether the upload of a Fragment is under way.
///
/// Of a session that went on over a start of the gateway, or whose owner was found by asking, the
/// gateway knows little: there the first byte of the Fragment tells. A client that invents it gains
/// nothing, because the backend answers it with 416.
fn has_begun(range: &ContentRange, known: Option<Progress>) -> bool {
    match known {
        Some(known) if known.next_offset > 0 => [0, range.total()].contains(&known.total),
        _ => range.first() > 0,
    }
}

/// How much one client may have of what all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerClient {
    Unlimited,
    /// So many, however much is free: what an operator has set counts always.
    Most(u64),
    /// One part in so many of the whole, and only while the whole is [crowded](is_crowded): what
    /// nobody needs is refused to nobody.
    OneIn(u64),
}

impl PerClient {
    /// Whether a client that has `held` gets no more, where `taken` of `whole` are taken by all.
    pub fn refuses(self, held: u64, taken: u64, whole: u64) -> bool {
        match self {
            Self::Unlimited => false,
            Self::Most(most) => held >= most,
            Self::OneIn(parts) => is_crowded(taken, whole) && held >= (whole / parts.max(1)).max(1),
        }
    }
}

/// Whether what comes next is in the last quarter of the whole.
pub fn is_crowded(taken: u64, whole: u64) -> bool {
    (u128::from(taken) + 1) * 4 > u128::from(whole) * 3
}

/// A session without a byte that has been there for so long gives way. Clients send their first
/// Fragment within seconds, and one that comes back later loses nothing.
pub const EVICTION_AGE: Duration = Duration::from_secs(60 * 60);

/// What is known of a session when the table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idleness {
    /// It is certain that its backend has no byte of it.
    pub empty: bool,
    /// A request of it is under way.
    pub busy: bool,
    /// Since it was opened, by the clock on the wall.
    pub wall: Duration,
    /// Since it was opened or loaded, by one that never jumps.
    pub steady: Duration,
}

/// Whether a session may end so that another one can begin. Nothing is lost by it: its client
/// starts over with a file of which no byte was sent.
pub fn may_evict(session: Idleness) -> bool {
    session.empty && !session.busy && session.wall.min(session.steady) >= EVICTION_AGE
}

/// Sessions that may be evicted, as far as one looks: a fair sample where there are more than fit,
/// since a full table must not cost a second one.
#[derive(Debug)]
pub struct Sample<T> {
    most: usize,
    seen: u64,
    chance: u64,
    chosen: Vec<(ClientKey, T)>,
}

impl<T: Ord> Sample<T> {
    /// Of at most `most`; `chance` is any number.
    pub fn new(most: usize, chance: u64) -> Self {
        Self { most, seen: 0, chance, chosen: Vec::new() }
    }

    /// `session` is one of `holder`'s. Every session that is offered is as likely to stay.
    pub fn offer(&mut self, holder: ClientKey, session: T) {
        self.seen += 1;
        if self.chosen.len() < self.most {
            self.chosen.push((holder, session));
            return;
        }
        let place = usize::try_from(self.next_chance() % self.seen).unwrap_or(usize::MAX);
        if let Some(chosen) = self.chosen.get_mut(place) {
            *chosen = (holder, session);
        }
    }

    /// In the order in which they are to go: each is one of the holder that has most of those that
    /// are left, and of a holder's the smallest goes first.
    pub fn into_order(mut self) -> Vec<T> {
        self.chosen.sort_unstable_by(|(_, one), (_, other)| other.cmp(one));
        let mut count: HashMap<ClientKey, u32> = HashMap::new();
        let numbered = self.chosen.into_iter().map(|(holder, session)| {
            let left = count.entry(holder).or_insert(0);
            *left += 1;
            (*left, session)
        });
        let mut numbered: Vec<_> = numbered.collect();
        numbered.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
        numbered.into_iter().map(|(_, session)| session).collect()
    }

    /// The generator of splitmix64.
    fn next_chance(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
