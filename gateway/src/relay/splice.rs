//! When a body goes from socket to socket, and how it leaves its pipe.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipe::Pipe;
use super::server::Server;
use crate::config::Limits;
use crate::guard::GuardStream;

/// Whether a body can go so: its bytes are the same on both connections, and none is held back for the
/// sake of a limit.
pub fn can_splice(guard: &GuardStream, server: &mut Server, limits: &Limits) -> bool {
    let limited = limits.bandwidth.is_some() || limits.bandwidth_per_client.is_some();
    !limited && guard.socket().tcp().is_some() && server.socket().is_plain()
}

/// Whether the kernel, or a filter of system calls, does not do this at all. Nothing was moved.
pub fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// Moves bytes from a pipe that has some to a socket. Returns how many, once the socket takes any.
pub fn poll_drain(
    cx: &mut Context<'_>,
    pipe: &mut Pipe,
    to: &TcpStream,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(to.poll_write_ready(cx))?;
        match to.try_io(Interest::WRITABLE, || pipe.drain(to)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            moved => return Poll::Ready(moved),
        }
    }
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
