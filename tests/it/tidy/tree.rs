//! Reading the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the package lies in the repository")
}

/// A file by its path from the root.
#[track_caller]
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails unless a document is as the tests would have it, or makes it so where that is asked for.
#[track_caller]
pub fn expect_document(path: &str, wanted: &str) {
    let document = read(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        // As a whole, since other tests read it meanwhile; and where git lists no files.
        let new = root().join("target").join(path.replace('/', "-"));
        std::fs::create_dir_all(root().join("target")).expect("a directory can be made");
        std::fs::write(&new, wanted).expect("the document can be written");
        std::fs::rename(new, root().join(path)).expect("the document can be replaced");
        return;
    }
    let differs = document.lines().zip(wanted.lines()).find(|(is, wanted)| is != wanted);
    let update = "run UPDATE_DOCS=1 cargo test -p e2e-tests --test it tidy";
    assert!(document == wanted, "{update}: {differs:#?}");
}

/// Paths from the root, sorted: what belongs to the repository, or will once it is committed.
pub fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut files = match listed {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).expect("paths are UTF-8 here");
            text.lines().map(str::to_owned).collect()
        }
        // A copy of the sources without their history.
        _ => walk(&root()),
    };
    // Deleted, and not committed yet.
    files.retain(|file| root().join(file).is_file());
    files.sort_unstable();
    assert!(files.iter().any(|file| file == "tests/it/tidy/tree.rs"), "the list is no list");
    files
}

pub fn ending(end: &str) -> Vec<String> {
    files().into_iter().filter(|file| file.ends_with(end)).collect()
}

/// The tests in one source file, each with its doc comment.
pub fn tests_in(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut comment, mut is_test) = (String::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment += text.trim();
            comment.push(' ');
        } else if line == "#[test]" || line == "#[tokio::test]" {
            is_test = true;
        } else if !line.starts_with("#[") {
            let plain = line.strip_prefix("async ").unwrap_or(line);
            if let Some(rest) = plain.strip_prefix("fn ").filter(|_| is_test) {
                let name = rest.split('(').next().unwrap_or_default();
                found.push((name.to_owned(), std::mem::take(&mut comment)));
            }
            comment.clear();
            is_test = false;
        }
    }
    found
}

fn walk(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(directory).expect("a directory can be listed");
    for entry in entries.map(|entry| entry.expect("an entry can be read")) {
        let (path, name) = (entry.path(), entry.file_name());
        // In a second work tree, `.git` is a file.
        if name == "target" || name == ".git" {
            continue;
        }
        if path.is_dir() {
            found.extend(walk(&path));
        } else if path.is_file() {
            let path = path.strip_prefix(root()).expect("it lies below the root");
            found.extend(path.to_str().map(str::to_owned));
        }
    }
    found
}
