//! Which backends can take requests, and where they are.
//!
//! A task per backend probes it, pings its folders and lets timers run out (`watcher`); a second
//! one follows its name where it has one (`names`). Both, and the requests that go through the
//! gateway, feed the rule of [`gateway_core::farm::health`]. What comes of it is read without a
//! lock (`state`).
//!
//! # Order of a change
//! The new state is there, then the hook of [`FarmHealth::on_change`] has run, then whoever waits
//! in [`FarmHealth::changed`] wakes up. So a hook that makes a new picture of the farm has made it
//! by the time a held request looks again.

mod history;
mod names;
mod new_sessions;
mod probe;
mod spec;
mod state;
mod told;
mod watcher;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::farm::{AdminState, Answer, BackendId, Condition, Standing};
use gateway_core::protocol::client::ClientKey;
use gateway_core::routing::Absence;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::clock;
use crate::process::supervisor::TaskResult;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

pub use history::{History, LastProbe};
pub use new_sessions::Asking;
use new_sessions::NewSessions;
pub use spec::{Ask, BackendSpec};
pub use state::{BackendHealth, HealthState};
use watcher::Ways;

/// The health of all backends. Clones are one and the same.
#[derive(Clone)]
pub struct FarmHealth(Arc<Hub>);

struct Hub {
    /// By [`BackendId`].
    backends: ArcSwap<Vec<Option<Arc<BackendHealth>>>>,
    /// Those that an operator gave up, watched or not.
    lost: ArcSwap<HashSet<BackendId>>,
    /// What [`FarmHealth::run`] is to watch.
    wanted: Mutex<Wanted>,
    applied: Notify,
    ways: Ways,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Wanted {
    specs: Vec<BackendSpec>,
    /// The farm is at work; whoever joins now starts slowly.
    begun: bool,
}

type Hook = Box<dyn Fn(BackendId) + Send + Sync>;
type CountUploads = Box<dyn Fn(BackendId) -> u64 + Send + Sync>;

/// What every backend needs of the whole.
struct Shared {
    metrics: Arc<Metrics>,
    events: Events,
    hook: OnceLock<Hook>,
    /// How many uploads a backend has, for the log.
    uploads: OnceLock<CountUploads>,
    new_sessions: NewSessions,
    /// The origin of the time that the rule sees.
    epoch: Instant,
}

impl Shared {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

impl FarmHealth {
    /// Knows no backend until [`Self::apply`], and watches none until [`Self::run`].
    pub fn new(metrics: Arc<Metrics>, events: Events) -> Self {
        Self::with(metrics, events, Ways::default())
    }

    fn with(metrics: Arc<Metrics>, events: Events, ways: Ways) -> Self {
        let shared = Shared {
            metrics,
            events,
            hook: OnceLock::new(),
            uploads: OnceLock::new(),
            new_sessions: NewSessions::default(),
            epoch: clock::stopwatch(),
        };
        Self(Arc::new(Hub {
            backends: ArcSwap::default(),
            lost: ArcSwap::default(),
            wanted: Mutex::default(),
            applied: Notify::new(),
            ways,
            shared: Arc::new(shared),
        }))
    }

    /// What says how many uploads wait for a backend that is down. The first one stays.
    pub fn count_uploads_with(&self, count: impl Fn(BackendId) -> u64 + Send + Sync + 'static) {
        let _ = self.0.shared.uploads.set(Box::new(count));
    }

    /// Called with every backend whose standing or address has changed, before anybody in
    /// [`Self::changed`] hears of it, on whatever thread noticed. It must be quick, and it may be
    /// called by several threads at once. The first hook stays.
    pub fn on_change(&self, hook: impl Fn(BackendId) + Send + Sync + 'static) {
        let _ = self.0.shared.hook.set(Box::new(hook));
    }

