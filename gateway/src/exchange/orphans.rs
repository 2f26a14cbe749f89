//! Sessions that a backend has opened and no client can know of.
//!
//! A client that did not get the Ack of its Create-Session sends another one, and the backend keeps
//! the first session for two weeks, for nobody. It is cancelled there.
//!
//! Hazard: a client that has got the Ack uploads into the session. So only that session is an
//! orphan of whose Ack not one byte was handed to the kernel; and never one whose id another
//! session of the same backend has.
//!
//! Hazard: clients that leave at once would fill the servers, whatever the table holds. So an orphan
//! keeps its place in the table until it is cancelled, or its server is down, or for [`PATIENCE`].
//!
//! Besides, a session whose file is refused for its size is cancelled: its client knows of it, and
//! hears at the same moment that nothing will come of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gateway_core::farm::BackendId;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::{SessionId, SessionKey, headers, latin1};
use gateway_core::routing::ownership::{ended_by_refusal, visible_to};
use gateway_core::session::EndReason;
use gateway_core::session::opening::is_orphan;
use http::HeaderValue;
use tokio::sync::{Semaphore, mpsc, watch};

use super::report::Reporter;
use super::{Exchange, Gateway};
use crate::backend_client::{BackendClient, BackendRequest};
use crate::clock;
use crate::farm::Farm;
use crate::health::FarmHealth;
use crate::metrics::OrphanResult;
use crate::sessions::{Place, Sessions};
use crate::supervisor::{TaskResult, told_to_stop};

/// Sessions that may wait to be taken up.
const QUEUE: usize = 16_384;

/// Sessions that are cancelled or wait for that, at about a kilobyte each. Beyond it they keep
/// their places and are left to their servers.
const MOST: usize = 16_384;

/// How many of one server are cancelled at once: as many as a few busy clients send packets.
const AT_ONCE: usize = 8;

/// As long as an orphan keeps its place.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries, and so often is looked whether the server is down.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Orphan {
    backend: BackendId,
    /// What to cancel, if that is known.
    known: Option<(SessionKey, BackendRequest)>,
    _place: Option<Place>,
}

/// Where orphans go.
pub(super) type Orphans = mpsc::Sender<Orphan>;

/// Cancels them, several at once.
pub struct OrphanCanceller {
    orphans: mpsc::Receiver<Orphan>,
    to_cancel: ToCancel,
}

/// What it takes to cancel one.
struct ToCancel {
    client: Arc<BackendClient>,
    farm: Arc<ArcSwap<Farm>>,
    health: FarmHealth,
    sessions: Arc<Sessions>,
    reporter: Reporter,
}

impl OrphanCanceller {
    pub(super) fn new(
        client: Arc<BackendClient>,
        farm: Arc<ArcSwap<Farm>>,
        health: FarmHealth,
        sessions: Arc<Sessions>,
        reporter: Reporter,
    ) -> (Orphans, Self) {
        let (sender, orphans) = mpsc::channel(QUEUE);
        let to_cancel = ToCancel { client, farm, health, sessions, reporter };
        (sender, Self { orphans, to_cancel })
    }

    /// Works until told to stop.
    ///
    /// # Errors
    /// None.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> TaskResult {
        let mut at_once: HashMap<BackendId, Arc<Semaphore>> = HashMap::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = told_to_stop(&mut stop) => return Ok(()),
                Some(()) = under_way.next() => {}
                Some(orphan) = self.orphans.recv() => {
                    let turns = at_once.entry(orphan.backend);
                    let turns = turns.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)));
                    let cancelled = under_way.len() < MOST;
                    under_way.push(self.to_cancel.see_off(orphan, Arc::clone(turns), cancelled));
                }
            }
        }
    }
}

impl ToCancel {
    /// Ends when the orphan has given its place back.
    async fn see_off(&self, orphan: Orphan, turns: Arc<Semaphore>, cancelled: bool) {
        let Orphan { backend, known, _place } = orphan;
        let missing = if known.is_some() { OrphanResult::Dropped } else { OrphanResult::Failed };
        let known = known.filter(|_| cancelled);
        let given_up = tokio::time::sleep(PATIENCE);
        tokio::pin!(given_up);
        let result = match &known {
            Some((key, request)) => tokio::select! {
                result = self.cancel(key, request, backend, &turns) => match result {
                    Some(result) => result,
                    None => return,
                },
                () = self.is_down(backend) => OrphanResult::Failed,
                () = &mut given_up => OrphanResult::Failed,
            },
            None => missing,
        };
        drop(known);
        self.reporter.orphaned(backend, result);
        if result != OrphanResult::Cancelled {
            // Its server still has it, unless it is down.
            tokio::select! {
                () = self.is_down(backend) => {}
                () = given_up => {}
            }
        }
    }

