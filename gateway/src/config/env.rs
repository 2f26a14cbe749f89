//! `BITSGW__SECTION__KEY=value`: the environment corrects the file.
//!
//! A variable changes a key of the file and never adds a listener or a backend: a slip in the
//! name of one would open a port or split a farm.

use std::ffi::OsString;

use super::draft::{Draft, SectionValues};
use super::keys::{Key, Section, Shape};
use super::kind::{Given, Kind};
use super::report::{Finding, Place, Report, Source, SourceKind};
use super::sections::{self, LATER, SECTIONS};
use super::suggest::closest;

pub const PREFIX: &str = "BITSGW__";

/// Takes over every variable with our prefix; others are none of our business.
pub fn apply(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    draft: &mut Draft,
    report: &mut Report,
) {
    let mut ours: Vec<(String, OsString)> = variables
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    ours.sort();
    for (name, value) in ours {
        let text = format!("{name}={}", value.to_string_lossy());
        let kind = SourceKind::Environment;
        let source = report.add_source(Source { name: name.clone(), text, kind });
        let whole = Place { source, span: 0..name.len() };
        let Some(value) = value.to_str() else {
            let finding = Finding::error(format!("the value of {name} is not UTF-8"));
            report.add(finding.at(whole, "this variable"));
            continue;
        };
        match target(&name, draft) {
            Ok((table, key)) => {
                let place = Place { source, span: name.len() + 1..name.len() + 1 + value.len() };
                table.set(key, &given(&key.kind, value, place.span.start), place, report);
            }
            Err(help) => {
                let finding = Finding::error("the environment has an unknown variable of ours");
                report.add(finding.at(whole, "no key of the configuration").help(help));
            }
        }
    }
}

/// The variable for a key, with the name of a listener or backend where there is one.
pub fn variable(section: &Section, name: &str, key: &str) -> String {
    let middle = match section.shape {
        Shape::Once => String::new(),
        Shape::Named | Shape::Listed => format!("{}__", segment(name)),
    };
    format!("{PREFIX}{}__{middle}{}", segment(section.name), segment(key))
}

/// The environment finds a backend by its name, so it cannot change the name; and a variable has no
/// way to say a list of tables.
pub fn may_be_set(section: &Section, key: &Key) -> bool {
    let name = section.shape == Shape::Listed && key.name == "name";
    !name && !matches!(key.kind, Kind::Certificates)
}

/// The key that a variable stands for, or what may have been meant.
fn target<'d>(
    variable_name: &str,
    draft: &'d mut Draft,
) -> Result<(&'d mut SectionValues, &'static Key), String> {
    let mut known = Vec::new();
    for section in SECTIONS {
        for (position, table) in draft.all(section.name).enumerate() {
            for key in section.keys {
                if may_be_set(section, key) {
                    known.push((section, position, variable(section, &table.name, key.name), key));
                }
            }
        }
    }
    let mut matches = known.iter().filter(|(_, _, name, _)| name == variable_name);
    match (matches.next(), matches.next()) {
        (Some((section, position, _, key)), None) => {
            let table = draft.all_mut(section.name).nth(*position);
            Ok((table.expect("it was just counted"), *key))
        }
        (Some(_), Some(_)) => Err("more than one name in the file reads like this".into()),
        (None, _) => Err(help(variable_name, known.iter().map(|(_, _, name, _)| name.as_str()))),
    }
}

fn help<'k>(variable: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let rest = variable.trim_start_matches(PREFIX);
    let section = rest.split("__").next().unwrap_or_default().to_ascii_lowercase();
    let last = rest.rsplit("__").next().unwrap_or_default().to_ascii_lowercase();
    let later = sections::section(&section).is_some_and(|found| found.later.contains(&&*last));
    if later || LATER.contains(&&*section) {
        return "this is not supported by this version".into();
    }
    // The prefix is right and would make all names look alike.
    let bare = known.into_iter().map(|name| name.trim_start_matches(PREFIX));
    match closest(rest, bare) {
        Some(meant) => format!("did you mean {PREFIX}{meant}?"),
        None => "`bits-gateway config dump` shows the keys; listeners and backends must be in the \
                 file"
            .into(),
    }
}

fn segment(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    name.to_ascii_uppercase().chars().map(plain).collect()
}

/// `start` is where `value` begins in its source.
fn given(kind: &Kind, value: &str, start: usize) -> Given {
    let text = || Given::Text(value.to_owned());
    match kind {
        Kind::WordOr(_, other) => given(other, value, start),
        Kind::Bool => value.parse().map_or_else(|_| text(), Given::Bool),
        Kind::Integer { .. } => {
            value.replace('_', "").parse().map_or_else(|_| text(), Given::Integer)
        }
        Kind::Hosts | Kind::Methods | Kind::Networks { .. } => {
            let mut at = start;
            let mut list = Vec::new();
            for element in value.split(',') {
                let bare = element.trim();
                let from = at + (element.len() - element.trim_start().len());
                if !bare.is_empty() {
                    list.push((from..from + bare.len(), Given::Text(bare.to_owned())));
                }
                at += element.len() + 1;
            }
            Given::List(list)
        }
        _ => text(),
    }
}
