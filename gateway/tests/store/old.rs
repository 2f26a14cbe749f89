//! Files of earlier versions.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bits_gateway::sessions::store::{OnError, Record, Store, StoredPin, read_only};
use gateway_core::farm::AdminState;
use gateway_core::session::Subject;
use tempfile::TempDir;

use crate::child::{options, pin, tombstone};

/// A store made from a dump.
fn restore(dump: &str, directory: &Path) -> PathBuf {
    let path = directory.join("store");
    fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
    let file = path.join("sessions.db");
    let dump = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/store").join(dump);
    let sql = fs::read_to_string(dump).unwrap();
    rusqlite::Connection::open(&file).unwrap().execute_batch(&sql).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A database as SQL.
fn dump(file: &Path) -> rusqlite::Result<String> {
    let database = rusqlite::Connection::open(file)?;
    database.execute("UPDATE meta SET value = 0 WHERE name = 'probe'", [])?;
    let mut sql = String::new();
    for pragma in ["application_id", "user_version", "journal_mode"] {
        let value: rusqlite::types::Value =
            database.pragma_query_value(None, pragma, |row| row.get(0))?;
        let value = match value {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            other => format!("{other:?}").replace("Text(\"", "'").replace("\")", "'"),
        };
        sql += &format!("PRAGMA {pragma} = {value};\n");
    }
    let mut schema = database.prepare("SELECT type, name, sql FROM sqlite_schema")?;
    let mut entries = schema.query([])?;
    while let Some(entry) = entries.next()? {
        let (kind, name): (String, String) = (entry.get(0)?, entry.get(1)?);
        sql += &format!("{};\n", entry.get::<_, String>(2)?);
        if kind == "table" {
            let columns: Vec<String> = database
                .prepare(&format!(
                    "SELECT 'quote(' || name || ')' FROM pragma_table_info('{name}')"
                ))?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let select = format!("SELECT {} FROM {name}", columns.join(" || ', ' || "));
            for row in database.prepare(&select)?.query_map([], |row| row.get::<_, String>(0))? {
                sql += &format!("INSERT INTO {name} VALUES ({});\n", row?);
            }
        }
    }
    Ok(sql)
}

/// What every dump holds, whatever its version.
async fn reads_all_of(dump: &str, bound: &[StoredPin]) {
    let directory = TempDir::new().unwrap();
    let path = restore(dump, directory.path());
    // The second time it was written to by this version.
    for time in 0..2 {
        let (mut pins, mut tombstones, mut states) = (Vec::new(), Vec::new(), Vec::new());
        let opened = Store::open(&path, options(OnError::Refuse), &mut |record| {
            match record {
                Record::Pin(pin) => pins.push(pin.to_pin()),
                Record::Tombstone(tombstone) => tombstones.push(tombstone),
                Record::Backend(state) => states.push((state.backend, state.state, state.by)),
                Record::Progress(progress) => panic!("{progress:?} in an old file"),
                Record::Spelling(spelling) => panic!("{spelling:?} in an old file"),
                Record::Event(event) => panic!("{event:?} in an old file"),
            }
            true
        });
        let (store, loaded) = opened.unwrap();
        assert_eq!(loaded.report, Vec::<String>::new(), "{dump}, time {time}");
        store.close().await;
        let mut expected = bound.to_vec();
        expected.extend([own_id(3), pin(2), pin(1)]);
        assert_eq!(pins, expected, "{dump}");
        let read: Vec<_> = read_only(&path).unwrap().collect::<Result<_, _>>().unwrap();
        expected.reverse();
        assert_eq!(read, expected, "{dump}, by a command");
        assert_eq!(tombstones, [tombstone(0)], "{dump}");
        assert_eq!(states, [("up01".to_owned(), AdminState::Drain, "an operator".to_owned())]);
    }
}

#[tokio::test]
async fn a_file_of_version_1_is_read() {
    reads_all_of("version-1.sql", &[]).await;
}

#[tokio::test]
async fn a_file_of_version_1_with_bound_pins_is_read() {
    reads_all_of("version-1-bound.sql", &[bound(4)]).await;
}

#[test]
fn a_command_reads_a_file_without_bound_pins_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = restore("version-1.sql", directory.path());
    let read: Vec<_> = read_only(&path).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(read, [pin(1), pin(2), own_id(3)]);
}

fn own_id(n: u32) -> StoredPin {
    StoredPin { backend_session: Some(format!("{{own-{n}}}")), ..pin(n) }
}

fn bound(n: u32) -> StoredPin {
    StoredPin { subject: Some(Subject::new([0x5a; 16])), ..pin(n) }
}

/// What the dumps of the next version are made with.
#[tokio::test]
async fn the_dumps_of_this_version_are_what_this_version_writes() {
    writes("version-1.sql", &[]).await;
    writes("version-1-bound.sql", &[bound(4)]).await;
}

async fn writes(name: &str, bound: &[StoredPin]) {
    use bits_gateway::sessions::store::BackendState;
    use gateway_core::session::Timestamp;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let (store, _) = Store::open(&path, options(OnError::Refuse), &mut |_| true).unwrap();
    for pin in [pin(0), pin(1), pin(2), own_id(3)].iter().chain(bound) {
        store.pin(pin.clone()).await.unwrap();
    }
    let end = crate::child::key(0);
    store.end(&end, pin(0).created, Some(tombstone(0))).await.unwrap();
    let (state, by) = (AdminState::Drain, "an operator".to_owned());
    let state = BackendState { backend: "up01".into(), state, since: Timestamp(8), by };
    store.set_backend_state(state).await.unwrap();
    store.close().await;
    let dumped = dump(&path.join("sessions.db")).unwrap();
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/store").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&fixture, &dumped).unwrap();
    }
    assert_eq!(fs::read_to_string(&fixture).unwrap_or_default(), dumped, "{name}");
}
