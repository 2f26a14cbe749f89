//! Finding the owner of a session that is not in the table: the shell of
//! [`gateway_core::routing::recovery`].
//!
//! Hazard: whoever makes ids up decides how often this runs. So a backend is asked at its rate and
//! no more ([`QuestionLimiter`]), and on behalf of one client at a tenth of it ([`ClientLimiter`]); what was found out counts for a moment ([`Recent`]); packets of one session
//! that come together are one question ([`SharedQuestion`]); and nothing is kept of a question that has
//! been answered but a bounded number of answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use futures_util::future::join_all;
use gateway_core::farm::BackendId;
use gateway_core::fault::Fault;
use gateway_core::protocol::head::RequestHead;
use gateway_core::protocol::{RequestPacket, SessionKey, headers, read_ack};
use gateway_core::routing::Lookup;
use gateway_core::routing::failover::BeforeAsking;
use gateway_core::routing::recovery::{
    ClientLimiter, OwnershipAnswer, Question, QuestionLimiter, Recent, UnclearBackends, Verdict,
    confirm, judge, settle,
};
use gateway_core::session::{EndReason, Pin, Progress, Target};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::Exchange;
use super::failover::LOOK_AGAIN;
use super::learning::not_pinned;
use super::lookup::find;
use super::report::Reporter;
use crate::base::clock;
use crate::exchange::forwarding::told_with;
use crate::farm::Farm;
use crate::farm::backend_client::{BackendClient, BackendRequest, Task};
use crate::farm::health::FarmHealth;
use crate::sessions::Sessions;
use crate::telemetry::metrics::AskResult;

/// How long an answer counts: as long as a client that comes again at once, and no longer.
const KEEP: Duration = Duration::from_secs(1);

/// Answers kept at once, at some hundred bytes each.
const ANSWERS: usize = 4096;

/// Asks the backends, and remembers what it needs to ask no more than it may.
pub(super) struct Recovery {
    farm: Arc<ArcSwap<Farm>>,
    health: FarmHealth,
    sessions: Arc<Sessions>,
    reporter: Arc<Reporter>,
    client: Arc<BackendClient>,
    memory: Mutex<Memory>,
    questions: DashMap<Query, Arc<SharedQuestion>>,
}

struct Memory {
    clients: ClientLimiter,
    pace: QuestionLimiter,
    unclear: UnclearBackends,
    recent: Recent<Query, Verdict>,
}

/// What is to be found out. Backends bind a session to its destination, and answer to who asks;
/// and what a verdict allows depends on what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Query {
    key: SessionKey,
    target: Target,
    credentials: u64,
    question: Question,
}

/// One question, and all who wait for its answer.
#[derive(Default)]
struct SharedQuestion {
    waiting: AtomicUsize,
    answer: OnceCell<Verdict>,
}

/// A place among those who wait.
struct Waiter<'a> {
    asks: &'a Recovery,
    query: &'a Query,
    shared: Arc<SharedQuestion>,
}

impl Recovery {
    pub fn new(
        farm: Arc<ArcSwap<Farm>>,
        health: FarmHealth,
        sessions: Arc<Sessions>,
        reporter: Arc<Reporter>,
        client: Arc<BackendClient>,
    ) -> Self {
        let rate = farm.load().config.sessions.ask_rate;
        Self {
            farm,
            health,
            sessions,
            reporter,
            client,
            memory: Mutex::new(Memory {
                clients: ClientLimiter::new(rate),
                pace: QuestionLimiter::new(rate),
                unclear: UnclearBackends::default(),
                recent: Recent::new(KEEP, ANSWERS),
            }),
            questions: DashMap::new(),
        }
    }

    fn join<'a>(&'a self, query: &'a Query) -> Waiter<'a> {
        let entry = self.questions.entry(query.clone()).or_default();
        // Under the entry's lock, as it is when the last one leaves.
        entry.waiting.fetch_add(1, Ordering::Relaxed);
        Waiter { asks: self, query, shared: Arc::clone(&entry) }
    }

    fn judge(
        &self,
        question: Question,
        said: &[(BackendId, OwnershipAnswer)],
        patience: Duration,
    ) -> Verdict {
        let mut memory = self.memory.lock();
        // That a server waits for a byte which is not sent says nothing of its other answers.
        let mut passing = UnclearBackends::default();
        let unclear = if question.sends_its_byte() { &mut memory.unclear } else { &mut passing };
        judge(said, unclear, clock::steady(), patience)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.asks
            .questions
            .remove_if(self.query, |_, shared| shared.waiting.fetch_sub(1, Ordering::Relaxed) == 1);
    }
}

