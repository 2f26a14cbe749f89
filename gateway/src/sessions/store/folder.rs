//! The directory of the store: names, permissions, and files that change places.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gateway_core::session::Timestamp;

use super::error::{OpenError, Trouble};
use super::faults::{self, Op};

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

    /// Where gateways say that they use the directory.
    pub fn lock(&self) -> PathBuf {
        self.path.join("sessions.lock")
    }

    pub fn index(&self) -> PathBuf {
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
        for path in [self.database(), self.log(), self.index(), self.lock()] {
            if let Ok(metadata) = fs::metadata(&path) {
                private(&path, metadata.mode(), FILE_MODE)?;
            }
        }
        Ok(())
    }

    /// Which file is the database now; `None` if there is none.
    pub fn identity(&self) -> Option<Identity> {
        identity(&self.database())
    }

    pub fn log_identity(&self) -> Option<Identity> {
        identity(&self.log())
    }

    pub fn index_identity(&self) -> Option<Identity> {
        identity(&self.index())
    }

    /// Bytes of the database, and of its log.
    pub fn sizes(&self) -> [u64; 2] {
        [self.database(), self.log()].map(|path| fs::metadata(path).map_or(0, |found| found.len()))
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

    /// Makes the draft the database, unless there is one: then that stays. Returns where a log lies
    /// now that had no database: it would be played back into the new one.
    pub fn install_first(&self, now: Timestamp) -> io::Result<Option<PathBuf>> {
        let draft = self.draft();
        sync(&draft)?;
        let mut aside = None;
        if self.identity().is_none() {
            aside = self.set_log_aside(now)?;
            remove(&self.index())?;
        }
        match link(&draft, &self.database()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Some file systems have no hard links.
            Err(_) => rename(&draft, &self.database())?,
        }
        remove(&draft)?;
        self.sync()?;
        Ok(aside)
    }

    /// Takes the name of the log from whatever has it. `None` if that is nothing.
    fn set_log_aside(&self, now: Timestamp) -> io::Result<Option<PathBuf>> {
        let aside = self.aside(now, "-wal");
        match rename(&self.log(), &aside) {
            Ok(()) => Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn aside(&self, now: Timestamp, of: &str) -> PathBuf {
        self.path.join(format!("sessions.db.corrupt-{}{of}", now.0))
    }

    /// Puts the draft, which holds all that the database and its log hold, in the place of both.
    ///
    /// The draft has the same pages as the database: should the process die before the log is gone,
    /// the next one plays the log back into the draft, and nothing changes.
    pub fn renew(&self) -> io::Result<()> {
        sync(&self.draft())?;
        rename(&self.draft(), &self.database())?;
        self.sync()?;
        remove(&self.log())?;
        remove(&self.index())?;
        self.sync()
    }

    /// The same where the log is not the database's: it must not meet the draft.
    pub fn renew_without_log(&self, now: Timestamp) -> io::Result<()> {
        sync(&self.draft())?;
        self.set_log_aside(now)?;
        remove(&self.index())?;
        rename(&self.draft(), &self.database())?;
        self.sync()
    }

    /// Puts the draft in the place of a damaged database, which stays under another name.
    ///
    /// # Errors
    /// Nothing has changed then, but for copies that may be left.
    pub fn replace(&self, now: Timestamp) -> io::Result<PathBuf> {
        let aside = self.aside(now, "");
        self.replace_and_keep(&aside, &self.aside(now, "-wal"))?;
        Ok(aside)
    }

    /// The same for a database that is to be as it was before. `None` if there is none.
    pub fn replace_by_copy(&self, now: Timestamp) -> io::Result<Option<PathBuf>> {
        let aside = |of| self.path.join(format!("sessions.db.before-{}{of}", now.0));
        self.replace_and_keep(&aside(""), &aside("-wal"))?;
        Ok(Some(aside("")).filter(|aside| aside.exists()))
    }

    fn replace_and_keep(&self, aside: &Path, log_aside: &Path) -> io::Result<()> {
        sync(&self.draft())?;
        set_aside(&self.database(), aside)?;
        set_aside(&self.log(), log_aside)?;
        // Before the new file has the name: a log is played back into whatever is called so.
        remove(&self.log())?;
        remove(&self.index())?;
        rename(&self.draft(), &self.database())?;
        self.sync()
    }

    /// Makes names durable.
    pub fn sync(&self) -> io::Result<()> {
        sync(&self.path)
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn sync(path: &Path) -> io::Result<()> {
    faults::check(Op::Sync, path)?;
    File::open(path)?.sync_all()
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    faults::check(Op::Rename, from)?;
    fs::rename(from, to)
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    faults::check(Op::Rename, from)?;
    fs::hard_link(from, to)
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
    match link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => fs::copy(from, to).map(|_| ()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    faults::check(Op::Rename, path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
