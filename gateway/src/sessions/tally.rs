//! What each backend has to do, kept as sessions come, grow and go: reading it walks nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gateway_core::farm::BackendId;
use gateway_core::routing::{Loads, Outstanding};
use gateway_core::session::Progress;

use crate::base::by_id::ById;

#[derive(Default)]
pub(super) struct Tally(ById<Load>);

#[derive(Default)]
struct Load {
    sessions: AtomicU64,
    /// Of these, those whose size is not known.
    unsized_sessions: AtomicU64,
    /// Bytes still to come. Sums that are changed from several sides at once may be read in any
    /// order, but never lose a change.
    bytes: AtomicU64,
    /// Creates that have been sent to it and have no session yet.
    opening: AtomicU64,
}

/// A Create under way: as much work for its backend as the session that will come of it. Counted
/// until it is dropped.
pub struct Opening {
    tally: Arc<Tally>,
    backend: BackendId,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.tally.0.at(self.backend).opening.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tally {
    pub(super) fn open(self: &Arc<Self>, backend: BackendId) -> Opening {
        self.0.at(backend).opening.fetch_add(1, Ordering::Relaxed);
        Opening { tally: Arc::clone(self), backend }
    }

    pub(super) fn add(&self, backend: BackendId, progress: Progress) {
        let load = self.0.at(backend);
        load.sessions.fetch_add(1, Ordering::Relaxed);
        load.unsized_sessions.fetch_add(is_unsized(progress), Ordering::Relaxed);
        load.bytes.fetch_add(left(progress), Ordering::Relaxed);
    }

    pub(super) fn remove(&self, backend: BackendId, progress: Progress) {
        let load = self.0.at(backend);
        load.sessions.fetch_sub(1, Ordering::Relaxed);
        load.unsized_sessions.fetch_sub(is_unsized(progress), Ordering::Relaxed);
        load.bytes.fetch_sub(left(progress), Ordering::Relaxed);
    }

    /// A session has come on. On the path of every Fragment.
    pub(super) fn progress(&self, backend: BackendId, before: Progress, after: Progress) {
        let load = self.0.at(backend);
        let (was, is) = (is_unsized(before), is_unsized(after));
        if was != is {
            load.unsized_sessions.fetch_add(is.wrapping_sub(was), Ordering::Relaxed);
        }
        let change = left(after).wrapping_sub(left(before));
        if change != 0 {
            load.bytes.fetch_add(change, Ordering::Relaxed);
        }
    }
}

impl Loads for Tally {
    fn sessions(&self, backend: BackendId) -> u64 {
        let Some(load) = self.0.get(backend) else { return 0 };
        // A Create that becomes a session in between is counted twice, which costs less than to
        // miss it: a burst would go where nothing seems to happen.
        let opening = load.opening.load(Ordering::Relaxed);
        load.sessions.load(Ordering::Relaxed) + opening
    }

    fn outstanding(&self, backend: BackendId) -> Outstanding {
        let Some(load) = self.0.get(backend) else { return Outstanding::default() };
        // Between the two halves of a change a sum may be below nothing for a moment.
        let whole = |sum: &AtomicU64| {
            let sum = sum.load(Ordering::Relaxed);
            if sum > i64::MAX as u64 { 0 } else { sum }
        };
        let opening = load.opening.load(Ordering::Relaxed);
        let unsized_sessions = whole(&load.unsized_sessions) + opening;
        Outstanding { bytes: whole(&load.bytes), unsized_sessions }
    }
}

fn is_unsized(progress: Progress) -> u64 {
    u64::from(progress.total == 0)
}

/// A file that no server could hold counts as one that it can: sums must not overflow because
/// somebody wrote a large number.
fn left(progress: Progress) -> u64 {
    progress.total.saturating_sub(progress.next_offset).min(1 << 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BackendId = BackendId(0);
    const B: BackendId = BackendId(1);

    fn at(next_offset: u64, total: u64) -> Progress {
        Progress { next_offset, total, ..Progress::default() }
    }

    #[track_caller]
    fn check(tally: &Tally, backend: BackendId, sessions: u64, unsized_sessions: u64, bytes: u64) {
        assert_eq!(tally.sessions(backend), sessions);
        assert_eq!(tally.outstanding(backend), Outstanding { bytes, unsized_sessions });
    }

    #[test]
    fn what_is_left_follows_every_session() {
        let tally = Tally::default();
        tally.add(A, at(0, 0));
        tally.add(A, at(10, 100));
        tally.add(B, at(0, 0));
        check(&tally, A, 2, 1, 90);
        tally.progress(A, at(0, 0), at(30, 50));
        check(&tally, A, 2, 0, 110);
        // A server may send a client back.
        tally.progress(A, at(30, 50), at(5, 50));
        check(&tally, A, 2, 0, 135);
        tally.remove(A, at(10, 100));
        tally.remove(A, at(5, 50));
        check(&tally, A, 0, 0, 0);
        check(&tally, B, 1, 1, 0);
    }

    #[test]
    fn a_create_under_way_counts_like_the_session_that_will_come_of_it() {
        let tally = Arc::new(Tally::default());
        tally.add(A, at(10, 100));
        let both = [tally.open(A), tally.open(A)];
        check(&tally, A, 3, 2, 90);
        drop(both);
        check(&tally, A, 1, 0, 90);
        check(&tally, B, 0, 0, 0);
    }

    #[test]
    fn numbers_that_a_client_makes_up_do_not_overflow() {
        let tally = Tally::default();
        for _ in 0..1000 {
            tally.add(A, at(0, u64::MAX));
        }
        tally.progress(A, at(0, u64::MAX), at(u64::MAX, u64::MAX));
        check(&tally, A, 1000, 0, 999 << 50);
        check(&tally, BackendId(999), 0, 0, 0);
    }
}
