//! The file that says where the process listens.
//!
//! # Shape
//! `{"pid":123,"listeners":{"public":"127.0.0.1:41010","ops":"127.0.0.1:41011"}}`, in the order
//! given.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::ser::{Serialize, SerializeMap, Serializer};

/// A ready file that this process wrote.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
    /// Kept open so that the inode number cannot be given to another file while we compare it.
    file: File,
}

/// Writes the file in one step: a reader sees all of it or none.
///
/// Call it when every listener accepts.
///
/// # Errors
/// Those of writing next to `path` and renaming; nothing is left behind then.
pub fn write<'a>(
    path: &Path,
    pid: u32,
    listeners: impl IntoIterator<Item = (&'a str, SocketAddr)>,
) -> io::Result<ReadyFile> {
    let content = Content { pid, listeners: Listeners(listeners.into_iter().collect()) };
    let mut text = serde_json::to_vec(&content)?;
    text.push(b'\n');
    let temporary = temporary_path(path, pid)?;
    let written = write_and_rename(&temporary, path, &text);
    if written.is_err() {
        // Best effort: the error that counts is the one above.
        let _ = fs::remove_file(&temporary);
    }
    Ok(ReadyFile { path: path.to_owned(), file: written? })
}

impl ReadyFile {
    /// Removes the file, unless a successor has put its own in place.
    ///
    /// Process ids cannot tell (in containers both are 1), the file itself can.
    pub fn remove_if_ours(self) -> io::Result<()> {
        let there = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            there => there?,
        };
        let same =
            |one: &Metadata, two: &Metadata| (one.dev(), one.ino()) == (two.dev(), two.ino());
        if same(&there, &self.file.metadata()?) {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

#[derive(serde::Serialize)]
struct Content<'a> {
    pid: u32,
    listeners: Listeners<'a>,
}

struct Listeners<'a>(Vec<(&'a str, SocketAddr)>);

impl Serialize for Listeners<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, address) in &self.0 {
            map.serialize_entry(name, address)?;
        }
        map.end()
    }
}

fn temporary_path(path: &Path, pid: u32) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of the ready file does not end in a name",
        )
    })?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{pid}.tmp"));
    Ok(path.with_file_name(temporary))
}

fn write_and_rename(temporary: &Path, path: &Path, text: &[u8]) -> io::Result<File> {
    let mut file = File::create(temporary)?;
    file.write_all(text)?;
    fs::rename(temporary, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners() -> [(&'static str, SocketAddr); 2] {
        [("public", ([127, 0, 0, 1], 41010).into()), ("ops", ([127, 0, 0, 1], 41011).into())]
    }

    /// A directory of its own per test, removed with everything in it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("bits-gateway-ready-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a temporary directory");
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("the directory");
            entries
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_file_holds_pid_and_listeners_in_order_and_no_temporary_stays() {
        let folder = Folder::new("content");
        let path = folder.0.join("ready");
        write(&path, 123, listeners()).expect("written");
        assert_eq!(
            fs::read_to_string(&path).expect("readable"),
            "{\"pid\":123,\"listeners\":{\"public\":\"127.0.0.1:41010\",\"ops\":\"127.0.0.1:41011\"}}\n"
        );
        assert_eq!(folder.names(), ["ready"]);
    }

    #[test]
    fn our_file_is_removed_and_a_missing_one_is_no_error() {
        let folder = Folder::new("remove");
        let path = folder.0.join("ready");
        let ours = write(&path, 1, listeners()).expect("written");
        ours.remove_if_ours().expect("removed");
        assert!(!path.exists());
        let ours = write(&path, 1, listeners()).expect("written");
        fs::remove_file(&path).expect("somebody removes it");
        ours.remove_if_ours().expect("nothing to do");
    }

    #[test]
    fn the_file_of_a_successor_with_the_same_pid_stays() {
        let folder = Folder::new("successor");
        let path = folder.0.join("ready");
        let ours = write(&path, 1, listeners()).expect("written");
        let theirs = write(&path, 1, listeners()).expect("replaced");
        ours.remove_if_ours().expect("left alone");
        assert!(path.exists());
        theirs.remove_if_ours().expect("removed");
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_is_missing_is_an_error() {
        let folder = Folder::new("missing");
        let error =
            write(&folder.0.join("no/ready"), 1, listeners()).expect_err("no such directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_failed_rename_leaves_no_temporary_file() {
        let folder = Folder::new("rename");
        let path = folder.0.join("ready");
        fs::create_dir(&path).expect("a directory in the way");
        write(&path, 1, listeners()).expect_err("a directory cannot be replaced");
        assert_eq!(folder.names(), ["ready"]);
    }
}
