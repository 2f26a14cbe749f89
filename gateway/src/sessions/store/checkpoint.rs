//! The log of a connection: how far it is, whether it is right, moving it into the database.

use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, TransactionBehavior};

use super::database::Database;
use super::error::{Trouble, TroubleKind};
use super::log;
use super::watch::LogState;

/// Pages copied in one step.
const COPIED_AT_ONCE: i32 = 4096;

/// How far a log is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Frames {
    /// Frames in it.
    pub all: u64,
    /// Of these, those that are in the database too.
    pub moved: u64,
}

impl Database {
    /// Whether the log is the one that this connection writes to, and holds what it has written.
    pub fn log_state(&mut self) -> Result<LogState, Trouble> {
        let mut frames = self.log()?;
        let version = self
            .connection
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map_err(|error| Trouble::sqlite(&self.path(), &error))?;
        let others = std::mem::replace(&mut self.version, version) != version;
        loop {
            let state = self.watch.look(&self.folder, frames, others);
            let LogState::Overwritten(_) = state else { return Ok(state) };
            // Another process may have begun the log anew between the two looks.
            let now = self.log()?;
            if now == frames {
                return Ok(state);
            }
            frames = now;
        }
    }

    /// Writes all that it holds, the log included, page by page into the draft of the folder.
    pub fn copy_to_draft(&mut self) -> Result<(), Trouble> {
        let draft = self.folder.start_draft().map_err(|e| Trouble::io(&self.folder.draft(), &e))?;
        let copied = Connection::open(&draft).and_then(|mut copy| {
            // Nobody knows the file yet: it is synced once, before it gets its name.
            copy.pragma_update(None, "journal_mode", "off")?;
            copy.pragma_update(None, "synchronous", "off")?;
            let backup = Backup::new(&self.connection, &mut copy)?;
            backup.run_to_completion(COPIED_AT_ONCE, Duration::ZERO, None)?;
            drop(backup);
            copy.close().map_err(|(_, error)| error)
        });
        copied.map_err(|error| Trouble::sqlite(&draft, &error))
    }

    /// Moves what the log holds into the database, as far as readers allow. The next commit begins
    /// the log anew if all of it was moved and no reader is in it.
    pub fn checkpoint(&mut self) -> Result<Frames, Trouble> {
        self.run_checkpoint("PASSIVE").map(|(_, frames)| frames)
    }

    /// Moves all of the log into the database and empties it.
    ///
    /// After a failed write the log may hold frames that never reached the disk and never will:
    /// the kernel forgets pages that it could not write. What would be appended behind them is
    /// lost with them in a power cut, so nothing may be.
    pub fn empty_log(&mut self) -> Result<(), Trouble> {
        if self.run_checkpoint("TRUNCATE")?.0 {
            return Ok(());
        }
        let detail = "a reader keeps its log from being emptied";
        Err(Trouble::new(TroubleKind::Locked, &self.path(), detail))
    }

    /// As [`Self::empty_log`], for somebody who does not want to wait long for readers.
    pub fn empty_log_within(&mut self, patience: Duration) -> Result<(), Trouble> {
        self.within(patience, Self::empty_log)
    }

    /// Writes the log full, so that commits change nothing but what is in it ([`log`]).
    pub fn fill_log(&mut self) -> Result<(), Trouble> {
        let (path, log) = (self.path(), self.folder.log());
        let trouble = |error: rusqlite::Error| Trouble::sqlite(&path, &error);
        let behavior = TransactionBehavior::Immediate;
        let lock = self.connection.transaction_with_behavior(behavior).map_err(trouble)?;
        log::fill(&log)
            .and_then(|()| self.folder.sync())
            .map_err(|error| Trouble::io(&log, &error))?;
        lock.rollback().map_err(trouble)
    }

    /// How far the log is.
    pub fn log(&mut self) -> Result<Frames, Trouble> {
        self.run_checkpoint("NOOP").map(|(_, frames)| frames)
    }

    /// Whether nobody was in the way, and the frames in the log.
    fn run_checkpoint(&mut self, mode: &str) -> Result<(bool, Frames), Trouble> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let done = self
            .connection
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                statement.query_row([], |row| {
                    let (busy, all, moved) = (row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?);
                    Ok((busy == 0, Frames { all: number(all), moved: number(moved) }))
                })
            })
            .map_err(|error| Trouble::sqlite(&self.path(), &error))?;
        let (_, frames) = done;
        if mode == "TRUNCATE" || (mode == "PASSIVE" && frames.moved == frames.all) {
            self.watch.expect_round();
        }
        Ok(done)
    }
}
