//! What an interrupted upload needs to go on, in a small file.
//!
//! The file is locked while an upload runs, so that two runs never send into one session, and
//! readable by its owner only, because a session id is as good as a password.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::source::Identity;

/// A session in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub version: u32,
    pub url: String,
    pub file: PathBuf,
    pub identity: Identity,
    pub session: String,
    /// Where the next Fragment starts, as far as this client knows.
    pub offset: u64,
    pub fragment_bytes: u64,
    pub host_id: Option<String>,
    pub fallback_timeout_s: Option<u64>,
    /// When the fallback clock started, if it runs: Unix milliseconds.
    pub fallback_since_ms: Option<u64>,
    pub reply_url: Option<String>,
}

pub const VERSION: u32 = 1;

/// The file, open and locked.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot use the state file {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    #[error("another upload of this file to this URL is running ({} is locked)", .0.display())]
    Locked(PathBuf),
    #[error(
        "{} belongs to an upload to {url}; finish it, end it with --cancel, or name another file \
         with --state", .path.display()
    )]
    Foreign { path: PathBuf, url: String },
}

impl StateFile {
    /// Opens or creates the file and takes the lock.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |error| StateError::Io(path.to_owned(), error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), file }),
            Err(TryLockError::WouldBlock) => Err(StateError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record, or `None` where there is none that can be read: a torn or strange file costs
    /// a fresh start and nothing more.
    ///
    /// # Errors
    /// [`StateError::Foreign`] for the record of another URL, which must not be overwritten.
    pub fn load(&mut self, url: &str) -> Result<Option<Record>, StateError> {
        let mut text = Vec::new();
        let read = self.file.rewind().and_then(|()| self.file.read_to_end(&mut text));
        read.map_err(|error| self.failed(error))?;
        let record = serde_json::from_slice::<Record>(&text).ok();
        let record = record.filter(|record| record.version == VERSION);
        match record {
            Some(record) if record.url != url => {
                Err(StateError::Foreign { path: self.path.clone(), url: record.url })
            }
            other => Ok(other),
        }
    }

    /// Writes the record over the old one.
    ///
    /// In place, because the lock is on this very file. It is one small write, so a killed
    /// process leaves the old or the new record; after a power cut the server knows the offset.
    pub fn save(&mut self, record: &Record) -> Result<(), StateError> {
        let mut text = serde_json::to_vec_pretty(record).expect("a record is plain data");
        text.push(b'\n');
        // What a longer record left behind is overwritten with white space rather than cut off by a
        // second call, between which and the first the process could die.
        let old = self.file.metadata().map(|m| m.len()).map_err(|error| self.failed(error))?;
        text.resize(text.len().max(usize::try_from(old).unwrap_or(0)), b'\n');
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(&text));
        written.map_err(|error| self.failed(error))
    }

    /// Forgets the record and keeps the lock.
    pub fn clear(&mut self) -> Result<(), StateError> {
        self.file.set_len(0).map_err(|error| self.failed(error))
    }

    /// Removes the file: nothing is left to resume.
    pub fn remove(&mut self) -> Result<(), StateError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, error: io::Error) -> StateError {
        StateError::Io(self.path.clone(), error)
    }
}

/// A file in which no session stands is of no use to anybody.
impl Drop for StateFile {
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            // Left behind, it does no harm.
            let _ = self.remove();
        }
    }
}

/// Where the state of an upload is kept unless the user says otherwise: in the user's cache
/// folder under a name made of file and URL, or beside the file where there is no such folder.
pub fn default_path(file: &Path, url: &str) -> PathBuf {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME")
        .or_else(|| folder("LOCALAPPDATA"))
        .or_else(|| folder("HOME").map(|home| home.join(".cache")));
    let Some(cache) = cache else {
        let mut name = file.as_os_str().to_owned();
        name.push(".bits-upload");
        return PathBuf::from(name);
    };
    let absolute = absolute(file);
    let mut hasher = Sha256::new();
    hasher.update(absolute.as_os_str().as_encoded_bytes());
    hasher.update([0]);
    hasher.update(url);
    let digest = hasher.finalize();
    let name: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    cache.join("bits-gateway").join("uploads").join(format!("{name}.json"))
}

/// The path without symlinks in its folder; the file itself need not be there any more.
fn absolute(file: &Path) -> PathBuf {
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    match (whole.parent().map(std::fs::canonicalize), whole.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(session: &str) -> Record {
        Record {
            version: VERSION,
            url: "http://up.test/x".to_owned(),
            file: PathBuf::from("/data/x"),
            identity: Identity { size: 10, modified_ns: 20 },
            session: session.to_owned(),
            offset: 5,
            fragment_bytes: 5120,
            host_id: Some("n1.up.test".to_owned()),
            fallback_timeout_s: Some(900),
            fallback_since_ms: None,
            reply_url: None,
        }
    }

    #[test]
    fn a_record_comes_back_and_a_shorter_one_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/state.json");
        let mut state = StateFile::open(&path).unwrap();
        assert_eq!(state.load("http://up.test/x").unwrap(), None);
        for record in [record(&"x".repeat(100)), record("y")] {
            state.save(&record).unwrap();
            assert_eq!(state.load("http://up.test/x").unwrap(), Some(record));
        }
    }

    #[test]
    fn a_torn_record_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        std::fs::write(&path, b"{\"version\": 1, \"url\": \"htt").unwrap();
        let mut state = StateFile::open(&path).unwrap();
        assert_eq!(state.load("http://up.test/x").unwrap(), None);
    }

    #[test]
    fn the_record_of_another_url_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = StateFile::open(&folder.path().join("state.json")).unwrap();
        state.save(&record("x")).unwrap();
        assert!(matches!(state.load("http://up.test/y"), Err(StateError::Foreign { .. })));
    }

    #[test]
    fn a_file_without_a_session_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        drop(StateFile::open(&path).unwrap());
        assert!(!path.exists());
        let mut state = StateFile::open(&path).unwrap();
        state.save(&record("x")).unwrap();
        drop(state);
        assert!(path.exists());
    }

    #[test]
    fn one_upload_at_a_time_holds_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let first = StateFile::open(&path).unwrap();
        assert!(matches!(StateFile::open(&path), Err(StateError::Locked(_))));
        drop(first);
        StateFile::open(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_session_id() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let _state = StateFile::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
