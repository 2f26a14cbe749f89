//! One TCP connection: heads in, bodies streamed, answers out.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::time::{sleep, timeout};

use crate::http::{Answer, MAX_HEAD, Segment};
use crate::transport::Transport;

/// Bytes moved at a time between a socket and a disk.
pub const BLOCK: usize = 256 * 1024;

/// A peer that moves no byte for so long is given up. IIS waits as long (`connectionTimeout`), and
/// a client that throttles itself stands still inside a body for almost that time.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(120);

/// From the first byte of a head to its end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection and what was read from it too early.
pub struct Conn {
    pub(crate) stream: Transport,
    buffer: Vec<u8>,
    pub(crate) taken: usize,
}

/// Why no head came.
#[derive(Debug, Error)]
pub enum NoHead {
    #[error("closed between requests")]
    Closed,
    #[error("idle for too long")]
    Idle,
    #[error("cut off or stalled in a request head")]
    Cut(Vec<u8>),
    #[error("request head over {MAX_HEAD} bytes")]
    TooLarge(Vec<u8>),
}

/// Bytes per second of a fault that slows a connection down.
#[derive(Clone, Copy, Debug)]
pub struct Pace(pub u64);

impl Conn {
    pub fn new(stream: Transport) -> Self {
        Self { stream, buffer: Vec::new(), taken: 0 }
    }

    /// Waits for the next request head and returns its exact bytes.
    pub async fn read_head(&mut self, idle: Duration) -> Result<Vec<u8>, NoHead> {
        self.wait_for_request(idle).await?;
        match timeout(HEAD_TIMEOUT, self.finish_head()).await {
            Ok(result) => result,
            Err(_) => Err(NoHead::Cut(self.unread().to_vec())),
        }
    }

    /// Returns when at least one byte of a request is here. Safe to drop: nothing is lost.
    pub async fn wait_for_request(&mut self, idle: Duration) -> Result<(), NoHead> {
        if !self.unread().is_empty() {
            return Ok(());
        }
        match timeout(idle, self.fill()).await {
            Err(_) => Err(NoHead::Idle),
            Ok(Ok(0) | Err(_)) => Err(NoHead::Closed),
            Ok(Ok(_)) => Ok(()),
        }
    }

    async fn finish_head(&mut self) -> Result<Vec<u8>, NoHead> {
        let mut searched = 0;
        loop {
            if let Some(end) = head_end(self.unread(), searched) {
                if end > MAX_HEAD {
                    return Err(NoHead::TooLarge(self.unread()[..MAX_HEAD].to_vec()));
                }
                let head = self.unread()[..end].to_vec();
                self.taken += end;
                return Ok(head);
            }
            if self.unread().len() > MAX_HEAD {
                return Err(NoHead::TooLarge(self.unread()[..MAX_HEAD].to_vec()));
            }
            searched = self.unread().len().saturating_sub(3);
            match self.fill().await {
                Ok(0) | Err(_) => return Err(NoHead::Cut(self.unread().to_vec())),
                Ok(_) => {}
            }
        }
    }

    pub async fn write_answer(&mut self, answer: &Answer, pace: Option<Pace>) -> io::Result<()> {
        let mut bytes = answer.head_bytes();
        if !answer.head_only {
            for segment in &answer.body {
                match segment {
                    Segment::Bytes(more) => bytes.extend_from_slice(more),
                    Segment::File { file, offset, length } => {
                        self.write_all(&std::mem::take(&mut bytes), pace).await?;
                        let (mut at, end) = (*offset, *offset + *length);
                        while at < end {
                            let wanted = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
                            let source = Arc::clone(file);
                            let block = blocking(move || {
                                let mut block = vec![0; wanted];
                                source.read_exact_at(&mut block, at).map(|()| block)
                            })
                            .await?;
                            self.write_all(&block, pace).await?;
                            at += block.len() as u64;
                        }
                    }
                }
            }
        }
        self.write_all(&bytes, pace).await
    }

    pub async fn write_all(&mut self, bytes: &[u8], pace: Option<Pace>) -> io::Result<()> {
        let step = pace.map_or(BLOCK, Pace::step);
        for piece in bytes.chunks(step) {
            match timeout(PROGRESS_TIMEOUT, self.stream.write_all(piece)).await {
                Ok(result) => result?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
            if pace.is_some() {
                self.flush().await?;
                sleep(Pace::TICK).await;
            }
        }
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        match timeout(PROGRESS_TIMEOUT, self.stream.flush()).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Ends our side with FIN and swallows what still comes, for a while.
    pub async fn finish(mut self, linger: Duration) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let swallow = async {
            self.buffer.resize(BLOCK, 0);
            while matches!(self.stream.read(&mut self.buffer).await, Ok(n) if n > 0) {}
        };
        let _ = timeout(linger, swallow).await;
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        let _ = self.stream.tcp().set_zero_linger();
    }

    /// Keeps the connection open and silent until the peer gives up.
    pub async fn stall(&self) {
        // Reading would let the peer send on, so the end of its stream is polled for instead.
        loop {
            match self.stream.tcp().ready(Interest::READABLE | Interest::ERROR).await {
                Ok(ready) if !ready.is_read_closed() && !ready.is_error() => {
                    sleep(Duration::from_millis(50)).await;
                }
                _ => return,
            }
        }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// Reads once into the buffer. Safe to drop: `read_buf` takes nothing unless it finishes.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.reserve(8 * 1024);
        self.stream.read_buf(&mut self.buffer).await
    }
}

impl Pace {
    pub const TICK: Duration = Duration::from_millis(50);

    pub fn step(self) -> usize {
        usize::try_from(self.0 / 20).unwrap_or(usize::MAX).max(1)
    }
}

/// Runs file work where it may block.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

/// The length of the head that starts `bytes`, if its empty line is there.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len()).filter(|&at| bytes[at] == b'\n').find_map(|at| match &bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_its_empty_line() {
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest", 0), Some(24));
        assert_eq!(head_end(b"GET / HTTP/1.1\n\nrest", 0), Some(16));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nA: b\r\n\r", 0), None);
        assert_eq!(head_end(b"", 0), None);
    }
}
