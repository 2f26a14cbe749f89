//! What file and environment say, with the origin of everything, before it is a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gateway_core::session::limits::PerClient;

use super::keys::{DefaultValue, Key, Section, Shape};
use super::kind::{FromValue, Given, Value};
use super::report::{Finding, Place, Report};

/// Every table of the file; of a section that stands at most once there is always one.
#[derive(Debug, Clone)]
pub struct Draft {
    tables: Vec<SectionValues>,
    assumed: Vec<&'static str>,
}

/// A section, or one of its instances.
#[derive(Debug, Clone)]
pub struct SectionValues {
    pub section: &'static Section,
    /// Of a listener or a backend; empty for a section that stands once, or if it is missing.
    pub name: String,
    /// Its number among those of its section, from 0.
    pub index: usize,
    /// Where it begins.
    pub place: Option<Place>,
    settings: BTreeMap<&'static str, Setting>,
    /// Tables within it that are there, be they empty.
    groups: BTreeMap<String, Place>,
}

#[derive(Debug, Clone)]
struct Setting {
    /// `None` was given, is wrong, and has been reported.
    value: Option<Value>,
    origin: Origin,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    Default,
    Given(Place),
}

/// Nothing can be said about a value, because it is wrong and that has been reported.
#[derive(Debug, Clone, Copy)]
pub struct Broken;

impl Draft {
    /// In which nothing is given yet.
    pub fn of(sections: &'static [Section]) -> Self {
        let once = sections.iter().filter(|section| section.shape == Shape::Once);
        Self {
            tables: once
                .map(|section| SectionValues::new(section, String::new(), 0, None))
                .collect(),
            assumed: Vec::new(),
        }
    }
}

impl Draft {
    /// A section that stands once.
    pub fn once(&self, section: &str) -> &SectionValues {
        self.all(section).next().expect("a draft has every section that stands once")
    }

    /// The tables of a section, in the order of the file.
    pub fn all(&self, section: &str) -> impl Iterator<Item = &SectionValues> + Clone {
        self.tables.iter().filter(move |table| table.section.name == section)
    }

    pub fn all_mut(&mut self, section: &str) -> impl Iterator<Item = &mut SectionValues> {
        self.tables.iter_mut().filter(move |table| table.section.name == section)
    }

    pub fn once_mut(&mut self, section: &str) -> &mut SectionValues {
        self.all_mut(section).next().expect("a draft has every section that stands once")
    }

    /// Notes that a section was meant, though it cannot be read: it is not missing then.
    pub fn assume(&mut self, section: &'static Section) {
        self.assumed.push(section.name);
    }

    /// Whether a section is there, or was at least meant to be.
    pub fn has(&self, section: &str) -> bool {
        self.assumed.contains(&section) || self.all(section).next().is_some()
    }

    /// Makes every relative path that was read so far one that begins at `base`.
    pub fn paths_begin_at(&mut self, base: &Path) {
        if base.as_os_str().is_empty() {
            return;
        }
        let settings = self.tables.iter_mut().flat_map(|table| table.settings.values_mut());
        for value in settings.filter_map(|setting| setting.value.as_mut()) {
            match value {
                Value::Path(path) => *path = beginning_at(base, path),
                Value::Certificates(pairs) => {
                    for files in pairs {
                        files.certificate = beginning_at(base, &files.certificate);
                        files.key = beginning_at(base, &files.key);
                    }
                }
                _ => {}
            }
        }
    }

    pub fn add(
        &mut self,
        section: &'static Section,
        name: String,
        place: Place,
    ) -> &mut SectionValues {
        let index = self.all(section.name).count();
        self.tables.push(SectionValues::new(section, name, index, Some(place)));
        self.tables.last_mut().expect("one was just added")
    }
}

/// `./` is left out between the two.
fn beginning_at(base: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_owned() } else { base.join(path).components().collect() }
}

impl SectionValues {
    fn new(section: &'static Section, name: String, index: usize, place: Option<Place>) -> Self {
        Self { section, name, index, place, settings: BTreeMap::new(), groups: BTreeMap::new() }
    }

    /// `backends.up01`, for messages.
    pub fn path(&self) -> String {
        match (self.section.shape, self.name.is_empty()) {
            (Shape::Once, _) => self.section.name.to_owned(),
            (_, true) => format!("{}[{}]", self.section.name, self.index),
            (_, false) => format!("{}.{}", self.section.name, self.name.escape_debug()),
        }
    }

