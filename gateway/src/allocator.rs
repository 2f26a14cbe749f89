//! Memory that was let go of is really free.
//!
//! The hazard: rustls reads into a buffer that grows to 8 KiB in most handshakes and is shrunk to
//! 4 KiB when it is empty. mimalloc leaves what shrinks to half in its old block, so each idle
//! connection would hold 4 KiB that nobody uses.

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;

/// Below that, what is left over is not worth a copy.
const WORTH: usize = 2048;

/// mimalloc, except that what shrinks by half or more moves to a block of its size.
pub struct Allocator;

// SAFETY: every block is one of mimalloc, asked for with the layout that it is given back with.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that mimalloc asks for.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size < WORTH || size > layout.size() / 2 {
            // SAFETY: as above.
            return unsafe { MiMalloc.realloc(block, layout, size) };
        }
        // SAFETY: the alignment is that of a layout, and the size is smaller and not zero.
        let smaller = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the new block does not overlap the old one and is the smaller of both; if there is
        // none, the old one stays as it is, which is what a failure of `realloc` means.
        unsafe {
            let moved = MiMalloc.alloc(smaller);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, size);
                MiMalloc.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_keeps_its_bytes_whether_it_moves_or_not() {
        for (from, to, moves) in [(8192, 4096, true), (8192, 4097, false), (4096, 1024, false)] {
            let layout = Layout::from_size_align(from, 1).unwrap();
            // SAFETY: as the trait asks: the layout is not empty, the block is used within its
            // bounds and given back with the layout that it has by then.
            unsafe {
                let block = Allocator.alloc(layout);
                (0..from).for_each(|at| block.add(at).write(at as u8));
                let shrunk = Allocator.realloc(block, layout, to);
                assert!((0..to).all(|at| shrunk.add(at).read() == at as u8), "{from} to {to}");
                if moves {
                    assert_ne!(shrunk, block, "{from} to {to}");
                }
                Allocator.dealloc(shrunk, Layout::from_size_align(to, 1).unwrap());
            }
        }
    }
}
