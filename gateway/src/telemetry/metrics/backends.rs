//! The series of backends.
//!
//! Each has some forty of them, and of thousands of backends few may be used: so a backend has its
//! series once there is something to tell, all at 0, and until it leaves. From the start there is
//! whether it is up.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use gateway_core::farm::BackendId;
use parking_lot::Mutex;
use prometheus::IntGauge;

use super::families::{BackendMetrics, Families};
use super::labels::BackendState;
use crate::base::by_id::ById;

#[derive(Default)]
pub(super) struct Backends {
    /// Those that have their series.
    told: ById<ArcSwapOption<BackendMetrics>>,
    /// All.
    known: Mutex<BTreeMap<BackendId, Known>>,
}

/// What is to be told of a backend from the first moment on.
struct Known {
    name: String,
    weight: u32,
    state: BackendState,
    up: IntGauge,
}

impl Backends {
    /// Counts for a backend from now on. One that is counted for already gets the weight.
    pub fn add(&self, families: &Families, id: BackendId, name: &str, weight: u32) {
        let mut known = self.known.lock();
        if known.contains_key(&id) {
            drop(known);
            return self.set_weight(families, id, weight);
        }
        self.told.at(id);
        let up = families.backend_up(name);
        up.set(1);
        let name = name.to_owned();
        known.insert(id, Known { name, weight, state: BackendState::Ready, up });
    }

    /// Deletes every series of a backend.
    pub fn remove(&self, families: &Families, id: BackendId) {
        let mut known = self.known.lock();
        if let Some(Known { name, .. }) = known.remove(&id) {
            self.told.at(id).store(None);
            families.remove_backend(&name);
        }
    }

    /// The handles of a backend, if it has its series.
    pub fn find(&self, id: BackendId) -> Option<Counters> {
        let slot = self.told.get(id)?.load();
        slot.is_some().then_some(Counters(slot))
    }

    /// The handles of a backend. `None` for an id that no configuration names: nothing is counted
    /// then, because a wrong count must not end a request.
    pub fn of(&self, families: &Families, id: BackendId) -> Option<Counters> {
        self.find(id).or_else(|| self.make(families, id))
    }

    #[cold]
    fn make(&self, families: &Families, id: BackendId) -> Option<Counters> {
        let known = self.known.lock();
        let backend = known.get(&id)?;
        if self.find(id).is_none() {
            let made = families.backend(&backend.name, backend.weight, backend.state);
            self.told.at(id).store(Some(Arc::new(made)));
        }
        self.find(id)
    }

    pub fn set_up(&self, families: &Families, id: BackendId, up: bool) {
        if let Some(backend) = self.known.lock().get(&id) {
            backend.up.set(up.into());
        }
        if !up {
            self.of(families, id);
        }
    }

    pub fn is_up(&self, id: BackendId) -> bool {
        self.known.lock().get(&id).is_some_and(|backend| backend.up.get() == 1)
    }

    pub fn set_state(&self, families: &Families, id: BackendId, state: BackendState) {
        let changed = self.known.lock().get_mut(&id).is_some_and(|backend| {
            let before = std::mem::replace(&mut backend.state, state);
            before != state
        });
        if changed && let Some(metrics) = self.of(families, id) {
            metrics.set_state(state);
        }
    }

    pub fn set_weight(&self, families: &Families, id: BackendId, weight: u32) {
        let changed = self.known.lock().get_mut(&id).is_some_and(|backend| {
            let before = std::mem::replace(&mut backend.weight, weight);
            before != weight
        });
        if changed && let Some(metrics) = self.of(families, id) {
            metrics.weight.set(weight.into());
        }
    }

    /// Those that have their series.
    pub fn told(&self) -> impl Iterator<Item = (BackendId, Arc<BackendMetrics>)> {
        self.told.iter().filter_map(|(id, slot)| Some((id, slot.load_full()?)))
    }
}

/// The handles of one backend, without a word to other threads about who holds them.
pub(super) struct Counters(Guard<Option<Arc<BackendMetrics>>>);

impl Deref for Counters {
    type Target = BackendMetrics;

    fn deref(&self) -> &BackendMetrics {
        self.0.as_ref().expect("made of a slot that is taken")
    }
}
