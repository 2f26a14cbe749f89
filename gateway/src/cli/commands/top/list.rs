//! Which rows of a table are shown, in which order, and which of them is selected.

use std::cmp::{Ordering, Reverse};

use serde_json::Value as Json;

use super::columns::{Rank, Table};

/// Where somebody is in a table.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// What is wanted of the rows, or nothing.
    pub search: String,
    /// The column that counts for the order; none is the order of the gateway.
    pub sort: Option<usize>,
    pub is_reversed: bool,
    /// Of the rows that are shown, in their order: where they are in the answer of the gateway.
    pub order: Vec<usize>,
    /// The selected row among them.
    pub at: usize,
    /// Its name, by which it is found again when rows come, go and change places.
    selected: Option<String>,
    /// The first row on the screen, and how many there are.
    pub offset: usize,
    pub height: usize,
}

/// A way through the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

impl List {
    /// Takes over other rows, or the same in another order.
    pub fn take(&mut self, table: &Table, rows: &[Json], is_shown: impl Fn(&Json) -> bool) {
        self.order = order(table, rows, self.sort, self.is_reversed);
        self.order.retain(|row| is_shown(&rows[*row]));
        let names: Vec<&str> = self.order.iter().map(|row| (table.name)(&rows[*row])).collect();
        self.at = found_again(&names, self.selected.as_deref(), self.at);
        self.select(table, rows);
    }

    pub fn step(&mut self, step: Step, table: &Table, rows: &[Json]) {
        self.at = stepped(self.at, step, self.height, self.order.len());
        self.select(table, rows);
    }

    /// Makes room for so many rows on the screen.
    pub fn fit(&mut self, height: usize) {
        self.height = height;
        self.offset = scrolled(self.offset, self.at, height, self.order.len());
    }

    /// By the next column, and behind the last by none.
    pub fn sort_by_next(&mut self, columns: usize) {
        self.is_reversed = false;
        self.sort = match self.sort {
            None => Some(0),
            Some(last) if last + 1 >= columns => None,
            Some(column) => Some(column + 1),
        };
    }

    pub fn row<'r>(&self, rows: &'r [Json]) -> Option<&'r Json> {
        self.order.get(self.at).and_then(|row| rows.get(*row))
    }

    fn select(&mut self, table: &Table, rows: &[Json]) {
        self.selected = self.row(rows).map(|row| (table.name)(row).to_owned());
    }
}

/// The rows in the order of a column. Those of which it says nothing come last, either way round.
fn order(table: &Table, rows: &[Json], sort: Option<usize>, is_reversed: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let Some(column) = sort.and_then(|column| table.columns.get(column)) else {
        if is_reversed {
            order.reverse();
        }
        return order;
    };
    let ranks: Vec<Option<Rank>> = rows.iter().map(column.rank).collect();
    let compare = |one: &usize, other: &usize| match (&ranks[*one], &ranks[*other]) {
        (Some(one), Some(other)) if is_reversed => one.cmp(other).reverse(),
        (Some(one), Some(other)) => one.cmp(other),
        (None, None) => Ordering::Equal,
        (one, other) => Reverse(one.is_some()).cmp(&Reverse(other.is_some())),
    };
    order.sort_by(compare);
    order
}

/// Where the selected row is now; where it has gone, its place stays selected.
fn found_again(names: &[&str], selected: Option<&str>, before: usize) -> usize {
    let found = selected.and_then(|name| names.iter().position(|there| *there == name));
    found.unwrap_or_else(|| before.min(names.len().saturating_sub(1)))
}

fn stepped(at: usize, step: Step, height: usize, len: usize) -> usize {
    // A row of the page before stays in sight.
    let page = height.saturating_sub(1).max(1);
    let last = len.saturating_sub(1);
    match step {
        Step::Up => at.saturating_sub(1),
        Step::Down => (at + 1).min(last),
        Step::PageUp => at.saturating_sub(page),
        Step::PageDown => (at + page).min(last),
        Step::First => 0,
        Step::Last => last,
    }
}

