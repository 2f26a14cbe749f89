//! Sessions counted for the metrics.

use std::time::Duration;

use gateway_core::session::Timestamp;

use super::Sessions;

/// Silence after which a session counts as idle in the metrics.
pub(super) const ACTIVE: Duration = Duration::from_secs(5 * 60);

/// Sessions of one backend, for the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    pub active: u64,
    pub idle: u64,
}

impl Sessions {
    /// Active and idle sessions by backend id. Walks the whole map: for scrapes, not for requests.
    pub fn census(&self, now: Timestamp) -> Vec<Census> {
        let mut census = Vec::new();
        for session in self.live.iter() {
            let slot = session.backend.0 as usize;
            if slot >= census.len() {
                census.resize(slot + 1, Census::default());
            }
            let entry = &mut census[slot];
            if now.since(session.progress.seen) < ACTIVE {
                entry.active += 1;
            } else {
                entry.idle += 1;
            }
        }
        census
    }
}
