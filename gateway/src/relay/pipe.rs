//! Pipes of the kernel, through which a body goes from socket to socket without being copied. Each
//! thread keeps some for the next body.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// A pipe has a slot for each 4 KiB of its size, and a slot holds one segment of TCP, however small it
/// is: so many bytes are some 90 KiB of segments of 1,448 bytes.
const SIZE: usize = 256 * 1024;

/// The kernel gives a pipe of one or two slots to a user who has many (`pipe-user-pages-soft`), and
/// does not say so. Such a pipe costs more than copying.
const LEAST: usize = 64 * 1024;

/// Pipes of the process, of two descriptors each. One is taken only while there are bytes in it, so a
/// thread needs one, and each server that reads nothing holds another.
const MOST: usize = 16;

/// Empty pipes that a thread keeps.
const KEPT: usize = 2;

/// Where there was none to be had, the next so many pieces of bodies do without asking.
const PAUSE: u32 = 256;

static PIPES: Pipes = Pipes { open: AtomicUsize::new(0), size: SIZE };

thread_local! {
    static SPARE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static PAUSED: Cell<u32> = const { Cell::new(0) };
}

/// How many pipes there are, and how large they are made.
#[derive(Debug)]
struct Pipes {
    open: AtomicUsize,
    size: usize,
}

/// Goes back to its thread when it is dropped empty. With bytes in it, it is closed: they would be the
/// beginning of the next body.
#[derive(Debug)]
pub struct Pipe {
    /// `None` only while it is dropped.
    ends: Option<Ends>,
    /// Bytes in it.
    held: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
    of: &'static Pipes,
}

static FOR_PIPES: AtomicUsize = AtomicUsize::new(0);

/// How many descriptors all pipes together may take.
pub fn take_at_most(descriptors: usize) {
    FOR_PIPES.store(descriptors, Ordering::Relaxed);
}

impl Pipe {
    /// An empty one, if there is one to be had.
    pub fn take() -> Option<Self> {
        if let Some(spare) = SPARE.with_borrow_mut(Vec::pop) {
            return Some(spare);
        }
        let paused = PAUSED.get();
        if paused > 0 {
            PAUSED.set(paused - 1);
            return None;
        }
        let made = PIPES.make(MOST.min(FOR_PIPES.load(Ordering::Relaxed) / 2));
        if made.is_none() {
            PAUSED.set(PAUSE);
        }
        made
    }

    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("the ends are taken on drop only")
    }

    /// Moves at most `most` bytes from a socket into the pipe, which is empty: so `WouldBlock` says
    /// that the socket has none, never that the pipe is full. 0 at the end of the stream.
    pub fn fill(&mut self, from: impl AsFd, most: usize) -> io::Result<usize> {
        debug_assert!(self.is_empty(), "it would not be known what was full");
        let ends = self.ends();
        let moved = splice(from, None, &ends.write, None, most.min(ends.size), flags())?;
        self.held = moved;
        Ok(moved)
    }

    /// Moves bytes from the pipe to a socket, as many as that takes.
    pub fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let moved = splice(&self.ends().read, None, to, None, self.held, flags())?;
        self.held -= moved;
        Ok(moved)
    }
}

/// The pages change hands, and nothing waits.
fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

impl Pipes {
    /// Another one, where there may be so many.
    fn make(&'static self, most: usize) -> Option<Pipe> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let made = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).and_then(|(read, write)| {
            // A user who has many pipes may not make one larger, and keeps what it is.
            let _ = fcntl_setpipe_size(&write, self.size);
            let size = fcntl_getpipe_size(&write)?;
            Ok((read, write, size))
        });
        let ends = match made {
            Ok((read, write, size)) => Ends { read, write, size, of: self },
            Err(_) => {
                self.open.fetch_sub(1, Ordering::Relaxed);
                return None;
            }
        };
        if ends.size < LEAST {
            // Dropped, the ends count themselves out.
            return None;
        }
        Some(Pipe { ends: Some(ends), held: 0 })
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.of.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take().filter(|_| self.is_empty()) else { return };
        // A thread that is about to end keeps nothing.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(Self { ends: Some(ends), held: 0 });
            }
        });
    }
}

/// This thread gets none from now on.
#[cfg(test)]
pub fn none_for_this_thread() {
    SPARE.take().into_iter().for_each(|mut pipe| drop(pipe.ends.take()));
    PAUSED.set(u32::MAX);
}

/// This thread has one, whatever others have.
#[cfg(test)]
pub fn one_for_this_thread() {
    drop(PIPES.make(usize::MAX).expect("a pipe"));
}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
