//! Events in the store: they wait for it, and it never for them.

use gateway_core::events::{Event, Kind, LIMIT, Level, TEXT};
use rusqlite::TransactionBehavior;

use super::super::database::Database;
use super::super::writer::{BATCH, State};
use super::super::{log, repair};
use super::*;

/// What the thread of a store does, step by step.
fn writer(place: &Place, events: &Events) -> Writer {
    let options = Options { events: events.clone(), ..options() };
    let folder = Folder::new(&place.path());
    folder.prepare().unwrap();
    let mut database = super::super::open::again(&folder, options.sync, clock::now()).unwrap();
    database.database.trust().unwrap();
    database.database.fill_log().unwrap();
    let shared = Arc::new(Shared::new(folder, options));
    shared.ensure_lock().unwrap();
    shared.remember(&database.database);
    let (_, inbox) = sync_channel(1);
    Writer::new(shared, inbox, Ok(database.database))
}

fn database(writer: &mut Writer) -> &mut Database {
    match &mut writer.state {
        State::Up(database) => database,
        State::Down { .. } => panic!("the store is down"),
    }
}

/// Tells so many, each as long as they get, and none of them a storm.
fn tell(events: &Events, count: usize) {
    for n in 0..count {
        let event = Event::new(Kind::Store, "down", Level::Error, "x".repeat(TEXT));
        events.tell(event.backend(&format!("up{n}")));
    }
}

fn unwritten(events: &Events) -> usize {
    events.newest(0, Timestamp(0), &[]).unwritten
}

/// How many more pages the database may have.
fn leave_room(database: &mut Database, pages: i64) {
    let connection = database.connection();
    let count: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    connection.pragma_update(None, "max_page_count", count + pages).unwrap();
}

fn stored(place: &Place) -> Vec<u64> {
    let rows = read_events(&place.path()).unwrap();
    rows.iter().map(|row| row.number).collect()
}

#[test]
fn events_wait_while_another_program_holds_a_lock_and_pins_need_not_fail() {
    let (place, events) = (Place::fast(), Events::default());
    let mut writer = writer(&place, &events);
    tell(&events, 2);
    let mut other = Connection::open(place.file()).unwrap();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    writer.tick();
    database(&mut writer);
    assert_eq!((events.all().len(), unwritten(&events)), (2, 2), "nothing is said of it");
    drop(lock);
    writer.tick();
    assert_eq!((unwritten(&events), stored(&place)), (0, vec![1, 2]));
}

#[test]
fn events_wait_while_the_disk_is_full_and_an_end_does_not_wait_for_them() {
    let (place, events) = (Place::fast(), Events::default());
    let mut writer = writer(&place, &events);
    tell(&events, 2);
    leave_room(database(&mut writer), 0);
    writer.tick();
    database(&mut writer);
    assert_eq!((events.all().len(), unwritten(&events)), (2, 2), "nothing is said of it");
    leave_room(database(&mut writer), 9);
    writer.tick();
    assert_eq!((unwritten(&events), stored(&place)), (0, vec![1, 2]));
    leave_room(database(&mut writer), 0);
    tell(&events, 9);
    writer.finish();
    assert_eq!(unwritten(&events), 9);
}

#[test]
fn what_a_new_file_does_not_take_at_once_it_takes_later() {
    let (place, events) = (Place::fast(), Events::default());
    let mut writer = writer(&place, &events);
    tell(&events, 3 * BATCH);
    // For the first batch.
    leave_room(database(&mut writer), 30);
    repair::write_missing_events(database(&mut writer), &events);
    assert_eq!(unwritten(&events), 2 * BATCH);
    leave_room(database(&mut writer), 100);
    while events.has_unwritten() {
        writer.tick();
    }
    assert_eq!(stored(&place), (1..=3 * BATCH as u64).collect::<Vec<_>>());
}

#[test]
fn a_table_of_somebody_elses_counts_as_long_as_the_file_does() {
    for (lost, left) in [
        // It is opened again.
        (&["sessions.db", "sessions.db-wal", "sessions.db-shm"][..], 0),
        // It is made anew from what is in memory.
        (&["sessions.db-wal"], 0),
        (&[], 1),
    ] {
        let (place, events) = (Place::fast(), Events::default());
        let mut writer = writer(&place, &events);
        let other = Connection::open(place.file()).unwrap();
        other.execute_batch("CREATE TABLE events (x)").unwrap();
        tell(&events, 1);
        writer.tick();
        database(&mut writer);
        assert_eq!(unwritten(&events), 1);
        other.execute_batch("DROP TABLE events").unwrap();
        drop(other);
        lost.iter().for_each(|name| fs::remove_file(place.path().join(name)).unwrap());
        // The first sees that, and what it says of it is written by the next.
        writer.watch_log();
        writer.tick();
        tell(&events, 1);
        writer.tick();
        writer.tick();
        let waits = usize::from(events.has_unwritten());
        assert_eq!(waits, left, "{lost:?}: {:?}", events.all());
    }
}

#[test]
fn many_events_do_not_make_the_log_grow() {
    type Write = fn(&mut Writer, &Events);
    let ticks: Write = |writer, events| {
        while events.has_unwritten() {
            writer.tick();
        }
    };
    let anew: Write = |writer, events| repair::write_missing_events(database(writer), events);
    let mut sizes = Vec::new();
    for (how, write) in [("idle", ticks), ("anew", anew), ("end", |writer, _| writer.finish())] {
        let (place, events) = (Place::fast(), Events::default());
        let mut writer = writer(&place, &events);
        tell(&events, LIMIT);
        // Or the log would go with the last connection.
        let reader = Connection::open(place.file()).unwrap();
        reader.query_row("SELECT count(*) FROM pins", [], |row| row.get::<_, i64>(0)).unwrap();
        write(&mut writer, &events);
        assert_eq!((unwritten(&events), stored(&place).len()), (0, LIMIT), "{how}");
        sizes.push((how, place.log_size()));
    }
    assert_eq!(sizes, ["idle", "anew", "end"].map(|how| (how, log::BYTES)));
}

#[tokio::test]
async fn whoever_follows_events_opens_the_file_once() {
    let (place, events) = (Place::fast(), Events::default());
    let (store, ..) = place.open_with(Options { events: events.clone(), ..options() }).unwrap();
    let mut follower = store.follow_events(0).unwrap();
    let mut told = |numbers: &[u64]| {
        let read = follower.events().unwrap();
        assert_eq!(read.iter().map(|row| row.number).collect::<Vec<_>>(), numbers);
    };
    told(&[]);
    tell(&events, 1);
    until(|| unwritten(&events) == 0 && stored(&place).len() == 1).await;
    told(&[1]);
    // Who opens it now would refuse it.
    let other = Connection::open(place.file()).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    told(&[]);
    follower.pause();
    follower.events().unwrap_err();
}
