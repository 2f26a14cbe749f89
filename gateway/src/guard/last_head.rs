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
    pub fn forget_last(&mut self) {
        (self.last.head, self.last.reading) = (None, None);
        self.last.is_repeated = false;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use crate::guard::rig;

    fn head(length: u8, more: &str) -> String {
        format!("BITS_POST /a HTTP/1.1\r\nHost: up\r\n{more}Content-Length: {length}\r\n\r\n")
    }

    /// Whether each of these heads repeats the one before, of a connection that may be silent before one.
    async fn repeats(heads: &[(&str, bool)]) -> Vec<bool> {
        let (mut client, mut guard) = rig::tcp().await;
        let mut repeats = Vec::new();
        for (head, silence) in heads {
            if *silence {
                guard.forget_last();
                assert!(!guard.keeps_last());
            }
            client.write_all(head.as_bytes()).await.unwrap();
            assert!(rig::request(&mut guard).await);
            let read = guard.read_head().expect("a head");
            assert!(head.as_bytes().starts_with(read.bytes()), "{head:?}");
            repeats.push(guard.series().is_some());
            guard.skip_head();
            guard.conn().request_done();
        }
        repeats
    }

    #[tokio::test]
    async fn a_head_is_compared_with_the_one_before() {
        let (usual, other) = (head(0, ""), head(0, "X-Own: 1\r\n"));
        let two = usual.clone() + &usual;
        let heads = [(&*usual, false), (&usual, false), (&other, false), (&usual, false)];
        assert_eq!(repeats(&heads).await, [false, true, false, false]);
        assert_eq!(repeats(&[(&two, false)]).await, [false]);
        let silent = [(&*usual, false), (&usual, false), (&usual, true), (&usual, false)];
        assert_eq!(repeats(&silent).await, [false, true, false, true]);
    }

    #[tokio::test]
    async fn a_head_that_was_changed_is_not_kept() {
        let odd = head(0, "Connection: x\r\nX: 1\r\n");
        let (mut client, mut guard) = rig::tcp().await;
        client.write_all(odd.as_bytes()).await.unwrap();
        assert!(rig::request(&mut guard).await);
        assert!(guard.read_head().is_some() && !guard.keeps_last());
    }
}