    /// Tries until the server has said something. `None` if it has given the id out once more, and
    /// somebody uploads under it.
    async fn cancel(
        &self,
        key: &SessionKey,
        request: &BackendRequest,
        backend: BackendId,
        turns: &Semaphore,
    ) -> Option<OrphanResult> {
        loop {
            let turn = turns.acquire().await;
            if self.sessions.holder(backend, key).is_some() {
                return None;
            }
            let farm = self.farm.load_full();
            let result = self.client.cancel(request, &farm, backend).await;
            drop(turn);
            if result != OrphanResult::Failed {
                return Some(result);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn is_down(&self, backend: BackendId) {
        loop {
            let known = self.farm.load().view.backend(backend).is_some();
            if !known || self.health.down_for(backend).is_some() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Gateway {
    /// The session was opened, and its client hears of something else. `place` is the one that it
    /// has.
    pub(super) fn orphan(
        &self,
        head: &RequestHead,
        exchange: &Exchange,
        id: &str,
        place: Option<Place>,
    ) {
        let Some(backend) = exchange.admitted.backend else { return };
        let parsed = SessionId::parse(id);
        let taken = parsed.as_ref().and_then(|id| self.sessions.holder(backend, id.key()));
        if taken.is_some() {
            // The backend gave the id out twice, and somebody uploads under it.
            return;
        }
        // Under an id that is none, nobody knows what the backend would cancel.
        let http = &exchange.arrival.farm.config.http;
        let known = parsed.and_then(|id| {
            let value = HeaderValue::from_str(id.as_str()).ok()?;
            Some((
                id.key().clone(),
                BackendRequest::of(head, value, exchange.arrival.conn.as_deref(), http)?,
            ))
        });
        if self.orphans.try_send(Orphan { backend, known, _place: place }).is_err() {
            self.reporter.orphaned(backend, OrphanResult::Dropped);
        }
    }

    /// The file is too large for this gateway, so the session waits for nothing: its client gives up
    /// without a word. It ends before the client hears of that, or it could open the next one
    /// under the same id meanwhile.
    ///
    /// Only one that surely has no byte yet: a limit that was lowered must not cost what is there.
    /// Where the backend cannot be told, the pin stays, and leads the client's own Cancel there.
    pub(super) async fn end_refused(&self, head: &RequestHead, exchange: &mut Exchange) {
        let Some(key) = exchange.admitted.key.clone() else { return };
        let Some(range) = exchange.admitted.range else { return };
        // Whether it is untouched is known only behind the request under way.
        if ended_by_refusal(&range, &self.look_up(exchange).await, exchange.arrival.target, true)
            .is_none()
        {
            return;
        }
        // The request under way may bring bytes, or the end.
        let Some(packet) = exchange.admitted.packet.clone() else { return };
        if !matches!(self.take_turn(head, &packet, &key, exchange).await, Ok(None)) {
            return;
        }
        let found = visible_to(&exchange.arrival.asker(), self.sessions.find(Some(&key)));
        let untouched = self.sessions.is_untouched(&key);
        let Some(pin) = ended_by_refusal(&range, &found, exchange.arrival.target, untouched) else {
            return;
        };
        let farm = Arc::clone(&exchange.arrival.farm);
        if farm.view.backend(pin.backend).is_none_or(|backend| !backend.is_reachable()) {
            return;
        }

        let id = match &pin.backend_session {
            Some(id) => latin1::encode(id).and_then(|id| HeaderValue::from_bytes(&id).ok()),
            None => head.value(&headers::SESSION_ID),
        };
        let http = &farm.config.http;
        let request =
            id.and_then(|id| BackendRequest::of(head, id, exchange.arrival.conn.as_deref(), http));
        let Some(request) = request else { return };
        let onward = pin.binding.onward(exchange.arrival.target, head.target());
        let request = request.spelled(onward.as_deref());
        let result = self.recovery.client().cancel(&request, &farm, pin.backend).await;
        self.reporter.orphaned(pin.backend, result);
        if result != OrphanResult::Cancelled {
            return;
        }
        if let Some(ended) = self.sessions.unpin(&key, EndReason::Cancelled, clock::steady()).await
        {
            self.reporter.ended(&ended, Some((&exchange.arrival, head.target())));
        }
    }

    /// Called when the request is over.
    pub async fn end_undelivered(&self, head: &RequestHead, exchange: &mut Exchange) {
        let Some(opened) = exchange.answered.opened.take() else { return };
        let written = exchange.arrival.conn.as_ref().is_none_or(|conn| conn.has_answered());
        // Whatever failed behind it: only another answer in its place takes an Ack back.
        let refused = exchange.sent.status.is_some_and(|status| !(200..300).contains(&status));
        if !is_orphan(written, refused) {
            return;
        }
        // Before the session leaves the table, or its place would be somebody else's.
        let place = exchange.admitted.key.as_ref().and_then(|key| self.sessions.hold_place(key));
        if let Some(key) = &exchange.admitted.key
            && let Some(ended) =
                self.sessions.unpin(key, EndReason::Cancelled, clock::steady()).await
        {
            self.reporter.ended(&ended, None);
        }
        self.orphan(head, exchange, &opened, place);
    }
}
