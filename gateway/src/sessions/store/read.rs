//! Readers beside the writer: commands, and a process that takes over from another.

use std::collections::VecDeque;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::Store;
use super::error::{OpenError, Trouble, TroubleKind};
use super::events;
use super::folder::{Folder, Identity};
use super::load::{self, Order, Pins, Position};
use super::record::{Record, StoredPin, StoredProgress};
use super::salvage::{self, Believe};
use super::schema::{self, Age};
use crate::telemetry::events::wire::StoredEvent;

/// Rows read in one transaction: a reader that is in no hurry must not keep the log from being
/// emptied.
const CHUNK: usize = 4096;

/// Why something could not be read.
pub type ReadError = OpenError;

/// Whether a directory surely holds no store.
pub fn is_missing(path: &Path) -> bool {
    matches!(Folder::new(path).database().try_exists(), Ok(false))
}

/// Opens a store to read its pins, oldest first and the bound ones last, whether a gateway runs on
/// it or not.
///
/// # Errors
/// There is no store, or it cannot be read, or a newer version wrote it. A damaged one gives what
/// can be read of it.
pub fn read_only(path: &Path) -> Result<Reader, ReadError> {
    let folder = Folder::new(path);
    let database = folder.database();
    // Not by opening it: to close the file would take away the locks of a writer in this process.
    if let Err(error) = std::fs::metadata(&database) {
        return Err(Trouble::io(&database, &error).into());
    }
    match connect(&folder) {
        Ok(connection) => Ok(Reader {
            connection: Some(connection),
            folder,
            table: Pins::Free,
            after: 0,
            buffer: VecDeque::new(),
            damaged: 0,
        }),
        Err(OpenError::Newer { path, found, known }) => {
            Err(OpenError::Newer { path, found, known })
        }
        // No place for its lock file, or nothing that it can read.
        Err(_) => {
            let found = salvage::read(&folder, Believe::Log)?;
            let buffer = found.pins.into_iter().chain(found.bound).map(|(_, pin)| pin).collect();
            let (table, after) = (Pins::Bound, 0);
            Ok(Reader { connection: None, folder, table, after, buffer, damaged: 0 })
        }
    }
}

/// The events in the directory of a store, in the order in which they were written, whether a gateway
/// runs on it or not.
///
/// # Errors
/// As [`read_only`].
pub fn read_events(path: &Path) -> Result<Vec<StoredEvent>, ReadError> {
    let folder = Folder::new(path);
    let database = folder.database();
    if let Err(error) = std::fs::metadata(&database) {
        return Err(Trouble::io(&database, &error).into());
    }
    match events_behind(&folder, 0) {
        Ok((events, _)) => Ok(events),
        Err(error @ OpenError::Newer { .. }) => Err(error),
        Err(_) => {
            let found = salvage::read(&folder, Believe::Log)?;
            Ok(found.events.into_iter().map(|(_, event)| event).collect())
        }
    }
}

/// The events behind a row, and the last row there is.
pub(super) fn events_behind(
    folder: &Folder,
    after: i64,
) -> Result<(Vec<StoredEvent>, i64), ReadError> {
    let connection = connect(folder)?;
    let read = events::events_after(&connection, after);
    read.map_err(|error| Trouble::sqlite(&folder.database(), &error).into())
}

/// The pins of a store. Each is the state of a moment: uploads begin and end meanwhile.
pub struct Reader {
    connection: Option<Connection>,
    folder: Folder,
    /// Up to that row of that table.
    table: Pins,
    after: i64,
    buffer: VecDeque<StoredPin>,
    damaged: u64,
}

impl Reader {
    /// Rows left out so far because their seal is broken.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    fn fill(&mut self) -> Result<(), Trouble> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let trouble = |error| Trouble::sqlite(&self.folder.database(), &error);
        let chunk = load::pins_after(connection, self.table, self.after, CHUNK).map_err(trouble)?;
        self.damaged += chunk.damaged;
        match (chunk.last, self.table) {
            (Some(last), _) => self.after = last,
            (None, Pins::Free) if schema::BOUND_PINS.is_in(connection).map_err(trouble)? => {
                (self.table, self.after) = (Pins::Bound, 0);
            }
            (None, _) => self.connection = None,
        }
        self.buffer.extend(chunk.pins);
        Ok(())
    }
}

impl Iterator for Reader {
    type Item = Result<StoredPin, Trouble>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.buffer.is_empty() && self.connection.is_some() {
            if let Err(trouble) = self.fill() {
                self.connection = None;
                return Some(Err(trouble));
            }
        }
        self.buffer.pop_front().map(Ok)
    }
}

