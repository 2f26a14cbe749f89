//! mimalloc, asked in the way that is cheap, and with memory that was let go of really free.
//!
//! The first hazard: a request with an alignment takes a slow path in mimalloc, with a block that is
//! larger than asked for, unless a free block of a size that is a power of two is at hand. Nearly all
//! of what Rust asks for is content with the alignment that every block has.
//!
//! The second: rustls reads into a buffer that grows to 8 KiB in most handshakes and is shrunk to
//! 4 KiB when it is empty. mimalloc leaves what shrinks to half in its old block, so each idle
//! connection would hold 4 KiB that nobody uses.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{mi_malloc, mi_zalloc};
use mimalloc::MiMalloc;

/// Every block of so many bytes or more has this alignment (`MI_MAX_ALIGN_SIZE` of mimalloc), a smaller
/// one that of a word.
const ALWAYS: usize = 16;

/// Whether a block has the alignment of the layout without being asked for it.
fn is_aligned_anyway(layout: Layout) -> bool {
    layout.align() <= size_of::<usize>() || layout.align() <= ALWAYS && layout.size() >= ALWAYS
}

/// Below that, what is left over is not worth a copy.
const WORTH: usize = 2048;

/// mimalloc, except that what shrinks by half or more moves to a block of its size, and that no
/// alignment is asked for that a block has anyway.
pub struct Allocator;

// SAFETY: every block is one of mimalloc, asked for with the layout that it is given back with.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_aligned_anyway(layout) {
            // SAFETY: mimalloc takes any size.
            return unsafe { mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: the caller's promises are those that mimalloc asks for.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_aligned_anyway(layout) {
            // SAFETY: as above.
            return unsafe { mi_zalloc(layout.size()) }.cast();
        }
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
    fn blocks_have_the_alignment_that_was_asked_for() {
        let sizes = [1, 7, 8, 9, 15, 16, 17, 24, 40, 48, 72, 80, 112, 1000, 1040, 3000, 70_000];
        for (size, align) in sizes.iter().flat_map(|&size| (0..7).map(move |bit| (size, 1 << bit)))
        {
            let layout = Layout::from_size_align(size, align).unwrap();
            // Several, so that they do not all stand at the start of a page.
            // SAFETY: as the trait asks: the layout is not empty, and what is given back was got.
            let blocks: Vec<_> = (0..20)
                .map(|at| unsafe {
                    if at % 2 == 0 {
                        Allocator.alloc(layout)
                    } else {
                        Allocator.alloc_zeroed(layout)
                    }
                })
                .collect();
            for (at, block) in blocks.into_iter().enumerate() {
                assert!(!block.is_null());
                assert_eq!(block.addr() % align, 0, "{size} bytes, aligned to {align}");
                // SAFETY: as above.
                unsafe {
                    assert!(at % 2 == 0 || (0..size).all(|byte| block.add(byte).read() == 0));
                    block.write_bytes(0xff, size);
                    Allocator.dealloc(block, layout);
                }
            }
        }
    }

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
