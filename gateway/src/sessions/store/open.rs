//! From a directory to a database that works, whatever state it is in.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use gateway_core::session::Timestamp;

use super::SyncMode;
use super::database::{Change, Database};
use super::error::{OpenError, Trouble, TroubleKind};
use super::folder::Folder;
use super::load::{self, Order, Position, Visited};
use super::lock::DirectoryLock;
use super::record::Record;
use super::salvage::{self, Believe};
use super::schema::{self, Age};
use super::wal;

/// How long a start waits for readers to leave the log.
const READERS: Duration = Duration::from_millis(200);

/// A database that is whole.
pub struct Opened {
    pub database: Database,
    /// It does not hold everything that it held, or is new.
    pub replaced: bool,
    /// What people should know.
    pub report: Vec<String>,
}

/// What a start finds.
pub struct Started {
    /// Or why nothing can be written at present.
    pub database: Result<Database, Trouble>,
    pub visited: Visited,
    pub report: Vec<String>,
    /// There is something, and it could not be read.
    pub unread: bool,
    /// `None` where the disk does not even take that.
    pub lock: Option<DirectoryLock>,
}

/// How a store is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    pub sync: SyncMode,
    /// A disk that cannot be used is no reason not to start.
    pub accept: bool,
    /// The lock of the process that we take over from.
    pub inherited: Option<&'a OwnedFd>,
    pub now: Timestamp,
}

/// Opens the store of a process that starts, and reads everything.
///
/// # Errors
/// Nobody should go on without having done something about it. A disk that is full or read-only is
/// no such error: what is known can be served, and the disk may be put right.
pub fn start(
    folder: &Folder,
    how: How<'_>,
    visitor: &mut dyn FnMut(Record<'_>) -> bool,
) -> Result<Started, OpenError> {
    let How { sync, now, .. } = how;
    let can_wait = |trouble: &Trouble| {
        how.accept || matches!(trouble.kind, TroubleKind::Full | TroubleKind::ReadOnly)
    };
    let mut lock = None;
    let opened = folder.prepare().and_then(|()| {
        let taken = DirectoryLock::take(&folder.lock(), how.inherited)?;
        let lost = taken.left_by.and_then(|pid| log_is_lost(folder, pid));
        lock = Some(taken.lock);
        let mut opened = whole(folder, sync, now)?;
        opened.report.extend(lost);
        Ok(opened)
    });
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(OpenError::Trouble(trouble)) if can_wait(&trouble) => {
            return Ok(Started { lock, ..read_only(folder, trouble, visitor) });
        }
        Err(error) => return Err(error),
    };
    let read =
        load::visit(opened.database.connection(), Position::default(), Order::NewestFirst, visitor);
    let mut visited = match read {
        Ok(visited) if visited.damaged == 0 => visited,
        // What was handed out so far is sealed; the rest comes out of the copy.
        read => {
            let why = match read {
                Ok(visited) => format!("{} rows are damaged", visited.damaged),
                Err(error) => error.to_string(),
            };
            let mut report = std::mem::take(&mut opened.report);
            drop(opened);
            report.extend(replace(folder, &why, Believe::Log, now)?);
            let database = Database::open(folder, sync)?;
            opened = Opened { database, replaced: true, report };
            let trouble = |error| Trouble::sqlite(&folder.database(), &error);
            let mut visited = load::visit(
                opened.database.connection(),
                Position::default(),
                Order::NewestFirst,
                visitor,
            )
            .map_err(trouble)?;
            // The visitor knows most of them already, and not because they are there twice.
            visited.unwanted.clear();
            visited
        }
    };
    let Opened { mut database, report, .. } = opened;
    let writable = match database.empty_log_within(READERS) {
        // Another process is at work here and has its own eyes on the log.
        Err(trouble) if trouble.kind == TroubleKind::Locked => Ok(()),
        emptied => emptied,
    };
    let writable = writable.and_then(|()| database.fill_log());
    let writable = writable.and_then(|()| database.commit([Change::Probe].iter()).map(|_| ()));
    // What is written over the log from now on is known from it.
    let writable = writable.and_then(|()| database.log_state().map(|_| ()));
    match writable {
        Ok(()) => Ok(Started { database: Ok(database), visited, report, unread: false, lock }),
        Err(trouble) if can_wait(&trouble) => {
            visited.unwanted.clear();
            database.abandon();
            Ok(Started { database: Err(trouble), visited, report, unread: false, lock })
        }
        Err(trouble) => Err(trouble.into()),
    }
}

/// Opens the store again in a process that runs and has its lock, and so its directory.
pub fn again(folder: &Folder, sync: SyncMode, now: Timestamp) -> Result<Opened, OpenError> {
    let mut opened = whole(folder, sync, now)?;
    opened.database.empty_log()?;
    opened.database.fill_log()?;
    opened.database.commit([Change::Probe].iter())?;
    opened.database.log_state()?;
    Ok(opened)
}

