//! The one thread that writes.
//!
//! It takes what has queued up, commits it in one transaction and tells everybody who waits. After a
//! failure it lets go of the connection, tries again by itself until a write succeeds, and meanwhile
//! fails fast.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::Timestamp;
use tokio::sync::oneshot;

use super::database::{Change, Database};
use super::error::{OpenError, StoreError, Trouble, TroubleKind};
use super::load::{self, Order, Position};
use super::log;
use super::open;
use super::record::{Milestone, PinRow, Record, StoredProgress};
use super::{LiveRows, Shared};
use crate::clock;
use crate::metrics::{StoreOperation, StoreResult};

/// Changes in one transaction. Ends that lie anywhere in the file touch three pages each.
const BATCH: usize = 128;
/// A checkpoint is due with so many frames in the log, or when nobody writes.
const CHECKPOINT_AT: u64 = log::FRAMES / 2;
/// ... and with so many more after one that a reader has kept from moving all of them.
const CHECKPOINT_AGAIN: u64 = CHECKPOINT_AT / 4;
const _: () = assert!(CHECKPOINT_AT + 3 * (BATCH as u64) < log::FRAMES, "a batch fits");
const IDLE: Duration = Duration::from_millis(500);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

pub struct Reply {
    pub to: oneshot::Sender<Result<(), StoreError>>,
    pub if_left: IfLeft,
}

/// What becomes of a change when its caller waits no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfLeft {
    Keep,
    Undo,
}

pub enum Message {
    Change { change: Change, reply: Option<Reply>, since: Duration },
    Close(oneshot::Sender<()>),
}

struct Pending {
    change: Change,
    reply: Option<Reply>,
    since: Duration,
}

pub struct Writer {
    shared: Arc<Shared>,
    inbox: Receiver<Message>,
    state: State,
    /// Something is in the log alone.
    unmoved: bool,
    /// Frames in the log with which the next checkpoint is due.
    checkpoint_at: u64,
    /// Tombstones that are old by then are still there.
    expiring: Option<Timestamp>,
}

