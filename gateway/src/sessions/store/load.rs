//! Reading the tables back.

use gateway_core::farm::AdminState;
use gateway_core::session::{TargetHash, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::pages::Column;
use super::record::{
    BackendState, EndKind, Milestone, PinRow, Record, StoredPin, StoredProgress, StoredSpelling,
    Tombstone, subject_from_text,
};
use super::schema::{BOUND_PINS, LateTable, PROGRESS, SPELLINGS};
use crate::telemetry::events::wire::StoredEvent;

/// More rows than any file has had.
const LARGEST: i64 = 1 << 60;

/// Row numbers up to which the tables were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    pub(super) pins: i64,
    /// Of bound pins. Numbers of its own: an older process counts those of `pins` alone.
    pub(super) bound: i64,
    pub(super) tombstones: i64,
    pub(super) progress: i64,
    pub(super) spellings: i64,
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
    /// Rows that the visitor did not want, each with its table.
    pub unwanted: Vec<(&'static str, i64)>,
    pub position: Position,
}

impl Visited {
    /// The pins that the visitor wanted.
    pub fn wanted_pins(&self) -> u64 {
        let of_pins = |table: &str| [Pins::Free, Pins::Bound].iter().any(|p| p.table() == table);
        let unwanted = self.unwanted.iter().filter(|(table, _)| of_pins(table));
        self.pins - unwanted.count() as u64
    }
}

/// The tables of pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pins {
    Free,
    Bound,
}

impl Pins {
    pub fn table(self) -> &'static str {
        match self {
            Self::Free => "pins",
            Self::Bound => BOUND_PINS.name,
        }
    }

    /// Those that are there.
    pub fn of(connection: &Connection) -> rusqlite::Result<&'static [Self]> {
        Ok(match BOUND_PINS.is_in(connection)? {
            true => &[Self::Bound, Self::Free],
            false => &[Self::Free],
        })
    }
}

/// In which order pins come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    OldestFirst,
    NewestFirst,
}

impl Position {
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let last = |table: &str| {
            let sql = format!("SELECT coalesce(max(row), 0) FROM {table}");
            connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))
        };
        let late = |table: LateTable| match table.is_in(connection)? {
            true => last(table.name),
            false => Ok(0),
        };
        Ok(Self {
            pins: last("pins")?,
            bound: late(BOUND_PINS)?,
            tombstones: last("tombstones")?,
            progress: late(PROGRESS)?,
            spellings: late(SPELLINGS)?,
            states: last("backend_states")?,
        })
    }

    /// The highest numbers that there have been, whether their rows are still there or not.
    pub(super) fn ever(connection: &Connection) -> rusqlite::Result<Self> {
        let mut ever = Self::of(connection)?;
        for (mark, last) in ever.marks() {
            let noted = noted(connection, mark)?;
            // A flipped bit must not use up all numbers.
            *last = noted.filter(|noted| *noted < LARGEST).map_or(*last, |noted| noted.max(*last));
        }
        Ok(ever)
    }

    /// Keeps numbers from being given out again whose rows are gone: another process that follows
    /// by number would miss what has them next.
    pub(super) fn note(mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut there = Self::of(connection)?;
        for ((mark, last), (_, there)) in self.marks().into_iter().zip(there.marks()) {
            let (last, there) = (*last, *there);
            if there >= last {
                continue;
            }
            let sql = match noted(connection, mark)? {
                None => "INSERT INTO meta (name, value) VALUES (?1, ?2)",
                // What no number of ours can be is damage.
                Some(noted) if noted < last || noted >= LARGEST => {
                    "UPDATE meta SET value = ?2 WHERE name = ?1"
                }
                Some(_) => continue,
            };
            connection.prepare_cached(sql)?.execute(params![mark, last])?;
        }
        Ok(())
    }

    /// Each with the name under which it is noted.
    fn marks(&mut self) -> [(&'static str, &mut i64); 6] {
        [
            ("last of pins", &mut self.pins),
            ("last of bound_pins", &mut self.bound),
            ("last of tombstones", &mut self.tombstones),
            ("last of progress", &mut self.progress),
            ("last of spellings", &mut self.spellings),
            ("last of backend_states", &mut self.states),
        ]
    }

    fn of_pins(self, table: Pins) -> i64 {
        match table {
            Pins::Free => self.pins,
            Pins::Bound => self.bound,
        }
    }

    pub(super) fn max(self, other: Self) -> Self {
        Self {
            pins: self.pins.max(other.pins),
            bound: self.bound.max(other.bound),
            tombstones: self.tombstones.max(other.tombstones),
            progress: self.progress.max(other.progress),
            spellings: self.spellings.max(other.spellings),
            states: self.states.max(other.states),
        }
    }
}

