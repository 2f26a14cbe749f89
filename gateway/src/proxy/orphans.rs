//! Sessions that a backend has opened and no client can know of.
//!
//! A client that did not get the Ack of its Create-Session sends another one, and the backend keeps
//! the first session for two weeks, for nobody. It is cancelled there, if that works at once.
//!
//! Hazard: a client that has got the Ack uploads into the session. So only that session is an
//! orphan of whose Ack not one byte was handed to the kernel; and never one whose id another
//! session of the same backend has.

use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use gateway_core::protocol::{SessionId, read_ack};
use gateway_core::session::EndReason;
use http::HeaderValue;
use pingora::proxy::Session;
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::farm::Farm;
use crate::metrics::OrphanResult;
use crate::supervisor::{TaskResult, told_to_stop};

use super::ask::{Errand, Messenger, Task};
use super::{Ctx, Gateway, Reporter};

/// Sessions that may wait to be cancelled.
const QUEUE: usize = 256;

pub(super) struct Orphan {
    backend: BackendId,
    errand: Errand,
}

/// Where orphans go.
pub(super) type Orphanage = mpsc::Sender<Orphan>;

/// Cancels them, one after the other.
pub struct Undertaker {
    orphans: mpsc::Receiver<Orphan>,
    messenger: Arc<Messenger>,
    farm: Arc<ArcSwap<Farm>>,
    reporter: Reporter,
}

impl Undertaker {
    pub(super) fn new(
        messenger: Arc<Messenger>,
        farm: Arc<ArcSwap<Farm>>,
        reporter: Reporter,
    ) -> (Orphanage, Self) {
        let (orphanage, orphans) = mpsc::channel(QUEUE);
        (orphanage, Self { orphans, messenger, farm, reporter })
    }

    /// Works until told to stop.
    ///
    /// # Errors
    /// None.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> TaskResult {
        loop {
            tokio::select! {
                () = told_to_stop(&mut stop) => return Ok(()),
                Some(orphan) = self.orphans.recv() => self.cancel(orphan).await,
            }
        }
    }

    async fn cancel(&self, orphan: Orphan) {
        let farm = self.farm.load_full();
        let Orphan { backend, errand } = orphan;
        let answer = self.messenger.send(&errand, Task::Cancel, &farm, backend).await;
        let result = match answer {
            Ok(answer) => {
                let ack = read_ack(&answer);
                let gone = ack.is_success() || ack.is_session_not_found();
                if gone { OrphanResult::Cancelled } else { OrphanResult::Refused }
            }
            Err(_) => OrphanResult::Failed,
        };
        self.reporter.orphaned(backend, result);
    }
}

impl Gateway {
    /// The session was opened, and its client hears of something else.
    pub(super) fn orphan(&self, downstream: &Session, ctx: &Ctx, id: &str) {
        let Some(backend) = ctx.backend else { return };
        let parsed = SessionId::parse(id);
        let taken = parsed.as_ref().and_then(|id| self.sessions.holder(backend, id.key()));
        if taken.is_some() {
            // The backend gave the id out twice, and somebody uploads under it.
            return;
        }
        // Under an id that is none, nobody knows what the backend would cancel.
        let id = parsed.and_then(|id| HeaderValue::from_str(id.as_str()).ok());
        let (head, http) = (downstream.req_header(), &ctx.farm.config.http);
        let errand = id.and_then(|id| Errand::of(head, id, ctx.conn.as_deref(), http));
        let Some(errand) = errand else {
            return self.reporter.orphaned(backend, OrphanResult::Failed);
        };
        if self.orphanage.try_send(Orphan { backend, errand }).is_err() {
            self.reporter.orphaned(backend, OrphanResult::Dropped);
        }
    }

    /// Called when the request is over.
    pub(super) async fn end_undelivered(&self, downstream: &Session, ctx: &mut Ctx) {
        let Some(opened) = ctx.opened.take() else { return };
        let written = ctx.conn.as_ref().is_none_or(|conn| conn.has_answered());
        // With a fault the client was told of that in place of the Ack, if of anything.
        if written && ctx.fault.is_none() {
            return;
        }
        if let Some(key) = &ctx.key
            && let Some(ended) =
                self.sessions.unpin(key, EndReason::Cancelled, clock::steady()).await
        {
            self.reporter.ended(&ended, None);
        }
        self.orphan(downstream, ctx, &opened);
    }
}
