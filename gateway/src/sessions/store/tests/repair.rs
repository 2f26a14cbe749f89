//! Files that somebody takes from under a store that is in use.

use super::*;

const PINS: u32 = 40;

/// After all pins.
const LATER: u64 = 1_800_000_000_000;

/// What the process knows.
fn live(pins: std::ops::Range<u32>, ended: Vec<Tombstone>) -> LiveRows {
    Arc::new(move |list| {
        pins.clone().for_each(|n| list(Record::Pin(pin(n).as_row())));
        ended.iter().cloned().for_each(|tombstone| list(Record::Tombstone(tombstone)));
    })
}

/// A store with something that is in its log alone: a reader keeps it there.
struct Used {
    place: Place,
    store: Store,
    reader: Connection,
}

impl Used {
    async fn new() -> Self {
        let place = Place::fast().filled(PINS / 2).await;
        let (store, ..) = place.open();
        store
            .set_live_rows(live(1..PINS, vec![tombstone("gone", 5), tombstone(&pin(0).id, LATER)]));
        let reader = Connection::open(place.file()).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM pins;").unwrap();
        for n in PINS / 2..PINS {
            store.pin(pin(n)).await.unwrap();
        }
        store.set_backend_state(state("up02", AdminState::Maintenance)).await.unwrap();
        store
            .end(&key(&pin(0).id), pin(0).created, Some(tombstone(&pin(0).id, LATER)))
            .await
            .unwrap();
        Self { place, store, reader }
    }

    /// Waits until the store is another file, and has all that it had, as it would be found after a
    /// kill.
    async fn comes_back(self, what: &str, tamper: impl FnOnce(&Place)) {
        let before = fs::metadata(self.place.file()).unwrap().ino();
        tamper(&self.place);
        let Self { place, store, reader } = self;
        until(|| fs::metadata(place.file()).is_ok_and(|file| file.ino() != before)).await;
        // Behind this pin, all that the process knows has been written.
        store.pin(pin(PINS)).await.unwrap();
        let killed = place.as_killed();
        let (other, kept, loaded) = killed.open();
        assert_eq!(loaded.report, Vec::<String>::new(), "{what}");
        let expected: Vec<_> = (1..=PINS).map(|n| pin(n).id).collect();
        assert_eq!(kept.ids(), expected, "{what}");
        let mut ended: Vec<_> = kept.tombstones.iter().map(|ended| ended.id.as_str()).collect();
        ended.sort_unstable();
        ended.dedup();
        assert_eq!(ended, ["gone", &pin(0).id], "{what}");
        assert_eq!(kept.states["up02"], AdminState::Maintenance, "{what}");
        other.close().await;
        // And it works.
        store.pin(pin(1000)).await.unwrap();
        store.end(&key(&pin(1).id), pin(1).created, Some(tombstone(&pin(1).id, 8))).await.unwrap();
        drop(reader);
        store.close().await;
        let kept = place.kept().await;
        let expected: Vec<_> = (2..=PINS).chain([1000]).map(|n| pin(n).id).collect();
        assert_eq!(kept.ids(), expected, "{what}");
    }
}

impl Place {
    fn index(&self) -> PathBuf {
        self.path().join("sessions.db-shm")
    }

