//! The tables, and how an older file becomes a current one.
//!
//! To change what is stored: append to [`MIGRATIONS`], change [`TABLES`] to match, and keep a dump
//! of the old version in `gateway/tests/data/store`. While an upgrade is under way the process
//! before goes on writing to the migrated file: a migration must leave its statements valid
//! (new columns have defaults, nothing is renamed).

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

/// Tells our files from other SQLite databases: "bgws".
pub const APPLICATION: i64 = 0x6267_7773;

/// What turns version n into n + 1, from version 1 on.
pub const MIGRATIONS: &[&str] = &[];

/// A table that comes with the first of its rows and is no part of a version: a process that does
/// not know it reads and writes the rest of the file.
pub struct LateTable {
    pub name: &'static str,
    sql: &'static str,
}

/// Pins of sessions that are bound to a client's certificate: a table of their own, for a process
/// that does not know of that must not take them for free to all.
pub const BOUND_PINS: LateTable = LateTable {
    name: "bound_pins",
    sql: "
CREATE TABLE bound_pins (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    backend TEXT NOT NULL,
    backend_session TEXT,
    target INTEGER NOT NULL,
    created INTEGER NOT NULL,
    subject TEXT NOT NULL,
    seal INTEGER NOT NULL
) STRICT;
CREATE INDEX bound_pins_by_created ON bound_pins (created);
",
};

/// How far sessions have come: a row while nothing of a session has arrived (`total` is 0), one when
/// the end of its file is passed on (`total` is negative), and one when all of it has arrived. A process that does not know it leaves rows of sessions that are over, which the next start
/// removes.
pub const PROGRESS: LateTable = LateTable {
    name: "progress",
    sql: "
CREATE TABLE progress (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    created INTEGER NOT NULL,
    total INTEGER NOT NULL,
    seal INTEGER NOT NULL
) STRICT;
CREATE INDEX progress_by_created ON progress (created);
",
};

/// The target of a session's Create-Session, where that is not in normal form. The pin beside it
/// holds the hash of the spelling, as a process writes and reads it that does not know this table.
pub const SPELLINGS: LateTable = LateTable {
    name: "spellings",
    sql: "
CREATE TABLE spellings (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    created INTEGER NOT NULL,
    spelling TEXT NOT NULL,
    seal INTEGER NOT NULL
) STRICT;
CREATE INDEX spellings_by_created ON spellings (created);
",
};

/// What happened, for operators ([`super::events`]). `body` is a JSON object, so that what a later version
/// adds to an event changes no column.
pub const EVENTS: LateTable = LateTable {
    name: "events",
    sql: "
CREATE TABLE events (
    row INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    process INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    seal INTEGER NOT NULL
) STRICT;
",
};

/// Paths and clients of uploads ([`super::names`]).
pub const NAMES: LateTable = LateTable {
    name: "names",
    sql: "
CREATE TABLE names (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    created INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    hashed INTEGER NOT NULL,
    path TEXT NOT NULL,
    client TEXT NOT NULL,
    seal INTEGER NOT NULL
) STRICT;
CREATE INDEX names_by_created ON names (created);
",
};

/// The version that this program writes.
pub const VERSION: i64 = 1 + MIGRATIONS.len() as i64;

/// Rows stand in the order in which they came, so that reading is sequential and the newest are
/// found by number. A session id is no key: an index over random ids would double the file and
/// touch a page per session. `created` grows with the row number, so its index is cheap to keep,
/// and the few rows of one millisecond are told apart by their id.
const TABLES: &str = "
CREATE TABLE meta (
    row INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    value INTEGER NOT NULL
) STRICT;
CREATE TABLE pins (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    backend TEXT NOT NULL,
    backend_session TEXT,
    target INTEGER NOT NULL,
    created INTEGER NOT NULL,
    seal INTEGER NOT NULL
) STRICT;
CREATE INDEX pins_by_created ON pins (created);
CREATE TABLE tombstones (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    backend TEXT NOT NULL,
    target INTEGER NOT NULL,
    status INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    seal INTEGER NOT NULL
) STRICT;
CREATE TABLE backend_states (
    row INTEGER PRIMARY KEY,
    backend TEXT NOT NULL,
    state TEXT NOT NULL,
    since INTEGER NOT NULL,
    by TEXT NOT NULL,
    seal INTEGER NOT NULL
) STRICT;
INSERT INTO meta (name, value) VALUES ('probe', 0);
";

