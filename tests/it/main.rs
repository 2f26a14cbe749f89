//! All end-to-end tests, in one binary: it links once, and its modules share what they start.

mod client_alone;
mod farm_chaos;
mod restarts;
mod uploads;
