//! The tables of odd requests in `docs/protocol.md`, as a reader of them understands each row.
//!
//! `bad_input::documented` sends their examples. Here is looked whether a row is missing, or names a test that is not
//! there.

use std::collections::BTreeSet;

use super::tree;

const DOCUMENT: &str = "docs/protocol.md";

const BEGIN: &str = "<!-- odd requests -->\n";
const END: &str = "<!-- end of odd requests -->";

pub struct Row {
    pub oddity: String,
    /// Keys of the configuration and their values.
    pub settings: Vec<(String, String)>,
    /// Requests as they go over the wire; none where more than one request makes the oddity.
    pub examples: Vec<Vec<u8>>,
    pub outcome: Outcome,
    tests: Vec<String>,
}

/// What is done with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With these lines in place of its own, if there are any.
    Served(Vec<String>),
    /// It reaches the server without these fields.
    Dropped(Vec<String>),
    /// By the gateway itself, with that status.
    Answered(u16),
    /// With that status, by the rules or for the reasons with these names.
    Refused(Option<u16>, Vec<String>),
}

pub fn rows() -> Vec<Row> {
    section(&tree::read(DOCUMENT)).lines().filter_map(row).collect()
}

fn section(document: &str) -> String {
    let section = document.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    section.expect("the tables are there").0.to_owned()
}

/// `None` for a line that is no row with a rule.
fn row(line: &str) -> Option<Row> {
    let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let cells: Vec<&str> = line.split(" | ").collect();
    let [oddity, example, outcome, _, tests] = cells[..] else { panic!("five cells: {line}") };
    if oddity == "oddity" {
        return None;
    }
    let settings = codes(oddity).filter_map(|code| code.split_once(" = "));
    Some(Row {
        oddity: oddity.to_owned(),
        settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        examples: if example == "-" { Vec::new() } else { examples(example) },
        outcome: self::outcome(outcome),
        tests: codes(tests).map(str::to_owned).collect(),
    })
}

/// The texts in backticks.
fn codes(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn examples(cell: &str) -> Vec<Vec<u8>> {
    let of = |example: &str| {
        let mut bytes = Vec::new();
        for (at, text) in example.split('`').enumerate() {
            match (at % 2, text) {
                (1, line) => bytes.extend(unescaped(line)),
                (_, "") => {}
                (_, "<br>") => bytes.extend(b"\r\n"),
                (_, "<br><br>") => bytes.extend(b"\r\n\r\n"),
                _ => panic!("{text:?} between two lines of {cell}"),
            }
        }
        [&bytes[..], b"\r\n\r\n"].concat()
    };
    cell.split("<br>or<br>").map(of).collect()
}

/// Latin-1 with the escapes that the document explains.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match next {
            '\\' => {
                let (escape, after) = rest.split_at(1);
                rest = after;
                bytes.push(match escape {
                    "r" => b'\r',
                    "n" => b'\n',
                    "t" => b'\t',
                    "0" => 0,
                    "\\" | "|" => escape.as_bytes()[0],
                    "x" => {
                        let (digits, after) = rest.split_at(2);
                        rest = after;
                        u8::from_str_radix(digits, 16).expect("two digits")
                    }
                    _ => panic!("\\{escape} in {text}"),
                });
            }
            '×' => {
                let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                let count = rest[..end].parse().expect("a number");
                rest = &rest[end..];
                let repeated = match bytes.pop().expect("something to repeat") {
                    b']' => {
                        let open = bytes.iter().rposition(|byte| *byte == b'[').expect("a group");
                        bytes.split_off(open).split_off(1)
                    }
                    byte => vec![byte],
                };
                bytes.extend(repeated.repeat(count));
            }
            _ => bytes.push(u8::try_from(u32::from(next)).expect("Latin-1")),
        }
    }
    bytes
}

fn outcome(cell: &str) -> Outcome {
    let said = cell.split(';').next().unwrap_or_default();
    let named = || codes(said).map(str::to_owned).collect();
    let status = said.split([' ', ',']).find_map(|word| word.parse().ok());
    match said.split([' ', ':']).next() {
        Some("served") => Outcome::Served(named()),
        Some("dropped") => Outcome::Dropped(named()),
        Some("answered") => Outcome::Answered(status.expect("a status")),
        Some("refused") => Outcome::Refused(status, named()),
        _ => panic!("what is done: {cell}"),
    }
}

/// The names of rules in a source file.
fn labels(path: &str) -> Vec<String> {
    let source = tree::read(path);
    let arms = source.lines().filter(|line| line.trim_start().starts_with("Self::"));
    let labels = arms.filter_map(|arm| arm.split_once("=> \"")?.1.split('"').next());
    labels.map(str::to_owned).collect()
}

