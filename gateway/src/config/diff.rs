//! What a new configuration changes.

use std::fmt;

use sha2::{Digest, Sha256};

use super::draft::{Draft, SectionValues};
use super::keys::Applies;
use super::sections::SECTIONS;

/// One key, listener or backend that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// `limits.fragment`, `backends.up01.weight`, or `backends.up01` if all of it came or went.
    pub key: String,
    /// As in a file; `None` if there was nothing.
    pub before: Option<String>,
    pub after: Option<String>,
    /// It counts from the next start.
    pub needs_restart: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        write!(f, "{}: {} -> {}", self.key, shown(&self.before), shown(&self.after))
    }
}

/// Every difference, in the order of the documentation. The order within a file is none.
pub fn diff(before: &Draft, after: &Draft) -> Vec<Change> {
    let mut changes = Vec::new();
    for section in SECTIONS {
        let (old, new) = (before.all(section.name), after.all(section.name));
        for table in old.clone() {
            match new.clone().find(|other| other.name == table.name) {
                Some(other) => keys(table, other, &mut changes),
                None => changes.push(whole(table, true)),
            }
        }
        for table in new {
            if !old.clone().any(|other| other.name == table.name) {
                changes.push(whole(table, false));
            }
        }
    }
    changes
}

/// 48 bits, which a floating-point number holds, over what is given in file and environment:
/// the same on two machines whose files mean the same.
pub fn hash(draft: &Draft) -> u64 {
    let mut lines = Vec::new();
    for table in SECTIONS.iter().flat_map(|section| draft.all(section.name)) {
        let given = table.section.keys.iter().filter(|key| table.is_given(key.name));
        lines.extend(given.filter_map(|key| {
            Some(format!("{} = {}\n", table.key_path(key.name), value(table, key.name)?))
        }));
    }
    lines.sort();
    let mut hasher = Sha256::new();
    lines.iter().for_each(|line| hasher.update(line));
    hasher.finalize().iter().take(6).fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

fn keys(old: &SectionValues, new: &SectionValues, changes: &mut Vec<Change>) {
    for key in old.section.keys {
        let (before, after) = (value(old, key.name), value(new, key.name));
        if before != after {
            let needs_restart = key.applies == Applies::Restart;
            changes.push(Change { key: old.key_path(key.name), before, after, needs_restart });
        }
    }
}

/// A table that has gone, or come.
fn whole(table: &SectionValues, gone: bool) -> Change {
    let given = table.section.keys.iter().filter(|key| table.is_given(key.name));
    let values =
        given.filter_map(|key| Some(format!("{} = {}", key.name, value(table, key.name)?)));
    let text = format!("{{ {} }}", values.collect::<Vec<_>>().join(", "));
    let (before, after) = if gone { (Some(text), None) } else { (None, Some(text)) };
    let needs_restart = table.section.needs_restart();
    Change { key: table.path(), before, after, needs_restart }
}

fn value(table: &SectionValues, key: &str) -> Option<String> {
    table.value(key).ok().flatten().map(super::kind::Value::to_toml)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::parse;

    fn draft(text: &str) -> Draft {
        parse("gw.toml", text, []).expect("a good file").draft
    }

    fn file(more: &str, backends: &[(&str, u32)]) -> String {
        let mut text = format!("[listeners.public]\naddress = \"127.0.0.1:8080\"\n{more}\n");
        for (name, weight) in backends {
            let address = "127.0.0.1:9001";
            let backend = format!("name = \"{name}\"\naddress = \"{address}\"\nweight = {weight}");
            text.push_str(&format!("[[backends]]\n{backend}\n"));
        }
        text
    }

    #[track_caller]
    fn check(before: &str, after: &str, expected: &[(&str, bool)]) {
        let changes = diff(&draft(before), &draft(after));
        let got: Vec<_> = changes.iter().map(|c| (c.to_string(), c.needs_restart)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(text, fixed)| (text.to_string(), *fixed)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn nothing_differs_from_itself_whatever_the_order_and_the_spelling() {
        check(&file("", &[("a", 1), ("b", 2)]), &file("", &[("b", 2), ("a", 1)]), &[]);
        check(
            &file("[timeouts]\nclient_body = \"60s\"", &[("a", 1)]),
            &file("[timeouts]\nclient_body = \"1m\"", &[("a", 1)]),
            &[],
        );
        check(&file("[limits]\nfragment = \"off\"", &[("a", 1)]), &file("", &[("a", 1)]), &[]);
    }

    #[test]
    fn a_changed_key_is_named_with_both_values() {
        check(
            &file("", &[("a", 1), ("b", 1)]),
            &file("[limits]\nfragment = \"13MiB\"", &[("a", 1), ("b", 5)]),
            &[
                ("backends.b.weight: 1 -> 5", false),
                ("limits.fragment: \"off\" -> \"13MiB\"", false),
            ],
        );
    }

    #[test]
    fn backends_come_and_go_as_a_whole() {
        check(
            &file("", &[("a", 1), ("b", 1)]),
            &file("", &[("a", 1), ("c", 2)]),
            &[
                (
                    "backends.b: { name = \"b\", address = \"127.0.0.1:9001\", weight = 1 } -> not set",
                    false,
                ),
                (
                    "backends.c: not set -> { name = \"c\", address = \"127.0.0.1:9001\", weight = 2 }",
                    false,
                ),
            ],
        );
    }

    #[test]
    fn what_the_process_is_made_of_needs_a_restart() {
        let more = "access.deny = [\"192.0.2.0/24\"]\n[listeners.more]\naddress = \"127.0.0.1:8081\"\n[ops]\naddress = \"off\"\n\
                    [log]\nlevel = \"warn\"\naccess = \"off\"\n[limits]\nconnections = 5\n[process]\nwatch_config = true";
        check(
            &file("", &[("a", 1)]),
            &file(more, &[("a", 1)]),
            &[
                ("listeners.public.access.deny: [] -> [\"192.0.2.0/24\"]", false),
                ("listeners.more: not set -> { address = \"127.0.0.1:8081\" }", true),
                ("limits.connections: 20_000 -> 5", true),
                ("ops.address: \"127.0.0.1:9080\" -> \"off\"", true),
                ("log.level: \"info\" -> \"warn\"", false),
                ("log.access: \"stdout\" -> \"off\"", true),
                ("process.watch_config: false -> true", true),
            ],
        );
    }

    #[test]
    fn the_hash_is_that_of_the_meaning() {
        let one = hash(&draft(&file("", &[("a", 1), ("b", 2)])));
        assert_eq!(one, hash(&draft(&file("# a word", &[("b", 2), ("a", 1)]))));
        assert_ne!(one, hash(&draft(&file("", &[("a", 1), ("b", 3)]))));
        assert!(one < 1 << 48);
    }
}
