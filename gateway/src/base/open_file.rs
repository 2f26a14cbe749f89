//! Opening files that an operator has named, whatever is there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens what is there for reading, and never waits: a named pipe would hold up a start or a reload
/// until somebody writes to it. The caller sees in the metadata that it is no file.
pub fn open_at_once(path: &Path) -> io::Result<File> {
    // Of no effect on files.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_named_pipe_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(!open_at_once(&pipe).unwrap().metadata().unwrap().is_file());
    }
}