    /// The files as a process that is killed now leaves them.
    fn as_killed(&self) -> Self {
        let killed = Self::fast();
        fs::create_dir(killed.path()).unwrap();
        fs::set_permissions(killed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["sessions.db", "sessions.db-wal"] {
            fs::copy(self.path().join(name), killed.path().join(name)).unwrap();
        }
        killed
    }
}

#[tokio::test]
async fn a_log_that_is_deleted_is_made_good() {
    Used::new().await.comes_back("deleted", |place| fs::remove_file(place.log()).unwrap()).await;
}

#[tokio::test]
async fn an_index_that_is_deleted_is_made_good() {
    Used::new().await.comes_back("index", |place| fs::remove_file(place.index()).unwrap()).await;
}

#[tokio::test]
async fn a_log_that_is_cut_is_made_good() {
    for length in [0, 10, 32, 5_000, 32 + 10 * 4120] {
        let cut = |place: &Place| {
            let log = fs::File::options().write(true).open(place.log()).unwrap();
            log.set_len(length).unwrap();
        };
        Used::new().await.comes_back(&format!("cut at {length}"), cut).await;
    }
}

#[tokio::test]
async fn a_log_that_is_replaced_is_made_good() {
    let older = {
        // A log of the same store: SQLite would play it back.
        let used = Used::new().await;
        let log = fs::read(used.place.log()).unwrap();
        used.store.close().await;
        log
    };
    for (what, bytes) in [("older", older), ("junk", vec![0xa5; 300_000]), ("empty", Vec::new())] {
        let other = |place: &Place| {
            let draft = place.path().join("other");
            fs::write(&draft, &bytes).unwrap();
            fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(&draft, place.log()).unwrap();
        };
        Used::new().await.comes_back(&format!("{what}, renamed"), other).await;
        let over = |place: &Place| fs::write(place.log(), &bytes).unwrap();
        Used::new().await.comes_back(&format!("{what}, written over"), over).await;
    }
}

#[tokio::test]
async fn a_log_that_is_cut_behind_its_end_is_filled_again() {
    let place = Place::fast().filled(PINS).await;
    let (store, ..) = place.open();
    store.pin(pin(PINS)).await.unwrap();
    let before = fs::metadata(place.file()).unwrap().ino();
    let log = fs::File::options().write(true).open(place.log()).unwrap();
    log.set_len(super::super::log::BYTES / 2).unwrap();
    until(|| place.log_size() == super::super::log::BYTES).await;
    assert_eq!(fs::metadata(place.file()).unwrap().ino(), before, "it is the same file");
    store.close().await;
    assert_eq!(place.kept().await.pins.len() as u32, PINS + 1);
}

#[tokio::test]
async fn a_reader_that_does_not_end_does_not_let_the_log_grow_for_ever() {
    let place = Place::fast().filled(PINS).await;
    let (store, ..) = place.open();
    store.set_live_rows(live(0..PINS, Vec::new()));
    let reader = Connection::open(place.file()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM pins;").unwrap();
    let renewals = || {
        let metrics = store.0.as_ref().unwrap().shared.options.metrics.encode();
        metrics.contains("bitsgw_store_renewals_total 1")
    };
    let (mut n, mut largest) = (PINS, 0);
    while !renewals() {
        store.pin(pin(n)).await.unwrap();
        n += 1;
        largest = largest.max(place.log_size());
        assert!(n < 10_000);
    }
    assert!(largest > 4 * super::super::log::BYTES, "{largest}");
    until(|| place.log_size() == super::super::log::BYTES).await;
    // It sees what it saw.
    let seen: u32 = reader.query_row("SELECT count(*) FROM pins", [], |row| row.get(0)).unwrap();
    assert!(seen <= PINS, "{seen}");
    store.pin(pin(n)).await.unwrap();
    let killed = place.as_killed().kept().await;
    assert_eq!(killed.ids(), (0..=n).map(|n| pin(n).id).collect::<Vec<_>>());
    drop(reader);
    store.close().await;
    assert_eq!(place.kept().await.pins.len() as u32, n + 1);
}

#[tokio::test]
async fn a_log_without_its_database_is_said_and_kept() {
    let used = Used::new().await;
    let killed = used.place.as_killed();
    fs::remove_file(killed.file()).unwrap();
    let (store, kept, loaded) = killed.open();
    assert_eq!(kept, Kept::default());
    assert!(loaded.report[0].contains("is missing and its log was there"), "{:?}", loaded.report);
    store.close().await;
    let aside = fs::read_dir(killed.path()).unwrap();
    let aside = aside.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    assert_eq!(aside.filter(|name| name.ends_with("-wal")).count(), 1);
    used.store.close().await;
}

#[tokio::test]
async fn a_database_without_its_log_is_said_after_a_kill_and_not_after_an_end_in_order() {
    let used = Used::new().await;
    let killed = used.place.as_killed();
    fs::copy(used.place.path().join("sessions.lock"), killed.path().join("sessions.lock")).unwrap();
    fs::remove_file(killed.log()).unwrap();
    let (store, _, loaded) = killed.open();
    assert!(loaded.report[0].contains("was not stopped in order"), "{:?}", loaded.report);
    store.close().await;
    assert_eq!(killed.open().2.report, Vec::<String>::new());
    drop(used.reader);
    used.store.close().await;
    assert!(!used.place.log().exists());
    assert_eq!(used.place.open().2.report, Vec::<String>::new());
}

#[tokio::test]
async fn a_second_store_in_one_directory_is_refused() {
    let place = Place::with(1).await;
    let (store, ..) = place.open();
    for on_error in [OnError::Refuse, OnError::Accept] {
        let error = place.open_with(options_with(on_error)).expect_err("refused");
        let text = error.to_string();
        let own = std::process::id();
        let said = format!("another gateway (pid {own}) uses this store");
        assert!(text.contains(&said), "{text}");
        assert_eq!(error.exit(), crate::process::exit::Exit::Unavailable);
    }
    store.pin(pin(1)).await.unwrap();
    store.close().await;
    assert_eq!(place.kept().await.pins.len(), 2);
}

#[tokio::test]
async fn a_file_that_is_taken_away_comes_back_from_what_the_process_knows() {
    let place = Place::with(5).await;
    let (store, kept, _) = place.open();
    let live = kept.pins.clone();
    let at = |n: u32, milestone| {
        let (id, created) = (pin(n).id, pin(n).created);
        StoredProgress { id, created, milestone }
    };
    let totals = [at(2, Milestone::Complete(9)), at(3, Milestone::Ending(8))];
    let known = totals.clone();
    store.set_live_rows(Arc::new(move |list| {
        live.iter().for_each(|pin| list(Record::Pin(pin.as_row())));
        known.iter().for_each(|known| list(Record::Progress(known.clone())));
    }));
    for name in ["sessions.db", "sessions.db-wal", "sessions.db-shm"] {
        fs::remove_file(place.path().join(name)).unwrap();
    }
    store.pin(pin(50)).await.unwrap();
    store.close().await;
    let expected: Vec<_> = [0, 1, 2, 3, 4, 50].map(|n| pin(n).id).into();
    let kept = place.kept().await;
    assert_eq!(kept.ids(), expected);
    assert_eq!(kept.progress, totals);
}

#[tokio::test]
async fn another_program_with_a_lock_makes_writes_fail_and_then_go_on() {
    let place = Place::with(1).await;
    let (store, ..) = place.open();
    let mut other = Connection::open(place.file()).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let error = store.pin(pin(2)).await.unwrap_err();
    assert!(matches!(error, StoreError::Down(_) | StoreError::Slow { .. }), "{error}");
    // Until SQLite gives up, it may also be the disk.
    let locked = || store.status().trouble.filter(|trouble| trouble.kind == TroubleKind::Locked);
    until(|| locked().is_some()).await;
    assert!(!store.status().up);
    let trouble = locked().expect("a reason");
    assert!(trouble.help().contains("fuser"), "{}", trouble.help());
    store.end(&key(&pin(0).id), pin(0).created, None).await.unwrap_err();
    drop(lock);
    until(|| store.status().up && store.status().backlog == 0).await;
    store.pin(pin(3)).await.unwrap();
    store.close().await;
    assert_eq!(place.kept().await.ids(), [pin(3).id], "the end was made good");
}
