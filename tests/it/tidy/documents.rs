//! Names that an operator meets are explained somewhere.

use std::collections::BTreeSet;
use std::process::Command;

use e2e_tests::binaries;
use serde_json::Value;

use super::tree;

/// The texts between quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

#[test]
fn every_fault_is_explained() {
    let source = tree::read("gateway/core/src/fault.rs");
    let rows = source.lines().filter(|line| line.contains("=> row("));
    let labels: BTreeSet<_> = rows.flat_map(quoted).collect();
    assert!(labels.len() >= 16 && labels.contains("unknown_session"), "{labels:?}");
    for document in ["docs/protocol.md", "docs/metrics.md"] {
        let text = tree::read(document);
        let missing: Vec<_> = labels.iter().filter(|label| !text.contains(**label)).collect();
        assert!(missing.is_empty(), "{document} says nothing of {missing:?}");
    }
    // And each with the status that it really has.
    let protocol = tree::read("docs/protocol.md");
    let statuses = [
        ("OK", 200),
        ("BAD_REQUEST", 400),
        ("FORBIDDEN", 403),
        ("LENGTH_REQUIRED", 411),
        ("PAYLOAD_TOO_LARGE", 413),
        ("INTERNAL_SERVER_ERROR", 500),
        ("BAD_GATEWAY", 502),
        ("SERVICE_UNAVAILABLE", 503),
        ("GATEWAY_TIMEOUT", 504),
    ];
    for row in source.lines().filter(|line| line.contains("=> row(")) {
        let label = quoted(row).next().expect("a row has a label");
        let named = |(name, _): &&(&str, u16)| row.contains(&format!("StatusCode::{name},"));
        let (_, status) = statuses.iter().find(named).unwrap_or_else(|| panic!("{row}"));
        let documented = protocol.lines().find(|line| line.contains(&format!("| `{label}` |")));
        let documented = documented.unwrap_or_else(|| panic!("no row for {label}"));
        assert!(documented.starts_with(&format!("| {status} |")), "{documented}");
    }
}

#[test]
fn every_metric_is_explained() {
    let text = tree::read("docs/metrics.md");
    let mut names = BTreeSet::new();
    for file in tree::ending(".rs").iter().filter(|file| file.starts_with("gateway/src/")) {
        let source = tree::read(file);
        let is_name = |name: &&str| {
            name.starts_with("bitsgw_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        names.extend(quoted(&source).filter(is_name).map(str::to_owned));
    }
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<_> =
        names.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/metrics.md says nothing of {missing:?}");
}

/// The keys of one level of the schema, and of those below it.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, below) in properties {
            found.insert(name.clone());
            keys(below, found);
        }
    }
    for below in ["additionalProperties", "items"] {
        if schema[below].is_object() {
            keys(&schema[below], found);
        }
    }
}

#[test]
fn every_key_of_the_configuration_is_explained() {
    let output = Command::new(binaries::gateway()).arg("schema").output().expect("it runs");
    assert!(output.status.success());
    let schema = serde_json::from_slice(&output.stdout).expect("the schema is JSON");
    let mut found = BTreeSet::new();
    keys(&schema, &mut found);
    assert!(found.contains("fallback_timeout") && found.len() > 40, "{found:?}");
    for document in ["docs/config.md", "deploy/bits-gateway.toml"] {
        let text = tree::read(document);
        let names = |key: &&String| {
            let heading = format!("### `{key}`");
            let section = format!("[{key}");
            let assigned = format!("{key} = ");
            // In a table of its own: `tls.key`, and `tls` itself.
            let inner = format!(".{key}`");
            let group = format!("`{key}.");
            let commented = format!("#{key}.");
            [heading, section, assigned, inner, group, commented]
                .iter()
                .any(|form| text.contains(form))
        };
        let missing: Vec<_> = found.iter().filter(|key| !names(key)).collect();
        assert!(missing.is_empty(), "{document} says nothing of {missing:?}");
    }
}

/// The names by which the headings of a document are linked, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let prose = text.split("\n```").step_by(2);
    for heading in prose.flat_map(str::lines).filter(|line| line.starts_with('#')) {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        // A second heading of that name gets a number.
        let numbered = (1..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}

#[test]
fn links_between_documents_lead_somewhere() {
    let (mut checked, mut places) = (0, 0);
    for file in tree::ending(".md") {
        let text = tree::read(&file);
        let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, place) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") {
                continue;
            }
            let target = match path {
                "" => tree::root().join(&file),
                path => tree::root().join(directory).join(path),
            };
            checked += 1;
            assert!(target.exists(), "{file} links to {link}");
            if !place.is_empty() && target.extension().is_some_and(|end| end == "md") {
                places += 1;
                let text = std::fs::read_to_string(&target).expect("it can be read");
                assert!(anchors(&text).contains(place), "{file} links to {link}: no such heading");
            }
        }
    }
    assert!(checked > 10 && places > 10, "{checked} links, {places} of them to headings");
}

