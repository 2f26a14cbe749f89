//! The table of the states of a packet on its way, in the head of `gateway/src/relay/mod.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::tree;

const TABLE: &str = "gateway/src/relay/mod.rs";

/// Events, and the name of the state.
const COLUMNS: usize = 10;

/// The cells of a row.
fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// What stands between two backticks at the end of a cell.
fn code(cell: &str) -> Option<&str> {
    let (_, code) = cell.strip_suffix('`')?.rsplit_once('`')?;
    Some(code)
}

#[test]
fn every_cell_of_the_states_of_a_packet_has_a_test() {
    let text = tree::read(TABLE);
    let head: Vec<_> =
        text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let rows: Vec<_> = head.iter().filter(|line| line.starts_with('|')).skip(2).collect();
    assert!(rows.len() >= 8, "{rows:?}");
    let mut used = BTreeSet::new();
    for row in rows {
        let cells = cells(row);
        assert_eq!(cells.len(), COLUMNS, "{row}");
        for cell in &cells[1..] {
            match code(cell) {
                Some(code) => _ = used.insert(code),
                None => assert_eq!(*cell, "-", "a cell without a test in {row}"),
            }
        }
    }
    let named = |line: &&str| {
        let (code, name) = line.strip_prefix('`')?.split_once("` ")?;
        Some((code.to_owned(), name.trim_end_matches([',', '.']).to_owned()))
    };
    let tests: BTreeMap<_, _> = head.iter().filter_map(named).collect();
    assert_eq!(used, tests.keys().map(String::as_str).collect());
    let sources: String = tree::ending(".rs").iter().map(|file| tree::read(file)).collect();
    for (code, name) in tests {
        assert!(sources.contains(&format!("fn {name}()")), "{code}: there is no {name}");
    }
}

#[test]
fn cells_are_read_as_their_writers_meant_them() {
    assert_eq!(cells("| a | b `x1` | - |"), ["a", "b `x1`", "-"]);
    assert_eq!(code("b `x1`"), Some("x1"));
    assert_eq!(code("-"), None);
}
