//! The carrier of packets: from a client's connection to a server's and back.
//!
//! A `Transfer` is one packet on its way. What is decided of it is decided by
//! [`crate::exchange`]; here are the bytes.
//!
//! What is absent: every type of Pingora, which carries plain HTTP.

mod body;
mod buffer;
mod date;
mod head;
mod lines;
mod pipe;
mod reply;
mod server;
mod splice;
mod transfer;
pub mod upstream;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gateway_core::protocol::head::{RequestHead, find_field};
use gateway_core::protocol::{Fields, headers, login, packet};
use thread_local::ThreadLocal;
use tokio::sync::watch;

use crate::exchange::Gateway;
use crate::guard::{Carrier, Conn, GuardStream};
use lines::Lines;
use transfer::Transfer;
use upstream::{Pool, Servers};

/// Carries packets over connections that everybody shares.
pub struct Relay {
    gateway: Arc<Gateway>,
    servers: Arc<Servers>,
    /// One for each thread.
    lines: ThreadLocal<Arc<Lines>>,
    /// Idle connections that each thread keeps at most.
    most_idle: usize,
}

impl Relay {
    pub fn new(gateway: Arc<Gateway>, servers: Arc<Servers>, most_idle: usize) -> Self {
        Self { gateway, servers, lines: ThreadLocal::new(), most_idle }
    }

    fn lines(&self) -> &Arc<Lines> {
        let pool = || Pool::new(&self.servers, Arc::clone(self.gateway.farms()), self.most_idle);
        self.lines.get_or(|| Lines::new(pool()))
    }

    /// Whether a request is to be carried here: a packet, or any request that goes over a connection of
    /// its client's own. Over a second one its client would be somebody else.
    fn is_ours(&self, head: &RequestHead, guard: &GuardStream) -> bool {
        let farm = self.gateway.farm();
        packet::is_packet(head, farm.config.http.method_override)
            || guard.conn().has_bonds()
            || farm.has_per_client()
            || head.values(&headers::AUTHORIZATION).any(login::binds)
    }

    /// Whether it can be one of those, at a first look.
    fn may_be_ours(&self, head: &[u8], guard: &GuardStream) -> bool {
        head.starts_with(b"BITS_POST ")
            || head.starts_with(b"POST ")
            || guard.conn().has_bonds()
            || find_field(head, "authorization").is_some()
            || self.gateway.farm().has_per_client()
    }
}

impl Carrier for Relay {
    fn carry<'g>(
        &'g self,
        guard: &'g mut GuardStream,
        stop: &'g watch::Receiver<bool>,
    ) -> Option<BoxFuture<'g, bool>> {
        let head = guard.head()?;
        if !self.may_be_ours(head, guard) {
            return None;
        }
        let head = guard.read_head()?;
        if !self.is_ours(&head, guard) {
            return None;
        }
        // Made where it stays, so that none of it is moved.
        Some(
            async move {
                let mut transfer = Transfer::new(&self.gateway, self.lines(), guard, head, stop);
                transfer.run().await
            }
            .boxed(),
        )
    }

    fn ended(&self, conn: &Conn) {
        if let Some(lines) = self.lines.get() {
            lines.release(conn.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_packet_takes_little_room() {
        let running = size_of_future(|transfer: &'static mut Transfer<'static>| transfer.run());
        let whole = size_of::<Transfer<'static>>() + running;
        assert!(whole <= 3 * 1024, "what hardly a packet needs belongs in a box: {whole} bytes");
    }
}
