//! The log that is written in advance.

use super::super::log;
use super::*;

impl Place {
    pub(super) fn log(&self) -> PathBuf {
        self.path().join("sessions.db-wal")
    }

    pub(super) fn log_size(&self) -> u64 {
        fs::metadata(self.log()).map_or(0, |log| log.len())
    }
}

#[tokio::test]
async fn no_commit_changes_the_size_of_the_log() {
    let place = Place::fast();
    let (store, ..) = place.open();
    assert_eq!(place.log_size(), log::BYTES);
    // Each by itself, so that the log is gone through several times.
    let count = 3 * log::FRAMES as u32 / 2;
    for n in 0..count {
        store.pin(pin(n)).await.unwrap();
        if n % 3 == 0 {
            store
                .end(&key(&pin(n).id), pin(n).created, Some(tombstone(&pin(n).id, 5)))
                .await
                .unwrap();
        }
        assert_eq!(place.log_size(), log::BYTES, "after {n}");
    }
    let all: Vec<_> = (0..count).filter(|n| n % 3 != 0).map(|n| pin(n).id).collect();
    store.close().await;
    assert_eq!(place.kept().await.ids(), all);
}

#[tokio::test]
async fn full_batches_fit_into_the_log() {
    let place = Place::fast().filled(20_000).await;
    let (store, ..) = place.open();
    // Ends that lie far apart.
    for start in 0..10 {
        let ends = (start..20_000).step_by(19).map(|n| {
            let (id, created) = (pin(n).id, pin(n).created);
            let store = store.clone();
            async move { store.end(&key(&id), created, Some(tombstone(&id, 5))).await }
        });
        futures_util::future::join_all(ends).await.into_iter().for_each(Result::unwrap);
        assert_eq!(place.log_size(), log::BYTES);
    }
    store.close().await;
}

/// A process that is killed leaves its files as they are.
#[tokio::test]
async fn a_log_that_was_gone_through_is_read_back_after_a_kill() {
    let place = Place::fast();
    let (store, ..) = place.open();
    for n in 0..600 {
        store.pin(pin(n)).await.unwrap();
        if n % 37 == 0 {
            let killed = Place::fast();
            fs::create_dir(killed.path()).unwrap();
            fs::set_permissions(killed.path(), fs::Permissions::from_mode(0o700)).unwrap();
            // In this order: what a checkpoint moves meanwhile is in the log all the same.
            for name in ["sessions.db", "sessions.db-wal"] {
                fs::copy(place.path().join(name), killed.path().join(name)).unwrap();
            }
            let all: Vec<_> = (0..=n).map(|n| pin(n).id).collect();
            assert_eq!(killed.kept().await.ids(), all, "killed after {n}");
        }
    }
    store.close().await;
}

#[tokio::test]
async fn a_log_whose_head_alone_was_begun_anew_is_not_damaged() {
    let place = Place::fast().filled(PINS).await;
    let (store, ..) = place.open();
    for n in PINS..PINS + 20 {
        store.pin(pin(n)).await.unwrap();
    }
    // Everything is in the database, and the next commit would write a head and then its frames.
    until(|| moved(&place)).await;
    let before = fs::read(place.log()).unwrap();
    store.pin(pin(PINS + 20)).await.unwrap();
    let after = fs::read(place.log()).unwrap();
    assert_ne!(before[..32], after[..32], "it was begun anew");
    let mut log = before;
    log[..32].copy_from_slice(&after[..32]);
    let database = fs::read(place.file()).unwrap();
    store.close().await;
    fs::write(place.file(), database).unwrap();
    fs::write(place.log(), log).unwrap();
    fs::set_permissions(place.log(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.kept().await.pins.len() as u32, PINS + 20);
}

const PINS: u32 = 30;

/// Whether the log holds nothing that is not in the database.
fn moved(place: &Place) -> bool {
    let connection = Connection::open(place.file()).unwrap();
    let sql = "PRAGMA wal_checkpoint(NOOP)";
    let row =
        connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
    let (all, moved) = row.unwrap();
    all == moved && all > 0
}
