//! What happened, for whoever asks in the morning: what an event is, how many are kept, and what
//! keeps a storm from pushing everything else out.
//!
//! Reading order: [`Event`], [`Ring`] (which ones go when there are too many), [`Storms`] (when many
//! of a kind become one).

mod ending;
mod ring;
mod storms;

pub use ending::{Ending, ending};
pub use ring::{Entry, LIMIT, Ring, excess};
pub use storms::{BURST, INTERVAL, Storms};

use std::borrow::Cow;

use crate::session::Timestamp;

/// Something that an operator would want to know of later.
///
/// # Shape
/// Texts are cut at [`TEXT`] bytes, so an event has less than 2 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    /// Which process told it: a random number.
    pub process: u64,
    /// Counts the events of that process, from 1 on.
    pub number: u64,
    pub kind: Kind,
    /// What it was, for programs: `down`, `lost`. Of a closed set in each version.
    pub name: Cow<'static, str>,
    pub level: Level,
    /// Events that this one stands for, itself included.
    pub count: u64,
    pub backend: Option<String>,
    /// The `ref` of a session, never its id.
    pub session: Option<String>,
    /// Whose doing it was: an address or a user id.
    pub by: Option<String>,
    /// For people, on one line.
    pub message: String,
}

/// Bytes of a text.
pub const TEXT: usize = 512;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The process itself: start, ready, draining, stop, upgrade.
    Process,
    /// What an operator did.
    Admin,
    Backend,
    Session,
    Reload,
    Certificate,
    Store,
}

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nobody.
    Info,
    /// Somebody, in the morning.
    Warning,
    /// Somebody, now.
    Error,
}

impl Event {
    /// One that has not been told yet: when, by whom and with which number is its teller's to say.
    pub fn new(kind: Kind, name: &'static str, level: Level, message: impl Into<String>) -> Self {
        Self {
            at: Timestamp(0),
            process: 0,
            number: 0,
            kind,
            name: Cow::Borrowed(name),
            level,
            count: 1,
            backend: None,
            session: None,
            by: None,
            message: on_one_line(message.into()),
        }
    }

    pub fn backend(self, name: &str) -> Self {
        Self { backend: Some(on_one_line(name.to_owned())), ..self }
    }

    pub fn session(self, mark: impl ToString) -> Self {
        Self { session: Some(on_one_line(mark.to_string())), ..self }
    }

    pub fn by(self, whom: impl ToString) -> Self {
        Self { by: Some(on_one_line(whom.to_string())), ..self }
    }

    /// In which order events are told, whichever process they are of.
    pub fn order(&self) -> (Timestamp, u64, u64) {
        (self.at, self.process, self.number)
    }
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Process,
        Self::Admin,
        Self::Backend,
        Self::Session,
        Self::Reload,
        Self::Certificate,
        Self::Store,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Admin => "admin",
            Self::Backend => "backend",
            Self::Session => "session",
            Self::Reload => "reload",
            Self::Certificate => "certificate",
            Self::Store => "store",
        }
    }

    /// `None` for what [`Self::label`] never says.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Error];

    pub fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// `None` for what [`Self::label`] never says.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.label() == label)
    }
}

/// Nothing that breaks a line or steers a terminal, and not too much of it.
fn on_one_line(text: String) -> String {
    let mut text = match text.chars().any(char::is_control) {
        true => text.replace(char::is_control, " "),
        false => text,
    };
    if text.len() > TEXT {
        let end = (0..=TEXT - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.label()), Some(kind));
        }
        for level in Level::ALL {
            assert_eq!(Level::parse(level.label()), Some(level));
        }
        assert_eq!((Kind::parse("Admin"), Level::parse("")), (None, None));
    }

    #[test]
    fn texts_stay_on_a_line_of_some_length() {
        for (text, kept) in [
            ("a\nb\u{1b}c".to_owned(), "a b c".to_owned()),
            ("x".repeat(TEXT), "x".repeat(TEXT)),
            ("x".repeat(TEXT + 1), "x".repeat(TEXT - 3) + "..."),
            ("\u{e9}".repeat(TEXT), "\u{e9}".repeat(TEXT / 2 - 2) + "..."),
        ] {
            let event = Event::new(Kind::Store, "down", Level::Error, text.clone()).by(&text);
            assert_eq!((&event.message, event.by.as_ref()), (&kept, Some(&kept)));
        }
    }
}
