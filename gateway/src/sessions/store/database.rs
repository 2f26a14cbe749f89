//! One connection to the database, and the changes that go through it.

use std::path::PathBuf;
use std::time::Duration;

use gateway_core::protocol::SessionKey;
use gateway_core::session::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::SyncMode;
use super::ages;
use super::error::{Trouble, TroubleKind};
use super::faults;
use super::folder::{Folder, Identity};
use super::load::{Pins, Position};
use super::log;
use super::names::{self, Keep, StoredName};
use super::record::{
    BackendState, Milestone, StoredPin, StoredProgress, StoredSpelling, Tombstone, is_of,
    subject_text, text_of,
};
use super::schema::{BOUND_PINS, LateTable, NAMES, PROGRESS, SPELLINGS};
use super::watch::Watch;

/// For as long may another process hold the lock: one transaction of a gateway next to us takes
/// some milliseconds, a checkpoint on a slow disk a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Something that is to become durable.
#[derive(Debug, Clone)]
pub enum Change {
    Pin {
        pin: StoredPin,
        /// It was just opened: nothing of it has arrived.
        untouched: bool,
    },
    /// The first packet of a session is passed on.
    Touch {
        key: SessionKey,
        created: Timestamp,
    },
    /// The end of a session's file is passed on.
    Ending {
        key: SessionKey,
        created: Timestamp,
        total: u64,
    },
    /// All bytes of a session have arrived.
    Complete {
        key: SessionKey,
        created: Timestamp,
        total: u64,
    },
    End {
        key: SessionKey,
        created: Timestamp,
        tombstone: Option<Tombstone>,
    },
    /// What an upload is called.
    Name {
        key: SessionKey,
        name: Box<StoredName>,
    },
    /// Names that are not to stay go.
    Names(Keep),
    /// Rows that nobody wants, each with its table.
    Drop(Vec<(&'static str, i64)>),
    State(BackendState),
    /// Gateways have run for so much longer, and tombstones go that are older than `keep` by that.
    Age {
        ran: Duration,
        keep: Duration,
    },
    /// More of the tombstones that are old go.
    Expire,
    /// Nothing but the proof that a write succeeds.
    Probe,
}

pub struct Database {
    pub(super) connection: Connection,
    pub(super) folder: Folder,
    identity: Option<Identity>,
    pub(super) watch: Watch,
    /// Another number when another connection has committed.
    pub(super) version: i64,
    /// The highest row numbers that this process knows to have been used. None is used again, so
    /// that whoever follows by number misses nothing.
    used: Position,
}

impl Database {
    /// Opens what is there; it is not asked yet whether it is one of ours.
    pub fn open(folder: &Folder, sync: SyncMode) -> Result<Self, Trouble> {
        let path = folder.database();
        // Nothing is known of the file yet, so an error without a name is damage as well.
        let trouble = |error: rusqlite::Error| Trouble::sqlite(&path, &error).or_damage();
        let identity = folder.identity();
        // The program that would create it makes it whole under another name first, so an empty
        // file has lost what it held. SQLite would take it for a new database.
        let empty =
            std::fs::metadata(&path).map_err(|error| Trouble::io(&path, &error))?.len() == 0;
        if empty {
            return Err(Trouble::new(TroubleKind::Damaged, &path, "the file is empty"));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match faults::vfs() {
            None => Connection::open_with_flags(&path, flags),
            Some(vfs) => Connection::open_with_flags_and_vfs(&path, flags, vfs),
        };
        let connection = connection.map_err(trouble)?;
        configure(&connection, sync).map_err(trouble)?;
        // To close the last connection deletes the log, and it is not known yet if all of it was read.
        let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(keep_log, true).map_err(trouble)?;
        // SQLite falls back to reading where it may not write.
        if connection.is_readonly("main").map_err(trouble)? {
            let detail = "SQLite could only open it for reading";
            return Err(Trouble::new(TroubleKind::ReadOnly, &path, detail));
        }
        let mode: String = connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .map_err(trouble)?;
        if mode != "wal" {
            // Somebody may have switched it off; a log that is left says that nobody did.
            if std::fs::metadata(folder.log()).is_ok_and(|log| log.len() > 0) {
                let detail = "its header denies the log that it has";
                return Err(Trouble::new(TroubleKind::Damaged, &path, detail));
            }
            connection.pragma_update(None, "journal_mode", "wal").map_err(trouble)?;
        }
        let used = Position::default();
        // Reading opens log and index.
        connection
            .query_row("SELECT 1 FROM sqlite_schema", [], |_| Ok(()))
            .optional()
            .map_err(trouble)?;
        let watch = Watch::begin(folder);
        Ok(Self { connection, folder: folder.clone(), identity, watch, version: 0, used })
    }

    /// It is whole: from now on, closing it tidies up.
    pub fn trust(&mut self) -> Result<(), Trouble> {
        let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        let trusted = self.connection.set_db_config(keep_log, false);
        trusted.map(|_| ()).map_err(|error| Trouble::sqlite(&self.path(), &error))
    }

    /// Closes it and leaves everything as it is. Tidying up would delete whatever has the name of
    /// the log, and that may be another database's by now.
    pub fn abandon(self) {
        let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        let _ = self.connection.set_db_config(keep_log, true);
    }

    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub fn path(&self) -> PathBuf {
        self.folder.database()
    }

    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Whether the name stands for another file by now, or for none.
    pub fn moved(&self) -> bool {
        self.folder.identity() != self.identity
    }

    /// All changes in one transaction. `Ok(true)`: there is more to expire.
    ///
    /// # Errors
    /// Nothing is known of this connection then, nor of what it has written: it must be closed.
    pub fn commit<'c>(
        &mut self,
        changes: impl Iterator<Item = &'c Change>,
    ) -> Result<bool, Trouble> {
        let written = self.write(changes);
        written.map_err(|error| Trouble::sqlite(&self.path(), &error))
    }

    /// Does something that waits no longer than that for locks of others.
    pub(super) fn within<T>(
        &mut self,
        patience: Duration,
        act: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        self.set_patience(patience)?;
        let done = act(self);
        self.set_patience(PATIENCE)?;
        done
    }

    fn set_patience(&self, patience: Duration) -> Result<(), Trouble> {
        let set = self.connection.busy_timeout(patience);
        set.map_err(|error| Trouble::sqlite(&self.path(), &error))
    }

    fn write<'c>(&mut self, changes: impl Iterator<Item = &'c Change>) -> rusqlite::Result<bool> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut used = self.used.max(Position::ever(&transaction)?);
        let mut more = false;
        for change in changes {
            more |= apply(&transaction, change, &mut used)?;
        }
        used.note(&transaction)?;
        transaction.commit()?;
        self.used = used;
        Ok(more)
    }
}

