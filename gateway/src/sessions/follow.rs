//! Two processes on one store: what the other one writes is read from there.
//!
//! The hazard: while one process takes over from another, both open and end sessions, and a client
//! may send its next packet to either. A pin is on the disk before its client learns the id, so
//! whoever does not find one here looks there before it says that there is none.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::routing::Lookup;
use gateway_core::session::{Binding, EndReason, Pin, Progress, Subject};
use parking_lot::Mutex;

use super::{Session, Sessions, UNTOUCHED};
use crate::base::clock;
use crate::sessions::store::{
    BackendState, EndKind, Follower, Milestone, PinRow, ReadError, Record, StoredProgress,
    Tombstone,
};

/// Who else writes to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    Predecessor = 1,
    Successor = 2,
}

/// In [`Following::others`], above the bits.
const ONE_MORE: u32 = 4;

/// A successor that has ended before it took over.
#[derive(Debug, Clone, Copy)]
pub struct LostSuccessor(u32);

/// What is needed to read on.
pub(super) struct Following {
    follower: Mutex<Follower>,
    /// Bits of [`Other`], and above them how often one was added.
    others: AtomicU32,
    /// What `others` was when a successor had ended, until its last words are read.
    lost: AtomicU32,
    /// Readings that have begun.
    begun: AtomicU64,
    /// The number of the last one that went well.
    good: AtomicU64,
}

impl Following {
    pub(super) fn new(follower: Follower) -> Self {
        Self {
            follower: Mutex::new(follower),
            others: AtomicU32::new(0),
            lost: AtomicU32::new(0),
            begun: AtomicU64::new(0),
            good: AtomicU64::new(0),
        }
    }
}

impl Sessions {
    /// From now on that process writes to the store. Without effect for a table in memory, which
    /// nobody else can see.
    pub fn follow(&self, other: Other) {
        if let Some(following) = &self.following {
            let add = |others: u32| Some(others.wrapping_add(ONE_MORE) | other as u32);
            let _ = following.others.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        }
    }

    /// That process has ended, and what it wrote was read. Blocks.
    pub fn leave_off(&self, other: Other) {
        if let Some(following) = &self.following {
            self.believe_untouched(following);
            following.others.fetch_and(!(other as u32), Ordering::AcqRel);
        }
    }

    /// The successor has ended before it took over. What it wrote may not be read yet.
    pub fn lose_successor(&self) {
        if let Some(following) = &self.following {
            following.lost.store(following.others.load(Ordering::Acquire), Ordering::Release);
        }
    }

    /// A successor that was lost. What is read from now on is all that it wrote.
    pub fn lost_successor(&self) -> Option<LostSuccessor> {
        let lost = self.following.as_ref()?.lost.load(Ordering::Acquire);
        (lost & Other::Successor as u32 != 0).then_some(LostSuccessor(lost))
    }

    /// What that one wrote was read. Without effect if another one has asked since. Blocks.
    pub fn leave_off_lost(&self, lost: LostSuccessor) {
        let Some(following) = &self.following else { return };
        self.believe_untouched(following);
        let leave = |others: u32| {
            let same = others / ONE_MORE == lost.0 / ONE_MORE;
            same.then_some(others & !(Other::Successor as u32))
        };
        let _ = following.others.fetch_update(Ordering::AcqRel, Ordering::Acquire, leave);
        let (done, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = following.lost.compare_exchange(lost.0, 0, done, relaxed);
    }

    fn believe_untouched(&self, following: &Following) {
        let untouched = following.follower.lock().untouched();
        // What cannot be read counts for nothing.
        self.keep_untouched(&untouched.unwrap_or_default());
    }

    /// Of the sessions that counted as untouched when they were read, those still do that are
    /// listed: the other process may have passed on packets of the rest.
    fn keep_untouched(&self, listed: &[StoredProgress]) {
        let ids = listed.iter().filter_map(|row| Some((SessionId::parse(&row.id)?, row.created)));
        let listed: HashSet<_> = ids.map(|(id, created)| (id.key().clone(), created)).collect();
        for mut session in self.live.iter_mut() {
            if session.is_untouched() && !listed.contains(&(session.key().clone(), session.created))
            {
                session.steady &= !UNTOUCHED;
            }
        }
    }

    pub fn follows_others(&self) -> bool {
        let others =
            |following: &Following| following.others.load(Ordering::Acquire) & (ONE_MORE - 1) != 0;
        self.following.as_ref().is_some_and(others)
    }

    /// As [`Sessions::find`], for an id that was not here a moment ago, while another process may
    /// have it.
    pub async fn find_elsewhere(self: &Arc<Self>, key: &SessionKey) -> Lookup {
        let known = self.catch_up().await;
        match self.find(Some(key)) {
            // What could not be read may be there.
            Lookup::Unknown if !known => Lookup::StoreDown,
            found => found,
        }
    }

    /// Takes over what others have written so far. False if not all of it may be there.
    pub async fn catch_up(self: &Arc<Self>) -> bool {
        let Some(following) = &self.following else { return true };
        let asked = following.begun.load(Ordering::Acquire);
        let sessions = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || sessions.read_on_since(asked)).await;
        matches!(read, Ok(Ok(_))) && self.store.status().up
    }

