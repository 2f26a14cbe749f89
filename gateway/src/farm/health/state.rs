//! The state of one backend: fed by its watcher and by requests, read by everybody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use gateway_core::farm::{
    Addresses, AdminState, Answer, BackendId, Condition, PacketSource, ProbeFailure, Reason, Rules,
    Standing, Tracker,
};
use gateway_core::session::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::base::clock;
use crate::telemetry::metrics::BackendState;

use super::history::{History, LastProbe, Past};
use super::{BackendSpec, Shared};

/// What is known of a backend at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthState {
    pub admin: AdminState,
    pub up: bool,
    pub condition: Condition,
    /// Share of its weight that counts, 1 to 100.
    pub weight_percent: u32,
    /// When it became what it is, up or down.
    pub since: Timestamp,
    pub reason: Reason,
}

/// One backend. Reading takes no lock.
pub struct BackendHealth {
    pub id: BackendId,
    pub name: Arc<str>,
    state: ArcSwap<HealthState>,
    /// That of `inner.addresses`.
    address: ArcSwapOption<SocketAddr>,
    /// The same: whether a packet was acknowledged there.
    acknowledged: AtomicBool,
    /// Whether good news would change nothing, which is so nearly always.
    quiet: AtomicBool,
    inner: Mutex<Inner>,
    /// Wakes those who wait for a change.
    changes: watch::Sender<()>,
    /// Wakes the watcher.
    pub(super) poke: Notify,
    /// Wakes the task that looks the name up.
    pub(super) look_up: Notify,
    pub(super) shared: Arc<Shared>,
}

struct Inner {
    tracker: Tracker,
    rules: Rules,
    admin: AdminState,
    leaving: bool,
    /// By the wall clock, of `tracker.since()`.
    since: Timestamp,
    /// The next probe is due soon.
    hurry: bool,
    addresses: Addresses,
    /// The name was looked up, and the watcher has not seen what came of it.
    looked_up: bool,
    past: Past,
}

/// What a watcher has to do next.
pub(super) struct Agenda {
    pub maintained: bool,
    /// Probes are to follow each other faster.
    pub fast: bool,
    pub deadline: Option<Duration>,
}

impl HealthState {
    pub fn standing(&self) -> Standing {
        Standing { condition: self.condition, weight_percent: self.weight_percent }
    }

    /// As the metrics call it: what people decided to switch off is not called broken.
    fn label(&self) -> BackendState {
        match (self.admin, self.up) {
            (AdminState::Maintenance | AdminState::Lost, _) => BackendState::Maintenance,
            (_, false) => BackendState::Down,
            (AdminState::Drain, true) => BackendState::Drain,
            (AdminState::Ready, true) => BackendState::Ready,
        }
    }
}

impl BackendHealth {
    pub(super) fn new(spec: &BackendSpec, fresh: bool, shared: &Arc<Shared>) -> Self {
        let mut inner = Inner {
            tracker: tracker(spec, fresh, shared.now()),
            rules: spec.rules.clone(),
            admin: AdminState::Ready,
            leaving: spec.leaving,
            since: clock::now(),
            hurry: false,
            addresses: Addresses::new(&spec.found, shared.now()),
            looked_up: false,
            past: Past::default(),
        };
        let state = inner.state(shared.now());
        inner.past.turned(state.up, shared.now());
        let backend = Self {
            id: spec.id,
            name: Arc::clone(&spec.name),
            state: ArcSwap::from_pointee(state),
            address: ArcSwapOption::from_pointee(inner.addresses.current()),
            acknowledged: AtomicBool::new(false),
            quiet: AtomicBool::new(inner.tracker.is_quiet()),
            inner: Mutex::new(inner),
            changes: watch::Sender::new(()),
            poke: Notify::new(),
            look_up: Notify::new(),
            shared: Arc::clone(shared),
        };
        backend.measure();
        backend
    }

    /// The same backend with other rules, or in another place.
    pub(super) fn configure(&self, spec: &BackendSpec, moved: bool) {
        self.update(|inner, now| {
            inner.rules = spec.rules.clone();
            inner.leaving = spec.leaving;
            if moved {
                inner.addresses.replace(&spec.found, now);
                self.publish(&inner.addresses);
                inner.tracker = tracker(spec, true, now);
                inner.since = clock::now();
                inner.looked_up = false;
            }
        });
        if moved {
            self.shared.forget_folders(self.id, &self.name);
            self.tell();
        }
    }

