//! What a key may hold: from the text of a file to a value, and back.

use std::borrow::Cow;

use super::lists;
use super::names::Choice;
use super::suggest::{closest, one_of};
use super::syntax;
use super::value::out_of_bounds;
pub use super::value::{FromValue, Given, Kind, Refusal, Value, quote};

impl Kind {
    /// A list of durations and so on is as good as none: few kinds take a list.
    pub fn parse(&self, given: &Given) -> Result<Value, Refusal> {
        match (self, given) {
            (Kind::WordOr(words, other), given) => match given {
                Given::Text(text) if words.iter().any(|word| word.name == text) => {
                    parse_word(words, &[], text)
                }
                given => {
                    let other = match (other, given) {
                        (Kind::Path, Given::Text(text)) => {
                            syntax::path_beside_words(text).map(Value::Path)
                        }
                        (other, given) => other.parse(given),
                    };
                    other.map_err(|refusal| suggest_word(words, given, refusal))
                }
            },
            (Kind::Bool, Given::Bool(value)) => Ok(Value::Bool(*value)),
            (Kind::Integer { min, max }, Given::Integer(value)) => {
                let value = within(*value, *min, *max, |bound| bound.to_string())?;
                Ok(Value::Integer(value))
            }
            (Kind::Duration { min, max, whole_seconds }, Given::Text(text)) => {
                syntax::duration(text, *min, *max, *whole_seconds).map(Value::Duration)
            }
            (Kind::Size { min, max }, Given::Text(text)) => {
                let bytes = syntax::size(text)?;
                within(bytes.into(), *min, *max, syntax::show_size).map(Value::Size)
            }
            (Kind::Size { min, max }, Given::Integer(bytes)) => {
                within(*bytes, *min, *max, syntax::show_size).map(Value::Size)
            }
            (Kind::Word { choices, later }, Given::Text(text)) => parse_word(choices, later, text),
            (Kind::Name, Given::Text(text)) => {
                syntax::name(text).map(|()| Value::Text(Cow::Owned(text.clone())))
            }
            (Kind::Host, Given::Text(text)) => {
                syntax::host(text).map(|()| Value::Text(Cow::Owned(text.clone())))
            }
            (Kind::Hosts, Given::List(list)) => lists::hosts(list),
            (Kind::Methods, Given::List(list)) => lists::methods(list),
            (Kind::Networks { least }, Given::List(list)) => lists::networks(list, *least),
            (Kind::Network, Given::Text(text)) => {
                syntax::network(text).map(|_| Value::Text(Cow::Owned(text.clone())))
            }
            (Kind::Certificates, Given::List(list)) => lists::certificates(list),
            (Kind::HostPort, Given::Text(text)) => syntax::host_port(text).map(Value::HostPort),
            (Kind::Socket, Given::Text(text)) => syntax::socket(text).map(Value::Socket),
            (Kind::Path, Given::Text(text)) => syntax::path(text).map(Value::Path),
            (Kind::UrlPath, Given::Text(text)) => {
                syntax::url_path(text).map(|()| Value::Text(Cow::Owned(text.clone())))
            }
            (kind, given) => Err(kind.mismatch(given)),
        }
    }

    /// "a duration", for messages and documentation.
    pub fn noun(&self) -> String {
        match self {
            Kind::Bool => "true or false".into(),
            Kind::Integer { .. } => "a whole number".into(),
            Kind::Duration { .. } => "a duration".into(),
            Kind::Size { .. } => "a size".into(),
            Kind::Word { choices, .. } => one_of(choices.iter().map(|choice| choice.name)),
            Kind::WordOr(words, other) => {
                let words: Vec<String> =
                    words.iter().map(|word| format!("\"{}\"", word.name)).collect();
                format!("{} or {}", words.join(", "), other.noun())
            }
            Kind::Name => "a name".into(),
            Kind::Host => "a host name".into(),
            Kind::Hosts => "a list of host names".into(),
            Kind::Methods => "a list of methods".into(),
            Kind::Networks { .. } => "a list of IP addresses and networks".into(),
            Kind::Network => "an IP address or a network".into(),
            Kind::Certificates => "a list of certificates with their keys".into(),
            Kind::HostPort => "a host and a port".into(),
            Kind::Socket => "an IP address and a port".into(),
            Kind::Path => "a path".into(),
            Kind::UrlPath => "the path of a URL".into(),
        }
    }

