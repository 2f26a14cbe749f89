//! The disk of a gateway: rows in the order of their writing, and what is left of them after a
//! death of the process or a power cut.

use std::collections::HashMap;

use gateway_core::protocol::SessionKey;
use gateway_core::session::{Pin, TargetHash};

use crate::rng::Rng;

/// What a commit has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    Power,
    /// The death of the process only.
    Crash,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A new session, or one that moved.
    Pin(SessionKey, Pin),
    /// It ended with an Ack that was seen.
    End(SessionKey, TargetHash),
    /// Dropped for any other reason.
    Gone(SessionKey),
}

/// Why a row is not on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteError {
    /// Full, or broken.
    Refused,
    /// The process died in the middle of it.
    Died,
}

/// What is read when a process starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub pins: HashMap<SessionKey, Pin>,
    pub ended: HashMap<SessionKey, TargetHash>,
}

pub struct Disk {
    sync: Sync,
    rows: Vec<Row>,
    /// So many of them survive a power cut.
    synced: usize,
    /// Ends and the like that wait until it takes rows again; they die with the process.
    waiting: Vec<Row>,
    pub refuses: bool,
    /// The process dies in its next write; whether the row is whole by then.
    pub dies: Option<bool>,
    pub died: bool,
}

impl Disk {
    pub fn new(sync: Sync) -> Self {
        let (rows, waiting) = (Vec::new(), Vec::new());
        Self { sync, rows, synced: 0, waiting, refuses: false, dies: None, died: false }
    }

    /// A row that somebody waits for.
    pub fn write(&mut self, row: Row) -> Result<(), WriteError> {
        if let Some(whole) = self.dies.take() {
            self.died = true;
            if whole && !self.refuses {
                self.append(row);
            }
            return Err(WriteError::Died);
        }
        if self.refuses {
            return Err(WriteError::Refused);
        }
        self.append(row);
        Ok(())
    }

    /// A row that nobody waits for, should the disk not take it now.
    pub fn write_or_keep(&mut self, row: Row) -> Result<(), WriteError> {
        match self.write(row.clone()) {
            Err(WriteError::Refused) => {
                self.waiting.push(row);
                Ok(())
            }
            written => written,
        }
    }

    fn append(&mut self, row: Row) {
        // What waited is older, and must not undo what comes after it.
        self.rows.append(&mut self.waiting);
        self.rows.push(row);
        if self.sync == Sync::Power {
            self.synced = self.rows.len();
        }
    }

    /// The system writes what it has when it likes.
    pub fn flush(&mut self) {
        if !self.refuses {
            self.rows.append(&mut self.waiting);
            self.synced = self.rows.len();
        }
    }

    /// The process is gone.
    pub fn die(&mut self) {
        self.waiting.clear();
        (self.dies, self.died) = (None, false);
    }

    /// So is what the system had not written yet, from some row on.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        self.die();
        let kept = self.synced + rng.below(self.rows.len() - self.synced + 1);
        self.rows.truncate(kept);
        self.synced = kept;
    }

    pub fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        for row in &self.rows {
            match row {
                Row::Pin(key, pin) => {
                    loaded.ended.remove(key);
                    loaded.pins.insert(key.clone(), pin.clone());
                }
                Row::End(key, target) => {
                    loaded.pins.remove(key);
                    loaded.ended.insert(key.clone(), *target);
                }
                Row::Gone(key) => {
                    loaded.pins.remove(key);
                }
            }
        }
        loaded
    }
}