enum State {
    Up(Database),
    Down { since: Duration, retry: Duration, wait: Duration },
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        inbox: Receiver<Message>,
        database: Result<Database, Trouble>,
    ) -> Self {
        let now = clock::steady();
        let mut writer = Self {
            shared,
            inbox,
            state: State::Down { since: now, retry: now, wait: FIRST_RETRY },
            unmoved: true,
            checkpoint_at: CHECKPOINT_AT,
            expiring: None,
        };
        match database {
            Ok(database) => {
                writer.state = State::Up(database);
                writer.shared.committed();
                writer.shared.set_up();
            }
            Err(trouble) => {
                writer.state =
                    State::Down { since: now, retry: now + FIRST_RETRY, wait: FIRST_RETRY };
                writer.shared.set_down(trouble);
            }
        }
        writer
    }

    /// Until every handle is gone, or somebody closes the store.
    pub fn run(mut self) {
        let closer = loop {
            match self.inbox.recv_timeout(self.patience()) {
                Ok(message) => {
                    if let Some(closer) = self.take(message) {
                        break Some(closer);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Err(RecvTimeoutError::Disconnected) => break None,
            }
        };
        self.finish();
        if let Some(closer) = closer {
            // Nobody may wait any more.
            let _ = closer.send(());
        }
    }

    fn patience(&self) -> Duration {
        match self.state {
            State::Up(_) if self.expiring.is_some() || self.shared.has_backlog() => Duration::ZERO,
            State::Up(_) => IDLE,
            State::Down { retry, .. } => retry.saturating_sub(clock::steady()),
        }
    }

    /// One batch, beginning with a message.
    fn take(&mut self, first: Message) -> Option<oneshot::Sender<()>> {
        let mut batch = Vec::new();
        let mut next = Some(first);
        let mut closer = None;
        let mut taken = 0;
        while let Some(message) = next.take() {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            taken += u64::from(matches!(message, Message::Change { .. }));
            match message {
                Message::Close(reply) => closer = Some(reply),
                // Whoever asked has left, and would never learn of the pin.
                Message::Change { reply: Some(Reply { to, if_left: IfLeft::Undo }), .. }
                    if to.is_closed() => {}
                Message::Change { change, reply, since } => {
                    batch.push(Pending { change, reply, since });
                }
            }
            if closer.is_none() && batch.len() < BATCH {
                next = self.inbox.try_recv().ok();
            }
        }
        if !batch.is_empty() {
            self.write(batch);
        }
        self.shared.settle(taken);
        if let State::Down { retry, .. } = self.state
            && retry <= clock::steady()
        {
            self.retry();
        }
        // Under load there is no idle moment for it.
        if closer.is_none() {
            self.old_work();
        }
        self.checkpoint_if_due();
        closer
    }

    fn write(&mut self, batch: Vec<Pending>) {
        match self.commit(batch.iter().map(|pending| &pending.change)) {
            Ok(()) => {
                for pending in batch {
                    self.shared.count(&pending.change, StoreResult::Ok, pending.since);
                    let Some(Reply { to, if_left }) = pending.reply else { continue };
                    if to.send(Ok(())).is_err() && if_left == IfLeft::Undo {
                        self.shared.forget(pending.change);
                    }
                }
            }
            Err(trouble) => {
                for pending in batch {
                    self.shared.count(&pending.change, StoreResult::Error, pending.since);
                    let answer = self.shared.keep_for_later(pending.change, &trouble);
                    if let Some(reply) = pending.reply {
                        // It is kept or not, whether somebody hears that or not.
                        let _ = reply.to.send(answer);
                    }
                }
            }
        }
    }

    fn commit<'c>(
        &mut self,
        changes: impl Iterator<Item = &'c Change> + Clone,
    ) -> Result<(), Arc<Trouble>> {
        if let State::Up(database) = &self.state
            && database.moved()
        {
            let detail = "it was moved or removed while it was in use";
            self.fail(Trouble::new(TroubleKind::Missing, &database.path(), detail));
            self.retry();
        }
        let State::Up(database) = &mut self.state else { return Err(self.shared.trouble()) };
        match database.commit(changes.clone()) {
            Ok(more) => {
                self.unmoved = true;
                self.shared.committed();
                let expired = changes.filter_map(|change| match change {
                    Change::Expire(before) => Some(*before),
                    _ => None,
                });
                if let Some(before) = expired.max() {
                    self.expiring = more.then_some(before);
                }
                Ok(())
            }
            Err(trouble) => {
                self.fail(trouble);
                Err(self.shared.trouble())
            }
        }
    }

    /// Nothing has come for a while, or there is old work.
    fn tick(&mut self) {
        match self.state {
            State::Down { .. } => self.retry(),
            State::Up(_) => {
                if !self.old_work() && self.unmoved {
                    self.checkpoint();
                }
            }
        }
    }

    /// One transaction of what was left over; false if there is nothing.
    fn old_work(&mut self) -> bool {
        if !matches!(self.state, State::Up(_)) {
            return false;
        }
        if let Some(before) = self.expiring.take() {
            // Not worth a word: the next sweep asks again.
            let _ = self.commit([Change::Expire(before)].iter());
        } else if self.shared.has_backlog() {
            self.work_off();
        } else {
            return false;
        }
        true
    }

    /// Writes what could not be written when it came.
    fn work_off(&mut self) {
        let batch = self.shared.take_backlog(BATCH);
        if self.commit(batch.iter()).is_err() {
            self.shared.return_backlog(batch);
        }
    }

    /// Before the log is full: beyond its end every commit would make it grow.
    fn checkpoint_if_due(&mut self) {
        let State::Up(database) = &mut self.state else { return };
        match database.log() {
            Ok(log) if log.all >= self.checkpoint_at => self.checkpoint(),
            Ok(_) => {}
            Err(trouble) => self.fail(trouble),
        }
    }

    fn checkpoint(&mut self) {
        let State::Up(database) = &mut self.state else { return };
        match database.checkpoint() {
            Ok(log) if log.moved == log.all => {
                self.unmoved = false;
                self.checkpoint_at = CHECKPOINT_AT;
            }
            // A reader is in the way, and the log takes what comes all the same.
            Ok(log) => self.checkpoint_at = log.all.max(CHECKPOINT_AT) + CHECKPOINT_AGAIN,
            Err(trouble) if matches!(trouble.kind, TroubleKind::Full | TroubleKind::Locked) => {
                self.checkpoint_at += CHECKPOINT_AGAIN;
            }
            Err(trouble) => self.fail(trouble),
        }
        self.shared.measure();
    }

    /// Lets go of the connection: nothing is known of what it has written.
    fn fail(&mut self, trouble: Trouble) {
        let now = clock::steady();
        let next = State::Down { since: now, retry: now + FIRST_RETRY, wait: FIRST_RETRY };
        drop(std::mem::replace(&mut self.state, next));
        self.shared.set_down(trouble);
    }

    fn retry(&mut self) {
        let State::Down { since, wait, .. } = self.state else { return };
        match self.reopen() {
            Ok(database) => {
                self.state = State::Up(database);
                self.unmoved = true;
                self.shared.committed();
                // Before anything newer: the end of a session must not come before its pin.
                while matches!(self.state, State::Up(_)) && self.shared.has_backlog() {
                    self.work_off();
                }
                if !matches!(self.state, State::Up(_)) {
                    return;
                }
                self.shared.set_up();
                let seconds = (clock::steady() - since).as_secs();
                tracing::info!(seconds, "the session store takes writes again");
            }
            Err(error) => {
                let wait = (wait * 2).min(LAST_RETRY);
                self.state = State::Down { since, retry: clock::steady() + wait, wait };
                self.shared.set_down(match error {
                    OpenError::Trouble(trouble) => trouble,
                    other => Trouble::new(
                        TroubleKind::Other,
                        &self.shared.folder.database(),
                        format_args!("{other}; {}", other.help()),
                    ),
                });
            }
        }
    }

    fn reopen(&mut self) -> Result<Database, OpenError> {
        let shared = &self.shared;
        let opened = open::again(&shared.folder, shared.options.sync, clock::now())?;
        for line in &opened.report {
            tracing::error!("{line}");
        }
        let mut database = opened.database;
        // It is another file than the one this process has written to: what that one held, the
        // process still knows.
        if (opened.replaced || shared.changed(&database))
            && let Some(live) = shared.live()
        {
            let missing = missing(&mut database, &live)?;
            for batch in missing.chunks(BATCH) {
                database.commit(batch.iter())?;
            }
            let sessions = missing.iter().filter(|row| matches!(row, Change::Pin { .. })).count();
            if sessions > 0 {
                tracing::warn!(sessions, "sessions were written to the session store anew");
            }
        }
        shared.remember(&database);
        Ok(database)
    }

    /// Everything that was asked for so far is done, or cannot be done.
    fn finish(&mut self) {
        while matches!(self.state, State::Up(_)) && self.shared.has_backlog() {
            self.work_off();
        }
        self.checkpoint();
        let now = clock::steady();
        drop(std::mem::replace(
            &mut self.state,
            State::Down { since: now, retry: now, wait: FIRST_RETRY },
        ));
    }
}

