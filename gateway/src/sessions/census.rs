//! Sessions counted for the metrics.

use gateway_core::session::live::IDLE;

use super::Sessions;
use super::view::{Moment, seen};

/// Sessions of one backend, for the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    pub active: u64,
    pub idle: u64,
}

impl Sessions {
    /// Active and idle sessions by backend id. Walks the whole map: for scrapes, not for requests.
    pub fn census(&self, at: Moment) -> Vec<Census> {
        let live = self.live_uploads.snapshot(at.steady);
        let mut census = Vec::new();
        self.live.each(|key, session| {
            let slot = session.backend.0 as usize;
            if slot >= census.len() {
                census.resize(slot + 1, Census::default());
            }
            let entry = &mut census[slot];
            let live = live.get(key);
            if at.wall.since(seen(session.progress, live.as_ref(), at)) < IDLE {
                entry.active += 1;
            } else {
                entry.idle += 1;
            }
        });
        census
    }
}