    /// Takes over what others have written. Returns what people have decided there about backends,
    /// the last of it last. Blocks.
    ///
    /// # Errors
    /// The next call tries again.
    pub fn read_on(&self) -> Result<Vec<BackendState>, ReadError> {
        match &self.following {
            Some(following) => self.read_on_since(following.begun.load(Ordering::Acquire)),
            None => Ok(Vec::new()),
        }
    }

    /// One reading serves all who have asked before it began.
    fn read_on_since(&self, asked: u64) -> Result<Vec<BackendState>, ReadError> {
        let Some(following) = &self.following else { return Ok(Vec::new()) };
        let mut follower = following.follower.lock();
        if following.good.load(Ordering::Acquire) > asked {
            return Ok(Vec::new());
        }
        let number = following.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let mut states = Vec::new();
        let mut new = HashSet::new();
        follower.poll(&mut |record| match record {
            Record::Backend(state) => states.push(state),
            Record::Event(_) => {}
            Record::Tombstone(tombstone) => self.ended_elsewhere(&tombstone),
            Record::Pin(row) => new.extend(self.pinned_elsewhere(&row)),
            // A session that is known already may have been touched here.
            Record::Progress(StoredProgress { id, milestone: Milestone::Untouched, .. })
                if !new.contains(&id) => {}
            Record::Progress(progress) => _ = self.take_progress(&progress),
            Record::Spelling(spelling) => _ = self.take_spelling(&spelling),
        })?;
        following.good.store(number, Ordering::Release);
        Ok(states)
    }

    /// The id, if it is new here. What this process has pinned itself is here already.
    fn pinned_elsewhere(&self, row: &PinRow<'_>) -> Option<String> {
        let id = SessionId::parse(row.id)?;
        if self.ended_sessions.has(id.key()) {
            return None;
        }
        let pin = Pin {
            backend: self.ids.intern(row.backend),
            backend_session: row.backend_session.map(Into::into),
            binding: Binding::unspelled(row.target),
            created: row.created,
            subject: row.subject.map(Subject::new),
        };
        let progress = Progress { seen: clock::now(), ..Progress::default() };
        let session = Session::new(pin, progress, clock::steady());
        self.insert(id.key().clone(), session).then(|| row.id.to_owned())
    }

