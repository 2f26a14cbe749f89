//! Reading the tables back.

use gateway_core::session::{TargetHash, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, TransactionBehavior};

use super::pages::Column;
use super::record::{
    BackendState, EndKind, PinRow, Record, StoredPin, Tombstone, state_from_word, subject_from_text,
};

/// Row numbers up to which the tables were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    pub(super) pins: i64,
    pub(super) tombstones: i64,
    pub(super) states: i64,
}

/// What a reading has met.
#[derive(Debug, Default)]
pub struct Visited {
    pub pins: u64,
    pub tombstones: u64,
    pub states: u64,
    /// Rows whose seal is broken.
    pub damaged: u64,
    /// Rows of pins that the visitor did not want.
    pub unwanted: Vec<i64>,
    pub position: Position,
}

/// In which order pins come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

impl Position {
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let last = |sql| -> rusqlite::Result<i64> {
            connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
        };
        Ok(Self {
            pins: last("SELECT coalesce(max(row), 0) FROM pins")?.max(
                match has_bound(connection)? {
                    true => last("SELECT coalesce(max(row), 0) FROM bound_pins")?,
                    false => 0,
                },
            ),
            tombstones: last("SELECT coalesce(max(row), 0) FROM tombstones")?,
            states: last("SELECT coalesce(max(row), 0) FROM backend_states")?,
        })
    }

    pub(super) fn max(self, other: Self) -> Self {
        Self {
            pins: self.pins.max(other.pins),
            tombstones: self.tombstones.max(other.tombstones),
            states: self.states.max(other.states),
        }
    }
}

/// Whether there is a bound pin. A file of version 1 that is only read has no table for them.
fn has_bound(connection: &Connection) -> rusqlite::Result<bool> {
    let table = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'bound_pins'";
    let yes = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok(yes(table)? && yes("SELECT EXISTS (SELECT 1 FROM bound_pins)")?)
}

/// Selects the pins behind row `?1`, bound or not.
fn pins_behind(connection: &Connection) -> rusqlite::Result<&'static str> {
    Ok(match has_bound(connection)? {
        false => "SELECT * FROM pins WHERE row > ?1",
        true => {
            "SELECT row, id, backend, backend_session, target, created, NULL, seal FROM pins \
             WHERE row > ?1 UNION ALL SELECT * FROM bound_pins WHERE row > ?1"
        }
    })
}

/// Reads what came after `after`, as it was at one moment.
///
/// # Errors
/// Those of SQLite; the visitor has seen a part then.
pub fn visit(
    connection: &mut Connection,
    after: Position,
    order: Order,
    visitor: &mut dyn FnMut(Record<'_>) -> bool,
) -> rusqlite::Result<Visited> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let mut visited =
        Visited { position: after.max(Position::of(&transaction)?), ..Visited::default() };
    let order = match order {
        Order::OldestFirst => "ASC",
        Order::NewestFirst => "DESC",
    };
    let mut read = |select: &str, after: i64, order: &str| -> rusqlite::Result<()> {
        let mut statement =
            transaction.prepare_cached(&format!("{select} ORDER BY row {order}"))?;
        let count = statement.column_count();
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            one(row, count, &mut visited, visitor)?;
        }
        Ok(())
    };
    read("SELECT * FROM backend_states WHERE row > ?1", after.states, "ASC")?;
    read("SELECT * FROM tombstones WHERE row > ?1", after.tombstones, "ASC")?;
    read(pins_behind(&transaction)?, after.pins, order)?;
    Ok(visited)
}

/// Some pins in the order of their rows.
#[derive(Debug, Default)]
pub struct Chunk {
    pub pins: Vec<StoredPin>,
    pub damaged: u64,
    /// The last row that was looked at; `None` at the end.
    pub last: Option<i64>,
}

