//! What can be said about a key and a section. What there is stands in [`super::sections`].

use super::kind::{Kind, Value};
use super::sections::SECTIONS;

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
    pub preset: Preset,
    /// Markdown, whole sentences.
    pub about: &'static str,
}

/// What counts when a key is not given.
#[derive(Debug)]
pub enum Preset {
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
        match &self.preset {
            Preset::Is(value) => value.to_toml(),
            Preset::Required { sample }
            | Preset::Depends { sample, .. }
            | Preset::Unset { sample, .. } => (*sample).to_owned(),
        }
    }
}

impl Section {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// The section of that name.
pub fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}
