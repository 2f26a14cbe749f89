//! How old tombstones are, by the time for which gateways have run.
//!
//! Not by the clock on the wall: one that is years ahead when a gateway starts would take every end
//! for long past. And no other clock survives a restart. So the file counts for how long gateways
//! have had it open, and marks the tombstones that were there when it began to count. Once the count
//! has come to the time that ends are remembered, the marked ones go, and it begins again. So a
//! tombstone stays for that time at least, and for twice that time at most, and while no gateway runs
//! it does not age.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

/// Tombstones removed in one transaction.
const AT_ONCE: i64 = 4096;

/// The last row that was there when the count began.
const MARKED: &str = "marked tombstones";
/// The same, once they are to go.
const OLD: &str = "old tombstones";
/// Milliseconds for which gateways have run since.
const COUNTED: &str = "age of marked tombstones";

/// More than any count; what is beyond is damage.
const LARGEST: i64 = 1 << 60;

/// Counts on. `Ok(true)`: there are old tombstones to expire.
pub fn age(connection: &Connection, ran: Duration, keep: Duration) -> rusqlite::Result<bool> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(row) FROM tombstones")?
        .query_row([], |row| row.get(0))?;
    // A file without tombstones is not written to.
    let Some(last) = last else { return Ok(false) };
    let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(LARGEST);
    let Some(marked) = noted(connection, MARKED)? else {
        note(connection, MARKED, last)?;
        note(connection, COUNTED, 0)?;
        return Ok(false);
    };
    let counted = noted(connection, COUNTED)?.unwrap_or(0).saturating_add(milliseconds(ran));
    if counted < milliseconds(keep) {
        note(connection, COUNTED, counted)?;
        return Ok(false);
    }
    note(connection, OLD, marked)?;
    note(connection, MARKED, last)?;
    note(connection, COUNTED, 0)?;
    expire(connection)
}

/// Removes some of the old ones. `Ok(true)`: there are more.
pub fn expire(connection: &Connection) -> rusqlite::Result<bool> {
    let Some(old) = noted(connection, OLD)? else { return Ok(false) };
    let removed = connection
        .prepare_cached(
            "DELETE FROM tombstones WHERE row IN \
             (SELECT row FROM tombstones WHERE row <= ?1 ORDER BY row LIMIT ?2)",
        )?
        .execute([old, AT_ONCE])?;
    Ok(removed as i64 == AT_ONCE)
}

fn noted(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let noted: Option<i64> = connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(noted.filter(|value| (0..LARGEST).contains(value)))
}

fn note(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    let changed = connection
        .prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?
        .execute(params![name, value])?;
    if changed == 0 {
        connection
            .prepare_cached("INSERT INTO meta (name, value) VALUES (?1, ?2)")?
            .execute(params![name, value])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gateway_core::session::{TargetHash, Timestamp};

    use super::*;
    use crate::sessions::store::database::insert_tombstone;
    use crate::sessions::store::record::{EndKind, Tombstone};
    use crate::sessions::store::schema;

    const KEEP: Duration = Duration::from_secs(100);

    struct File(Connection, i64);

    impl File {
        fn new() -> Self {
            let connection = Connection::open_in_memory().expect("a database");
            schema::create(&connection).expect("made");
            Self(connection, 0)
        }

        fn end(&mut self, count: i64) {
            for _ in 0..count {
                self.1 += 1;
                let tombstone = Tombstone {
                    id: format!("s{}", self.1),
                    kind: EndKind::Close,
                    backend: "up01".into(),
                    target: TargetHash(1),
                    status: 200,
                    // Whatever the clock on the wall says.
                    ended: Timestamp(if self.1 % 2 == 0 { 5 } else { u64::MAX / 2 }),
                };
                insert_tombstone(&self.0, self.1, &tombstone).expect("stored");
            }
        }

        fn run(&self, seconds: u64) {
            let mut more = age(&self.0, Duration::from_secs(seconds), KEEP).expect("counted");
            while more {
                more = expire(&self.0).expect("removed");
            }
        }

        #[track_caller]
        fn holds(&self, count: i64) {
            let sql = "SELECT count(*) FROM tombstones";
            let there = self.0.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("counted");
            assert_eq!(there, count);
        }
    }

    #[test]
    fn a_tombstone_stays_for_the_time_to_twice_the_time() {
        let mut file = File::new();
        file.end(2);
        file.run(60);
        file.end(3);
        for _ in 0..9 {
            file.run(11);
            file.holds(5);
        }
        file.run(1);
        file.holds(3);
        file.run(99);
        file.holds(3);
        file.run(1);
        file.holds(0);
    }

    #[test]
    fn many_go_in_steps() {
        let mut file = File::new();
        file.end(2 * AT_ONCE + 10);
        file.run(1);
        file.run(100);
        file.holds(0);
    }

    #[test]
    fn a_file_without_tombstones_is_not_written() {
        let file = File::new();
        let before = file.0.total_changes();
        file.run(1000);
        assert_eq!(file.0.total_changes(), before);
    }

    #[test]
    fn a_damaged_count_costs_none_before_its_time() {
        let mut file = File::new();
        file.end(2);
        file.run(1);
        for value in [i64::MAX, -1] {
            file.0
                .execute("UPDATE meta SET value = ?1 WHERE name = ?2", params![value, COUNTED])
                .expect("damaged");
            file.run(99);
            file.holds(2);
        }
    }
}