/// At most `limit` rows behind row `after`.
pub fn pins_after(connection: &Connection, after: i64, limit: usize) -> rusqlite::Result<Chunk> {
    let sql = format!("{} ORDER BY row LIMIT ?2", pins_behind(connection)?);
    let mut statement = connection.prepare_cached(&sql)?;
    let count = statement.column_count();
    let mut rows = statement.query([after, limit as i64])?;
    let mut chunk = Chunk::default();
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        chunk.last = Some(number);
        match record(number, &columns(row, count)?[..count]) {
            Some(Record::Pin(pin)) => chunk.pins.push(pin.to_pin()),
            _ => chunk.damaged += 1,
        }
    }
    Ok(chunk)
}

fn columns<'r>(row: &'r Row<'_>, count: usize) -> rusqlite::Result<[Column<'r>; 8]> {
    let mut columns = [Column::Null; 8];
    // Column 0 is the row number, which the record itself does not hold.
    for (at, column) in columns.iter_mut().enumerate().take(count).skip(1) {
        *column = match row.get_ref(at)? {
            ValueRef::Integer(value) => Column::Integer(value),
            ValueRef::Text(text) => std::str::from_utf8(text).map_or(Column::Null, Column::Text),
            ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Column::Null,
        };
    }
    Ok(columns)
}

fn one(
    row: &Row<'_>,
    count: usize,
    visited: &mut Visited,
    visitor: &mut dyn FnMut(Record<'_>) -> bool,
) -> rusqlite::Result<()> {
    let number = row.get(0)?;
    let columns = columns(row, count)?;
    match record(number, &columns[..count]) {
        Some(record @ Record::Pin(_)) => {
            visited.pins += 1;
            if !visitor(record) {
                visited.unwanted.push(number);
            }
        }
        Some(record) => {
            match record {
                Record::Tombstone(_) => visited.tombstones += 1,
                _ => visited.states += 1,
            }
            visitor(record);
        }
        None => visited.damaged += 1,
    }
    Ok(())
}

/// The record in a row, if its seal is whole.
pub fn record<'a>(row: i64, columns: &[Column<'a>]) -> Option<Record<'a>> {
    use Column::{Integer, Null, Text};
    match *columns {
        [
            _,
            Text(id),
            Text(backend),
            session @ (Null | Text(_)),
            Integer(target),
            Integer(created),
            ref rest @ ..,
        ] if matches!(rest, [Integer(_)] | [Null | Text(_), Integer(_)]) => {
            let (subject, seal) = match *rest {
                [Integer(seal)] | [Null, Integer(seal)] => (None, seal),
                [Text(subject), Integer(seal)] => (Some(subject_from_text(subject)?), seal),
                _ => return None,
            };
            let backend_session = match session {
                Text(text) => Some(text),
                _ => None,
            };
            let pin = PinRow {
                id,
                backend,
                backend_session,
                target: TargetHash(target as u64),
                created: Timestamp(created as u64),
                subject,
            };
            (pin.seal(row) == seal).then_some(Record::Pin(pin))
        }
        [
            _,
            Text(id),
            Integer(kind),
            Text(backend),
            Integer(target),
            Integer(status),
            Integer(ended),
            Integer(seal),
        ] => {
            let tombstone = Tombstone {
                id: id.to_owned(),
                kind: EndKind::from_number(kind)?,
                backend: backend.to_owned(),
                target: TargetHash(target as u64),
                status: u16::try_from(status).ok()?,
                ended: Timestamp(ended as u64),
            };
            (tombstone.seal(row) == seal).then_some(Record::Tombstone(tombstone))
        }
        [_, Text(backend), Text(state), Integer(since), Text(by), Integer(seal)] => {
            let state = BackendState {
                backend: backend.to_owned(),
                state: state_from_word(state)?,
                since: Timestamp(since as u64),
                by: by.to_owned(),
            };
            (state.seal(row) == seal).then_some(Record::Backend(state))
        }
        _ => None,
    }
}
