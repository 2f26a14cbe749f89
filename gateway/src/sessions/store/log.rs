//! The write-ahead log as a file: written full before it is used, so that a commit changes no
//! metadata of the file system.
//!
//! The hazard: a log that grows is durable only with its new size, which the file system keeps in
//! its journal. When that journal was aborted by an error, ext4 has reported a sync as done though
//! the size was never written, and the acknowledged commits were gone after the next mount. A write
//! into blocks that are there needs the data alone, and costs one write of the disk instead of two.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::faults::{self, Op};
use super::wal;

/// Frames that the log is made for. A batch of the writer with as many pages as it can touch fits
/// behind those that make a checkpoint due ([`super::writer`]).
pub const FRAMES: u64 = 1024;

/// Bytes of such a log.
pub const BYTES: u64 = wal::end_of(FRAMES);

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Writes the log full from where it ends; zeros are no frames. To be called while the lock for
/// writing is held, so that no other process moves the end meanwhile.
///
/// # Errors
/// Those of the file, which is as long as before then.
pub fn fill(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let before = file.metadata()?.len();
    if before >= BYTES {
        return Ok(());
    }
    let mut end = before;
    let written = loop {
        let length = ZEROS.len().min(usize::try_from(BYTES - end).unwrap_or(usize::MAX));
        if length == 0 {
            break faults::check(Op::Sync, path).and_then(|()| file.sync_all());
        }
        let written = faults::check(Op::Write, path);
        if let Err(error) = written.and_then(|()| file.write_all_at(&ZEROS[..length], end)) {
            break Err(error);
        }
        end += length as u64;
    };
    if written.is_err() {
        // The room is worth more to the database than to a log that is not whole.
        let _ = file.set_len(before);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_log_is_written_from_its_end_to_its_size_and_never_cut() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        for before in [vec![], vec![7; 5000], vec![7; BYTES as usize + 1]] {
            fs::write(&path, &before).expect("written");
            fill(&path).expect("filled");
            let after = fs::read(&path).expect("it is there");
            assert_eq!(after.len(), before.len().max(BYTES as usize));
            assert!(
                after[..before.len()] == before && after[before.len()..].iter().all(|b| *b == 0)
            );
        }
        fill(&directory.path().join("missing")).expect_err("the log is SQLite's to make");
    }
}
