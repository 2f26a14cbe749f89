//! The values that count, each with its origin.

use serde_json::{Value as Json, json};

use super::draft::{Origin, SectionValues};
use super::env;
use super::keys::{DefaultValue, Key, Shape};
use super::load::Loaded;
use super::report::SourceKind;
use super::sections::SECTIONS;

/// As a file that gives the same configuration, with the origins as comments.
pub fn to_toml(loaded: &Loaded) -> String {
    let mut file = String::new();
    for table in tables(loaded) {
        if !file.is_empty() {
            file.push('\n');
        }
        file.push_str(&match table.section.shape {
            Shape::Once => format!("[{}]\n", table.section.name),
            Shape::Named => format!("[{}.{}]\n", table.section.name, table.name),
            Shape::Listed => format!("[[{}]]\n", table.section.name),
        });
        let lines: Vec<(String, String)> =
            table.section.keys.iter().map(|key| line(loaded, table, key)).collect();
        let width = lines.iter().map(|(setting, _)| setting.chars().count()).max().unwrap_or(0);
        for (setting, origin) in lines {
            file.push_str(&format!("{setting:width$}  # {origin}\n"));
        }
    }
    file
}

pub fn to_json(loaded: &Loaded) -> Json {
    let mut values = Vec::new();
    for table in tables(loaded) {
        for key in table.section.keys {
            let value = table.value(key.name).ok().flatten();
            let origin = match table.origin(key.name) {
                Origin::Default => json!({ "kind": "default" }),
                Origin::Given(place) => {
                    let source = loaded.report.source(&place);
                    let (line, _) = loaded.report.line_and_column(&place);
                    match source.kind {
                        SourceKind::Environment => json!({ "kind": "env", "name": source.name }),
                        SourceKind::File => {
                            json!({ "kind": "file", "file": source.name, "line": line })
                        }
                    }
                }
            };
            values.push(json!({
                "key": table.key_path(key.name),
                "value": value.map(super::kind::Value::to_json),
                "origin": origin,
                "env": env::variable(table.section, &table.name, key.name),
            }));
        }
    }
    json!({ "values": values })
}

fn tables(loaded: &Loaded) -> impl Iterator<Item = &SectionValues> {
    SECTIONS.iter().flat_map(|section| loaded.draft.all(section.name))
}

fn line(loaded: &Loaded, table: &SectionValues, key: &Key) -> (String, String) {
    let origin = match table.origin(key.name) {
        Origin::Default => "default".to_owned(),
        Origin::Given(place) => {
            let source = loaded.report.source(&place);
            match source.kind {
                SourceKind::Environment => source.name.clone(),
                SourceKind::File => {
                    format!("{}:{}", source.name, loaded.report.line_and_column(&place).0)
                }
            }
        }
    };
    match table.value(key.name) {
        Ok(Some(value)) => (format!("{} = {}", key.name, value.to_toml()), origin),
        _ => {
            let meaning = match &key.default {
                DefaultValue::Unset { meaning: text, .. }
                | DefaultValue::Depends { on: text, .. } => text,
                _ => "",
            };
            (format!("#{} =", key.name), format!("not set: {meaning}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::parse;

    const FILE: &str = r#"
        [listeners.public]
        address = "127.0.0.1:8080"
        [affinity]
        host_id_domain = "up.test"
        fallback_timeout = "1h"
        [http]
        hosts = ["Uploads.example.com", "other.example.com"]
        [log]
        access = "/var/log/access \"quoted\".log"
        [[backends]]
        name = "up01"
        address = "[::1]:9001"
        weight = 3
    "#;

    #[test]
    fn a_dump_is_a_file_that_gives_the_same_configuration() {
        let env = [("BITSGW__LIMITS__FRAGMENT".into(), "13MiB".into())];
        let loaded = parse("gw.toml", FILE, env).unwrap();
        let again = parse("dump.toml", &to_toml(&loaded), []).unwrap();
        assert_eq!(again.config, loaded.config);
    }

    #[test]
    fn every_value_says_where_it_comes_from() {
        let env = [("BITSGW__BACKENDS__UP01__WEIGHT".into(), "5".into())];
        let loaded = parse("gw.toml", FILE, env).unwrap();
        let dump = to_toml(&loaded);
        let origin = |setting: &str| {
            let line = dump.lines().find(|line| line.starts_with(setting)).unwrap_or("none");
            line.split_once('#').map(|(_, origin)| origin.trim().to_owned()).unwrap_or_default()
        };
        assert_eq!(origin("fallback_timeout = \"1h\""), "gw.toml:6");
        assert_eq!(origin("weight = 5"), "BITSGW__BACKENDS__UP01__WEIGHT");
        assert_eq!(origin("host_id = \"backend\""), "default");
        assert_eq!(origin("host_id = \"up01.up.test\""), "default");
        assert_eq!(origin("idle_timeout = \"14d\""), "default");
    }
}
