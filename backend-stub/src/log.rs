//! Log lines: `ts=... level=... event=... key=value ...` on stderr.

use std::fmt::Arguments;
use std::io::Write;

use crate::clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// Writes one line. Values that come from the network must be formatted with `{:?}`, so that they
/// cannot break the line.
pub fn line(level: Level, event: &str, fields: Arguments<'_>) {
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let now = clock::now_ms();
    let text =
        format!("ts={}.{:03} level={level} event={event} {fields}\n", now / 1000, now % 1000);
    // A reader that went away must not end the server, which `eprintln!` would do by a panic.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The first characters of a session id: enough to follow a session, not enough to take it over,
/// because whoever knows an id may write to its upload.
pub fn short(id: &str) -> String {
    let mut text: String = id.chars().take(9).collect();
    if text.len() < id.len() {
        text.push('~');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn long_ids_are_cut_in_the_log() {
        assert_eq!(short("{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}"), "{3F9C1E52~");
        assert_eq!(short("-490"), "-490");
    }
}