fn configure(connection: &Connection, sync: SyncMode) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(32);
    let synchronous = match sync {
        SyncMode::Power => "FULL",
        SyncMode::Crash => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Ended sessions leave no ids behind, and what is read out of a damaged file is alive.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // The writer makes its checkpoints when nobody waits for it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // What a reader made it grow beyond is given back.
    connection.pragma_update(None, "journal_size_limit", log::BYTES as i64)?;
    connection.pragma_update(None, "cache_size", -4096)
}

/// `Ok(true)`: there is more to expire.
fn apply(
    transaction: &Transaction<'_>,
    change: &Change,
    used: &mut Position,
) -> rusqlite::Result<bool> {
    match change {
        Change::Pin { pin, untouched } => {
            let row = match pin.subject {
                None => &mut used.pins,
                Some(_) => &mut used.bound,
            };
            *row += 1;
            insert_pin(transaction, *row, pin)?;
            if let Some(spelling) = pin.spelling.clone() {
                let (id, created) = (pin.id.clone(), pin.created);
                used.spellings += 1;
                let stored = StoredSpelling { id, created, spelling };
                insert_spelling(transaction, used.spellings, &stored)?;
            }
            if *untouched {
                let (id, created) = (pin.id.clone(), pin.created);
                let progress = StoredProgress { id, created, milestone: Milestone::Untouched };
                used.progress += 1;
                insert_progress(transaction, used.progress, &progress)?;
            }
        }
        Change::Touch { key, created } => delete_late(transaction, &PROGRESS, key, *created)?,
        // What had to wait may come behind what it came before.
        Change::Ending { key, created, .. } if is_complete(transaction, key, *created)? => {}
        Change::Ending { key, created, total } => {
            replace_progress(transaction, used, key, *created, Milestone::Ending(*total))?;
        }
        Change::Complete { key, created, total } => {
            replace_progress(transaction, used, key, *created, Milestone::Complete(*total))?;
        }
        Change::End { key, created, tombstone } => {
            end(transaction, key, *created)?;
            if let Some(tombstone) = tombstone {
                used.tombstones += 1;
                insert_tombstone(transaction, used.tombstones, tombstone)?;
            }
        }
        Change::Name { key, name } => names::insert(transaction, key, name)?,
        Change::Names(keep) => names::keep(transaction, keep)?,
        Change::Drop(rows) => {
            for (table, row) in rows {
                delete_row(transaction, table, *row)?;
            }
        }
        Change::State(state) => {
            transaction
                .prepare_cached("DELETE FROM backend_states WHERE backend = ?1")?
                .execute([&state.backend])?;
            used.states += 1;
            insert_state(transaction, used.states, state)?;
        }
        Change::Age { ran, keep } => return ages::age(transaction, *ran, *keep),
        Change::Expire => return ages::expire(transaction),
        Change::Probe => {
            transaction
                .prepare_cached("UPDATE meta SET value = value + 1 WHERE name = 'probe'")?
                .execute([])?;
        }
    }
    Ok(false)
}

