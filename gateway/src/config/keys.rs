//! What can be said about a key and a section.

use std::borrow::Cow;
use std::time::Duration;

use super::kind::{Kind, Value};
use super::names::{Choice, Named};

#[derive(Debug)]
pub struct Section {
    pub name: &'static str,
    pub shape: Shape,
    /// Markdown, whole sentences.
    pub about: &'static str,
    pub keys: &'static [Key],
    /// Keys of later versions.
    pub later: &'static [&'static str],
}

/// How often a section stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `[name]`, at most once.
    Once,
    /// `[name.NAME]`, at least once.
    Named,
    /// `[[name]]`, at least once; the key `name` tells them apart.
    Listed,
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub default: DefaultValue,
    pub applies: Applies,
    /// Markdown, whole sentences.
    pub about: &'static str,
}

/// From when on a changed value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// A reload takes it over.
    Reload,
    /// The next start does: sockets, threads and files are made once.
    Restart,
}

/// What counts when a key is not given.
#[derive(Debug)]
pub enum DefaultValue {
    /// There is nothing to fall back to.
    Required {
        sample: &'static str,
    },
    Is(Value),
    /// Depends on something else.
    Depends {
        on: &'static str,
        sample: &'static str,
    },
    /// Nothing.
    Unset {
        meaning: &'static str,
        sample: &'static str,
    },
}

impl Key {
    /// What one might write in the file: the default, where there is one.
    pub fn sample(&self) -> String {
        match &self.default {
            DefaultValue::Is(value) => value.to_toml(),
            DefaultValue::Required { sample }
            | DefaultValue::Depends { sample, .. }
            | DefaultValue::Unset { sample, .. } => (*sample).to_owned(),
        }
    }
}

impl DefaultValue {
    pub const fn word(word: &'static str) -> Self {
        Self::Is(Value::Word(word))
    }

    pub const fn text(text: &'static str) -> Self {
        Self::Is(Value::Text(Cow::Borrowed(text)))
    }

    pub const fn bool(value: bool) -> Self {
        Self::Is(Value::Bool(value))
    }

    pub const fn integer(value: u64) -> Self {
        Self::Is(Value::Integer(value))
    }

    pub const fn size(bytes: u64) -> Self {
        Self::Is(Value::Size(bytes))
    }

    pub const fn seconds(seconds: u64) -> Self {
        Self::Is(Value::Duration(Duration::from_secs(seconds)))
    }

    pub const fn minutes(minutes: u64) -> Self {
        Self::seconds(60 * minutes)
    }

    pub const fn hours(hours: u64) -> Self {
        Self::minutes(60 * hours)
    }

    pub const fn days(days: u64) -> Self {
        Self::hours(24 * days)
    }
}

impl Section {
    /// Whether a table that comes or goes counts from the next start only.
    pub fn needs_restart(&self) -> bool {
        let mut required =
            self.keys.iter().filter(|key| matches!(key.default, DefaultValue::Required { .. }));
        required.any(|key| key.applies == Applies::Restart)
    }

    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

pub(super) const NO_LISTENER: &[Choice] = &[Choice { name: "off", about: "no such listener" }];

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A day is longer than any wait that makes sense, and short enough that no timer overflows.
pub(super) const TIMEOUT: Kind =
    Kind::Duration { min: MILLISECOND, max: DAY, whole_seconds: false };
pub(super) const PERIOD: Kind =
    Kind::Duration { min: Duration::ZERO, max: DAY, whole_seconds: false };

pub(super) const fn word<T: Named>() -> Kind {
    Kind::Word { choices: T::CHOICES, later: &[] }
}
