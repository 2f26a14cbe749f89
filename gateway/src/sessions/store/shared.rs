//! What the handles and the writer of a store have in common.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use gateway_core::events::{Event, Kind, Level};
use gateway_core::protocol::SessionId;
use gateway_core::session::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::database::{Change, Database};
use super::error::{OpenError, StoreError, Trouble, TroubleKind};
use super::folder::{Folder, Identity};
use super::lock::DirectoryLock;
use super::record::BackendState;
use super::writer::operation;
use super::{LiveRows, OnError, Options};
use crate::base::clock;
use crate::telemetry::metrics::StoreResult;

/// Changes that wait for a store that is down; some 20 MB at most. An end that does not fit leaves
/// a pin that lingers until it expires.
const BACKLOG: usize = 65_536;

pub struct Shared {
    pub folder: Folder,
    pub options: Options,
    pub up: AtomicBool,
    pub queued: AtomicUsize,
    /// Changes that were ever asked for, and those among them that are written or cannot be.
    pub asked: AtomicU64,
    pub settled: AtomicU64,
    /// Told when [`Self::settled`] has grown.
    pub batch: Notify,
    pub backlog: Mutex<VecDeque<Change>>,
    trouble: Mutex<Option<Arc<Trouble>>>,
    live: Mutex<Option<LiveRows>>,
    identity: Mutex<Option<Identity>>,
    lock: Mutex<Option<DirectoryLock>>,
    /// Admin states as they were last stored, by backend.
    states: Mutex<BTreeMap<String, BackendState>>,
    /// When the writer began what it is at, by the steady clock; 0 while it waits for work.
    busy_since: AtomicU64,
    /// It has been at it for so long that somebody has been told.
    stuck: AtomicBool,
    last_commit: AtomicU64,
    size: AtomicU64,
    lost: AtomicU64,
}

/// How the store is.
#[derive(Debug, Clone)]
pub struct StoreStatus {
    /// `sqlite` or `memory`.
    pub kind: &'static str,
    /// Takes writes.
    pub up: bool,
    /// Why not; with the help it holds what to do.
    pub trouble: Option<Arc<Trouble>>,
    pub last_commit: Option<Timestamp>,
    pub size_bytes: u64,
    /// Writes that wait for the writer.
    pub queued: usize,
    /// Changes that wait for the store to come back.
    pub backlog: usize,
    /// Changes that did not fit into the backlog.
    pub lost: u64,
}

impl StoreStatus {
    pub(super) fn memory() -> Self {
        Self {
            kind: "memory",
            up: true,
            trouble: None,
            last_commit: None,
            size_bytes: 0,
            queued: 0,
            backlog: 0,
            lost: 0,
        }
    }
}