    /// These are the backends from now on.
    ///
    /// A backend whose address is still the same keeps its state, whatever else has changed; what
    /// is not named any more is forgotten. Does not wait: [`Self::run`] does the rest.
    pub fn apply(&self, specs: &[BackendSpec]) {
        let mut wanted = self.0.wanted.lock();
        let old = self.0.backends.load();
        let slots = specs.iter().map(|spec| spec.id.0 as usize + 1).max().unwrap_or(0);
        let mut backends = vec![None; slots];
        for spec in specs {
            let known = old.get(spec.id.0 as usize).and_then(Option::as_ref);
            let backend = known.cloned().unwrap_or_else(|| {
                Arc::new(BackendHealth::new(spec, wanted.begun, &self.0.shared))
            });
            backends[spec.id.0 as usize] = Some(backend);
        }
        self.0.backends.store(Arc::new(backends));
        let before = std::mem::replace(&mut *wanted, Wanted { specs: specs.to_vec(), begun: true });
        drop(wanted);
        for spec in specs {
            let before = before.specs.iter().find(|before| before.id == spec.id);
            if let (Some(before), Some(backend)) = (before, self.get(spec.id)) {
                backend.configure(spec, before.address != spec.address);
            }
        }
        self.0.applied.notify_one();
    }

    /// Watches the backends until told to stop.
    ///
    /// # Errors
    /// None: a watcher that panics is started again.
    pub async fn run(self, stop: CancellationToken) -> TaskResult {
        let mut watchers = Watchers::default();
        loop {
            watchers.follow(&self.0);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.0.applied.notified() => {}
                Some(ended) = watchers.tasks.join_next_with_id() => watchers.ended(ended),
            }
        }
        watchers.tasks.shutdown().await;
        Ok(())
    }

    /// `None` for a backend that [`Self::apply`] has not named.
    pub fn get(&self, id: BackendId) -> Option<Arc<BackendHealth>> {
        self.0.backends.load().get(id.0 as usize)?.clone()
    }

    /// What routing needs to know, for [`gateway_core::farm::FarmView::revised`]. A backend that
    /// nobody watches counts as up.
    pub fn standing(&self, id: BackendId) -> (AdminState, Standing) {
        let state = self.look(id, |backend| backend.state());
        let unknown = Standing { condition: Condition::Up, weight_percent: 100 };
        state.map_or((AdminState::Ready, unknown), |state| (state.admin, state.standing()))
    }

    pub fn state(&self, id: BackendId) -> Option<HealthState> {
        self.look(id, BackendHealth::state)
    }

    /// What it went through since the process began.
    pub fn history(&self, id: BackendId) -> History {
        self.get(id).map(|backend| backend.history()).unwrap_or_default()
    }

    /// How long a backend has been down, by a clock that never jumps; `None` while it is up.
    pub fn down_for(&self, id: BackendId) -> Option<Duration> {
        self.look(id, BackendHealth::down_for)?
    }

    /// Where the backend is; `None` while its name has no address.
    pub fn current_address(&self, id: BackendId) -> Option<SocketAddr> {
        self.look(id, BackendHealth::address)?
    }

    /// Resolves at the next change after this call, not after the first poll: ask for it, then
    /// look at the state, then wait. While somebody waits for a backend that is down, it is probed
    /// more often.
    pub fn changed(&self, id: BackendId) -> impl Future<Output = ()> + Send + use<> {
        let waiting = self.look(id, BackendHealth::wait);
        async move {
            match waiting {
                Some(mut changes) => {
                    // An error means that the backend is no longer watched, which is a change too.
                    let _ = changes.changed().await;
                }
                None => std::future::pending().await,
            }
        }
    }

    /// A connection for a request could not be made, and that was the backend's doing: refused,
    /// no answer in time, no way there. Not for want of a descriptor or a port on this side.
    pub fn connect_failed(&self, id: BackendId) {
        self.look(id, BackendHealth::connect_failed);
    }

    /// A new connection for a request was made. A connection from the pool says nothing.
    pub fn connected(&self, id: BackendId) {
        self.look(id, BackendHealth::connected);
    }

    /// A Create could not connect to the backend at `failed`. Whether it may try again, at another
    /// address of the backend's name.
    pub fn try_next(&self, id: BackendId, failed: SocketAddr) -> bool {
        self.look(id, |backend| backend.try_next(failed)).unwrap_or(false)
    }

