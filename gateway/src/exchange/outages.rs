//! Since when each backend refuses connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway_core::farm::BackendId;

use crate::base::by_id::ById;

/// Milliseconds of the steady clock at the first failure, plus one; 0 while all is well.
#[derive(Default)]
pub struct Outages(ById<AtomicU64>);

impl Outages {
    /// A connection failed. Returns for how long they have.
    pub fn failed(&self, backend: BackendId, steady: Duration) -> Duration {
        let since = self.0.at(backend);
        let now = u64::try_from(steady.as_millis()).unwrap_or(u64::MAX - 1);
        match since.compare_exchange(0, now + 1, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Duration::ZERO,
            Err(first) => Duration::from_millis((now + 1).saturating_sub(first)),
        }
    }

    pub fn over(&self, backend: BackendId) {
        if let Some(since) = self.0.get(backend)
            && since.load(Ordering::Relaxed) != 0
        {
            since.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_counts_from_its_first_failure_and_ends_with_a_success() {
        let outages = Outages::default();
        let (id, s) = (BackendId(0), Duration::from_secs);
        assert_eq!(outages.failed(id, s(10)), s(0));
        assert_eq!(outages.failed(id, s(25)), s(15));
        outages.over(id);
        assert_eq!(outages.failed(id, s(30)), s(0));
    }
}
