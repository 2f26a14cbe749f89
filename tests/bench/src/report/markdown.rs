//! Tables for people.

use std::fmt::Write;

use super::{Line, Table};
use crate::machine::Machine;
use crate::stats::Spread;

pub fn opening(machine: &Machine) -> String {
    let mut text = format!("# What a packet costs\n\n{machine}.\n");
    for peer in &machine.peers {
        let _ = writeln!(text, "- `{}`: {}", peer.name, peer.about);
    }
    text += "\nEach figure is the median of the rounds, with the lowest and the highest. \
             A ratio is taken in each round, to HAProxy with as many threads to the cheaper \
             floor (one thread), and to the same peer with one thread.\n";
    text
}

pub fn section(machine: &Machine, table: &Table<'_>, plot: &str) -> String {
    let (title, name) = (table.case.title, table.case.name);
    format!(
        "\n## {title}\n\n`--case {name}`\n\n{}\n![{title}]({plot})\n",
        self::table(machine, table)
    )
}

/// One case, with the name of the processor at its head.
pub fn table(machine: &Machine, table: &Table<'_>) -> String {
    let columns = table.case.load.figures();
    let mut text = format!("| {} |", machine.processor);
    for figure in columns {
        let _ = write!(text, " {} |", figure.title());
    }
    let compared = table.case.load.compared();
    for figure in compared {
        // Which of several is meant.
        let of = if compared.len() == 1 { String::new() } else { format!("{}: ", figure.title()) };
        let _ = write!(text, " {of}HAProxy = 1.00 | floor = 1.00 | one thread = 1.00 |");
    }
    text += "\n|---|";
    text += &"---:|".repeat(columns.len() + 3 * compared.len());
    text += "\n";
    for line in table.lines() {
        text += &row(&line);
    }
    text
}

fn row(line: &Line<'_>) -> String {
    let name = line.row.peer.name;
    if let Some(why) = &line.row.void {
        let blank = " |".repeat(line.spreads.len() - 1 + 3 * line.ratios.len());
        return format!("| {name} | **void**: {} |{blank}\n", why.replace(['|', '\n'], "; "));
    }
    let mut text = format!("| {name} |");
    for spread in &line.spreads {
        let _ = write!(text, " {} |", spread.map_or("-".to_owned(), |spread| show(spread, digits)));
    }
    let ratios = line.ratios.iter();
    for ratio in
        ratios.flat_map(|ratios| [ratios.to_haproxy, ratios.to_floor, ratios.to_one_thread])
    {
        let _ =
            write!(text, " {} |", ratio.map_or("-".to_owned(), |ratio| show(ratio, two_places)));
    }
    text + "\n"
}

pub fn show(spread: Spread, number: impl Fn(f64) -> String) -> String {
    let Spread { median, low, high } = spread;
    format!("{} ({} to {})", number(median), number(low), number(high))
}

pub fn two_places(number: f64) -> String {
    format!("{number:.2}")
}

/// Three digits that count.
pub fn digits(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}
