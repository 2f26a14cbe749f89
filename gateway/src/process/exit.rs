//! How a command ends, as the shell sees it.

use std::io;
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
    /// For a file that cannot be read: 78 would say that starting again is of no use.
    pub fn unread(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::PermissionDenied => Self::Permission,
            _ => Self::Io,
        }
    }

    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_somebody_must_mend() {
        assert_eq!(Exit::unread(io::ErrorKind::NotFound), Exit::Io);
        assert_eq!(Exit::unread(io::ErrorKind::PermissionDenied), Exit::Permission);
    }
}
