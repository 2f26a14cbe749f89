//! Pipes between two sockets of the kernel.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::*;

/// Pipes that no other test counts.
fn pipes(size: usize) -> &'static Pipes {
    Box::leak(Box::new(Pipes { open: AtomicUsize::new(0), size }))
}

fn open(pipes: &Pipes) -> usize {
    pipes.open.load(Ordering::Relaxed)
}

/// Both ends, of which the first never waits.
fn sockets() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn numbers(pipe: &Pipe) -> (i32, i32) {
    (pipe.ends().read.as_raw_fd(), pipe.ends().write.as_raw_fd())
}

#[test]
fn bytes_go_through_a_pipe_in_their_order() {
    let mut pipe = pipes(SIZE).make(1).unwrap();
    let (from, mut client) = sockets();
    let (to, mut server) = sockets();
    assert_eq!(pipe.fill(&from, 100).unwrap_err().kind(), ErrorKind::WouldBlock);
    for (sent, most, expected) in [("abc", 100, "abc"), ("defgh", 2, "de"), ("", 100, "fgh")] {
        client.write_all(sent.as_bytes()).unwrap();
        assert_eq!(pipe.fill(&from, most).unwrap(), expected.len());
        assert!(!pipe.is_empty());
        assert_eq!(pipe.drain(&to).unwrap(), expected.len());
        assert!(pipe.is_empty());
        let mut got = vec![0; expected.len()];
        server.read_exact(&mut got).unwrap();
        assert_eq!(got, expected.as_bytes());
    }
    drop(client);
    assert_eq!(pipe.fill(&from, 100).unwrap(), 0, "the end");
    assert!(pipe.is_empty());
}

#[test]
fn a_socket_that_is_full_leaves_the_rest_in_the_pipe() {
    let mut pipe = pipes(SIZE).make(1).unwrap();
    let (from, mut client) = sockets();
    let (mut to, mut server) = sockets();
    while to.write(&[b'x'; 4096]).is_ok() {}
    client.write_all(b"rest").unwrap();
    assert_eq!(pipe.fill(&from, 100).unwrap(), 4);
    assert_eq!(pipe.drain(&to).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(!pipe.is_empty());
    let mut room = vec![0; 64 * 1024];
    while pipe.drain(&to).is_err() {
        assert!(server.read(&mut room).unwrap() > 0);
    }
    assert!(pipe.is_empty());
}

#[test]
fn an_empty_pipe_serves_the_next_body_and_one_with_bytes_does_not() {
    let pipes = pipes(SIZE);
    let (from, mut client) = sockets();
    let mut pipe = pipes.make(4).unwrap();
    let first = numbers(&pipe);
    client.write_all(b"one").unwrap();
    pipe.fill(&from, 100).unwrap();
    pipe.drain(&sockets().0).unwrap();
    drop(pipe);
    let mut again = Pipe::take().unwrap();
    assert_eq!((numbers(&again), open(pipes)), (first, 1));
    client.write_all(b"two").unwrap();
    again.fill(&from, 100).unwrap();
    drop(again);
    assert_eq!(open(pipes), 0, "what it held is gone with it");
}

#[test]
fn a_thread_keeps_a_few_and_the_process_has_no_more_than_it_may() {
    let pipes = pipes(SIZE);
    let all: Vec<_> = (0..4).map(|_| pipes.make(4).unwrap()).collect();
    assert!(pipes.make(4).is_none());
    drop(all);
    assert_eq!(open(pipes), KEPT);
    let kept: Vec<_> = (0..KEPT).map(|_| Pipe::take().unwrap()).collect();
    assert_eq!(open(pipes), KEPT);
    drop(kept);
}

#[test]
fn a_pipe_that_the_kernel_makes_too_small_is_none() {
    // What a user gets who is over `pipe-user-pages-soft`.
    let pipes = pipes(4096);
    assert!(pipes.make(4).is_none());
    assert_eq!(open(pipes), 0);
}

#[test]
fn where_there_was_none_it_is_not_asked_for_with_each_piece() {
    PAUSED.set(2);
    assert!(Pipe::take().is_none() && Pipe::take().is_none());
    assert_eq!(PAUSED.get(), 0);
    none_for_this_thread();
    assert!(Pipe::take().is_none());
}
