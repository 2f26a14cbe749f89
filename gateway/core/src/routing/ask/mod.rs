//! Finding the owner of a session that the table has lost, by asking the backends.
//!
//! The question is a Fragment that no server can take: [`question`]. A stranger answers it with
//! "session not found", the owner with anything else that is of the protocol: [`Said::of`]. Only
//! when every backend has said something clear is there a verdict: [`judge`]. A client that hears
//! "session not found" throws its upload away, so whatever is not clear is "not now".
//!
//! How often may be asked is for [`Pace`]; what need not be asked again, for [`Recent`].

mod pace;
mod recent;

use std::time::Duration;

use crate::farm::BackendId;
use crate::protocol::{Ack, ContentRange, HResult, RequestPacket};

pub use pace::Pace;
pub use recent::Recent;

/// The largest file that IIS takes (MC-BUP, `BITSMaximumUploadSize`): no upload ends behind it, and
/// no server refuses a total for being larger than it takes.
const LARGEST: u64 = 1_844_674_407_370_955;

/// A backend that answers so says nothing of the time before this long ago.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// The range of the one byte that is asked with. It lies behind the end of the file, of which it
/// also names another size, so a server has two reasons to refuse it and none to store the byte:
/// a hole (MC-BUP 2.2.6: 416 with the offset that is wanted), and a total that is not the
/// session's (2.2.1.2: 400).
///
/// It is a legal range all the same, since a server may look at that before it looks the session
/// up, and would tell the owner and a stranger alike that the packet is bad.
///
/// `None` if the file is so large that no such range is left.
pub fn question(packet: &RequestPacket<'_>) -> Option<ContentRange> {
    let first = match packet.range() {
        Some(range) => range.total().checked_add(1)?,
        // Of a Close or Cancel the size is not known.
        None => LARGEST - 1,
    };
    ContentRange::new(first, first, first.checked_add(1)?).ok()
}

/// What a backend made of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It does not know the session.
    NotFound,
    /// It has the session, and bytes of it: how many, if it told.
    Has(Option<u64>),
    /// It has the session and not a byte of it. It may believe from now on that the file has the
    /// size that the question named, and would refuse the client's Fragments for good. But there
    /// is nothing to lose either.
    Empty,
    /// Nothing that says whether it has the session: another program's answer, a login, none at
    /// all. It has been so for at least that long, as far as somebody has measured it.
    Unclear(Duration),
}

impl Said {
    /// Only two answers claim a session: those that [`question`] provokes. A success would mean
    /// that the byte was stored, and such a server's word counts for nothing.
    pub fn of(ack: &Ack<'_>) -> Self {
        if ack.is_session_not_found() {
            return Self::NotFound;
        }
        let invalid = ack.error.is_none_or(|error| error == HResult::INVALID_ARGUMENT);
        match (ack.status.as_u16(), ack.next_offset) {
            (416, Some(0)) if ack.is_protocol() => Self::Empty,
            (416, Some(next)) if ack.is_protocol() => Self::Has(Some(next)),
            (400, _) if ack.is_protocol() && invalid => Self::Has(None),
            _ => Self::Unclear(Duration::ZERO),
        }
    }

    fn claims(self) -> bool {
        matches!(self, Self::Has(_) | Self::Empty)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This one has it, with so many bytes if that is known, and nobody else does.
    Owner(BackendId, Option<u64>),
    /// This one has it, as [`Said::Empty`].
    Empty(BackendId),
    /// Nobody has it.
    Nobody,
    /// Somebody may have it.
    Unclear,
}

/// Since when each backend has been unclear, by its id.
///
/// A backend that never says "session not found" would keep every client of a lost session waiting
/// for as long as that tries, so its silence is believed for a while only, as with one that is
/// away.
#[derive(Debug, Clone, Default)]
pub struct Doubts(Vec<Option<Doubt>>);

#[derive(Debug, Clone, Copy)]
struct Doubt {
    first: Duration,
    last: Duration,
}

impl Doubts {
    /// For how long it has been unclear, now included.
    fn seen(&mut self, backend: BackendId, now: Duration, gap: Duration) -> Duration {
        let slot = backend.0 as usize;
        if self.0.len() <= slot {
            self.0.resize(slot + 1, None);
        }
        let before = self.0[slot].filter(|doubt| now.saturating_sub(doubt.last) <= gap);
        let first = before.map_or(now, |doubt| doubt.first);
        self.0[slot] = Some(Doubt { first, last: now });
        now.saturating_sub(first)
    }

    fn over(&mut self, backend: BackendId) {
        if let Some(doubt) = self.0.get_mut(backend.0 as usize) {
            *doubt = None;
        }
    }
}

/// Who has the session. `said` holds every backend of the farm once.
///
/// `patience` is how long a backend may be unclear before it counts as one that has nothing, as
/// long as a pinned session waits for a backend that is away.
pub fn judge(
    said: &[(BackendId, Said)],
    doubts: &mut Doubts,
    now: Duration,
    patience: Duration,
) -> Verdict {
    let several = said.iter().filter(|(_, said)| said.claims()).count() > 1;
    let gap = patience.max(FORGOTTEN);
    let mut verdict = Verdict::Nobody;
    for &(backend, said) in said {
        let measured = match said {
            Said::Unclear(measured) => measured,
            // Of two that claim one session at least one is wrong, and nobody knows which.
            claim if several && claim.claims() => Duration::ZERO,
            clear => {
                doubts.over(backend);
                if verdict == Verdict::Nobody {
                    verdict = match clear {
                        Said::Has(next) => Verdict::Owner(backend, next),
                        Said::Empty => Verdict::Empty(backend),
                        _ => Verdict::Nobody,
                    };
                }
                continue;
            }
        };
        if doubts.seen(backend, now, gap).max(measured) < patience {
            verdict = Verdict::Unclear;
        }
    }
    verdict
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
