//! One request per session at a time.
//!
//! Which of two requests goes on, and which waits for the other, is the core's to say: see
//! [`gateway_core::routing::ownership`]. Here is the turn itself: who has it, who waits for it, and
//! how a request is ended whose client has gone.
//!
//! Of those that wait, the newest gets the turn. The others learn that they were overtaken, unless
//! they have joined the request under way and its answer is theirs too.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::quality::SeedableRandomState;
use gateway_core::protocol::SessionKey;
use gateway_core::routing::ownership::{Identity, Order, UnderWay, order};
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::base::clock;
use crate::guard::Conn;
use crate::sessions::{EndLock, keyed};

/// A cancelled request ends at once; this is for the case that it does not.
const TO_END: Duration = Duration::from_secs(60);

/// For the answer to a Fragment that has come in full: most come at once, and a Fragment that is sent
/// again costs its bytes.
const BRIEFLY: Duration = Duration::from_secs(5);

pub struct Turns {
    sessions: DashMap<SessionKey, Lane, SeedableRandomState>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { sessions: DashMap::with_hasher(keyed()) }
    }
}

/// A session with a request in it, or one that waits.
#[derive(Default)]
struct Lane {
    running: Option<Arc<Running>>,
    /// Number of the newest request that has come to wait.
    newest: u64,
    waiting: usize,
}

/// The request that has the turn.
struct Running {
    /// Where it came from, and which request of that connection it is.
    conn: Option<(Arc<Conn>, u64)>,
    identity: Option<Identity>,
    stage: AtomicU8,
    shared: OnceLock<SharedOutcome>,
    /// When the first newer request came.
    followed: OnceLock<Instant>,
    /// A newer request has come, the answer may be shared, or it has ended.
    changed: Notify,
}

/// Stages of a request. It can be cancelled while its body still comes in.
const OPEN: u8 = 0;
const WHOLE: u8 = 1;
const CANCELLED: u8 = 2;
const ENDED: u8 = 3;

/// What the answer to a packet is to the same packet that was sent once more.
#[derive(Debug, Clone)]
pub enum SharedOutcome {
    /// The session has ended.
    End,
    Answer(Arc<SharedAnswer>),
}

/// An answer without its body.
#[derive(Debug)]
pub struct SharedAnswer {
    pub status: StatusCode,
    /// The fields of the protocol.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// A request that wants the session's turn.
pub struct TurnRequest {
    pub conn: Option<Arc<Conn>>,
    /// What it is, if it must not reach a server twice.
    pub identity: Option<Identity>,
    /// It has no body that is still to come.
    pub whole: bool,
    /// How long it waits for the answer to a request that has come in full.
    pub patience: Duration,
}

impl TurnRequest {
    /// Of the gateway itself, which sends nothing that came from a client.
    pub fn own() -> Self {
        Self { conn: None, identity: None, whole: true, patience: Duration::ZERO }
    }
}

pub enum Entered {
    Turn(Turn),
    /// The request before was the same packet, and its answer counts for this one.
    Joined(SharedOutcome),
}

/// The right to be the session's only request, until it is dropped.
pub struct Turn {
    turns: Arc<Turns>,
    key: SessionKey,
    running: Arc<Running>,
    /// Keeps other processes from sending an end of the session meanwhile.
    pub lock: Option<EndLock>,
}

/// A newer request of the same session has come, or the older one did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superseded;

/// A place among those that wait.
struct Place<'a> {
    turns: &'a Turns,
    key: &'a SessionKey,
    number: u64,
}

impl Turns {
    /// Gets the session's turn as soon as the request that has it has ended, or the answer to that
    /// one, where it is the same packet.
    pub async fn enter(
        self: &Arc<Self>,
        key: &SessionKey,
        request: TurnRequest,
    ) -> Result<Entered, Superseded> {
        let patience = request.patience;
        let mine = Arc::new(Running::of(request));
        if self.take_free(key, &mine) {
            return Ok(Entered::Turn(self.turn_of(key, mine)));
        }
        // Hardly a request waits: the state of waiting is made for those that do.
        Box::pin(self.wait(key, mine, patience)).await
    }

    async fn wait(
        self: &Arc<Self>,
        key: &SessionKey,
        mine: Arc<Running>,
        patience: Duration,
    ) -> Result<Entered, Superseded> {
        let arrived = clock::stopwatch();
        let patience = arrived + patience;
        let mut place = None;
        let mut joined: Option<Arc<Running>> = None;
        let mut cancelled = None;
        loop {
            if let Some(shared) = joined.as_ref().and_then(|older| older.shared.get()) {
                return Ok(Entered::Joined(shared.clone()));
            }
            let Some(older) = self.step(key, &mine, &mut place, joined.as_ref())? else {
                return Ok(Entered::Turn(self.turn_of(key, mine)));
            };
            let changed = older.changed.notified();
            tokio::pin!(changed);
            // Before it is looked at, or what changes meanwhile would be missed.
            changed.as_mut().enable();
            let (order, until) = match older.stage() {
                ENDED => continue,
                CANCELLED => {
                    let until = cancelled.get_or_insert_with(|| clock::stopwatch() + TO_END);
                    (Order::Cancel, *until)
                }
                stage => match older.order(stage, &mine) {
                    Order::Cancel => {
                        // It may have become whole a moment ago.
                        older.cancel(OPEN);
                        continue;
                    }
                    Order::Join if is(&older, joined.as_ref()) => {
                        if older.shared.get().is_some() {
                            continue;
                        }
                        (Order::Join, patience)
                    }
                    // Its own client has that answer, or soon will: this one asks for another.
                    Order::Join if matches!(older.shared.get(), Some(SharedOutcome::Answer(_))) => {
                        (Order::Wait, patience)
                    }
                    Order::Join => {
                        joined = Some(Arc::clone(&older));
                        continue;
                    }
                    Order::WaitBriefly => (Order::WaitBriefly, older.followed(arrived) + BRIEFLY),
                    order => (order, patience),
                },
            };
            if tokio::time::timeout_at(until, changed).await.is_ok() {
                continue;
            }
            if order != Order::WaitBriefly {
                return Err(Superseded);
            }
            older.cancel(WHOLE);
        }
    }

