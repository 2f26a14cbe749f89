//! The repository against itself: what the documentation says, what the rules of the house forbid.
//!
//! [`checklist`] keeps the table of `docs/protocol.md`, [`faults`] that of `docs/faults.md`, [`documents`] looks for
//! names that are nowhere explained, [`sources`] at the source files.

mod checklist;
mod documents;
mod faults;
mod sources;
mod threats;
pub mod tree;
