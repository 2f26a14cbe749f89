//! One backend, as a routing decision sees it.

use std::sync::Arc;

use http::HeaderValue;

/// A backend, for the life of the process.
///
/// It stands for the configured *name*: a reload that reorders or moves backends keeps the ids,
/// so a pin never slides to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u32);

/// What people decided about a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AdminState {
    #[default]
    Ready,
    /// No new sessions; the old ones are served to their end.
    Drain,
    /// Serves nothing.
    Maintenance,
    /// Does not come back: its uploads start over, or move.
    Lost,
}

impl AdminState {
    pub const ALL: [Self; 4] = [Self::Ready, Self::Drain, Self::Maintenance, Self::Lost];

    /// As operators write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
            Self::Lost => "lost",
        }
    }

    /// As every version reads it. Early ones know HAProxy's short word only, so whatever an earlier
    /// process may read is written like this: the rows of the store, which two versions share during
    /// an upgrade and to which an operator may go back, and the paths of commands, which are installed
    /// before the process is replaced.
    pub fn word_of_all_versions(self) -> &'static str {
        match self {
            Self::Maintenance => "maint",
            Self::Ready | Self::Drain | Self::Lost => self.word(),
        }
    }

    /// Reads both.
    pub fn from_word(word: &str) -> Option<Self> {
        let reads = |state: &Self| [state.word(), state.word_of_all_versions()].contains(&word);
        Self::ALL.into_iter().find(reads)
    }

    /// Nothing is sent there, not even a probe.
    pub fn is_out(self) -> bool {
        matches!(self, Self::Maintenance | Self::Lost)
    }
}

/// What was measured, as far as routing cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Health {
    #[default]
    Up,
    /// Serves the sessions it has; spared new ones.
    Spared,
    Down,
}

#[derive(Debug, Clone)]
pub struct Backend {
    pub id: BackendId,
    pub name: Arc<str>,
    /// Share of new sessions relative to the other backends; never 0.
    pub weight: u32,
    pub admin: AdminState,
    pub health: Health,
    /// What Create-Session Acks name as the host for later packets.
    pub announce: Option<Announce>,
}

impl Backend {
    /// May get new sessions.
    pub fn is_eligible(&self) -> bool {
        self.admin == AdminState::Ready && self.health == Health::Up
    }

    /// May get packets of the sessions it has.
    pub fn is_reachable(&self) -> bool {
        !self.admin.is_out() && self.health != Health::Down
    }
}

/// The pair of headers that keeps a client on its backend (MC-BUP 2.2.3.2).
///
/// Always a pair: without the timeout a client never leaves an unreachable host.
#[derive(Debug, Clone)]
pub struct Announce {
    /// A host without scheme, port or path.
    pub host_id: HeaderValue,
    /// Seconds, decimal.
    pub fallback_timeout: HeaderValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_by_each_of_its_words() {
        for state in AdminState::ALL {
            assert_eq!(AdminState::from_word(state.word()), Some(state));
            assert_eq!(AdminState::from_word(state.word_of_all_versions()), Some(state));
        }
        assert_eq!(AdminState::from_word("maintenance"), Some(AdminState::Maintenance));
        assert_eq!(AdminState::from_word("maint"), Some(AdminState::Maintenance));
        for word in ["", "main", "MAINT", "maintain"] {
            assert_eq!(AdminState::from_word(word), None, "{word}");
        }
    }
}
