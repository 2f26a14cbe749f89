//! Finding the owner of a session that the table has lost, by asking the backends.
//!
//! The question is a Fragment that no server can take: [`Question`]. A stranger answers it with
//! "session not found", the owner with anything else that is of the protocol: [`OwnershipAnswer::of`]. Only
//! when every backend has said something clear is there a verdict: [`judge`]. A client that hears
//! "session not found" throws its upload away, so whatever is not clear is "not now".
//!
//! A session without a byte proves little: anybody may hold its id. Before a packet goes on to it,
//! its server is asked for the same id under a path that nobody uses: [`confirm`].
//!
//! How often may be asked is for [`QuestionLimiter`]; what need not be asked again, for [`Recent`].

mod limiter;
mod question;
mod recent;

use std::time::Duration;

use crate::farm::BackendId;
use crate::protocol::{Ack, HResult};

pub use limiter::{ClientLimiter, QuestionLimiter};
pub use question::{Question, elsewhere};
pub use recent::Recent;

/// A backend that answers so says nothing of the time before this long ago.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// What a backend made of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnershipAnswer {
    /// It does not know the session.
    NotFound,
    /// It does not know the session, and came to its address a moment ago. Another machine of its
    /// name may know it.
    Moved,
    /// It has the session, and bytes of it: how many, if it told.
    Has(Option<u64>),
    /// It has the session and not a byte of it, as far as it told: what is known of its client is
    /// the id alone.
    Newborn,
    /// It says that it took the byte, which may be in the file now.
    Took,
    /// Nothing that says whether it has the session: another program's answer, a login, none at
    /// all. It has been so for at least that long, as far as somebody has measured it.
    Unclear(Duration),
}

impl OwnershipAnswer {
    /// Two answers claim a session: those that a [`Question`] provokes. One that asks for a byte
    /// which is not sent would take it, so it has the session: [`OwnershipAnswer::Newborn`], because it did
    /// not say how much of it.
    pub fn of(ack: &Ack<'_>, question: Question) -> Self {
        if ack.is_session_not_found() {
            return Self::NotFound;
        }
        let invalid = ack.error.is_none_or(|error| error == HResult::INVALID_ARGUMENT);
        match (ack.status.as_u16(), ack.next_offset) {
            (100, _) if !question.sends_its_byte() => Self::Newborn,
            (416, Some(0)) if ack.is_protocol() => Self::Newborn,
            (416, Some(next)) if ack.is_protocol() => Self::Has(Some(next)),
            (400, _) if ack.is_protocol() && invalid => Self::Has(None),
            (200..=299, _) if ack.is_success() && question.sends_its_byte() => Self::Took,
            _ => Self::Unclear(Duration::ZERO),
        }
    }

    /// The same of a backend that came to its address a moment ago.
    #[must_use]
    pub fn after_a_move(self) -> Self {
        match self {
            Self::NotFound => Self::Moved,
            said => said,
        }
    }

