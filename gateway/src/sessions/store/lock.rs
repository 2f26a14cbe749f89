//! One gateway for a directory: a lock that only an upgrade shares.
//!
//! Two gateways with tables of their own on one database would each take the other's sessions for
//! unknown. The lock is on a file of its own: SQLite's locks on the database go when any descriptor
//! of it is closed. It belongs to the open file, so it is free when the last process that has the
//! file open has ended, however it ended, and a successor that is handed the descriptor has it too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::error::{OpenError, Trouble};

/// Readable by the group that may read the store; who runs it is no secret.
const MODE: u32 = 0o640;

/// A lock that is held. Clones and descendants share it.
#[derive(Debug, Clone)]
pub struct DirectoryLock(Arc<Held>);

#[derive(Debug)]
struct Held {
    file: File,
    /// Whether the disk let the file be opened for more than reading. A lock needs no more.
    writable: bool,
    path: PathBuf,
}

/// A process that has said that it uses the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct User {
    pid: u32,
    /// A successor has taken over from it.
    drains: bool,
}

/// Behind the number of a process that drains.
const DRAINS: &str = "drains";

/// What taking the lock has shown.
#[derive(Debug)]
pub struct Taken {
    pub lock: DirectoryLock,
    /// The process before ended without a word: it may have left a log.
    pub left_by: Option<u32>,
}

impl DirectoryLock {
    /// Takes the lock file `path`, or shares it with the process that has handed over `inherited`.
    ///
    /// # Errors
    /// Another gateway has it, or there is no lock file and none can be made.
    pub fn take(path: &Path, inherited: Option<&OwnedFd>) -> Result<Taken, OpenError> {
        let trouble = |error: io::Error| OpenError::from(Trouble::io(path, &error));
        if let Some(file) = inherited.map(OwnedFd::try_clone).transpose().map_err(trouble)?
            && let file = File::from(file)
            && is_at(&file, path)
        {
            let lock = Self(Arc::new(Held { file, writable: true, path: path.to_owned() }));
            lock.note(&users(path)).map_err(trouble)?;
            return Ok(Taken { lock, left_by: None });
        }
        let (file, writable) = open(path).map_err(trouble)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
                let listed = users(path);
                if let [newest, before @ ..] = &*listed
                    && !is_alive(newest.pid)
                    && before.iter().any(|user| user.drains)
                    && before.iter().all(|user| user.drains || !is_alive(user.pid))
                {
                    // A successor that had taken over has ended; who still has the lock serves its
                    // last requests. To wait for it would leave clients without a gateway.
                    let lock = Self(Arc::new(Held { file, writable, path: path.to_owned() }));
                    lock.note(before).map_err(trouble)?;
                    return Ok(Taken { lock, left_by: Some(newest.pid) });
                }
                let directory = path.parent().unwrap_or(path).to_owned();
                return Err(OpenError::InUse { directory, pid: holder(path) });
            }
            Err(error) => return Err(trouble(error.into())),
        }
        let left_by = users(path).first().map(|user| user.pid);
        let lock = Self(Arc::new(Held { file, writable, path: path.to_owned() }));
        lock.note(&[]).map_err(trouble)?;
        Ok(Taken { lock, left_by })
    }

    /// Whether the file is still the one of this name.
    pub fn is_in_place(&self) -> bool {
        is_at(&self.0.file, &self.0.path)
    }

    /// A descriptor for a successor.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.0.file.as_fd().try_clone_to_owned()
    }

    /// Says that this process has ended in order, and lets go.
    pub fn release(self) -> io::Result<()> {
        let mut others = users(&self.0.path);
        others.retain(|user| user.pid != std::process::id());
        self.write(&others)
    }

    /// Says that a successor has taken over from this process: should that one end, a new gateway
    /// need not wait for the last requests here.
    pub fn drains(&self) {
        let mut all = users(&self.0.path);
        for user in all.iter_mut().filter(|user| user.pid == std::process::id()) {
            user.drains = true;
        }
        if let Err(error) = self.write(&all) {
            tracing::warn!(
                %error,
                "cannot write to the lock of the session store: should the new process die soon, the next start waits for the last requests here"
            );
        }
    }

    /// Says that this process is here, before `others`.
    fn note(&self, others: &[User]) -> io::Result<()> {
        let own = User { pid: std::process::id(), drains: false };
        let others = others.iter().copied().filter(|user| user.pid != own.pid);
        let all: Vec<User> = std::iter::once(own).chain(others).collect();
        self.write(&all)
    }

    /// One line each, the newest process first.
    fn write(&self, users: &[User]) -> io::Result<()> {
        let Held { file, writable, .. } = &*self.0;
        if !writable {
            return Ok(());
        }
        let line = |User { pid, drains }: &User| match drains {
            true => format!("{pid} {DRAINS}\n"),
            false => format!("{pid}\n"),
        };
        let text: String = users.iter().map(line).collect();
        file.set_len(0)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_data()
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(MODE);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map(|file| (file, false)).map_err(|_| error)
        }
        opened => opened.map(|file| (file, true)),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|ours| fs::metadata(path).is_ok_and(|there| same(ours, there)))
}

