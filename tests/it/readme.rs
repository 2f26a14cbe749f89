//! The walkthrough of the README, run as it stands there.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::temp::TempDir;

/// Stands before the block that a reader is told to run.
const MARKER: &str = "<!-- test: walkthrough -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The fenced bash block after the marker.
fn walkthrough() -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("there is a README");
    let (_, after) = readme.split_once(MARKER).expect("the README has a walkthrough");
    let block = after.trim_start().strip_prefix("```bash\n").expect("a bash block follows");
    let (script, _) = block.split_once("\n```").expect("the block ends");
    format!("{script}\n")
}

/// A directory in which the programs under test lie where `cargo build` puts them.
fn built() -> TempDir {
    let directory = TempDir::new("readme");
    let debug = directory.join("target/debug");
    std::fs::create_dir_all(&debug).expect("a directory");
    for program in [binaries::gateway(), binaries::backend_stub()] {
        let name = program.file_name().expect("a program has a name");
        std::os::unix::fs::symlink(&program, debug.join(name)).expect("a link");
    }
    directory
}

/// Item 26.
#[test]
fn the_walkthrough_of_the_readme_works_as_it_stands() {
    let directory = built();
    let script = directory.join("walkthrough.sh");
    std::fs::write(&script, walkthrough()).expect("the script is written");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .arg(&script)
        .current_dir(directory.path())
        .env("PATH", format!("{}:{path}", directory.join("target/debug").display()))
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{errors}", output.status);
    assert!(said.contains("BITS-Session-Id: "), "{said}");
    assert!(said.contains("BITS-Received-Content-Range: 3000000"), "{said}");
    assert!(said.contains("byte for byte"), "{said}");
}