/// The first row on the screen: as before, unless the selected one would be out of sight or room be
/// wasted.
fn scrolled(offset: usize, at: usize, height: usize, len: usize) -> usize {
    if height == 0 {
        return at;
    }
    let highest = (at + 1).saturating_sub(height);
    offset.min(len.saturating_sub(height)).clamp(highest, at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::columns::{BACKENDS, UPLOADS};
    use super::*;

    fn backends(rows: &[(&str, u64)]) -> Vec<Json> {
        rows.iter().map(|(name, sessions)| json!({ "name": name, "sessions": sessions })).collect()
    }

    fn column(table: &Table, title: &str) -> Option<usize> {
        let found = table.columns.iter().position(|column| column.title == title);
        assert!(found.is_some(), "{title}");
        found
    }

    fn shown<'r>(list: &List, rows: &'r [Json]) -> Vec<&'r str> {
        list.order.iter().map(|row| rows[*row]["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn rows_stand_as_the_gateway_has_them_until_a_column_is_chosen() {
        let rows = backends(&[("b", 1), ("c", 30), ("a", 7)]);
        let mut list = List::default();
        list.take(&BACKENDS, &rows, |_| true);
        assert_eq!(shown(&list, &rows), ["b", "c", "a"]);
        list.sort = column(&BACKENDS, "NAME");
        list.take(&BACKENDS, &rows, |_| true);
        assert_eq!(shown(&list, &rows), ["a", "b", "c"]);
        list.sort = column(&BACKENDS, "UPLOADS");
        list.take(&BACKENDS, &rows, |_| true);
        assert_eq!(shown(&list, &rows), ["c", "a", "b"], "most first");
        list.is_reversed = true;
        list.take(&BACKENDS, &rows, |_| true);
        assert_eq!(shown(&list, &rows), ["b", "a", "c"]);
        list.take(&BACKENDS, &rows, |row| row["name"] != "a");
        assert_eq!(shown(&list, &rows), ["b", "c"]);
    }

    #[test]
    fn what_is_unknown_comes_last_either_way_round() {
        let rows = [json!({}), json!({ "bytes_per_second": 1 }), json!({ "bytes_per_second": 2 })];
        let sort = column(&UPLOADS, "NOW");
        assert_eq!(order(&UPLOADS, &rows, sort, false), [2, 1, 0]);
        assert_eq!(order(&UPLOADS, &rows, sort, true), [1, 2, 0]);
    }

    #[test]
    fn the_columns_take_turns_and_none_is_one_of_them() {
        let mut list = List::default();
        let turns: Vec<Option<usize>> = (0..4)
            .map(|_| {
                list.sort_by_next(3);
                list.sort
            })
            .collect();
        assert_eq!(turns, [Some(0), Some(1), Some(2), None]);
    }

    #[test]
    fn the_selected_row_stays_selected_wherever_it_goes() {
        let mut list = List::default();
        let rows = backends(&[("a", 0), ("b", 0), ("c", 0)]);
        list.take(&BACKENDS, &rows, |_| true);
        list.step(Step::Down, &BACKENDS, &rows);
        assert_eq!(list.row(&rows).unwrap()["name"], "b");
        let rows = backends(&[("c", 0), ("a", 0), ("b", 0)]);
        list.take(&BACKENDS, &rows, |_| true);
        assert_eq!((list.at, &list.row(&rows).unwrap()["name"]), (2, &json!("b")));
        // It goes: what is in its place is selected from now on.
        let rows = backends(&[("c", 0), ("a", 0)]);
        list.take(&BACKENDS, &rows, |_| true);
        assert_eq!(list.row(&rows).unwrap()["name"], "a");
        list.take(&BACKENDS, &[], |_| true);
        assert_eq!((list.at, list.row(&[])), (0, None));
    }

    #[test]
    fn a_step_ends_at_the_ends() {
        let check = |at, step, to| assert_eq!(stepped(at, step, 10, 25), to, "{step:?} from {at}");
        check(0, Step::Up, 0);
        check(5, Step::Up, 4);
        check(24, Step::Down, 24);
        check(0, Step::PageDown, 9);
        check(20, Step::PageDown, 24);
        check(9, Step::PageUp, 0);
        check(3, Step::Last, 24);
        check(3, Step::First, 0);
        assert_eq!(stepped(0, Step::Last, 10, 0), 0);
        assert_eq!(stepped(0, Step::PageDown, 0, 5), 1, "however small the screen is");
    }

    #[test]
    fn the_selected_row_is_in_sight_and_no_room_is_wasted() {
        let check = |offset, at, height, len, to| {
            assert_eq!(scrolled(offset, at, height, len), to, "{offset} {at} {height} {len}");
        };
        check(0, 5, 10, 25, 0);
        check(0, 10, 10, 25, 1);
        check(20, 3, 10, 25, 3);
        check(20, 22, 10, 25, 15);
        check(5, 2, 10, 3, 0);
        check(0, 0, 10, 0, 0);
        check(3, 7, 0, 9, 7);
    }
}
