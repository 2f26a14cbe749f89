//! What each command does.

pub mod backends;
pub mod check;
pub mod client;
pub mod colour;
pub mod config_file;
pub mod confirm;
pub mod dump;
pub mod events;
pub mod health;
pub mod meta;
pub mod reload;
pub mod schema;
pub mod sessions;
pub mod start;
pub mod status;
pub mod store;
pub mod stored;
pub mod surroundings;
pub mod table;
pub mod top;
pub mod transport;

use std::io::{self, Write};
use std::path::Path;

use crate::config::report::{Report, Severity};
use crate::config::{self, LoadError, Loaded};
use crate::process::exit::Exit;

/// The configuration that a command works with.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    config::load(path, std::env::vars_os())
}

/// The configuration that a gateway is to run with; the files that it names have been looked at.
pub fn load_to_run(path: &Path) -> Result<Loaded, LoadError> {
    config::load_to_run(path, std::env::vars_os())
}

/// Tells on standard error why there is no configuration.
pub fn explain(error: &LoadError) -> Exit {
    print_error(&explained(error));
    exit_code(error)
}

fn explained(error: &LoadError) -> String {
    let mut text = String::new();
    match error {
        LoadError::Invalid { report, .. } => {
            text.push_str(&report.render(colour()));
            text.push_str(&format!("error: {error}: {}\n", count(report)));
        }
        LoadError::Missing { path } => {
            text.push_str(&format!("error: {error}\n"));
            if config_file::is_default(path) {
                text.push_str("help: name another one, as in `bits-gateway check FILE`, or by --config or BITSGW_CONFIG\n");
            }
            text.push_str(
                "help: `bits-gateway schema --format example` prints a file to start from\n",
            );
        }
        LoadError::Io { .. } | LoadError::NotText { .. } => {
            text.push_str(&format!("error: {error}\n"));
        }
    }
    text
}

/// The exit code of a command that cannot go on without a configuration.
pub fn exit_code(error: &LoadError) -> Exit {
    match error {
        LoadError::Io { .. } => Exit::Io,
        LoadError::Invalid { report, .. } => report.unread().map_or(Exit::Config, Exit::unread),
        LoadError::Missing { .. } | LoadError::NotText { .. } => Exit::Config,
    }
}

/// Prints on standard output; a reader that has gone is an I/O error and no panic.
pub fn print(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Ok,
        Err(_) => Exit::Io,
    }
}

/// Prints on standard error. If that fails, there is nobody left to tell.
pub fn print_error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Pretty JSON with a line end.
pub fn to_text(json: &serde_json::Value) -> String {
    format!("{json:#}\n")
}

/// Whether standard error shows colours.
pub fn colour() -> bool {
    colour::Painter::for_stderr().is_on()
}

/// "2 errors, 1 warning".
pub fn count(report: &Report) -> String {
    let part = |count: usize, noun: &str| match count {
        0 => None,
        1 => Some(format!("1 {noun}")),
        _ => Some(format!("{count} {noun}s")),
    };
    let parts = [
        part(report.count(Severity::Error), "error"),
        part(report.count(Severity::Warning), "warning"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "good".into() } else { parts.join(", ") }
}
