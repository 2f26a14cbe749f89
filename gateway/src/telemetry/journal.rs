//! What the journal of systemd is told of a line.
//!
//! # Source
//! `sd-daemon(3)` for the prefix, `systemd.exec(5)` for `JOURNAL_STREAM`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// How bad a line is, as syslog counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

impl Priority {
    /// What a line begins with: `<3>`.
    pub fn prefix(self) -> String {
        format!("<{}>", self as u8)
    }
}

/// Whether standard error goes to the journal.
pub fn has_stderr() -> bool {
    let stream = std::env::var_os("JOURNAL_STREAM");
    let stderr = fs::metadata("/proc/self/fd/2").map(|there| (there.dev(), there.ino()));
    stream.is_some_and(|stream| stderr.is_ok_and(|stderr| is(&stream, stderr)))
}

/// `stream` is `DEVICE:INODE`, both decimal.
fn is(stream: &OsStr, (device, inode): (u64, u64)) -> bool {
    stream.to_str() == Some(&*format!("{device}:{inode}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_known_by_device_and_inode() {
        assert!(is(OsStr::new("8:1234"), (8, 1234)));
        for other in ["", "8", "8:12345", "1234:8", "x"] {
            assert!(!is(OsStr::new(other), (8, 1234)), "{other}");
        }
    }
}
