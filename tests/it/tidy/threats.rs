//! The threat model against the tests that prove it: `/// Threat: T5.` on a test enters it in `docs/threat-model.md`.

use std::collections::BTreeMap;

use super::tree;

const DOCUMENT: &str = "docs/threat-model.md";

/// Begins the line of a threat that this module writes.
const TESTS: &str = "Tests: ";

const THREATS: std::ops::RangeInclusive<u32> = 1..=22;

/// The threats that a doc comment names.
fn threats_in(comment: &str) -> Vec<u32> {
    let named = comment.split("Threat: T").skip(1);
    named.filter_map(|rest| rest.split(['.', ' ', ',']).next()?.parse().ok()).collect()
}

/// By threat, the tests that prove it, by file and name.
fn shown() -> BTreeMap<u32, Vec<String>> {
    let mut by_threat: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for file in tree::ending(".rs") {
        for (test, comment) in tree::tests_in(&tree::read(&file)) {
            for threat in threats_in(&comment) {
                by_threat.entry(threat).or_default().push(format!("`{test}` ({file})"));
            }
        }
    }
    by_threat
}

/// The number of a heading `### T5: ...`.
fn heading(line: &str) -> Option<u32> {
    line.strip_prefix("### T")?.split(':').next()?.parse().ok()
}

/// The document with its tests as they are.
fn written(document: &str, shown: &BTreeMap<u32, Vec<String>>) -> String {
    let mut threat = None;
    let mut text = String::new();
    for line in document.lines() {
        threat = heading(line).or(threat);
        let tests = threat.and_then(|threat| shown.get(&threat)).map(|tests| tests.join(", "));
        match line.starts_with(TESTS) {
            true => text += &format!("{TESTS}{}.", tests.as_deref().unwrap_or("none yet")),
            false => text += line,
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_threat_model_names_the_tests_that_there_are() {
    let document = tree::read(DOCUMENT);
    let headings: Vec<_> = document.lines().filter_map(heading).collect();
    assert_eq!(headings, THREATS.collect::<Vec<_>>(), "a section for each threat");
    let lines = document.lines().filter(|line| line.starts_with(TESTS)).count();
    assert_eq!(lines, headings.len(), "a line of tests in each section");
    let wanted = written(&document, &shown());
    tree::expect_document(DOCUMENT, &wanted);
}

#[test]
fn every_threat_has_a_test_named_after_it() {
    let shown = shown();
    let named_after = |threat: &u32| {
        let begin = format!("`t{threat}_");
        shown.get(threat).is_some_and(|tests| tests.iter().any(|test| test.starts_with(&begin)))
    };
    let lacking: Vec<_> = THREATS.filter(|threat| !named_after(threat)).collect();
    assert!(lacking.is_empty(), "no test `tN_...` says `/// Threat: TN.` for {lacking:?}");
    let unknown: Vec<_> = shown.keys().filter(|threat| !THREATS.contains(*threat)).collect();
    assert!(unknown.is_empty(), "there are no threats {unknown:?}");
}

/// Threat: T20.
#[test]
fn t20_only_locked_and_checked_dependencies_are_built() {
    let policy = tree::read("deny.toml");
    for rule in ["unknown-registry = \"deny\"", "unknown-git = \"deny\"", "wildcards = \"deny\""] {
        assert!(policy.contains(rule), "{rule}");
    }
    let run = tree::read("tests/run");
    for check in ["check licenses bans sources", "check advisories"] {
        assert!(run.contains(check), "tests/run does not {check}");
    }
    let builds = run.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let unlocked: Vec<_> = builds
        .filter(|line| {
            ["cargo build", "cargo clippy", "cargo doc", "cargo test"]
                .iter()
                .any(|c| line.contains(c))
        })
        .filter(|line| !line.contains("--locked"))
        .collect();
    assert!(unlocked.is_empty(), "without the lock file: {unlocked:?}");
    for lock in ["Cargo.lock", "tests/fuzz/Cargo.lock"] {
        let text = tree::read(lock);
        let foreign = text.lines().find(|line| {
            line.starts_with("source = ")
                && !line.contains("registry+https://github.com/rust-lang/crates.io-index")
        });
        assert_eq!(foreign, None, "{lock}");
    }
}

#[test]
fn threats_are_read_as_their_writers_meant_them() {
    assert_eq!(threats_in("What it is. Threat: T5. Threat: T12. "), [5, 12]);
    assert_eq!(threats_in("Item 5. A threat. "), [0; 0]);
    let document = "### T5: x\nText.\n\nTests: old.\n### T6: y\nTests: none yet.\n";
    let shown = BTreeMap::from([(5, vec!["`a` (b)".to_owned(), "`c` (d)".to_owned()])]);
    let expected = "### T5: x\nText.\n\nTests: `a` (b), `c` (d).\n### T6: y\nTests: none yet.\n";
    assert_eq!(written(document, &shown), expected);
}
