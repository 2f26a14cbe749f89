//! What a store promises, on disk and in memory.

mod backup;
mod bound;
mod damage;
mod events;
mod log;
mod progress;
mod repair;
mod spellings;
mod states;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use gateway_core::farm::AdminState;
use gateway_core::protocol::SessionId;
use gateway_core::session::{Subject, TargetHash};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

const SLOW: Duration = Duration::from_secs(5);

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

fn options() -> Options {
    options_with(OnError::Refuse)
}

/// Those of a process that takes over from another.
fn shared_with(old: &Store) -> Options {
    Options { lock: old.lock().map(Arc::new), ..options() }
}

fn options_with(on_error: OnError) -> Options {
    let (metrics, events) = (Metrics::new(&[], &[]), Events::default());
    Options { sync: SyncMode::Power, on_error, slow: SLOW, metrics, events, lock: None }
}

/// Everything that a store holds.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    pins: Vec<StoredPin>,
    tombstones: Vec<Tombstone>,
    progress: Vec<StoredProgress>,
    states: BTreeMap<String, AdminState>,
}

impl Kept {
    fn take(&mut self, record: Record<'_>) -> bool {
        match record {
            Record::Pin(pin) => {
                let new = self.pins.iter().all(|known| known.id != pin.id);
                if new {
                    self.pins.push(pin.to_pin());
                }
                return new;
            }
            Record::Tombstone(tombstone) => self.tombstones.push(tombstone),
            Record::Progress(progress) => {
                let known =
                    |pin: &StoredPin| (&pin.id, pin.created) == (&progress.id, progress.created);
                let wanted = self.pins.iter().any(known);
                if wanted {
                    self.progress.push(progress);
                }
                return wanted;
            }
            Record::Spelling(spelling) => {
                let of = |pin: &&mut StoredPin| {
                    (&pin.id, pin.created) == (&spelling.id, spelling.created)
                };
                let pin = self.pins.iter_mut().find(of);
                let wanted = pin.is_some();
                if let Some(pin) = pin {
                    pin.spelling = Some(spelling.spelling);
                }
                return wanted;
            }
            Record::Backend(state) => {
                self.states.insert(state.backend, state.state);
            }
            Record::Event(event) => panic!("{event:?} is for others"),
        }
        true
    }

    fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<_> = self.pins.iter().map(|pin| pin.id.as_str()).collect();
        ids.sort_unstable();
        ids
    }
}

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: TempDir::with_prefix("bits-store").unwrap() }
    }

    /// In memory if possible: for tests that open many stores and wait for every disk write.
    fn fast() -> Self {
        let directory = TempDir::with_prefix_in("bits-store", "/dev/shm");
        directory.map_or_else(|_| Self::new(), |directory| Self { directory })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn file(&self) -> PathBuf {
        self.path().join("sessions.db")
    }

    fn open(&self) -> (Store, Kept, Loaded) {
        self.open_with(options()).unwrap()
    }

    fn open_with(&self, options: Options) -> Result<(Store, Kept, Loaded), OpenError> {
        let mut kept = Kept::default();
        let (store, loaded) = Store::open(&self.path(), options, &mut |record| kept.take(record))?;
        Ok((store, kept, loaded))
    }

    async fn kept(&self) -> Kept {
        let (store, kept, loaded) = self.open();
        assert_eq!(loaded.report, Vec::<String>::new());
        store.close().await;
        kept
    }

    /// A store with `count` pins and one of everything else.
    async fn with(count: u32) -> Self {
        Self::new().filled(count).await
    }

    async fn filled(self, count: u32) -> Self {
        let place = self;
        let (store, ..) = place.open();
        pin_all(&store, 0..count).await;
        store.set_backend_state(state("up01", AdminState::Drain)).await.unwrap();
        store.end(&key("gone"), Timestamp(1), Some(tombstone("gone", 5))).await.unwrap();
        store.close().await;
        place
    }
}

/// At once, so that they share their commits; in order all the same.
async fn pin_all(store: &Store, numbers: std::ops::Range<u32>) {
    let numbers: Vec<_> = numbers.collect();
    for chunk in numbers.chunks(1000) {
        let asked = chunk.iter().map(|n| store.pin(pin(*n)));
        futures_util::future::join_all(asked).await.into_iter().for_each(Result::unwrap);
    }
}

