//! The session table: which session is where, and how far it has come.
//!
//! Reading and progress are plain calls that take one shard lock and never wait. `pin` and
//! `unpin` are async because they are the two moments of a session that reach the disk before the
//! client hears of them.
//!
//! What is absent: guards. No lock of the map leaves this module, so none can be held over an
//! await.

mod census;
mod durable;
mod empty;
mod ended_sessions;
mod eviction;
mod follow;
pub mod listing;
mod lists;
pub mod live_uploads;
mod load;
pub mod names;
mod packed;
mod pinning;
mod places;
mod record;
mod spelled;
pub mod store;
mod table;
mod tally;
mod text_budget;
mod translated;
mod under_way;
mod uneven;
pub mod view;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::client::ClientKey;
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::routing::{Loads, Lookup, Outstanding};
use gateway_core::session::expiry::is_expired;
use gateway_core::session::{EndReason, Pin, Progress, Subject, Timestamp};

use crate::base::backend_ids::BackendIds;
use crate::base::clock;
use crate::sessions::store::Store;

pub use census::Census;
pub use empty::{Birth, Evictable};
use ended_sessions::EndedSessions;
use eviction::Eviction;
use follow::Following;
pub use follow::Other;
use live_uploads::{LiveRequest, LiveUploads};
pub use load::{Opened, Setup};
use names::Names;
pub use places::{Place, Places, Refused};
use record::{ENDING, Session, UNTOUCHED};
use table::Table;
pub use tally::Opening;
use tally::Tally;
use text_budget::TextBudget;
use translated::Translated;
use under_way::UnderWay;
pub use under_way::{Elsewhere, EndLock};
pub use uneven::keyed;

type OnSessionEnd = Box<dyn Fn(&SessionKey) + Send + Sync>;

pub struct Sessions {
    live: Table,
    live_uploads: LiveUploads,
    names: OnceLock<Names>,
    translated: Translated,
    ended_sessions: EndedSessions,
    tally: Arc<Tally>,
    eviction: Eviction,
    places: Arc<Places>,
    births: TextBudget,
    spellings: TextBudget,
    ids: Arc<BackendIds>,
    store: Store,
    /// For as long as another process writes to the store.
    following: Option<Following>,
    /// For ends under way; `None` for a table in memory.
    under_way: Option<Arc<UnderWay>>,
    /// Told of every session that has ended, whoever ended it.
    on_end: OnceLock<OnSessionEnd>,
    /// Not everything that was stored could be read, so an id that is not here may be known.
    incomplete: bool,
}

/// What became of an attempt to pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    New,
    /// Another live session has this id.
    Taken,
}

/// Why a session could not be pinned durably.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("the session table is full at {limit} sessions")]
    Full { limit: u64 },
    #[error(transparent)]
    Store(#[from] store::StoreError),
}

/// Who holds a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyOwner {
    /// Nobody knows such a session.
    Unknown,
    /// It is of somebody else's session.
    Foreign,
    Backend(BackendId),
}

/// A session that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub key: SessionKey,
    pub pin: Pin,
    pub progress: Progress,
    pub reason: EndReason,
}

impl Sessions {
    /// In memory only; [`Setup`] makes a durable one. Ended sessions are remembered for
    /// `tombstone`.
    pub fn new(limit: u64, tombstone: Duration) -> Arc<Self> {
        Setup { ids: Arc::default(), limit, tombstone }.in_memory().sessions
    }

    /// With room for `expected` sessions.
    fn build(setup: Setup, expected: usize) -> Self {
        let Setup { ids, limit, tombstone } = setup;
        Self {
            live: Table::new(expected),
            live_uploads: LiveUploads::default(),
            names: OnceLock::new(),
            translated: Translated::default(),
            ended_sessions: EndedSessions::new(limit, tombstone),
            tally: Arc::default(),
            eviction: Eviction::default(),
            places: Places::new(limit),
            births: TextBudget::new(empty::BIRTHS),
            spellings: TextBudget::new(spelled::SPELLINGS),
            ids,
            store: Store::memory(),
            following: None,
            under_way: None,
            on_end: OnceLock::new(),
            incomplete: false,
        }
    }

    /// Has `told` called for every session that ends from now on, here or in another process. The
    /// first one counts.
    pub fn on_session_end(&self, told: impl Fn(&SessionKey) + Send + Sync + 'static) {
        let _ = self.on_end.set(Box::new(told));
    }

    /// Both count from now on; what is there beyond a lower limit stays.
    pub fn set_limits(&self, limit: u64, tombstone: Duration) {
        self.places.set_limit(limit);
        self.ended_sessions.set_limits(limit, tombstone);
    }

    /// How many sessions there may be.
    pub fn limit(&self) -> u64 {
        self.places.limit()
    }

    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    pub fn find(&self, key: Option<&SessionKey>) -> Lookup {
        let Some(key) = key else { return Lookup::NotAsked };
        match self.live.get(key) {
            Some(session) => Lookup::Pinned(session.pin()),
            None => self.find_ended(key),
        }
    }

