//! Downloads of files that were uploaded through this gateway.

use std::hash::{BuildHasher, RandomState};

use gateway_core::routing::Holder;
use gateway_core::session::delivered::Delivered;
use gateway_core::session::target::normal_form;
use http::Method;
use parking_lot::Mutex;
use pingora::proxy::Session;

use super::{Ctx, Gateway};
use crate::config::Then;

/// Deliveries that are remembered, at some 70 bytes each.
const MOST: usize = 100_000;

/// In memory: a process that starts knows none.
pub(super) struct Deliveries {
    delivered: Mutex<Delivered>,
    /// Keyed anew in each process. Clients choose targets, so one could make two of them collide
    /// under the hash that sessions are bound by.
    hasher: RandomState,
}

impl Default for Deliveries {
    fn default() -> Self {
        let delivered = Mutex::new(Delivered::new(MOST));
        Self { delivered, hasher: RandomState::new() }
    }
}

impl Deliveries {
    fn key(&self, target: &[u8]) -> u64 {
        self.hasher.hash_one(normal_form(target))
    }
}

impl Gateway {
    /// The upload of a packet has ended well.
    pub(super) fn note_delivery(&self, downstream: &Session, ctx: &Ctx) {
        let Some(backend) = ctx.backend else { return };
        let target = self.deliveries.key(downstream.req_header().raw_path());
        self.deliveries.delivered.lock().note(target, backend);
    }

    /// Who has the file that is asked for. A query that no upload had may say how to show it.
    pub(super) fn holder(&self, downstream: &Session, ctx: &Ctx) -> Option<Holder> {
        let head = downstream.req_header();
        if ![Method::GET, Method::HEAD].contains(&head.method) {
            return None;
        }
        let target = head.raw_path();
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let find = |target| {
            let key = self.deliveries.key(target);
            self.deliveries.delivered.lock().find(key)
        };
        let backend = find(target).or_else(|| find(path))?;
        let shared = ctx.farm.config.failover.then == Then::Reassign;
        Some(Holder { backend, shared })
    }
}
