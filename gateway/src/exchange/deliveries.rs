//! Downloads of files that were uploaded through this gateway.

use std::hash::{BuildHasher, RandomState};

use gateway_core::farm::BackendId;
use gateway_core::session::delivered::Delivered;
use gateway_core::session::target::normal_form;
use parking_lot::Mutex;

/// Deliveries that are remembered, at some 70 bytes each.
const MOST: usize = 100_000;

/// In memory: a process that starts knows none.
pub struct Deliveries {
    delivered: Mutex<Delivered>,
    /// Keyed anew in each process. Clients choose targets, so one could make two of them collide
    /// under the hash that sessions are bound by.
    hasher: RandomState,
}

impl Default for Deliveries {
    fn default() -> Self {
        let delivered = Mutex::new(Delivered::new(MOST));
        Self { delivered, hasher: RandomState::new() }
    }
}

impl Deliveries {
    /// The upload to the target has ended well at that backend.
    pub fn note(&self, target: &[u8], backend: BackendId) {
        let key = self.key(target);
        self.delivered.lock().note(key, backend);
    }

    /// Who has the file that is asked for. A query that no upload had may say how to show it.
    pub fn holder(&self, target: &[u8]) -> Option<BackendId> {
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        self.find(target).or_else(|| self.find(path))
    }

    fn find(&self, target: &[u8]) -> Option<BackendId> {
        let key = self.key(target);
        self.delivered.lock().find(key)
    }

    fn key(&self, target: &[u8]) -> u64 {
        self.hasher.hash_one(normal_form(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_in_every_spelling_of_its_target_and_with_a_query() {
        let deliveries = Deliveries::default();
        let (one, other) = (BackendId(1), BackendId(2));
        deliveries.note(b"/in/a%2dB.bin", one);
        deliveries.note(b"/in/q?v=1", other);
        for target in [&b"/in/a-B.bin"[..], b"/in/a%2DB.bin", b"/in/a-B.bin?show"] {
            assert_eq!(deliveries.holder(target), Some(one), "{target:?}");
        }
        assert_eq!(deliveries.holder(b"/in/q?v=1"), Some(other));
        for target in [&b"/in/q"[..], b"/in/a-b.bin", b"/"] {
            assert_eq!(deliveries.holder(target), None, "{target:?}");
        }
        deliveries.note(b"/in/a-B.bin", other);
        assert_eq!(deliveries.holder(b"/in/a-B.bin"), Some(other), "the last one counts");
    }
}