pub fn insert_pin(connection: &Connection, row: i64, pin: &StoredPin) -> rusqlite::Result<()> {
    let seal = pin.as_row().seal(row);
    let StoredPin { id, backend, backend_session, target, created, subject, spelling: _ } = pin;
    let (target, created) = (target.0 as i64, created.0 as i64);
    match subject {
        None => connection
            .prepare_cached("INSERT OR IGNORE INTO pins VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![row, id, backend, backend_session, target, created, seal])?,
        Some(subject) => {
            BOUND_PINS.make(connection)?;
            let subject = subject_text(*subject.bytes());
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO bound_pins VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    row,
                    id,
                    backend,
                    backend_session,
                    target,
                    created,
                    subject,
                    seal
                ])?
        }
    };
    Ok(())
}

pub fn insert_tombstone(
    connection: &Connection,
    row: i64,
    tombstone: &Tombstone,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO tombstones VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            row,
            tombstone.id,
            tombstone.kind.number(),
            tombstone.backend,
            tombstone.target.0 as i64,
            tombstone.status,
            tombstone.ended.0 as i64,
            tombstone.seal(row)
        ])?;
    Ok(())
}

pub fn insert_progress(
    connection: &Connection,
    row: i64,
    progress: &StoredProgress,
) -> rusqlite::Result<()> {
    PROGRESS.make(connection)?;
    let StoredProgress { id, created, milestone } = progress;
    let (created, total, seal) = (created.0 as i64, milestone.number(), progress.seal(row));
    connection
        .prepare_cached("INSERT OR IGNORE INTO progress VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![row, id, created, total, seal])?;
    Ok(())
}

/// The one row of how far a session is.
fn replace_progress(
    transaction: &Transaction<'_>,
    used: &mut Position,
    key: &SessionKey,
    created: Timestamp,
    milestone: Milestone,
) -> rusqlite::Result<()> {
    delete_late(transaction, &PROGRESS, key, created)?;
    used.progress += 1;
    let progress = StoredProgress { id: text_of(key), created, milestone };
    insert_progress(transaction, used.progress, &progress)
}

fn is_complete(
    transaction: &Transaction<'_>,
    key: &SessionKey,
    created: Timestamp,
) -> rusqlite::Result<bool> {
    let sql = "SELECT row, id FROM progress WHERE created = ?1 AND total > 0";
    Ok(PROGRESS.is_in(transaction)? && !rows_of(transaction, sql, key, created)?.is_empty())
}

pub fn insert_spelling(
    connection: &Connection,
    row: i64,
    stored: &StoredSpelling,
) -> rusqlite::Result<()> {
    SPELLINGS.make(connection)?;
    let StoredSpelling { id, created, spelling } = stored;
    connection
        .prepare_cached("INSERT OR IGNORE INTO spellings VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![row, id, created.0 as i64, spelling, stored.seal(row)])?;
    Ok(())
}

pub fn insert_state(
    connection: &Connection,
    row: i64,
    state: &BackendState,
) -> rusqlite::Result<()> {
    let word = state.state.word_of_all_versions();
    connection
        .prepare_cached("INSERT OR IGNORE INTO backend_states VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            row,
            state.backend,
            word,
            state.since.0 as i64,
            state.by,
            state.seal(row, word)
        ])?;
    Ok(())
}

fn end(
    transaction: &Transaction<'_>,
    key: &SessionKey,
    created: Timestamp,
) -> rusqlite::Result<()> {
    for table in Pins::of(transaction)? {
        delete_rows(transaction, table.table(), key, created)?;
    }
    for table in [PROGRESS, SPELLINGS, NAMES] {
        delete_late(transaction, &table, key, created)?;
    }
    Ok(())
}

fn delete_late(
    transaction: &Transaction<'_>,
    table: &LateTable,
    key: &SessionKey,
    created: Timestamp,
) -> rusqlite::Result<()> {
    match table.is_in(transaction)? {
        true => delete_rows(transaction, table.name, key, created),
        false => Ok(()),
    }
}

pub(super) fn delete_rows(
    transaction: &Transaction<'_>,
    table: &str,
    key: &SessionKey,
    created: Timestamp,
) -> rusqlite::Result<()> {
    let sql = format!("SELECT row, id FROM {table} WHERE created = ?1");
    for row in rows_of(transaction, &sql, key, created)? {
        delete_row(transaction, table, row)?;
    }
    Ok(())
}

/// The rows of one session, of those that a statement finds.
fn rows_of(
    transaction: &Transaction<'_>,
    sql: &str,
    key: &SessionKey,
    created: Timestamp,
) -> rusqlite::Result<Vec<i64>> {
    let mut find = transaction.prepare_cached(sql)?;
    let mut rows = find.query([created.0 as i64])?;
    let mut found: Vec<i64> = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get_ref(1)?.as_str().is_ok_and(|id| is_of(id, key)) {
            found.push(row.get(0)?);
        }
    }
    Ok(found)
}

fn delete_row(transaction: &Transaction<'_>, table: &str, row: i64) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM {table} WHERE row = ?1");
    transaction.prepare_cached(&sql)?.execute([row]).map(|_| ())
}
