//! Sessions that a backend has opened and no client can know of.
//!
//! A client that did not get the Ack of its Create-Session sends another one, and the backend keeps
//! the first session for two weeks, for nobody. It is cancelled there, if that works at once.
//!
//! Hazard: a client that has got the Ack uploads into the session. So only that session is an
//! orphan of whose Ack not one byte was handed to the kernel; and never one whose id another
//! session of the same backend has.
//!
//! Besides, a session whose file is refused for its size is cancelled: its client knows of it, and
//! hears at the same moment that nothing will come of it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_core::farm::BackendId;
use gateway_core::protocol::{SessionId, headers, latin1};
use gateway_core::routing::Lookup;
use gateway_core::routing::ownership::may_speak;
use gateway_core::session::EndReason;
use http::HeaderValue;
use pingora::proxy::Session;
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::farm::Farm;
use crate::metrics::OrphanResult;
use crate::supervisor::{TaskResult, told_to_stop};

use super::admit::theirs;
use super::ask::{Errand, Messenger};
use super::{Ctx, Gateway, Reporter, final_status};

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
        let result = self.messenger.cancel(&errand, &farm, backend).await;
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

    /// The file is too large for this gateway, so the session waits for nothing: its client gives up
    /// without a word. It ends before the client hears of that, or it could open the next one
    /// under the same id meanwhile.
    ///
    /// Only one that surely has no byte yet: a limit that was lowered must not cost what is there.
    /// Where the backend cannot be told, the pin stays, and leads the client's own Cancel there.
    pub(super) async fn end_refused(&self, downstream: &Session, ctx: &mut Ctx) {
        let Some(key) = ctx.key.clone() else { return };
        if ctx.range.is_none_or(|range| range.first() > 0) {
            return;
        }
        let lookup = self.look_up(ctx).await;
        if !matches!(lookup, Lookup::Pinned(_)) || !may_speak(&lookup, ctx.target, None) {
            return;
        }
        // Whatever is under way may bring bytes, or the end.
        let packet = self.packet(downstream, ctx);
        let Some(packet) = packet else { return };
        if !matches!(self.take_turn(downstream, &packet, &key, ctx).await, Ok(None)) {
            return;
        }
        let found = theirs(self.sessions.find(Some(&key)), ctx);
        let Lookup::Pinned(pin) = found else { return };
        if !self.sessions.is_untouched(&key) {
            return;
        }
        let farm = Arc::clone(&ctx.farm);
        if farm.view.backend(pin.backend).is_none_or(|backend| !backend.is_reachable()) {
            return;
        }
        let head = downstream.req_header();
        let id = match &pin.backend_session {
            Some(id) => latin1::encode(id).and_then(|id| HeaderValue::from_bytes(&id).ok()),
            None => head.headers.get(&headers::SESSION_ID.name).cloned(),
        };
        let http = &farm.config.http;
        let errand = id.and_then(|id| Errand::of(head, id, ctx.conn.as_deref(), http));
        let Some(errand) = errand else { return };
        let result = self.asks.messenger().cancel(&errand, &farm, pin.backend).await;
        self.reporter.orphaned(pin.backend, result);
        if result != OrphanResult::Cancelled {
            return;
        }
        if let Some(ended) = self.sessions.unpin(&key, EndReason::Cancelled, clock::steady()).await
        {
            self.reporter.ended(&ended, Some((ctx, head.raw_path())));
        }
    }

    /// Called when the request is over.
    pub(super) async fn end_undelivered(&self, downstream: &Session, ctx: &mut Ctx) {
        let Some(opened) = ctx.opened.take() else { return };
        let written = ctx.conn.as_ref().is_none_or(|conn| conn.has_answered());
        // Whatever failed behind it: only another answer in its place takes an Ack back.
        let refused = final_status(downstream).is_some_and(|status| !status.is_success());
        if written && !refused {
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
