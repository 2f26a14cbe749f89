//! Sessions and files on disk.
//!
//! ```text
//! ROOT/lock                          held while a server uses ROOT
//! ROOT/files/<path>                  finished uploads
//! ROOT/taken/<path>                  finished uploads that an application has moved away
//! ROOT/sessions/created.log          ids of sessions created here, for telling foreign packets
//! ROOT/sessions/<uuid>/session.json  the record; replaced by rename, so that it is always whole
//! ROOT/sessions/<uuid>/requestfile.bin   the bytes so far
//! ROOT/sessions/<uuid>/responsefile.bin  the reply of a server application
//! ```
//!
//! What survives: everything acknowledged survives the death of the process, because it was handed to the kernel before
//! the Ack. A power cut may take the last seconds of an unfinished upload; the record is then held against the length
//! of the file and the client sends the rest again. Close-Session syncs the file and its directory before its Ack.
//!
//! All functions here block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use thiserror::Error;
use uuid::Uuid;

use crate::created::CreatedIds;
use crate::log::{self, Level};
use crate::paths::Destination;
use crate::upload::{Record, State};

/// The folder of one server.
pub struct Disk {
    files: OwnedFd,
    root: PathBuf,
    sessions: PathBuf,
    pub created: CreatedIds,
    _lock: File,
}

/// What is at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    File,
    Directory,
    /// A symbolic link, a device, or a path through something that is no directory. Links are never followed below
    /// ROOT/files: one that leads out would make every upload a write anywhere.
    Unusable,
}

/// Why a finished upload did not reach its destination.
#[derive(Debug, Error)]
pub enum DeliverError {
    #[error("the destination exists")]
    Exists,
    #[error("the destination is a directory")]
    Directory,
    #[error("the path to the destination is unusable")]
    Unusable,
    #[error("the part file is gone")]
    Vanished,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a folder cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("{path} is in use by another server")]
    InUse { path: PathBuf },
    #[error(
        "{path}/files and {path}/sessions are on different file systems, so no rename can join them"
    )]
    TwoFileSystems { path: PathBuf },
    #[error("cannot use {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

const RECORD: &str = "session.json";
const REQUEST: &str = "requestfile.bin";
const RESPONSE: &str = "responsefile.bin";

const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

impl Disk {
    /// Takes the folder and makes what is missing in it.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { path: root.to_owned(), source };
        let (files, sessions) = (root.join("files"), root.join("sessions"));
        fs::create_dir_all(&files).map_err(failed)?;
        fs::create_dir_all(&sessions).map_err(failed)?;
        let lock = File::create(root.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { path: root.to_owned() });
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
        if device(&files).map_err(failed)? != device(&sessions).map_err(failed)? {
            return Err(OpenError::TwoFileSystems { path: root.to_owned() });
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        Ok(Self {
            files: rustix::fs::openat(CWD, &files, flags, Mode::empty())
                .map_err(|errno| failed(errno.into()))?,
            root: root.to_owned(),
            created: CreatedIds::open(&sessions.join("created.log")).map_err(failed)?,
            // Server applications get paths below it and have their own working directory.
            sessions: fs::canonicalize(&sessions).map_err(failed)?,
            _lock: lock,
        })
    }

