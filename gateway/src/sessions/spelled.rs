//! Sessions that were opened under a target that is not in normal form.
//!
//! Their spelling is kept, for their packets go on in it, whatever proxy has written them anew. On
//! the disk it stands beside the pin, whose row holds the hash of the spelling itself: a process
//! that knows no spellings finds there what it would have written, and so does this one if the
//! spelling is lost.

use gateway_core::protocol::SessionId;
use gateway_core::session::{Binding, Target, TargetHash};

use super::{Session, Sessions};
use crate::sessions::store::StoredSpelling;

/// Bytes that are kept of spellings: of some 500,000 sessions with usual names. The packets of
/// sessions beyond that have to come in the spelling of their Create-Session.
pub(super) const SPELLINGS: u64 = 64 * 1024 * 1024;

impl Sessions {
    /// Takes the spelling off a session for which there is no room.
    pub(super) fn fit_spelling(&self, session: &mut Session) {
        if session.spelling().is_some_and(|spelling| !self.spellings.take(spelling.as_bytes())) {
            session.drop_spelling();
        }
    }

    pub(super) fn free_spelling(&self, binding: &Binding) {
        if let Some(spelling) = &binding.spelling {
            self.spellings.give(spelling.as_bytes());
        }
    }

    /// What is stored of a session's spelling. False if it is of no session.
    pub(super) fn take_spelling(&self, stored: &StoredSpelling) -> bool {
        let Some(id) = SessionId::parse(&stored.id) else { return false };
        let Some(mut session) = self.live.get_mut(id.key()) else { return false };
        if session.created != stored.created {
            return false;
        }
        let spelling = stored.spelling.as_bytes();
        // Already there, or of a row that is damaged: it stays bound as it is.
        let binding = Binding::to(Target::of(spelling), spelling);
        let Binding { target, spelling: Some(kept) } = binding else { return true };
        if session.target == TargetHash::of(spelling) && self.spellings.take(spelling) {
            session.target = target;
            session.rare_mut().spelling = Some(kept);
        }
        true
    }
}

#[cfg(test)]
#[path = "spelled_tests.rs"]
mod tests;
