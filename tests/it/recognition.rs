//! What the gateway takes for a BITS packet, what it refuses as one, and what it must not touch on the way.
//!
//! Items 1 to 29 of the conformance checklist: [`types`] 1 to 11, [`values`] 15 to 20, [`passage`] 21 to 24,
//! [`bodies`] 12 to 14 and 25 to 29.

mod bodies;
mod passage;
mod types;
mod values;
