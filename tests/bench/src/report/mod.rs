//! What was measured, for programs (JSON), for people (Markdown) and for the eye (SVG).

mod markdown;
mod plot;

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cases::Case;
use crate::machine::Machine;
use crate::run::{Figure, Row};
use crate::stats::Spread;

pub use markdown::table;

/// One case.
pub struct Table<'a> {
    pub case: &'a Case,
    pub rows: Vec<Row>,
}

/// The figures of one row that count.
pub struct Line<'a> {
    pub row: &'a Row,
    /// In the order of the columns.
    pub spreads: Vec<Option<Spread>>,
    /// Of the first column, to HAProxy with as many threads and to the cheaper floor.
    pub to_haproxy: Option<Spread>,
    pub to_floor: Option<Spread>,
}

impl Table<'_> {
    pub fn lines(&self) -> Vec<Line<'_>> {
        let columns = self.case.load.figures();
        let floor = self.floor();
        let line = |row| {
            let figures = self.series(row, columns[0]);
            let ratio =
                |base: Option<&Row>| Spread::of_ratios(&figures, &self.series(base?, columns[0]));
            Line {
                row,
                spreads: columns
                    .iter()
                    .map(|figure| Spread::of(self.series(row, *figure).into_iter().flatten()))
                    .collect(),
                to_haproxy: ratio(self.named(&format!("haproxy-{}", row.peer.threads))),
                to_floor: ratio(floor),
            }
        };
        self.rows.iter().map(line).collect()
    }

    fn named(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.peer.name == name)
    }

    /// The one with the lower median.
    fn floor(&self) -> Option<&Row> {
        let first = self.case.load.figures()[0];
        let median =
            |row: &Row| Some(Spread::of(self.series(row, first).into_iter().flatten())?.median);
        let floors = self.rows.iter().filter(|row| row.peer.is_floor());
        floors
            .filter_map(|row| Some((median(row)?, row)))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, row)| row)
    }

    /// By rounds; nothing of a row that is void.
    fn series(&self, row: &Row, figure: Figure) -> Vec<Option<f64>> {
        if row.void.is_some() {
            return Vec::new();
        }
        row.rounds.iter().map(|round| round.get(&figure).copied()).collect()
    }

    fn json(&self) -> Value {
        let columns = self.case.load.figures();
        let lines = self.lines();
        let rows = lines.iter().map(|line| {
            let figures = columns.iter().zip(&line.spreads);
            let figures: serde_json::Map<_, _> = figures
                .filter_map(|(figure, spread)| Some((figure.key(), json!((*spread)?))))
                .collect();
            json!({
                "peer": line.row.peer.name,
                "threads": line.row.peer.threads,
                "void": line.row.void,
                "figures": figures,
                "to_haproxy": line.to_haproxy,
                "to_floor": line.to_floor,
                "rounds": line.row.rounds,
            })
        });
        json!({
            "case": self.case.name,
            "title": self.case.title,
            "ratios_of": columns[0].key(),
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

/// `results.json`, `results.md` and a plot of each case.
pub fn write(directory: &Path, machine: &Machine, tables: &[Table<'_>]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let cases: Vec<_> = tables.iter().map(Table::json).collect();
    let json = json!({ "machine": machine, "cases": cases });
    std::fs::write(directory.join("results.json"), format!("{json:#}\n"))?;
    let mut text = markdown::opening(machine);
    for table in tables {
        let name = format!("{}.svg", table.case.name);
        text += &markdown::section(machine, table, &name);
        std::fs::write(directory.join(name), plot::svg(machine, table))?;
    }
    std::fs::write(directory.join("results.md"), text)
}