fn pin(n: u32) -> StoredPin {
    StoredPin {
        id: format!("{{3F9C1E52-7B0D-4E7A-9C44-{n:012X}}}"),
        backend: format!("up{:02}", n % 3),
        backend_session: n.is_multiple_of(5).then(|| format!("own-{n}")),
        target: TargetHash(u64::MAX - u64::from(n)),
        // Many pins share a millisecond.
        created: Timestamp(1_700_000_000_000 + u64::from(n / 4)),
        subject: n.is_multiple_of(7).then(|| Subject::new([n as u8; 16])),
        spelling: None,
    }
}

/// In the order in which pins are read, each of the two tables in that of its numbers.
fn bound_first(numbers: impl Iterator<Item = u32>) -> Vec<StoredPin> {
    let mut pins: Vec<_> = numbers.map(pin).collect();
    pins.sort_by_key(|pin| pin.subject.is_none());
    pins
}

fn key(id: &str) -> SessionKey {
    SessionId::parse(id).unwrap().key().clone()
}

fn tombstone(id: &str, ended: u64) -> Tombstone {
    Tombstone {
        id: id.into(),
        kind: EndKind::Close,
        backend: "up01".into(),
        target: TargetHash(7),
        status: 200,
        ended: Timestamp(ended),
    }
}

