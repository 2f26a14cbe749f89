//! `bits-gateway reload`.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use super::client::{ClientError, Connection};
use super::table::{plural, printable};
use crate::process::exit::Exit;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Say what would change and which uploads it touches, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Tell this process by a signal, without an admin listener; its log says what comes of it
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..),
          conflicts_with_all = ["dry_run", "admin", "config", "token_file"])]
    pub signal: Option<i32>,
    #[command(flatten)]
    pub connection: Connection,
}

const CHANGED: &str = "changed";

/// Has the gateway read its configuration again: all of it or nothing.
pub fn reload(args: &Args) -> Exit {
    if let Some(pid) = args.signal {
        let told = |_: &Json| {
            format!("process {pid} reads its configuration again; its log says what comes of it\n")
        };
        return args.connection.show(signal(pid).map(|()| json!({ "signalled": pid })), told);
    }
    // The gateway itself says what is wrong with the file.
    let client = args.connection.find();
    if args.dry_run {
        let asked = client.and_then(|client| client.get("reload"));
        return args.connection.show(asked, |answer| show(answer, "would change"));
    }
    let asked = client.and_then(|client| client.post("reload"));
    args.connection.show(asked, |answer| show(answer, CHANGED))
}

/// To another program the signal may be the end.
fn signal(pid: i32) -> Result<(), ClientError> {
    let failed = |message: String, exit| ClientError::Failed { code: "signal", message, exit };
    let missing = || failed(format!("there is no process {pid}"), Exit::Unavailable);
    let name = match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => name.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(failed(format!("process {pid}: {error}"), Exit::Io)),
    };
    if !name.starts_with(env!("CARGO_PKG_NAME")) {
        let message = format!("process {pid} is no gateway: it is `{name}`");
        return Err(failed(message, Exit::Failure));
    }
    let pid = Pid::from_raw(pid).ok_or_else(missing)?;
    kill_process(pid, Signal::HUP).map_err(|error| match error {
        Errno::PERM => {
            let message = "you may not signal it: be root, or the user that it runs as";
            failed(message.to_owned(), Exit::Permission)
        }
        Errno::SRCH => missing(),
        error => failed(error.to_string(), Exit::Failure),
    })
}

fn show(answer: &Json, changed: &str) -> String {
    let list = |name: &str, title: &str| {
        let lines = answer[name].as_array().into_iter().flatten().filter_map(Json::as_str);
        let lines: String = lines.map(|line| format!("  {}\n", printable(line))).collect();
        if lines.is_empty() { lines } else { format!("{title}:\n{lines}") }
    };
    let mut text = list("changed", changed);
    text.push_str(&list("needs_restart", "needs a restart, unchanged so far"));
    if text.is_empty() {
        let nothing = if changed == CHANGED { "has changed" } else { changed };
        text = format!("nothing {nothing}\n");
    }
    let touched = answer["touched"].as_array().into_iter().flatten();
    let touched: String = touched.map(touches).collect();
    if !touched.is_empty() {
        text.push_str(&format!("uploads that it touches:\n{touched}"));
    }
    text + &list("warnings", "warnings")
}

fn touches(touched: &Json) -> String {
    let text = |name: &str| printable(touched[name].as_str().unwrap_or("-"));
    let uploads = plural(touched["uploads"].as_u64().unwrap_or_default(), "upload");
    format!("  {}: {uploads}, {}\n", text("key"), text("what"))
}