/// A database that passes every check; a damaged one is replaced.
fn whole(folder: &Folder, sync: SyncMode, now: Timestamp) -> Result<Opened, OpenError> {
    let mut replaced = false;
    let mut report = Vec::new();
    if folder.identity().is_none() {
        let log = salvage::create(folder, now)?;
        report.extend(log.map(|aside| {
            format!(
                "{} is missing and its log was there: nothing can be read of a log alone, it is {} \
                 now",
                folder.database().display(),
                aside.display()
            )
        }));
        replaced = true;
    }
    match examine(folder, sync) {
        Err(OpenError::Trouble(trouble)) if trouble.kind == TroubleKind::Damaged => {
            report.extend(replace(folder, &trouble.detail, Believe::Log, now)?);
            Ok(Opened { database: examine(folder, sync)?, replaced: true, report })
        }
        examined => Ok(Opened { database: examined?, replaced, report }),
    }
}

/// Says that a log is missing that should be there. A process that ends in order leaves none.
fn log_is_lost(folder: &Folder, left_by: u32) -> Option<String> {
    let lost = folder.identity().is_some() && folder.log_identity().is_none();
    lost.then(|| {
        format!(
            "{} is missing, and the gateway before (pid {left_by}) was not stopped in order: what \
             it stored in its last moments is lost",
            folder.log().display()
        )
    })
}

/// Puts what can be read in the place of a database.
pub fn replace(
    folder: &Folder,
    why: &str,
    believe: Believe,
    now: Timestamp,
) -> Result<Vec<String>, Trouble> {
    let salvaged = salvage::salvage(folder, believe, now)?;
    let mut report = vec![format!(
        "{} is damaged ({why}): {} sessions, {} tombstones and {} admin states could be read and \
         are in a new file, the damaged one is {} now",
        folder.database().display(),
        salvaged.pins,
        salvaged.tombstones,
        salvaged.states,
        salvaged.aside.display(),
    )];
    if salvaged.unreadable_pages > 0 {
        let pages = salvaged.unreadable_pages;
        report.push(format!("{pages} pages could not be read at all: look after the disk"));
    }
    Ok(report)
}

fn examine(folder: &Folder, sync: SyncMode) -> Result<Database, OpenError> {
    let path = folder.database();
    let damaged = |detail: String| Trouble::new(TroubleKind::Damaged, &path, detail);
    let mut database = match Database::open(folder, sync) {
        // The file can be written, and SQLite will not: its header says so, and we never wrote that.
        Err(trouble) if trouble.kind == TroubleKind::ReadOnly && is_writable(folder) => {
            return Err(damaged(trouble.detail).into());
        }
        opened => opened?,
    };
    // Such as a table that is missing.
    let trouble = |error: rusqlite::Error| Trouble::sqlite(&path, &error).or_damage();
    let connection = database.connection();
    match schema::age(connection).map_err(trouble)? {
        Age::Current => {}
        Age::Newer(found) => {
            return Err(OpenError::Newer { path, found, known: schema::VERSION });
        }
        Age::Old(from) => {
            schema::migrate(connection, from, schema::MIGRATIONS)
                .map_err(|error| Trouble::sqlite(&folder.database(), &error))?;
        }
        Age::Unclear => {
            return Err(damaged("it is not a database of this program".to_owned()).into());
        }
    }
    let check: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(trouble)?;
    if check != "ok" {
        return Err(damaged(check.lines().last().unwrap_or_default().to_owned()).into());
    }
    if log_breaks_off(folder, &mut database)? {
        return Err(damaged("its log has a gap".to_owned()).into());
    }
    database.trust()?;
    Ok(database)
}

fn is_writable(folder: &Folder) -> bool {
    use rustix::fs::{Access, access};
    access(folder.database(), Access::READ_OK | Access::WRITE_OK).is_ok()
}

/// Whether commits stand in the log behind the place where SQLite gave up reading it.
fn log_breaks_off(folder: &Folder, database: &mut Database) -> Result<bool, Trouble> {
    // Another process may begin the log anew between our two looks; then the next ones agree.
    for look in 0..3 {
        if look > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let Ok(file) = File::open(folder.log()) else { return Ok(false) };
        let written = wal::last_commit(&file).unwrap_or(0);
        if written <= database.checkpoint()?.all {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads what is there without SQLite, which would have to write a lock file.
fn read_only(
    folder: &Folder,
    trouble: Trouble,
    visitor: &mut dyn FnMut(Record<'_>) -> bool,
) -> Started {
    let mut visited = Visited::default();
    let mut report = Vec::new();
    let mut unread = false;
    if folder.identity().is_some() {
        match salvage::read(folder, Believe::Log) {
            Ok(found) => {
                visited.pins = (found.pins.len() + found.bound.len()) as u64;
                visited.tombstones = found.tombstones.len() as u64;
                visited.states = found.states.len() as u64;
                for (_, state) in found.states {
                    visitor(Record::Backend(state));
                }
                for (_, tombstone) in found.tombstones {
                    visitor(Record::Tombstone(tombstone));
                }
                for (_, pin) in found.bound.iter().rev().chain(found.pins.iter().rev()) {
                    visitor(Record::Pin(pin.as_row()));
                }
                for (_, spelling) in found.spellings {
                    visitor(Record::Spelling(spelling));
                }
                for (_, progress) in found.progress {
                    visitor(Record::Progress(progress));
                }
            }
            Err(why) => {
                unread = true;
                report.push(format!("what is stored could not be read: {why}"));
            }
        }
    }
    Started { database: Err(trouble), visited, report, unread, lock: None }
}
