//! One plot for each case: a bar for each peer up to its median, and a line from its lowest to its highest figure.

use std::fmt::Write;

use super::{Table, markdown};
use crate::machine::Machine;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
/// For the figure behind each bar.
const RIGHT: f64 = 190.0;
const TOP: f64 = 64.0;
const STEP: f64 = 26.0;

pub fn svg(machine: &Machine, table: &Table<'_>) -> String {
    let lines = table.lines();
    let figure = table.case.load.compared()[0];
    let column = table.case.load.figures().iter().position(|column| *column == figure);
    let column = column.expect("what is compared is in the table");
    let most = lines.iter().filter_map(|line| Some(line.spreads[column]?.high)).fold(0.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / most.max(f64::MIN_POSITIVE);
    let height = TOP + STEP * lines.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">{}: {}</text>\n\
         <text x=\"12\" y=\"44\" fill=\"#555\">{}</text>\n",
        escaped(table.case.title),
        escaped(figure.title()),
        escaped(&machine.processor)
    );
    for (number, line) in lines.iter().enumerate() {
        let top = TOP + STEP * number as f64;
        let base = top + 15.0;
        let name = escaped(line.row.peer.name);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{name}</text>",
            LEFT - 8.0
        );
        let Some(spread) = line.spreads[column] else {
            let what = if line.row.void.is_some() { "void" } else { "-" };
            let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{base}\" fill=\"#555\">{what}</text>");
            continue;
        };
        let at = |value: f64| LEFT + value * scale;
        let (colour, middle) = (colour(line.row.peer.name), top + 10.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"20\" fill=\"{colour}\"/>\n\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"black\" stroke-width=\"1.5\"/>",
            spread.median * scale,
            at(spread.low),
            at(spread.high)
        );
        let ratio = line.ratios[0].to_haproxy.map_or(String::new(), |ratio| {
            format!(", HAProxy x {}", markdown::two_places(ratio.median))
        });
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{base}\">{}{ratio}</text>",
            at(spread.high) + 8.0,
            markdown::digits(spread.median)
        );
    }
    svg + "</svg>\n"
}

fn colour(peer: &str) -> &'static str {
    match peer.split('-').next() {
        Some("gateway") => "#4c9f70",
        Some("haproxy") => "#6f8fc9",
        Some("nginx") => "#b48ac4",
        Some("floor") => "#c9b458",
        _ => "#aaaaaa",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
