//! The table of `docs/faults.md` from fault to test.

use std::collections::BTreeMap;

use super::tree;

const DOCUMENT: &str = "docs/faults.md";

const BEGIN: &str = "<!-- faults -->\n";
const END: &str = "<!-- end of faults -->";

/// What a doc comment of a test says before the names of its rows; in pieces, or this file would say it.
fn mark() -> String {
    ["/// Fault", ": "].concat()
}

/// By fault, the tests that show it: `module::name` of the end-to-end tests, `path: name` of others.
fn shown() -> BTreeMap<String, Vec<String>> {
    let mut by_fault: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in tree::ending(".rs") {
        let place = match file.strip_prefix("tests/it/") {
            Some(path) => format!("{}::", path.trim_end_matches(".rs").replace('/', "::")),
            None => format!("{file}: "),
        };
        for (fault, test) in faults_in(&tree::read(&file)) {
            by_fault.entry(fault).or_default().push(format!("{place}{test}"));
        }
    }
    by_fault
}

/// Fault and test, for each doc comment that names a fault and each test behind one.
fn faults_in(source: &str) -> Vec<(String, String)> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for line in source.lines().map(str::trim) {
        if let Some(fault) = line.strip_prefix(&mark()) {
            faults.push(fault.trim_end_matches('.').to_owned());
        } else if let Some((_, rest)) = line.split_once("fn ") {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            found.extend(faults.drain(..).map(|fault| (fault, name.to_owned())));
        }
    }
    assert!(faults.is_empty(), "no test follows {faults:?}");
    found
}

/// The document with its table as the tests have it.
fn written(document: &str, shown: &BTreeMap<String, Vec<String>>) -> String {
    let (before, rest) = document.split_once(BEGIN).expect("the table begins");
    let (table, after) = rest.split_once(END).expect("the table ends");
    let line = |line: &str| {
        let mut cells: Vec<_> = line.split(" | ").collect();
        let fault = cells[0].trim_start_matches("| ");
        let Some(tests) = shown.get(fault) else { return line.to_owned() };
        let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
        let tests = format!("{} |", tests.join("<br>"));
        *cells.last_mut().expect("a row has cells") = &tests;
        cells.join(" | ")
    };
    let lines: Vec<_> = table.lines().map(line).collect();
    format!("{before}{BEGIN}{}\n{END}{after}", lines.join("\n"))
}

/// The faults of the table, in its order.
fn rows(document: &str) -> Vec<&str> {
    let table = document.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let (table, _) = table.expect("the table is there");
    let cells =
        table.lines().skip(2).filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.collect()
}

#[test]
fn every_fault_has_a_test_and_its_row_names_it() {
    let document = tree::read(DOCUMENT);
    let shown = shown();
    let rows = rows(&document);
    let lacking: Vec<_> = rows.iter().filter(|row| !shown.contains_key(**row)).collect();
    assert!(lacking.is_empty(), "no test says that it shows {lacking:?}");
    let unknown: Vec<_> = shown.keys().filter(|fault| !rows.contains(&fault.as_str())).collect();
    assert!(unknown.is_empty(), "{DOCUMENT} has no rows {unknown:?}");
    let wanted = written(&document, &shown);
    tree::expect_document(DOCUMENT, &wanted);
}

#[test]
fn doc_comments_are_read_as_their_writers_meant_them() {
    let mark = mark();
    let source = format!(
        "{mark}it breaks.\n#[test]\nfn one() {{}}\n\n/// More.\n{mark}it breaks.\n{mark}it burns.\n\
        #[tokio::test]\nasync fn two() {{}}\nfn three() {{}}\n"
    );
    let found = [("it breaks", "one"), ("it breaks", "two"), ("it burns", "two")];
    let found: Vec<_> = found.map(|(f, t)| (f.to_owned(), t.to_owned())).into();
    assert_eq!(faults_in(&source), found);
    let document = format!(
        "a\n{BEGIN}| fault | restarts | tests |\n|---|---|---|\n| it breaks | 0 | |\n{END}\nb"
    );
    assert_eq!(rows(&document), ["it breaks"]);
    let by_fault = BTreeMap::from([("it breaks".to_owned(), vec!["m::one".to_owned()])]);
    let expected = document.replace("| 0 | |", "| 0 | `m::one` |");
    assert_eq!(written(&document, &by_fault), expected);
    assert_eq!(written(&expected, &by_fault), expected);
}
