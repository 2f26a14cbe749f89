//! Paths and clients of uploads, for operators, where `store.names` keeps them.
//!
//! A row belongs to a session and goes with it, and when it is old. Nothing of it is in memory: it is
//! read when somebody asks. So it takes a table of its own, which nobody reads at a start, and which
//! is not mended: what is lost of it comes again with the next packets.

use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::database::delete_rows;
use super::error::Trouble;
use super::read::{ReadError, connect};
use super::record::is_of;
use super::schema::NAMES;
use super::{Change, Store, text_of};

/// So many rows go at once when they are old: pins wait for that.
const OLD_AT_ONCE: i64 = 10_000;

/// What is kept of an upload. An empty text stands for what is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredName {
    /// That of the pin.
    pub created: Timestamp,
    /// When it was written.
    pub stored: Timestamp,
    /// Of `path` and `client` there are digests.
    pub hashed: bool,
    pub path: String,
    pub client: String,
}

/// Which rows stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Those that are hashed, or those that are not; `None` is for none at all.
    pub hashed: Option<bool>,
    /// Written since.
    pub since: Timestamp,
    /// Written until then: what is from the future is as old as anybody knows.
    pub until: Timestamp,
}

impl Store {
    /// Keeps what an upload is called. Nobody waits for that.
    pub fn name_soon(&self, key: &SessionKey, name: StoredName) {
        if let Some(handle) = &self.0 {
            handle.send_soon(Change::Name { key: key.clone(), name: Box::new(name) });
        }
    }

    /// Drops the rows that are not to stay: all at once where none does, else some of them. Nobody
    /// waits for that.
    pub fn keep_names_soon(&self, keep: Keep) {
        if let Some(handle) = &self.0 {
            handle.send_soon(Change::Names(keep));
        }
    }

    /// Whether names were ever kept and not dropped, or nobody knows. Blocks.
    pub fn may_have_names(&self) -> bool {
        self.read_names(|_| Ok(())).map_or(true, |found| found.is_some())
    }

    /// What the session is called that was `created` then. Blocks.
    ///
    /// # Errors
    /// It cannot be read at present.
    pub fn names_of(
        &self,
        sessions: &[(SessionKey, Timestamp)],
    ) -> Result<Vec<Option<StoredName>>, ReadError> {
        self.read_names(|connection| {
            let sql = "SELECT * FROM names WHERE created = ?1 ORDER BY row DESC";
            let mut statement = connection.prepare(sql)?;
            let one = |(key, created): &(SessionKey, Timestamp)| {
                let mut rows = statement.query([created.0 as i64])?;
                while let Some(row) = rows.next()? {
                    if let Some((id, name)) = read(row)?
                        && is_of(&id, key)
                    {
                        return Ok(Some(name));
                    }
                }
                Ok(None)
            };
            sessions.iter().map(one).collect()
        })
        .map(|found| found.unwrap_or_else(|| vec![None; sessions.len()]))
    }

    /// Shows all rows to `visit`. Blocks.
    ///
    /// # Errors
    /// As [`Self::names_of`].
    pub fn each_name(
        &self,
        visit: &mut dyn FnMut(&SessionKey, &StoredName),
    ) -> Result<(), ReadError> {
        let read = self.read_names(|connection| {
            let mut statement = connection.prepare("SELECT * FROM names ORDER BY row")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if let Some((id, name)) = read(row)?
                    && let Some(id) = SessionId::parse(&id)
                {
                    visit(id.key(), &name);
                }
            }
            Ok(())
        });
        read.map(|_| ())
    }

    /// `None` without a table of names.
    fn read_names<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, ReadError> {
        let Some(handle) = &self.0 else { return Ok(None) };
        let folder = &handle.shared.folder;
        let connection = connect(folder)?;
        let read = NAMES.is_in(&connection).and_then(|there| match there {
            true => work(&connection).map(Some),
            false => Ok(None),
        });
        read.map_err(|error| Trouble::sqlite(&folder.database(), &error).into())
    }
}

/// In place of the one that the session has.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    key: &SessionKey,
    name: &StoredName,
) -> rusqlite::Result<()> {
    NAMES.make(transaction)?;
    delete_rows(transaction, NAMES.name, key, name.created)?;
    let last = "SELECT coalesce(max(row), 0) FROM names";
    let last: i64 = transaction.prepare_cached(last)?.query_row([], |row| row.get(0))?;
    let (row, id) = (last + 1, text_of(key));
    let StoredName { created, stored, hashed, path, client } = name;
    transaction
        .prepare_cached("INSERT INTO names VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            row,
            id,
            created.0 as i64,
            stored.0 as i64,
            hashed,
            path,
            client,
            name.seal(row, &id)
        ])?;
    Ok(())
}

