//! Every error that this server sends, in one table: status, HRESULT, context.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

use crate::paths::PathError;

/// Why a packet was not done.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("invalid packet: {0}")]
    InvalidArgument(&'static str),
    #[error("no content-length")]
    LengthRequired,
    #[error("access denied: {0}")]
    AccessDenied(&'static str),
    #[error("unknown session")]
    SessionNotFound,
    #[error("out of step, next offset is {next}")]
    OutOfStep { next: u64 },
    #[error("the file is larger than this server takes")]
    TooLarge,
    #[error("the fragment is larger than this server takes")]
    FragmentTooLarge,
    #[error("the disk is full")]
    DiskFull,
    #[error("the uploaded file has vanished from the server")]
    FileVanished,
    #[error("the server application failed: {why}")]
    Application { status: u16, hresult: u32, why: String },
    #[error("internal error: {0}")]
    Internal(String),
}

/// One line of the error table, MC-BUP 2.2.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub status: u16,
    /// `None` where the status says it all.
    pub hresult: Option<u32>,
    pub context: u8,
}

/// Found by the upload server itself.
pub const CONTEXT_SERVER: u8 = 0x5;
/// Came from the application behind it.
pub const CONTEXT_APPLICATION: u8 = 0x7;

pub const E_INVALIDARG: u32 = 0x8007_0057;
const E_ACCESSDENIED: u32 = 0x8007_0005;
const E_FAIL: u32 = 0x8000_4005;
const SESSION_NOT_FOUND: u32 = 0x8020_001F;
const TOO_LARGE: u32 = 0x8020_0020;
/// HRESULT of ERROR_DISK_FULL. MC-BUP prints x80070112, the decimal 112 in a hex constant.
const DISK_FULL: u32 = 0x8007_0070;
const NOT_FOUND: u32 = 0x8007_0002;

impl Refusal {
    pub fn row(&self) -> Row {
        let (status, hresult, context) = match self {
            Self::InvalidArgument(_) => (400, Some(E_INVALIDARG), CONTEXT_SERVER),
            Self::LengthRequired => (411, Some(E_INVALIDARG), CONTEXT_SERVER),
            Self::AccessDenied(_) => (403, Some(E_ACCESSDENIED), CONTEXT_SERVER),
            Self::SessionNotFound => (500, Some(SESSION_NOT_FOUND), CONTEXT_SERVER),
            Self::OutOfStep { .. } => (416, None, CONTEXT_SERVER),
            Self::TooLarge => (500, Some(TOO_LARGE), CONTEXT_SERVER),
            Self::FragmentTooLarge => (413, None, CONTEXT_SERVER),
            Self::DiskFull => (500, Some(DISK_FULL), CONTEXT_SERVER),
            Self::FileVanished => (404, Some(NOT_FOUND), CONTEXT_SERVER),
            Self::Application { status, hresult, .. } => {
                (*status, Some(*hresult), CONTEXT_APPLICATION)
            }
            Self::Internal(_) => (500, Some(E_FAIL), CONTEXT_SERVER),
        };
        Row { status, hresult, context }
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Directory => Self::InvalidArgument("the destination is a directory"),
            PathError::Reserved => Self::AccessDenied("a reserved name"),
            PathError::Escapes => Self::InvalidArgument("a path that leaves the upload folder"),
            PathError::TooLong => Self::InvalidArgument("a path that is too long"),
            PathError::NotAPath | PathError::BadEscape | PathError::NotUtf8 => {
                Self::InvalidArgument("a target that is no path")
            }
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::DiskFull,
            Some(Errno::FBIG) => Self::TooLarge,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                Self::AccessDenied("no right to the upload folder")
            }
            _ => Self::Internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(errno: Errno, status: u16, hresult: u32) {
        let row = Refusal::from(io::Error::from(errno)).row();
        assert_eq!((row.status, row.hresult), (status, Some(hresult)));
    }

    #[test]
    fn disk_errors_become_their_hresult() {
        check(Errno::NOSPC, 500, 0x8007_0070);
        check(Errno::DQUOT, 500, 0x8007_0070);
        check(Errno::FBIG, 500, 0x8020_0020);
        check(Errno::ACCESS, 403, 0x8007_0005);
        check(Errno::IO, 500, 0x8000_4005);
    }

    #[test]
    fn a_full_device_is_reported_as_disk_full() {
        use std::io::Write;
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = full.write_all(b"x").unwrap_err();
        assert_eq!(Refusal::from(error), Refusal::DiskFull);
    }
}
