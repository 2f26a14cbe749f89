//! What was measured, for programs (JSON), for people (Markdown) and for the eye (SVG).

mod markdown;
mod plot;

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cases::Case;
use crate::figure::Figure;
use crate::machine::Machine;
use crate::peers::Peer;
use crate::run::Row;
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
    /// Of each figure that is compared.
    pub ratios: Vec<Ratios>,
}

#[derive(serde::Serialize)]
pub struct Ratios {
    pub of: Figure,
    /// To HAProxy with as many threads.
    pub to_haproxy: Option<Spread>,
    /// To the cheaper floor.
    pub to_floor: Option<Spread>,
    /// To the same peer with one thread.
    pub to_one_thread: Option<Spread>,
}

impl Table<'_> {
    pub fn lines(&self) -> Vec<Line<'_>> {
        self.rows.iter().map(|row| self.line(row)).collect()
    }

    fn line<'a>(&'a self, row: &'a Row) -> Line<'a> {
        let columns = self.case.load.figures();
        let compared = self.case.load.compared();
        Line {
            row,
            spreads: columns.iter().map(|figure| spread(row, *figure)).collect(),
            ratios: compared.iter().map(|figure| self.ratios(row, *figure)).collect(),
        }
    }

    fn ratios(&self, row: &Row, of: Figure) -> Ratios {
        let ratio = |base: Option<&Row>| Spread::of_ratios(&series(row, of), &series(base?, of));
        let Peer { name, threads, .. } = row.peer;
        let single = name.replace("-2", "-1");
        Ratios {
            of,
            to_haproxy: ratio(self.named(&format!("haproxy-{threads}"))),
            to_floor: ratio(self.floor(of)),
            to_one_thread: ratio(self.named(&single).filter(|_| threads == 2)),
        }
    }

    fn named(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.peer.name == name)
    }

    /// The one with the lower median.
    fn floor(&self, of: Figure) -> Option<&Row> {
        let floors = self.rows.iter().filter(|row| row.peer.is_floor());
        floors
            .filter_map(|row| Some((spread(row, of)?.median, row)))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, row)| row)
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
                "ratios": line.ratios,
                "rounds": line.row.rounds,
            })
        });
        json!({
            "case": self.case.name,
            "title": self.case.title,
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

fn spread(row: &Row, figure: Figure) -> Option<Spread> {
    Spread::of(series(row, figure).into_iter().flatten())
}

/// By rounds; nothing of a row that is void.
fn series(row: &Row, figure: Figure) -> Vec<Option<f64>> {
    if row.void.is_some() {
        return Vec::new();
    }
    row.rounds.iter().map(|round| round.get(&figure).copied()).collect()
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
