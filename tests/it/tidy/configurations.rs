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

/// A warning counts, too: what is documented has nothing that somebody should look at.
#[test]
fn documented_configurations_are_good() {
    let directory = TempDir::new("documented");
    let issued = pki::servers().issue(&["uploads.example.com", "*.uploads.example.com"]);
    pki::write(&directory.join("fullchain.pem"), &issued.certificate, 0o644);
    pki::write(&directory.join("key.pem"), &issued.key, 0o600);
    let folder = format!("{}/", directory.path().display());
    let mut checked = 0;
    for document in tree::ending(".md") {
        let text = tree::read(&document);
        for (name, block) in marked(&document, &text) {
            let file = directory.join(format!("{name}.toml"));
            let here = |text: String, there: &&str| text.replace(there, &folder);
            let block = FOLDERS.iter().fold(block.to_owned(), here);
            std::fs::write(&file, block).expect("the file can be written");
            let output = Command::new(binaries::gateway())
                .args(["check", "--portable"])
                .arg(&file)
                .output()
                .expect("it runs");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && errors.is_empty(), "{document}, {name}: {errors}");
            checked += 1;
        }
    }
    assert!(checked > 0, "the marker has changed");
}
