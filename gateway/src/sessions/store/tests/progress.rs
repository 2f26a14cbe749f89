//! How far sessions have come, beside their pins.

use super::*;

const TOTAL: u64 = 5_000_000_000;

fn at(n: u32, milestone: Milestone) -> StoredProgress {
    StoredProgress { id: pin(n).id, created: pin(n).created, milestone }
}

/// The pins 1 to 3: one untouched, one on its way, one complete.
async fn three(place: &Place) -> Store {
    three_with(place, options()).await
}

async fn three_with(place: &Place, options: Options) -> Store {
    let (store, ..) = place.open_with(options).unwrap();
    for n in 1..4 {
        store.pin_untouched(pin(n)).await.unwrap();
    }
    for n in 2..4 {
        store.touch_soon(&key(&pin(n).id), pin(n).created);
    }
    store.complete_soon(&key(&pin(3).id), pin(3).created, TOTAL);
    store
}

fn rows(place: &Place) -> i64 {
    let connection = Connection::open(place.file()).unwrap();
    connection.query_row("SELECT count(*) FROM progress", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn what_nothing_and_what_all_has_arrived_of_is_known_at_the_next_start() {
    let place = Place::fast();
    three(&place).await.close().await;
    for _ in 0..2 {
        let kept = place.kept().await;
        assert_eq!(kept.pins.len(), 3);
        assert_eq!(kept.progress, [at(1, Milestone::Untouched), at(3, Milestone::Complete(TOTAL))]);
    }
}

#[tokio::test]
async fn a_session_that_completes_twice_has_one_row_and_none_after_its_end() {
    let place = Place::fast();
    let store = three(&place).await;
    store.complete_soon(&key(&pin(3).id), pin(3).created, TOTAL);
    store.settle().await;
    assert_eq!(rows(&place), 2);
    for n in 1..4 {
        store.end(&key(&pin(n).id), pin(n).created, None).await.unwrap();
    }
    store.close().await;
    assert_eq!(rows(&place), 0);
}

#[tokio::test]
async fn that_the_end_of_a_file_was_passed_on_is_known_until_it_has_arrived_or_its_session_ends() {
    let place = Place::fast();
    let store = three(&place).await;
    let ending = |store: &Store, n: u32| {
        store.ending_soon(&key(&pin(n).id), pin(n).created, TOTAL);
    };
    // It replaces what says that nothing has arrived, and what says the same already.
    for n in [1, 2, 1, 2] {
        ending(&store, n);
    }
    // It does not come behind the end.
    ending(&store, 3);
    store.close().await;
    let complete = at(3, Milestone::Complete(TOTAL));
    let passed_on = [1, 2].map(|n| at(n, Milestone::Ending(TOTAL)));
    for _ in 0..2 {
        let kept = place.kept().await;
        assert_eq!(kept.progress, [&[complete.clone()][..], &passed_on].concat());
        assert_eq!(rows(&place), 3);
    }
    let (store, ..) = place.open();
    store.complete_soon(&key(&pin(1).id), pin(1).created, TOTAL);
    store.settle().await;
    assert_eq!(rows(&place), 3);
    store.end(&key(&pin(2).id), pin(2).created, None).await.unwrap();
    store.close().await;
    let kept = place.kept().await.progress;
    assert_eq!(kept, [complete, at(1, Milestone::Complete(TOTAL))]);
    assert_eq!(rows(&place), 2);
}

#[tokio::test]
async fn a_size_that_no_row_can_hold_is_not_stored() {
    let place = Place::fast();
    let store = three(&place).await;
    for (n, total) in [(1, u64::MAX), (2, i64::MAX as u64 + 1)] {
        store.ending_soon(&key(&pin(n).id), pin(n).created, total);
        store.complete_soon(&key(&pin(n).id), pin(n).created, total);
    }
    store.ending_soon(&key(&pin(2).id), pin(2).created, i64::MAX as u64);
    store.close().await;
    let expected = [
        at(1, Milestone::Untouched),
        at(3, Milestone::Complete(TOTAL)),
        at(2, Milestone::Ending(i64::MAX as u64)),
    ];
    assert_eq!(place.kept().await.progress, expected);
}

#[tokio::test]
async fn rows_of_sessions_that_are_over_go_at_the_next_start() {
    let place = Place::fast();
    three(&place).await.close().await;
    // As a process that does not know the table ends a session.
    Connection::open(place.file()).unwrap().execute("DELETE FROM pins", []).unwrap();
    let kept = place.kept().await;
    assert_eq!((kept.pins.len(), kept.progress.len()), (0, 0));
    let (store, ..) = place.open();
    store.close().await;
    assert_eq!(rows(&place), 0);
}

#[tokio::test]
async fn a_follower_sees_progress_behind_its_pin_and_what_is_untouched_now() {
    let place = Place::fast();
    let (mine, ..) = place.open();
    mine.pin_untouched(pin(9)).await.unwrap();
    let mut follower = mine.follow(Position::default()).unwrap();
    let other = three_with(&place, shared_with(&mine)).await;
    other.settle().await;
    let mut seen = Kept::default();
    follower.poll(&mut |record| _ = seen.take(record)).unwrap();
    let untouched = [at(9, Milestone::Untouched), at(1, Milestone::Untouched)];
    let all = [&untouched[..], &[at(3, Milestone::Complete(TOTAL))]].concat();
    assert_eq!(seen.progress, all);
    assert_eq!(follower.untouched().unwrap(), untouched);
    other.touch_soon(&key(&pin(9).id), pin(9).created);
    other.close().await;
    assert_eq!(follower.untouched().unwrap(), untouched[1..]);
    mine.close().await;
}

#[tokio::test]
async fn of_a_damaged_file_totals_are_kept_and_nothing_counts_as_untouched() {
    let place = Place::new();
    let store = three(&place).await;
    store.ending_soon(&key(&pin(2).id), pin(2).created, TOTAL);
    store.close().await;
    let mut bytes = fs::read(place.file()).unwrap();
    bytes[..16].fill(0);
    fs::write(place.file(), bytes).unwrap();
    let (store, kept, loaded) = place.open();
    assert_eq!(loaded.report.len(), 1, "{:?}", loaded.report);
    let totals = [at(3, Milestone::Complete(TOTAL)), at(2, Milestone::Ending(TOTAL))];
    assert_eq!(kept.progress, totals);
    store.close().await;
    assert_eq!(place.kept().await.progress, kept.progress);
}

#[tokio::test]
async fn progress_that_cannot_be_written_is_written_later() {
    let place = Place::fast();
    let store = three(&place).await;
    store.settle().await;
    let aside = place.directory.path().join("aside");
    fs::rename(place.path(), &aside).unwrap();
    // The directory cannot be made.
    fs::write(place.path(), "").unwrap();
    store.touch_soon(&key(&pin(1).id), pin(1).created);
    store.ending_soon(&key(&pin(1).id), pin(1).created, TOTAL);
    store.complete_soon(&key(&pin(2).id), pin(2).created, TOTAL);
    store.settle().await;
    assert!(!store.status().up);
    // Nobody waits for a store that is down.
    store.settle().await;
    fs::remove_file(place.path()).unwrap();
    fs::rename(&aside, place.path()).unwrap();
    let begun = clock::stopwatch();
    while !store.status().up {
        assert!(begun.elapsed() < DEADLINE, "{:?}", store.status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.close().await;
    let [first, last] = [3, 2].map(|n| at(n, Milestone::Complete(TOTAL)));
    let expected = [first, at(1, Milestone::Ending(TOTAL)), last];
    assert_eq!(place.kept().await.progress, expected);
}

#[tokio::test]
async fn what_was_asked_for_before_is_written_when_it_has_settled() {
    let place = Place::fast();
    let (store, ..) = place.open();
    for n in 0..200 {
        store.pin_untouched(pin(n)).await.unwrap();
        store.complete_soon(&key(&pin(n).id), pin(n).created, TOTAL);
        store.settle().await;
        let connection = Connection::open(place.file()).unwrap();
        let count: i64 = connection
            .query_row("SELECT count(*) FROM progress WHERE total > 0", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, i64::from(n) + 1);
    }
    store.close().await;
}
