//! A copy in one file, and the way back.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Where copies go: not into the directory of the store.
fn copy_of(place: &Place) -> PathBuf {
    place.directory.path().join("copy.db")
}

#[tokio::test]
async fn a_copy_of_a_store_at_work_is_put_back_after_its_loss() {
    let place = Place::new();
    let (store, ..) = place.open();
    pin_all(&store, 0..500).await;
    store.set_backend_state(state("up01", AdminState::Drain)).await.unwrap();
    store.end(&key("gone"), Timestamp(1), Some(tombstone("gone", 5))).await.unwrap();
    let copied = backup(&place.path(), &copy_of(&place), false).unwrap();
    assert_eq!((copied.sessions, copied.ended, copied.states, copied.damaged), (500, 1, 1, 0));
    let metadata = fs::metadata(copy_of(&place)).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), copied.bytes);
    let beside: Vec<_> = fs::read_dir(place.directory.path()).unwrap().collect();
    assert_eq!(beside.len(), 2, "the store and one file: {beside:?}");
    // A gateway that goes on after the copy, and loses everything.
    pin_all(&store, 500..510).await;
    store.close().await;
    fs::remove_dir_all(place.path()).unwrap();

    let restored = restore(&place.path(), &copy_of(&place), Timestamp(7)).unwrap();
    assert_eq!((restored.copied.sessions, restored.aside), (500, None));
    let kept = place.kept().await;
    assert_eq!(kept.pins, bound_first((0..500).rev()));
    assert_eq!(kept.states["up01"], AdminState::Drain);
    assert_eq!(kept.tombstones.len(), 1);
}

#[tokio::test]
async fn what_was_there_before_a_restore_is_kept_with_its_log() {
    let place = Place::with(20).await;
    backup(&place.path(), &copy_of(&place), false).unwrap();
    // Ended without a word: there is a log, which must not be played back into the copy.
    let (store, ..) = place.open();
    pin_all(&store, 100..140).await;
    let left: Vec<_> = ["sessions.db", "sessions.db-wal"]
        .iter()
        .map(|name| (name, fs::read(place.path().join(name)).unwrap()))
        .collect();
    store.close().await;
    for (name, bytes) in left {
        let path = place.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    let restored = restore(&place.path(), &copy_of(&place), Timestamp(7)).unwrap();
    let aside = restored.aside.unwrap();
    assert_eq!(aside, place.path().join("sessions.db.before-7"));
    assert_eq!(place.kept().await.pins, bound_first((0..20).rev()));
    // All of it, were it called by its name.
    let other = Place::new();
    fs::create_dir(other.path()).unwrap();
    fs::set_permissions(other.path(), fs::Permissions::from_mode(0o700)).unwrap();
    for (from, to) in [("", "sessions.db"), ("-wal", "sessions.db-wal")] {
        let from = format!("{}{from}", aside.display());
        fs::rename(from, other.path().join(to)).unwrap();
    }
    assert_eq!(other.kept().await.pins.len(), 60);
}

#[tokio::test]
async fn a_restore_does_nothing_while_a_gateway_runs() {
    let place = Place::with(20).await;
    backup(&place.path(), &copy_of(&place), false).unwrap();
    let (store, ..) = place.open();
    let error = restore(&place.path(), &copy_of(&place), Timestamp(7)).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    store.pin(pin(50)).await.unwrap();
    store.close().await;
    assert_eq!(place.kept().await.pins.len(), 21);
}

#[tokio::test]
async fn a_file_that_is_there_stays_unless_it_is_to_be_replaced() {
    let place = Place::with(3).await;
    fs::write(copy_of(&place), "precious").unwrap();
    backup(&place.path(), &copy_of(&place), false).unwrap_err();
    assert_eq!(fs::read(copy_of(&place)).unwrap(), b"precious");
    assert_eq!(backup(&place.path(), &copy_of(&place), true).unwrap().sessions, 3);
}

#[tokio::test]
async fn what_is_no_copy_of_a_store_is_refused() {
    let place = Place::with(3).await;
    let other = place.directory.path().join("other.db");
    let foreign = Connection::open(&other).unwrap();
    foreign.execute_batch("CREATE TABLE notes (text)").unwrap();
    drop(foreign);
    let junk = place.directory.path().join("junk");
    fs::write(&junk, "no database at all").unwrap();
    for file in [&other, &junk, &place.directory.path().join("missing")] {
        restore(&place.path(), file, Timestamp(7)).unwrap_err();
    }
    assert_eq!(place.kept().await.pins.len(), 3);
    let nothing = Place::new();
    let error = backup(&nothing.path(), &copy_of(&nothing), false).unwrap_err();
    assert!(error.to_string().contains("it is not there"), "{error}");
    assert!(!copy_of(&nothing).exists());
}
