//! A child process with its output in files.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Killed on drop. Restarts of one program append to the same files.
pub struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    /// Where this run's standard output begins.
    stdout_start: u64,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`; its output goes to `NAME.out` and `NAME.err` in `directory`.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start(mut command: Command, name: &str, directory: &Path) -> Self {
        let stdout = directory.join(format!("{name}.out"));
        let stderr = directory.join(format!("{name}.err"));
        let (mut out, err) = (append(&stdout), append(&stderr));
        let stdout_start = out.seek(SeekFrom::End(0)).expect("a regular file can be sought");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", command.get_program()));
        Self { child, name: name.to_owned(), stdout, stdout_start, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        wait::some(&format!("{name} has ended"), || self.exit_status())
    }

    /// A process that has ended meanwhile needs no signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let raw = i32::try_from(self.pid()).expect("process ids are positive ints");
            let pid = Pid::from_raw(raw).expect("a child is not process 0");
            kill_process(pid, signal).expect("a child that was not waited for can be signalled");
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// Standard output of this run so far.
    pub fn stdout(&self) -> String {
        let all = read(&self.stdout);
        all.get(self.stdout_start as usize..).unwrap_or_default().to_owned()
    }

    /// Resident memory, from `/proc`.
    pub fn rss_bytes(&self) -> io::Result<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid()))?;
        let pages: Option<u64> = statm.split(' ').nth(1).and_then(|field| field.parse().ok());
        let pages = pages.ok_or_else(|| io::Error::other(format!("bad statm: {statm:?}")))?;
        Ok(pages * rustix::param::page_size() as u64)
    }

    /// Panics with the end of its standard error when the process has ended.
    #[track_caller]
    pub fn expect_running(&mut self) {
        if let Some(status) = self.exit_status() {
            panic!("{} ended: {status}\n{}", self.name, tail(&self.stderr));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a file, for the report of a failed test.
pub fn tail(path: &Path) -> String {
    const LINES: usize = 60;
    let text = read(path);
    let lines: Vec<_> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    format!(
        "--- {} ({skipped} lines before) ---\n{}\n",
        path.display(),
        lines[skipped..].join("\n")
    )
}

/// Empty for a file that does not exist yet.
pub fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn append(path: &Path) -> File {
    let open = OpenOptions::new().create(true).append(true).open(path);
    open.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}
