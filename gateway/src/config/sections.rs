//! Every section of the file, and with it every key. A key that is in none of them does not exist.
//!
//! What is to be said of a key stands once, in the file of its section: its type, bounds and default,
//! the field that it becomes, whether a reload takes it over, and what it means.

use super::keys::Section;
use super::{
    admin, affinity, backends, failover, health, http, limits, listeners, log, ops, placement,
    process, sessions, store, timeouts,
};

/// Sections of later versions.
pub const LATER: &[&str] = &[];

/// In the order in which they are documented.
pub const SECTIONS: &[Section] = &[
    listeners::SECTION,
    affinity::SECTION,
    sessions::SECTION,
    store::SECTION,
    placement::SECTION,
    failover::SECTION,
    backends::SECTION,
    health::SECTION,
    http::SECTION,
    limits::SECTION,
    timeouts::SECTION,
    ops::SECTION,
    admin::SECTION,
    log::SECTION,
    process::SECTION,
];

/// The section of that name.
pub fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}