fn state(backend: &str, state: AdminState) -> BackendState {
    BackendState { backend: backend.into(), state, since: Timestamp(9), by: "me".into() }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let since = clock::steady();
    while !condition() {
        assert!(clock::steady() - since < DEADLINE, "waited for too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_again() {
    let place = Place::new();
    let (store, kept, loaded) = place.open();
    assert_eq!(kept, Kept::default());
    assert_eq!((loaded.pins, loaded.report.len()), (0, 0));
    for n in 0..20 {
        store.pin(pin(n)).await.unwrap();
    }
    store.set_backend_state(state("up01", AdminState::Drain)).await.unwrap();
    store.set_backend_state(state("up02", AdminState::Maintenance)).await.unwrap();
    store.set_backend_state(state("up01", AdminState::Ready)).await.unwrap();
    let ended = Tombstone { kind: EndKind::Cancel, status: 201, ..tombstone(&pin(3).id, 50) };
    store.end(&key(&pin(3).id), pin(3).created, Some(ended.clone())).await.unwrap();
    store.end(&key(&pin(4).id), pin(4).created, None).await.unwrap();
    store.close().await;

    let (store, kept, loaded) = place.open();
    let expected = bound_first((0..20).rev().filter(|n| ![3, 4].contains(n)));
    assert_eq!(kept.pins, expected, "newest first");
    assert_eq!(kept.tombstones, [ended]);
    let states = [("up01".into(), AdminState::Ready), ("up02".into(), AdminState::Maintenance)];
    assert_eq!(kept.states, BTreeMap::from(states));
    assert_eq!((loaded.pins, loaded.tombstones, loaded.backend_states), (18, 1, 2));
    store.close().await;
}

#[tokio::test]
async fn memory_takes_everything_and_keeps_nothing() {
    let store = Store::memory();
    store.pin(pin(1)).await.unwrap();
    store.end(&key("x"), Timestamp(0), None).await.unwrap();
    store.end_soon(&key("x"), Timestamp(0), None);
    store.age_tombstones(SLOW, SLOW);
    store.set_backend_state(state("up01", AdminState::Drain)).await.unwrap();
    assert!(store.status().up && store.follow(Position::default()).is_none());
    store.close().await;
}

#[tokio::test]
async fn an_end_finds_its_session_in_every_spelling_and_no_other() {
    let place = Place::with(8).await;
    let (store, ..) = place.open();
    // Four share the millisecond.
    let spelled = pin(5).id.trim_matches(['{', '}']).to_lowercase();
    store.end(&key(&spelled), pin(5).created, None).await.unwrap();
    store.end(&key(&pin(6).id), Timestamp(1), None).await.unwrap();
    store.end(&key("never-seen"), pin(6).created, None).await.unwrap();
    store.close().await;
    let kept = place.kept().await;
    let left: Vec<_> = (0..8).filter(|n| *n != 5).map(|n| pin(n).id).collect();
    assert_eq!(kept.ids(), left);
}

#[tokio::test]
async fn of_two_rows_for_one_session_the_newer_counts_and_the_older_goes() {
    let place = Place::with(1).await;
    let (store, ..) = place.open();
    let again = StoredPin { backend: "up09".into(), created: Timestamp(77), ..pin(0) };
    store.pin(again.clone()).await.unwrap();
    store.close().await;
    let (store, kept, loaded) = place.open();
    assert_eq!((kept.pins, loaded.pins), (vec![again.clone()], 1));
    store.close().await;
    let rows: Vec<_> = read_only(&place.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, [again]);
}

#[tokio::test]
async fn old_tombstones_go() {
    let place = Place::new();
    let (store, ..) = place.open();
    // More than one transaction removes.
    let count = 5_000;
    for n in 1..=count {
        store.end_soon(&key("x"), Timestamp(0), Some(tombstone(&format!("s{n}"), n)));
        if n % 1000 == 0 {
            store.end(&key("x"), Timestamp(0), None).await.unwrap();
        }
    }
    store.age_tombstones(Duration::ZERO, DEADLINE);
    store.end(&key("x"), Timestamp(0), Some(tombstone("young", 1))).await.unwrap();
    store.age_tombstones(DEADLINE, DEADLINE);
    let left = || {
        let connection = Connection::open(place.file()).unwrap();
        let sql = "SELECT count(*), max(id) FROM tombstones";
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    until(|| left() == (1i64, "young".to_owned())).await;
    store.close().await;
}

#[tokio::test]
async fn many_writers_share_their_commits_and_lose_nothing() {
    let place = Place::new();
    let (store, ..) = place.open();
    let tasks: Vec<_> = (0..500)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.pin(pin(n)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    store.close().await;
    assert_eq!(place.kept().await.pins.len(), 500);
}

#[tokio::test]
async fn a_pin_that_nobody_waits_for_leaves_nothing() {
    let place = Place::new();
    let (store, ..) = place.open();
    for n in 0..50 {
        // Polled once, so that it is in the queue, and dropped.
        let mut asked = Box::pin(store.pin(pin(n)));
        let _ = futures_util::poll!(&mut asked);
    }
    store.pin(pin(100)).await.unwrap();
    store.close().await;
    assert_eq!(place.kept().await.ids(), [pin(100).id]);
}

#[tokio::test]
async fn a_store_says_how_it_is() {
    let place = Place::new();
    let (store, ..) = place.open();
    store.pin(pin(1)).await.unwrap();
    let status = store.status();
    assert!(status.up && status.trouble.is_none());
    assert_eq!((status.kind, status.queued, status.backlog, status.lost), ("sqlite", 0, 0, 0));
    assert!(status.size_bytes > 0 && status.last_commit.is_some());
    let metrics = store.0.as_ref().unwrap().shared.options.metrics.encode();
    for line in [
        "bitsgw_store_up{store=\"sqlite\"} 1",
        "bitsgw_store_operations_total{operation=\"put\",result=\"ok\",store=\"sqlite\"} 1",
        "bitsgw_store_operation_duration_seconds_count{operation=\"put\",store=\"sqlite\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    store.close().await;
}

#[tokio::test]
async fn only_the_owner_may_enter() {
    let place = Place::with(1).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.path()), mode(&place.file())), (0o700, 0o600));
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    for (path, bad, fix) in [
        (place.path(), 0o755, "chmod 750"),
        (place.path(), 0o707, "chmod 700"),
        (place.path(), 0o770, "chmod 750"),
        (place.file(), 0o644, "chmod 640"),
        (place.file(), 0o602, "chmod 600"),
    ] {
        let good = mode(&path);
        set(&path, bad).unwrap();
        // Also where everything else is forgiven.
        let error = place.open_with(options_with(OnError::Accept)).expect_err("refused");
        assert!(matches!(error, OpenError::Exposed { .. }), "{error}");
        let help = error.help();
        assert!(help.contains(&format!("{fix} {}", path.display())), "{help}");
        set(&path, good).unwrap();
    }
    set(&place.path(), 0o750).unwrap();
    assert_eq!(place.kept().await.pins.len(), 1, "a group may read");
}

#[tokio::test]
async fn a_newer_file_is_refused_and_left_alone() {
    let place = Place::with(1).await;
    let connection = Connection::open(place.file()).unwrap();
    connection.execute("UPDATE meta SET value = 99 WHERE name = 'schema'", []).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let before = fs::read(place.file()).unwrap();
    let error = place.open_with(options_with(OnError::Accept)).expect_err("refused");
    let text = error.to_string();
    assert!(text.ends_with("its schema is 99, and this version knows 1"), "{text}");
    assert!(matches!(read_only(&place.path()).err(), Some(OpenError::Newer { .. })));
    assert_eq!(fs::read(place.file()).unwrap(), before);
}

#[tokio::test]
async fn a_path_that_is_no_directory_is_refused() {
    let place = Place::new();
    fs::write(place.path(), "x").unwrap();
    let error = place.open_with(options()).expect_err("refused");
    assert!(matches!(error, OpenError::NoDirectory(_)), "{error}");
}

#[tokio::test]
async fn two_processes_write_one_file_and_one_follows_the_other() {
    let place = Place::with(3).await;
    let (old, ..) = place.open();
    let (new, kept, loaded) = place.open_with(shared_with(&old)).unwrap();
    assert_eq!(kept.pins.len(), 3);
    let mut follower = new.follow(loaded.position).unwrap();
    let mut seen = Kept::default();
    follower
        .poll(&mut |record| {
            seen.take(record);
        })
        .unwrap();
    assert_eq!(seen, Kept::default());
    let (one, other) = tokio::join!(
        async {
            for n in 10..60 {
                old.pin(pin(n)).await.unwrap();
            }
        },
        async {
            for n in 60..110 {
                new.pin(pin(n)).await.unwrap();
            }
        }
    );
    ((), ()) = (one, other);
    old.end(&key(&pin(11).id), pin(11).created, Some(tombstone(&pin(11).id, 5))).await.unwrap();
    old.set_backend_state(state("up02", AdminState::Maintenance)).await.unwrap();
    follower
        .poll(&mut |record| {
            seen.take(record);
        })
        .unwrap();
    let all: Vec<_> = (10..110).filter(|n| *n != 11).map(|n| pin(n).id).collect();
    assert_eq!(seen.ids(), all);
    assert_eq!(seen.tombstones, [tombstone(&pin(11).id, 5)]);
    assert_eq!(seen.states["up02"], AdminState::Maintenance);
    // A number is not given again, so the next one is behind what was seen.
    old.end(&key(&pin(59).id), pin(59).created, None).await.unwrap();
    old.pin(pin(200)).await.unwrap();
    let mut more = Kept::default();
    follower
        .poll(&mut |record| {
            more.take(record);
        })
        .unwrap();
    assert_eq!(more.ids(), [pin(200).id]);
    old.close().await;
    new.pin(pin(201)).await.unwrap();
    new.close().await;
    assert_eq!(place.kept().await.pins.len(), 3 + 100 - 2 + 2);
}

#[tokio::test]
async fn pins_are_read_while_the_store_is_in_use_and_after() {
    let place = Place::with(10_000).await;
    let mut all: Vec<_> = (0..10_000).map(pin).collect();
    all.sort_by_key(|pin| pin.subject.is_some());
    let read: Vec<_> = read_only(&place.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, all);
    let (store, ..) = place.open();
    let mut reader = read_only(&place.path()).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), all[0]);
    store.pin(pin(10_000)).await.unwrap();
    assert!(reader.any(|read| read.unwrap() == pin(10_000)));
    store.close().await;
    let missing = read_only(&place.directory.path().join("nowhere")).err().expect("nothing there");
    assert!(missing.to_string().contains("it is not there"), "{missing}");
}
