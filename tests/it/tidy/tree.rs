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

fn walk(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(directory).expect("a directory can be listed");
    for entry in entries.map(|entry| entry.expect("an entry can be read")) {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && name != ".git" {
            found.extend(walk(&path));
        } else if path.is_file() {
            let path = path.strip_prefix(root()).expect("it lies below the root");
            found.extend(path.to_str().map(str::to_owned));
        }
    }
    found
}
