//! Which backend has a file that was uploaded a while ago.
//!
//! A pin ends with its upload, and a client may fetch the file under the URL that it sent it to.

use std::collections::{HashMap, VecDeque};

use crate::farm::BackendId;

/// The newest deliveries, by something that stands for their target.
///
/// What stands for a target must be unforgeable where clients choose targets: a collision would
/// lead downloads of one file to the server of another.
#[derive(Debug)]
pub struct Delivered {
    /// With the number of the delivery.
    backends: HashMap<u64, (BackendId, u64)>,
    /// From the oldest to the newest.
    order: VecDeque<(u64, u64)>,
    count: u64,
    most: usize,
}

impl Delivered {
    pub fn new(most: usize) -> Self {
        Self { backends: HashMap::new(), order: VecDeque::new(), count: 0, most }
    }

    /// A file was delivered: it replaces one that was delivered before under the same target.
    pub fn note(&mut self, target: u64, backend: BackendId) {
        self.count += 1;
        self.backends.insert(target, (backend, self.count));
        self.order.push_back((target, self.count));
        while self.order.len() > self.most {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            // There may be a newer one under the same target.
            if self.backends.get(&oldest).is_some_and(|(_, newest)| *newest == number) {
                self.backends.remove(&oldest);
            }
        }
    }

    pub fn find(&self, target: u64) -> Option<BackendId> {
        self.backends.get(&target).map(|(backend, _)| *backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_deliveries_are_known_and_the_last_one_of_a_target_counts() {
        let mut delivered = Delivered::new(3);
        let check = |delivered: &Delivered, expected: [Option<u32>; 4]| {
            let found = [1, 2, 3, 4].map(|target| delivered.find(target));
            assert_eq!(found, expected.map(|backend| backend.map(BackendId)));
        };
        check(&delivered, [None; 4]);
        for (target, backend) in [(1, 0), (2, 1), (1, 2)] {
            delivered.note(target, BackendId(backend));
        }
        check(&delivered, [Some(2), Some(1), None, None]);
        // The older delivery of target 1 goes, the newer one stays.
        delivered.note(3, BackendId(0));
        check(&delivered, [Some(2), Some(1), Some(0), None]);
        delivered.note(4, BackendId(0));
        check(&delivered, [Some(2), None, Some(0), Some(0)]);
        for _ in 0..100 {
            delivered.note(4, BackendId(1));
        }
        check(&delivered, [None, None, None, Some(1)]);
        assert_eq!((delivered.backends.len(), delivered.order.len()), (1, 3));
    }
}