    /// Reads the sessions that an earlier process left. What cannot be read is removed: its client starts again.
    pub fn load(&self) -> io::Result<Vec<(PathBuf, Record)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.sessions)? {
            let dir = entry?.path();
            if !dir.is_dir() {
                continue;
            }
            match load_one(&dir) {
                Ok(record) => found.push((dir, record)),
                Err(error) => {
                    log::line(
                        Level::Warn,
                        "session_unreadable",
                        format_args!("dir={dir:?} error={:?}", error.to_string()),
                    );
                    remove(&dir)?;
                }
            }
        }
        // Two records with one id can only come from a death between making the new and removing the old.
        found.sort_by_key(|(_, record)| record.created_ms);
        Ok(found)
    }

    /// Makes the folder of a new session, whole or not at all.
    pub fn create(&self, record: &Record) -> io::Result<PathBuf> {
        let dir = self.sessions.join(Uuid::new_v4().to_string());
        fs::create_dir(&dir)?;
        let made = File::create_new(part(&dir)).and_then(|_| save(&dir, record));
        if let Err(error) = made {
            let _ = remove(&dir);
            return Err(error);
        }
        Ok(dir)
    }

    pub fn look(&self, destination: &Destination) -> io::Result<Found> {
        let parent = match self.walk(destination.parents(), false) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(Errno::LOOP | Errno::NOTDIR) => return Ok(Found::Unusable),
            Err(errno) => return Err(errno.into()),
        };
        look_at(&parent, destination.file_name()).map_err(Into::into)
    }

    /// Opens a finished upload.
    pub fn open_file(&self, destination: &Destination) -> io::Result<File> {
        let parent = self.walk(destination.parents(), false)?;
        // NONBLOCK: somebody may have put a fifo there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            File::from(rustix::fs::openat(&parent, destination.file_name(), flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Moves a part file to its destination, so that it appears there whole and stays there through a power cut.
    pub fn deliver(
        &self,
        dir: &Path,
        destination: &Destination,
        overwrite: bool,
    ) -> Result<(), DeliverError> {
        let file = File::open(part(dir)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DeliverError::Vanished,
            _ => DeliverError::Io(error),
        })?;
        file.sync_all()?;
        let parent = self.walk(destination.parents(), true).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR => DeliverError::Unusable,
            errno => DeliverError::Io(errno.into()),
        })?;
        let name = destination.file_name();
        match look_at(&parent, name).map_err(io::Error::from)? {
            Found::Directory => return Err(DeliverError::Directory),
            Found::Unusable => return Err(DeliverError::Unusable),
            Found::File if !overwrite => return Err(DeliverError::Exists),
            Found::File | Found::Nothing => {}
        }
        rename_into(&part(dir), &parent, name, overwrite).map_err(|errno| match errno {
            Errno::EXIST => DeliverError::Exists,
            Errno::ISDIR => DeliverError::Directory,
            errno => DeliverError::Io(errno.into()),
        })?;
        rustix::fs::fsync(&parent).map_err(io::Error::from)?;
        Ok(())
    }

    /// Gives a part file that time as the one of its last write.
    pub fn stamp(dir: &Path, unix_ms: u64) -> io::Result<()> {
        let time = UNIX_EPOCH + Duration::from_millis(unix_ms);
        File::open(part(dir))?.set_modified(time)
    }

    /// Moves a delivered file away, unless that was done.
    pub fn take_away(&self, destination: &Destination) -> io::Result<()> {
        let folder =
            destination.parents().iter().fold(self.root.join("taken"), |at, name| at.join(name));
        fs::create_dir_all(&folder)?;
        let parent = self.walk(destination.parents(), false)?;
        let name = destination.file_name();
        match rustix::fs::renameat(&parent, name, CWD, folder.join(name)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens a directory below ROOT/files name by name, never through a link. With `make`, directories that are missing
    /// are made and synced.
    fn walk(&self, names: &[String], make: bool) -> Result<OwnedFd, Errno> {
        let mut at = rustix::fs::openat(&self.files, ".", DIRECTORY, Mode::empty())?;
        for name in names {
            at = match rustix::fs::openat(&at, name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) => rustix::fs::fsync(&at)?,
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    rustix::fs::openat(&at, name, DIRECTORY, Mode::empty())?
                }
                other => other?,
            };
        }
        Ok(at)
    }
}

pub fn part(dir: &Path) -> PathBuf {
    dir.join(REQUEST)
}

pub fn response(dir: &Path) -> PathBuf {
    dir.join(RESPONSE)
}

pub fn open_part(dir: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(part(dir))
}

/// Replaces the record. Not synced: the kernel keeps it when the process dies, and `load` checks it against the file.
pub fn save(dir: &Path, record: &Record) -> io::Result<()> {
    let fresh = dir.join("session.tmp");
    let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
    File::create(&fresh)?.write_all(&bytes)?;
    fs::rename(&fresh, dir.join(RECORD))
}

/// Removes a session's folder. The record goes first, so that a death on the way leaves no session without its bytes.
pub fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(RECORD)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn load_one(dir: &Path) -> io::Result<Record> {
    let mut record: Record = serde_json::from_slice(&fs::read(dir.join(RECORD))?)?;
    let length = match fs::metadata(part(dir)) {
        Ok(meta) => meta.len(),
        // Close-Session tells a moved file from a lost one by the state.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(record),
        Err(error) => return Err(error),
    };
    if length < record.next {
        record.next = length;
        record.state = State::ReceiveFragments;
        record.notified = false;
    }
    Ok(record)
}

fn look_at(parent: &OwnedFd, name: &str) -> Result<Found, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(Found::Nothing),
        Err(errno) => Err(errno),
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Found::File,
            FileType::Directory => Found::Directory,
            _ => Found::Unusable,
        }),
    }
}

