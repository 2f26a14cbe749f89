//! The head of the last packet of a connection, to which the next one is compared.
//!
//! The Fragments of an upload differ in two numbers. What was checked and found of the one before holds
//! for the next, so most heads are compared, and not read: see [`RequestHead::repeat`].

use std::sync::Arc;

use gateway_core::protocol::RequestPacket;
use gateway_core::protocol::head::RequestHead;
use gateway_core::session::Target;

use super::stream::{GuardStream, Phase};

/// Larger heads are not kept.
const MOST: usize = 2048;

/// What was found of a head beyond its check.
#[derive(Debug, Clone)]
pub struct Reading {
    pub target: Target,
    pub packet: RequestPacket,
}

#[derive(Default)]
pub(super) struct LastHead {
    head: Option<Arc<RequestHead>>,
    reading: Option<Reading>,
    /// Its number among the heads that were kept. Those that repeat it have the same one.
    series: u64,
    /// The request that has come repeats it.
    pub is_repeated: bool,
}

impl LastHead {
    /// The head of the request that has come, if it was compared and not read.
    pub fn repeated(&self) -> Option<Arc<RequestHead>> {
        self.head.clone().filter(|_| self.is_repeated)
    }

    /// A head that was read, of a body with a length.
    pub fn keep(&mut self, head: &Arc<RequestHead>) {
        self.series += 1;
        self.reading = None;
        self.head = (head.bytes().len() <= MOST).then(|| Arc::clone(head));
    }
}

impl GuardStream {
    /// Whether the head of a request is here that repeats the last one.
    pub(super) fn repeats_last(&mut self) -> bool {
        // The packet before is over, so nobody else has its head.
        let Some(last) = self.last.head.as_mut().and_then(Arc::get_mut) else { return false };
        let Some(body) = last.repeat(&self.buffer) else { return false };
        self.head_end = last.bytes().len();
        self.last.is_repeated = true;
        self.index = None;
        self.phase = Phase::Pass(body.saturating_add(self.head_end as u64));
        true
    }

    /// What was found of the head that the request being served repeats.
    pub fn take_reading(&mut self) -> Option<Reading> {
        self.last.reading.take_if(|_| self.last.is_repeated)
    }

    /// Keeps what was found of a head, for the next one.
    pub fn keep_reading(
        &mut self,
        head: &Arc<RequestHead>,
        reading: impl FnOnce() -> Option<Reading>,
    ) {
        if self.last.head.as_ref().is_some_and(|last| Arc::ptr_eq(last, head)) {
            self.last.reading = reading();
        }
    }

    /// The number that the request being served shares with those before it whose heads it repeats;
    /// `None` if it repeats none.
    pub fn series(&self) -> Option<u64> {
        self.last.is_repeated.then_some(self.last.series)
    }

    /// Whether a head is kept.
    pub(super) fn keeps_last(&self) -> bool {
        self.last.head.is_some()
    }

    /// The connection has been silent for a while, and keeps nothing that it does not need.
    pub(super) fn forget_last(&mut self) {
        (self.last.head, self.last.reading) = (None, None);
    }
}
