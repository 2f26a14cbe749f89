//! Forty wrong configurations and more, each with what is said of it.
//!
//! `UPDATE_DOCS=1` writes what is said anew; each line of it is to be read before it is kept.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Place;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wrong");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().unwrap() == "toml").collect();
    files.sort();
    files
}

#[test]
fn every_wrong_file_is_told_what_is_wrong_with_it() {
    let cases = cases();
    assert!(cases.len() >= 40, "{} are left", cases.len());
    let mut different = Vec::new();
    for case in cases {
        let output = Place::with(fs::read(&case).unwrap()).check();
        let said = format!("exit code {}\n\n{}", output.code, output.stderr);
        assert_eq!(output.stdout, "", "{}", case.display());
        assert!([74, 78].contains(&output.code), "{}: {said}", case.display());
        let kept = case.with_extension("txt");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&kept, &said).unwrap();
        }
        let expected = fs::read_to_string(&kept).unwrap_or_default();
        if said != expected {
            different.push(format!("--- {}\n{said}", case.display()));
        }
    }
    assert!(different.is_empty(), "not as it is kept:\n{}", different.join("\n"));
}
