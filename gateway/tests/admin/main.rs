//! The admin listener over real sockets, and the commands that speak to it.

mod api;
mod commands;
mod drain;
mod page;
mod process;
mod security;
mod support;
mod uploads;