    fn claims(self) -> bool {
        matches!(self, Self::Has(_) | Self::Newborn)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This one has it, with so many bytes if that is known, and nobody else does.
    Owner(BackendId, Option<u64>),
    /// This one has it, as [`OwnershipAnswer::Newborn`]: the packet goes on there, and its Ack makes the pin.
    Newborn(BackendId),
    /// Nobody claims it, and this one's file may be corrupted, as [`OwnershipAnswer::Took`]: nothing of it may be
    /// completed.
    Corrupted(BackendId),
    /// Nobody has it.
    Nobody,
    /// Somebody may have it.
    Unclear,
}

/// What a verdict comes to after this question.
///
/// A session without a byte goes on only where the question said nothing that its packet contradicts.
/// Servers that wait for an announced byte wait for the next one too, so what is unclear then stays
/// unclear; the packet is the first of its session, and a new start costs nothing more.
pub fn settle(verdict: Verdict, question: Question) -> Verdict {
    match verdict {
        Verdict::Newborn(_) if !question.lets_newborns_go_on() => Verdict::Nobody,
        Verdict::Unclear if !question.sends_its_byte() => Verdict::Nobody,
        verdict => verdict,
    }
}

/// What counts of a verdict once the backend of a [`Verdict::Newborn`] was asked for the same id
/// [`elsewhere`].
///
/// Only a server that disowns that one minds the destination of a session. One that does not takes
/// whoever knows the id for its client. So its newborn session is nobody's, which costs its client
/// no more than a new start.
pub fn confirm(verdict: Verdict, elsewhere: OwnershipAnswer) -> Verdict {
    match verdict {
        Verdict::Newborn(_) if elsewhere != OwnershipAnswer::NotFound => Verdict::Nobody,
        verdict => verdict,
    }
}

/// Since when each backend has been unclear, by its id.
///
/// A backend that never says "session not found" would keep every client of a lost session waiting
/// for as long as that tries, so its silence is believed for a while only, as with one that is
/// away.
#[derive(Debug, Clone, Default)]
pub struct UnclearBackends(Vec<Option<Unclearness>>);

#[derive(Debug, Clone, Copy)]
struct Unclearness {
    first: Duration,
    last: Duration,
}

impl UnclearBackends {
    /// For how long it has been unclear, now included.
    fn seen(&mut self, backend: BackendId, now: Duration, gap: Duration) -> Duration {
        let slot = backend.0 as usize;
        if self.0.len() <= slot {
            self.0.resize(slot + 1, None);
        }
        let before =
            self.0[slot].filter(|unclear_since| now.saturating_sub(unclear_since.last) <= gap);
        let first = before.map_or(now, |unclear_since| unclear_since.first);
        self.0[slot] = Some(Unclearness { first, last: now });
        now.saturating_sub(first)
    }

    fn over(&mut self, backend: BackendId) {
        if let Some(unclear_since) = self.0.get_mut(backend.0 as usize) {
            *unclear_since = None;
        }
    }
}

/// Who has the session. `said` holds every backend of the farm once.
///
/// A backend that took the byte may take anything, so its word counts for nothing as long as another
/// one claims the session. If none does, the session is corrupted, whatever else is unclear.
///
/// `patience` is how long a backend may be unclear before it counts as one that has nothing, as
/// long as a pinned session waits for a backend that is away.
pub fn judge(
    said: &[(BackendId, OwnershipAnswer)],
    unclear: &mut UnclearBackends,
    now: Duration,
    patience: Duration,
) -> Verdict {
    let claims = said.iter().filter(|(_, said)| said.claims()).count();
    let gap = patience.max(FORGOTTEN);
    let mut verdict = Verdict::Nobody;
    for &(backend, said) in said {
        let measured = match said {
            OwnershipAnswer::Unclear(measured) => measured,
            // A clear word of this machine. Its address is new for a while only, so no patience is
            // needed.
            OwnershipAnswer::Moved => {
                unclear.over(backend);
                verdict = Verdict::Unclear;
                continue;
            }
            OwnershipAnswer::Took => Duration::ZERO,
            // Of two that claim one session at least one is wrong, and nobody knows which.
            claim if claims > 1 && claim.claims() => Duration::ZERO,
            clear => {
                unclear.over(backend);
                if verdict == Verdict::Nobody {
                    verdict = match clear {
                        OwnershipAnswer::Has(next) => Verdict::Owner(backend, next),
                        OwnershipAnswer::Newborn => Verdict::Newborn(backend),
                        _ => Verdict::Nobody,
                    };
                }
                continue;
            }
        };
        if unclear.seen(backend, now, gap).max(measured) < patience {
            verdict = Verdict::Unclear;
        }
    }
    match said.iter().find(|(_, said)| *said == OwnershipAnswer::Took) {
        Some(&(backend, _)) if claims == 0 => Verdict::Corrupted(backend),
        _ => verdict,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
