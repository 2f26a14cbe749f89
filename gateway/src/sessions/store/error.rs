//! What can be wrong with the store, in words that say how to go on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::ErrorCode;

use crate::process::exit::Exit;

/// Why something was not made durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the session store takes no writes: {0}")]
    Down(Arc<Trouble>),
    #[error("{waiting} writes wait for the session store already")]
    Busy { waiting: usize },
    #[error("the session store has not answered for {} ms", waited.as_millis())]
    Slow { waited: Duration },
    #[error("the session store was closed")]
    Closed,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} was written by a newer version: its schema is {found}, and this version knows {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    Exposed { path: PathBuf, mode: u32, right: u32 },
    #[error("{} is no directory", .0.display())]
    NoDirectory(PathBuf),
    #[error("another gateway{} uses this store, {}", with_pid(*pid), directory.display())]
    InUse { directory: PathBuf, pid: Option<u32> },
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// What the system or SQLite says about a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {}: {detail}", path.display())]
pub struct Trouble {
    pub kind: TroubleKind,
    pub path: PathBuf,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    Full,
    ReadOnly,
    Denied,
    Missing,
    Locked,
    Damaged,
    Io,
    Other,
}

impl OpenError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Newer { .. } => "run the newer version, or move the file away: uploads that are \
                                   under way then lose their servers"
                .to_owned(),
            Self::Exposed { path, right, .. } => {
                format!("session ids are secrets: chmod {right:o} {}", path.display())
            }
            Self::NoDirectory(_) => "`path` of [store] names a directory".to_owned(),
            Self::InUse { .. } => "give each gateway a `path` of its own in [store]; to take over \
                                   from a gateway that runs, start with --upgrade"
                .to_owned(),
            Self::Trouble(trouble) => trouble.help(),
        }
    }

    pub fn exit(&self) -> Exit {
        match self {
            Self::Exposed { .. } => Exit::Permission,
            Self::NoDirectory(_) => Exit::Config,
            Self::InUse { .. } => Exit::Unavailable,
            Self::Trouble(trouble) if trouble.kind == TroubleKind::Denied => Exit::Permission,
            Self::Newer { .. } | Self::Trouble(_) => Exit::Io,
        }
    }
}

fn with_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl Trouble {
    pub fn new(kind: TroubleKind, path: &Path, detail: impl fmt::Display) -> Self {
        Self { kind, path: path.to_owned(), detail: detail.to_string() }
    }

    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind as E;
        let kind = match error.kind() {
            E::StorageFull | E::QuotaExceeded | E::FileTooLarge => TroubleKind::Full,
            E::ReadOnlyFilesystem => TroubleKind::ReadOnly,
            E::PermissionDenied => TroubleKind::Denied,
            E::NotFound => TroubleKind::Missing,
            _ => TroubleKind::Io,
        };
        Self::new(kind, path, error)
    }

    pub(super) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::ffi;
        let kind = match error.sqlite_error_code() {
            // What the disk does not give back is lost, whatever the reason.
            Some(ErrorCode::SystemIoFailure)
                if error.sqlite_extended_error_code().is_some_and(|code| {
                    [
                        ffi::SQLITE_IOERR_READ,
                        ffi::SQLITE_IOERR_SHORT_READ,
                        ffi::SQLITE_IOERR_CORRUPTFS,
                        ffi::SQLITE_IOERR_DATA,
                    ]
                    .contains(&code)
                }) =>
            {
                TroubleKind::Damaged
            }
            Some(ErrorCode::DiskFull) => TroubleKind::Full,
            Some(ErrorCode::ReadOnly) => TroubleKind::ReadOnly,
            Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => TroubleKind::Denied,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => TroubleKind::Locked,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => TroubleKind::Damaged,
            // It has no name of its own for a full disk when it syncs or grows a file.
            Some(ErrorCode::SystemIoFailure) if is_full(path) => TroubleKind::Full,
            Some(ErrorCode::SystemIoFailure) => TroubleKind::Io,
            _ => TroubleKind::Other,
        };
        match error.sqlite_error() {
            // The name of the call that failed is worth more than "disk I/O error".
            Some(code) => {
                let text = rusqlite::ffi::code_to_str(code.extended_code);
                Self::new(kind, path, format_args!("{text} (SQLite {})", code.extended_code))
            }
            None => Self::new(kind, path, error),
        }
    }

    /// The same, where no other reason can be thought of than a damaged file.
    pub(super) fn or_damage(self) -> Self {
        match self.kind {
            TroubleKind::Other => Self { kind: TroubleKind::Damaged, ..self },
            _ => self,
        }
    }

    /// How to go on. The store itself keeps trying.
    pub fn help(&self) -> String {
        let path = self.path.display();
        match self.kind {
            TroubleKind::Full => {
                format!("make room on the disk of {path}: the gateway goes on by itself then")
            }
            TroubleKind::ReadOnly => format!(
                "remount the disk of {path} for writing, or give [store] another `path`: the \
                 gateway goes on by itself once it can write"
            ),
            TroubleKind::Denied => {
                format!("the user of the gateway must own {path} and everything in its directory")
            }
            TroubleKind::Missing => format!("{path} was removed or its disk is not mounted"),
            TroubleKind::Locked => {
                format!("another program holds a lock on {path}: `fuser {path}` tells which")
            }
            TroubleKind::Damaged => "it is set aside and replaced by what can be read".to_owned(),
            TroubleKind::Io => format!(
                "the kernel log says what is wrong with the disk of {path}; the gateway goes on \
                 by itself once a write succeeds"
            ),
            TroubleKind::Other => format!("look at {path} with sqlite3"),
        }
    }
}

/// Whether the disk that holds a file has no room for a handful of pages.
fn is_full(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(path);
    rustix::fs::statvfs(directory).is_ok_and(|disk| disk.f_bavail * disk.f_frsize < 64 * 1024)
}

impl fmt::Display for TroubleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::ReadOnly => "the disk is read-only",
            Self::Denied => "access is denied",
            Self::Missing => "it is not there",
            Self::Locked => "another program holds it",
            Self::Damaged => "it is damaged",
            Self::Io => "the disk fails",
            Self::Other => "it cannot be used",
        })
    }
}
