//! Configurations in the documentation are configurations of this program.

use std::process::Command;

use e2e_tests::binaries;
use e2e_tests::pki;
use e2e_tests::temp::TempDir;

use super::tree;

/// Stands before each whole configuration that a reader is told to use.
const MARKER: &str = "<!-- check: ";

/// Folders that a package makes, and that the check looks into.
const FOLDERS: &[&str] = &["/etc/bits-gateway/tls/", "/var/log/bits-gateway/"];

/// The name of each marked block of a document, and the block.
fn marked<'t>(file: &str, text: &'t str) -> Vec<(&'t str, &'t str)> {
    let blocks = text.split(MARKER).skip(1).map(|after| {
        let (name, rest) = after.split_once(" -->\n```toml\n").unwrap_or_else(|| {
            panic!("{file}: no block of TOML behind the marker: {}", after.lines().next().unwrap())
        });
        let (block, _) = rest.split_once("\n```").expect("the block ends");
        (name, block)
    });
    blocks.collect()
}

/// A folder with certificates for the names in the documentation, for what is written as there.
fn folder() -> TempDir {
    let directory = TempDir::new("documented");
    let issued = pki::servers().issue(&["uploads.example.com", "*.uploads.example.com"]);
    pki::write(&directory.join("fullchain.pem"), &issued.certificate, 0o644);
    pki::write(&directory.join("key.pem"), &issued.key, 0o600);
    directory
}

/// What `check` prints about a block that stands in `document`. A warning counts, too: what is
/// documented has nothing that somebody should look at.
#[track_caller]
fn checked(directory: &TempDir, document: &str, (name, block): (&str, &str)) -> String {
    let folder = format!("{}/", directory.path().display());
    let here = |text: String, there: &&str| text.replace(there, &folder);
    let file = directory.join(format!("{name}.toml"));
    std::fs::write(&file, FOLDERS.iter().fold(block.to_owned(), here)).expect("it can be written");
    let mut command = Command::new(binaries::gateway());
    let output = command.args(["check", "--portable"]).arg(&file).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{document}, {name}: {errors}");
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn documented_configurations_are_good() {
    let directory = folder();
    let mut count = 0;
    for document in tree::ending(".md") {
        let text = tree::read(&document);
        for marked in marked(&document, &text) {
            checked(&directory, &document, marked);
            count += 1;
        }
    }
    assert!(count > 0, "the marker has changed");
}

/// But for the name of the file, and for what the machine decides.
#[test]
fn the_first_day_shows_what_check_prints() {
    let document = "docs/first-day.md";
    let text = tree::read(document);
    let (_, shown) = text.split_once("$ bits-gateway check\n").expect("the page shows it");
    let (shown, _) = shown.split_once("\n```").expect("the block ends");
    let directory = folder();
    let printed = checked(&directory, document, marked(document, &text)[0]);
    let log = format!("{}/access.log", directory.path().display());
    let printed = printed.replace(&log, "/var/log/bits-gateway/access.log");
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().skip(1).filter(|line| !line.starts_with("  threads "));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(lines(shown), lines(&printed));
}
