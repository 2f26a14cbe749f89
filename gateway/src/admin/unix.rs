//! The Unix socket of the admin listener: a file whose permissions are the password.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

const BACKLOG: i32 = 128;

/// A socket that listens.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// Where the socket is found. Clones are the same entry.
#[derive(Debug, Clone)]
pub struct Entry {
    path: PathBuf,
    /// Its name until it is published.
    temporary: PathBuf,
    device_and_inode: (u64, u64),
}

/// Removes the file, unless a successor has put its own in place.
#[derive(Debug)]
pub struct SocketFile(Entry);

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("cannot make the admin socket {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot make the admin socket {}: there is a file that is no socket", path.display())]
    InTheWay { path: PathBuf },
}

impl UnixSocket {
    /// Listens at `path`, with these permissions from the first moment.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, SocketError> {
        let socket = Self::make(path, mode)?;
        let published = socket.entry().publish();
        published.map_err(|source| SocketError::Make { path: path.to_owned(), source })?;
        Ok(socket)
    }

    /// Listens, and is found at `path` from [`Entry::publish`] on.
    pub fn make(path: &Path, mode: u32) -> Result<Self, SocketError> {
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(SocketError::InTheWay { path: path.to_owned() });
            }
            _ => {}
        }
        let made = Self::listen(path, mode);
        made.map_err(|source| SocketError::Make { path: path.to_owned(), source })
    }

    /// The entry, to publish it.
    pub fn entry(&self) -> Entry {
        self.file.0.clone()
    }

    fn listen(path: &Path, mode: u32) -> io::Result<Self> {
        let temporary = path.with_file_name(format!(".{:x}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(&temporary)?)?;
        // Nobody can connect to a socket that does not listen yet.
        let made = fs::set_permissions(&temporary, Permissions::from_mode(mode))
            .and_then(|()| socket.listen(BACKLOG))
            .and_then(|()| fs::symlink_metadata(&temporary));
        let there = made.inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        let device_and_inode = (there.dev(), there.ino());
        let entry = Entry { path: path.to_owned(), temporary, device_and_inode };
        Ok(Self { listener: socket.into(), file: SocketFile(entry) })
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Entry {
    /// Puts the socket in its place.
    ///
    /// A socket that is there is replaced in one step: it is a leftover, or that of the process
    /// which this one succeeds. Call it when everything else that belongs to one process only, such
    /// as the traffic listeners, has been taken.
    pub fn publish(&self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Entry { path, temporary, device_and_inode } = &self.0;
        for path in [temporary, path] {
            let ours = fs::symlink_metadata(path)
                .is_ok_and(|there| (there.dev(), there.ino()) == *device_and_inode);
            if ours {
                // A leftover is replaced by the next process anyway.
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::config::SOCKET_PATH_LIMIT;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_file_has_its_mode_and_goes_with_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        for expected in [0o600, 0o660] {
            let path = folder.path().join("admin.sock");
            let socket = UnixSocket::bind(&path, expected).unwrap();
            assert_eq!(mode(&path), expected);
            UnixStream::connect(&path).unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no other file");
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_successor_takes_the_path_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = UnixSocket::bind(&path, 0o600).unwrap();
        let second = UnixSocket::bind(&path, 0o600).unwrap();
        drop(first);
        UnixStream::connect(&path).expect("the file of the second stays");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_is_never_published_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = UnixSocket::bind(&path, 0o600).unwrap();
        let second = UnixSocket::make(&path, 0o600).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        drop(second);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        UnixStream::connect(&path).expect("the first is still there");
        drop(first);
    }

    #[test]
    fn a_socket_that_nobody_serves_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left over");
        let _socket = UnixSocket::bind(&path, 0o600).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "text").unwrap();
        let error = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert!(matches!(error, SocketError::InTheWay { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        let error = UnixSocket::bind(&folder.path().join("no/sock"), 0o600).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }

    #[test]
    fn the_longest_path_has_room_for_the_first_name() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let mut path = folder.path().join("x");
        let missing = SOCKET_PATH_LIMIT - path.as_os_str().len();
        path.set_file_name("x".repeat(missing + 1));
        assert_eq!(path.as_os_str().len(), SOCKET_PATH_LIMIT);
        UnixSocket::bind(&path, 0o600).unwrap();
        let directory = folder.path().join("y".repeat(missing - 1));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("s");
        assert!(path.as_os_str().len() <= SOCKET_PATH_LIMIT + 1);
        UnixSocket::bind(&path, 0o600).unwrap();
    }
}