    pub fn state(&self) -> HealthState {
        **self.state.load()
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    pub fn history(&self) -> History {
        self.inner.lock().past.history(self.shared.now())
    }

    /// `None` while it is up.
    pub fn down_for(&self) -> Option<Duration> {
        if self.state().up {
            return None;
        }
        let inner = self.inner.lock();
        let down = self.shared.now().saturating_sub(inner.tracker.since());
        (!inner.tracker.is_up()).then_some(down)
    }

    pub(super) fn wait(&self) -> watch::Receiver<()> {
        let changes = self.changes.subscribe();
        // Who waits for a backend that is down makes it worth a probe.
        self.poke.notify_one();
        changes
    }

    pub(super) fn connect_failed(&self) {
        self.update(|inner, now| {
            let Inner { tracker, rules, .. } = inner;
            let before = tracker.is_up();
            tracker.connect_failed(rules, now);
            // Probes are to say soon what they think of it.
            inner.hurry |= before;
        });
        self.poke.notify_one();
    }

    pub(super) fn connected(&self) {
        if !self.quiet.load(Ordering::Relaxed) {
            self.update(|inner, now| inner.tracker.connected(&inner.rules, now));
        }
    }

    pub(super) fn answered(&self, answer: Answer, by: impl FnOnce() -> PacketSource) {
        let good = matches!(answer, Answer::Good | Answer::Prompt);
        if good && self.quiet.load(Ordering::Relaxed) {
            return;
        }
        let by = by();
        self.update(|inner, now| inner.tracker.answered(answer, by, &inner.rules, now));
        if !good {
            // There may be a timer now.
            self.poke.notify_one();
        }
    }

    pub(super) fn set_admin(&self, admin: AdminState) {
        self.update(|inner, now| {
            let before = std::mem::replace(&mut inner.admin, admin);
            if before.is_out() && !admin.is_out() {
                inner.tracker.returned(now);
                inner.hurry = true;
            }
        });
        self.poke.notify_one();
    }

    pub(super) fn probed(&self, outcome: Result<(), ProbeFailure>) {
        self.update(|inner, now| {
            inner.hurry = false;
            if outcome.is_ok() {
                inner.addresses.reached();
            }
            // It may have gone into maintenance meanwhile, where nothing is held against it.
            if !inner.is_maintained() {
                inner.tracker.probed(outcome, &inner.rules, now);
            }
        });
    }

    /// The addresses to look at in place of the one it has. `failed` says that the last probe of
    /// that one did.
    pub(super) fn others(&self, failed: bool) -> Vec<SocketAddr> {
        self.inner.lock().others(failed)
    }

    /// A probe of another address that the name stands for has passed. False if there is no reason
    /// to go there any more.
    pub(super) fn move_to(&self, address: SocketAddr, failed: bool) -> bool {
        let mut moved = false;
        self.update(|inner, now| {
            // A packet may have been acknowledged meanwhile.
            if !inner.others(failed).contains(&address) {
                return;
            }
            moved = true;
            self.settle_at(address, inner, now);
            let Inner { tracker, rules, .. } = inner;
            tracker.probed(Ok(()), rules, now);
            // Without probes, nobody else would say so.
            tracker.connected(rules, now);
        });
        if moved {
            self.tell();
        }
        moved
    }

    /// Better than no address at all.
    pub(super) fn assume(&self, address: SocketAddr) {
        self.update(|inner, now| self.settle_at(address, inner, now));
        self.tell();
    }

    /// A Create could not connect to `failed`. Whether it may try again, because the backend is at
    /// another address now.
    pub(super) fn try_next(&self, failed: SocketAddr) -> bool {
        let mut next = None;
        self.update(|inner, now| {
            next = inner.addresses.next(failed, now);
            if let Some(next) = next.filter(|next| self.address() != Some(*next)) {
                self.say_moved(next);
                self.publish(&inner.addresses);
            }
        });
        if next.is_some() {
            self.tell();
        }
        next.is_some()
    }

    /// A packet was acknowledged there.
    pub(super) fn acknowledged(&self, address: SocketAddr) {
        if !self.acknowledged.load(Ordering::Relaxed) {
            let mut inner = self.inner.lock();
            inner.addresses.acknowledge(address);
            self.publish(&inner.addresses);
        }
    }

    pub(super) fn is_acknowledged(&self) -> bool {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Whether it came to its address no longer than `span` ago.
    pub(super) fn has_moved_within(&self, span: Duration) -> bool {
        self.inner.lock().addresses.has_changed_within(span, self.shared.now())
    }

    fn settle_at(&self, address: SocketAddr, inner: &mut Inner, now: Duration) {
        self.say_moved(address);
        inner.addresses.move_to(address, now);
        inner.tracker.found();
        self.publish(&inner.addresses);
    }

    /// To be called under the lock.
    fn publish(&self, addresses: &Addresses) {
        self.address.store(addresses.current().map(Arc::new));
        self.acknowledged.store(addresses.is_acknowledged(), Ordering::Relaxed);
    }

    /// What the name stands for now.
    pub(super) fn found(&self, addresses: &[SocketAddr]) {
        let mut inner = self.inner.lock();
        inner.addresses.found(addresses);
        inner.looked_up = true;
        drop(inner);
        self.poke.notify_one();
    }

    /// Whether the name was looked up since this was asked.
    pub(super) fn take_answer(&self) -> bool {
        std::mem::take(&mut self.inner.lock().looked_up)
    }

    /// Lets timers run out, and tells what comes next.
    pub(super) fn agenda(&self) -> Agenda {
        let mut agenda = None;
        self.update(|inner, now| {
            inner.tracker.settle(&inner.rules, now);
            let awaited = !inner.tracker.is_up() && self.changes.receiver_count() > 0;
            agenda = Some(Agenda {
                maintained: inner.is_maintained(),
                fast: awaited || inner.hurry || inner.tracker.is_in_doubt(),
                deadline: inner.tracker.next_deadline(&inner.rules, now),
            });
        });
        agenda.expect("an update runs what it is given")
    }

    pub(super) fn now(&self) -> Duration {
        self.shared.now()
    }

    pub(super) fn count_probe(&self, passed: bool, took: Duration) {
        self.shared.metrics.health_check(self.id, passed, took);
        self.inner.lock().past.probed(LastProbe { at: clock::now(), took, passed });
    }

    /// The only way to change anything: what follows from it is published.
    fn update(&self, change: impl FnOnce(&mut Inner, Duration)) {
        let (before, after) = {
            let mut inner = self.inner.lock();
            let now = self.shared.now();
            let since = inner.tracker.since();
            change(&mut inner, now);
            if inner.tracker.since() != since {
                inner.since = clock::now();
            }
            let before = self.state();
            let after = inner.state(now);
            self.quiet.store(inner.tracker.is_quiet(), Ordering::Relaxed);
            inner.past.turned(after.up, now);
            if before == after {
                return;
            }
            // Under the lock, or two changes at once might be published in the wrong order.
            self.state.store(Arc::new(after));
            (before, after)
        };
        self.say(&before, &after);
        if before.up && !after.up {
            self.look_up.notify_one();
        }
        let back = before.admin.is_out() && !after.admin.is_out();
        if back || (!before.up && after.up) {
            // It may have been repaired.
            self.shared.forget_folders(self.id, &self.name);
        }
        let seen = |state: &HealthState| (state.admin, state.standing());
        if seen(&before) != seen(&after) {
            self.tell();
        }
        // Last: who reads a backend down there finds that it is given no more sessions.
        self.measure();
    }

    fn tell(&self) {
        if let Some(hook) = self.shared.hook.get() {
            hook(self.id);
        }
        self.changes.send_replace(());
    }

    fn measure(&self) {
        // No newer state comes between the look at it and the metrics.
        let _inner = self.inner.lock();
        let state = self.state();
        self.shared.metrics.set_backend_up(self.id, state.up);
        self.shared.metrics.set_backend_state(self.id, state.label());
    }
}

impl Inner {
    fn others(&self, failed: bool) -> Vec<SocketAddr> {
        // Without probes, the connections of requests are all that tells.
        let down = !self.tracker.is_up();
        let failed = failed || (down && !self.rules.probed);
        let down = down && failed;
        self.addresses.others(failed, down)
    }

    fn is_maintained(&self) -> bool {
        match self.admin {
            AdminState::Lost => true,
            admin => admin.is_out() && !self.leaving,
        }
    }

    fn state(&self, now: Duration) -> HealthState {
        let Standing { condition, weight_percent } = self.tracker.standing(&self.rules, now);
        HealthState {
            // Whatever else people decided about it, its sessions are to come to their end.
            admin: match self.admin {
                AdminState::Lost => AdminState::Lost,
                _ if self.leaving => AdminState::Drain,
                admin => admin,
            },
            up: self.tracker.is_up(),
            condition,
            weight_percent,
            since: self.since,
            reason: self.tracker.reason(),
        }
    }
}

fn tracker(spec: &BackendSpec, fresh: bool, now: Duration) -> Tracker {
    match spec.found.is_empty() {
        false => Tracker::new(fresh, now),
        true => Tracker::without_address(now),
    }
}
