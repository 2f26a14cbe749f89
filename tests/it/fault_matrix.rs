//! What breaks, and what uploads see of it: the rows of `docs/faults.md` that no other module shows.
//!
//! Each test ends with the judgement of [`e2e_tests::fleet::Outcome`]: every file whole at one backend, nothing
//! acknowledged lost, no packet at a backend that does not own its session; and with the number of uploads that had to
//! start over.

mod absence;
mod backends;
mod clients;
mod machine;
mod network;
pub mod rig;
mod upgrades;
