//! The blocks of `docs/behind-a-proxy.md`.

use crate::tidy::tree;

/// Names of the document. In a test they stand for what was started.
pub const GATEWAY: &str = "10.0.0.5:8080";
pub const NAME: &str = "uploads.example.com";

/// The fenced block behind `<!-- run: NAME -->`.
#[track_caller]
pub fn block(name: &str) -> String {
    let document = tree::read("docs/behind-a-proxy.md");
    let marker = format!("<!-- run: {name} -->\n```");
    let (_, after) = document.split_once(&marker).unwrap_or_else(|| panic!("no block {name}"));
    let (_, block) = after.split_once('\n').expect("a fence is a line");
    let (block, _) = block.split_once("\n```").expect("the block ends");
    format!("{block}\n")
}

/// Replaces what has to stand in the text.
#[track_caller]
pub fn replace(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in {text}");
    text.replace(from, to)
}
