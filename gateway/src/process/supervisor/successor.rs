//! Starting the process that will take over.

use std::env;
use std::process::Command;
use std::thread;

use super::told::Told;

/// What the service manager says to one process only.
const NOT_FOR_CHILDREN: &[&str] = &["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The command line of this process, with `--upgrade`. The program is looked up anew, so this
/// starts what has been installed since.
pub fn command() -> Command {
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_else(|| env!("CARGO_PKG_NAME").into());
    let mut command = Command::new(program);
    command.args(arguments.filter(|argument| argument != "--upgrade")).arg("--upgrade");
    command
}

/// Starts it. How it fares is its own affair, and in its own log.
pub(super) fn start(mut command: Command, told: &Told) {
    NOT_FOR_CHILDREN.iter().for_each(|name| {
        command.env_remove(name);
    });
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let program = command.get_program().to_string_lossy().into_owned();
            tracing::error!(program, %error, "the successor cannot be started, serving on");
            told.no_upgrade(format!("{program} cannot be started: {error}"));
            return;
        }
    };
    let pid = child.id();
    tracing::info!(pid, "started a successor");
    // Nobody else would take notice of its end while we live.
    let waiting = thread::Builder::new().name("successor".to_owned()).spawn(move || {
        if let Ok(status) = child.wait() {
            tracing::warn!(pid, %status, "the successor has ended");
        }
    });
    if let Err(error) = waiting {
        tracing::warn!(%error, "no process waits for the successor");
    }
}
