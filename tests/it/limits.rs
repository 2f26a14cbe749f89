//! What the gateway does when a peer wants too much, is too slow, answers too early, or when the process has to end.
//!
//! [`caps`], [`clients`], [`crowd`], [`backends`], [`bandwidth`]: numbers, sizes and rates. [`long_bodies`]: what is between two sockets when one of them stalls or ends. [`stalls`]: timeouts, which count from the last progress; [`paused`]: not while the process stands still. [`early`]: answers that
//! come before the body. [`process`]: signals, ready file, exit codes. [`logs`]: what no log line may hold.
//! Items 29, 74, 80, 81, 88 and 97 of the conformance checklist, at the limits.

mod backends;
mod bandwidth;
mod bodies;
mod caps;
mod clients;
mod crowd;
mod descriptors;
mod early;
mod logs;
mod long_bodies;
mod paused;
mod process;
mod stalls;
mod table;
