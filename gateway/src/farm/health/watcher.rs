//! The task that probes one backend and lets its timers run out.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gateway_core::farm::{ProbeFailure, Reason};
use tokio::net::lookup_host;

use super::probe::{self, ProbeError};
use super::spec::{Ask, BackendSpec};
use super::state::{Agenda, BackendHealth};

/// Probes that follow up on a change of mind come so many times faster.
const FAST: u32 = 5;

/// The first probe comes within this time, or sooner.
const SOON: Duration = Duration::from_secs(1);

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Probe = dyn Fn(&BackendSpec, &Ask, SocketAddr) -> Later<Result<(), ProbeError>> + Send + Sync;
type Lookup = dyn Fn(String) -> Later<io::Result<Vec<SocketAddr>>> + Send + Sync;

/// How the network is reached. Tests that are about time have one of their own.
#[derive(Clone)]
pub(super) struct Ways {
    pub probe: Arc<Probe>,
    pub lookup: Arc<Lookup>,
}

impl Default for Ways {
    fn default() -> Self {
        Self {
            probe: Arc::new(|spec, ask, address| {
                let (ask, tls, timeout) = (ask.clone(), spec.tls.clone(), spec.timeout);
                Box::pin(probe::probe(ask, tls, address, timeout))
            }),
            lookup: Arc::new(|name| {
                Box::pin(async move { Ok(lookup_host(name).await?.collect()) })
            }),
        }
    }
}

pub(super) async fn watch(backend: Arc<BackendHealth>, spec: BackendSpec, ways: Ways) {
    let mut watcher = Watcher { backend, spec, ways, starved: false, doubt: false };
    let mut last = watcher.backend.now();
    // Not all at once.
    let mut wait = SOON.min(watcher.spec.interval).mul_f64(chance());
    loop {
        let agenda = watcher.backend.agenda();
        watcher.follow_name(&agenda).await;
        let due = last + if agenda.fast || watcher.doubt { wait / FAST } else { wait };
        let due = Some(due).filter(|_| watcher.probes(&agenda));
        let now = watcher.backend.now();
        if due.is_some_and(|due| due <= now) {
            last = now;
            wait = around(watcher.spec.interval);
            watcher.probe().await;
            continue;
        }
        let next = [due, agenda.deadline].into_iter().flatten().min();
        tokio::select! {
            () = sleep(next.map(|next| next.saturating_sub(now))) => {}
            () = watcher.backend.poke.notified() => {}
        }
    }
}

struct Watcher {
    backend: Arc<BackendHealth>,
    spec: BackendSpec,
    ways: Ways,
    /// The last probe could not be made, and that has been said.
    starved: bool,
    /// The last Pings have said something else than those before. The next ones are to come soon.
    doubt: bool,
}

impl Watcher {
    fn probes(&self, agenda: &Agenda) -> bool {
        !agenda.maintained && self.spec.ask != Ask::Nothing
    }

    /// Looks at what the name stands for now, if somebody has looked it up.
    async fn follow_name(&mut self, agenda: &Agenda) {
        if self.backend.take_answer() && !agenda.maintained {
            let failed = matches!(self.backend.state().reason, Reason::ProbesFail(_));
            self.look_elsewhere(failed).await;
        }
    }

    async fn probe(&mut self) {
        let outcome = match self.backend.address() {
            Some(address) => self.ask(address).await,
            None => Some(Err(ProbeFailure::NoAddress)),
        };
        let Some(outcome) = outcome else { return };
        self.doubt = false;
        // An address that nothing is known of is left at once.
        if outcome.is_err() && !self.backend.is_acknowledged() && self.look_elsewhere(true).await {
            return;
        }
        self.backend.probed(outcome);
        if outcome.is_err() && self.backend.is_acknowledged() {
            self.look_elsewhere(true).await;
        }
        if outcome.is_ok() && self.backend.state().up {
            self.ping_folders().await;
        }
    }

    /// A backend that passes probes may hang all the same.
    async fn ping_folders(&mut self) {
        let (Some(folders), Some(address)) = (&self.spec.pings, self.backend.address()) else {
            return;
        };
        let pings = self.backend.pings().into_iter().map(async |ping| {
            let ask = folders.ask(&ping.directory);
            let outcome = (self.ways.probe)(&self.spec, &ask, address).await;
            (ping, outcome)
        });
        for (ping, outcome) in join_all(pings).await {
            let outcome = match outcome {
                Ok(()) => Ok(()),
                Err(ProbeError::Failed(failure)) => Err(failure),
                Err(ProbeError::Local(_)) => continue,
            };
            self.doubt |= self.backend.pinged(&ping, outcome, &self.spec.rules, &folders.rules);
        }
    }

    /// Moves to the first other address of the name that passes a probe, if the one it has may be
    /// left: see [`gateway_core::farm::Addresses`]. True if it has moved.
    async fn look_elsewhere(&mut self, failed: bool) -> bool {
        let others = self.backend.others(failed);
        for &other in &others {
            if self.ask(other).await == Some(Ok(())) {
                return self.backend.move_to(other, failed);
            }
        }
        if let (None, Some(first)) = (self.backend.address(), others.first()) {
            self.backend.assume(*first);
        }
        false
    }

    /// `None` if the probe could not be made.
    async fn ask(&mut self, address: SocketAddr) -> Option<Result<(), ProbeFailure>> {
        let begun = self.backend.now();
        let outcome = (self.ways.probe)(&self.spec, &self.spec.ask, address).await;
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(ProbeError::Failed(failure)) => Err(failure),
            Err(ProbeError::Local(error)) => {
                if !std::mem::replace(&mut self.starved, true) {
                    let backend = &*self.backend.name;
                    tracing::warn!(backend, %error, "a backend cannot be probed from here");
                }
                return None;
            }
        };
        self.starved = false;
        self.backend.count_probe(outcome.is_ok(), self.backend.now().saturating_sub(begun));
        Some(outcome)
    }
}

/// Give or take a tenth, so that many that began together drift apart.
pub(super) fn around(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * chance())
}

/// From 0 to 1.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