    fn turn_of(self: &Arc<Self>, key: &SessionKey, running: Arc<Running>) -> Turn {
        Turn { turns: Arc::clone(self), key: key.clone(), running, lock: None }
    }

    /// Takes the turn of a session of which no request is here.
    fn take_free(&self, key: &SessionKey, mine: &Arc<Running>) -> bool {
        let Entry::Vacant(free) = self.sessions.entry(key.clone()) else { return false };
        free.insert(Lane { running: Some(Arc::clone(mine)), newest: 1, waiting: 0 });
        true
    }

    /// The turn of a session that has no request under way, and none that waits. A request that
    /// comes meanwhile waits for its end.
    pub fn try_enter(self: &Arc<Self>, key: &SessionKey, request: TurnRequest) -> Option<Turn> {
        let running = Arc::new(Running::of(request));
        self.take_free(key, &running).then(|| self.turn_of(key, running))
    }

    /// Takes the turn if it is free, and says who has it if it is not.
    fn step<'a>(
        &'a self,
        key: &'a SessionKey,
        mine: &Arc<Running>,
        place: &mut Option<Place<'a>>,
        joined: Option<&Arc<Running>>,
    ) -> Result<Option<Arc<Running>>, Superseded> {
        let mut lane = self.sessions.entry(key.clone()).or_default();
        let newest = place.as_ref().is_none_or(|place| place.number == lane.newest);
        match &lane.running {
            Some(older) => {
                let older = Arc::clone(older);
                if !newest && !is(&older, joined) {
                    return Err(Superseded);
                }
                if place.is_none() {
                    lane.newest += 1;
                    lane.waiting += 1;
                    *place = Some(Place { turns: self, key, number: lane.newest });
                    older.changed.notify_waiters();
                }
                Ok(Some(older))
            }
            None if newest => {
                if place.is_none() {
                    // Those that still wait are overtaken.
                    lane.newest += 1;
                }
                lane.running = Some(Arc::clone(mine));
                Ok(None)
            }
            None => Err(Superseded),
        }
    }

    /// Changes a session's lane, and removes it if nobody is left in it.
    fn leave(&self, key: &SessionKey, change: impl FnOnce(&mut Lane)) {
        self.sessions.remove_if_mut(key, |_, lane| {
            change(lane);
            lane.running.is_none() && lane.waiting == 0
        });
    }
}

fn is(running: &Arc<Running>, other: Option<&Arc<Running>>) -> bool {
    other.is_some_and(|other| Arc::ptr_eq(running, other))
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.leave(self.key, |lane| lane.waiting -= 1);
    }
}

impl Running {
    fn of(request: TurnRequest) -> Self {
        let conn = request.conn.map(|conn| {
            let number = conn.current_request();
            (conn, number)
        });
        Self {
            conn,
            identity: request.identity,
            stage: AtomicU8::new(if request.whole { WHOLE } else { OPEN }),
            shared: OnceLock::new(),
            followed: OnceLock::new(),
            changed: Notify::new(),
        }
    }

    fn stage(&self) -> u8 {
        self.stage.load(Ordering::Acquire)
    }

    /// False if it was at another stage by then.
    fn go(&self, from: u8, to: u8) -> bool {
        self.stage.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn order(&self, stage: u8, newer: &Self) -> Order {
        let older = UnderWay { packet: self.identity.as_ref(), whole: stage == WHOLE };
        order(older, newer.identity.as_ref())
    }

    /// When the first newer request came: this one, if there was none.
    fn followed(&self, arrived: Instant) -> Instant {
        *self.followed.get_or_init(|| arrived)
    }

    /// Ends it, if it is still at that stage.
    fn cancel(&self, stage: u8) {
        if self.go(stage, CANCELLED) {
            self.cut();
        }
    }

    fn cut(&self) {
        if let Some((conn, request)) = &self.conn {
            conn.kill(*request);
        }
    }
}

impl Turn {
    pub fn is_cancelled(&self) -> bool {
        self.running.stage() == CANCELLED
    }

    /// The last byte of the request has come. False if it must not go to its server, because a newer
    /// request has called this one off.
    pub fn came_whole(&self) -> bool {
        self.running.go(OPEN, WHOLE) || !self.is_cancelled()
    }

    /// What it is, if it must not reach a server twice.
    pub fn identity(&self) -> Option<&Identity> {
        self.running.identity.as_ref()
    }

    /// Those that have joined, and those that come yet, are answered with this.
    pub fn share(&self, shared: SharedOutcome) {
        let _ = self.running.shared.set(shared);
        self.running.changed.notify_waiters();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the next request of this process may take it.
        self.lock = None;
        self.turns.leave(&self.key, |lane| lane.running = None);
        self.running.stage.store(ENDED, Ordering::Release);
        self.running.changed.notify_waiters();
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
