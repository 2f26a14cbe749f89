//! A store that is made anew while the process runs, from its files and from what is in memory.

use std::collections::{HashMap, HashSet};

use gateway_core::events::{Event, Kind, Level};
use gateway_core::protocol::{SessionId, SessionKey};
use gateway_core::session::Timestamp;

use super::LiveRows;
use super::database::{Change, Database};
use super::error::{OpenError, Trouble};
use super::load::{self, Order, Position};
use super::open;
use super::record::{BackendState, Milestone, Record, StoredProgress};
use super::salvage::Believe;
use super::shared::Shared;
use super::watch::LogState;
use super::writer::{BATCH, CHECKPOINT_AT, State, Writer};
use crate::base::clock;
use crate::telemetry::events::Events;
use crate::telemetry::events::wire::stored;

/// What may not be read back: a file with the name of the log that holds something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mistrust(&'static str);

/// Looks whether the log is still the one that is written to, and makes the store anew if not.
pub fn watch_log(writer: &mut Writer) {
    if writer.give_up_if_moved() {
        return;
    }
    let State::Up(database) = &mut writer.state else { return };
    let state = match database.log_state() {
        Ok(state) => state,
        Err(trouble) => return writer.fail(trouble),
    };
    let path = database.path();
    let what = match state {
        LogState::Right => return,
        LogState::Short => {
            if let Err(trouble) = database.fill_log() {
                writer.fail(trouble);
            }
            return;
        }
        LogState::Gone(what) | LogState::Overwritten(what) => what,
    };
    tracing::error!(
        path = %path.display(),
        "{what} while it was in use: the session store is made anew from memory"
    );
    let message = format!("{what} while it was in use: the session store is made anew from memory");
    writer.shared.options.events.tell(Event::new(Kind::Store, "repaired", Level::Error, message));
    writer.mistrust = Some(Mistrust(what));
    // Where the log has only lost its name, the connection still reads all of it.
    if let LogState::Gone(_) = state
        && let Ok(()) = adopt_log(database, Believe::NoLog, writer.shared.folder.clone())
    {
        writer.mistrust = None;
    }
    writer.go_on_anew();
}

/// Leaves a reader behind that keeps the log from being begun anew: it goes on in the file that it
/// has opened, and the store in a copy.
///
/// # Errors
/// The log still takes what comes.
pub fn renew(writer: &mut Writer) -> Result<(), Trouble> {
    let State::Up(database) = &mut writer.state else { return Ok(()) };
    let path = database.path();
    let folder = writer.shared.folder.clone();
    adopt_log(database, Believe::Log, folder)?;
    writer.shared.options.metrics.store_renewed();
    tracing::warn!(
        path = %path.display(),
        "a program has read the session store for so long that its log could not be begun anew: \
         the store goes on in a copy, and that program sees the file as it was"
    );
    writer.go_on_anew();
    Ok(())
}

/// Puts a copy of all that a connection reads in the place of the database and its log.
fn adopt_log(database: &mut Database, log: Believe, folder: super::Folder) -> Result<(), Trouble> {
    database.copy_to_draft()?;
    let replaced = match log {
        Believe::Log => folder.renew(),
        Believe::NoLog => {
            // Should the process die before the copy has the name, the database is whole all the same.
            database.checkpoint()?;
            folder.renew_without_log(clock::now())
        }
    };
    replaced.map_err(|error| Trouble::io(&folder.database(), &error))
}

/// Opens the store again after trouble, with all that the process knows.
pub fn reopen(writer: &mut Writer) -> Result<Database, OpenError> {
    let shared = &writer.shared;
    shared.folder.prepare()?;
    shared.ensure_lock()?;
    if let Some(Mistrust(what)) = writer.mistrust
        && shared.folder.identity().is_some()
    {
        let report = open::replace(&shared.folder, what, Believe::NoLog, clock::now())?;
        report.iter().for_each(|line| say_repaired(shared, line));
    }
    writer.mistrust = None;
    let opened = open::again(&shared.folder, shared.options.sync, clock::now())?;
    opened.report.iter().for_each(|line| say_repaired(shared, line));
    let mut database = opened.database;
    // It is another file than the one this process has written to: what that one held, the process
    // still knows.
    if opened.replaced || shared.changed(&database) {
        let missing = missing(&mut database, shared.live().as_ref(), &shared.states())?;
        for batch in missing.chunks(BATCH) {
            database.commit(batch.iter())?;
            if database.log()?.all >= CHECKPOINT_AT {
                database.checkpoint()?;
            }
        }
        if !missing.is_empty() {
            let changes = missing.len();
            tracing::warn!(changes, "what the file lacks was written to the session store anew");
        }
        write_missing_events(&mut database, &shared.options.events);
    }
    shared.remember(&database);
    Ok(database)
}

fn say_repaired(shared: &Shared, line: &str) {
    tracing::error!("{line}");
    shared.options.events.tell(Event::new(Kind::Store, "repaired", Level::Error, line));
}