/// A page that is not in the book is not found, and one that is there twice is shown once.
#[test]
fn every_page_is_in_the_book_once() {
    let book = tree::read("docs/SUMMARY.md");
    let entries = book.lines().filter_map(|line| line.split_once("](")?.1.strip_suffix(')'));
    let mut entries: Vec<_> = entries.map(|entry| format!("docs/{entry}")).collect();
    entries.sort_unstable();
    let mut pages = tree::ending(".md");
    pages.retain(|file| {
        let page = file.strip_prefix("docs/");
        page.is_some_and(|page| !page.contains('/') && page != "SUMMARY.md")
    });
    assert_eq!(entries, pages, "docs/SUMMARY.md (left) has other pages than docs (right)");
}

/// The files of a module: its own, and those in its folder.
fn files_of<'a>(sources: &'a [String], root: &str, module: &str) -> Vec<&'a String> {
    let path = format!("{root}/{}", module.replace("::", "/"));
    let (file, folder) = (format!("{path}.rs"), format!("{path}/"));
    sources.iter().filter(|name| **name == file || name.starts_with(&folder)).collect()
}

/// Whether a definition of `name` stands in a source.
fn defines(source: &str, name: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "macro_rules!"];
    kinds.iter().any(|kind| {
        let start = format!("{kind} {name}");
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        source.split(&start).skip(1).any(|rest| !rest.starts_with(is_word))
    })
}

/// The map of the code is of use only while a search finds what it names: each module has files, and
/// each entry point of a row is defined in the files of its modules.
#[test]
fn names_in_the_map_of_the_code_are_in_the_modules_it_names() {
    let text = tree::read("docs/architecture.md");
    let map = text.split("## Code map").nth(1).and_then(|rest| rest.split("\n### Beside").next());
    let mut missing = BTreeSet::new();
    let mut modules = BTreeSet::new();
    let sources = tree::ending(".rs");
    let mut checked = 0;
    for part in map.expect("a map").split("\n### `").skip(1) {
        let root = part.split('`').next().expect("the heading names a folder");
        for row in part.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let (mut source, mut parent) = (String::new(), String::new());
            for module in cells[1].split('`').skip(1).step_by(2) {
                // A second name without a path is in the folder of the first.
                let beside = format!("{parent}{module}");
                let is_beside = !files_of(&sources, root, &beside).is_empty();
                let name = if is_beside { &beside } else { module };
                let files = files_of(&sources, root, name);
                if files.is_empty() {
                    missing.insert(format!("the module {module}"));
                }
                if !modules.insert(format!("{root}/{name}")) {
                    missing.insert(format!("one row for {module}, there are two"));
                }
                let above = name.rsplit_once("::").map(|(above, _)| format!("{above}::"));
                parent = above.unwrap_or_default();
                for file in files {
                    source += &tree::read(file);
                }
            }
            for entry in cells[3].split('`').skip(1).step_by(2) {
                checked += 1;
                let name = entry.trim_end_matches('!').rsplit("::").next().unwrap_or(entry);
                if !defines(&source, name) {
                    missing.insert(format!("{entry} in {}", cells[1]));
                }
            }
        }
    }
    assert!(checked > 200 && modules.len() > 100, "{checked} names in {} modules", modules.len());
    assert!(missing.is_empty(), "there is no {missing:#?}");
}

/// A cell is a phrase; what needs more stands below its table.
#[test]
fn cells_of_tables_are_short() {
    const WORDS: usize = 20;
    for file in ["README.md", "docs/architecture.md", "docs/operations.md"] {
        let text = tree::read(file);
        let rows = text.lines().enumerate().filter(|(_, line)| line.starts_with('|'));
        for (number, row) in rows {
            for cell in row.trim_matches('|').split(" | ") {
                let words = cell.split_whitespace().count();
                assert!(words <= WORDS, "{file}:{}: {words} words in {cell:?}", number + 1);
            }
        }
    }
}

/// Documents name decisions by their numbers.
#[test]
fn every_decision_has_a_number_of_its_own() {
    let mut numbers = BTreeSet::new();
    for file in tree::ending(".md") {
        let Some(name) = file.strip_prefix("docs/decisions/") else { continue };
        let (number, _) = name.split_once('-').unwrap_or_else(|| panic!("{name} has no number"));
        assert!(numbers.insert(number.to_owned()), "two decisions have the number {number}");
        let first = tree::read(&file).lines().next().map(str::to_owned).unwrap_or_default();
        assert!(first.starts_with(&format!("# {number}: ")), "{file} begins with {first:?}");
    }
    assert!(numbers.len() > 50, "{numbers:?}");
}
