//! Targets that are not in normal form, beside the pins of their sessions.

use super::*;

fn spelled(n: u32) -> StoredPin {
    StoredPin { spelling: Some(format!("/in/%61 {n}")), ..pin(n) }
}

/// The pins 1 to 3, of which 2 has no spelling.
async fn three(place: &Place) -> Store {
    let (store, ..) = place.open();
    store.pin_untouched(spelled(1)).await.unwrap();
    store.pin(pin(2)).await.unwrap();
    let bound = StoredPin { subject: Some(Subject::new([7; 16])), ..spelled(3) };
    store.pin(bound).await.unwrap();
    store
}

fn rows(place: &Place) -> Vec<String> {
    let connection = Connection::open(place.file()).unwrap();
    let mut rows = connection.prepare("SELECT id FROM spellings ORDER BY row").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_spelling_comes_back_with_its_pin_and_leaves_with_it() {
    let place = Place::fast();
    three(&place).await.close().await;
    let kept = place.kept().await;
    let spellings: Vec<_> = kept.pins.iter().map(|pin| pin.spelling.clone()).collect();
    assert_eq!(spellings, [spelled(3).spelling, None, spelled(1).spelling]);
    let (store, ..) = place.open();
    store.end(&key(&pin(1).id), pin(1).created, None).await.unwrap();
    store.close().await;
    assert_eq!(rows(&place), [pin(3).id]);
}

#[tokio::test]
async fn a_file_without_odd_targets_has_no_table_for_them() {
    let place = Place::fast();
    let (store, ..) = place.open();
    store.pin(pin(1)).await.unwrap();
    store.close().await;
    let connection = Connection::open(place.file()).unwrap();
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'spellings'";
    let tables: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn rows_of_sessions_that_are_over_go_at_the_next_start() {
    let place = Place::fast();
    three(&place).await.close().await;
    // As a process that does not know the table ends a session.
    Connection::open(place.file()).unwrap().execute("DELETE FROM pins", []).unwrap();
    let (store, kept, loaded) = place.open();
    assert_eq!((kept.pins.len(), loaded.pins), (1, 1));
    store.close().await;
    assert_eq!(rows(&place), [pin(3).id]);
}

#[tokio::test]
async fn a_follower_sees_spellings_behind_their_pins() {
    let place = Place::fast();
    let (mine, ..) = place.open();
    let mut follower = mine.follow(Position::default()).unwrap();
    for n in 1..3 {
        mine.pin(spelled(n)).await.unwrap();
        let mut seen = Kept::default();
        follower.poll(&mut |record| _ = seen.take(record)).unwrap();
        assert_eq!(seen.pins, [spelled(n)]);
    }
    mine.close().await;
}

#[tokio::test]
async fn of_a_damaged_file_spellings_are_kept() {
    let place = Place::new();
    three(&place).await.close().await;
    let mut bytes = fs::read(place.file()).unwrap();
    bytes[..16].fill(0);
    fs::write(place.file(), bytes).unwrap();
    let (store, kept, loaded) = place.open();
    assert_eq!(loaded.report.len(), 1, "{:?}", loaded.report);
    let spellings = kept.pins.iter().filter(|pin| pin.spelling.is_some()).count();
    assert_eq!(spellings, 2, "{kept:?}");
    store.close().await;
    assert_eq!(place.kept().await.pins, kept.pins);
}
