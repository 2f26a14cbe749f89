//! A disk that fails or hangs on demand, under SQLite and under the store's own files.
//!
//! In debug builds only, and there only where a test asks for it
//! (decision 0033: panics on demand are in debug builds only).

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Write,
    Sync,
    Truncate,
    /// A name is given, changed or taken away.
    Rename,
}

#[cfg(not(debug_assertions))]
mod off {
    use std::io;
    use std::path::Path;

    /// The file system of SQLite to use, where it is not the usual one.
    pub fn vfs() -> Option<&'static str> {
        None
    }

    /// To be called before the store does something to a file by itself.
    pub fn check(_: super::Op, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(debug_assertions))]
pub use off::{check, vfs};
#[cfg(debug_assertions)]
pub use on::{Plan, check, vfs};

#[cfg(debug_assertions)]
mod on {
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::io;
    use std::mem::size_of;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, OnceLock};
    use std::time::Duration;

    use parking_lot::Mutex;
    use rusqlite::ffi;

    use super::Op;

    const NAME: &CStr = c"bits-faults";

    /// While this file is there, nothing that changes a file comes to an end.
    const HANGS: &str = "BITS_GATEWAY_DISK_HANGS";

    static PLANS: Mutex<Vec<Plan>> = Mutex::new(Vec::new());
    static HANG: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os(HANGS).map(PathBuf::from));

    /// What is to fail in one directory.
    #[derive(Debug)]
    pub struct Plan {
        directory: PathBuf,
        op: Op,
        /// Calls before the first that fails.
        left: u32,
        /// Calls that fail.
        fail: u32,
        /// One has.
        failed: bool,
    }

    impl Plan {
        /// From now on, the `first`th such call in the directory and `fail` in all fail; the other
        /// ones do not.
        pub fn set(directory: &Path, op: Op, first: u32, fail: u32) {
            Self::clear(directory);
            let directory = directory.to_owned();
            let left = first.saturating_sub(1);
            PLANS.lock().push(Self { directory, op, left, fail, failed: false });
        }

        /// Whether something has failed there.
        pub fn has_failed(directory: &Path) -> bool {
            PLANS.lock().iter().any(|plan| plan.directory == directory && plan.failed)
        }

        /// Nothing fails there any more.
        pub fn clear(directory: &Path) {
            PLANS.lock().retain(|plan| plan.directory != directory);
        }
    }

    pub fn check(op: Op, path: &Path) -> io::Result<()> {
        while HANG.as_ref().is_some_and(|file| file.exists()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut plans = PLANS.lock();
        let hit = |plan: &&mut Plan| plan.op == op && path.starts_with(&plan.directory);
        let Some(plan) = plans.iter_mut().find(hit) else { return Ok(()) };
        if plan.left > 0 {
            plan.left -= 1;
        } else if plan.fail > 0 {
            plan.fail -= 1;
            plan.failed = true;
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        Ok(())
    }

    /// Registered by the first who asks while there is something to fail.
    pub fn vfs() -> Option<&'static str> {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        if HANG.is_none() && PLANS.lock().is_empty() {
            return None;
        }
        REGISTERED.get_or_init(register).then(|| NAME.to_str().unwrap_or_default())
    }

    /// The usual file system with two functions of our own, and files with three.
    fn register() -> bool {
        // SAFETY: SQLite's own table, which lives as long as the program.
        let Some(usual) = (unsafe { ffi::sqlite3_vfs_find(std::ptr::null()).as_ref() }) else {
            return false;
        };
        let _ = USUAL.set(Usual { open: usual.xOpen, delete: usual.xDelete, size: usual.szOsFile });
        let ours = ffi::sqlite3_vfs {
            zName: NAME.as_ptr(),
            pNext: std::ptr::null_mut(),
            // Behind each file of SQLite's own lie its methods and its name.
            szOsFile: usual.szOsFile + size_of::<Behind>() as c_int,
            xOpen: Some(open),
            xDelete: Some(delete),
            ..*usual
        };
        // SAFETY: the table lives to the end of the program, as SQLite demands.
        unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 0) == ffi::SQLITE_OK }
    }

    struct Usual {
        open: Open,
        delete: Delete,
        size: c_int,
    }

    type Vfs = *mut ffi::sqlite3_vfs;
    type File = *mut ffi::sqlite3_file;
    type Open = Option<unsafe extern "C" fn(Vfs, *const c_char, File, c_int, *mut c_int) -> c_int>;
    type Delete = Option<unsafe extern "C" fn(Vfs, *const c_char, c_int) -> c_int>;

    static USUAL: OnceLock<Usual> = OnceLock::new();

    #[derive(Clone, Copy)]
    struct Behind {
        usual: *const ffi::sqlite3_io_methods,
        ours: *mut ffi::sqlite3_io_methods,
        name: *const c_char,
    }

    fn place(file: File) -> *mut Behind {
        let size = USUAL.get().map_or(0, |usual| usual.size as usize);
        // SAFETY: SQLite gives a file as many bytes as its file system asks for.
        unsafe { file.cast::<u8>().add(size).cast() }
    }

    /// SAFETY: for a file that `open` has opened.
    unsafe fn behind(file: File) -> Behind {
        // SAFETY: written there by `open`.
        unsafe { place(file).read_unaligned() }
    }

    /// SAFETY: `name` is null or a text of SQLite's.
    unsafe fn permitted(op: Op, name: *const c_char) -> bool {
        if name.is_null() {
            return true;
        }
        // SAFETY: as promised.
        let name = unsafe { CStr::from_ptr(name) };
        check(op, Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()))).is_ok()
    }

    unsafe extern "C" fn open(
        vfs: Vfs,
        name: *const c_char,
        file: File,
        flags: c_int,
        out: *mut c_int,
    ) -> c_int {
        let Some(open) = USUAL.get().and_then(|usual| usual.open) else { return ffi::SQLITE_ERROR };
        // SAFETY: the arguments are SQLite's own, and ours differs from the usual file system in
        // nothing that this function looks at.
        unsafe {
            let opened = open(vfs, name, file, flags, out);
            if opened != ffi::SQLITE_OK || (*file).pMethods.is_null() {
                return opened;
            }
            let usual = (*file).pMethods;
            let mut methods = usual.read();
            methods.xClose = Some(close);
            methods.xWrite = Some(write);
            methods.xTruncate = Some(truncate);
            methods.xSync = Some(sync);
            let ours = Box::into_raw(Box::new(methods));
            place(file).write_unaligned(Behind { usual, ours, name });
            (*file).pMethods = ours;
            opened
        }
    }

    unsafe extern "C" fn delete(vfs: Vfs, name: *const c_char, sync: c_int) -> c_int {
        // SAFETY: as SQLite calls it.
        unsafe {
            match USUAL.get().and_then(|usual| usual.delete) {
                Some(delete) if permitted(Op::Rename, name) => delete(vfs, name, sync),
                _ => ffi::SQLITE_IOERR_DELETE,
            }
        }
    }

    unsafe extern "C" fn close(file: File) -> c_int {
        // SAFETY: SQLite closes a file once, and calls nothing of it afterwards.
        unsafe {
            let Behind { usual, ours, .. } = behind(file);
            let closed = (*usual).xClose.map_or(ffi::SQLITE_ERROR, |close| close(file));
            drop(Box::from_raw(ours));
            closed
        }
    }

    unsafe extern "C" fn write(
        file: File,
        bytes: *const c_void,
        count: c_int,
        at: ffi::sqlite3_int64,
    ) -> c_int {
        // SAFETY: as SQLite calls it.
        unsafe {
            let Behind { usual, name, .. } = behind(file);
            let Some(write) = (*usual).xWrite else { return ffi::SQLITE_IOERR_WRITE };
            if permitted(Op::Write, name) {
                return write(file, bytes, count, at);
            }
            // A write that fails has often done something.
            write(file, bytes, count / 2, at);
            ffi::SQLITE_IOERR_WRITE
        }
    }

    unsafe extern "C" fn truncate(file: File, size: ffi::sqlite3_int64) -> c_int {
        // SAFETY: as SQLite calls it.
        unsafe {
            let Behind { usual, name, .. } = behind(file);
            match (*usual).xTruncate {
                Some(truncate) if permitted(Op::Truncate, name) => truncate(file, size),
                _ => ffi::SQLITE_IOERR_TRUNCATE,
            }
        }
    }

    unsafe extern "C" fn sync(file: File, flags: c_int) -> c_int {
        // SAFETY: as SQLite calls it.
        unsafe {
            let Behind { usual, name, .. } = behind(file);
            match (*usual).xSync {
                Some(sync) if permitted(Op::Sync, name) => sync(file, flags),
                _ => ffi::SQLITE_IOERR_FSYNC,
            }
        }
    }
}