    /// Whoever ended it has reported it.
    fn ended_elsewhere(&self, tombstone: &Tombstone) {
        let Some(id) = SessionId::parse(&tombstone.id) else { return };
        let (target, reason) = match tombstone.kind {
            EndKind::Close => (Some(tombstone.target), EndReason::Closed),
            EndKind::Cancel => (Some(tombstone.target), EndReason::Cancelled),
            EndKind::Forgotten => (None, EndReason::Admin),
        };
        let remember = || {
            if !self.ended_sessions.has(id.key()) {
                let (key, now) = (id.key().clone(), clock::steady());
                self.ended_sessions.insert(key, target, tombstone.ended, now);
            }
        };
        // The id may have been given out again since. What ended is never unknown on the way.
        let older = |_: &SessionKey, session: &Session| {
            let older = session.created <= tombstone.ended;
            if older {
                remember();
            }
            older
        };
        if let Some((key, session)) = self.live.remove_if(id.key(), older) {
            self.ended(key, session, reason);
        } else if !self.live.contains_key(id.key()) {
            remember();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use gateway_core::session::{TargetHash, Timestamp};

    use super::*;
    use crate::base::backend_ids::BackendIds;
    use crate::sessions::store::{OnError, Options, SyncMode};
    use crate::sessions::{Pinned, Setup};
    use crate::telemetry::events::Events;
    use crate::telemetry::metrics::Metrics;

    /// A process with its own ids on a store that it shares.
    fn process(path: &Path, backends: &[&str]) -> Arc<Sessions> {
        successor(path, backends, None)
    }

    /// The same, of a process that has taken over from another.
    fn successor(path: &Path, backends: &[&str], of: Option<&Sessions>) -> Arc<Sessions> {
        let ids = Arc::new(BackendIds::of(backends.iter().copied()));
        let setup = Setup { ids, limit: 100, tombstone: Duration::from_secs(60) };
        let metrics = Metrics::new(&[], &[]);
        let options = Options {
            sync: SyncMode::Crash,
            on_error: OnError::Refuse,
            slow: Duration::from_secs(2),
            metrics,
            events: Events::default(),
            lock: of.and_then(|of| of.store.lock()).map(Arc::new),
        };
        let sessions = setup.in_store(path, options).expect("it opens").sessions;
        sessions.follow(Other::Predecessor);
        sessions
    }

    fn key(id: &str) -> SessionKey {
        SessionId::parse(id).expect("a legal id").key().clone()
    }

    impl Sessions {
        async fn open(&self, id: &str, backend: &str) -> Pinned {
            let pin = Pin {
                backend: self.ids.intern(backend),
                backend_session: None,
                binding: Binding::unspelled(TargetHash(7)),
                created: clock::now(),
                subject: None,
            };
            let progress = Progress { seen: Timestamp(1), ..Progress::default() };
            self.pin(key(id), pin, progress, clock::steady()).await.expect("there is room")
        }

        async fn open_new(&self, id: &str) {
            let backend = self.ids.intern("a");
            let (target, created) = (TargetHash(7), clock::now());
            let pin = Pin {
                backend,
                backend_session: None,
                binding: Binding::unspelled(target),
                created,
                subject: None,
            };
            let mut place = None;
            let opened = self.pin_opened(&mut place, key(id), pin, created, clock::steady());
            assert_eq!(opened.await.expect("there is room"), Pinned::New);
        }

        fn backend_of(&self, id: &str) -> Option<&str> {
            match self.find(Some(&key(id))) {
                Lookup::Pinned(pin) => Some(self.ids.name(pin.backend)),
                _ => None,
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_session_is_found_in_either_process_as_soon_as_its_client_knows_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let old = process(&path, &["a", "b"]);
        old.open("before", "a").await;
        let new = successor(&path, &["c", "b", "a"], Some(&old));
        assert_eq!(new.backend_of("before"), Some("a"), "by name, not by number");
        for (one, other, id) in [(&old, &new, "s1"), (&new, &old, "s2")] {
            one.open(id, "b").await;
            assert_eq!(other.backend_of(id), None);
            assert!(matches!(other.find_elsewhere(&key(id)).await, Lookup::Pinned(_)));
            assert_eq!(other.backend_of(id), Some("b"));
        }
        assert_eq!(new.find_elsewhere(&key("nobody's")).await, Lookup::Unknown);
        assert_eq!((old.len(), new.len()), (3, 3));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_end_in_one_process_is_one_in_the_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let old = process(&path, &["a"]);
        for id in ["closed", "forgotten"] {
            old.open(id, "a").await;
        }
        let new = successor(&path, &["a"], Some(&old));
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&told);
        new.on_session_end(move |key| hears.lock().push(key.clone()));
        new.read_on().expect("read");
        old.unpin(&key("closed"), EndReason::Closed, clock::steady()).await.expect("it was there");
        old.unpin(&key("forgotten"), EndReason::Admin, clock::steady()).await.expect("there");
        new.read_on().expect("read");
        assert_eq!(new.find(Some(&key("closed"))), Lookup::Ended(TargetHash(7)));
        assert_eq!(new.find(Some(&key("forgotten"))), Lookup::Forgotten);
        assert!(new.is_empty());
        assert_eq!(new.places().taken(), 0);
        assert_eq!(*told.lock(), [key("closed"), key("forgotten")]);
        assert_eq!(new.open("closed", "a").await, Pinned::Taken, "an older client may still ask");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_session_is_found_though_another_had_its_place_in_the_store() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let old = process(&path, &["a"]);
        // What was noted of the numbers in use may be damaged.
        rusqlite::Connection::open(path.join("sessions.db"))
            .and_then(|file| {
                let damage = "INSERT INTO meta (name, value) VALUES ('last of pins', ?1)";
                file.execute(damage, [i64::MAX])
            })
            .expect("it is a database");
        let new = successor(&path, &["a"], Some(&old));
        for (number, (one, other)) in [(&old, &new), (&new, &old)].into_iter().enumerate() {
            let [first, second] = ["first", "second"].map(|name| format!("{name}-{number}"));
            one.open(&first, "a").await;
            one.read_on().expect("read");
            one.unpin(&key(&first), EndReason::Lost, clock::steady()).await.expect("there");
            other.open(&second, "a").await;
            one.read_on().expect("read");
            assert_eq!(one.backend_of(&second), Some("a"), "{number}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn that_the_other_process_has_passed_on_the_end_of_a_file_is_known_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let old = process(&path, &["a"]);
        let progress = |next_offset, total| Progress { next_offset, total, seen: Timestamp(1) };
        for id in ["begun-here", "arrived-here", "ended-here"] {
            old.open(id, "a").await;
            old.progress(&key(id), progress(5, 9), clock::steady());
        }
        old.ends(&key("ended-here"), 9);
        let new = successor(&path, &["a"], Some(&old));
        new.open("new", "a").await;
        old.progress(&key("arrived-here"), progress(9, 9), clock::steady());
        for id in ["begun-here", "arrived-here", "new"] {
            new.ends(&key(id), 9);
        }
        new.store.settle().await;
        old.store.settle().await;
        old.read_on().expect("read");
        let known = |id: &str| {
            let progress = old.progress_of(&key(id)).expect("it is known");
            (progress.next_offset, progress.total)
        };
        // How far it is the other one knows.
        assert_eq!((known("begun-here"), known("new")), ((0, 9), (0, 9)));
        // What this one knows better stays.
        assert_eq!((known("arrived-here"), known("ended-here")), ((9, 9), (5, 9)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_read_is_not_called_unknown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let sessions = process(&path, &["a"]);
        sessions.open("here", "a").await;
        std::fs::rename(&path, folder.path().join("elsewhere")).expect("moved");
        assert_eq!(sessions.find_elsewhere(&key("other")).await, Lookup::StoreDown);
        assert!(matches!(sessions.find_elsewhere(&key("here")).await, Lookup::Pinned(_)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_successor_that_is_lost_is_not_waited_for_any_longer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let old = process(&path, &["a"]);
        assert!(old.lost_successor().is_none());
        old.leave_off(Other::Predecessor);
        old.follow(Other::Successor);
        let new = successor(&path, &["a"], Some(&old));
        new.open("of-the-lost-one", "a").await;
        new.close().await;
        old.lose_successor();
        let lost = old.lost_successor().expect("it is lost");
        assert!(old.follows_others(), "until its last words are read");
        old.read_on().expect("read");
        old.leave_off_lost(lost);
        assert!(!old.follows_others() && old.lost_successor().is_none());
        assert!(matches!(old.find(Some(&key("of-the-lost-one"))), Lookup::Pinned(_)));
        // The next one asks before the end of this one is dealt with.
        old.follow(Other::Successor);
        old.lose_successor();
        let lost = old.lost_successor().expect("it is lost");
        old.follow(Other::Successor);
        old.leave_off_lost(lost);
        assert!(old.follows_others());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_another_process_has_touched_is_not_untouched_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let old = process(&path, &["a"]);
        old.leave_off(Other::Predecessor);
        for id in ["touched", "touched-here", "untouched"] {
            old.open_new(id).await;
        }
        let new = successor(&path, &["a"], Some(&old));
        old.follow(Other::Successor);
        old.find_and_touch(Some(&key("touched")), clock::steady());
        new.find_and_touch(Some(&key("touched-here")), clock::steady());
        let total = Progress { next_offset: 9, total: 9, seen: Timestamp(1) };
        old.progress(&key("touched"), total, clock::steady());
        old.close().await;
        new.read_on().expect("read");
        assert_eq!(new.progress_of(&key("touched")).and_then(Progress::complete), Some(9));
        let untouched =
            || ["touched", "touched-here", "untouched"].map(|id| new.is_untouched(&key(id)));
        assert_eq!(untouched(), [false; 3], "while another may pass on packets");
        new.leave_off(Other::Predecessor);
        assert_eq!(untouched(), [false, false, true]);
        new.close().await;
        let next = process(&path, &["a"]);
        next.leave_off(Other::Predecessor);
        let untouched = ["touched", "untouched"].map(|id| next.is_untouched(&key(id)));
        assert_eq!(untouched, [false, true]);
    }
}
