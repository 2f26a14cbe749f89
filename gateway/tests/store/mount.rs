//! A small disk of one's own.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

pub struct Mount(TempDir);

impl Mount {
    /// A file system in memory with room for so many bytes; `None` where that is not permitted,
    /// which is printed.
    pub fn new(size: u32) -> Option<Self> {
        let directory = TempDir::with_prefix("bits-disk").unwrap();
        let options = format!("size={size},mode=0700");
        match mount(&["-t", "tmpfs", "-o", &options, "none"], directory.path()) {
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

    pub fn read_only(&self, yes: bool) {
        let options = if yes { "remount,ro" } else { "remount,rw" };
        mount(&["-o", options], self.path()).unwrap();
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
