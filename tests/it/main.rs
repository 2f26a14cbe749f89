//! All end-to-end tests, in one binary: it links once, and its modules share what they start.

mod bench;
mod client_alone;
mod farm_chaos;
mod recognition;
mod restarts;
mod uploads;
