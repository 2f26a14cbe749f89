//! The session table as a process that starts finds it: filled from what an earlier one stored.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::farm::BackendId;
use gateway_core::protocol::SessionId;
use gateway_core::session::{Binding, Pin, Progress, Subject, Timestamp};

use super::follow::Following;
use super::under_way::UnderWay;
use super::{ENDING, Session, Sessions, UNTOUCHED};
use crate::base::backend_ids::BackendIds;
use crate::base::clock;
use crate::sessions::store::{
    BackendState, EndKind, Loaded, Milestone, OpenError, Options, PinRow, Record, Store,
    StoredProgress, Tombstone, text_of,
};

/// What a row with a GUID and a short name of a backend takes in the file.
const BYTES_PER_PIN: u64 = 93;

/// What a table is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// A stored session may be of a backend that nobody has named before.
    pub ids: Arc<BackendIds>,
    /// Sessions at most.
    pub limit: u64,
    /// How long an ended session is remembered.
    pub tombstone: Duration,
}

/// A table with all that was stored for it.
pub struct Opened {
    pub sessions: Arc<Sessions>,
    /// What people decided about backends, whether those are configured or not.
    pub states: Vec<BackendState>,
    pub loaded: Loaded,
}

impl Setup {
    /// A table that the process takes with it.
    pub fn in_memory(self) -> Opened {
        let sessions = Arc::new(Sessions::build(self, 0));
        Opened { sessions, states: Vec::new(), loaded: Loaded::default() }
    }

    /// A table that is kept in the directory `path`. Blocks.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn in_store(self, path: &Path, options: Options) -> Result<Opened, OpenError> {
        let expected = Store::bytes_on_disk(path) / BYTES_PER_PIN;
        let expected = usize::try_from(expected.min(self.limit)).unwrap_or(0);
        let mut loading = Loading {
            sessions: Sessions::build(self, expected),
            states: Vec::new(),
            now: clock::now(),
            steady: clock::steady(),
            names: HashMap::new(),
        };
        let (store, loaded) = Store::open(path, options, &mut |record| loading.take(record))?;
        let Loading { mut sessions, states, .. } = loading;
        sessions.incomplete = loaded.unread;
        sessions.following = store.follow(loaded.position).map(Following::new);
        sessions.store = store;
        sessions.under_way = UnderWay::open(path)
            .inspect_err(|error| {
                tracing::warn!(%error, "during an upgrade, an end may reach its server twice");
            })
            .ok();
        let sessions = Arc::new(sessions);
        // The store is part of the table, so it must not keep the table alive.
        let table = Arc::downgrade(&sessions);
        sessions.store.set_live_rows(Arc::new(move |visit| {
            if let Some(table) = table.upgrade() {
                table.each_row(visit);
                table.ended_sessions.each(&mut |tombstone| visit(Record::Tombstone(tombstone)));
            }
        }));
        Ok(Opened { sessions, states, loaded })
    }
}

struct Loading {
    sessions: Sessions,
    states: Vec<BackendState>,
    now: Timestamp,
    steady: Duration,
    /// Of a million rows, a few names each stand in very many.
    names: HashMap<String, BackendId>,
}

impl Loading {
    /// As the visitor of [`Store::open`]: false for a session that is there already.
    fn take(&mut self, record: Record<'_>) -> bool {
        match record {
            Record::Backend(state) => self.states.push(state),
            Record::Event(_) => {}
            Record::Tombstone(tombstone) => self.remember_end(&tombstone),
            Record::Pin(pin) => return self.pin(&pin),
            Record::Progress(progress) => return self.sessions.take_progress(&progress),
            Record::Spelling(spelling) => return self.sessions.take_spelling(&spelling),
        }
        true
    }

    fn remember_end(&mut self, tombstone: &Tombstone) {
        let Some(id) = SessionId::parse(&tombstone.id) else { return };
        let target = match tombstone.kind {
            EndKind::Close | EndKind::Cancel => Some(tombstone.target),
            EndKind::Forgotten => None,
        };
        // However old the clock takes it for: it may be the clock that is wrong.
        self.sessions.ended_sessions.insert(id.key().clone(), target, tombstone.ended, self.steady);
    }

    /// How far the upload has come its next Ack tells, unless nothing of it has arrived, its end was
    /// passed on or all of it has arrived, which is stored. Nobody knows when it was last heard of:
    /// that counts from now, so that no session expires for the time that the gateway was away.
    fn pin(&mut self, row: &PinRow<'_>) -> bool {
        // What is stored was a legal id once. A row that nobody can ask for stays for people.
        let Some(id) = SessionId::parse(row.id) else { return true };
        let backend = match self.names.get(row.backend) {
            Some(&id) => id,
            None => {
                let id = self.sessions.ids.intern(row.backend);
                self.names.insert(row.backend.to_owned(), id);
                id
            }
        };
        let pin = Pin {
            backend,
            backend_session: row.backend_session.map(Into::into),
            binding: Binding::unspelled(row.target),
            created: row.created,
            subject: row.subject.map(Subject::new),
        };
        let progress = Progress { seen: self.now, ..Progress::default() };
        let session = Session::new(pin, progress, self.steady);
        self.sessions.insert(id.key().clone(), session)
    }
}

impl Sessions {
    /// What is stored of how far a session has come. False if it is of no session.
    pub(super) fn take_progress(&self, stored: &StoredProgress) -> bool {
        let Some(id) = SessionId::parse(&stored.id) else { return false };
        let Some(mut session) = self.live.get_mut(id.key()) else { return false };
        if session.created != stored.created {
            return false;
        }
        match stored.milestone {
            Milestone::Untouched => session.steady |= UNTOUCHED,
            Milestone::Ending(total) => {
                let known = session.progress;
                // What this process has stored itself tells it nothing.
                let news = !session.is_ending() && known.complete().is_none();
                if news && [0, total].contains(&known.total) {
                    self.set_progress(&mut session, 0, total);
                }
            }
            Milestone::Complete(total) => self.set_progress(&mut session, total, total),
        }
        true
    }

    fn set_progress(&self, session: &mut Session, next_offset: u64, total: u64) {
        let before = session.progress;
        session.progress = Progress { next_offset, total, ..before };
        session.steady |= ENDING;
        self.tally.progress(session.backend, before, session.progress);
    }

    /// Holds a lock of the map while it calls `visit`.
    fn each_row(&self, visit: &mut dyn FnMut(Record<'_>)) {
        self.live.each(|key, session| {
            let id = text_of(key);
            visit(Record::Pin(PinRow {
                id: &id,
                backend: self.ids.name(session.backend),
                backend_session: session.backend_session(),
                target: session.binding().without_spelling().target,
                created: session.created,
                subject: session.subject().map(|subject| *subject.bytes()),
                spelling: session.spelling().map(|spelling| &**spelling),
            }));
            let milestone = match session.progress {
                Progress { total: 0, .. } => None,
                known if known.complete().is_some() => Some(Milestone::Complete(known.total)),
                known => session.is_ending().then_some(Milestone::Ending(known.total)),
            };
            if let Some(milestone) = milestone {
                let created = session.created;
                visit(Record::Progress(StoredProgress { id, created, milestone }));
            }
        });
    }
}
