//! Tables, sizes and durations for people.

use bytesize::ByteSize;

/// What a terminal has at least.
const WIDTH: usize = 80;

/// Between two columns.
const GAP: usize = 2;

/// The narrowest that a column is cut to.
const NARROWEST: usize = 8;

/// How a column looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Text that may be cut where the table would be too wide.
    Cut(&'static str),
    /// The same for text whose end says more than its beginning.
    Tail(&'static str),
    Left(&'static str),
    /// For numbers.
    Right(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Self::Cut(title) | Self::Tail(title) | Self::Left(title) | Self::Right(title) => title,
        }
    }
}

/// Lines of at most 80 characters, with the titles first.
pub fn table<const N: usize>(columns: [Column; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let mut widths = columns.map(|column| column.title().len());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    while widths.iter().sum::<usize>() + GAP * (N - 1) > WIDTH {
        let cut = (0..N).filter(|at| matches!(columns[*at], Column::Cut(_) | Column::Tail(_)));
        match cut.max_by_key(|at| widths[*at]) {
            Some(widest) if widths[widest] > NARROWEST => widths[widest] -= 1,
            _ => break,
        }
    }
    let titles = columns.map(|column| column.title().to_owned());
    let line = |row: &[String; N]| {
        let cells: Vec<String> = (0..N)
            .map(|at| {
                let width = widths[at];
                let cell = match columns[at] {
                    Column::Tail(_) => cut_beginning(&row[at], width),
                    _ => cut(&row[at], width),
                };
                match columns[at] {
                    Column::Right(_) => format!("{cell:>width$}"),
                    _ => format!("{cell:<width$}"),
                }
            })
            .collect();
        format!("{}\n", cells.join(&" ".repeat(GAP)).trim_end())
    };
    std::iter::once(&titles).chain(&rows).map(line).collect()
}

/// Names and values, one pair a line.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("  {name:width$}  {}\n", printable(value));
    pairs.iter().map(line).collect()
}

/// "1.2 GiB".
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// "1.2M", "512": as short as it gets, for a column whose title says of what.
pub fn plain_size(bytes: u64) -> String {
    let text = ByteSize(bytes).to_string();
    match text.split_once(' ') {
        Some((number, "B")) => number.to_owned(),
        Some((number, unit)) => format!("{number}{}", &unit[..1]),
        None => text,
    }
}

pub use crate::base::spans::span;

/// "1 upload", "2 uploads".
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Nothing that could steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// At most so wide, with the beginning.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

/// At most so wide, with the end.
pub fn cut_beginning(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(count + 1 - width).collect();
    format!("\u{2026}{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), "100".to_owned()]];
        let text = table([Column::Left("NAME"), Column::Right("COUNT")], &rows);
        assert_eq!(text, "NAME  COUNT\na         1\nlong    100\n");
    }

    #[test]
    fn a_table_is_cut_to_80_columns() {
        let row = ["n".repeat(63), "x".repeat(20), "a".repeat(70)];
        let columns = [Column::Cut("NAME"), Column::Left("FIXED"), Column::Cut("ADDRESS")];
        let text = table(columns, &[row]);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains(&"x".repeat(20)) && text.contains('\u{2026}'), "{text}");
    }

    #[test]
    fn of_a_path_the_end_stays() {
        let row = ["n".repeat(70), "/in/2026/report.cab".to_owned()];
        let text = table([Column::Left("NAME"), Column::Tail("PATH")], &[row]);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.ends_with("n  \u{2026}ort.cab\n"), "{text}");
        assert!(text.starts_with("NAME"), "{text}");
    }

    #[test]
    fn a_terminal_is_not_steered() {
        let text = table([Column::Left("A")], &[["\u{1b}[2J".to_owned()]]);
        assert_eq!(text, "A\n\u{fffd}[2J\n");
        assert_eq!(pairs(&[("a", "\r\n".to_owned())]), "  a  \u{fffd}\u{fffd}\n");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (119, "1m"),
            (3600, "1h"),
            (3660, "1h 1m"),
            (86_400, "1d"),
            (90_000, "1d 1h"),
            (86_400 + 3599, "1d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