    /// A value as one would write it in the file.
    pub fn sample(&self) -> &'static str {
        match self {
            Kind::Bool => "true",
            Kind::Integer { .. } => "100",
            Kind::Duration { .. } => "\"90s\"",
            Kind::Size { .. } => "\"64MiB\"",
            Kind::Word { .. } => "\"word\"",
            Kind::WordOr(_, other) => other.sample(),
            Kind::Name => "\"up01\"",
            Kind::Host => "\"uploads.example.com\"",
            Kind::Hosts => "[\"uploads.example.com\"]",
            Kind::Methods => "[\"GET\", \"HEAD\"]",
            Kind::Networks { .. } => "[\"10.0.0.0/8\"]",
            Kind::Network => "\"10.0.0.0/8\"",
            Kind::Certificates => "[{ certificate = \"./cert.pem\", key = \"./key.pem\" }]",
            Kind::HostPort => "\"10.0.0.11:80\"",
            Kind::Socket => "\"[::]:8080\"",
            Kind::UrlPath => "\"/uploads/\"",
            Kind::Path => "\"/var/log/bits-gateway/access.log\"",
        }
    }

    pub(super) fn mismatch(&self, given: &Given) -> Refusal {
        let what = match given {
            Given::Text(_) => "text",
            Given::Integer(_) => "a number",
            Given::Bool(_) => "true or false",
            Given::List(_) => "a list",
            Given::Table(_) => "a table",
            Given::Other(what) => what,
        };
        let help = match (self, given) {
            (Kind::Duration { .. }, Given::Integer(seconds)) => {
                format!("a duration has a unit: \"{seconds}s\"")
            }
            (Kind::Bool, Given::Text(text)) if text == "true" || text == "false" => {
                format!("without quotes: {text}")
            }
            (Kind::Integer { .. }, Given::Text(text)) if text.parse::<i128>().is_ok() => {
                format!("without quotes: {text}")
            }
            (Kind::Hosts | Kind::Methods | Kind::Networks { .. }, Given::Text(text)) => {
                format!("a list: [\"{text}\"]")
            }
            (Kind::Socket, Given::Integer(port)) => format!("for all addresses: \"[::]:{port}\""),
            (Kind::Word { .. }, _) => format!("write {}", self.noun()),
            _ => format!("for example {}", self.sample()),
        };
        Refusal::new(format!("must be {}", self.noun()), format!("this is {what}")).help(help)
    }
}

impl Value {
    /// As it stands in a TOML file.
    pub fn to_toml(&self) -> String {
        match self {
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => group_digits(*value),
            Value::Texts(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quote(text)).collect();
                format!("[{}]", texts.join(", "))
            }
            Value::Certificates(pairs) => lists::certificates_to_toml(pairs),
            other => quote(&other.to_text()),
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Texts(texts) => texts.clone().into(),
            Value::Certificates(pairs) => lists::certificates_to_json(pairs),
            other => other.to_text().into(),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Duration(value) => syntax::show_duration(*value),
            Value::Size(value) => syntax::show_size(*value),
            Value::Word(value) => (*value).to_owned(),
            Value::Text(value) => value.clone().into_owned(),
            Value::Texts(texts) => texts.join(","),
            Value::HostPort(value) => value.to_string(),
            Value::Socket(value) => value.to_string(),
            Value::Path(value) => value.display().to_string(),
            Value::Certificates(pairs) => lists::certificates_to_toml(pairs),
        }
    }
}

fn within(given: i128, min: u64, max: u64, show: impl Fn(u64) -> String) -> Result<u64, Refusal> {
    match u64::try_from(given) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(out_of_bounds(given < i128::from(min), &show(min), &show(max))),
    }
}

fn parse_word(choices: &'static [Choice], later: &[&str], text: &str) -> Result<Value, Refusal> {
    if let Some(choice) = choices.iter().find(|choice| choice.name == text) {
        return Ok(Value::Word(choice.name));
    }
    let legal = one_of(choices.iter().map(|choice| choice.name));
    if later.contains(&text) {
        let message = format!("cannot be \"{text}\" yet");
        return Err(
            Refusal::new(message, "not supported by this version").help(format!("write {legal}"))
        );
    }
    let refusal = Refusal::new(format!("must be {legal}"), "not one of these");
    Err(match closest(text, choices.iter().map(|choice| choice.name)) {
        Some(meant) => refusal.help(format!("did you mean \"{meant}\"?")),
        None => refusal,
    })
}

fn suggest_word(words: &'static [Choice], given: &Given, refusal: Refusal) -> Refusal {
    let names = words.iter().map(|word| word.name);
    match given {
        Given::Text(text) => match closest(text, names.clone()) {
            Some(meant) => refusal.help(format!("did you mean \"{meant}\"?")),
            None => refusal,
        },
        Given::Bool(false) if names.clone().any(|name| name == "off") => {
            refusal.help("to turn it off: \"off\"")
        }
        _ => refusal,
    }
}

/// 20_000 rather than 20000.
fn group_digits(value: u64) -> String {
    let digits = value.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
#[path = "kind_tests.rs"]
mod tests;
