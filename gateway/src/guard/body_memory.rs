//! One budget of memory for the bodies of all requests.
//!
//! A body is read in pieces, and Pingora holds some pieces of it while its server reads none. The
//! sum over thousands of such bodies is what ends a process, so the size of a piece follows what is
//! left of the budget: whole pieces while there is plenty, small ones when it runs short. A piece is
//! never smaller than [`LEAST`], so every body goes on, and the budget is exceeded by that only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest piece: what Pingora reads at once.
const MOST: u64 = 64 * 1024;

/// The smallest piece.
const LEAST: u64 = 2 * 1024;

/// Pieces of one body that are held while its server reads nothing: four on their way to the task
/// that sends them, the one that it sends, and the buffer that they are read into.
const PIECES: usize = 6;

/// A body is given no more than this part of what is left, so that those that come first leave
/// something to those behind them.
const PART: u64 = 32;

/// What is taken of the budget.
#[derive(Debug, Default)]
pub struct BodyMemory {
    taken: AtomicU64,
}

/// What the body of one request takes: the pieces that were read last.
#[derive(Debug, Default)]
pub(super) struct BodyShare {
    memory: Arc<BodyMemory>,
    /// Bytes of each, the oldest first from `next`, around the end.
    pieces: [u32; PIECES],
    next: usize,
}

impl BodyMemory {
    /// Bytes.
    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl BodyShare {
    pub fn of(memory: Arc<BodyMemory>) -> Self {
        Self { memory, ..Self::default() }
    }

    fn held(&self) -> u64 {
        self.pieces.iter().copied().map(u64::from).sum()
    }

    /// How many bytes may be read at once, where all bodies together may take `budget` bytes.
    pub fn piece(&self, budget: u64) -> usize {
        let others = self.memory.taken().saturating_sub(self.held());
        let left = budget.saturating_sub(others);
        (left / PART / PIECES as u64).clamp(LEAST, MOST) as usize
    }

    /// A piece of so many bytes was read, so the oldest one has been sent.
    pub fn read(&mut self, bytes: usize) {
        let newest = u32::try_from(bytes).unwrap_or(u32::MAX);
        let oldest = std::mem::replace(&mut self.pieces[self.next], newest);
        self.next = (self.next + 1) % PIECES;
        let difference = u64::from(newest).wrapping_sub(oldest.into());
        self.memory.taken.fetch_add(difference, Ordering::Relaxed);
    }

    /// The request is over.
    pub fn release(&mut self) {
        let held = self.held();
        if held > 0 {
            self.memory.taken.fetch_sub(held, Ordering::Relaxed);
            self.pieces = [0; PIECES];
        }
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 64 * 1024 * 1024;

    fn shares(memory: &Arc<BodyMemory>, count: usize) -> Vec<BodyShare> {
        (0..count).map(|_| BodyShare::of(Arc::clone(memory))).collect()
    }

    /// Reads until its server is known to read nothing.
    fn fill(share: &mut BodyShare) {
        for _ in 0..PIECES {
            share.read(share.piece(BUDGET));
        }
    }

    #[test]
    fn a_body_takes_what_was_read_of_it_and_at_most_the_pieces_that_can_be_held() {
        let memory = Arc::new(BodyMemory::default());
        let mut share = BodyShare::of(Arc::clone(&memory));
        let sizes = [10, 1000, 1, 70, 5, 3, 20, 2];
        for (count, size) in (1..).zip(sizes) {
            assert_eq!(share.piece(BUDGET), MOST as usize);
            share.read(size);
            let held: usize = sizes[..count].iter().rev().take(PIECES).sum();
            assert_eq!(memory.taken(), held as u64, "after {count}");
        }
        share.release();
        assert_eq!(memory.taken(), 0);
        share.read(4);
        drop(share);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn bodies_take_no_more_than_the_budget_and_the_smallest_pieces() {
        for count in [1_usize, 100, 1_000, 20_000] {
            let memory = Arc::new(BodyMemory::default());
            let mut shares = shares(&memory, count);
            shares.iter_mut().for_each(fill);
            let most = BUDGET + (count * PIECES) as u64 * LEAST;
            assert!(memory.taken() <= most, "{} of {most}", memory.taken());
            assert!(shares[0].piece(BUDGET) >= LEAST as usize);
            drop(shares);
            assert_eq!(memory.taken(), 0);
        }
    }

    #[test]
    fn pieces_become_smaller_in_a_crowd_and_large_again_behind_it() {
        let memory = Arc::new(BodyMemory::default());
        let mut first = BodyShare::of(Arc::clone(&memory));
        fill(&mut first);
        let mut crowd = shares(&memory, 2_000);
        crowd.iter_mut().for_each(fill);
        assert!(first.piece(BUDGET) < MOST as usize / 8, "{}", first.piece(BUDGET));
        drop(crowd);
        assert_eq!(first.piece(BUDGET), MOST as usize);
        assert_eq!(first.piece(0), LEAST as usize);
    }
}
