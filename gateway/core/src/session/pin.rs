//! What is remembered of a session.

use std::sync::Arc;
use std::time::Duration;

use super::target::{Binding, TargetHash};
use crate::farm::BackendId;

/// Wall clock, Unix milliseconds: it goes to disk and to other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Zero if `earlier` is later, as after a step of the clock.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// So long before; never before 1970.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Who a client is by its certificate: a digest of what stays when the certificate is renewed.
///
/// Shared by the connections and sessions that hold it, because most sessions have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(Arc<[u8; 16]>);

impl Subject {
    pub fn new(digest: [u8; 16]) -> Self {
        Self(Arc::new(digest))
    }

    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

pub fn fnv1a(bytes: &[u8]) -> u64 {
    fnv1a_on(0xcbf2_9ce4_8422_2325, bytes)
}

pub(super) fn fnv1a_on(hash: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Session to backend. Written once, when the Ack of Create-Session passes, and never edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub backend: BackendId,
    /// The backend's own id, where the client was given another.
    pub backend_session: Option<Box<str>>,
    pub binding: Binding,
    pub created: Timestamp,
    /// Whose it is, where sessions are bound to certificates: nobody else hears of it.
    pub subject: Option<Subject>,
}

impl Pin {
    /// What a memory of its end is found by.
    pub fn target_digest(&self) -> TargetHash {
        self.binding.target.known_to(self.subject.as_ref())
    }
}

/// How far an upload has come. Advisory: losing it never ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// First byte still wanted.
    pub next_offset: u64,
    /// Size of the file in bytes; 0 while no Fragment is known to have been acknowledged.
    pub total: u64,
    /// When the last packet succeeded.
    pub seen: Timestamp,
}

impl Progress {
    /// The size of the file, if it is known and all of it is known to have arrived.
    pub fn complete(self) -> Option<u64> {
        (self.total > 0 && self.next_offset == self.total).then_some(self.total)
    }

    /// The size of the file, if it is known and it is not known that bytes are missing.
    pub fn perhaps_complete(self) -> Option<u64> {
        let perhaps = self.total > 0 && [0, self.total].contains(&self.next_offset);
        perhaps.then_some(self.total)
    }

    /// What is known after an Ack that says `newer`: it may say nothing of the total.
    pub fn then(self, newer: Self) -> Self {
        let total = if newer.total == 0 { self.total } else { newer.total };
        Self { total, ..newer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of the whole file: for certain, and where nothing speaks against it.
    #[track_caller]
    fn check(next_offset: u64, total: u64, complete: Option<u64>, perhaps: Option<u64>) {
        let progress = Progress { next_offset, total, ..Progress::default() };
        let known = (progress.complete(), progress.perhaps_complete());
        assert_eq!(known, (complete, perhaps), "{next_offset} of {total}");
    }

    #[test]
    fn times_stop_where_they_begin() {
        let second = Duration::from_secs(1);
        assert_eq!(Timestamp(5000).before(second), Timestamp(4000));
        assert_eq!(Timestamp(999).before(second), Timestamp(0));
        assert_eq!(Timestamp(5000).before(Duration::MAX), Timestamp(0));
        assert_eq!(Timestamp(5000).since(Timestamp(4000)), second);
        assert_eq!(Timestamp(4000).since(Timestamp(5000)), Duration::ZERO);
    }

    #[test]
    fn a_file_is_complete_with_its_last_byte() {
        check(0, 0, None, None);
        check(0, 1, None, Some(1));
        check(1, 1, Some(1), Some(1));
        check(9, 10, None, None);
        check(10, 10, Some(10), Some(10));
        check(11, 10, None, None);
        check(7, 0, None, None);
    }

    #[test]
    fn an_ack_that_names_no_total_leaves_the_one_that_is_known() {
        let at = |next_offset, total| Progress { next_offset, total, ..Progress::default() };
        assert_eq!(at(1, 10).then(at(2, 0)), at(2, 10));
        assert_eq!(at(1, 10).then(at(2, 20)), at(2, 20));
        assert_eq!(at(5, 10).then(at(1, 10)), at(1, 10), "an offset may go back");
    }
}
