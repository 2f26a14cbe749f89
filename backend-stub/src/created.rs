//! Which session ids this server ever made, over restarts: that tells a packet for another server from a late one.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ids remembered; older ones are forgotten, and count as foreign again.
const KEPT: usize = 100_000;

/// A set of ids with a log on disk.
pub struct CreatedIds {
    inner: Mutex<Inner>,
}

struct Inner {
    known: HashSet<String>,
    order: VecDeque<String>,
    log: File,
}

impl CreatedIds {
    /// Reads the log and cuts it to the newest ids.
    pub fn open(path: &Path) -> io::Result<Self> {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let lines: Vec<&str> = text.lines().collect();
        let newest = &lines[lines.len().saturating_sub(KEPT)..];
        if newest.len() < lines.len() {
            let fresh = path.with_extension("tmp");
            fs::write(&fresh, newest.join("\n") + "\n")?;
            fs::rename(&fresh, path)?;
        }
        let order: VecDeque<String> = newest.iter().map(|&id| id.to_owned()).collect();
        Ok(Self {
            inner: Mutex::new(Inner {
                known: order.iter().cloned().collect(),
                order,
                log: OpenOptions::new().create(true).append(true).open(path)?,
            }),
        })
    }

    pub fn add(&self, id: &str) -> io::Result<()> {
        let mut inner = self.inner();
        if !inner.known.insert(id.to_owned()) {
            return Ok(());
        }
        inner.order.push_back(id.to_owned());
        if inner.order.len() > KEPT
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.known.remove(&oldest);
        }
        // Ids are visible ASCII, so that a line holds one.
        inner.log.write_all(format!("{id}\n").as_bytes())
    }

    pub fn contains(&self, id: &str) -> bool {
        self.inner().known.contains(id)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_after_a_restart() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("created.log");
        let ids = CreatedIds::open(&path).unwrap();
        ids.add("one").unwrap();
        ids.add("one").unwrap();
        ids.add("two").unwrap();
        drop(ids);
        let ids = CreatedIds::open(&path).unwrap();
        assert!(ids.contains("one") && ids.contains("two"));
        assert!(!ids.contains("three"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
