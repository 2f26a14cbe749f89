//! The sessions that are alive, each behind its own lock.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::conn::blocking;
use crate::disk::{self, Disk};
use crate::log::{self, Level};
use crate::refusal::Refusal;
use crate::upload::Record;

/// One session. Its packets are serialised by `live`; two sessions on one path share nothing.
pub struct Session {
    pub dir: PathBuf,
    /// Path of the request target that all its packets must have.
    pub target: String,
    /// Counts up in the order of creation; times do not tell sessions of one millisecond apart.
    number: u64,
    /// The connection that created it; 0 when an earlier process did.
    pub connection: u64,
    /// Requests that wait for `live`.
    pub waiters: Arc<AtomicUsize>,
    live: Arc<AsyncMutex<Live>>,
}

/// What changes in a session.
pub struct Live {
    pub record: Record,
    ended: bool,
}

/// Sessions by id. The map is locked for look-ups only, never while anything is done.
#[derive(Default)]
pub struct Sessions {
    by_id: Mutex<HashMap<String, Arc<Session>>>,
    made: AtomicU64,
}

impl Session {
    /// Waits for the session; refused when it ended meanwhile.
    pub async fn lock(&self) -> Result<OwnedMutexGuard<Live>, Refusal> {
        let live = {
            let _waiting = Waiting::new(&self.waiters);
            Arc::clone(&self.live).lock_owned().await
        };
        if live.ended {
            return Err(Refusal::SessionNotFound);
        }
        Ok(live)
    }
}

impl Live {
    /// Writes a record to disk, then takes it over: memory is never ahead of the disk.
    pub async fn store(&mut self, dir: &Path, record: Record) -> std::io::Result<()> {
        let (dir, saved) = (dir.to_owned(), record.clone());
        blocking(move || disk::save(&dir, &saved)).await?;
        self.record = record;
        Ok(())
    }
}

impl Sessions {
    /// Takes over what an earlier process left.
    pub fn load(disk: &Disk) -> std::io::Result<Self> {
        let sessions = Self::default();
        for (dir, record) in disk.load()? {
            if let Some(older) = sessions.insert(dir, record, 0) {
                disk::remove(&older.dir)?;
            }
        }
        Ok(sessions)
    }

    pub fn len(&self) -> usize {
        self.map().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn find(&self, id: &str) -> Option<Arc<Session>> {
        self.map().get(id).cloned()
    }

    /// Adds a session; the one that had its id before is returned, and must be ended.
    pub fn insert(&self, dir: PathBuf, record: Record, connection: u64) -> Option<Arc<Session>> {
        let session = Arc::new(Session {
            dir,
            target: record.target.clone(),
            number: self.made.fetch_add(1, Ordering::Relaxed),
            connection,
            waiters: Arc::default(),
            live: Arc::new(AsyncMutex::new(Live { record: record.clone(), ended: false })),
        });
        self.map().insert(record.id, session)
    }

    /// Ends a session that the caller has locked, and removes what it left on disk.
    pub async fn end(&self, session: &Arc<Session>, live: &mut Live) -> std::io::Result<()> {
        live.ended = true;
        {
            let mut map = self.map();
            // Another session may have taken the id over.
            if map.get(&live.record.id).is_some_and(|current| Arc::ptr_eq(current, session)) {
                map.remove(&live.record.id);
            }
        }
        let dir = session.dir.clone();
        blocking(move || disk::remove(&dir)).await
    }

    /// Ends a session that nobody may use any more, as soon as the packet in it is done.
    pub fn end_soon(self: &Arc<Self>, session: Arc<Session>) {
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(mut live) = session.lock().await {
                let ended = sessions.end(&session, &mut live).await;
                report(ended);
            }
        });
    }

    /// Forgets every session. Those in which nothing happens are gone from the disk on return, the others soon after.
    pub async fn forget_all(self: &Arc<Self>) {
        let all: Vec<_> = self.map().drain().map(|(_, session)| session).collect();
        for session in all {
            match Arc::clone(&session.live).try_lock_owned() {
                Ok(mut live) => report(self.end(&session, &mut live).await),
                Err(_) => self.end_soon(session),
            }
        }
    }

    /// Ends the sessions that made no progress for too long; one with a packet in it is not idle.
    pub async fn sweep(&self, timeout_ms: u64, now: u64) {
        let all: Vec<_> = self.map().values().cloned().collect();
        for session in all {
            let Ok(mut live) = Arc::clone(&session.live).try_lock_owned() else {
                continue;
            };
            if live.record.is_expired(timeout_ms, now) {
                log::line(
                    Level::Info,
                    "session_expired",
                    format_args!("session={:?}", log::short(&live.record.id)),
                );
                report(self.end(&session, &mut live).await);
            }
        }
    }

    /// Ends the oldest sessions until `limit` are left. They are out of reach on return, and off the disk soon after.
    pub fn keep_newest(self: &Arc<Self>, limit: usize) {
        loop {
            let evicted = {
                let mut map = self.map();
                if map.len() <= limit {
                    return;
                }
                let oldest = map.iter().min_by_key(|(_, session)| session.number);
                let oldest = oldest.map(|(id, _)| id.clone());
                oldest.and_then(|id| map.remove(&id))
            };
            if let Some(session) = evicted {
                self.end_soon(session);
            }
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one waiting request, also when it is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn report(ended: std::io::Result<()>) {
    if let Err(error) = ended {
        log::line(
            Level::Warn,
            "session_not_removed",
            format_args!("error={:?}", error.to_string()),
        );
    }
}
