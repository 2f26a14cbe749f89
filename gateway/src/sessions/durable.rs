//! The two moments of a session that reach the disk, and what follows when they do not.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionKey;
use gateway_core::routing::{Loads, Lookup};
use gateway_core::session::{EndReason, Pin, Progress, Timestamp};

use super::{Pinned, Session, Sessions, StoreError, seconds};
use crate::clock;
use crate::store::{self, EndKind, Store, StoredPin, Tombstone, text_of};

/// Takes a session off the map unless it became durable: also when whoever waits for that gives
/// up, because then the store keeps nothing either.
struct Undo<'a> {
    sessions: &'a Sessions,
    key: &'a SessionKey,
    pin: &'a Pin,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let ours = |_: &SessionKey, session: &Session| session.pin == *self.pin;
        if let Some((key, session)) = self.sessions.live.remove_if(self.key, ours) {
            self.sessions.ended(key, session, EndReason::Lost);
        }
    }
}

impl Sessions {
    /// Makes a session durable that is on the map already, so that nobody else gets its id
    /// meanwhile. On an error it is on the map no more.
    pub(super) async fn keep(&self, key: &SessionKey, pin: &Pin) -> Result<(), store::StoreError> {
        let mut undo = Undo { sessions: self, key, pin, armed: true };
        self.store.pin(self.stored(key, pin)).await?;
        undo.armed = false;
        Ok(())
    }

    /// As [`Sessions::pin`], for a session that its client knows already: it is pinned even where
    /// it cannot be made durable. To lose it with the process is the worst that can follow, and not
    /// to pin it would lose it at once.
    pub async fn adopt(
        &self,
        key: SessionKey,
        pin: Pin,
        progress: Progress,
        steady: Duration,
    ) -> Result<Pinned, StoreError> {
        if !self.room() {
            return Err(StoreError::Full { limit: self.limit });
        }
        let session = Session { pin: pin.clone(), progress, steady: seconds(steady) };
        if self.tombs.has(&key) || !self.insert(key.clone(), session) {
            return Ok(Pinned::Taken);
        }
        if let Err(error) = self.store.pin(self.stored(&key, &pin)).await {
            tracing::debug!(%error, session = %key.short(), "a session would not survive a restart");
        }
        Ok(Pinned::New)
    }

    /// Ends a session on the disk. What cannot be written now is kept by the store for later.
    pub(super) async fn end(
        &self,
        key: &SessionKey,
        pin: &Pin,
        reason: EndReason,
        ended: Timestamp,
    ) {
        let kind = match reason {
            EndReason::Closed => Some((EndKind::Close, 200)),
            EndReason::Cancelled => Some((EndKind::Cancel, 200)),
            EndReason::Admin => Some((EndKind::Forgotten, 500)),
            EndReason::Expired | EndReason::Lost => None,
        };
        let tombstone = kind.filter(|_| self.tombs.are_kept()).map(|(kind, status)| Tombstone {
            id: text_of(key),
            kind,
            backend: self.names.of(pin.backend).to_owned(),
            target: pin.target,
            status,
            ended,
        });
        let _ = self.store.end(key, pin.created, tombstone).await;
    }

    /// For an id that is not on the map.
    pub(super) fn find_ended(&self, key: &SessionKey) -> Lookup {
        match self.tombs.find(key) {
            Lookup::Unknown if self.incomplete => Lookup::StoreDown,
            found => found,
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Waits until everything is written, and lets go of the file.
    pub async fn close(&self) {
        self.store.clone().close().await;
    }

    /// The names of all backends by id, those of the configuration first.
    pub fn backend_names(&self) -> Arc<[String]> {
        self.names.all().iter().map(|name| name.to_string()).collect()
    }

    /// How long a backend has been missing from the farm as far as this process knows: since it
    /// started. `None` for one that was there then.
    pub fn missing_for(&self, id: BackendId) -> Option<Duration> {
        let missing = !self.names.is_configured(id);
        missing.then(|| clock::steady().saturating_sub(self.started))
    }

    /// Backends that are not configured and still have sessions, with their names.
    pub fn missing(&self) -> Vec<(BackendId, Arc<str>)> {
        let all = (0u32..).map(BackendId).zip(self.names.all());
        let missing = all.filter(|(id, _)| !self.names.is_configured(*id));
        let used = missing.filter(|(id, _)| Loads::sessions(self, *id) > 0);
        used.map(|(id, name)| (id, Arc::clone(name))).collect()
    }

    /// Makes room to count the sessions of a backend.
    pub(super) fn count_up_to(&mut self, backend: BackendId) {
        while self.counts.len() <= backend.0 as usize && self.counts.len() < self.names.len() {
            self.counts.push(AtomicU64::new(0));
        }
    }

    fn stored(&self, key: &SessionKey, pin: &Pin) -> StoredPin {
        StoredPin {
            id: text_of(key),
            backend: self.names.of(pin.backend).to_owned(),
            backend_session: pin.backend_session.as_deref().map(str::to_owned),
            target: pin.target,
            created: pin.created,
        }
    }
}

#[cfg(test)]
#[path = "durable_tests.rs"]
mod tests;