impl Drop for Writer {
    /// Also when the thread panics: nobody shall believe that it still writes.
    fn drop(&mut self) {
        self.shared.up.store(false, Ordering::Release);
        let lost: VecDeque<Change> = std::mem::take(&mut *self.shared.backlog.lock());
        if !lost.is_empty() {
            let changes = lost.len();
            tracing::error!(changes, "changes could not be written to the session store");
        }
    }
}

/// What the process knows and a database does not hold. That nothing of a session has arrived is
/// not written anew: not to know it does no harm.
fn missing(database: &mut Database, live: &LiveRows) -> Result<Vec<Change>, Trouble> {
    let path = database.path();
    let (mut stored, mut complete) = (HashSet::new(), HashSet::new());
    load::visit(database.connection(), Position::default(), Order::OldestFirst, &mut |record| {
        match record {
            Record::Pin(PinRow { id, created, .. }) => stored.extend(name(id, created)),
            Record::Progress(StoredProgress { id, created, milestone: Milestone::Complete(_) }) => {
                complete.extend(name(&id, created))
            }
            _ => {}
        }
        true
    })
    .map_err(|error| Trouble::sqlite(&path, &error))?;
    // Collected first: whoever lists them may hold locks meanwhile.
    let mut missing: Vec<Change> = Vec::new();
    live(&mut |record| match record {
        Record::Pin(pin)
            if name(pin.id, pin.created).is_some_and(|name| !stored.contains(&name)) =>
        {
            missing.push(Change::Pin { pin: pin.to_pin(), untouched: false });
        }
        Record::Progress(StoredProgress { id, created, milestone: Milestone::Complete(total) }) => {
            let name = name(&id, created).filter(|name| !complete.contains(name));
            missing.extend(name.map(|(key, created)| Change::Complete { key, created, total }));
        }
        _ => {}
    });
    Ok(missing)
}

fn name(id: &str, created: Timestamp) -> Option<(SessionKey, Timestamp)> {
    Some((SessionId::parse(id)?.key().clone(), created))
}

/// Under which operation a change is counted.
pub fn operation(change: &Change) -> StoreOperation {
    match change {
        Change::Pin { .. } | Change::Complete { .. } | Change::State(_) | Change::Probe => {
            StoreOperation::Put
        }
        Change::Touch { .. } | Change::End { .. } | Change::Drop(_) | Change::Expire(_) => {
            StoreOperation::Delete
        }
    }
}
