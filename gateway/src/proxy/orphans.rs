//! Sessions that a backend has opened and that no client will hear of.

use gateway_core::farm::BackendId;
use gateway_core::session::Opened;

use super::{Ctx, Gateway};

impl Gateway {
    /// Called when the Ack of a Create-Session is replaced by a refusal of ours: the session could
    /// not be pinned, and its client opens another. Until it is cancelled there, an empty part file
    /// lies on `backend` for as long as that keeps sessions.
    pub(super) fn orphaned(&self, backend: BackendId, opened: &Opened<'_>, ctx: &Ctx) {
        let id = opened.id.as_ref().map(|id| id.key().short().to_string());
        let backend = ctx.farm.view.backend(backend).map(|backend| backend.name.to_string());
        tracing::debug!(backend, session = id, "a session was opened that no client will use");
    }
}
