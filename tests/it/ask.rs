//! Sessions that the table has lost, and the backends that are asked for them.

mod answers;
mod flood;
mod lost_table;
mod newborn;
mod untouched;