/// The texts of a list of constants in a source file.
fn listed(path: &str, name: &str) -> Vec<String> {
    let source = tree::read(path);
    let (_, list) = source.split_once(&format!("const {name}: ")).expect("the list is there");
    let (_, list) = list.split_once(" = [").expect("it begins");
    let (list, _) = list.split_once(']').expect("it ends");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names of a list of fields in a source file.
fn fields_listed(path: &str, name: &str) -> Vec<String> {
    let source = tree::read(path);
    let (_, list) = source.split_once(&format!("static {name}: ")).expect("the list is there");
    let (_, list) = list.split_once(" = [").expect("it begins");
    let (list, _) = list.split_once(']').expect("it ends");
    let known = tree::read("gateway/core/src/protocol/headers.rs");
    let fields = list.split(',').filter_map(|field| field.trim().rsplit(['&', ':']).next());
    let fields = fields.filter(|field| !field.is_empty());
    let name_of = |field: &str| {
        let (_, rest) = known.split_once(&format!(" {field} = \"")).expect("it is defined");
        rest.split('"').next().expect("its name").to_owned()
    };
    fields.map(name_of).collect()
}

#[test]
fn every_rule_has_a_row() {
    let rows = rows();
    let refused: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| match &row.outcome {
            Outcome::Refused(_, names) => Some(names),
            _ => None,
        })
        .flatten()
        .collect();
    let sources = [
        ("gateway/core/src/protocol/head/mod.rs", 20),
        ("gateway/core/src/protocol/chunked.rs", 5),
        ("gateway/src/telemetry/metrics/rejection.rs", 9),
    ];
    for (path, count) in sources {
        let labels = labels(path);
        assert_eq!(labels.len(), count, "{path}: {labels:?}");
        for label in labels {
            // The sum of the rules for sizes.
            let known = refused.contains(&label) || label == "header_limit";
            assert!(known, "no row is refused by `{label}` of {path}");
        }
    }
}

#[test]
fn every_name_of_the_check_has_a_row() {
    let section = section(&tree::read(DOCUMENT)).to_ascii_lowercase();
    let (fields, hop, known) = (
        "gateway/core/src/protocol/head/fields.rs",
        "gateway/core/src/protocol/head/hop_by_hop.rs",
        "gateway/core/src/protocol/headers.rs",
    );
    for (list, names) in [
        ("ONCE", fields_listed(fields, "ONCE")),
        ("METHOD_OVERRIDES", fields_listed(known, "METHOD_OVERRIDES")),
        ("PROTECTED", listed(fields, "PROTECTED")),
        ("HOP_BY_HOP", listed(hop, "HOP_BY_HOP")),
        ("PROTECTED_STARTS", listed(hop, "PROTECTED_STARTS")),
        ("PROTECTED_NAMES", listed(hop, "PROTECTED_NAMES")),
    ] {
        assert!(names.len() >= 2, "{list}: {names:?}");
        for name in names {
            assert!(section.contains(&format!("`{name}")), "no row has `{name}` of {list}");
        }
    }
}

#[test]
fn every_row_names_tests_that_there_are() {
    let mut known = BTreeSet::new();
    for file in tree::ending(".rs") {
        let Some(path) = file.strip_prefix("tests/it/") else { continue };
        let module = path.trim_end_matches(".rs").replace('/', "::");
        let tests = tree::tests_in(&tree::read(&file));
        known.extend(tests.into_iter().map(|(name, _)| format!("{module}::{name}")));
        known.insert(module);
    }
    let rows = rows();
    assert!(rows.len() > 60, "{} rows", rows.len());
    for row in rows {
        assert!(!row.tests.is_empty(), "no test shows {}", row.oddity);
        for test in row.tests {
            assert!(known.contains(&test), "there is no test {test}: {}", row.oddity);
        }
    }
}

#[test]
fn a_row_is_read_as_its_writer_meant_it() {
    let line = "| odd with `a.b = \"c\"` | `GET /\\|\\\\ HTTP/1.1`<br>`[x\\t]×2y×3: \\xE9`<br><br>`z`<br>or<br>` a` | \
                refused: 400 `one`; not `two` | why | `m::test`<br>`n` |";
    let row = row(line).expect("a row");
    assert_eq!(row.settings, [("a.b".to_owned(), "\"c\"".to_owned())]);
    let request = b"GET /|\\ HTTP/1.1\r\nx\tx\tyyy: \xe9\r\n\r\nz\r\n\r\n";
    assert_eq!(row.examples, [request.to_vec(), b" a\r\n\r\n".to_vec()]);
    assert_eq!(row.outcome, Outcome::Refused(Some(400), vec!["one".to_owned()]));
    assert_eq!(row.tests, ["m::test", "n"]);
    for (cell, expected) in [
        ("served", Outcome::Served(vec![])),
        ("served as `a`<br>`b`; c", Outcome::Served(vec!["a".to_owned(), "b".to_owned()])),
        ("dropped: `a`", Outcome::Dropped(vec!["a".to_owned()])),
        ("answered: 200", Outcome::Answered(200)),
        ("refused: `a`", Outcome::Refused(None, vec!["a".to_owned()])),
    ] {
        assert_eq!(outcome(cell), expected, "{cell}");
    }
}
