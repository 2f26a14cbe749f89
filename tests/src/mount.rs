//! A small disk of one's own.

use std::io::Write;
use std::path::{Path, PathBuf};
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

/// An ext4 on a file, which turns read-only by an error on demand. Gone with the test.
#[derive(Debug)]
pub struct Ext4 {
    directory: TempDir,
    /// Such as `loop3`.
    device: String,
}

impl Ext4 {
    /// With room for so many bytes.
    ///
    /// # Errors
    /// What the system says where it is not permitted, or not possible.
    pub fn new(size: u64) -> Result<Self, String> {
        let directory = TempDir::new("ext4");
        let image = directory.join("image");
        let file = std::fs::File::create(&image).and_then(|file| file.set_len(size));
        file.map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        std::fs::create_dir(directory.join("mnt")).map_err(|error| error.to_string())?;
        let mut ext4 = Self { directory, device: String::new() };
        ext4.mount()?;
        if !ext4.trigger().exists() {
            return Err(format!("{} does not exist", ext4.trigger().display()));
        }
        Ok(ext4)
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join("mnt")
    }

    /// An error of the file system, as the kernel finds them: it aborts its journal.
    pub fn fail(&self) {
        std::fs::write(self.trigger(), "on demand").expect("root may write to it");
    }

    /// As a restart of the machine does. Whatever uses it has ended.
    #[track_caller]
    pub fn check_and_mount_again(&mut self) {
        let repaired = (|| {
            run(Command::new("umount").arg(self.path()))?;
            // Its exit code says that it has mended something.
            let fsck = Command::new("e2fsck").arg("-fy").arg(self.directory.join("image")).output();
            let fsck = fsck.map_err(|error| error.to_string())?;
            if fsck.status.code().is_none_or(|code| code > 2) {
                return Err(String::from_utf8_lossy(&fsck.stdout).into_owned());
            }
            self.mount()
        })();
        repaired.unwrap_or_else(|error| panic!("{error}"));
    }

    fn mount(&mut self) -> Result<(), String> {
        let image = self.directory.join("image");
        run(Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .arg(image)
            .arg(self.path()))?;
        let source = Command::new("findmnt").args(["-no", "SOURCE"]).arg(self.path()).output();
        let source = source.map_err(|error| error.to_string())?;
        let source = String::from_utf8_lossy(&source.stdout).trim().to_owned();
        self.device = source.trim_start_matches("/dev/").to_owned();
        Ok(())
    }

    fn trigger(&self) -> PathBuf {
        Path::new("/sys/fs/ext4").join(&self.device).join("trigger_fs_error")
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