    pub fn key_path(&self, key: &str) -> String {
        format!("{}.{key}", self.path())
    }

    /// Notes that the table `name` within this one is there.
    pub fn open_group(&mut self, name: &str, place: Place) {
        self.groups.insert(name.to_owned(), place);
    }

    /// Whether the table `name` within this one is there, or a key of it is given.
    pub fn has_group(&self, name: &str) -> bool {
        self.groups.contains_key(name)
            || self.section.keys.iter().any(|key| {
                key.name.split_once('.').is_some_and(|(group, _)| group == name)
                    && self.is_given(key.name)
            })
    }

    /// Where the table `name` within this one is, or else where one would add to it.
    pub fn near_group(&self, name: &str) -> Option<Place> {
        self.groups.get(name).or(self.place.as_ref()).cloned()
    }

    /// Takes over what was given for a key, and reports it if it is wrong.
    pub fn set(&mut self, key: &'static Key, given: &Given, place: Place, report: &mut Report) {
        let parsed = key.kind.parse(given);
        let value = match parsed {
            Ok(value) => Some(value),
            Err(refusal) => {
                let message = format!("`{}` {}", self.key_path(key.name), refusal.message);
                let span = refusal.span.unwrap_or_else(|| place.span.clone());
                let place = Place { source: place.source, span };
                report.add(Finding::error(message).at(place, refusal.label).help(refusal.help));
                None
            }
        };
        self.settings.insert(key.name, Setting { value, origin: Origin::Given(place) });
    }

    /// Takes over what was given under a name that probably means this key, so that the rest can
    /// be checked as if the name were right.
    pub fn assume(&mut self, key: &str, given: &Given, place: Place) {
        let key = self.section.key(key).expect("the code only names keys of the table");
        let setting = Setting { value: key.kind.parse(given).ok(), origin: Origin::Given(place) };
        self.settings.entry(key.name).or_insert(setting);
    }

    /// Fixes a value that depends on others.
    pub fn resolve(&mut self, key: &str, value: Value) {
        let key = self.section.key(key).expect("the code only names keys of the table");
        let setting = Setting { value: Some(value), origin: Origin::Default };
        self.settings.insert(key.name, setting);
    }

    /// What a key holds or falls back to; `None` if that is nothing.
    pub fn value(&self, key: &str) -> Result<Option<&Value>, Broken> {
        let key = self.section.key(key).expect("the code only names keys of the table");
        match self.settings.get(key.name) {
            Some(setting) => setting.value.as_ref().map(Some).ok_or(Broken),
            None => match &key.default {
                DefaultValue::Is(value) => Ok(Some(value)),
                DefaultValue::Required { .. } => Err(Broken),
                DefaultValue::Depends { .. } | DefaultValue::Unset { .. } => Ok(None),
            },
        }
    }

    /// The value of a key that may be unset.
    pub fn find<T: FromValue>(&self, key: &str) -> Result<Option<T>, Broken> {
        let convert =
            |value| T::from_value(value).expect("the table of keys gives every key its kind");
        Ok(self.value(key)?.map(convert))
    }

    /// The value of a key that always has one.
    pub fn get<T: FromValue>(&self, key: &str) -> Result<T, Broken> {
        self.find(key)?.ok_or(Broken)
    }

    /// `None` where the word "off" stands.
    pub fn unless_off<T: FromValue>(&self, key: &str) -> Result<Option<T>, Broken> {
        match self.value(key)? {
            Some(Value::Word(_)) | None => Ok(None),
            Some(_) => self.find(key),
        }
    }

    /// What an operator has set counts always, and 0 is no limit.
    pub fn per_client(&self, key: &str, unset: PerClient) -> Result<PerClient, Broken> {
        Ok(match self.find::<u64>(key)? {
            None => unset,
            Some(0) => PerClient::Unlimited,
            Some(most) => PerClient::Most(most),
        })
    }

    pub fn is_given(&self, key: &str) -> bool {
        self.place_of(key).is_some()
    }

    /// Where a key is given, rightly or not.
    pub fn place_of(&self, key: &str) -> Option<Place> {
        match &self.settings.get(key)?.origin {
            Origin::Given(place) => Some(place.clone()),
            Origin::Default => None,
        }
    }

    /// Where a key is given, or else where one would add it.
    pub fn near(&self, key: &str) -> Option<Place> {
        self.place_of(key).or_else(|| self.place.clone())
    }

    pub fn origin(&self, key: &str) -> Origin {
        self.place_of(key).map_or(Origin::Default, Origin::Given)
    }
}
