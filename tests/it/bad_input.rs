//! Malformed, hostile and oversized input: what the client hears, what no backend ever sees, and that the next honest
//! upload works.
//!
//! Items 66, 71, 87 and 99 of the conformance checklist, and every rule of the strict request check. [`rig`] sends one
//! input at a time, sends an upload after it, and judges all bytes that reached the backend with a parser of its own.

mod answers;
mod canary;
mod documented;
mod fields;
mod foreign;
mod forged;
mod framing;
mod http10;
mod limits;
mod lines;
mod packets;
mod pipelined;
mod positions;
mod request_line;
mod rig;
mod slow;
mod wellformed;
