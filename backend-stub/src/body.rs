//! Request bodies, streamed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use crate::conn::{Conn, PROGRESS_TIMEOUT, Pace};
use crate::http::{Answer, Framing, Head};

/// The same, when another request of the same session waits behind it: a client has one request
/// outstanding, so the older one has been given up at the other end (protocol rule 1.1 no. 7).
const PROGRESS_TIMEOUT_WITH_WAITERS: Duration = Duration::from_secs(5);

/// How often a waiting read looks whether somebody waits for it.
const SLICE: Duration = Duration::from_millis(250);

/// The body of one request. Reading it to the end is the caller's duty.
pub struct Body<'a> {
    conn: &'a mut Conn,
    chunked: Option<Chunk>,
    /// Bytes left, of the body or of the current chunk.
    left: u64,
    done: bool,
    continue_due: bool,
    hasher: Option<Sha256>,
    pub received: u64,
    pub trip: Option<(u64, Trip)>,
    pub pace: Option<Pace>,
    waiters: Option<Arc<AtomicUsize>>,
}

/// Why a request could not be read to its end; no answer can be given on this connection any more, except to
/// `Malformed`.
#[derive(Debug, Error)]
pub enum Lost {
    #[error("cut off in the body")]
    Cut,
    #[error("no progress in the body")]
    Stalled,
    #[error("malformed chunk")]
    Malformed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("fault on demand")]
    Fault(Trip),
}

/// What happens when the body reaches the byte that a fault names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    Die,
    Reset,
    Stall,
}

/// What comes next in a chunked body.
#[derive(Clone, Copy)]
enum Chunk {
    Size,
    Data,
    DataEnd,
    Trailers,
}

impl<'a> Body<'a> {
    /// Opens the body of a request. With `hash`, its SHA-256 is made on the way.
    pub fn new(conn: &'a mut Conn, head: &Head, hash: bool) -> Self {
        let (left, chunked) = match head.framing {
            Framing::None => (0, None),
            Framing::Length(length) => (length, None),
            Framing::Chunked => (0, Some(Chunk::Size)),
        };
        Self {
            conn,
            chunked,
            left,
            done: left == 0 && chunked.is_none(),
            continue_due: head.expects_continue(),
            hasher: hash.then(Sha256::new),
            received: 0,
            trip: None,
            pace: None,
            waiters: None,
        }
    }

