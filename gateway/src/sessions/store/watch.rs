//! Whether the log on the disk is the one that is written to.
//!
//! A log that is deleted or replaced is still written to, by its descriptor, and read, by its index:
//! all seems well until the process ends, and then everything since the last checkpoint is gone. One
//! that was cut or overwritten in place takes new commits behind a gap.

use std::fs::File;

use super::checkpoint::Frames;
use super::folder::{Folder, Identity};
use super::log;
use super::wal::{self, Head};

/// How the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogState {
    Right,
    /// All that is in it is there, and it is shorter than it was made.
    Short,
    /// Its name, or that of its index, stands for another file or for none.
    Gone(&'static str),
    /// In its file is something else.
    Overwritten(&'static str),
}

/// What the log was when it was looked at last.
#[derive(Debug)]
pub struct Watch {
    log: Option<Identity>,
    index: Option<Identity>,
    head: Option<Head>,
    /// Times that the log may have been begun anew since.
    rounds: u32,
}

impl Watch {
    pub fn begin(folder: &Folder) -> Self {
        Self { log: folder.log_identity(), index: folder.index_identity(), head: None, rounds: 0 }
    }

    /// From now on the next commit may begin the log anew.
    pub fn expect_round(&mut self) {
        self.rounds += 1;
    }

    /// `frames` is what SQLite takes the log for; `others` have written to it since the last look.
    pub fn look(&mut self, folder: &Folder, frames: Frames, others: bool) -> LogState {
        for (before, now, removed, replaced) in [
            (
                self.log,
                folder.log_identity(),
                "its log was removed",
                "its log was replaced by another file",
            ),
            (
                self.index,
                folder.index_identity(),
                "the index of its log was removed",
                "the index of its log was replaced by another file",
            ),
        ] {
            if now != before {
                return LogState::Gone(if now.is_none() { removed } else { replaced });
            }
        }
        // What cannot be read now shows when it is needed.
        let Ok(file) = File::open(folder.log()) else { return LogState::Right };
        let Ok(length) = file.metadata().map(|log| log.len()) else { return LogState::Right };
        if frames.all > 0 {
            if length < wal::end_of(frames.all) {
                return LogState::Overwritten("its log was cut");
            }
            match wal::head(&file, frames.all) {
                Ok(Some(head)) => {
                    let rounds = self.head.map_or(Some(0), |before| head.rounds_since(before));
                    match rounds.and_then(|rounds| self.rounds.checked_sub(rounds)) {
                        Some(left) => self.rounds = left,
                        // How often they have begun it anew is not known.
                        None if others => {}
                        None => return LogState::Overwritten("its log was overwritten"),
                    }
                    self.head = Some(head);
                }
                Ok(None) => return LogState::Overwritten("its log was overwritten"),
                Err(_) => return LogState::Right,
            }
        }
        if length < log::BYTES { LogState::Short } else { LogState::Right }
    }
}
