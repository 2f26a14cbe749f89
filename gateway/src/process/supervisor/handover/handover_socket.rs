//! The upgrade socket: where a successor knocks.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::channel::{Channel, registered};
use crate::process::exit::Exit;

/// Nobody knocks but a successor, and one at a time.
const BACKLOG: i32 = 4;

#[derive(Debug, thiserror::Error)]
pub enum HandoverSocketError {
    #[error("the directory of the upgrade socket {} cannot be used", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "the upgrade socket {} lies in a directory into which everybody may write: \
         whoever puts a socket there first gets the traffic",
        path.display()
    )]
    Writable { path: PathBuf },
    #[error("another process already answers on the upgrade socket {}", path.display())]
    InUse { path: PathBuf },
    #[error("cannot listen on the upgrade socket {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("no process answers on the upgrade socket {}", path.display())]
    NobodyThere { path: PathBuf, source: io::Error },
}

impl HandoverSocketError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Writable { .. } => Exit::Config,
            Self::NobodyThere { .. } => Exit::Unavailable,
            _ => Exit::Io,
        }
    }
}

/// The listening end. Its path outlives the process: a successor gets the socket itself.
#[derive(Debug)]
pub(crate) struct HandoverSocket {
    socket: AsyncFd<OwnedFd>,
    path: PathBuf,
    /// Device and inode of our entry in the directory.
    entry: (u64, u64),
}

impl HandoverSocket {
    /// Listens on `path`. A socket that a dead process has left there is replaced.
    ///
    /// Must be called inside a runtime.
    pub fn open(path: &Path) -> Result<Self, HandoverSocketError> {
        check_directory(path)?;
        match connect_to(path) {
            Ok(_) => return Err(HandoverSocketError::InUse { path: path.to_owned() }),
            Err(HandoverSocketError::NobodyThere { source, .. })
                if source.kind() == io::ErrorKind::ConnectionRefused =>
            {
                let _ = fs::remove_file(path);
            }
            Err(_) => {}
        }
        let opened = listening(path).and_then(|socket| Self::adopt(socket, path));
        opened.map_err(|source| HandoverSocketError::Listen { path: path.to_owned(), source })
    }

    /// Takes over a socket that another process has opened on `path`.
    pub fn adopt(socket: OwnedFd, path: &Path) -> io::Result<Self> {
        let there = fs::symlink_metadata(path)?;
        let socket = registered(socket)?;
        Ok(Self { socket, path: path.to_owned(), entry: (there.dev(), there.ino()) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn accept(&self) -> io::Result<Channel> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accept = |socket: &OwnedFd| Ok(accept_with(socket, flags)?);
        Channel::new(self.socket.async_io(Interest::READABLE, accept).await?)
    }

    /// Closes the socket for good: nobody after us answers here.
    pub fn remove(self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == self.entry);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the upgrade socket");
        }
    }
}

impl AsFd for HandoverSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

/// Connects to the process behind `path`.
pub(super) fn connect_to(path: &Path) -> Result<OwnedFd, HandoverSocketError> {
    let nobody = |error: Errno| HandoverSocketError::NobodyThere {
        path: path.to_owned(),
        source: error.into(),
    };
    let socket = socket().map_err(nobody)?;
    let address = SocketAddrUnix::new(path).map_err(nobody)?;
    connect(&socket, &address).map_err(nobody)?;
    Ok(socket)
}

/// Whoever may write into the directory may put a socket of his own in place of ours.
pub(super) fn check_directory(path: &Path) -> Result<(), HandoverSocketError> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let directory = fs::metadata(parent)
        .map_err(|source| HandoverSocketError::Directory { path: path.to_owned(), source })?;
    if directory.mode() & 0o002 != 0 {
        return Err(HandoverSocketError::Writable { path: path.to_owned() });
    }
    Ok(())
}

fn listening(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    // On the socket, before it has a name: there is no moment in which others may connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[tokio::test]
    async fn only_the_owner_may_knock() {
        let folder = folder();
        let path = folder.path().join("upgrade.sock");
        let _door = HandoverSocket::open(&path).expect("opened");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_socket_left_by_a_dead_process_is_replaced_and_a_live_one_is_not() {
        let folder = folder();
        let path = folder.path().join("upgrade.sock");
        drop(HandoverSocket::open(&path).expect("opened"));
        assert!(path.exists(), "as a killed process leaves it");
        let handover_socket = HandoverSocket::open(&path).expect("replaced");
        let error = HandoverSocket::open(&path).expect_err("somebody is there");
        assert!(matches!(error, HandoverSocketError::InUse { .. }), "{error}");
        handover_socket.remove();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let folder = folder();
        let path = folder.path().join("upgrade.sock");
        let handover_socket = HandoverSocket::open(&path).expect("opened");
        fs::remove_file(&path).expect("removed");
        let _other = HandoverSocket::open(&path).expect("opened");
        handover_socket.remove();
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_directory_for_everybody_is_refused_by_both_sides() {
        let folder = folder();
        let path = folder.path().join("upgrade.sock");
        for mode in [0o777, 0o1777] {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(folder.path(), permissions).expect("changed");
            let error = HandoverSocket::open(&path).expect_err("everybody may write there");
            assert!(matches!(error, HandoverSocketError::Writable { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_missing_directory_and_a_path_too_long_say_so() {
        let folder = folder();
        let error =
            HandoverSocket::open(&folder.path().join("no/upgrade.sock")).expect_err("no directory");
        assert!(matches!(error, HandoverSocketError::Directory { .. }), "{error}");
        let error =
            HandoverSocket::open(&folder.path().join("x".repeat(120))).expect_err("too long");
        assert!(matches!(error, HandoverSocketError::Listen { .. }), "{error}");
    }

    #[tokio::test]
    async fn nobody_there_is_told_apart() {
        let folder = folder();
        let error = connect_to(&folder.path().join("upgrade.sock")).expect_err("no socket");
        assert!(matches!(error, HandoverSocketError::NobodyThere { .. }), "{error}");
    }
}
