//! The words of the file for the values of our enums.

/// A legal word and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    pub name: &'static str,
    pub about: &'static str,
}

/// An enum whose values are words in the file.
pub trait Named: Copy + 'static {
    const CHOICES: &'static [Choice];
    /// In the order of [`Named::CHOICES`].
    const VALUES: &'static [Self];

    fn name(self) -> &'static str;

    fn from_name(name: &str) -> Option<Self> {
        Self::VALUES.iter().copied().find(|value| value.name() == name)
    }
}

/// The words for the variants of an enum.
macro_rules! named {
    ($type:ident { $($variant:ident = $name:literal: $about:literal,)+ }) => {
        impl $crate::config::names::Named for $type {
            const CHOICES: &'static [$crate::config::names::Choice] =
                &[$($crate::config::names::Choice { name: $name, about: $about }),+];
            const VALUES: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}
pub(super) use named;