impl Shared {
    pub fn new(folder: Folder, options: Options) -> Self {
        Self {
            folder,
            options,
            up: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            batch: Notify::new(),
            backlog: Mutex::default(),
            trouble: Mutex::default(),
            live: Mutex::default(),
            identity: Mutex::default(),
            lock: Mutex::default(),
            states: Mutex::default(),
            busy_since: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            last_commit: AtomicU64::new(0),
            size: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Whether there is no use in asking. An end is always worth it: it is kept.
    pub fn refuses(&self, change: &Change) -> bool {
        match change {
            Change::Pin { .. } => self.refuses_pins(),
            Change::State(_) => !self.up.load(Ordering::Acquire),
            _ => false,
        }
    }

    pub fn refuses_pins(&self) -> bool {
        self.options.on_error == OnError::Refuse
            && (!self.up.load(Ordering::Acquire) || self.stuck_for().is_some())
    }

    /// The writer begins to do something that a disk may keep it from ending.
    pub fn set_busy(&self) {
        self.busy_since.store(milliseconds(clock::steady()), Ordering::Release);
    }

    pub fn set_idle(&self) {
        self.busy_since.store(0, Ordering::Release);
        if self.stuck.swap(false, Ordering::AcqRel) {
            tracing::info!("the session store answers again");
            self.tell("answers", Level::Info, "the session store answers again".to_owned());
            self.options.metrics.set_store_up(self.up.load(Ordering::Acquire));
        }
    }

    /// For how long the disk has kept the writer from ending what it is at, if that is too long.
    pub fn stuck_for(&self) -> Option<Duration> {
        let since = self.busy_since.load(Ordering::Acquire);
        let busy = clock::steady().saturating_sub(Duration::from_millis(since));
        let slow = self.options.slow;
        if since == 0 || busy <= slow {
            return None;
        }
        // One that is down anyway has had its say.
        if self.up.load(Ordering::Acquire) && !self.stuck.swap(true, Ordering::AcqRel) {
            self.options.metrics.set_store_up(false);
            let (path, slow) = (self.folder.database(), slow.as_millis());
            tracing::error!(
                path = %path.display(),
                milliseconds = slow,
                "a write to the session store does not come back within store.slow: its disk hangs, or another program holds a lock on it"
            );
            self.tell(
                "hangs",
                Level::Error,
                format!(
                    "a write to the session store does not come back within {slow} ms \
                     (store.slow): the disk of {} hangs, or another program holds a lock",
                    path.display()
                ),
            );
        }
        Some(busy)
    }

    pub fn set_up(&self) {
        *self.trouble.lock() = None;
        self.up.store(true, Ordering::Release);
        self.options.metrics.set_store_up(true);
        self.measure();
    }

    /// Says so once, and again only when the reason is another.
    pub fn set_down(&self, trouble: Trouble) {
        let before = self.trouble.lock().replace(Arc::new(trouble.clone()));
        self.up.store(false, Ordering::Release);
        self.options.metrics.set_store_up(false);
        if before.is_none_or(|before| before.kind != trouble.kind) {
            let help = trouble.help();
            match self.options.on_error {
                OnError::Refuse => tracing::error!(
                    %trouble, help,
                    "the session store takes no writes: new uploads are answered 503, and those under way go on"
                ),
                OnError::Accept => tracing::error!(
                    %trouble, help,
                    "the session store takes no writes: new uploads are accepted and would not survive a restart"
                ),
            }
            let uploads = match self.options.on_error {
                OnError::Refuse => "new uploads are refused",
                OnError::Accept => "new uploads would not survive a restart",
            };
            let message = format!("the session store takes no writes, {uploads}: {trouble}");
            self.tell("down", Level::Error, message);
        }
    }

    fn tell(&self, name: &'static str, level: Level, message: String) {
        self.options.events.tell(Event::new(Kind::Store, name, level, message));
    }

    pub fn trouble(&self) -> Arc<Trouble> {
        let trouble = self.trouble.lock().clone();
        trouble.unwrap_or_else(|| {
            Arc::new(Trouble::new(TroubleKind::Other, &self.folder.database(), "not open"))
        })
    }

    pub fn committed(&self) {
        let now = clock::now();
        self.last_commit.store(now.0, Ordering::Relaxed);
        self.options.metrics.store_committed(now);
    }

    /// Looks how large the files are.
    pub fn measure(&self) {
        let [database, log] = self.folder.sizes();
        self.size.store(database + log, Ordering::Relaxed);
        self.options.metrics.set_store_size(database + log);
        self.options.metrics.set_store_log_size(log);
    }

    pub fn count(&self, change: &Change, result: StoreResult, since: Duration) {
        let took = clock::steady().saturating_sub(since);
        self.options.metrics.store_operation(operation(change), result, took);
    }

    /// Decides what becomes of a change that could not be written.
    pub fn keep_for_later(&self, change: Change, trouble: &Arc<Trouble>) -> Result<(), StoreError> {
        let down = Err(StoreError::Down(Arc::clone(trouble)));
        match change {
            Change::Pin { .. } if self.options.on_error == OnError::Accept => {
                self.put_back(change);
                Ok(())
            }
            // The disk may hold it all the same.
            Change::Pin { .. } => {
                self.forget(change);
                down
            }
            change => {
                if is_kept(&change) {
                    self.put_back(change);
                }
                down
            }
        }
    }

    /// A pin that nobody waits for goes again.
    pub fn forget(&self, change: Change) {
        if let Change::Pin { pin, .. } = change
            && let Some(id) = SessionId::parse(&pin.id)
        {
            let key = id.key().clone();
            self.put_back(Change::End { key, created: pin.created, tombstone: None });
        }
    }

    /// So many more changes are written, or cannot be.
    pub fn settle(&self, changes: u64) {
        self.settled.fetch_add(changes, Ordering::AcqRel);
        self.batch.notify_waiters();
    }

    pub fn put_back(&self, change: Change) {
        let mut backlog = self.backlog.lock();
        if backlog.len() < BACKLOG {
            backlog.push_back(change);
        } else if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                limit = BACKLOG,
                "the session store is down for so long that ends of sessions are forgotten: their pins linger until they expire"
            );
        }
    }