fn noted(connection: &Connection, mark: &str) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(value) FROM meta WHERE name = ?1";
    connection.prepare_cached(sql)?.query_row([mark], |row| row.get(0))
}

/// Reads what came after `after`, as it was at one moment. Bound pins come before the others: of a
/// session that an older process has pinned for everybody too, the first one counts. Behind the
/// pins come the spellings of their targets, and how far their sessions are.
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
    let mut read = |table: &str, after: i64, order: &str| -> rusqlite::Result<()> {
        let sql = format!("SELECT * FROM {table} WHERE row > ?1 ORDER BY row {order}");
        let mut statement = transaction.prepare_cached(&sql)?;
        let count = statement.column_count();
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            one(row, count, &mut visited, visitor)?;
        }
        Ok(())
    };
    read("backend_states", after.states, "ASC")?;
    read("tombstones", after.tombstones, "ASC")?;
    for table in Pins::of(&transaction)? {
        read(table.table(), after.of_pins(*table), order)?;
    }
    for (table, after) in [(SPELLINGS, after.spellings), (PROGRESS, after.progress)] {
        if table.is_in(&transaction)? {
            read(table.name, after, "ASC")?;
        }
    }
    Ok(visited)
}

/// Sessions of which nothing has arrived, as it is now.
pub fn untouched(connection: &Connection) -> rusqlite::Result<Vec<StoredProgress>> {
    if !PROGRESS.is_in(connection)? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare_cached("SELECT * FROM progress WHERE total = 0")?;
    let count = statement.column_count();
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(Record::Progress(progress)) =
            record(row.get(0)?, &columns(row, count)?[..count])
        {
            found.push(progress);
        }
    }
    Ok(found)
}

/// Some pins of one table in the order of their rows.
#[derive(Debug, Default)]
pub struct Chunk {
    pub pins: Vec<StoredPin>,
    pub damaged: u64,
    /// The last row that was looked at; `None` at the end.
    pub last: Option<i64>,
}

/// At most `limit` rows of a table that is there, behind row `after`.
pub fn pins_after(
    connection: &Connection,
    table: Pins,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Chunk> {
    let table = table.table();
    let sql = format!("SELECT * FROM {table} WHERE row > ?1 ORDER BY row LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let count = statement.column_count();
    let mut rows = statement.query([after, limit as i64])?;
    let mut chunk = Chunk::default();
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        if number <= chunk.last.unwrap_or(after) {
            // In a damaged file rows may stand in any order. Whoever goes on behind this one may
            // come here again and again.
            chunk.damaged += 1;
            chunk.last = None;
            break;
        }
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
        Some(Record::Pin(pin)) => {
            visited.pins += 1;
            let table = if pin.subject.is_some() { Pins::Bound } else { Pins::Free };
            if !visitor(Record::Pin(pin)) {
                visited.unwanted.push((table.table(), number));
            }
        }
        Some(Record::Progress(progress)) => {
            if !visitor(Record::Progress(progress)) {
                visited.unwanted.push((PROGRESS.name, number));
            }
        }
        Some(Record::Spelling(spelling)) => {
            if !visitor(Record::Spelling(spelling)) {
                visited.unwanted.push((SPELLINGS.name, number));
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
        ] => {
            let (subject, seal) = match *rest {
                [Integer(seal)] => (None, seal),
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
                spelling: None,
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
        [_, Text(id), Integer(created), Integer(total), Integer(seal)] => {
            let (created, milestone) = (Timestamp(created as u64), Milestone::from_number(total));
            let progress = StoredProgress { id: id.to_owned(), created, milestone };
            (progress.seal(row) == seal).then_some(Record::Progress(progress))
        }
        [_, Text(id), Integer(created), Text(spelling), Integer(seal)] => {
            let (id, spelling) = (id.to_owned(), spelling.to_owned());
            let stored = StoredSpelling { id, created: Timestamp(created as u64), spelling };
            (stored.seal(row) == seal).then_some(Record::Spelling(stored))
        }
        [_, Text(backend), Text(word), Integer(since), Text(by), Integer(seal)] => {
            let state = BackendState {
                backend: backend.to_owned(),
                state: AdminState::from_word(word)?,
                since: Timestamp(since as u64),
                by: by.to_owned(),
            };
            (state.seal(row, word) == seal).then_some(Record::Backend(state))
        }
        [
            _,
            Integer(at),
            Integer(process),
            Integer(number),
            Text(kind),
            Text(body),
            Integer(seal),
        ] => {
            let event = StoredEvent {
                at: Timestamp(at as u64),
                process: process as u64,
                number: number as u64,
                kind: kind.to_owned(),
                body: body.to_owned(),
            };
            (event.seal(row) == seal).then_some(Record::Event(event))
        }
        _ => None,
    }
}
