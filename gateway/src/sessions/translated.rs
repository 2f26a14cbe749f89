//! Sessions whose id at the backend is another than at the client, by the backend's id.

use dashmap::DashMap;
use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionKey;

/// Backend's id to backend and public id: two servers may use one id at the same time.
#[derive(Default)]
pub(super) struct Translated {
    by_backend_id: DashMap<SessionKey, Vec<(BackendId, SessionKey)>>,
}

impl Translated {
    pub(super) fn insert(&self, id: SessionKey, backend: BackendId, public: SessionKey) {
        self.by_backend_id.entry(id).or_default().push((backend, public));
    }

    pub(super) fn remove(&self, id: &SessionKey, backend: BackendId, public: &SessionKey) {
        if let Some(mut found) = self.by_backend_id.get_mut(id) {
            found.retain(|(owner, key)| *owner != backend || key != public);
        }
        self.by_backend_id.remove_if(id, |_, found| found.is_empty());
    }

    pub(super) fn find(&self, id: &SessionKey) -> Vec<(BackendId, SessionKey)> {
        self.by_backend_id.get(id).map(|found| found.clone()).unwrap_or_default()
    }
}
