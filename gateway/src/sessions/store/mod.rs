//! The durable store: pins, tombstones and admin states that survive the process.
//!
//! One SQLite file, `sessions.db`, written by one thread (`writer`) and readable by anybody with
//! `sqlite3`. It is written at the start and at the end of an upload, and no Fragment waits for it.
//! What the gateway asks on its hot path is in memory; the store is read when a process starts
//! ([`Store::open`]), and by a process that is about to take over from another ([`Follower`]).
//!
//! Reading order: `record` (what is kept), `schema` (how), `open` (every state a
//! file can be in), `writer` (how it fails and comes back), `pages` (what is left of a broken file).

mod ages;
mod backup;
mod checkpoint;
mod database;
mod error;
mod events;
pub mod faults;
mod folder;
mod load;
mod lock;
mod log;
mod names;
mod open;
mod pages;
mod read;
mod record;
mod repair;
mod salvage;
mod schema;
mod shared;
mod wal;
mod watch;
mod writer;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::Timestamp;
use tokio::sync::oneshot;

use crate::base::clock;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::{Metrics, StoreResult};
use database::Change;
use folder::Folder;
use open::How;
use shared::{Shared, is_kept};
use writer::{IfLeft, Message, Reply, Writer};

pub use backup::{Copied, Restored, backup, restore};
pub use error::{OpenError, StoreError, Trouble, TroubleKind};
pub use load::Position;
pub use names::{Keep, StoredName};
pub use read::{Follower, ReadError, Reader, is_missing, read_events, read_only};
pub use record::{
    BackendState, EndKind, Milestone, PinRow, Record, StoredPin, StoredProgress, StoredSpelling,
    Tombstone, text_of,
};
pub use shared::StoreStatus;

/// Writes that may wait. At 10,000 commits a second it empties in a second or two.
const QUEUE: usize = 16_384;

/// Rows deleted in one change.
const DROPPED_AT_ONCE: usize = 1000;

/// Lists every pin that the process knows, behind it the size of its file, if all of that has
/// arrived, and every end.
pub type LiveRows = Arc<dyn Fn(&mut dyn FnMut(Record<'_>)) + Send + Sync>;

/// What a commit has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// A power cut.
    Power,
    /// The death of the process; a power cut may take the last moment.
    Crash,
}

/// What happens to a new session that cannot be made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    Refuse,
    /// It goes on, and is written once that is possible.
    Accept,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub sync: SyncMode,
    pub on_error: OnError,
    /// How long a commit may take before what can do without it does.
    pub slow: Duration,
    pub metrics: Arc<Metrics>,
    /// What waits to be written besides.
    pub events: Events,
    /// The lock of the process that we take over from.
    pub lock: Option<Arc<OwnedFd>>,
}

/// What was there when the store was opened.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    pub pins: u64,
    pub tombstones: u64,
    pub backend_states: u64,
    /// Up to where the visitor has seen everything; for [`Store::follow`].
    pub position: Position,
    /// What somebody should know, one line each. Not logged yet.
    pub report: Vec<String>,
    /// There is a file and it could not be read: nobody knows what is in it.
    pub unread: bool,
    pub took: Duration,
}

/// A handle; clones share one writer.
#[derive(Clone)]
pub struct Store(Option<Handle>);

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.status()).finish()
    }
}

#[derive(Clone)]
struct Handle {
    shared: Arc<Shared>,
    outbox: SyncSender<Message>,
}

impl Store {
    /// Keeps nothing; every write succeeds.
    pub fn memory() -> Self {
        Self(None)
    }

