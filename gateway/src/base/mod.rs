//! What stands on nothing else of the gateway: clocks, ids, the allocator.
//!
//! Every other folder may use it, and it uses none of them.

pub mod allocator;
pub mod backend_ids;
pub mod build_info;
pub mod by_id;
mod chain;
pub mod clock;
pub mod deadline;
pub mod failpoint;
pub mod instance;
pub mod open_file;
#[cfg(test)]
pub mod rig;
pub mod spans;

pub use chain::chain;
