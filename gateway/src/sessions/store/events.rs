//! Events in the store: a ring of rows.
//!
//! They come with the writer's idle moments and never in the transaction of a pin: what is wrong
//! with them, such as a table of that name that somebody else has made, must not keep a client
//! waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::events::{LIMIT, excess};
use gateway_core::session::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use super::database::Database;
use super::error::{Trouble, TroubleKind};
use super::schema::EVENTS;
use super::writer::{BATCH, State, Writer};
use crate::base::clock;
use crate::telemetry::events::wire::{StoredEvent, stored};

/// Rows are counted again with every so many new ones: to count is to read them all.
const COUNT_EVERY: i64 = 64;

impl Database {
    /// All that are there.
    ///
    /// # Errors
    /// As those of [`Self::commit`].
    pub fn events(&mut self) -> Result<Vec<StoredEvent>, Trouble> {
        let read = events_after(&self.connection, 0);
        read.map(|(events, _)| events).map_err(|error| Trouble::sqlite(&self.path(), &error))
    }

    /// Writes events, and lets the oldest go where there are too many.
    ///
    /// # Errors
    /// As those of [`Self::commit`].
    pub fn write_events(&mut self, events: &[StoredEvent]) -> Result<(), Trouble> {
        let written = write(&mut self.connection, events);
        written.map_err(|error| Trouble::sqlite(&self.path(), &error))
    }
}

impl Writer {
    /// Writes some of what happened lately, in a transaction of its own that waits so long for locks
    /// of others. False if there is nothing, or it has to wait.
    pub(super) fn write_events(&mut self, patience: Duration) -> bool {
        if self.untellable || !self.shared.options.events.has_unwritten() {
            return false;
        }
        self.shared.set_busy();
        // Nobody is in a hurry: what is wrong with the log is seen before more is written to it.
        self.watch_log();
        let State::Up(database) = &mut self.state else { return false };
        self.told = clock::steady();
        let events = self.shared.options.events.take_unwritten(BATCH);
        let rows: Vec<_> = events.iter().map(stored).collect();
        let written = database.within(patience, |database| database.write_events(&rows));
        let Err(trouble) = written else {
            self.unmoved = true;
            return true;
        };
        self.shared.options.events.put_back(events);
        match trouble.kind {
            // No reason to refuse uploads: whether there is one, the next pin finds out.
            TroubleKind::Full | TroubleKind::Locked => {
                tracing::debug!(%trouble, "events are stored later");
            }
            TroubleKind::Other => {
                tracing::warn!(%trouble, "events cannot be stored and are kept in memory");
                self.untellable = true;
            }
            _ => self.fail(trouble),
        }
        false
    }
}

fn write(connection: &mut Connection, events: &[StoredEvent]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    EVENTS.make(&transaction)?;
    // The newest row is never one that goes, so no number is used twice.
    let before = last(&transaction)?;
    for (row, event) in (before + 1..).zip(events) {
        insert_event(&transaction, row, event)?;
    }
    let after = before + events.len() as i64;
    if before / COUNT_EVERY != after / COUNT_EVERY {
        trim(&transaction, LIMIT)?;
    }
    transaction.commit()
}

fn last(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(row), 0) FROM events";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

pub fn insert_event(
    connection: &Connection,
    row: i64,
    event: &StoredEvent,
) -> rusqlite::Result<()> {
    EVENTS.make(connection)?;
    let StoredEvent { at, process, number, kind, body } = event;
    let (at, process, number) = (at.0 as i64, *process as i64, *number as i64);
    connection
        .prepare_cached("INSERT OR IGNORE INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![row, at, process, number, kind, body, event.seal(row)])?;
    Ok(())
}

/// The rule of [`gateway_core::events::Ring`], on rows; it holds for kinds too that this version
/// does not know.
fn trim(connection: &Connection, limit: usize) -> rusqlite::Result<()> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut counted =
        connection.prepare_cached("SELECT kind, count(*) FROM events GROUP BY kind")?;
    let mut rows = counted.query([])?;
    while let Some(row) = rows.next()? {
        counts.insert(row.get(0)?, row.get::<_, i64>(1)? as usize);
    }
    // More kinds than any version has are somebody else's; those are left alone.
    let mut heights = [0; 16];
    heights.iter_mut().zip(counts.values()).for_each(|(height, count)| *height = *count);
    let gone = excess(heights, limit);
    let sql = "DELETE FROM events WHERE row IN \
               (SELECT row FROM events WHERE kind = ?1 ORDER BY row LIMIT ?2)";
    for (kind, gone) in counts.keys().zip(gone).filter(|(_, gone)| *gone > 0) {
        connection.prepare_cached(sql)?.execute(params![kind, gone as i64])?;
    }
    Ok(())
}

