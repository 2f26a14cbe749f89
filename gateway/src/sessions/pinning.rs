//! How a session gets into the table: a place first, then the entry, then its row in the store.

use std::time::Duration;

use gateway_core::protocol::client::ClientKey;
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::limits::PerClient;
use gateway_core::session::{Binding, Pin, Progress, Timestamp};

use super::{PinError, Pinned, Place, Session, Sessions, UNTOUCHED};

impl Sessions {
    /// As [`Self::pin_in`], in a place that is taken for it and is nobody's.
    pub async fn pin(
        &self,
        key: SessionKey,
        pin: Pin,
        progress: Progress,
        steady: Duration,
    ) -> Result<Pinned, PinError> {
        self.pin_in(&mut None, key, pin, progress, steady).await
    }

    /// Inserts if absent. `Ok(Pinned::New)` means that the pin is as durable as the store makes
    /// it, so the client may learn the id. The session has the place then, and in any other case,
    /// a caller that gives up waiting included, the place is what it was.
    pub async fn pin_in(
        &self,
        place: &mut Option<Place>,
        key: SessionKey,
        pin: Pin,
        progress: Progress,
        steady: Duration,
    ) -> Result<Pinned, PinError> {
        self.pin_session(place, key, Session::new(pin, progress, steady)).await
    }

    /// As [`Self::pin_in`], for a session that was just opened: its backend holds no byte of it.
    /// While another process may pass on its packets as well, nobody here would know of them.
    pub async fn pin_opened(
        &self,
        place: &mut Option<Place>,
        key: SessionKey,
        pin: Pin,
        seen: Timestamp,
        steady: Duration,
    ) -> Result<Pinned, PinError> {
        let progress = Progress { seen, ..Progress::default() };
        let mut session = Session::new(pin, progress, steady);
        if !self.follows_others() {
            session.steady |= UNTOUCHED;
        }
        self.pin_session(place, key, session).await
    }

    async fn pin_session(
        &self,
        place: &mut Option<Place>,
        key: SessionKey,
        mut session: Session,
    ) -> Result<Pinned, PinError> {
        let taken = match place.take() {
            Some(place) => place,
            None => self.take_place()?,
        };
        session.client = taken.client().unwrap_or(ClientKey::UNKNOWN);
        let (mut pin, untouched) = (session.pin(), session.is_untouched());
        pin.binding = match self.occupy(taken, &key, session) {
            Ok(binding) => binding,
            Err(taken) => {
                *place = Some(taken);
                return Ok(Pinned::Taken);
            }
        };
        self.keep(&key, &pin, untouched, place).await?;
        if self.evicts() && !self.live.contains_key(&key) {
            // It had to make room before its row was written.
            self.store.end_soon(&key, pin.created, None);
        }
        Ok(Pinned::New)
    }

    /// A place of no client. It is taken before its session is there, or two at once would find the
    /// last one.
    ///
    /// # Errors
    /// [`PinError::Full`].
    pub(super) fn take_place(&self) -> Result<Place, PinError> {
        loop {
            match self.places.reserve(None, PerClient::Unlimited) {
                Ok(place) => return Ok(place),
                Err(_) if self.evict() => {}
                Err(_) => return Err(PinError::Full { limit: self.limit() }),
            }
        }
    }

    /// Gives the place to the session, and returns what the session is bound to now. The place comes
    /// back if the id is taken: by a session that is there, or by one that has ended, since an older
    /// client may still come with it and must not meet the new one.
    pub(super) fn occupy(
        &self,
        place: Place,
        key: &SessionKey,
        session: Session,
    ) -> Result<Binding, Place> {
        let put = if self.ended_sessions.has(key) { None } else { self.put(key.clone(), session) };
        match put {
            Some(binding) => {
                place.give();
                Ok(binding)
            }
            None => Err(place),
        }
    }

    /// False if the session is there already, which then stays as it is.
    pub(super) fn insert(&self, key: SessionKey, session: Session) -> bool {
        let client = session.counted_client();
        let new = self.put(key, session).is_some();
        if new {
            self.places.add(client);
        }
        new
    }

    /// As [`Self::insert`], for a session that has been counted. Returns what the session is bound to now.
    fn put(&self, key: SessionKey, mut session: Session) -> Option<Binding> {
        let backend = session.backend;
        let at_backend = session.backend_session().and_then(SessionId::parse);
        let at_backend = at_backend.map(|id| id.key().clone());
        self.fit_spelling(&mut session);
        let (binding, progress) = (session.binding(), session.progress);
        // Whoever finds the session finds it counted.
        if !self.live.insert(key.clone(), session, || self.tally.add(backend, progress)) {
            self.free_spelling(&binding);
            return None;
        }
        if let Some(id) = at_backend {
            self.translated.insert(id, backend, key);
        }
        Some(binding)
    }
}
