//! Files that were cut off, overwritten or flipped, and what is left of them.

use gateway_core::events::{Event, Kind, Level};

use super::super::folder::Folder;
use super::super::{pages, salvage};
use super::*;
use crate::telemetry::events::wire::read_rows;

const PINS: u32 = 150;

/// Replays a run: the sequence of places depends on nothing else.
const SEED: u64 = 0x5eed_0000_b175;

struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// The bytes of a store that was closed, and of its log if it was not.
struct Files {
    database: Vec<u8>,
    log: Vec<u8>,
}

impl Files {
    async fn closed() -> Self {
        let place = Place::fast().filled(PINS).await;
        Self { database: fs::read(place.file()).unwrap(), log: Vec::new() }
    }

    /// Every pin was committed by itself, and only the first part has left the log.
    async fn in_use() -> Self {
        let place = Place::fast().filled(PINS / 2).await;
        let (store, ..) = place.open();
        let mut blocker = Connection::open(place.file()).unwrap();
        // A reader from before keeps everything else in the log.
        let reader = blocker.transaction().unwrap();
        reader.query_row("SELECT count(*) FROM pins", [], |row| row.get::<_, i64>(0)).unwrap();
        for n in PINS / 2..PINS {
            store.pin(pin(n)).await.unwrap();
        }
        let database = fs::read(place.file()).unwrap();
        let mut log = fs::read(place.path().join("sessions.db-wal")).unwrap();
        // What was written in advance is all alike; a little of it stays.
        let used = log.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        log.truncate(used + 3 * pages::PAGE);
        drop(reader);
        drop(blocker);
        store.close().await;
        Self { database, log }
    }

    fn put(&self, place: &Place) {
        let _ = fs::remove_dir_all(place.path());
        fs::create_dir(place.path()).unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = place.path().join(name);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        put("sessions.db", &self.database);
        if !self.log.is_empty() {
            put("sessions.db-wal", &self.log);
        }
    }
}

/// Opens a damaged store: what is kept of it is right, and the store works. Returns whether it said
/// something, and the pins that are gone.
async fn survives(place: &Place, what: &str) -> (bool, Vec<u32>) {
    let (store, kept, loaded) = place.open_with(options()).unwrap_or_else(|error| {
        panic!("{what}: {error}");
    });
    let said = !loaded.report.is_empty();
    for kept in &kept.pins {
        assert!((0..PINS).any(|n| pin(n) == *kept), "{what}: a wrong pin, {kept:?}");
    }
    let right = [tombstone("gone", 5)];
    assert!(kept.tombstones.iter().all(|kept| right.contains(kept)), "{what}");
    assert!(kept.states.iter().all(|(_, state)| *state == AdminState::Drain), "{what}");
    let gone: Vec<_> = (0..PINS).filter(|n| !kept.pins.contains(&pin(*n))).collect();
    assert!(said || gone.is_empty(), "{what}: {} pins are gone in silence", gone.len());
    let aside = fs::read_dir(place.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".corrupt-") && !name.to_string_lossy().ends_with("-wal")
    });
    assert_eq!(aside.count(), usize::from(said), "{what}: {:?}", loaded.report);
    store.pin(pin(PINS)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    store.close().await;
    let again = place.kept().await;
    assert_eq!(again.pins.len(), kept.pins.len() + 1, "{what}");
    (said, gone)
}

/// Where the row of each pin lies: from its id to its last column, which a header of some bytes
/// precedes.
struct Map(Vec<(usize, usize)>);

impl Map {
    fn of(files: &Files) -> Self {
        let place = |n| {
            let pin = pin(n);
            let id = pin.id.as_bytes();
            let at = files.database.windows(id.len()).position(|bytes| bytes == id);
            let at = at.expect("it is stored");
            let names = pin.backend.len() + pin.backend_session.map_or(0, |own| own.len());
            let names = names + pin.subject.map_or(0, |_| 32);
            // Target, created and seal take 8, 6 and at most 6 bytes.
            (at, at + id.len() + names + 20)
        };
        Self((0..PINS).map(place).collect())
    }

    fn lies_before(&self, pin: u32, end: usize) -> bool {
        self.0[pin as usize].1 <= end
    }

