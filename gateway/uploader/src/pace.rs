//! The body of a Fragment: bytes of the file, not faster than allowed.

use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::clock;
use crate::engine::{Event, Listener};
use crate::exchange::Supply;
use crate::source::Source;

/// Keeps an upload below a rate, over all its Fragments.
pub struct Pacer {
    bytes_per_second: Option<NonZeroU64>,
    /// When the next byte may leave.
    free_at: Duration,
}

/// Time lost to slow sleeps and waits for an Ack that may be made up for; more would be a burst.
const CATCH_UP: Duration = Duration::from_millis(250);

impl Pacer {
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { bytes_per_second, free_at: Duration::ZERO }
    }

    /// How many bytes may leave at once, for an even flow.
    fn burst(&self) -> usize {
        let eighth = self.bytes_per_second.map_or(u64::MAX, |rate| rate.get() / 8);
        usize::try_from(eighth).unwrap_or(usize::MAX).max(1 << 10)
    }

    async fn spend(&mut self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let now = clock::steady();
        let cost = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        self.free_at = self.free_at.max(now.saturating_sub(CATCH_UP)) + cost;
        tokio::time::sleep(self.free_at.saturating_sub(now)).await;
    }
}

/// Reads the source from its current position and tells how far it has got.
pub struct FileSupply<'u> {
    source: &'u mut Source,
    pacer: &'u mut Pacer,
    position: u64,
    listener: &'u Listener,
}

impl<'u> FileSupply<'u> {
    pub fn new(
        source: &'u mut Source,
        pacer: &'u mut Pacer,
        position: u64,
        listener: &'u Listener,
    ) -> Self {
        Self { source, pacer, position, listener }
    }
}

impl Supply for FileSupply<'_> {
    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = self.pacer.burst().min(buffer.len());
        self.source.read(&mut buffer[..limit]).await
    }

    async fn sent(&mut self, bytes: usize) {
        self.position += bytes as u64;
        (self.listener)(&Event::Position(self.position));
        self.pacer.spend(bytes).await;
    }
}