impl Recovery {
    /// Asks the backends for the session of a packet that nothing else tells of. Returns what the
    /// table says now, and the backend that has the session.
    ///
    /// If that has bytes of it, the session is pinned there again, durably. If it has none, no pin
    /// leads there before it has taken some; nor if the pin has had to make room already.
    pub async fn find_lost(
        &self,
        head: &RequestHead,
        packet: &RequestPacket,
        exchange: &mut Exchange,
    ) -> Result<(Lookup, BackendId), Fault> {
        let key = exchange.admitted.key.clone().ok_or(Fault::Internal)?;

        let session = head.value(&headers::SESSION_ID);
        let http = &exchange.arrival.farm.config.http;
        let request = session.and_then(|session| {
            BackendRequest::of(
                head,
                session,
                told_with(head, exchange.arrival.conn.as_deref(), http),
            )
        });
        let request = request.ok_or(Fault::Internal)?;
        // No backend can have a file of such a size, and no range is left to ask with.
        let shared_farm = exchange.arrival.farm.config.sessions.shared_farm;
        let question = Question::of(packet, shared_farm).ok_or(Fault::BadRequest)?;
        let verdict = self.ask(&key, &request, question, exchange).await;
        exchange.findings.owner_found =
            Some(matches!(verdict, Verdict::Owner(..) | Verdict::Newborn(_)));
        match verdict {
            // It was opened after it was asked for.
            Verdict::Owner(owner, _) | Verdict::Newborn(owner)
                if self.sessions.is_hidden(owner, &key) =>
            {
                Err(Fault::UnknownSession)
            }
            Verdict::Owner(owner, next) => {
                self.pin_lost(&key, owner, next, exchange).await?;
                Ok((find(&self.sessions, Some(&key), &exchange.arrival), owner))
            }
            Verdict::Newborn(owner) => {
                Ok((find(&self.sessions, Some(&key), &exchange.arrival), owner))
            }
            Verdict::Corrupted(backend) => {
                self.forget_corrupted(&key, backend, exchange).await;
                Err(Fault::UnknownSession)
            }
            Verdict::Nobody => Err(Fault::UnknownSession),
            Verdict::Unclear => Err(Fault::SessionNotHere),
        }
    }

    async fn pin_lost(
        &self,
        key: &SessionKey,
        owner: BackendId,
        next: Option<u64>,
        exchange: &Exchange,
    ) -> Result<(), Fault> {
        let pin = exchange.arrival.pin(owner, None);
        let progress = Progress {
            next_offset: next.unwrap_or(0),
            seen: exchange.arrival.now,
            ..Progress::default()
        };
        // It is there already if another packet of the session was quicker.
        let steady = clock::steady();
        let pinned = self.sessions.pin_in(&mut None, key.clone(), pin, progress, steady).await;
        pinned.map_err(not_pinned)?;
        tracing::info!(backend = self.reporter.name(owner), "a lost session has its pin again");
        Ok(())
    }

    /// The byte of a question may be in the file, so the session must not be completed, by whatever
    /// way its packets come.
    async fn forget_corrupted(&self, key: &SessionKey, backend: BackendId, exchange: &Exchange) {
        let pin = Pin { subject: None, ..exchange.arrival.pin(backend, None) };
        self.sessions.remember_end(key, &pin, EndReason::Admin, clock::steady()).await;
        tracing::warn!(
            backend = self.reporter.name(backend),
            session = %key.short(),
            "a server took the byte that was asked with: the client starts over"
        );
    }

    /// What is known of a session, or found out by one of those who ask for it now.
    async fn ask(
        &self,
        key: &SessionKey,
        request: &BackendRequest,
        question: Question,
        exchange: &Exchange,
    ) -> Verdict {
        let (key, target, credentials) =
            (key.clone(), exchange.arrival.target, request.credentials());
        let query = Query { key, target, credentials, question };
        let known = self.memory.lock().recent.find(&query, clock::steady());
        if let Some(known) = known {
            return known;
        }
        let waiter = self.join(&query);
        let find = || async {
            let Some(verdict) = self.ask_farm(&query, request, exchange).await else {
                self.reporter.metrics.asked(AskResult::Limited);
                return Verdict::Unclear;
            };
            if matches!(verdict, Verdict::Nobody | Verdict::Unclear) {
                let recent = &mut self.memory.lock().recent;
                recent.insert(query.clone(), verdict, clock::steady());
            }
            verdict
        };
        *waiter.shared.answer.get_or_init(find).await
    }

