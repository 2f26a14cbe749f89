//! The session store as the system treats it: processes that are killed, disks that are full,
//! read-only or broken.
//!
//! The process under test is this same executable, started again to run one test, which sees its
//! part in the environment (`child`).

mod child;
mod disk;
mod faults;
mod kill;
mod mount;
mod old;
