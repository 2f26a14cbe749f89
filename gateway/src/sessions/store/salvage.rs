//! A new database: an empty one, or one with everything that a damaged one still tells.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::Timestamp;
use rusqlite::Connection;

use super::database::{
    insert_pin, insert_progress, insert_spelling, insert_state, insert_tombstone,
};
use super::error::Trouble;
use super::events::insert_event;
use super::folder::Folder;
use super::load::record;
use super::pages;
use super::record::{
    BackendState, Milestone, Record, StoredPin, StoredProgress, StoredSpelling, Tombstone,
};
use super::schema;
use crate::telemetry::events::wire::StoredEvent;

/// What came out of a damaged database.
#[derive(Debug, Default)]
pub struct Salvaged {
    pub pins: u64,
    pub tombstones: u64,
    pub states: u64,
    pub unreadable_pages: u64,
    /// Where the damaged file lies now.
    pub aside: PathBuf,
}

/// Makes an empty database, unless there is one. Returns where a log without a database lies now.
pub fn create(folder: &Folder, now: Timestamp) -> Result<Option<PathBuf>, Trouble> {
    draft(folder, |_| Ok(()))?;
    folder.install_first(now).map_err(|error| Trouble::io(&folder.database(), &error))
}

/// Which files of a database count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Believe {
    Log,
    /// What has the name of its log is something else.
    NoLog,
}

/// Replaces a damaged database by what can be read of it.
///
/// # Errors
/// The damaged one is still in its place then.
pub fn salvage(folder: &Folder, believe: Believe, now: Timestamp) -> Result<Salvaged, Trouble> {
    let found = read(folder, believe)?;
    let mut salvaged = Salvaged {
        tombstones: found.tombstones.len() as u64,
        states: found.states.len() as u64,
        unreadable_pages: found.unreadable_pages,
        ..Salvaged::default()
    };
    draft(folder, |connection| {
        for (row, state) in &found.states {
            insert_state(connection, *row, state)?;
        }
        for (row, tombstone) in &found.tombstones {
            insert_tombstone(connection, *row, tombstone)?;
        }
        for (row, pin) in found.pins.iter().chain(&found.bound) {
            insert_pin(connection, *row, pin)?;
            salvaged.pins += 1;
        }
        for (row, spelling) in &found.spellings {
            insert_spelling(connection, *row, spelling)?;
        }
        for (row, progress) in &found.progress {
            insert_progress(connection, *row, progress)?;
        }
        for (row, event) in &found.events {
            insert_event(connection, *row, event)?;
        }
        Ok(())
    })?;
    let replaced = folder.replace(now);
    salvaged.aside = replaced.map_err(|error| Trouble::io(&folder.database(), &error))?;
    Ok(salvaged)
}

/// What can be read without writing anything, in the order of the rows.
#[derive(Debug, Default)]
pub struct Found {
    pub pins: Vec<(i64, StoredPin)>,
    pub bound: Vec<(i64, StoredPin)>,
    pub tombstones: Vec<(i64, Tombstone)>,
    pub progress: Vec<(i64, StoredProgress)>,
    pub spellings: Vec<(i64, StoredSpelling)>,
    pub states: Vec<(i64, BackendState)>,
    pub events: Vec<(i64, StoredEvent)>,
    pub unreadable_pages: u64,
}

/// Reads the database page by page.
pub fn read(folder: &Folder, believe: Believe) -> Result<Found, Trouble> {
    let mut found = Found::default();
    let log = (believe == Believe::Log).then(|| folder.log());
    let scan = pages::scan(&folder.database(), log.as_deref(), &mut |row, columns| match record(
        row, columns,
    ) {
        Some(Record::Pin(pin)) => {
            let table = if pin.subject.is_some() { &mut found.bound } else { &mut found.pins };
            table.push((row, pin.to_pin()));
        }
        Some(Record::Tombstone(tombstone)) => found.tombstones.push((row, tombstone)),
        // The row may have been deleted, and then the session has bytes.
        Some(Record::Progress(StoredProgress { milestone: Milestone::Untouched, .. })) => {}
        Some(Record::Progress(progress)) => found.progress.push((row, progress)),
        Some(Record::Spelling(spelling)) => found.spellings.push((row, spelling)),
        Some(Record::Backend(state)) => found.states.push((row, state)),
        Some(Record::Event(event)) => found.events.push((row, event)),
        None => {}
    })
    .map_err(|error| Trouble::io(&folder.database(), &error))?;
    found.unreadable_pages = scan.unreadable;
    in_order(&mut found.pins);
    in_order(&mut found.bound);
    in_order(&mut found.tombstones);
    in_order(&mut found.progress);
    in_order(&mut found.spellings);
    in_order(&mut found.states);
    in_order(&mut found.events);
    // Of a damaged page, cells may be read that were deleted. A pin that outlives its session
    // would send a repeated Close to the backend rather than to its tombstone.
    let mut ended: HashMap<SessionKey, Timestamp> = HashMap::new();
    for (_, tombstone) in &found.tombstones {
        if let Some(id) = SessionId::parse(&tombstone.id) {
            let latest = ended.entry(id.key().clone()).or_default();
            *latest = tombstone.ended.max(*latest);
        }
    }
    if !ended.is_empty() {
        let lives = |(_, pin): &(i64, StoredPin)| {
            SessionId::parse(&pin.id)
                .and_then(|id| ended.get(id.key()))
                .is_none_or(|ended| *ended < pin.created)
        };
        found.pins.retain(lives);
        found.bound.retain(lives);
    }
    if !found.progress.is_empty() || !found.spellings.is_empty() {
        let pins = found.pins.iter().chain(&found.bound).map(|(_, pin)| pin);
        let known: HashSet<_> = pins.map(|pin| (pin.id.as_str(), pin.created)).collect();
        found.progress.retain(|(_, row)| known.contains(&(row.id.as_str(), row.created)));
        found.spellings.retain(|(_, row)| known.contains(&(row.id.as_str(), row.created)));
    }
    Ok(found)
}

fn in_order<T>(rows: &mut Vec<(i64, T)>) {
    // Stable: of two images of a row, the one that was met first is kept.
    rows.sort_by_key(|(row, _)| *row);
    rows.dedup_by_key(|(row, _)| *row);
}

/// A whole database under the name of the draft.
fn draft(
    folder: &Folder,
    fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<(), Trouble> {
    let path = folder.start_draft().map_err(|error| Trouble::io(&folder.draft(), &error))?;
    let made = Connection::open(&path).and_then(|mut connection| {
        // Nobody knows the file yet: it is synced once, before it gets its name.
        connection.pragma_update(None, "journal_mode", "off")?;
        connection.pragma_update(None, "synchronous", "off")?;
        let transaction = connection.transaction()?;
        schema::create(&transaction)?;
        fill(&transaction)?;
        transaction.commit()?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.close().map_err(|(_, error)| error)
    });
    made.map_err(|error| Trouble::sqlite(&path, &error))
}