fn rename_into(from: &Path, parent: &OwnedFd, name: &str, overwrite: bool) -> Result<(), Errno> {
    if overwrite {
        return rustix::fs::renameat(CWD, from, parent, name);
    }
    match rustix::fs::renameat_with(CWD, from, parent, name, RenameFlags::NOREPLACE) {
        // Not every file system knows the flag; a link fails on an existing name as well.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(CWD, from, parent, name, AtFlags::empty())?;
            rustix::fs::unlinkat(CWD, from, AtFlags::empty())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn disk() -> (TempDir, Disk) {
        let root = TempDir::new().unwrap();
        let disk = Disk::open(root.path()).unwrap();
        (root, disk)
    }

    fn destination(target: &str) -> Destination {
        Destination::from_target(target).unwrap()
    }

    fn session(disk: &Disk, bytes: &[u8]) -> PathBuf {
        let record = Record::new(Uuid::new_v4().to_string(), "/x".to_owned(), 1);
        let dir = disk.create(&record).unwrap();
        fs::write(part(&dir), bytes).unwrap();
        dir
    }

    #[test]
    fn a_delivered_file_is_whole_and_its_folders_are_made() {
        let (root, disk) = disk();
        let dir = session(&disk, b"bytes");
        disk.deliver(&dir, &destination("/a/b/c.bin"), false).unwrap();
        let stored = fs::read(root.path().join("files/a/b/c.bin")).unwrap();
        assert_eq!(stored, b"bytes");
        let again = disk.deliver(&dir, &destination("/a/b/c.bin"), false);
        assert!(matches!(again, Err(DeliverError::Vanished)));
    }

    #[test]
    fn an_existing_file_is_replaced_only_when_allowed() {
        let (root, disk) = disk();
        fs::write(root.path().join("files/x"), "old").unwrap();
        let dir = session(&disk, b"new");
        let refused = disk.deliver(&dir, &destination("/x"), false);
        assert!(matches!(refused, Err(DeliverError::Exists)));
        assert_eq!(fs::read(root.path().join("files/x")).unwrap(), b"old");
        disk.deliver(&dir, &destination("/x"), true).unwrap();
        assert_eq!(fs::read(root.path().join("files/x")).unwrap(), b"new");
    }

    #[test]
    fn links_are_not_followed() {
        let (root, disk) = disk();
        let outside = TempDir::new().unwrap();
        let files = root.path().join("files");
        std::os::unix::fs::symlink(outside.path(), files.join("out")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", files.join("pw")).unwrap();
        let inside = destination("/out/x.bin");
        assert_eq!(disk.look(&inside).unwrap(), Found::Unusable);
        let dir = session(&disk, b"bytes");
        let refused = disk.deliver(&dir, &inside, true);
        assert!(matches!(refused, Err(DeliverError::Unusable)));
        assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
        assert!(disk.open_file(&destination("/pw")).is_err());
        let refused = disk.deliver(&dir, &destination("/pw"), true);
        assert!(matches!(refused, Err(DeliverError::Unusable)));
    }

    #[test]
    fn directories_and_missing_files_are_told_apart() {
        let (root, disk) = disk();
        fs::create_dir(root.path().join("files/d")).unwrap();
        fs::write(root.path().join("files/f"), "").unwrap();
        let look = |target| disk.look(&destination(target)).unwrap();
        assert_eq!(look("/d"), Found::Directory);
        assert_eq!(look("/f"), Found::File);
        assert_eq!(look("/n"), Found::Nothing);
        assert_eq!(look("/n/n"), Found::Nothing);
        assert_eq!(look("/f/n"), Found::Unusable);
    }

    #[test]
    fn a_folder_serves_one_server_at_a_time() {
        let (root, disk) = disk();
        assert!(matches!(Disk::open(root.path()), Err(OpenError::InUse { .. })));
        drop(disk);
        assert!(Disk::open(root.path()).is_ok());
    }

    #[test]
    fn a_record_never_claims_more_than_its_file_holds() {
        let (_root, disk) = disk();
        let dir = session(&disk, b"12345");
        let mut record = Record::new("id".to_owned(), "/x".to_owned(), 1);
        record.total = Some(10);
        record.next = 10;
        record.state = State::Notify;
        save(&dir, &record).unwrap();
        let (_, loaded) = disk.load().unwrap().remove(0);
        assert_eq!((loaded.next, loaded.state), (5, State::ReceiveFragments));
        record.next = 3;
        record.state = State::ReceiveFragments;
        save(&dir, &record).unwrap();
        assert_eq!(disk.load().unwrap()[0].1.next, 3);
    }

    #[test]
    fn a_session_that_cannot_be_read_is_removed() {
        let (_root, disk) = disk();
        let dir = session(&disk, b"12345");
        fs::write(dir.join(RECORD), "{").unwrap();
        assert!(disk.load().unwrap().is_empty());
        assert!(!dir.exists());
    }
}