/// The events behind row `after` in the order in which they were written, and the last row looked
/// at. Those whose seal is broken are left out.
pub fn events_after(
    connection: &Connection,
    after: i64,
) -> rusqlite::Result<(Vec<StoredEvent>, i64)> {
    if !EVENTS.is_in(connection)? {
        return Ok((Vec::new(), after));
    }
    let sql = "SELECT row, at, process, number, kind, body, seal FROM events \
               WHERE row > ?1 ORDER BY row";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([after])?;
    let (mut found, mut last) = (Vec::new(), after);
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let number = |at: usize| row.get::<_, i64>(at).map(|number| number as u64);
        let event = StoredEvent {
            at: Timestamp(number(1)?),
            process: number(2)?,
            number: number(3)?,
            kind: row.get(4)?,
            body: row.get(5)?,
        };
        if event.seal(last) == row.get::<_, i64>(6)? {
            found.push(event);
        }
    }
    Ok((found, last))
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

    fn event(kind: &str, number: u64) -> StoredEvent {
        StoredEvent {
            at: Timestamp(1_700_000_000_000 + number),
            process: u64::MAX >> 1,
            number,
            kind: kind.to_owned(),
            body: format!("{{\"name\":\"{number}\"}}"),
        }
    }

    fn numbers(connection: &Connection, kind: &str) -> Vec<u64> {
        let (events, _) = events_after(connection, 0).expect("they are read");
        events.iter().filter(|event| event.kind == kind).map(|event| event.number).collect()
    }

    #[test]
    fn events_are_read_as_they_were_written() {
        let mut connection = fresh();
        assert_eq!(events_after(&connection, 0).unwrap(), (vec![], 0));
        let events = [event("store", 1), event("admin", 2)];
        write(&mut connection, &events).unwrap();
        write(&mut connection, &[event("store", 3)]).unwrap();
        assert_eq!(events_after(&connection, 0).unwrap().1, 3);
        assert_eq!(events_after(&connection, 2).unwrap(), (vec![event("store", 3)], 3));
    }

    #[test]
    fn a_row_with_a_broken_seal_is_left_out() {
        let mut connection = fresh();
        write(&mut connection, &[event("store", 1), event("store", 2)]).unwrap();
        connection.execute("UPDATE events SET at = at + 1 WHERE row = 1", []).unwrap();
        assert_eq!(events_after(&connection, 0).unwrap(), (vec![event("store", 2)], 2));
    }

    #[test]
    fn the_oldest_of_the_largest_kind_go() {
        let mut connection = fresh();
        write(&mut connection, &[event("admin", 1), event("admin", 2), event("unknown", 3)])
            .unwrap();
        let storm: Vec<_> = (10..60).map(|number| event("session", number)).collect();
        write(&mut connection, &storm).unwrap();
        trim(&connection, 20).unwrap();
        assert_eq!(numbers(&connection, "admin"), [1, 2]);
        assert_eq!(numbers(&connection, "unknown"), [3]);
        assert_eq!(numbers(&connection, "session"), (43..60).collect::<Vec<_>>());
        // Numbers go on.
        write(&mut connection, &[event("store", 99)]).unwrap();
        assert_eq!(events_after(&connection, 53).unwrap(), (vec![event("store", 99)], 54));
    }

    #[test]
    fn the_ring_stays_bounded_by_itself() {
        let mut connection = fresh();
        let all: Vec<_> = (0..LIMIT as u64 + 1_000).map(|number| event("store", number)).collect();
        for some in all.chunks(100) {
            write(&mut connection, some).unwrap();
        }
        let kept = numbers(&connection, "store").len();
        assert!((LIMIT..LIMIT + 200).contains(&kept), "{kept}");
    }
}