    /// Opens the database in the directory `path`, and makes either if missing. Blocks.
    ///
    /// `visitor` gets admin states and tombstones, then the pins, **the newest first**, and bound
    /// ones before the others, and last spellings and how far sessions have come. It returns false for
    /// a pin whose session it knows already, and for the last two of a session that it does not know: such rows
    /// are left over and are deleted. What it returns for anything else does not count.
    ///
    /// With a disk that is full or read-only the store opens, and is down until that is over. With
    /// [`OnError::Accept`] that goes for other trouble too.
    ///
    /// # Errors
    /// Another gateway uses the directory. The directory or a file in it is open to others, or written by a newer version, or cannot
    /// be used. A damaged file is no error: it is replaced by what can be read of it.
    pub fn open(
        path: &Path,
        options: Options,
        visitor: &mut dyn FnMut(Record<'_>) -> bool,
    ) -> Result<(Self, Loaded), OpenError> {
        let begun = clock::steady();
        let folder = Folder::new(path);
        let how = How {
            sync: options.sync,
            accept: options.on_error == OnError::Accept,
            inherited: options.lock.as_deref(),
            now: clock::now(),
        };
        let mut states = Vec::new();
        let started = open::start(&folder, how, &mut |record| {
            if let Record::Backend(state) = &record {
                states.push(state.clone());
            }
            visitor(record)
        })?;
        let took = clock::steady() - begun;
        let visited = started.visited;
        let loaded = Loaded {
            pins: visited.wanted_pins(),
            tombstones: visited.tombstones,
            backend_states: visited.states,
            position: visited.position,
            report: started.report,
            unread: started.unread,
            took,
        };
        let shared = Arc::new(Shared::new(folder, Options { lock: None, ..options }));
        shared.set_lock(started.lock);
        states.iter().for_each(|state| shared.note_state(state));
        if let Ok(database) = &started.database {
            shared.remember(database);
        }
        let (outbox, inbox) = sync_channel(QUEUE);
        let writer = Writer::new(Arc::clone(&shared), inbox, started.database);
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(|| writer.run())
            .map_err(|error| Trouble::io(path, &error))?;
        let handle = Handle { shared, outbox };
        for rows in visited.unwanted.chunks(DROPPED_AT_ONCE) {
            // They are met again at the next start if this does not fit.
            handle.send_soon(Change::Drop(rows.to_vec()));
        }
        Ok((Self(Some(handle)), loaded))
    }

    /// Pins a new session. `Ok` means that it is as durable as was configured.
    ///
    /// A call that is dropped before it ends leaves no pin behind.
    ///
    /// # Errors
    /// The client must not learn of this session: answer 503. With [`OnError::Accept`] only when
    /// the store was closed or its queue is full.
    pub async fn pin(&self, pin: StoredPin) -> Result<(), StoreError> {
        self.write_pin(pin, false).await
    }

    /// As [`Self::pin`], for a session that was just opened: nothing of it has arrived, until
    /// [`Self::touch_soon`].
    ///
    /// # Errors
    /// As [`Self::pin`].
    pub async fn pin_untouched(&self, pin: StoredPin) -> Result<(), StoreError> {
        self.write_pin(pin, true).await
    }

    async fn write_pin(&self, pin: StoredPin, untouched: bool) -> Result<(), StoreError> {
        let Some(handle) = &self.0 else { return Ok(()) };
        // The writer may have answered just before the call is dropped.
        let mut unseen = EndOnDrop::new(handle, &pin, pin.created);
        let accepts = handle.shared.options.on_error == OnError::Accept;
        let if_left = if accepts { IfLeft::Keep } else { IfLeft::Undo };
        let asked = match handle.ask(Change::Pin { pin, untouched }, if_left).await {
            // It is in the queue and will be written.
            Err(StoreError::Slow { .. }) if accepts => Ok(()),
            asked => asked,
        };
        unseen.armed = matches!(asked, Err(StoreError::Slow { .. }));
        asked
    }

    /// Pins a session that its client knows already: the pin stays if the call is dropped.
    ///
    /// # Errors
    /// The session would not survive a restart.
    pub async fn pin_known(&self, pin: StoredPin) -> Result<(), StoreError> {
        let Some(handle) = &self.0 else { return Ok(()) };
        handle.ask(Change::Pin { pin, untouched: false }, IfLeft::Keep).await
    }

    /// As [`Self::pin_known`], for a session that has a pin, created `before`: that one goes once
    /// the new one is written. A process that dies between the two leaves both.
    ///
    /// # Errors
    /// The old pin stays.
    pub async fn move_pin(&self, pin: StoredPin, before: Timestamp) -> Result<(), StoreError> {
        let Some(handle) = &self.0 else { return Ok(()) };
        let mut old = EndOnDrop::new(handle, &pin, before);
        let moved = handle.ask(Change::Pin { pin, untouched: false }, IfLeft::Keep).await;
        old.armed = moved.is_ok();
        moved
    }

    /// Something of a session may have arrived from now on. Nobody waits for that.
    pub fn touch_soon(&self, key: &SessionKey, created: Timestamp) {
        if let Some(handle) = &self.0 {
            handle.send_soon(Change::Touch { key: key.clone(), created });
        }
    }

    /// The end of a session's file, of `total` bytes, is about to be passed on. Nobody waits for that.
    pub fn ending_soon(&self, key: &SessionKey, created: Timestamp, total: u64) {
        if let Some(handle) = &self.0
            && total <= Milestone::LARGEST
        {
            handle.send_soon(Change::Ending { key: key.clone(), created, total });
        }
    }

    /// All `total` bytes of a session have arrived. Who must know that this is written waits for it
    /// with [`Self::settle`].
    pub fn complete_soon(&self, key: &SessionKey, created: Timestamp, total: u64) {
        if let Some(handle) = &self.0
            && total <= Milestone::LARGEST
        {
            handle.send_soon(Change::Complete { key: key.clone(), created, total });
        }
    }

    /// Waits until everything that was asked for before is written, or cannot be written, or
    /// [`Options::slow`] has passed.
    pub async fn settle(&self) {
        let Some(Handle { shared, .. }) = &self.0 else { return };
        let asked = shared.asked.load(Ordering::Acquire);
        let settled = async {
            while shared.settled.load(Ordering::Acquire) < asked {
                let batch = shared.batch.notified();
                tokio::pin!(batch);
                batch.as_mut().enable();
                if shared.settled.load(Ordering::Acquire) < asked {
                    batch.await;
                }
            }
        };
        if shared.up.load(Ordering::Acquire) {
            // What is not written by then may still be.
            let _ = tokio::time::timeout(shared.options.slow, settled).await;
        }
    }

    /// Removes the pin of a session, and leaves its tombstone in the same transaction.
    ///
    /// `created` is that of the pin: with the id it finds the row. A session that has no row is no
    /// error.
    ///
    /// # Errors
    /// It is not durable yet. Nothing has to be done about that: it is remembered and tried again.
    pub async fn end(
        &self,
        key: &SessionKey,
        created: Timestamp,
        tombstone: Option<Tombstone>,
    ) -> Result<(), StoreError> {
        let Some(handle) = &self.0 else { return Ok(()) };
        handle.ask(Change::End { key: key.clone(), created, tombstone }, IfLeft::Keep).await
    }

    /// As [`Self::end`], for whoever does not care when: sweeps.
    pub fn end_soon(&self, key: &SessionKey, created: Timestamp, tombstone: Option<Tombstone>) {
        if let Some(handle) = &self.0 {
            handle.send_soon(Change::End { key: key.clone(), created, tombstone });
        }
    }

    /// # Errors
    /// The state would not survive a restart; it is not tried again.
    pub async fn set_backend_state(&self, state: BackendState) -> Result<(), StoreError> {
        let Some(handle) = &self.0 else { return Ok(()) };
        handle.ask(Change::State(state), IfLeft::Keep).await
    }

    /// Tombstones are older by the time that the process `ran` since it said so last; those that are
    /// older than `keep` go, soon.
    pub fn age_tombstones(&self, ran: Duration, keep: Duration) {
        if let Some(handle) = &self.0 {
            handle.send_soon(Change::Age { ran, keep });
        }
    }

    /// Tells the store how to list what the process knows, for the case that its file has to be made
    /// anew while the process runs.
    pub fn set_live_rows(&self, live: LiveRows) {
        if let Some(handle) = &self.0 {
            handle.shared.set_live(live);
        }
    }

    /// Whether [`Self::pin`] would fail at once.
    pub fn refuses_pins(&self) -> bool {
        self.0.as_ref().is_some_and(|handle| handle.shared.refuses_pins())
    }

    /// The size of the database in the directory `path`, without opening it; 0 if there is none.
    pub fn bytes_on_disk(path: &Path) -> u64 {
        std::fs::metadata(Folder::new(path).database()).map_or(0, |found| found.len())
    }

    pub fn status(&self) -> StoreStatus {
        match &self.0 {
            Some(handle) => handle.shared.status(),
            None => StoreStatus::memory(),
        }
    }

    /// A descriptor of the lock on the directory, for a process that takes over: [`Options::lock`].
    pub fn lock(&self) -> Option<OwnedFd> {
        self.0.as_ref()?.shared.lock()?.share().ok()
    }

    /// Another process has taken over from this one.
    pub fn drains(&self) {
        let lock = self.0.as_ref().and_then(|handle| handle.shared.lock());
        lock.iter().for_each(|lock| lock.drains());
    }

    /// Waits until everything that was asked for is written, and lets go of the file. A disk that
    /// hangs is not waited for.
    pub async fn close(self) {
        let Some(handle) = self.0 else { return };
        let (done, closed) = oneshot::channel();
        let mut message = Message::Close(done);
        loop {
            handle.shared.queued.fetch_add(1, Ordering::Relaxed);
            match handle.outbox.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(_)) if handle.shared.stuck_for().is_some() => return,
                Err(TrySendError::Full(back)) => {
                    handle.shared.queued.fetch_sub(1, Ordering::Relaxed);
                    message = back;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        let mut closed = pin!(closed);
        // An error means that the writer has gone already.
        while tokio::time::timeout(handle.shared.options.slow, &mut closed).await.is_err() {
            if handle.shared.stuck_for().is_some() {
                let changes = handle.shared.queued.load(Ordering::Relaxed);
                tracing::error!(changes, "the disk hangs, leaving the session store as it is");
                return;
            }
        }
    }
}

impl Handle {
    async fn ask(&self, change: Change, if_left: IfLeft) -> Result<(), StoreError> {
        let since = clock::steady();
        let operation = writer::operation(&change);
        if self.shared.refuses(&change) {
            self.shared.count(&change, StoreResult::Error, since);
            return Err(match self.shared.stuck_for() {
                Some(waited) => StoreError::Slow { waited },
                None => StoreError::Down(self.shared.trouble()),
            });
        }
        let (to, answer) = oneshot::channel();
        let reply = Reply { to, if_left };
        self.send(Message::Change { change, reply: Some(reply), since })?;
        match tokio::time::timeout(self.shared.options.slow, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => {
                let waited = clock::steady() - since;
                let metrics = &self.shared.options.metrics;
                metrics.store_operation(operation, StoreResult::Timeout, waited);
                Err(StoreError::Slow { waited })
            }
        }
    }

    /// An end that finds no room waits elsewhere, and so does progress.
    fn send(&self, message: Message) -> Result<(), StoreError> {
        let waiting = self.shared.queued.fetch_add(1, Ordering::Relaxed);
        self.shared.asked.fetch_add(1, Ordering::AcqRel);
        self.outbox.try_send(message).map_err(|refused| {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            self.shared.asked.fetch_sub(1, Ordering::AcqRel);
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = &refused;
            if let Message::Change { change, since, .. } = message {
                self.shared.count(change, StoreResult::Error, *since);
                if is_kept(change) {
                    self.shared.put_back(change.clone());
                }
            }
            match refused {
                TrySendError::Full(_) => StoreError::Busy { waiting },
                TrySendError::Disconnected(_) => StoreError::Closed,
            }
        })
    }

    fn send_soon(&self, change: Change) {
        let message = Message::Change { change, reply: None, since: clock::steady() };
        // What must not be missed is kept, and the rest is asked for again by the next sweep or
        // start.
        let _ = self.send(message);
    }
}

/// Ends a pin behind everything that is in the queue.
struct EndOnDrop<'a> {
    handle: &'a Handle,
    key: Option<SessionKey>,
    created: Timestamp,
    armed: bool,
}

impl<'a> EndOnDrop<'a> {
    fn new(handle: &'a Handle, pin: &StoredPin, created: Timestamp) -> Self {
        let key = SessionId::parse(&pin.id).map(|id| id.key().clone());
        Self { handle, key, created, armed: true }
    }
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take().filter(|_| self.armed) {
            let end = Change::End { key, created: self.created, tombstone: None };
            self.handle.send_soon(end);
        }
    }
}

#[cfg(test)]
mod tests;