    fn lies_in(&self, pin: u32, page: usize) -> bool {
        self.0[pin as usize].0 / pages::PAGE == page
    }
}

#[tokio::test]
async fn of_a_file_cut_off_anywhere_every_whole_row_is_read() {
    let files = Files::closed().await;
    let map = Map::of(&files);
    let place = Place::fast();
    files.put(&place);
    let file = fs::OpenOptions::new().write(true).open(place.file()).unwrap();
    let folder = Folder::new(&place.path());
    let tables: [Vec<u32>; 2] = (0..PINS).partition(|n| pin(*n).subject.is_some()).into();
    for length in (0..files.database.len()).rev() {
        file.set_len(length as u64).unwrap();
        let found = salvage::read(&folder, salvage::Believe::Log).unwrap();
        // Rows of each table are numbered from 1, in the order of their pins.
        let mut kept = [false; PINS as usize];
        for (table, found) in tables.iter().zip([found.bound, found.pins]) {
            for (row, found) in found {
                let n = table[usize::try_from(row - 1).unwrap()];
                assert_eq!(found, pin(n), "cut at {length}: a wrong pin");
                kept[n as usize] = true;
            }
        }
        for n in 0..PINS {
            let whole = map.lies_before(n, length);
            assert!(kept[n as usize] || !whole, "cut at {length}: {n} is gone");
        }
    }
}

