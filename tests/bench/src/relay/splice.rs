//! A body from socket to socket through a pipe: its pages change hands and are not copied.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The kernel grants it where `pipe-user-pages-soft` allows; else the pipe is as large as it is.
const SIZE: usize = 256 * 1024;

/// Empty whenever nobody is inside [`body`].
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

impl Pipe {
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let size = fcntl_setpipe_size(&write, SIZE)
            .or_else(|_| rustix::pipe::fcntl_getpipe_size(&write))?;
        Ok(Self { read, write, size })
    }
}

/// The pipe is empty whenever it is filled: `EAGAIN` then means that the client has sent no more, never that the pipe is
/// full, and tokio may wait for the client.
pub async fn body(
    client: &TcpStream,
    server: &TcpStream,
    pipe: Pipe,
    mut left: u64,
) -> io::Result<Pipe> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    while left > 0 {
        let most = pipe.size.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut held = client
            .async_io(Interest::READABLE, || {
                Ok(splice(client, None, &pipe.write, None, most, flags)?)
            })
            .await?;
        if held == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= held as u64;
        while held > 0 {
            held -= server
                .async_io(Interest::WRITABLE, || {
                    Ok(splice(&pipe.read, None, server, None, held, flags)?)
                })
                .await?;
        }
    }
    Ok(pipe)
}
