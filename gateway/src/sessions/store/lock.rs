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
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, OFlags, flock};

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
    /// False beside a process that drains.
    held: AtomicBool,
}

fn in_use(path: &Path) -> OpenError {
    let directory = path.parent().unwrap_or(path).to_owned();
    OpenError::InUse { directory, pid: holder(path) }
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
            let lock = Self::new(file, path, false);
            lock.hold();
            lock.note(&users(path));
            return Ok(Taken { lock, left_by: None });
        }
        let file = open(path).map_err(trouble)?;
        let listed = users(path);
        let held = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => false,
            Err(error) => return Err(trouble(error.into())),
        };
        // A successor that had taken over has ended; who still has the lock serves its last
        // requests. To wait for it would leave clients without a gateway.
        let only_drains = listed.iter().any(|user| user.drains)
            && listed.iter().all(|user| user.drains || !is_alive(user.pid));
        if !held && !only_drains {
            return Err(in_use(path));
        }
        let lock = Self::new(file, path, held);
        lock.note(if held { &[] } else { &listed });
        let left_by = listed.first().filter(|newest| held || !newest.drains);
        Ok(Taken { lock, left_by: left_by.map(|newest| newest.pid) })
    }

    /// The same for who shares it with nobody, not even with a gateway that drains.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_alone(path: &Path) -> Result<Self, OpenError> {
        let lock = Self::take(path, None)?.lock;
        if lock.0.held.load(Ordering::Relaxed) {
            return Ok(lock);
        }
        // What cannot be written says only that this process has not ended in order.
        let _ = lock.release();
        Err(in_use(path))
    }

    fn new(file: File, path: &Path, held: bool) -> Self {
        let flags = rustix::fs::fcntl_getfl(&file);
        let writable = flags.is_ok_and(|flags| flags.contains(OFlags::RDWR));
        Self(Arc::new(Held { file, writable, path: path.to_owned(), held: AtomicBool::new(held) }))
    }

    /// Takes the lock as soon as a process that drains has let it go. To be called now and then.
    pub fn hold(&self) {
        let Held { file, held, .. } = &*self.0;
        if !held.load(Ordering::Relaxed) {
            let taken = flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
            held.store(taken, Ordering::Relaxed);
        }
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
        let own = User { pid: std::process::id(), drains: true };
        match all.iter_mut().find(|user| user.pid == own.pid) {
            Some(user) => *user = own,
            None => all.push(own),
        }
        self.tell(&all);
    }

    /// Says that this process is here, before those of `others` that are.
    fn note(&self, others: &[User]) {
        let own = User { pid: std::process::id(), drains: false };
        let others = others.iter().copied();
        let others = others.filter(|user| user.pid != own.pid && is_alive(user.pid));
        let all: Vec<User> = std::iter::once(own).chain(others).collect();
        self.tell(&all);
    }

    /// A full disk keeps nobody from the lock.
    fn tell(&self, users: &[User]) {
        if let Err(error) = self.write(users) {
            tracing::warn!(
                %error,
                "cannot write to the lock of the session store: who looks there does not learn which process has it"
            );
        }
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
        // In this order, so that the file is never empty.
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)?;
        file.sync_data()
    }
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !has_ended(&stat))
}

/// Whether its parent only has not waited for it yet (`/proc/PID/stat`: a zombie, or dead).
fn has_ended(stat: &str) -> bool {
    // The name of the program stands in brackets, and may have any character.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(MODE);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map_err(|_| error)
        }
        opened => opened,
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

    /// No process has this number.
    const DEAD: User = User { pid: u32::MAX, drains: false };

    #[test]
    fn only_behind_a_process_that_drains_a_dead_successor_makes_room() {
        let (_directory, path) = place();
        let old = take(&path, None).lock;
        let own = User { pid: std::process::id(), drains: false };
        old.write(&[DEAD, own]).expect("written");
        refused(&path, None);
        old.drains();
        assert_eq!(users(&path), [DEAD, User { drains: true, ..own }]);
        assert!(DirectoryLock::take_alone(&path).is_err(), "a backup is not put beside it");
        old.write(&[DEAD]).expect("written");
        old.drains();
        let new = take(&path, None);
        assert_eq!(new.left_by, Some(DEAD.pid));
        assert_eq!(users(&path), [own]);
        // The process that drains ends, and the lock is the new one's.
        refused(&path, None);
        drop(old);
        new.lock.hold();
        refused(&path, None);
        let successor = take(&path, Some(&new.lock.share().expect("a copy"))).lock;
        drop(new);
        refused(&path, None);
        drop(successor);
        assert!(DirectoryLock::take_alone(&path).is_ok());
    }

    #[test]
    fn a_process_that_has_ended_is_not_alive() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(DEAD.pid));
        for (stat, ended) in [
            ("17 (bits-gateway) S 1 17", false),
            ("17 (odd) Z name) R 1 17", false),
            ("17 (bits-gateway) Z 1 17", true),
            ("17 (S) X 1 17", true),
            ("", true),
        ] {
            assert_eq!(has_ended(stat), ended, "{stat}");
        }
    }

    #[test]
    fn a_successor_that_ended_in_order_makes_room_too() {
        let (_directory, path) = place();
        let old = take(&path, None).lock;
        old.drains();
        assert_eq!(take(&path, None).left_by, None);
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
