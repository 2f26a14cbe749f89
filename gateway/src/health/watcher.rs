//! The task that probes one backend and lets its timers run out.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::ProbeFailure;
use tokio::net::lookup_host;

use super::probe::{self, ProbeError};
use super::spec::{Ask, BackendSpec};
use super::state::{Agenda, BackendHealth};

/// Probes that follow up on a change of mind come so many times faster.
const FAST: u32 = 5;

/// The first probe comes within this time, or sooner.
const SOON: Duration = Duration::from_secs(1);

/// A name that stands for more is looked at this far.
const ADDRESSES: usize = 4;

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Probe = dyn Fn(&BackendSpec, SocketAddr) -> Later<Result<(), ProbeError>> + Send + Sync;
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
            probe: Arc::new(|spec, address| {
                let (ask, tls, timeout) = (spec.ask.clone(), spec.tls.clone(), spec.timeout);
                Box::pin(probe::probe(ask, tls, address, timeout))
            }),
            lookup: Arc::new(|name| {
                Box::pin(async move { Ok(lookup_host(name).await?.collect()) })
            }),
        }
    }
}

pub(super) async fn watch(backend: Arc<BackendHealth>, spec: BackendSpec, ways: Ways) {
    let mut watcher = Watcher { backend, spec, ways, names: Vec::new(), starved: false };
    let mut last = watcher.backend.now();
    // Not all at once.
    let mut wait = SOON.min(watcher.spec.interval).mul_f64(chance());
    loop {
        let agenda = watcher.backend.agenda();
        watcher.follow_name(&agenda).await;
        let due = last + if agenda.fast { wait / FAST } else { wait };
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
    /// What the name stood for when it was last looked up; empty for an address.
    names: Vec<SocketAddr>,
    /// The last probe could not be made, and that has been said.
    starved: bool,
}

impl Watcher {
    fn probes(&self, agenda: &Agenda) -> bool {
        !agenda.maintained && self.spec.ask != Ask::Nothing
    }

    /// Takes what the name stands for now, if somebody has looked.
    async fn follow_name(&mut self, agenda: &Agenda) {
        let Some(names) = self.backend.take_answer() else { return };
        self.names = names;
        let named = self.backend.address().is_some_and(|address| self.names.contains(&address));
        let content = named && agenda.up;
        if !content && !agenda.maintained {
            self.look_elsewhere().await;
        }
    }

    async fn probe(&mut self) {
        let outcome = match self.backend.address() {
            Some(address) => self.ask(address).await,
            None => Some(Err(ProbeFailure::NoAddress)),
        };
        let Some(outcome) = outcome else { return };
        self.backend.probed(outcome);
        if !self.backend.state().up && outcome.is_err() {
            self.look_elsewhere().await;
        }
    }

    /// Moves to the first other address of the name that passes a probe. The one it has is good
    /// for as long as it answers and the name still stands for it: an upload is where its
    /// server is.
    async fn look_elsewhere(&mut self) {
        let current = self.backend.address();
        let others: Vec<_> = self
            .names
            .iter()
            .copied()
            .filter(|name| Some(*name) != current)
            .take(ADDRESSES)
            .collect();
        for other in others {
            if self.ask(other).await == Some(Ok(())) {
                return self.backend.move_to(other);
            }
        }
        if let (None, Some(first)) = (current, self.names.first()) {
            self.backend.assume(*first);
        }
    }

    /// `None` if the probe could not be made.
    async fn ask(&mut self, address: SocketAddr) -> Option<Result<(), ProbeFailure>> {
        let begun = self.backend.now();
        let outcome = (self.ways.probe)(&self.spec, address).await;
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
