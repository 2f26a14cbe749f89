//! The supervisor as the system sees it: real processes, sockets and signals.
//!
//! The process under test is this same executable, started again to run one test, which sees its
//! part in the environment (`child`). In front of it stands a client, behind it a backend that
//! answers when the test says so.

mod backend;
mod child;
mod drain;
mod failure;
mod load;
mod process;
mod reload;
mod signals;
mod start;
mod systemd;
mod upgrade;
