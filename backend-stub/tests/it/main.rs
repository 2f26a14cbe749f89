//! Drives the real program over sockets.

mod downloads;
mod faults;
mod flavours;
mod hostile;
mod limits;
mod notify;
mod process;
mod restart;
mod support;
mod uploads;
