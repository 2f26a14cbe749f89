//! Bound pins beside an older process, which knows no table but `pins`.

use rusqlite::params;

use super::*;

/// Number 7 is one of the bound ones.
const BOUND: u32 = 7;

/// Writes pins as an older process does: numbered by its one table.
fn write_as_before(place: &Place, pins: &[StoredPin]) {
    let connection = Connection::open(place.file()).unwrap();
    for pin in pins {
        let sql = "SELECT coalesce(max(row), 0) + 1 FROM pins";
        let row: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        let (target, created) = (pin.target.0 as i64, pin.created.0 as i64);
        let seal = pin.as_row().seal(row);
        let own = &pin.backend_session;
        connection
            .execute(
                "INSERT INTO pins VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![row, pin.id, pin.backend, own, target, created, seal],
            )
            .unwrap();
    }
}

/// The version of a file, and whether it has a table for bound pins.
fn schema_of(place: &Place) -> (i64, bool) {
    let connection = Connection::open(place.file()).unwrap();
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'bound_pins'";
    (version, connection.query_row(table, [], |row| row.get(0)).unwrap())
}

fn newer(n: u32) -> StoredPin {
    StoredPin { backend: "up09".into(), created: Timestamp(1_800_000_000_000), ..pin(n) }
}

#[tokio::test]
async fn an_older_version_reads_the_file_whether_sessions_are_bound_or_not() {
    let place = Place::new();
    let (store, ..) = place.open();
    store.pin(pin(1)).await.unwrap();
    assert_eq!(schema_of(&place), (1, false));
    // Neither is there yet.
    store.end(&key(&pin(2).id), pin(2).created, None).await.unwrap();
    store.pin(pin(BOUND)).await.unwrap();
    assert_eq!(schema_of(&place), (1, true));
    store.end(&key(&pin(BOUND).id), pin(BOUND).created, None).await.unwrap();
    store.close().await;
    assert_eq!(place.kept().await.pins, [pin(1)]);
    assert_eq!(schema_of(&place), (1, true));
}

#[tokio::test]
async fn what_an_older_process_pins_beside_bound_sessions_is_followed() {
    let place = Place::with(1).await;
    let (store, _, loaded) = place.open();
    let mut follower = store.follow(loaded.position).unwrap();
    for n in [BOUND, 2 * BOUND, 3 * BOUND] {
        store.pin(pin(n)).await.unwrap();
    }
    let mut poll = || {
        let mut seen = Kept::default();
        follower.poll(&mut |record| _ = seen.take(record)).unwrap();
        seen.pins
    };
    assert_eq!(poll(), [pin(7), pin(14), pin(21)]);
    write_as_before(&place, &[pin(1), pin(2)]);
    assert_eq!(poll(), [pin(1), pin(2)]);
    store.pin(pin(4 * BOUND)).await.unwrap();
    store.pin(pin(3)).await.unwrap();
    assert_eq!(poll(), [pin(28), pin(3)]);
    store.close().await;
}

#[tokio::test]
async fn a_row_that_goes_takes_none_of_the_other_table_with_it() {
    let place = Place::new();
    let (store, ..) = place.open();
    store.pin(pin(BOUND)).await.unwrap();
    store.close().await;
    // The first of them has the number of the bound one, and goes for the second.
    write_as_before(&place, &[pin(1), newer(1)]);
    for _ in 0..2 {
        let mut kept = place.kept().await.pins;
        kept.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(kept, [newer(1), pin(BOUND)]);
    }
    let rows: Vec<_> = read_only(&place.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, [newer(1), pin(BOUND)]);
}

#[tokio::test]
async fn a_session_that_an_older_process_has_pinned_too_stays_its_clients() {
    let place = Place::new();
    let (store, ..) = place.open();
    store.pin(pin(BOUND)).await.unwrap();
    store.close().await;
    write_as_before(&place, &[StoredPin { subject: None, ..newer(BOUND) }]);
    let last = read_only(&place.path()).unwrap().last().unwrap();
    assert_eq!(last.unwrap(), pin(BOUND), "of two, a command shows the last");
    for _ in 0..2 {
        assert_eq!(place.kept().await.pins, [pin(BOUND)]);
    }
}

#[tokio::test]
async fn of_a_damaged_file_rows_of_one_number_are_both_kept() {
    let place = Place::new();
    let (store, ..) = place.open();
    store.pin(pin(BOUND)).await.unwrap();
    store.close().await;
    write_as_before(&place, &[pin(1)]);
    let mut bytes = fs::read(place.file()).unwrap();
    bytes[..16].fill(0);
    fs::write(place.file(), bytes).unwrap();
    let (store, kept, loaded) = place.open();
    assert_eq!(loaded.report.len(), 1, "{:?}", loaded.report);
    assert_eq!(kept.pins, [pin(BOUND), pin(1)]);
    store.close().await;
    assert_eq!(place.kept().await.pins, [pin(BOUND), pin(1)]);
}
