//! An immutable picture of the farm; one request sees one picture.

use std::collections::HashMap;

use crate::protocol::host::Host;

use super::backend::{AdminState, Backend, BackendId};

#[derive(Debug, Clone, Default)]
pub struct FarmView {
    backends: Vec<Backend>,
    /// Position in `backends` by id. Ids are small and dense: one per configured name.
    positions: Vec<Option<u32>>,
    /// Host names that stand for one backend, in the form of [`Host::with_key`].
    aliases: HashMap<String, BackendId>,
}

impl FarmView {
    /// `aliases` maps host names, in the form of [`crate::protocol::host::key_of`], to backends.
    pub fn new(backends: Vec<Backend>, aliases: HashMap<String, BackendId>) -> Self {
        let highest = backends.iter().map(|backend| backend.id.0 as usize + 1).max();
        let mut positions = vec![None; highest.unwrap_or(0)];
        for (position, backend) in (0u32..).zip(&backends) {
            positions[backend.id.0 as usize] = Some(position);
        }
        Self { backends, positions, aliases }
    }

    /// The same farm, but for what people decided about one backend.
    pub fn with_state(&self, id: BackendId, state: AdminState) -> Self {
        let mut view = self.clone();
        for backend in view.backends.iter_mut().filter(|backend| backend.id == id) {
            backend.admin = state;
        }
        view
    }

    /// `None` once the backend was removed from the configuration.
    pub fn backend(&self, id: BackendId) -> Option<&Backend> {
        let position = (*self.positions.get(id.0 as usize)?)?;
        self.backends.get(position as usize)
    }

    /// In the order of the configuration.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The backend that a host name stands for.
    pub fn alias(&self, host: &Host<'_>) -> Option<BackendId> {
        if self.aliases.is_empty() {
            return None;
        }
        host.with_key(|key| self.aliases.get(key).copied())
    }
}
