//! The repository against itself: what the documentation says, what the rules of the house forbid.
//!
//! [`checklist`] keeps the table of `docs/protocol.md`, [`documents`] looks for names that are nowhere explained,
//! [`sources`] at the source files.

mod checklist;
mod documents;
mod sources;
mod tree;