    pub fn has_backlog(&self) -> bool {
        !self.backlog.lock().is_empty()
    }

    pub fn take_backlog(&self, limit: usize) -> Vec<Change> {
        let mut backlog = self.backlog.lock();
        let count = backlog.len().min(limit);
        backlog.drain(..count).collect()
    }

    pub fn return_backlog(&self, changes: Vec<Change>) {
        let mut backlog = self.backlog.lock();
        for change in changes.into_iter().rev() {
            backlog.push_front(change);
        }
    }

    /// Notes what the store holds of a backend.
    pub fn note_state(&self, state: &BackendState) {
        self.states.lock().insert(state.backend.clone(), state.clone());
    }

    pub fn states(&self) -> Vec<BackendState> {
        self.states.lock().values().cloned().collect()
    }

    pub fn set_lock(&self, lock: Option<DirectoryLock>) {
        *self.lock.lock() = lock;
    }

    pub fn lock(&self) -> Option<DirectoryLock> {
        self.lock.lock().clone()
    }

    /// Takes the lock of the directory where it is not held: the disk took no file before, or
    /// somebody has removed it.
    pub fn ensure_lock(&self) -> Result<(), OpenError> {
        let mut lock = self.lock.lock();
        if !lock.as_ref().is_some_and(DirectoryLock::is_in_place) {
            *lock = Some(DirectoryLock::take(&self.folder.lock(), None)?.lock);
        }
        Ok(())
    }

    /// The process ends in order.
    pub fn release_lock(&self) {
        let released = self.lock.lock().take().map(DirectoryLock::release);
        if let Some(Err(error)) = released {
            tracing::warn!(%error, "the lock file of the session store cannot be written");
        }
    }

    pub fn set_live(&self, live: LiveRows) {
        *self.live.lock() = Some(live);
    }

    pub fn live(&self) -> Option<LiveRows> {
        self.live.lock().clone()
    }

    /// Notes which file this process writes to.
    pub fn remember(&self, database: &Database) {
        *self.identity.lock() = database.identity();
    }

    /// Whether it is another file than the one that was written to before.
    pub fn changed(&self, database: &Database) -> bool {
        *self.identity.lock() != database.identity()
    }

    pub fn status(&self) -> StoreStatus {
        let mut up = self.up.load(Ordering::Acquire);
        let mut trouble = self.trouble.lock().clone();
        if let Some(busy) = self.stuck_for() {
            up = false;
            let detail = format_args!("no write has come back for {} s", busy.as_secs());
            let hangs = Trouble::new(TroubleKind::Io, &self.folder.database(), detail);
            trouble = Some(Arc::new(hangs));
        }
        let last_commit = self.last_commit.load(Ordering::Relaxed);
        StoreStatus {
            kind: "sqlite",
            up,
            trouble,
            last_commit: (last_commit > 0).then_some(Timestamp(last_commit)),
            size_bytes: self.size.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
            backlog: self.backlog.lock().len(),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}

/// Whether a change that cannot be written now is written later, whoever asked for it.
pub fn is_kept(change: &Change) -> bool {
    match change {
        Change::End { .. }
        | Change::Touch { .. }
        | Change::Ending { .. }
        | Change::Complete { .. } => true,
        Change::Pin { .. }
        | Change::Name { .. }
        | Change::Names(_)
        | Change::State(_)
        | Change::Drop(_)
        | Change::Age { .. }
        | Change::Expire
        | Change::Probe => false,
    }
}

/// From 1 on.
fn milliseconds(steady: Duration) -> u64 {
    u64::try_from(steady.as_millis()).unwrap_or(u64::MAX).max(1)
}
