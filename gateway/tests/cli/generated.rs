//! Files in the repository that the program writes.

use std::fs;

use crate::support::{Place, root};

/// The file is what the command prints.
#[track_caller]
fn generated(path: &str, arguments: &[&str]) {
    let output = Place::empty().run(arguments);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let file = fs::read_to_string(root().join(path)).unwrap_or_default();
    let same = file == output.stdout;
    assert!(same, "{path} is out of date: cargo run -- {} > {path}", arguments.join(" "));
}

#[test]
fn the_page_about_the_configuration_is_that_of_the_schema() {
    generated("docs/config.md", &["schema", "--format", "markdown"]);
}

#[test]
fn the_example_is_that_of_the_schema() {
    generated("deploy/bits-gateway.toml", &["schema", "--format", "example"]);
}

#[test]
fn the_example_passes_check() {
    let path = root().join("deploy/bits-gateway.toml");
    let output = Place::empty().run(&["check", "--portable", "--config", path.to_str().unwrap()]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
}

#[test]
fn the_schema_is_json() {
    let output = Place::empty().run(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let first = schema["properties"].as_object().unwrap().keys().next();
    assert_eq!(first.map(String::as_str), Some("listeners"), "in the order of the page");
}