fn users(path: &Path) -> Vec<User> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text));
    let user = |line: &str| {
        let mut words = line.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        Some(User { pid, drains: words.next() == Some(DRAINS) })
    };
    match read {
        Ok(_) => text.lines().filter_map(user).collect(),
        Err(_) => Vec::new(),
    }
}

/// Who has the lock: of those who said so, the newest that is there. A successor that failed at its
/// start is not.
fn holder(path: &Path) -> Option<u32> {
    users(path).into_iter().map(|user| user.pid).find(|pid| is_alive(*pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sessions.lock");
        (directory, path)
    }

    #[track_caller]
    fn take(path: &Path, inherited: Option<&OwnedFd>) -> Taken {
        DirectoryLock::take(path, inherited).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn refused(path: &Path, inherited: Option<&OwnedFd>) {
        match DirectoryLock::take(path, inherited).expect_err("it is taken") {
            OpenError::InUse { pid, .. } => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_second_one_is_refused_until_every_holder_has_let_go() {
        let (_directory, path) = place();
        let first = take(&path, None).lock;
        refused(&path, None);
        let successor = take(&path, Some(&first.share().expect("a copy"))).lock;
        drop(first);
        refused(&path, None);
        drop(successor);
        take(&path, None);
    }

    #[test]
    fn a_descriptor_of_another_file_opens_nothing() {
        let (_directory, path) = place();
        let held = take(&path, None).lock;
        let (_elsewhere, other) = place();
        let other = take(&other, None).lock;
        refused(&path, Some(&other.share().expect("a copy")));
        drop(held);
        take(&path, Some(&other.share().expect("a copy")));
    }

    #[test]
    fn who_ends_without_a_word_is_known_by_the_next() {
        let (_directory, path) = place();
        let taken = take(&path, None);
        assert_eq!(taken.left_by, None);
        drop(taken);
        let taken = take(&path, None);
        assert_eq!(taken.left_by, Some(std::process::id()));
        taken.lock.release().expect("written");
        assert_eq!(take(&path, None).left_by, None);
    }

    #[test]
    fn only_behind_a_process_that_drains_a_dead_successor_makes_room() {
        let (_directory, path) = place();
        let old = take(&path, None).lock;
        // No process has this number.
        let dead = User { pid: u32::MAX, drains: false };
        let own = User { pid: std::process::id(), drains: false };
        old.write(&[dead, own]).expect("written");
        refused(&path, None);
        old.drains();
        assert_eq!(users(&path), [dead, User { drains: true, ..own }]);
        let taken = take(&path, None);
        assert_eq!(taken.left_by, Some(dead.pid));
        assert_eq!(users(&path), [own]);
    }

    #[test]
    fn a_lock_file_that_was_removed_holds_nobody_off() {
        let (_directory, path) = place();
        let held = take(&path, None).lock;
        assert!(held.is_in_place());
        fs::remove_file(&path).expect("removed");
        assert!(!held.is_in_place());
    }
}
