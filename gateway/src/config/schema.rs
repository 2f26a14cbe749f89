//! The JSON Schema of the file, from the table of keys.
//!
//! Editors complete and check with it. What it cannot say in standard words stands in `x-` words:
//! `x-type` (the kind of text), `x-minimum` and `x-maximum` (bounds of durations and sizes),
//! `x-default` (a default that depends on something), `x-env` (the variable), `x-restart` (a reload
//! does not change it).

use serde_json::{Map, Value as Json, json};

use super::env;
use super::keys::{Applies, DefaultValue, Key, Section, Shape};
use super::kind::Kind;
use super::names::Choice;
use super::sections::SECTIONS;
use super::syntax::{show_duration, show_size};

const HOST: &str = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?)";

/// Everything that a file may hold, in the order of the documentation.
pub fn schema() -> Json {
    let mut properties = Map::new();
    for section in SECTIONS {
        properties.insert(section.name.into(), section_schema(section));
    }
    let required: Vec<&str> = SECTIONS
        .iter()
        .filter(|section| section.shape != Shape::Once)
        .map(|section| section.name)
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bits-gateway configuration",
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn section_schema(section: &Section) -> Json {
    let mut properties = Map::new();
    for key in section.keys {
        match key.name.split_once('.') {
            Some((group, name)) => {
                let group = properties.entry(group).or_insert_with(|| {
                    json!({
                        "description": about_group(group),
                        "type": "object",
                        "additionalProperties": false,
                        "properties": {},
                    })
                });
                group["properties"][name] = key_schema(section, key);
            }
            None => {
                properties.insert(key.name.into(), key_schema(section, key));
            }
        }
    }
    let required: Vec<&str> = section
        .keys
        .iter()
        .filter(|key| matches!(key.default, DefaultValue::Required { .. }))
        .map(|key| key.name)
        .collect();
    let mut table = Map::new();
    table.insert("type".into(), "object".into());
    if !required.is_empty() {
        table.insert("required".into(), required.into());
    }
    table.insert("additionalProperties".into(), false.into());
    table.insert("properties".into(), properties.into());
    match section.shape {
        Shape::Once => {
            let mut section_schema = Map::new();
            section_schema.insert("description".into(), section.about.into());
            section_schema.extend(table);
            section_schema.into()
        }
        Shape::Named => json!({
            "description": section.about,
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": "^[A-Za-z0-9_-]{1,63}$", "not": { "enum": ["ops", "admin"] } },
            "additionalProperties": table,
        }),
        Shape::Listed => json!({
            "description": section.about,
            "type": "array",
            "minItems": 1,
            "items": table,
        }),
    }
}

fn about_group(group: &str) -> String {
    match group {
        "tls" => "Speaks TLS.".into(),
        "proxy_protocol" => "Balancers that say for whom they speak.".into(),
        _ => format!("As in `[{group}]`, for this one alone."),
    }
}

fn key_schema(section: &Section, key: &Key) -> Json {
    let mut schema = Map::new();
    schema.insert("description".into(), key.about.into());
    schema.insert("x-type".into(), key.kind.noun().into());
    schema.extend(kind_schema(&key.kind));
    match &key.default {
        DefaultValue::Is(value) => {
            schema.insert("default".into(), value.to_json());
        }
        DefaultValue::Depends { on, .. } => {
            schema.insert("x-default".into(), (*on).into());
        }
        DefaultValue::Unset { meaning, .. } => {
            schema.insert("x-default".into(), format!("not set; {meaning}").into());
        }
        DefaultValue::Required { .. } => {}
    }
    if env::may_be_set(section, key) {
        schema.insert("x-env".into(), env::variable(section, "NAME", key.name).into());
    }
    if key.applies == Applies::Restart {
        schema.insert("x-restart".into(), true.into());
    }
    schema.into()
}

fn kind_schema(kind: &Kind) -> Map<String, Json> {
    let text = |pattern: String| json!({ "type": "string", "pattern": format!("^{pattern}$") });
    let schema = match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Duration { min, max, .. } => json!({
            "type": "string",
            "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*[A-Za-zµ]+\s*)+$",
            "x-minimum": show_duration(*min),
            "x-maximum": show_duration(*max),
        }),
        Kind::Size { min, max } => {
            let mut schema = json!({
                "type": ["string", "integer"],
                "pattern": r"^[0-9]+(\.[0-9]+)?\s*[A-Za-z]*$",
                "minimum": min,
                "x-minimum": show_size(*min),
            });
            // A bound that stands for "no bound" would only puzzle.
            if *max < i64::MAX as u64 {
                schema["maximum"] = (*max).into();
                schema["x-maximum"] = show_size(*max).into();
            }
            schema
        }
        Kind::Word { choices, .. } => json!({ "oneOf": words(choices) }),
        Kind::WordOr(choices, other) => {
            let mut any = words(choices);
            any.push(kind_schema(other).into());
            json!({ "anyOf": any })
        }
        Kind::Name => text("[A-Za-z0-9][A-Za-z0-9._-]{0,62}".into()),
        Kind::Host => {
            json!({ "type": "string", "maxLength": 300, "pattern": format!("^{HOST}$") })
        }
        Kind::Network => text("[0-9A-Fa-f:.]+(/[0-9]{1,3})?".into()),
        Kind::Methods => {
            json!({ "type": "array", "items": { "type": "string", "pattern": "^[A-Z_-]+$" } })
        }
        Kind::Hosts => json!({ "type": "array", "items": kind_schema(&Kind::Host) }),
        Kind::Networks { least } => json!({
            "type": "array",
            "minItems": least,
            "items": kind_schema(&Kind::Network),
        }),
        Kind::Certificates => json!({
            "type": "array",
            "items": {
                "type": "object",
                "required": ["certificate", "key"],
                "additionalProperties": false,
                "properties": {
                    "certificate": kind_schema(&Kind::Path),
                    "key": kind_schema(&Kind::Path),
                },
            },
        }),
        Kind::HostPort => text(format!("{HOST}:[0-9]{{1,5}}")),
        Kind::Socket => text(r"(\[[0-9A-Fa-f:.]+(%[0-9]+)?\]|[0-9.]+):[0-9]{1,5}".into()),
        Kind::Path => json!({ "type": "string", "pattern": "/" }),
        Kind::UrlPath => text("/[!-\"$-~]*".into()),
    };
    match schema {
        Json::Object(schema) => schema,
        _ => unreachable!("every arm makes an object"),
    }
}

