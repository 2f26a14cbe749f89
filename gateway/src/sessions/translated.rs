//! Sessions whose id at the backend is another than at the client, by the backend's id.

use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionKey;

use super::lists::{Entry, Lists};

/// Two servers may use one id at the same time.
#[derive(Default)]
pub(super) struct Translated {
    by_backend_id: Lists<Translation>,
}

struct Translation {
    id: SessionKey,
    backend: BackendId,
    public: SessionKey,
}

impl Entry for Translation {
    fn key(&self) -> &SessionKey {
        &self.id
    }
}

impl Translated {
    pub(super) fn insert(&self, id: SessionKey, backend: BackendId, public: SessionKey) {
        self.by_backend_id.add(Translation { id, backend, public });
    }

    pub(super) fn remove(&self, id: &SessionKey, backend: BackendId, public: &SessionKey) {
        let other = |found: &Translation| found.backend != backend || found.public != *public;
        self.by_backend_id.retain_of(id, other);
    }

    pub(super) fn find(&self, id: &SessionKey) -> Vec<(BackendId, SessionKey)> {
        let copy = |found: &Translation| (found.backend, found.public.clone());
        self.by_backend_id.find(id, |found| found.iter().map(copy).collect())
    }
}