pub(super) fn keep(transaction: &Transaction<'_>, keep: &Keep) -> rusqlite::Result<()> {
    if !NAMES.is_in(transaction)? {
        return Ok(());
    }
    // All are of one kind, so that one tells of the others.
    let first = "SELECT hashed FROM names ORDER BY row LIMIT 1";
    let first: Option<bool> =
        transaction.prepare(first)?.query_row([], |row| row.get(0)).optional()?;
    if keep.hashed.is_none() || first.is_some_and(|first| keep.hashed != Some(first)) {
        return transaction.execute_batch("DROP TABLE names");
    }
    // Rows stand in the order in which they were written.
    let sql = "DELETE FROM names WHERE row IN \
               (SELECT row FROM (SELECT row, stored FROM names ORDER BY row LIMIT ?1) \
                WHERE stored < ?2 OR stored > ?3)";
    let Keep { since, until, .. } = keep;
    transaction.prepare_cached(sql)?.execute(params![
        OLD_AT_ONCE,
        since.0 as i64,
        until.0 as i64
    ])?;
    Ok(())
}

/// `None` if the seal is broken.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<(String, StoredName)>> {
    let at = |column| row.get::<_, i64>(column).map(|at| Timestamp(at as u64));
    let id: String = row.get(1)?;
    let name = StoredName {
        created: at(2)?,
        stored: at(3)?,
        hashed: row.get(4)?,
        path: row.get(5)?,
        client: row.get(6)?,
    };
    let whole = name.seal(row.get(0)?, &id) == row.get::<_, i64>(7)?;
    Ok(whole.then_some((id, name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::store::schema;

    fn fresh() -> Connection {
        let connection = Connection::open_in_memory().expect("a database");
        schema::create(&connection).expect("tables");
        connection
    }

    fn key(number: u64) -> SessionKey {
        SessionId::parse(&format!("s{number}")).expect("a legal id").key().clone()
    }

    fn name(number: u64, stored: u64) -> StoredName {
        StoredName {
            created: Timestamp(7),
            stored: Timestamp(stored),
            hashed: false,
            path: format!("/in/{number}"),
            client: String::new(),
        }
    }

    fn write(connection: &mut Connection, work: impl FnOnce(&Transaction<'_>)) {
        let transaction = connection.transaction().expect("begun");
        work(&transaction);
        transaction.commit().expect("committed");
    }

    fn paths(connection: &Connection) -> Vec<String> {
        if !NAMES.is_in(connection).expect("asked") {
            return Vec::new();
        }
        let mut statement = connection.prepare("SELECT * FROM names ORDER BY row").expect("sql");
        let rows = statement.query_map([], read).expect("asked");
        rows.filter_map(|row| Some(row.expect("read")?.1.path)).collect()
    }

    #[test]
    fn a_session_has_one_name_and_a_broken_one_is_left_out() {
        let mut connection = fresh();
        write(&mut connection, |transaction| {
            for (number, stored) in [(1, 1), (2, 2), (1, 3)] {
                insert(transaction, &key(number), &name(number, stored)).expect("written");
            }
        });
        assert_eq!(paths(&connection), ["/in/2", "/in/1"]);
        connection.execute("UPDATE names SET path = '/in/9' WHERE id = 's2'", []).unwrap();
        assert_eq!(paths(&connection), ["/in/1"]);
    }

    #[test]
    fn names_go_when_they_are_old_or_of_the_other_kind_or_not_wanted() {
        let rule = |hashed, since, until| Keep {
            hashed,
            since: Timestamp(since),
            until: Timestamp(until),
        };
        for (rule, left) in [
            (rule(Some(false), 0, 99), &["/in/1", "/in/2", "/in/3"][..]),
            (rule(Some(false), 2, 99), &["/in/2", "/in/3"]),
            (rule(Some(false), 0, 2), &["/in/1", "/in/2"]),
            (rule(Some(true), 0, 99), &[]),
            (rule(None, 0, 99), &[]),
        ] {
            let mut connection = fresh();
            write(&mut connection, |transaction| keep(transaction, &rule).expect("no table yet"));
            write(&mut connection, |transaction| {
                for number in 1..4 {
                    insert(transaction, &key(number), &name(number, number)).expect("written");
                }
                keep(transaction, &rule).expect("kept");
            });
            assert_eq!(paths(&connection), left, "{rule:?}");
        }
    }
}
