//! The table of `docs/protocol.md` from rule to test.

use std::collections::BTreeMap;

use super::tree;

const DOCUMENT: &str = "docs/protocol.md";

const BEGIN: &str = "<!-- items -->\n";
const END: &str = "<!-- end of items -->";

/// Rules of what does not exist yet, or is checked elsewhere: they may have no test.
fn may_lack_a_test(item: u32) -> bool {
    matches!(item, 52 | 55 | 56 | 57 | 60 | 82..=86)
}

/// One test and the items that its doc comment names.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    test: String,
    items: Vec<u32>,
}

fn tests_in(module: &str, source: &str) -> Vec<Shown> {
    let shown = |(name, comment): (String, String)| Shown {
        test: format!("{module}::{name}"),
        items: items_in(&comment),
    };
    tree::tests_in(source).into_iter().map(shown).collect()
}

/// The numbers of `Item 1.` and `Items 1, 2.` in a text.
fn items_in(text: &str) -> Vec<u32> {
    let mut items = Vec::new();
    for start in ["Item ", "Items "] {
        for (at, _) in text.match_indices(start) {
            let rest = &text[at + start.len()..];
            let numbers: Option<Vec<u32>> = rest
                .split('.')
                .next()
                .map_or("", |list| list)
                .split(", ")
                .map(|n| n.parse().ok())
                .collect();
            items.extend(numbers.unwrap_or_default());
        }
    }
    items
}

/// By item, the tests that show it.
fn shown() -> BTreeMap<u32, Vec<String>> {
    let mut by_item: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for file in tree::ending(".rs") {
        let Some(path) = file.strip_prefix("tests/it/") else { continue };
        let module = path.trim_end_matches(".rs").replace('/', "::");
        for Shown { test, items } in tests_in(&module, &tree::read(&file)) {
            for item in items {
                by_item.entry(item).or_default().push(test.clone());
            }
        }
    }
    by_item
}

/// The document with its table as the tests have it.
fn written(document: &str, shown: &BTreeMap<u32, Vec<String>>) -> String {
    let (before, rest) = document.split_once(BEGIN).expect("the table begins");
    let (table, after) = rest.split_once(END).expect("the table ends");
    let mut lines: Vec<String> = Vec::new();
    for line in table.lines() {
        let cells: Vec<_> = line.split(" | ").collect();
        let number = cells[0].trim_start_matches("| ").parse::<u32>();
        lines.push(match number {
            Ok(number) => {
                let rule = cells.get(1).expect("each row has a rule").trim_end_matches(" |");
                let tests = shown.get(&number).map_or(&[][..], Vec::as_slice);
                let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
                let tests = match tests.is_empty() {
                    true => "-".to_owned(),
                    false => tests.join("<br>"),
                };
                format!("| {number} | {rule} | {tests} |")
            }
            Err(_) => line.to_owned(),
        });
    }
    format!("{before}{BEGIN}{}\n{END}{after}", lines.join("\n"))
}

/// The rows of the table, by number.
fn rows(document: &str) -> Vec<u32> {
    let table = document.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let (table, _) = table.expect("the table is there");
    let numbers =
        table.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok());
    numbers.collect()
}

#[test]
fn the_table_of_protocol_md_names_the_tests_that_there_are() {
    let document = tree::read(DOCUMENT);
    assert_eq!(rows(&document), (1..=100).collect::<Vec<_>>(), "a row for each item");
    let wanted = written(&document, &shown());
    tree::expect_document(DOCUMENT, &wanted);
}

#[test]
fn every_item_has_a_test() {
    let shown = shown();
    let lacking: Vec<_> =
        (1..=100).filter(|item| !may_lack_a_test(*item) && !shown.contains_key(item)).collect();
    assert!(lacking.is_empty(), "no test says `/// Item N.` for {lacking:?}");
    let unknown: Vec<_> = shown.keys().filter(|item| !(1..=100).contains(*item)).collect();
    assert!(unknown.is_empty(), "there are no items {unknown:?}");
}

#[test]
fn doc_comments_of_tests_are_read_as_their_writers_meant_them() {
    let source = "
        /// Item 17.
        #[test]
        fn one() {}

        /// Items 3, 40. More of it, Item 7 is meant elsewhere.
        #[test]
        #[track_caller]
        fn two() {}

        /// Item 9.
        fn helper() {}

        #[test]
        fn three() {}
    ";
    let shown =
        |test: &str, items: &[u32]| Shown { test: format!("m::{test}"), items: items.to_vec() };
    assert_eq!(
        tests_in("m", source),
        [shown("one", &[17]), shown("two", &[3, 40]), shown("three", &[])]
    );
    let document = format!(
        "a\n{BEGIN}| # | rule | tests |\n|---|---|---|\n| 17 | r. | |\n| 18 | s. | `old` |\n{END}\nb"
    );
    let by_item = BTreeMap::from([(17, vec!["m::one".to_owned(), "m::two".to_owned()])]);
    let expected = format!(
        "a\n{BEGIN}| # | rule | tests |\n|---|---|---|\n| 17 | r. | `m::one`<br>`m::two` |\n| 18 | s. | - |\n{END}\nb"
    );
    assert_eq!(written(&document, &by_item), expected);
    assert_eq!(written(&expected, &by_item), expected);
}
