//! The directory of the store: names, permissions, and files that change places.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gateway_core::session::Timestamp;

use super::error::{OpenError, Trouble};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// What strangers may never do, and what a group may not: write. A group may read, for backups.
const EXPOSED: u32 = 0o027;
const GROUP_READS: u32 = 0o050;

#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

/// Which file a name stood for: device and inode.
pub type Identity = (u64, u64);

impl Folder {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("sessions.db")
    }

    /// The write-ahead log of SQLite.
    pub fn log(&self) -> PathBuf {
        self.path.join("sessions.db-wal")
    }

    fn index(&self) -> PathBuf {
        self.path.join("sessions.db-shm")
    }

    /// A database in the making.
    pub fn draft(&self) -> PathBuf {
        self.path.join("sessions.db.new")
    }

    /// Makes the directory if it is missing, and looks who may enter.
    ///
    /// # Errors
    /// Others may read or write it: session ids are bearer secrets, and whoever can write a pin
    /// can send an upload elsewhere.
    pub fn prepare(&self) -> Result<(), OpenError> {
        if let Err(error) =
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.path)
        {
            if self.path.exists() {
                return Err(OpenError::NoDirectory(self.path.clone()));
            }
            return Err(Trouble::io(&self.path, &error).into());
        }
        self.guarded()
    }

    /// Looks who may enter the directory and read its files.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn guarded(&self) -> Result<(), OpenError> {
        let metadata = fs::metadata(&self.path).map_err(|error| Trouble::io(&self.path, &error))?;
        if !metadata.is_dir() {
            return Err(OpenError::NoDirectory(self.path.clone()));
        }
        private(&self.path, metadata.mode(), DIRECTORY_MODE)?;
        for path in [self.database(), self.log(), self.index()] {
            if let Ok(metadata) = fs::metadata(&path) {
                private(&path, metadata.mode(), FILE_MODE)?;
            }
        }
        Ok(())
    }

    /// Which file is the database now; `None` if there is none.
    pub fn identity(&self) -> Option<Identity> {
        fs::metadata(self.database()).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }

    /// Bytes that the database and its log take.
    pub fn size(&self) -> u64 {
        [self.database(), self.log()]
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .map(|metadata| metadata.len())
            .sum()
    }

    /// An empty file for a new database, in place of whatever a crash left there.
    pub fn start_draft(&self) -> io::Result<PathBuf> {
        let path = self.draft();
        for leftover in [path.clone(), self.path.join("sessions.db.new-journal")] {
            remove(&leftover)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        Ok(path)
    }

    /// Makes the draft the database, unless there is one: then that stays.
    pub fn install_first(&self) -> io::Result<()> {
        let draft = self.draft();
        File::open(&draft)?.sync_all()?;
        // A log without its database would be played back into the new one.
        if self.identity().is_none() {
            remove(&self.log())?;
            remove(&self.index())?;
        }
        match fs::hard_link(&draft, self.database()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Some file systems have no hard links.
            Err(_) => fs::rename(&draft, self.database())?,
        }
        remove(&draft)?;
        self.sync()
    }

    /// Puts the draft in the place of a damaged database, which stays under another name.
    ///
    /// # Errors
    /// Nothing has changed then, but for copies that may be left.
    pub fn replace(&self, now: Timestamp) -> io::Result<PathBuf> {
        File::open(self.draft())?.sync_all()?;
        let aside = self.path.join(format!("sessions.db.corrupt-{}", now.0));
        let log_aside = self.path.join(format!("sessions.db.corrupt-{}-wal", now.0));
        set_aside(&self.database(), &aside)?;
        set_aside(&self.log(), &log_aside)?;
        // Before the new file has the name: a log is played back into whatever is called so.
        remove(&self.log())?;
        remove(&self.index())?;
        fs::rename(self.draft(), self.database())?;
        self.sync()?;
        Ok(aside)
    }

    /// Makes names durable.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn private(path: &Path, mode: u32, right: u32) -> Result<(), OpenError> {
    let mode = mode & 0o777;
    if mode & EXPOSED != 0 {
        // Whoever let a group read meant it.
        let right = right | (mode & GROUP_READS & (right >> 3));
        return Err(OpenError::Exposed { path: path.to_owned(), mode, right });
    }
    Ok(())
}

fn set_aside(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => fs::copy(from, to).map(|_| ()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
