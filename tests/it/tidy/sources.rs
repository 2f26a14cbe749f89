//! Rules of the house that no compiler knows.

use std::collections::BTreeSet;

use super::tree;

/// The names in one section of a manifest.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    let text = tree::read(manifest);
    let (_, rest) = text.split_once(&format!("[{section}]\n")).expect("the section is there");
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.filter_map(|line| line.split(['.', ' ', '=']).next().map(str::to_owned)).collect()
}

#[test]
fn the_core_depends_on_types_only() {
    let expected = ["http", "memchr", "thiserror", "uuid"].map(str::to_owned).into();
    assert_eq!(dependencies("gateway/core/Cargo.toml", "dependencies"), expected);
    let text = tree::read("gateway/core/Cargo.toml");
    for section in ["target.", "build-dependencies"] {
        assert!(!text.contains(&format!("[{section}")), "{section}");
    }
}

#[test]
fn what_serves_any_carrier_names_no_type_of_one() {
    let mut files = 0;
    for file in tree::ending(".rs") {
        if file.starts_with("gateway/src/exchange/") {
            files += 1;
            let text = tree::read(&file).to_lowercase();
            assert!(!text.contains("pingora"), "{file}");
        }
    }
    assert!(files > 5, "the exchange has moved");
}

#[test]
fn the_carrier_of_packets_uses_nothing_of_the_other_one() {
    let relay = |file: &String| file.starts_with("gateway/src/relay/");
    let files: Vec<_> = tree::ending(".rs").into_iter().filter(relay).collect();
    assert!(files.len() > 3, "the relay has moved");
    for file in files {
        assert!(!tree::read(&file).contains("pingora::"), "{file}");
    }
}

#[test]
fn the_tests_share_no_code_with_what_they_test() {
    for manifest in ["tests/Cargo.toml", "backend-stub/Cargo.toml"] {
        let names = dependencies(manifest, "dependencies");
        for ours in ["gateway-core", "bits-gateway", "bits-uploader"] {
            assert!(!names.contains(ours), "{manifest}: {names:?}");
        }
    }
}

#[test]
fn the_clock_is_read_in_clock_modules_only() {
    let reads = ["SystemTime", "Instant"].map(|clock| format!("{clock}::now"));
    let mut modules = 0;
    for file in tree::ending(".rs") {
        let text = tree::read(&file);
        let is_module = file.ends_with("/clock.rs");
        modules += u32::from(is_module);
        // A test that measures says so to the linter.
        let measures =
            file.contains("/tests/") && text.contains("#[allow(clippy::disallowed_methods)]");
        for (number, line) in text.lines().enumerate() {
            let found = reads.iter().find(|read| line.contains(*read));
            assert!(is_module || measures || found.is_none(), "{file}:{}: {line}", number + 1);
        }
    }
    assert!(modules >= 2, "the clock modules are gone");
}

#[test]
fn no_test_is_ignored() {
    let ignored = ["#[ig", "nore"].concat();
    for file in tree::ending(".rs") {
        assert!(!tree::read(&file).contains(&ignored), "{file}");
    }
}

/// The file that has to name a module, for a file of tests.
fn parent(file: &str) -> (String, String) {
    let path = file.strip_prefix("tests/it/").and_then(|path| path.strip_suffix(".rs"));
    let path = path.expect("a source file of the tests");
    match path.rsplit_once('/') {
        Some((parent, module)) => (format!("tests/it/{parent}.rs"), module.to_owned()),
        None => ("tests/it/main.rs".to_owned(), path.to_owned()),
    }
}

#[test]
fn every_file_of_tests_is_a_module() {
    let mut modules = 0;
    for file in tree::ending(".rs") {
        if !file.starts_with("tests/it/") || file == "tests/it/main.rs" {
            continue;
        }
        let (parent, module) = parent(&file);
        let declared = |line: &str| {
            let line = line.trim_start_matches("pub ");
            line.strip_prefix("mod ").is_some_and(|rest| rest == format!("{module};"))
        };
        assert!(tree::read(&parent).lines().any(declared), "{parent} does not name {file}");
        modules += 1;
    }
    assert!(modules > 30, "{modules} files of tests");
}

#[test]
fn no_file_names_a_place_of_somebodys_machine() {
    // In pieces, or this file would name them.
    let places =
        [["/wo", "rk/"], ["/ro", "ot/"], ["/home", "/"], ["/Us", "ers/"]].map(|p| p.concat());
    for file in tree::files() {
        let bytes = std::fs::read(tree::root().join(&file)).expect("a file can be read");
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for (number, line) in text.lines().enumerate() {
            let place = places.iter().find(|place| line.contains(*place));
            assert!(place.is_none(), "{file}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn source_files_stay_within_500_lines() {
    for file in tree::ending(".rs") {
        let lines = tree::read(&file).lines().count();
        assert!(lines <= 500, "{file} has {lines} lines: split it by responsibility");
    }
}

/// Opening it anew fails for a user to whom it was handed by another one, and empties the file that it leads to.
#[test]
fn no_script_opens_its_own_output_by_name() {
    let mut scripts = 0;
    for file in tree::files() {
        let Ok(text) = std::fs::read_to_string(tree::root().join(&file)) else { continue };
        if !text.starts_with("#!") {
            continue;
        }
        scripts += 1;
        let opened = ["tee /dev/std", "tee /dev/fd", "> /dev/std", ">/dev/std"];
        let found = text.lines().find(|line| opened.iter().any(|words| line.contains(words)));
        assert_eq!(found, None, "{file}");
    }
    assert!(scripts > 5, "{scripts} scripts");
}
