//! How a command ends, as the shell sees it.

use std::process::ExitCode;

/// Exit codes, after `sysexits.h` where it has one.
///
/// 78 is the code a service manager must not restart on: the same file would fail again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Failure = 1,
    Usage = 2,
    /// A dependency that must be there is not.
    Unavailable = 69,
    Io = 74,
    Permission = 77,
    Config = 78,
}

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
