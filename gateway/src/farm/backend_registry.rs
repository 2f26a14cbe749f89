//! The backends at work: those of the configuration, and those that it does not name any more but
//! that still have sessions.
//!
//! The hazard: a session is bound to its backend, so a backend that was taken out of the file is not
//! gone for its clients. It gets no new sessions, keeps its id, its alias and its probes, and leaves
//! when its last session has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use gateway_core::events::{Event, Kind, Level};
use gateway_core::farm::{AdminState, Backend, BackendId, Health};
use gateway_core::routing::Loads;
use parking_lot::Mutex;

use crate::base::backend_ids::BackendIds;
use crate::config::Config;
use crate::farm::health::{BackendSpec, FarmHealth};
use crate::farm::{Farm, FarmError, Leaving};
use crate::sessions::Sessions;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
use crate::tls::certificates::Certificates;

/// Clones share everything.
#[derive(Clone)]
pub struct BackendRegistry {
    pub ids: Arc<BackendIds>,
    /// What the next request sees.
    pub farm: Arc<ArcSwap<Farm>>,
    pub health: FarmHealth,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    certificates: Certificates,
    events: Events,
    /// Every backend that was configured once and is not now, with sessions or without: a session
    /// that was being opened when its backend was removed may turn up late.
    left: Arc<Mutex<Vec<Leaving>>>,
}

impl BackendRegistry {
    /// Begins with the backends of the configuration that `farm` was built of.
    pub fn new(
        ids: Arc<BackendIds>,
        farm: Farm,
        sessions: Arc<Sessions>,
        metrics: Arc<Metrics>,
        certificates: Certificates,
        events: Events,
    ) -> Self {
        let health = FarmHealth::new(Arc::clone(&metrics), events.clone());
        health.apply(&specs(&farm, &ids, &[]));
        // A backend whose name has no address is down from the start.
        let farm = Arc::new(ArcSwap::from_pointee(farm.revised(&health)));
        let (swapped, revised) = (Arc::clone(&farm), health.clone());
        // Every change of a backend swaps the picture that later requests see.
        let (nobody, told) = (AtomicBool::new(false), events.clone());
        say_if_nobody_is_left(&farm.load(), &nobody, &told);
        health.on_change(move |_| {
            swapped.rcu(|farm| farm.revised(&revised));
            say_if_nobody_is_left(&swapped.load(), &nobody, &told);
        });
        let counted = Arc::clone(&sessions);
        health.count_uploads_with(move |id| counted.sessions(id));
        Self { ids, farm, health, sessions, metrics, certificates, events, left: Arc::default() }
    }

    /// Puts a configuration in force, for every request that begins after it. Blocks: new names are
    /// looked up.
    ///
    /// # Errors
    /// A certificate could not be used; nothing has changed.
    pub fn apply(&self, config: &Config) -> Result<(), FarmError> {
        let mut left = self.left.lock();
        let before = self.farm.load_full();
        let named = |name: &str| config.backends.iter().any(|b| b.name.eq_ignore_ascii_case(name));
        let mut leaving: Vec<_> =
            left.iter().filter(|gone| !named(&gone.backend.name)).cloned().collect();
        let mut kept: Vec<_> =
            leaving.iter().filter(|gone| self.has_work(gone.id)).cloned().collect();
        for backend in before.config.backends.iter().filter(|backend| !named(&backend.name)) {
            let gone = Leaving { id: self.ids.intern(&backend.name), backend: backend.clone() };
            // Whether it has sessions shows when the requests of this moment are over.
            kept.push(gone.clone());
            leaving.push(gone);
        }
        let config = Arc::new(config.clone());
        let farm = Farm::build(config, &self.ids, &kept, Some(&before))?;
        *left = leaving;
        self.put(farm, &before, &kept);
        Ok(())
    }