#[tokio::test]
async fn a_store_whose_file_was_cut_off_anywhere_goes_on() {
    let files = Files::closed().await;
    let map = Map::of(&files);
    let place = Place::fast();
    let page = pages::PAGE;
    let edges =
        (0..=files.database.len()).step_by(page).flat_map(|edge| [edge, edge + 1, edge + page - 1]);
    let lengths = edges.chain((0..files.database.len()).step_by(211));
    for length in lengths.filter(|length| *length < files.database.len()) {
        let database = files.database[..length].to_vec();
        Files { database, log: Vec::new() }.put(&place);
        let what = format!("cut at {length}");
        let (said, gone) = survives(&place, &what).await;
        assert!(said, "{what}");
        for pin in gone {
            assert!(!map.lies_before(pin, length), "{what}: {pin} is gone");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_costs_no_more_than_its_page_and_never_goes_unnoticed() {
    let files = Files::closed().await;
    let map = Map::of(&files);
    let place = Place::fast();
    let mut rng = Rng(SEED);
    let mut noticed = 0;
    let whole_head = (0..100 * 8).step_by(5);
    let anywhere = (0..400).map(|_| rng.below(files.database.len() * 8));
    let bits: Vec<usize> = whole_head.chain(anywhere).collect();
    for bit in bits {
        let mut database = files.database.clone();
        database[bit / 8] ^= 1 << (bit % 8);
        Files { database, log: Vec::new() }.put(&place);
        let what = format!("bit {} of byte {}", bit % 8, bit / 8);
        let (said, gone) = survives(&place, &what).await;
        noticed += u32::from(said);
        for pin in gone {
            assert!(map.lies_in(pin, bit / 8 / pages::PAGE), "{what}: {pin} is gone");
        }
    }
    assert!(noticed > 100, "{noticed}");
}

#[tokio::test]
async fn junk_in_place_of_a_page_costs_no_more_than_its_rows() {
    let files = Files::closed().await;
    let map = Map::of(&files);
    let place = Place::fast();
    let mut rng = Rng(SEED);
    for start in (0..files.database.len()).step_by(pages::PAGE) {
        for junk in [0, 0xff, 1] {
            let mut database = files.database.clone();
            for byte in &mut database[start..start + pages::PAGE] {
                *byte = if junk == 1 { rng.below(256) as u8 } else { junk };
            }
            Files { database, log: Vec::new() }.put(&place);
            let what = format!("junk at {start}");
            let (said, gone) = survives(&place, &what).await;
            assert!(said || gone.is_empty(), "{what}");
            for pin in gone {
                assert!(map.lies_in(pin, start / pages::PAGE), "{what}: {pin} is gone");
            }
        }
    }
}

#[tokio::test]
async fn a_file_of_something_else_is_set_aside() {
    let place = Place::fast();
    for bytes in [&b"SQLite format 3\0"[..], b"hello", &[0; 8192], &[0xff; 4096]] {
        Files { database: bytes.to_vec(), log: Vec::new() }.put(&place);
        let (said, gone) = survives(&place, "something else").await;
        assert!(said);
        assert_eq!(gone.len(), PINS as usize);
    }
    Files { database: Vec::new(), log: Vec::new() }.put(&place);
    let foreign = Connection::open(place.file()).unwrap();
    foreign.execute_batch("CREATE TABLE pins (x); INSERT INTO pins VALUES (1);").unwrap();
    drop(foreign);
    assert!(survives(&place, "another program").await.0);
}

#[tokio::test]
async fn events_are_read_out_of_a_damaged_file_too() {
    let place = Place::fast();
    let options = options();
    let events = options.events.clone();
    let (store, ..) = place.open_with(options).unwrap();
    for message in ["one", "two"] {
        events.tell(Event::new(Kind::Store, "down", Level::Error, message));
    }
    store.close().await;
    let messages = || {
        let rows = read_events(&place.path()).unwrap();
        read_rows(&rows).into_iter().map(|event| event.message).collect::<Vec<_>>()
    };
    assert_eq!(messages(), ["one", "two"]);
    // Its first page, which holds the schema and none of the rows.
    let mut bytes = fs::read(place.file()).unwrap();
    bytes[..pages::PAGE].fill(0xa5);
    fs::write(place.file(), bytes).unwrap();
    assert_eq!(messages(), ["one", "two"], "without a gateway");
    let (store, _, loaded) = place.open();
    assert!(!loaded.report.is_empty());
    store.close().await;
    assert_eq!(messages(), ["one", "two"], "in the new file");
}

#[tokio::test]
async fn of_a_log_cut_off_anywhere_every_commit_before_is_kept() {
    let files = Files::in_use().await;
    let place = Place::fast();
    files.put(&place);
    assert_eq!(survives(&place, "untouched").await, (false, vec![]));
    for length in (0..files.log.len()).step_by(1777) {
        let log = files.log[..length].to_vec();
        Files { database: files.database.clone(), log }.put(&place);
        // What was not written yet is not missed, so nothing has to be said.
        let (store, kept, _) = place.open();
        store.close().await;
        let newest = kept.pins.len() as u32;
        assert!(newest >= PINS / 2, "cut at {length}: {newest}");
        let expected = bound_first((0..newest).rev());
        assert_eq!(kept.pins, expected, "cut at {length}");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_does_not_take_what_follows() {
    let files = Files::in_use().await;
    let place = Place::fast();
    let mut rng = Rng(SEED);
    let head = (0..32 * 8).step_by(3);
    let frame_heads = (0..24 * 8).step_by(7).map(|bit| bit + (32 + 20 * (24 + pages::PAGE)) * 8);
    let anywhere = (0..200).map(|_| rng.below(files.log.len() * 8));
    let bits: Vec<usize> = head.chain(frame_heads).chain(anywhere).collect();
    let mut most = 0;
    for bit in bits {
        let mut log = files.log.clone();
        log[bit / 8] ^= 1 << (bit % 8);
        Files { database: files.database.clone(), log }.put(&place);
        let what = format!("bit {} of byte {} of the log", bit % 8, bit / 8);
        let (_, gone) = survives_log(&place, &what).await;
        most = most.max(gone);
    }
    // The last transaction cannot be told from one that was never finished.
    assert!(most <= 1, "{most} pins are gone");
}

/// As [`survives`], but a loss at the very end may go unnoticed.
async fn survives_log(place: &Place, what: &str) -> (bool, usize) {
    let (store, kept, loaded) = place.open_with(options()).unwrap_or_else(|error| {
        panic!("{what}: {error}");
    });
    store.close().await;
    for kept in &kept.pins {
        assert!((0..PINS).any(|n| pin(n) == *kept), "{what}: a wrong pin, {kept:?}");
    }
    let gone = PINS as usize - kept.pins.len();
    let said = !loaded.report.is_empty();
    assert!(said || gone <= 1, "{what}: {gone} pins are gone in silence");
    (said, gone)
}