    /// As [`Self::find`], and the session counts as heard of: a long Fragment is not silence. With it comes
    /// the size of the file to which its backend has agreed, 0 where that is not known.
    pub fn find_and_touch(&self, key: Option<&SessionKey>, steady: Duration) -> (Lookup, u64) {
        let Some(key) = key else { return (Lookup::NotAsked, 0) };
        match self.live.get_mut(key) {
            Some(mut session) => {
                self.touch(key, &mut session, steady);
                (Lookup::Pinned(session.pin()), session.agreed_total())
            }
            None => (self.find_ended(key), 0),
        }
    }

    /// The pin of a live session that is `own`, with the size of its file as of
    /// [`Self::find_and_touch`]. No other is touched.
    pub fn find_own(
        &self,
        key: &SessionKey,
        steady: Duration,
        own: impl FnOnce(&Pin) -> bool,
    ) -> Option<(Pin, u64)> {
        let mut session = self.live.get_mut(key)?;
        let pin = session.pin();
        if !own(&pin) {
            return None;
        }
        self.touch(key, &mut session, steady);
        Some((pin, session.agreed_total()))
    }

    /// Whether it is known that the backend holds no byte of a session: no packet of it was passed
    /// on since it was opened, by this process or by one before. That nothing is known to be
    /// acknowledged says less: an Ack may have been lost, or come before the process began.
    ///
    /// No client waits until its first packet is stored, so a process that is killed within that
    /// commit leaves a session behind that counts as untouched until its next packet.
    pub fn is_untouched(&self, key: &SessionKey) -> bool {
        let session = self.live.get(key);
        session.is_some_and(|session| session.is_untouched()) && !self.follows_others()
    }

    fn touch(&self, key: &SessionKey, session: &mut Session, steady: Duration) {
        if session.is_untouched() {
            self.store.touch_soon(key, session.created);
            self.drop_birth(session);
        }
        session.hear(steady);
    }

    /// The end of a file of `total` bytes is about to be passed on. That is stored once, however
    /// often the Fragment comes, and nobody waits for it.
    pub fn ends(&self, key: &SessionKey, total: u64) {
        let Some(mut session) = self.live.get_mut(key) else { return };
        let agreed = [0, total].contains(&session.agreed_total());
        if agreed && !session.is_ending() && session.progress.complete().is_none() {
            session.steady |= ENDING;
            self.store.ending_soon(key, session.created, total);
        }
    }

    /// False if the session is not there, which is the caller's to mend: its backend has just
    /// acknowledged bytes of it.
    pub fn progress(&self, key: &SessionKey, progress: Progress, steady: Duration) -> bool {
        let session = self.live.get_mut(key);
        let there = session.is_some();
        if let Some(mut session) = session {
            self.touch(key, &mut session, steady);
            self.advance(key, &mut session, progress);
        }
        there
    }

    fn advance(&self, key: &SessionKey, session: &mut Session, newer: Progress) {
        let before = session.progress;
        let agreed = Progress { total: session.agreed_total(), ..before };
        session.progress = agreed.then(newer);
        self.tally.progress(session.backend, before, session.progress);
        if let Some(total) = session.progress.complete()
            && before.complete() != Some(total)
        {
            self.store.complete_soon(key, session.created, total);
        }
    }

    pub fn progress_of(&self, key: &SessionKey) -> Option<Progress> {
        self.live.get(key).map(|session| session.progress)
    }

    /// Removes the pin if it is still there; only the caller that removed it gets it.
    pub async fn unpin(
        &self,
        key: &SessionKey,
        reason: EndReason,
        steady: Duration,
    ) -> Option<Ended> {
        let now = clock::now();
        // The memory of the end is there before the pin leaves: between the two, the session would
        // be unknown to the next packet, and its client would start over.
        let (key, session) = self.live.remove_if(key, |key, session| {
            match reason {
                EndReason::Closed | EndReason::Cancelled => {
                    let target_digest = session.pin().target_digest();
                    self.ended_sessions.insert(key.clone(), Some(target_digest), now, steady);
                }
                EndReason::Admin => _ = self.ended_sessions.insert(key.clone(), None, now, steady),
                EndReason::Expired | EndReason::Lost | EndReason::Evicted => {}
            }
            true
        })?;
        let pin = session.pin();
        // Before the wait, in which the caller may be dropped.
        let ended = self.ended(key, session, reason);
        self.end(&ended.key, &pin, reason, now).await;
        Some(ended)
    }

    /// Removes every session that has been silent for `idle_timeout` by both clocks.
    pub fn sweep_expired(
        &self,
        now: Timestamp,
        steady: Duration,
        idle_timeout: Duration,
    ) -> Vec<Ended> {
        self.ended_sessions.sweep_expired(now, steady);
        self.age_names(now);
        if let Some((ran, keep)) = self.ended_sessions.aged(steady) {
            self.store.age_tombstones(ran, keep);
        }
        let stale = |session: &Session| {
            let steady = steady.saturating_sub(session.heard_of());
            is_expired(now.since(session.progress.seen), steady, idle_timeout)
        };
        let keys = self.keys(stale);
        let removed = keys.into_iter().filter_map(|key| {
            // It may have made progress since.
            let (key, session) = self.live.remove_if(&key, |_, session| stale(session))?;
            self.store.end_soon(&key, session.created, None);
            Some(self.ended(key, session, EndReason::Expired))
        });
        removed.collect()
    }