/// How a file relates to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    Current,
    /// Of that version.
    Old(i64),
    Newer(i64),
    /// Not one of ours, or its two notes of the version differ.
    Unclear,
}

/// Fills an empty database.
pub fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "application_id", APPLICATION)?;
    note(connection, VERSION)
}

impl LateTable {
    /// Whether there has been a row for it.
    pub fn is_in(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        connection.prepare_cached(sql)?.query_row([self.name], |row| row.get(0))
    }

    /// Makes it, unless it is there. In the transaction that writes to it.
    pub fn make(&self, connection: &Connection) -> rusqlite::Result<()> {
        match self.is_in(connection)? {
            true => Ok(()),
            false => connection.execute_batch(self.sql),
        }
    }
}

/// The version stands in two places, so that one flipped bit does not make a file look newer.
pub fn age(connection: &Connection) -> rusqlite::Result<Age> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let (application, header): (i64, i64) = (number("application_id")?, number("user_version")?);
    let noted: Option<i64> = connection
        .query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get(0))
        .optional()?;
    Ok(match noted {
        _ if application != APPLICATION => Age::Unclear,
        Some(noted) if noted != header => Age::Unclear,
        None => Age::Unclear,
        Some(VERSION) => Age::Current,
        Some(newer) if newer > VERSION => Age::Newer(newer),
        Some(old) if old >= 1 => Age::Old(old),
        Some(_) => Age::Unclear,
    })
}

/// Brings a file of version `from` up to date, all or nothing.
pub fn migrate(
    connection: &mut Connection,
    from: i64,
    migrations: &[&str],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = usize::try_from(from - 1).unwrap_or(0);
    for migration in migrations.iter().skip(done) {
        transaction.execute_batch(migration)?;
    }
    note(&transaction, 1 + migrations.len() as i64)?;
    transaction.commit()
}

fn note(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM meta WHERE name = 'schema'", [])?;
    connection.execute("INSERT INTO meta (name, value) VALUES ('schema', ?1)", [version])?;
    connection.pragma_update(None, "user_version", version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        create(&connection).unwrap();
        connection
    }

    #[test]
    fn a_new_file_is_current() {
        assert_eq!(age(&fresh()).unwrap(), Age::Current);
    }

    #[test]
    fn a_newer_file_is_recognised_by_both_notes_only() {
        let connection = fresh();
        connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert_eq!(age(&connection).unwrap(), Age::Unclear);
        note(&connection, VERSION + 1).unwrap();
        assert_eq!(age(&connection).unwrap(), Age::Newer(VERSION + 1));
    }

    #[test]
    fn somebody_elses_file_is_unclear() {
        let connection = fresh();
        connection.pragma_update(None, "application_id", 7).unwrap();
        assert_eq!(age(&connection).unwrap(), Age::Unclear);
    }

    const NEXT: &[&str] = &[
        "ALTER TABLE pins ADD COLUMN seen INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE tombstones ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
    ];

    #[test]
    fn migrations_run_in_order_from_the_version_of_the_file() {
        let mut connection = fresh();
        migrate(&mut connection, 1, &NEXT[..1]).unwrap();
        assert_eq!(age(&connection).unwrap(), Age::Newer(2));
        migrate(&mut connection, 2, NEXT).unwrap();
        assert_eq!(age(&connection).unwrap(), Age::Newer(3));
        connection.prepare("SELECT seen FROM pins").unwrap();
        connection.prepare("SELECT size FROM tombstones").unwrap();
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let mut connection = fresh();
        migrate(&mut connection, 1, &[NEXT[0], "nonsense"]).unwrap_err();
        assert_eq!(age(&connection).unwrap(), Age::Current);
        connection.prepare("SELECT seen FROM pins").unwrap_err();
    }
}
