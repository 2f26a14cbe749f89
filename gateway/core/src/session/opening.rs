//! Under which id a client knows its new session, and which older session that ends.

use std::time::Duration;

use crate::fault::Fault;

use super::observe::Opened;
use super::pin::{Progress, Timestamp};

/// An upload that made progress so recently is running.
const RUNNING: Duration = Duration::from_secs(60);

/// A minted id is random: a second one that is taken is no accident any more.
const MINTED: u8 = 3;

/// Whose ids clients see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdPolicy {
    /// The backend's, where no other session has it and the protocol allows it.
    Backend,
    /// Always the gateway's own.
    Minted,
}

/// How a session that was just opened gets its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// The session that had this id at this backend has ended there: it is to end here, too, and
    /// its client starts over.
    pub ends_older: bool,
    backends: bool,
    /// The backend's id could be shown, were it free.
    wanted: bool,
    minted: u8,
}

/// An id to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// The one that the backend gave.
    Backends,
    /// A new random one.
    Minted,
}

/// Reads from a new session and from how far the older session is that has the same id at the same
/// backend, if there is one, what is to be done.
///
/// A backend that gives out an id again has forgotten the older session. While that one is making
/// progress, the new client has to come back later instead: ending it would have its client end
/// this one in turn, and so on.
///
/// # Errors
/// The fault that the new client is told; nothing is pinned.
///
/// # Source
/// Decision record 0010.
pub fn name(
    opened: &Opened<'_>,
    policy: IdPolicy,
    older: Option<Progress>,
    now: Timestamp,
) -> Result<Naming, Fault> {
    if older.is_some_and(|older| older.next_offset > 0 && now.since(older.seen) < RUNNING) {
        return Err(Fault::BackendAnswer);
    }
    let ends_older = older.is_some();
    let wanted = policy == IdPolicy::Backend && opened.id.is_some();
    // An older client still holds the id that was given out again.
    Ok(Naming { ends_older, backends: wanted && !ends_older, wanted, minted: 0 })
}

/// Whether no client can know of a session that was just opened: not one byte of its Ack was written,
/// or another answer was written in its place.
pub fn is_orphan(written: bool, refused: bool) -> bool {
    !written || refused
}

impl Naming {
    /// The next id to try, while those before were taken.
    ///
    /// # Errors
    /// No id is to be had.
    pub fn next_candidate(&mut self) -> Result<Candidate, Fault> {
        if std::mem::take(&mut self.backends) {
            return Ok(Candidate::Backends);
        }
        if self.minted == MINTED {
            return Err(Fault::Internal);
        }
        self.minted += 1;
        Ok(Candidate::Minted)
    }

    /// An id had to be minted because another session has or had the backend's.
    pub fn is_conflict(&self) -> bool {
        self.wanted && self.minted > 0
    }
}

#[cfg(test)]
mod tests {
    use Candidate::{Backends, Minted};

    use super::*;
    use crate::protocol::SessionId;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn older(next_offset: u64, silent_for: Duration) -> Option<Progress> {
        let silent = u64::try_from(silent_for.as_millis()).expect("a short time");
        Some(Progress { next_offset, seen: Timestamp(NOW.0 - silent), ..Progress::default() })
    }

    fn named(id: &str, policy: IdPolicy, older: Option<Progress>) -> Result<Naming, Fault> {
        let opened = Opened { backend_session: id, id: SessionId::parse(id) };
        name(&opened, policy, older, NOW)
    }

    const LEGAL: &str = "{x}";
    const FORBIDDEN: &str = "a b";

    #[test]
    fn the_backends_id_is_tried_once_where_it_may_be_shown() {
        use IdPolicy::{Backend, Minted as Own};
        let gone = older(0, Duration::ZERO);
        for (id, policy, older, expected, conflict) in [
            (LEGAL, Backend, None, &[Backends, Minted, Minted, Minted][..], true),
            (LEGAL, Own, None, &[Minted, Minted, Minted], false),
            (FORBIDDEN, Backend, None, &[Minted, Minted, Minted], false),
            (LEGAL, Backend, gone, &[Minted, Minted, Minted], true),
            (LEGAL, Own, gone, &[Minted, Minted, Minted], false),
        ] {
            let mut naming = named(id, policy, older).expect("a session is opened");
            assert!(!naming.is_conflict(), "nothing was tried");
            assert_eq!(naming.ends_older, older.is_some());
            for candidate in expected {
                assert_eq!(naming.next_candidate(), Ok(*candidate), "{id:?} {policy:?} {older:?}");
            }
            assert_eq!(naming.is_conflict(), conflict, "{id:?} {policy:?} {older:?}");
            assert_eq!(naming.next_candidate(), Err(Fault::Internal));
            assert_eq!(naming.next_candidate(), Err(Fault::Internal), "for good");
        }
    }

    #[test]
    fn a_session_whose_ack_may_have_arrived_is_no_orphan() {
        assert!(!is_orphan(true, false));
        assert!(is_orphan(true, true) && is_orphan(false, false) && is_orphan(false, true));
    }

    #[test]
    fn the_first_id_that_is_free_is_no_conflict() {
        let mut naming = named(LEGAL, IdPolicy::Backend, None).expect("a session is opened");
        assert_eq!(naming.next_candidate(), Ok(Backends));
        assert!(!naming.is_conflict());
    }

    #[test]
    fn the_first_id_that_had_to_be_minted_is_a_conflict() {
        let mut naming = named(LEGAL, IdPolicy::Backend, older(0, RUNNING)).expect("it is opened");
        assert_eq!(naming.next_candidate(), Ok(Minted));
        assert!(naming.is_conflict());
    }

    #[test]
    fn an_older_session_ends_unless_it_is_running() {
        let brief = RUNNING - Duration::from_millis(1);
        for (older, expected) in [
            (None, Ok(false)),
            (older(0, Duration::ZERO), Ok(true)),
            (older(1, RUNNING), Ok(true)),
            (older(1, brief), Err(Fault::BackendAnswer)),
            (older(u64::MAX, Duration::ZERO), Err(Fault::BackendAnswer)),
        ] {
            for policy in [IdPolicy::Backend, IdPolicy::Minted] {
                let naming = named(LEGAL, policy, older);
                assert_eq!(naming.map(|naming| naming.ends_older), expected, "{older:?}");
            }
        }
    }
}
