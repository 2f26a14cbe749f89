//! A small disk of one's own.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::temp::TempDir;

/// A file system in memory, gone with the test.
#[derive(Debug)]
pub struct Mount(TempDir);

impl Mount {
    /// With room for so many bytes; `None` where that is not permitted, which is printed.
    pub fn new(size: u32) -> Option<Self> {
        let directory = TempDir::new("disk");
        match mount(
            &["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "none"],
            directory.path(),
        ) {
            Ok(()) => Some(Self(directory)),
            Err(said) => {
                println!("no disk of our own here, so something else has to do: {said}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left. May be called again for what has become free since.
    pub fn fill(&self) {
        let mut options = std::fs::File::options();
        let file = options.create(true).append(true).open(self.0.join("filler"));
        let mut file = file.expect("there is room for a name");
        for size in [65_536, 4096, 512, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Gives the room back.
    pub fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it was filled");
    }

    pub fn read_only(&self, yes: bool) {
        let options = if yes { "remount,ro" } else { "remount,rw" };
        mount(&["-o", options], self.path()).unwrap_or_else(|error| panic!("{options}: {error}"));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn mount(arguments: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(arguments).arg(path).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
