//! Ends under way, as another process on the same store sees them.
//!
//! The hazard: while one process takes over from another, a client sends its Close-Session to one,
//! loses the connection, and sends it again to the other. Both have the session. A server that is
//! told twice says "session not found" the second time, and the client starts over.
//!
//! So a process locks one byte of a file beside the store for each packet under way that must not
//! reach a server twice. Which byte follows from the session's id. The lock belongs to the open
//! file, so the kernel takes it back however the process ends, and nothing stale is left.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use gateway_core::protocol::SessionKey;
use gateway_core::session::fnv1a;

use super::Sessions;

const FILE: &str = "ends-under-way.lock";

/// The file. Nothing is ever written to it.
#[derive(Debug)]
pub(super) struct UnderWay {
    file: File,
}

/// Another process has an end of this session under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere;

/// Tells other processes that an end of a session is under way here, until it is dropped.
#[derive(Debug)]
pub struct EndLock {
    under_way: Arc<UnderWay>,
    at: libc::off_t,
}

impl UnderWay {
    pub(super) fn open(folder: &Path) -> io::Result<Arc<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(FILE))?;
        Ok(Arc::new(Self { file }))
    }

    /// Of two ends of one session in one process only one is under way, so the same process never
    /// asks twice.
    pub(super) fn lock(self: &Arc<Self>, key: &SessionKey) -> Result<Option<EndLock>, Elsewhere> {
        let at = place(key);
        match self.call(libc::F_OFD_SETLK, libc::F_WRLCK, at) {
            Ok(_) => Ok(Some(EndLock { under_way: Arc::clone(self), at })),
            Err(error) if is_held(&error) => Err(Elsewhere),
            // The file system has no locks. An upgrade is rare, and a Close that waits for nothing
            // costs its upload.
            Err(_) => Ok(None),
        }
    }

    pub(super) fn is_elsewhere(&self, key: &SessionKey) -> bool {
        let found = self.call(libc::F_OFD_GETLK, libc::F_WRLCK, place(key));
        found.is_ok_and(|kind| kind != libc::F_UNLCK)
    }

    /// The kind of lock that is there, for `F_OFD_GETLK`.
    fn call(&self, command: libc::c_int, kind: libc::c_int, at: libc::off_t) -> io::Result<i32> {
        // SAFETY: all its fields are numbers, for which zero is a value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        (lock.l_start, lock.l_len) = (at, 1);
        // SAFETY: the descriptor is open for as long as the file lives, and the kernel writes to
        // the record alone.
        let done = unsafe { libc::fcntl(self.file.as_raw_fd(), command, &raw mut lock) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(lock.l_type.into()) }
    }
}

impl Drop for EndLock {
    fn drop(&mut self) {
        // Failing leaves it to the end of the process.
        let _ = self.under_way.call(libc::F_OFD_SETLK, libc::F_UNLCK, self.at);
    }
}

impl Sessions {
    /// Tells other processes on the store that an end of the session is under way here. `None` where
    /// there are none, because the table is in memory.
    ///
    /// # Errors
    /// Another one has an end of it under way.
    pub fn lock_end(&self, key: &SessionKey) -> Result<Option<EndLock>, Elsewhere> {
        self.under_way.as_ref().map_or(Ok(None), |under_way| under_way.lock(key))
    }

    pub fn is_ending_elsewhere(&self, key: &SessionKey) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| under_way.is_elsewhere(key))
    }
}

/// The same in every build and process. Two sessions may share a byte: then one waits for nothing.
fn place(key: &SessionKey) -> libc::off_t {
    let hash = match key.guid() {
        Some(guid) => fnv1a(guid.as_bytes()),
        None => fnv1a(key.text().as_bytes()),
    };
    // Two bits less: the end of the range is a position, too.
    (hash >> 2) as libc::off_t
}

fn is_held(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

#[cfg(test)]
mod tests {
    use gateway_core::protocol::SessionId;

    use super::*;

    fn key(id: &str) -> SessionKey {
        SessionId::parse(id).unwrap().key().clone()
    }

    #[test]
    fn an_end_is_under_way_in_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        // Each has a descriptor of its own, as another process would.
        let [old, new] = [(); 2].map(|()| UnderWay::open(folder.path()).unwrap());
        for id in ["{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}", "no-guid"] {
            let (this, other) = (key(id), key("another"));
            let held = old.lock(&this).unwrap().expect("locks work here");
            assert!(new.is_elsewhere(&this));
            assert_eq!(new.lock(&this).unwrap_err(), Elsewhere);
            assert!(!new.is_elsewhere(&other));
            assert!(!old.is_elsewhere(&this), "not to itself");
            let others = new.lock(&other).unwrap();
            drop(held);
            assert!(!new.is_elsewhere(&this));
            let held = new.lock(&this).unwrap().expect("it is free");
            assert!(old.is_elsewhere(&this) && old.is_elsewhere(&other));
            drop((held, others));
            assert!(!old.is_elsewhere(&this));
        }
    }
}
