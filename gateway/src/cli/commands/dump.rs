//! `bits-gateway config dump`.

use std::path::Path;

use super::{explain, load, print, to_text};
use crate::config::dump::{to_json, to_toml};
use crate::process::exit::Exit;

/// Prints every value that counts and where it comes from.
pub fn dump(path: &Path, json: bool) -> Exit {
    match load(path) {
        Ok(loaded) if json => print(&to_text(&to_json(&loaded))),
        Ok(loaded) => print(&to_toml(&loaded)),
        Err(error) => explain(&error),
    }
}