    /// The sessions of one backend. Walks the whole map.
    pub fn of_backend(&self, backend: BackendId) -> Vec<SessionKey> {
        self.keys(|session| session.backend == backend)
    }

    fn keys(&self, such: impl Fn(&Session) -> bool) -> Vec<SessionKey> {
        let mut keys = Vec::new();
        self.live.each(|key, session| {
            if such(session) {
                keys.push(key.clone());
            }
        });
        keys
    }

    fn ended(&self, key: SessionKey, mut session: Session, reason: EndReason) -> Ended {
        self.drop_birth(&mut session);
        let (progress, pin) = (session.progress, session.pin());
        self.free_spelling(&pin.binding);
        self.places.remove(session.counted_client());
        self.live_uploads.remove(&key);
        self.tally.remove(pin.backend, progress);
        if let Some(id) = pin.backend_session.as_deref().and_then(SessionId::parse) {
            self.translated.remove(id.key(), pin.backend, &key);
        }
        if let Some(told) = self.on_end.get() {
            told(&key);
        }
        Ended { key, pin, progress, reason }
    }

    pub fn live_uploads(&self) -> &LiveUploads {
        &self.live_uploads
    }

    /// A packet of a session has its turn, or has opened it: its upload is shown while its client speaks.
    /// `holder` is who is held to a share for it.
    pub fn show_live(
        &self,
        key: &SessionKey,
        packet: &live_uploads::Packet<'_>,
        holder: impl FnOnce() -> Option<ClientKey>,
    ) -> Option<LiveRequest> {
        let (request, new) = self.live_uploads.begin(key, packet, holder);
        if new && !self.live.contains_key(key) {
            // It has ended meanwhile, and nobody else would remove the entry.
            self.live_uploads.remove(key);
            return None;
        }
        if new {
            self.keep_name(key);
        }
        request
    }

    /// A Create goes to that backend. It counts as a session there for as long as the value lives.
    pub fn opening(&self, backend: BackendId) -> Opening {
        self.tally.open(backend)
    }

    /// Whether one more session may be opened.
    pub fn room(&self) -> bool {
        self.evicts() || self.places.taken() < self.limit()
    }

    /// One more place for a session that is about to leave the table, because its server still has
    /// it.
    pub fn hold_place(&self, key: &SessionKey) -> Option<Place> {
        let client = self.live.get(key)?.counted_client();
        Some(self.places.hold(client))
    }

    pub fn len(&self) -> u64 {
        self.places.sessions()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The backend that holds the reply of a session, by the *backend's* id, which is what its
    /// reply URL names. Where several backends use one id, those count whose session `may_have`
    /// allows by whom it is bound to, and among them `preferred` wins.
    pub fn reply_owner(
        &self,
        id: &SessionKey,
        preferred: Option<BackendId>,
        may_have: impl Fn(Option<&Subject>) -> bool,
    ) -> ReplyOwner {
        let mut owners = self.at_backends(id);
        if owners.is_empty() {
            return ReplyOwner::Unknown;
        }
        owners.retain(|(_, public)| {
            let session = self.live.get(public);
            session.is_none_or(|session| may_have(session.subject()))
        });
        let preferred = owners.iter().find(|(owner, _)| Some(*owner) == preferred);
        let owner = preferred.or(owners.first());
        owner.map_or(ReplyOwner::Foreign, |(owner, _)| ReplyOwner::Backend(*owner))
    }

    /// The public id of the session that a backend knows by `id`.
    pub fn holder(&self, backend: BackendId, id: &SessionKey) -> Option<SessionKey> {
        let mut found = self.at_backends(id).into_iter();
        found.find(|(owner, _)| *owner == backend).map(|(_, public)| public)
    }

    /// Whether `id` is what a backend calls a session whose client knows it by another.
    pub fn is_hidden(&self, backend: BackendId, id: &SessionKey) -> bool {
        self.holder(backend, id).is_some_and(|public| public != *id)
    }

    /// Backend and public id of every session that its backend knows by `id`.
    fn at_backends(&self, id: &SessionKey) -> Vec<(BackendId, SessionKey)> {
        let mut found = self.translated.find(id);
        // A pin without a translation is under the backend's own id.
        if let Some(session) = self.live.get(id)
            && session.backend_session().is_none()
        {
            found.insert(0, (session.backend, id.clone()));
        }
        found
    }
}

impl Loads for Sessions {
    fn sessions(&self, backend: BackendId) -> u64 {
        self.tally.sessions(backend)
    }

    fn outstanding(&self, backend: BackendId) -> Outstanding {
        self.tally.outstanding(backend)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