fn words(choices: &[Choice]) -> Vec<Json> {
    choices
        .iter()
        .map(|choice| json!({ "const": choice.name, "description": choice.about }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_and_has_a_default_or_says_why_not() {
        let schema = schema();
        for section in SECTIONS {
            let table = table(&schema["properties"][section.name]);
            for key in section.keys {
                let key_schema = property(table, key.name);
                let described =
                    key_schema["description"].as_str().is_some_and(|s| s.ends_with('.'));
                assert!(described, "{}.{}", section.name, key.name);
                let required = table["required"]
                    .as_array()
                    .is_some_and(|required| required.contains(&key.name.into()));
                let answers = [
                    key_schema.get("default").is_some(),
                    key_schema.get("x-default").is_some(),
                    required,
                ];
                let answers = answers.iter().filter(|answer| **answer).count();
                assert_eq!(answers, 1, "{}.{}", section.name, key.name);
            }
        }
    }

    #[test]
    fn sections_that_a_file_needs_are_required() {
        assert_eq!(schema()["required"], json!(["listeners", "backends"]));
        assert_eq!(
            table(&schema()["properties"]["backends"])["required"],
            json!(["name", "address"])
        );
    }

    #[test]
    fn bounds_are_stated() {
        let schema = schema();
        let table = &schema["properties"]["affinity"]["properties"];
        assert_eq!(table["fallback_timeout"]["x-minimum"], "1s");
        assert_eq!(table["fallback_timeout"]["default"], "15m");
        let weight = &schema["properties"]["backends"]["items"]["properties"]["weight"];
        assert_eq!((&weight["minimum"], &weight["maximum"]), (&json!(1), &json!(1000)));
    }

    fn property<'s>(table: &'s Json, key: &str) -> &'s Json {
        key.split('.').fold(table, |table, name| &table["properties"][name])
    }

    fn table(section: &Json) -> &Json {
        match section["type"].as_str() {
            Some("array") => &section["items"],
            _ if section.get("minProperties").is_some() => &section["additionalProperties"],
            _ => section,
        }
    }
}