/// Events are worth a try and no more.
pub(super) fn write_missing_events(database: &mut Database, events: &Events) {
    let known = match database.events() {
        Ok(rows) => rows.iter().map(|row| (row.process, row.number)).collect(),
        Err(_) => HashSet::new(),
    };
    let mut missing = events.take_all();
    missing.retain(|event| !known.contains(&(event.process, event.number)));
    while !missing.is_empty() {
        let later = missing.split_off(BATCH.min(missing.len()));
        let rows: Vec<_> = missing.iter().map(stored).collect();
        if let Err(trouble) = database.write_events(&rows) {
            tracing::warn!(%trouble, "events could not be written to the session store anew");
            events.put_back(missing.into_iter().chain(later).collect());
            return;
        }
        missing = later;
        // Whoever writes next says what is wrong with it.
        if database.log().is_ok_and(|log| log.all >= CHECKPOINT_AT) {
            let _ = database.checkpoint();
        }
    }
}

/// What the process knows and a database does not hold: pins, ends, admin states, and that all of a
/// file has arrived or its end was passed on. That nothing of it has is not written anew: not to know
/// that does no harm.
fn missing(
    database: &mut Database,
    live: Option<&LiveRows>,
    states: &[BackendState],
) -> Result<Vec<Change>, Trouble> {
    let path = database.path();
    let mut pins: HashMap<SessionKey, Vec<Timestamp>> = HashMap::new();
    let mut ended: HashSet<SessionKey> = HashSet::new();
    let mut totals: HashMap<(SessionKey, Timestamp), Milestone> = HashMap::new();
    let mut known: HashMap<String, Timestamp> = HashMap::new();
    load::visit(database.connection(), Position::default(), Order::OldestFirst, &mut |record| {
        match record {
            Record::Pin(pin) => {
                if let Some(id) = SessionId::parse(pin.id) {
                    pins.entry(id.key().clone()).or_default().push(pin.created);
                }
            }
            Record::Tombstone(tombstone) => {
                ended.extend(SessionId::parse(&tombstone.id).map(|id| id.key().clone()));
            }
            Record::Progress(StoredProgress { id, created, milestone }) => {
                let id = SessionId::parse(&id);
                totals.extend(id.map(|id| ((id.key().clone(), created), milestone)));
            }
            Record::Spelling(_) | Record::Event(_) => {}
            Record::Backend(state) => {
                known.insert(state.backend, state.since);
            }
        }
        true
    })
    .map_err(|error| Trouble::sqlite(&path, &error))?;
    let newer = |state: &&BackendState| known.get(&state.backend).is_none_or(|k| *k < state.since);
    let mut missing: Vec<Change> =
        states.iter().filter(newer).cloned().map(Change::State).collect();
    let Some(live) = live else { return Ok(missing) };
    // Collected first: whoever lists them may hold locks meanwhile.
    live(&mut |record| match record {
        Record::Pin(pin) => {
            let stored = |id: SessionId| {
                pins.get(id.key()).is_some_and(|stored| stored.contains(&pin.created))
            };
            if SessionId::parse(pin.id).is_some_and(|id| !stored(id)) {
                missing.push(Change::Pin { pin: pin.to_pin(), untouched: false });
            }
        }
        Record::Tombstone(tombstone) => {
            let Some(id) = SessionId::parse(&tombstone.id) else { return };
            let key = id.key().clone();
            // Rows of a session that has ended since.
            let before = pins.get(&key).into_iter().flatten().filter(|c| **c <= tombstone.ended);
            let rows: Vec<Timestamp> = before.copied().collect();
            let mut unsaid = (!ended.contains(&key)).then_some(tombstone);
            if rows.is_empty()
                && let Some(tombstone) = unsaid.take()
            {
                let (created, tombstone) = (tombstone.ended, Some(tombstone));
                missing.push(Change::End { key: key.clone(), created, tombstone });
            }
            for created in rows {
                let tombstone = unsaid.take();
                missing.push(Change::End { key: key.clone(), created, tombstone });
            }
        }
        Record::Progress(StoredProgress { id, created, milestone }) => {
            let Some(id) = SessionId::parse(&id) else { return };
            let key = id.key().clone();
            match (milestone, totals.get(&(key.clone(), created))) {
                (Milestone::Untouched, _)
                | (Milestone::Ending(_), Some(Milestone::Ending(_) | Milestone::Complete(_)))
                | (Milestone::Complete(_), Some(Milestone::Complete(_))) => {}
                (Milestone::Ending(total), _) => {
                    missing.push(Change::Ending { key, created, total });
                }
                (Milestone::Complete(total), _) => {
                    missing.push(Change::Complete { key, created, total });
                }
            }
        }
        Record::Spelling(_) | Record::Backend(_) | Record::Event(_) => {}
    });
    Ok(missing)
}
