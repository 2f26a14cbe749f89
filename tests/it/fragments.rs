//! Fragments: ranges, streams, and what happens when a connection is lost in the middle of one.
//!
//! Items 71 to 81 of the conformance checklist: [`ranges`] 71 to 75, [`streams`] 76 to 78, [`waits`] 79, [`losses`] 80
//! and 81. [`overtaken`] is about two requests of one session at once, [`chunked`] about packets in chunks that go on with a length.

mod chunked;
mod losses;
mod overtaken;
mod ranges;
mod streams;
mod waits;
