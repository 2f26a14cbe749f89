//! Buffers for heads and bodies, which each thread keeps for the next ones.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::guard::AHEAD;

/// Bytes of a whole buffer.
pub const WHOLE: usize = 64 * 1024;

/// A read of the last bytes of so large a body leaves room, by which it is seen to be the last.
const ROOM: usize = WHOLE + AHEAD as usize;

/// Bytes of a buffer for a head, or for a body as small as one.
pub const SMALL: usize = 4096;

/// Whole buffers that a thread keeps.
const KEPT: usize = 8;

/// Small ones: as many as packets are under way on a busy thread.
const KEPT_SMALL: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static SPARE_SMALL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Room for a part of a body. Goes back to its thread when it is dropped.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// Room for at least `size` bytes.
    pub fn of(size: usize) -> Self {
        if size <= SMALL {
            let spare = SPARE_SMALL.with_borrow_mut(Vec::pop);
            return Self(spare.unwrap_or_else(|| Vec::with_capacity(SMALL)));
        }
        if size < WHOLE / 4 {
            return Self(Vec::with_capacity(size));
        }
        let spare = SPARE.with_borrow_mut(Vec::pop).filter(|_| size <= ROOM);
        Self(spare.unwrap_or_else(|| Vec::with_capacity(size.max(ROOM))))
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut own = std::mem::take(&mut self.0);
        let (spare, most) = match own.capacity() {
            ROOM => (&SPARE, KEPT),
            SMALL => (&SPARE_SMALL, KEPT_SMALL),
            _ => return,
        };
        own.clear();
        // A thread that is about to end keeps nothing.
        let _ = spare.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < most {
                spare.push(own);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_buffer_is_used_again_and_comes_back_empty() {
        let mut first = Buffer::of(WHOLE);
        first.extend_from_slice(b"of another client");
        let place = first.as_ptr();
        drop(first);
        let second = Buffer::of(WHOLE / 2);
        assert_eq!((second.as_ptr(), second.len()), (place, 0));
        assert!(Buffer::of(100).capacity() < WHOLE);
    }
}