impl Store {
    /// The events that any process has written behind a row, and the last row there is. Blocks.
    ///
    /// # Errors
    /// They cannot be read at present.
    pub fn events_behind(&self, after: i64) -> Result<(Vec<StoredEvent>, i64), ReadError> {
        match &self.0 {
            Some(handle) => events_behind(&handle.shared.folder, after),
            None => Ok((Vec::new(), after)),
        }
    }

    /// Reads what other processes commit to the same file, from a position on. `None` for a store
    /// that nobody else can write to.
    pub fn follow(&self, from: Position) -> Option<Follower> {
        let handle = self.0.as_ref()?;
        Some(Follower::new(handle.shared.folder.clone(), from, 0))
    }

    /// As [`Self::follow`], for events from behind a row on.
    pub fn follow_events(&self, row: i64) -> Option<Follower> {
        let handle = self.0.as_ref()?;
        Some(Follower::new(handle.shared.folder.clone(), Position::default(), row))
    }
}

/// Sees what is committed to a store, by whomever. Blocks; for one thread.
pub struct Follower {
    folder: Folder,
    connection: Option<(Connection, Option<Identity>)>,
    position: Position,
    /// The last row of the events that was read.
    event: i64,
}

impl Follower {
    pub(super) fn new(folder: Folder, position: Position, event: i64) -> Self {
        Self { folder, connection: None, position, event }
    }

    /// Hands over what came since the last call: admin states, tombstones, then pins, each oldest
    /// first and bound pins before the others, and last how far sessions have come. What this process wrote itself is among it. A pin that was removed meanwhile does not
    /// come; one that came before and was removed since is known by its tombstone alone.
    ///
    /// # Errors
    /// The next call tries again from the same position.
    pub fn poll(&mut self, visitor: &mut dyn FnMut(Record<'_>)) -> Result<(), ReadError> {
        self.connect()?;
        let (Some((connection, _)), from) = (&mut self.connection, self.position) else {
            return Ok(());
        };
        let read = load::visit(connection, from, Order::OldestFirst, &mut |record| {
            visitor(record);
            true
        });
        match read {
            Ok(visited) => {
                self.position = visited.position;
                Ok(())
            }
            Err(error) => Err(self.disconnect(&error)),
        }
    }

    /// The sessions of which nothing has arrived, as it is now.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub fn untouched(&mut self) -> Result<Vec<StoredProgress>, ReadError> {
        self.connect()?;
        let Some((connection, _)) = &self.connection else { return Ok(Vec::new()) };
        load::untouched(connection).map_err(|error| self.disconnect(&error))
    }

    /// The events that came since the last call, whoever wrote them.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub fn events(&mut self) -> Result<Vec<StoredEvent>, ReadError> {
        self.connect()?;
        let Some((connection, _)) = &self.connection else { return Ok(Vec::new()) };
        match events::events_after(connection, self.event) {
            Ok((events, last)) => {
                self.event = last;
                Ok(events)
            }
            Err(error) => Err(self.disconnect(&error)),
        }
    }

    /// Lets go of the file until the next call.
    pub fn pause(&mut self) {
        self.connection = None;
    }

    fn connect(&mut self) -> Result<(), ReadError> {
        let identity = self.folder.identity();
        let stale = self.connection.as_ref().is_some_and(|(_, known)| *known != identity);
        if stale {
            // Another file begins anew, and what is known already does no harm.
            self.connection = None;
            self.position = Position::default();
        }
        if self.connection.is_none() {
            self.connection = Some((connect(&self.folder)?, identity));
        }
        Ok(())
    }

    fn disconnect(&mut self, error: &rusqlite::Error) -> ReadError {
        self.connection = None;
        Trouble::sqlite(&self.folder.database(), error).into()
    }
}

pub(super) fn connect(folder: &Folder) -> Result<Connection, OpenError> {
    connect_to(&folder.database())
}

/// Opens a database of ours to read it.
pub(super) fn connect_to(path: &Path) -> Result<Connection, OpenError> {
    let path = path.to_owned();
    let trouble = |error: rusqlite::Error| OpenError::from(Trouble::sqlite(&path, &error));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(trouble)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(trouble)?;
    match schema::age(&connection).map_err(trouble)? {
        Age::Newer(found) => Err(OpenError::Newer { path, found, known: schema::VERSION }),
        Age::Unclear => {
            let detail = "it is not a database of this program";
            Err(Trouble::new(TroubleKind::Damaged, &path, detail).into())
        }
        // An old one has every column that is read here.
        Age::Current | Age::Old(_) => Ok(connection),
    }
}
