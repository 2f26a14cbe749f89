//! Where replies lie whose session has another id at its backend than at the client.

use dashmap::DashMap;
use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionKey;

/// Backend's id to backends: two servers may use one id at the same time.
#[derive(Default)]
pub(super) struct Replies {
    owners: DashMap<SessionKey, Vec<BackendId>>,
}

impl Replies {
    pub(super) fn insert(&self, id: SessionKey, backend: BackendId) {
        self.owners.entry(id).or_default().push(backend);
    }

    pub(super) fn remove(&self, id: &SessionKey, backend: BackendId) {
        if let Some(mut owners) = self.owners.get_mut(id)
            && let Some(position) = owners.iter().position(|owner| *owner == backend)
        {
            owners.swap_remove(position);
        }
        self.owners.remove_if(id, |_, owners| owners.is_empty());
    }

    pub(super) fn owners(&self, id: &SessionKey) -> Vec<BackendId> {
        self.owners.get(id).map(|owners| owners.clone()).unwrap_or_default()
    }
}