    /// Lets go of the backends that are not named any more and have no session left, and takes back
    /// those that have one again.
    pub fn tidy(&self) {
        let left = self.left.lock();
        if left.is_empty() {
            return;
        }
        let before = self.farm.load_full();
        let kept: Vec<_> = left.iter().filter(|gone| self.has_work(gone.id)).cloned().collect();
        if kept.iter().map(|gone| &gone.id).eq(before.leaving()) {
            return;
        }
        let config = Arc::clone(&before.config);
        match Farm::build(config, &self.ids, &kept, Some(&before)) {
            Ok(farm) => self.put(farm, &before, &kept),
            Err(error) => tracing::warn!(%error, "a removed backend with a session is not found"),
        }
    }

    fn has_work(&self, id: BackendId) -> bool {
        self.sessions.sessions(id) > 0 || self.metrics.backend_in_flight(id) > 0
    }

    /// Cannot fail: from here on there is no way back.
    fn put(&self, farm: Farm, before: &Farm, kept: &[Leaving]) {
        let config = Arc::clone(&farm.config);
        for backend in farm.view.backends() {
            self.metrics.add_backend(backend.id, &backend.name, backend.weight);
        }
        self.sessions.set_limits(config.sessions.limit, config.sessions.tombstone);
        self.sessions.set_shared_farm(config.sessions.shared_farm);
        self.metrics.set_sessions_limit(config.sessions.limit);
        self.certificates.watch(farm.reloadables());
        // Before the farm, whose picture is made of it.
        self.health.apply(&specs(&farm, &self.ids, kept));
        self.farm.store(Arc::new(farm.revised(&self.health)));
        // What has changed between the two lines above was told to the farm before.
        self.farm.rcu(|farm| farm.revised(&self.health));
        let now = self.farm.load();
        for gone in kept.iter().filter(|gone| !before.is_leaving(gone.id)) {
            let (backend, sessions) = (&gone.backend.name, self.sessions.sessions(gone.id));
            tracing::info!(
                backend,
                sessions,
                "a removed backend stays until its sessions are over"
            );
            let message = format!("{backend} was removed, and stays for its {sessions} uploads");
            let event = Event::new(Kind::Backend, "removed", Level::Info, message);
            self.events.tell(event.backend(backend));
        }
        for gone in before.view.backends() {
            if now.view.backend(gone.id).is_none() {
                self.metrics.remove_backend(gone.id);
                let backend = &*gone.name;
                tracing::info!(backend, "a removed backend has no sessions and leaves");
                let message = format!("{backend} was removed and has no uploads: it leaves");
                let event = Event::new(Kind::Backend, "left", Level::Info, message);
                self.events.tell(event.backend(backend));
            }
        }
    }
}

/// What is to be watched.
fn specs(farm: &Farm, ids: &BackendIds, leaving: &[Leaving]) -> Vec<BackendSpec> {
    let config = &farm.config;
    let named = config.backends.iter().map(|backend| (ids.intern(&backend.name), backend, false));
    let leave = leaving.iter().map(|gone| (gone.id, &gone.backend, true));
    let spec = |(id, backend, leaving)| BackendSpec {
        leaving,
        ..BackendSpec::new(id, backend, farm.found(id), config).secured(farm.tls(id))
    };
    named.chain(leave).map(spec).collect()
}

/// Says when the last backend stops to take new uploads, and when one does again.
fn say_if_nobody_is_left(farm: &Farm, nobody: &AtomicBool, events: &Events) {
    let takes = |backend: &Backend| {
        let is_well = backend.admin == AdminState::Ready && backend.health == Health::Up;
        is_well && !farm.is_leaving(backend.id)
    };
    let none = !farm.view.backends().iter().any(takes);
    match (nobody.swap(none, Ordering::Relaxed), none) {
        (false, true) => {
            tracing::error!("no backend takes new uploads");
            let message = "no backend takes new uploads";
            events.tell(Event::new(Kind::Backend, "none_left", Level::Error, message));
        }
        (true, false) => {
            tracing::info!("a backend takes new uploads again");
            let message = "a backend takes new uploads again";
            events.tell(Event::new(Kind::Backend, "one_again", Level::Info, message));
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "backend_registry_tests.rs"]
mod tests;
