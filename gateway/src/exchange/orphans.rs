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

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionKey;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::report::Reporter;
use crate::farm::Farm;
use crate::farm::backend_client::{BackendClient, BackendRequest};
use crate::farm::health::FarmHealth;
use crate::process::supervisor::TaskResult;
use crate::sessions::{Place, Sessions};
use crate::telemetry::metrics::OrphanResult;

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
    pub backend: BackendId,
    /// What to cancel, if that is known.
    pub known: Option<(SessionKey, BackendRequest)>,
    pub _place: Option<Place>,
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
    reporter: Arc<Reporter>,
}

impl OrphanCanceller {
    pub(super) fn new(
        client: Arc<BackendClient>,
        farm: Arc<ArcSwap<Farm>>,
        health: FarmHealth,
        sessions: Arc<Sessions>,
        reporter: Arc<Reporter>,
    ) -> (Orphans, Self) {
        let (sender, orphans) = mpsc::channel(QUEUE);
        let to_cancel = ToCancel { client, farm, health, sessions, reporter };
        (sender, Self { orphans, to_cancel })
    }

    /// Works until told to stop.
    ///
    /// # Errors
    /// None.
    pub async fn run(mut self, stop: CancellationToken) -> TaskResult {
        let mut at_once: HashMap<BackendId, Arc<Semaphore>> = HashMap::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
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
