//! The one thread that writes.
//!
//! It takes what has queued up, commits it in one transaction and tells everybody who waits. After a
//! failure it lets go of the connection, tries again by itself until a write succeeds, and meanwhile
//! fails fast.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use gateway_core::events::{Event, Kind, Level};
use tokio::sync::oneshot;

use super::Shared;
use super::database::{Change, Database, PATIENCE};
use super::error::{OpenError, StoreError, Trouble, TroubleKind};
use super::log;
use super::repair::{self, Mistrust};
use crate::base::clock;
use crate::telemetry::metrics::{StoreOperation, StoreResult};

/// Changes in one transaction. Ends that lie anywhere in the file touch three pages each.
pub(super) const BATCH: usize = 128;
/// A checkpoint is due with so many frames in the log, or when nobody writes.
pub(super) const CHECKPOINT_AT: u64 = log::FRAMES / 2;
/// ... and with so many more after one, as long as a reader keeps the log from being begun anew.
const CHECKPOINT_AGAIN: u64 = CHECKPOINT_AT / 4;
/// A reader that has made the log grow so far is left behind with the file that it reads.
const LOG_AT_MOST: u64 = 8 * log::FRAMES;
const _: () = assert!(CHECKPOINT_AT + 3 * (BATCH as u64) < log::FRAMES, "a batch fits");
/// Events wait for a moment in which nobody else does, and for so long where there is none.
const EVENTS_AT_LEAST: Duration = Duration::from_secs(1);
/// ... and do not keep others waiting for a lock that another program holds.
const EVENTS_PATIENCE: Duration = Duration::from_millis(100);
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
    pub(super) shared: Arc<Shared>,
    inbox: Receiver<Message>,
    pub(super) state: State,
    /// Something is in the log alone.
    pub(super) unmoved: bool,
    /// Frames in the log with which the next checkpoint is due.
    checkpoint_at: u64,
    /// ... and with which a reader that is in the way is left behind.
    renew_at: u64,
    /// There are more old tombstones than went at once.
    expiring: bool,
    /// What may not be read back before the database was made anew.
    pub(super) mistrust: Option<Mistrust>,
    /// When the log was looked at last.
    looked: Duration,
    /// When events were written last.
    pub(super) told: Duration,
    /// Their table is none of ours.
    pub(super) untellable: bool,
}

