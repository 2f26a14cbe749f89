//! Values by backend, where backends come and none is forgotten.

use std::sync::OnceLock;

use gateway_core::farm::BackendId;

/// Size of the first chunk; each further one is twice as large.
const FIRST: usize = 64;

/// Enough for every [`BackendId`].
const CHUNKS: usize = 27;

/// A value for every backend that anybody has asked for. It grows without moving what is there, so
/// reading takes no lock.
#[derive(Debug)]
pub struct ById<T> {
    chunks: [OnceLock<Box<[T]>>; CHUNKS],
}

impl<T> Default for ById<T> {
    fn default() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS] }
    }
}

impl<T: Default> ById<T> {
    /// Makes room where there is none.
    pub fn at(&self, id: BackendId) -> &T {
        let (chunk, offset) = place(id);
        let make = || (0..FIRST << chunk).map(|_| T::default()).collect();
        &self.chunks[chunk].get_or_init(make)[offset]
    }

    /// `None` if there is no room, which there is for every id that [`Self::at`] was asked for.
    pub fn get(&self, id: BackendId) -> Option<&T> {
        let (chunk, offset) = place(id);
        Some(&self.chunks[chunk].get()?[offset])
    }

    /// All for which there is room, in the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = (BackendId, &T)> {
        let made = self.chunks.iter().filter_map(OnceLock::get);
        (0u32..).map(BackendId).zip(made.flatten())
    }
}

/// Chunk, and place in it.
fn place(BackendId(id): BackendId) -> (usize, usize) {
    let at = id as usize + FIRST;
    let chunk = (at / FIRST).ilog2() as usize;
    (chunk, at - (FIRST << chunk))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn every_id_has_a_place_of_its_own_that_never_moves() {
        let all = ById::<AtomicU32>::default();
        let first: *const AtomicU32 = all.at(BackendId(0));
        for id in 0..1000 {
            all.at(BackendId(id)).fetch_add(id, Ordering::Relaxed);
        }
        assert_eq!(first, std::ptr::from_ref(all.at(BackendId(0))));
        for (BackendId(id), value) in all.iter().take(1000) {
            assert_eq!(value.load(Ordering::Relaxed), id);
        }
    }

    #[test]
    fn looking_makes_no_room() {
        let all = ById::<AtomicU32>::default();
        assert!(all.get(BackendId(u32::MAX)).is_none());
        assert_eq!(place(BackendId(u32::MAX)).0, CHUNKS - 1);
        all.at(BackendId(64));
        assert!(all.get(BackendId(63)).is_none());
        assert!(all.get(BackendId(191)).is_some());
        assert!(all.get(BackendId(192)).is_none());
    }
}
