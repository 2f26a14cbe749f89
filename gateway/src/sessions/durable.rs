//! The two moments of a session that reach the disk, and what follows when they do not.

use std::time::Duration;

use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::routing::Lookup;
use gateway_core::session::{Binding, EndReason, Pin, Progress, Timestamp};

use super::{PinError, Pinned, Place, Session, Sessions};
use crate::base::clock;
use crate::sessions::store::{self, EndKind, Store, StoredPin, Tombstone, text_of};

/// Takes a session off the map unless it became durable: also when whoever waits for that gives
/// up, because then the store keeps nothing either.
struct Undo<'a> {
    sessions: &'a Sessions,
    key: &'a SessionKey,
    pin: &'a Pin,
    /// Where its place goes: its server still has the session.
    place: &'a mut Option<Place>,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let ours = |_: &SessionKey, session: &Session| session.pin() == *self.pin;
        if let Some((key, session)) = self.sessions.live.remove_if(self.key, ours) {
            *self.place = Some(self.sessions.places.hold(session.counted_client()));
            self.sessions.ended(key, session, EndReason::Lost);
        }
    }
}

impl Sessions {
    /// Makes a session durable that is on the map already, so that nobody else gets its id
    /// meanwhile. On an error it is on the map no more, and its place is in `place`.
    pub(super) async fn keep(
        &self,
        key: &SessionKey,
        pin: &Pin,
        untouched: bool,
        place: &mut Option<Place>,
    ) -> Result<(), store::StoreError> {
        let mut undo = Undo { sessions: self, key, pin, place, armed: true };
        let stored = self.stored(key, pin);
        match untouched {
            true => self.store.pin_untouched(stored).await?,
            false => self.store.pin(stored).await?,
        }
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
    ) -> Result<Pinned, PinError> {
        let place = self.take_place()?;
        let created = pin.created;
        let session = Session::new(pin.clone(), progress, steady);
        if self.occupy(place, &key, session).is_err() {
            return Ok(Pinned::Taken);
        }
        if let Err(error) = self.store.pin_known(self.stored(&key, &pin)).await {
            tracing::debug!(%error, session = %key.short(), "a session would not survive a restart");
        }
        self.keep_total(&key, created, progress);
        Ok(Pinned::New)
    }

    /// Moves a session to another backend that has shown that it goes on with it, and returns the
    /// pin that it had; `None` if it had none, and it has the new one all the same. Whose it is
    /// stays as it was, and so does its target.
    ///
    /// A process that dies between the two rows leaves both, and the newer one counts at the next
    /// start.
    ///
    /// # Errors
    /// As [`Sessions::pin`], for a session that was not there.
    pub async fn repin(
        &self,
        key: &SessionKey,
        mut pin: Pin,
        progress: Progress,
        steady: Duration,
    ) -> Result<Option<Pin>, PinError> {
        let before = self.live.get_mut(key).map(|mut session| {
            pin.subject = session.subject().cloned();
            pin.binding = session.binding();
            self.drop_birth(&mut session);
            self.tally.remove(session.backend, session.progress);
            self.tally.add(pin.backend, progress);
            let mut moved = Session::new(pin.clone(), progress, steady);
            moved.client = session.client;
            std::mem::replace(&mut *session, moved).pin()
        });
        let Some(before) = before else {
            return self.adopt(key.clone(), pin, progress, steady).await.map(|_| None);
        };
        if let Some(old) = at_backend(&before) {
            self.translated.remove(&old, before.backend, key);
        }
        if let Some(new) = at_backend(&pin) {
            self.translated.insert(new, pin.backend, key.clone());
        }
        match self.store.move_pin(self.stored(key, &pin), before.created).await {
            Ok(()) => {
                self.keep_total(key, pin.created, progress);
                // That of its old row goes with that.
                self.keep_name(key);
            }
            // It is looked for at its old backend first then.
            Err(error) => {
                tracing::debug!(%error, session = %key.short(), "a move would not survive a restart");
            }
        }
        Ok(Some(before))
    }

    /// Remembers an end of a session without a pin: one that a backend has acknowledged where a host
    /// id alone had led, because its client may say it again too; or that nothing may be completed
    /// of it any more ([`EndReason::Admin`]). What has a pin or an end already stays.
    ///
    /// Nothing goes to the disk that the memory has no room for: such packets cost nobody a session.
    pub async fn remember_end(
        &self,
        key: &SessionKey,
        pin: &Pin,
        reason: EndReason,
        steady: Duration,
    ) {
        let target = match reason {
            EndReason::Closed | EndReason::Cancelled => Some(pin.target_digest()),
            EndReason::Admin => None,
            EndReason::Expired | EndReason::Lost | EndReason::Evicted => return,
        };
        if self.live.contains_key(key) || self.ended_sessions.has(key) {
            return;
        }
        let now = clock::now();
        if self.ended_sessions.insert(key.clone(), target, now, steady) {
            // It finds no row to remove.
            self.end(key, pin, reason, now).await;
        }
    }

    /// Has the size of a file stored, once all of it has arrived.
    fn keep_total(&self, key: &SessionKey, created: Timestamp, progress: Progress) {
        if let Some(total) = progress.complete() {
            self.store.complete_soon(key, created, total);
        }
    }

    /// Waits until the size of a file that has arrived is stored, if it is about to be: who closes
    /// the session after that can be told what became of it, whatever happens to this process.
    pub async fn settle(&self, key: &SessionKey) {
        if self.progress_of(key).is_some_and(|progress| progress.complete().is_some()) {
            self.store.settle().await;
        }
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
            EndReason::Expired | EndReason::Lost | EndReason::Evicted => None,
        };
        let tombstone =
            kind.filter(|_| self.ended_sessions.are_kept()).map(|(kind, status)| Tombstone {
                id: text_of(key),
                kind,
                backend: self.ids.name(pin.backend).to_owned(),
                target: pin.target_digest(),
                status,
                ended,
            });
        let _ = self.store.end(key, pin.created, tombstone).await;
    }

    /// For an id that is not on the map.
    pub(super) fn find_ended(&self, key: &SessionKey) -> Lookup {
        match self.ended_sessions.find(key) {
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

    fn stored(&self, key: &SessionKey, pin: &Pin) -> StoredPin {
        let Binding { spelling, .. } = &pin.binding;
        StoredPin {
            id: text_of(key),
            backend: self.ids.name(pin.backend).to_owned(),
            backend_session: pin.backend_session.as_deref().map(str::to_owned),
            target: pin.binding.clone().without_spelling().target,
            created: pin.created,
            subject: pin.subject.clone(),
            spelling: spelling.as_deref().map(str::to_owned),
        }
    }
}

/// The id by which its backend knows the session, where that is not the public one.
fn at_backend(pin: &Pin) -> Option<SessionKey> {
    let id = pin.backend_session.as_deref().and_then(SessionId::parse);
    id.map(|id| id.key().clone())
}

#[cfg(test)]
#[path = "durable_tests.rs"]
mod tests;
