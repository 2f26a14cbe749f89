//! BITS-Host-Id: the names that the gateway gives to clients, and what it does with them when they come back.
//!
//! Items 61 to 70 of the conformance checklist: [`announced`] 61 to 64, [`obeyed`] 65 to 70.

mod announced;
mod obeyed;
