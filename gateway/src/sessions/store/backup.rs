//! A copy of a store in one file, and the way back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::session::Timestamp;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::error::{OpenError, Trouble, TroubleKind};
use super::folder::Folder;
use super::load::{self, Order, Position};
use super::lock::DirectoryLock;
use super::read::connect_to;

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    pub sessions: u64,
    /// Ended sessions that are remembered.
    pub ended: u64,
    /// States that operators have set.
    pub states: u64,
    pub damaged: u64,
    pub bytes: u64,
}

/// What came of a restore.
#[derive(Debug)]
pub struct Restored {
    pub copied: Copied,
    /// Where the database is now that was there before.
    pub aside: Option<PathBuf>,
}

/// Copies the store in a directory into `file`, whether a gateway runs on it or not. The copy is a
/// state of one moment, durable, and nobody's but the user's.
///
/// # Errors
/// There is no store, or one of a newer version, or the file cannot be written. A file that is there
/// already stays, unless it is to be replaced.
pub fn backup(directory: &Path, file: &Path, replace: bool) -> Result<Copied, OpenError> {
    let folder = Folder::new(directory);
    let database = folder.database();
    let io_at = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| Trouble::io(&path, &error)
    };
    fs::metadata(&database).map_err(io_at(&database))?;
    if !replace && file.symlink_metadata().is_ok() {
        let error = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(Trouble::io(file, &error).into());
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let draft = file.with_file_name(format!(".{name}.new"));
    remove(&draft).map_err(io_at(&draft))?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(io_at(file))?;
    let copied = connect_to(&database).and_then(|source| copy(&source, &draft));
    let finished = copied.and_then(|copied| {
        let named = File::open(&draft)
            .and_then(|open| open.sync_all())
            .and_then(|()| fs::rename(&draft, file))
            .and_then(|()| File::open(parent(file))?.sync_all());
        named.map_err(io_at(file))?;
        Ok(copied)
    });
    if finished.is_err() {
        let _ = fs::remove_file(&draft);
    }
    finished
}

/// Puts a copy that [`backup`] has made in the place of the store in a directory, which stays there
/// under another name. Files belong to the owner of the directory.
///
/// # Errors
/// A gateway uses the directory, or the file is none of ours. Nothing has changed then.
pub fn restore(directory: &Path, file: &Path, now: Timestamp) -> Result<Restored, OpenError> {
    fs::metadata(file).map_err(|error| Trouble::io(file, &error))?;
    let source = connect_to(file)?;
    let folder = Folder::new(directory);
    folder.prepare()?;
    let lock = DirectoryLock::take_alone(&folder.lock())?;
    let draft = folder.start_draft().map_err(|error| Trouble::io(&folder.draft(), &error))?;
    let restored = copy(&source, &draft).and_then(|copied| {
        let put = give_to_owner(directory, &[&draft, &folder.lock()])
            .and_then(|()| folder.replace_by_copy(now));
        let aside = put.map_err(|error| Trouble::io(&folder.database(), &error))?;
        Ok(Restored { copied, aside })
    });
    if restored.is_err() {
        let _ = fs::remove_file(&draft);
    }
    // What cannot be written says only that this process has not ended in order.
    let _ = lock.release();
    restored
}

/// Copies all pages in one go: a copy in pieces begins anew with every write of a gateway.
fn copy(source: &Connection, draft: &Path) -> Result<Copied, OpenError> {
    let trouble = |error: rusqlite::Error| OpenError::from(Trouble::sqlite(draft, &error));
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(draft, flags).map_err(trouble)?;
    let whole = Backup::new(source, &mut copy)
        .and_then(|backup| backup.run_to_completion(i32::MAX, Duration::ZERO, None));
    whole.map_err(trouble)?;
    // One file, without a log beside it.
    let mode = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    copy.pragma_update_and_check(None, "journal_mode", "delete", mode).map_err(trouble)?;
    let checked: String = copy.query_row("PRAGMA quick_check(1)", [], mode).map_err(trouble)?;
    if checked != "ok" {
        return Err(Trouble::new(TroubleKind::Damaged, draft, checked).into());
    }
    let visited = load::visit(&mut copy, Position::default(), Order::NewestFirst, &mut |_| true);
    let visited = visited.map_err(trouble)?;
    copy.close().map_err(|(_, error)| trouble(error))?;
    let bytes = fs::metadata(draft).map_err(|error| Trouble::io(draft, &error))?.len();
    Ok(Copied {
        sessions: visited.pins,
        ended: visited.tombstones,
        states: visited.states,
        damaged: visited.damaged,
        bytes,
    })
}

/// A restore is often made by root, and the gateway runs as a user of its own.
fn give_to_owner(directory: &Path, files: &[&Path]) -> io::Result<()> {
    let owner = fs::metadata(directory)?;
    for file in files {
        let there = fs::metadata(file)?;
        if (there.uid(), there.gid()) != (owner.uid(), owner.gid()) {
            std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn parent(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