    /// The backend acknowledged a packet at this address.
    pub fn acknowledged(&self, id: BackendId, address: SocketAddr) {
        self.look(id, |backend| backend.acknowledged(address));
    }

    /// Whether the backend came to its address no longer than `span` ago.
    pub fn has_moved_within(&self, id: BackendId, span: Duration) -> bool {
        self.look(id, |backend| backend.has_moved_within(span)).unwrap_or(false)
    }

    /// The backend answered a packet. `client` tells whose it was, if that matters.
    pub fn answered(
        &self,
        id: BackendId,
        answer: Answer,
        client: impl FnOnce() -> Option<ClientKey>,
    ) {
        self.look(id, |backend| backend.answered(answer, || self.packet_source(client())));
    }

    /// Why a backend serves nothing, if it is one of those that [`Self::apply`] has named.
    pub fn absence(&self, id: BackendId) -> Absence {
        match self.down_for(id) {
            _ if self.is_lost(id) => Absence::Lost,
            Some(away) => Absence::For(away),
            None => Absence::Kept,
        }
    }

    /// Whether people gave a backend up, configured or not.
    pub fn is_lost(&self, id: BackendId) -> bool {
        self.0.lost.load().contains(&id)
    }

    /// What people decided. A backend in maintenance, or lost, is not probed.
    pub fn set_admin(&self, id: BackendId, admin: AdminState) {
        self.0.lost.rcu(|lost| {
            let mut lost = HashSet::clone(lost);
            match admin {
                AdminState::Lost => lost.insert(id),
                _ => lost.remove(&id),
            };
            lost
        });
        self.look(id, |backend| backend.set_admin(admin));
    }

    fn look<T>(&self, id: BackendId, look: impl FnOnce(&BackendHealth) -> T) -> Option<T> {
        let backends = self.0.backends.load();
        backends.get(id.0 as usize)?.as_ref().map(|backend| look(backend))
    }
}

/// The tasks, as [`FarmHealth::run`] owns them.
#[derive(Default)]
struct Watchers {
    tasks: JoinSet<()>,
    running: HashMap<BackendId, Running>,
}

struct Running {
    spec: BackendSpec,
    /// The task of the backend, and that of its name.
    tasks: Vec<AbortHandle>,
}

impl Watchers {
    /// Starts, stops and replaces tasks until they are those wanted.
    fn follow(&mut self, hub: &Arc<Hub>) {
        let wanted = hub.wanted.lock().specs.clone();
        let backends = hub.backends.load_full();
        self.running.retain(|id, running| {
            let keep =
                wanted.iter().any(|spec| spec.id == *id && spec.is_watched_like(&running.spec));
            if !keep {
                running.tasks.iter().for_each(AbortHandle::abort);
            }
            keep
        });
        for spec in wanted {
            let backend = backends.get(spec.id.0 as usize).and_then(Option::as_ref);
            let Some(backend) = backend.filter(|_| !self.running.contains_key(&spec.id)) else {
                continue;
            };
            let task = watcher::watch(Arc::clone(backend), spec.clone(), hub.ways.clone());
            let mut tasks = vec![self.tasks.spawn(task)];
            if spec.literal().is_none() {
                let task = names::follow(Arc::clone(backend), spec.clone(), hub.ways.clone());
                tasks.push(self.tasks.spawn(task));
            }
            self.running.insert(spec.id, Running { spec, tasks });
        }
    }

    /// Tasks only end when they are told to, or by a mistake of ours: then the backend is watched
    /// anew.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let Err(error) = ended else { return };
        if error.is_cancelled() {
            return;
        }
        tracing::error!(%error, "a task that watches a backend failed and is started again");
        self.running.retain(|_, running| {
            let hit = running.tasks.iter().any(|task| task.id() == error.id());
            if hit {
                running.tasks.iter().for_each(AbortHandle::abort);
            }
            !hit
        });
    }
}

#[cfg(test)]
mod tests;
