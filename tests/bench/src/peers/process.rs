//! A process that ends with its owner.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use e2e_tests::clock;

const DEADLINE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(5);

pub struct Process {
    child: std::cell::RefCell<Child>,
    pid: u32,
    log: PathBuf,
}

impl Process {
    pub fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        let file = File::create(log)?;
        // It ends with the suite, also where that is killed.
        // SAFETY: between fork and exec nothing but this system call happens.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        let child = child.map_err(|error| {
            io::Error::other(format!("cannot start {:?}: {error}", command.get_program()))
        })?;
        Ok(Self { pid: child.id(), child: child.into(), log: log.to_path_buf() })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for a condition.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
        let end = clock::now() + DEADLINE;
        while !holds() {
            let ended = self.child.borrow_mut().try_wait().map_err(|error| error.to_string())?;
            if let Some(status) = ended {
                return Err(format!("it ended with {status}: {}", self.last_words()));
            }
            if clock::now() > end {
                return Err(format!("waited in vain until {what}: {}", self.last_words()));
            }
            std::thread::sleep(INTERVAL);
        }
        Ok(())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        if let (Ok(None), Some(pid)) = (child.try_wait(), Pid::from_raw(self.pid as i32)) {
            // Its children end with it; a kill would leave them behind.
            let _ = kill_process(pid, Signal::TERM);
            let end = clock::now() + DEADLINE / 6;
            while matches!(child.try_wait(), Ok(None)) && clock::now() < end {
                std::thread::sleep(INTERVAL);
            }
            let _ = child.kill();
        }
        let _ = child.wait();
    }
}