    /// Reads the next bytes; 0 is the end.
    pub async fn read(&mut self, out: &mut [u8]) -> Result<usize, Lost> {
        if self.continue_due && !self.done {
            self.send_continue().await?;
        }
        self.check_trip(false)?;
        if self.chunked.is_some() {
            self.next_chunk().await?;
        }
        if self.done {
            self.check_trip(true)?;
            return Ok(0);
        }
        let mut wanted = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if let Some((after, _)) = self.trip {
            let room = usize::try_from(after - self.received).unwrap_or(usize::MAX);
            wanted = wanted.min(room);
        }
        if let Some(pace) = self.pace {
            wanted = wanted.min(pace.step());
            sleep(Pace::TICK).await;
        }
        let got = self.take(&mut out[..wanted]).await?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&out[..got]);
        }
        self.received += got as u64;
        self.left -= got as u64;
        if self.left == 0 {
            match &mut self.chunked {
                Some(state) => *state = Chunk::DataEnd,
                None => self.done = true,
            }
        }
        Ok(got)
    }

    /// Fills `out` unless the body ends first.
    pub async fn read_full(&mut self, out: &mut [u8]) -> Result<usize, Lost> {
        let mut filled = 0;
        while filled < out.len() {
            match self.read(&mut out[filled..]).await? {
                0 => break,
                got => filled += got,
            }
        }
        Ok(filled)
    }

    /// Reads what is left and throws it away.
    pub async fn drain(&mut self) -> Result<(), Lost> {
        let mut sink = vec![0; 64 * 1024];
        while self.read(&mut sink).await? > 0 {}
        Ok(())
    }

    /// True when every byte of the body was read.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// True when a client with `Expect: 100-continue` was not yet told to go on.
    pub fn continue_is_due(&self) -> bool {
        self.continue_due && !self.done
    }

    /// Bytes still to come, if known.
    pub fn left(&self) -> Option<u64> {
        self.chunked.is_none().then_some(self.left)
    }

    pub async fn send_continue(&mut self) -> io::Result<()> {
        self.continue_due = false;
        self.conn.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", None).await
    }

    /// Makes this body give up sooner while others wait for the same session.
    pub fn yield_to(&mut self, waiters: Arc<AtomicUsize>) {
        self.waiters = Some(waiters);
    }

    /// Writes while the body is still unread.
    pub async fn write_early(&mut self, answer: &Answer) -> io::Result<()> {
        self.continue_due = false;
        self.conn.write_answer(answer, None).await
    }

    /// SHA-256 of what was read, as hex; empty when it was not asked for.
    pub fn digest(&self) -> String {
        self.hasher.as_ref().map_or_else(String::new, |hasher| {
            let mut text = String::with_capacity(64);
            for byte in hasher.clone().finalize() {
                text.push_str(&format!("{byte:02x}"));
            }
            text
        })
    }

    /// A fault beyond the end of the body takes effect at its end, so that no fault is in vain.
    fn check_trip(&self, at_end: bool) -> Result<(), Lost> {
        match self.trip {
            Some((after, trip)) if at_end || self.received >= after => Err(Lost::Fault(trip)),
            _ => Ok(()),
        }
    }

    async fn take(&mut self, out: &mut [u8]) -> Result<usize, Lost> {
        let unread = self.conn.unread();
        if !unread.is_empty() {
            let count = unread.len().min(out.len());
            out[..count].copy_from_slice(&unread[..count]);
            self.conn.taken += count;
            return Ok(count);
        }
        let waiters = self.waiters.clone();
        let got = patient(waiters.as_deref(), self.conn.stream.read(out)).await??;
        if got == 0 {
            return Err(Lost::Cut);
        }
        Ok(got)
    }

    /// Moves through chunk sizes and trailers until data or the end is next.
    async fn next_chunk(&mut self) -> Result<(), Lost> {
        while let Some(state) = self.chunked {
            if self.done {
                break;
            }
            self.chunked = Some(match state {
                Chunk::Data => break,
                Chunk::DataEnd if !self.line().await?.is_empty() => return Err(Lost::Malformed),
                Chunk::DataEnd => Chunk::Size,
                Chunk::Size => {
                    self.left = chunk_size(&self.line().await?).ok_or(Lost::Malformed)?;
                    if self.left == 0 { Chunk::Trailers } else { Chunk::Data }
                }
                Chunk::Trailers => {
                    self.done = self.line().await?.is_empty();
                    Chunk::Trailers
                }
            });
        }
        Ok(())
    }

    /// One line of the chunked coding without its CRLF.
    async fn line(&mut self) -> Result<Vec<u8>, Lost> {
        let mut line = Vec::new();
        while line.len() < 4096 {
            let mut byte = [0];
            if self.conn.unread().is_empty() {
                let waiters = self.waiters.clone();
                if patient(waiters.as_deref(), self.conn.fill()).await?? == 0 {
                    return Err(Lost::Cut);
                }
            }
            self.take(&mut byte).await?;
            if byte[0] == b'\n' {
                // A bare line feed is where two parsers disagree.
                return line.pop_if(|last| *last == b'\r').map(|_| line).ok_or(Lost::Malformed);
            }
            line.push(byte[0]);
        }
        Err(Lost::Malformed)
    }
}

/// Waits for a read, less patiently while others wait for the session it belongs to.
async fn patient<T>(
    waiters: Option<&AtomicUsize>,
    read: impl Future<Output = T>,
) -> Result<T, Lost> {
    let mut read = std::pin::pin!(read);
    let mut idle = Duration::ZERO;
    loop {
        if let Ok(result) = timeout(SLICE, &mut read).await {
            return Ok(result);
        }
        idle += SLICE;
        let waited_for = waiters.is_some_and(|count| count.load(Ordering::Relaxed) > 0);
        let limit = if waited_for { PROGRESS_TIMEOUT_WITH_WAITERS } else { PROGRESS_TIMEOUT };
        if idle >= limit {
            return Err(Lost::Stalled);
        }
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii_end();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_hex_without_signs() {
        assert_eq!(chunk_size(b"1F"), Some(31));
        assert_eq!(chunk_size(b"0;ext=1"), Some(0));
        assert_eq!(chunk_size(b"+1"), None);
        assert_eq!(chunk_size(b""), None);
        assert_eq!(chunk_size(b"1 1"), None);
        assert_eq!(chunk_size(b"ffffffffffffffff"), None);
    }
}