    /// `None` if too many questions are waiting already.
    async fn ask_farm(
        &self,
        query: &Query,
        request: &BackendRequest,
        exchange: &Exchange,
    ) -> Option<Verdict> {
        let question = query.question;
        self.wait_for_client(exchange).await?;
        let (farm, mut said) = match self.everybody(exchange).await {
            Ok(found) => found,
            Err(unclear) => return Some(unclear),
        };
        let view = &farm.view;
        let reachable = view.backends().iter().filter(|b| b.is_reachable()).map(|b| b.id);
        // What a backend calls so is the session of a client who was given another id: not this
        // one's, and not to be harmed by a question.
        let (taken, asked): (Vec<_>, Vec<_>) =
            reachable.partition(|&backend| self.sessions.is_hidden(backend, &query.key));
        said.extend(taken.into_iter().map(|backend| (backend, OwnershipAnswer::NotFound)));
        self.wait_for_turn(&asked, exchange).await?;
        let answers = asked.iter().map(|&backend| self.ask_one(request, question, &farm, backend));
        let answers = asked.iter().copied().zip(join_all(answers).await);
        said.extend(answers.map(
            |(backend, said)| match farm.has_moved_lately(backend, &self.health) {
                true => (backend, said.after_a_move()),
                false => (backend, said),
            },
        ));
        let verdict = self.judge(question, &said, farm.config.sessions.ask_patience);
        match settle(verdict, question) {
            Verdict::Newborn(owner) => {
                self.wait_for_turn(&[owner], exchange).await?;
                let said = self.ask_one(&request.elsewhere(), question, &farm, owner).await;
                Some(confirm(verdict, said))
            }
            verdict => Some(verdict),
        }
    }

    /// Until these backends may be asked once more; `None` if that takes too long.
    async fn wait_for_turn(&self, backends: &[BackendId], exchange: &Exchange) -> Option<()> {
        let wait = {
            let pace = &mut self.memory.lock().pace;
            pace.take(backends, clock::steady(), self.patience_left(exchange))?
        };
        tokio::time::sleep(wait).await;
        Some(())
    }

    /// Until the client may have one more question asked; `None` if that takes too long. Behind a
    /// trusted proxy that names nobody are many clients, who are not held to one's measure.
    async fn wait_for_client(&self, exchange: &Exchange) -> Option<()> {
        let Some(client) = exchange.arrival.counted_client() else { return Some(()) };
        let wait = {
            let clients = &mut self.memory.lock().clients;
            clients.take(client, clock::steady(), self.patience_left(exchange))?
        };
        tokio::time::sleep(wait).await;
        Some(())
    }

    async fn ask_one(
        &self,
        request: &BackendRequest,
        question: Question,
        farm: &Farm,
        backend: BackendId,
    ) -> OwnershipAnswer {
        self.reporter.metrics.asked(AskResult::Sent);
        match self.client.send(request, Task::Answer(question), farm, backend).await {
            Ok(answer) => OwnershipAnswer::of(&read_ack(answer.status, &answer.headers), question),
            Err(error) => {
                if error.by_backend {
                    self.health.connect_failed(backend);
                }
                OwnershipAnswer::Unclear(Duration::ZERO)
            }
        }
    }

    /// The farm, and what is to be said of the backends that cannot be asked. While one of those
    /// may have the session there is no point in asking the others, so the packet waits for it as
    /// one with a pin would.
    async fn everybody(
        &self,
        exchange: &Exchange,
    ) -> Result<(Arc<Farm>, Vec<(BackendId, OwnershipAnswer)>), Verdict> {
        let mut farm = Arc::clone(&exchange.arrival.farm);
        loop {
            // Before the farm is looked at, or a change between the two would be missed.
            let backends = farm.view.backends();
            let away = backends.iter().find(|backend| self.health.down_for(backend.id).is_some());
            let changed = away.map(|backend| self.health.changed(backend.id));
            farm = self.farm.load_full();
            let missing = || farm.view.backends().iter().filter(|b| !b.is_reachable());
            let absences = missing().map(|backend| self.health.absence(backend.id));
            let waited = exchange.waited();
            match farm.config.failover.before_asking(absences, waited) {
                BeforeAsking::Ask => {
                    let said = missing().map(|b| (b.id, OwnershipAnswer::NotFound)).collect();
                    return Ok((farm, said));
                }
                BeforeAsking::Unclear => return Err(Verdict::Unclear),
                BeforeAsking::Wait(left) => {
                    // It went away at this moment, so the next look finds it.
                    let Some(changed) = changed else { continue };
                    let _ = tokio::time::timeout(left.min(LOOK_AGAIN), changed).await;
                }
            }
        }
    }

    fn patience_left(&self, exchange: &Exchange) -> Duration {
        exchange.arrival.farm.config.failover.hold.saturating_sub(exchange.waited())
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
