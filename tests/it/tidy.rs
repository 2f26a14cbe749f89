//! The repository against itself: what the documentation says, what the rules of the house forbid.
//!
//! [`checklist`] and [`oddities`] keep the tables of `docs/protocol.md`, [`faults`] that of `docs/faults.md`, [`documents`] looks for
//! names that are nowhere explained, [`sources`] at the source files, [`imports`] at who uses whom, [`words`] at the names in them;
//! [`configurations`] checks those that the documentation tells a reader to use.

mod checklist;
mod configurations;
mod documents;
mod faults;
mod imports;
pub mod oddities;
mod sources;
mod states;
mod threats;
pub mod tree;
mod words;