#[expect(clippy::large_enum_variant, reason = "there is one for the process, and it is mostly up")]
pub(super) enum State {
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
            renew_at: LOG_AT_MOST,
            expiring: false,
            mistrust: None,
            looked: now,
            told: now,
            untellable: false,
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
            let received = self.inbox.recv_timeout(self.patience());
            self.shared.set_busy();
            match received {
                Ok(message) => {
                    if let Some(closer) = self.take(message) {
                        break Some(closer);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            self.shared.set_idle();
        };
        self.finish();
        self.shared.set_idle();
        if let Some(closer) = closer {
            // Nobody may wait any more.
            let _ = closer.send(());
        }
    }

    fn patience(&self) -> Duration {
        match self.state {
            State::Up(_) if self.expiring || self.shared.has_backlog() => Duration::ZERO,
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
            if self.looked + IDLE <= clock::steady() {
                self.watch_log();
            }
            if self.told + EVENTS_AT_LEAST <= clock::steady() {
                self.write_events(EVENTS_PATIENCE);
            }
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
        self.shared.set_busy();
        self.give_up_if_moved();
        let State::Up(database) = &mut self.state else { return Err(self.shared.trouble()) };
        match database.commit(changes.clone()) {
            // What it was committed to is nobody's any more.
            Ok(_) if self.give_up_if_moved() => match &self.state {
                State::Up(_) => self.commit(changes),
                State::Down { .. } => Err(self.shared.trouble()),
            },
            Ok(more) => {
                self.unmoved = true;
                self.shared.committed();
                for change in changes.clone() {
                    if let Change::State(state) = change {
                        self.shared.note_state(state);
                    }
                }
                self.expiring |= more;
                Ok(())
            }
            Err(trouble) => {
                self.fail(trouble);
                Err(self.shared.trouble())
            }
        }
    }

    /// Takes up the file that has the name of ours by now, if ours has lost it. Returns whether it
    /// has.
    pub(super) fn give_up_if_moved(&mut self) -> bool {
        let State::Up(database) = &self.state else { return false };
        let moved = database.moved();
        if moved {
            let detail = "it was moved or removed while it was in use";
            self.fail(Trouble::new(TroubleKind::Missing, &database.path(), detail));
            self.retry();
        }
        moved
    }

    /// Nothing has come for a while, or there is old work.
    pub(super) fn tick(&mut self) {
        match self.state {
            State::Down { .. } => self.retry(),
            State::Up(_) => {
                if self.old_work() || self.write_events(EVENTS_PATIENCE) {
                    self.checkpoint_if_due();
                } else if self.unmoved {
                    self.checkpoint();
                } else {
                    self.watch_log();
                }
            }
        }
    }

    /// One transaction of what was left over; false if there is nothing.
    fn old_work(&mut self) -> bool {
        if !matches!(self.state, State::Up(_)) {
            return false;
        }
        if std::mem::take(&mut self.expiring) {
            // Not worth a word: the next sweep asks again.
            let _ = self.commit([Change::Expire].iter());
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
            // It was begun anew.
            Ok(log) if log.all < CHECKPOINT_AT => self.checkpoint_at = CHECKPOINT_AT,
            Ok(_) => {}
            Err(trouble) => self.fail(trouble),
        }
    }

    fn checkpoint(&mut self) {
        self.shared.set_busy();
        // Of a log with a gap it would make a database with one.
        self.watch_log();
        let State::Up(database) = &mut self.state else { return };
        match database.checkpoint() {
            Ok(log) => {
                self.unmoved = log.moved < log.all;
                // If no reader is in the way, the next commit begins the log anew.
                self.checkpoint_at = log.all.max(CHECKPOINT_AT) + CHECKPOINT_AGAIN;
                if log.all >= self.renew_at {
                    self.renew();
                }
            }
            Err(trouble) if matches!(trouble.kind, TroubleKind::Full | TroubleKind::Locked) => {
                self.checkpoint_at += CHECKPOINT_AGAIN;
            }
            Err(trouble) => self.fail(trouble),
        }
        self.shared.measure();
    }

    /// Looks whether what is written can be read back, and sees to it.
    pub(super) fn watch_log(&mut self) {
        self.looked = clock::steady();
        self.shared.lock().iter().for_each(|lock| lock.hold());
        repair::watch_log(self);
    }

    /// Leaves a reader that does not end behind.
    fn renew(&mut self) {
        self.renew_at = LOG_AT_MOST;
        if let Err(trouble) = repair::renew(self) {
            tracing::warn!(%trouble, "a reader makes the log of the session store grow");
            // Not with every commit.
            self.renew_at = self.checkpoint_at + LOG_AT_MOST;
        }
    }

    /// Lets go of the connection: nothing is known of what it has written.
    pub(super) fn fail(&mut self, trouble: Trouble) {
        self.let_go();
        self.shared.set_down(trouble);
    }

    /// Goes on in what has the name of the database by now. Everybody waits for that.
    pub(super) fn go_on_anew(&mut self) {
        self.let_go();
        match repair::reopen(self) {
            Ok(database) => {
                self.state = State::Up(database);
                self.unmoved = true;
                self.untellable = false;
                self.shared.committed();
                tracing::info!("the session store was made anew and holds all that is known");
            }
            Err(error) => self.shared.set_down(self.trouble_of(error)),
        }
    }

    fn let_go(&mut self) {
        let now = clock::steady();
        let next = State::Down { since: now, retry: now + FIRST_RETRY, wait: FIRST_RETRY };
        if let State::Up(database) = std::mem::replace(&mut self.state, next) {
            database.abandon();
        }
    }

    fn retry(&mut self) {
        let State::Down { since, wait, .. } = self.state else { return };
        match repair::reopen(self) {
            Ok(database) => {
                self.state = State::Up(database);
                self.unmoved = true;
                self.untellable = false;
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
                let message = format!("the session store takes writes again after {seconds} s");
                self.shared.options.events.tell(Event::new(
                    Kind::Store,
                    "up",
                    Level::Info,
                    message,
                ));
            }
            Err(error) => {
                let wait = (wait * 2).min(LAST_RETRY);
                self.state = State::Down { since, retry: clock::steady() + wait, wait };
                self.shared.set_down(self.trouble_of(error));
            }
        }
    }

    fn trouble_of(&self, error: OpenError) -> Trouble {
        match error {
            OpenError::Trouble(trouble) => trouble,
            other => Trouble::new(
                TroubleKind::Other,
                &self.shared.folder.database(),
                format_args!("{other}; {}", other.help()),
            ),
        }
    }

    /// Everything that was asked for so far is done, or cannot be done.
    pub(super) fn finish(&mut self) {
        while matches!(self.state, State::Up(_)) && self.shared.has_backlog() {
            self.work_off();
        }
        while self.write_events(PATIENCE) {
            self.checkpoint_if_due();
        }
        self.checkpoint();
        let now = clock::steady();
        let next = State::Down { since: now, retry: now, wait: FIRST_RETRY };
        if let State::Up(database) = std::mem::replace(&mut self.state, next) {
            drop(database);
            self.shared.release_lock();
        } else {
            // The next one shall look for a log.
            self.shared.set_lock(None);
        }
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

/// Under which operation a change is counted.
pub fn operation(change: &Change) -> StoreOperation {
    match change {
        Change::Pin { .. } | Change::State(_) | Change::Probe => StoreOperation::Put,
        Change::Touch { .. }
        | Change::Ending { .. }
        | Change::Complete { .. }
        | Change::Name { .. } => StoreOperation::Progress,
        Change::End { .. }
        | Change::Drop(_)
        | Change::Age { .. }
        | Change::Names(_)
        | Change::Expire => StoreOperation::Delete,
    }
}
