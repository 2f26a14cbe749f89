//! The columns of both tables.

use serde_json::Value as Json;

use crate::cli::commands::table::{plain_size, printable, span};
use crate::cli::commands::{backends, sessions};

/// A kind of rows.
pub struct Table {
    pub columns: &'static [Column],
    /// What stands in them.
    pub cells: fn(&Json) -> Vec<String>,
    /// What tells a row from the others.
    pub name: fn(&Json) -> &str,
}

pub struct Column {
    pub title: &'static str,
    pub look: Look,
    /// It is shown on screens of so many columns.
    pub from: usize,
    /// What its order goes by.
    pub rank: fn(&Json) -> Option<Rank>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// At most so wide.
    Left(usize),
    /// For numbers.
    Right,
    /// It gets the room that is left; of a long text the end is shown.
    Rest,
}

/// A place in an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Text(String),
    Least(u64),
    /// The largest number comes first.
    Most(std::cmp::Reverse<u64>),
}

pub const UPLOADS: Table = Table {
    columns: &[
        column("NOW", Look::Right, 0, |row| most(row["bytes_per_second"].as_u64())),
        column("DONE", Look::Right, 0, |row| most(sessions::percent(row))),
        column("LEFT", Look::Right, 0, |row| least(seconds_left(row))),
        column("IDLE", Look::Right, 0, |row| least(row["idle_seconds"].as_u64())),
        column("SIZE", Look::Right, 100, |row| most(row["total"].as_u64())),
        column("BACKEND", Look::Left(12), 0, |row| text(row, "backend")),
        column("CLIENT", Look::Left(15), 0, |row| text(row, "client")),
        column("REF", Look::Left(17), 120, |row| text(row, "ref")),
        column("AGENT", Look::Left(30), 160, |row| text(row, "user_agent")),
        column("PATH", Look::Rest, 0, |row| text(row, "path")),
    ],
    cells: |row| {
        let text = |name: &str| printable(row[name].as_str().unwrap_or("-"));
        let span_of = |seconds: Option<u64>| seconds.map_or("-".to_owned(), span);
        vec![
            sessions::now(row),
            sessions::done(row),
            span_of(seconds_left(row)),
            span_of(row["idle_seconds"].as_u64()),
            row["total"].as_u64().map_or("-".to_owned(), plain_size),
            text("backend"),
            text("client"),
            text("ref"),
            text("user_agent"),
            text("path"),
        ]
    },
    name: |row| row["ref"].as_str().unwrap_or_default(),
};

pub const BACKENDS: Table = Table {
    columns: &[
        column("NAME", Look::Left(16), 0, |row| text(row, "name")),
        column("STATE", Look::Left(11), 0, |row| text(row, "admin_state")),
        column("HEALTH", Look::Left(6), 0, |row| text(row, "health")),
        column("FOR", Look::Right, 0, |row| least(row["seconds_in_state"].as_u64())),
        column("W", Look::Right, 0, |row| most(row["weight"].as_u64())),
        column("UPLOADS", Look::Right, 0, |row| most(row["sessions"].as_u64())),
        column("NOW", Look::Right, 0, |row| most(row["requests_in_flight"].as_u64())),
        column("B/S", Look::Right, 0, |row| most(row["bytes_per_second"].as_u64())),
        column("ERR", Look::Right, 0, |row| most(row["errors"].as_u64())),
        column("PROBE", Look::Right, 0, |row| most(row["last_probe"]["milliseconds"].as_u64())),
        column("DOWN", Look::Right, 0, |row| most(row["down_seconds"].as_u64())),
        column("ADDRESS", Look::Left(24), 110, |row| text(row, "address")),
        column("REASON", Look::Rest, 110, |row| text(row, "health_reason")),
    ],
    cells: |row| {
        let mut cells: Vec<String> =
            backends::row(row).iter().map(|cell| printable(cell)).collect();
        cells.push(printable(row["address"].as_str().unwrap_or("-")));
        cells.push(printable(backends::reason(row).unwrap_or_default()));
        cells
    },
    name: |row| row["name"].as_str().unwrap_or_default(),
};

const fn column(
    title: &'static str,
    look: Look,
    from: usize,
    rank: fn(&Json) -> Option<Rank>,
) -> Column {
    Column { title, look, from, rank }
}

fn most(number: Option<u64>) -> Option<Rank> {
    number.map(|number| Rank::Most(std::cmp::Reverse(number)))
}

fn least(number: Option<u64>) -> Option<Rank> {
    number.map(Rank::Least)
}

fn text(row: &Json, name: &str) -> Option<Rank> {
    row[name].as_str().map(|text| Rank::Text(text.to_lowercase()))
}

/// Until all has come, if it goes on like this.
fn seconds_left(row: &Json) -> Option<u64> {
    let number = |name: &str| row[name].as_u64();
    let rate = number("bytes_per_second").filter(|rate| *rate > 0 && row["state"] == "active")?;
    Some(number("total")?.saturating_sub(number("bytes_received")?).div_ceil(rate))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_column_has_its_cell() {
        for table in [&UPLOADS, &BACKENDS] {
            assert_eq!((table.cells)(&json!({})).len(), table.columns.len());
        }
    }

    #[test]
    fn what_is_left_takes_as_long_as_the_rate_says() {
        let check = |state: &str, rate: Option<u64>, seconds: Option<u64>| {
            let row = json!({
                "state": state, "total": 1000, "bytes_received": 250, "bytes_per_second": rate,
            });
            assert_eq!(seconds_left(&row), seconds);
        };
        check("active", Some(100), Some(8));
        check("active", Some(0), None);
        check("active", None, None);
        check("waiting", Some(100), None);
        assert_eq!(seconds_left(&json!({ "state": "active", "bytes_per_second": 1 })), None);
    }
}
