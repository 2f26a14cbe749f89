//! Lists in the file: host names, networks, certificates.

use std::ops::Range;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::syntax;
use super::value::{Given, Kind, Refusal, Value, quote};
use crate::tls::settings::CertificateFiles;

type List = [(Range<usize>, Given)];

pub fn hosts(list: &List) -> Result<Value, Refusal> {
    texts(list, "has an element that is no host name", |given| match given {
        Given::Text(text) => syntax::host(text).map(|()| text.clone()),
        other => Err(Kind::Host.mismatch(other)),
    })
}

pub fn methods(list: &List) -> Result<Value, Refusal> {
    texts(list, "has an element that is no method", |given| match given {
        Given::Text(text) => syntax::method(text).map(|()| text.clone()),
        other => Err(Kind::Name.mismatch(other).help("for example \"GET\"")),
    })
}

pub fn networks(list: &List, least: usize) -> Result<Value, Refusal> {
    if list.len() < least {
        let sample = Kind::Networks { least }.sample();
        return Err(Refusal::new("is empty", "nobody").help(format!("for example {sample}")));
    }
    texts(list, "has an element that is no IP address and no network", |given| match given {
        Given::Text(text) => syntax::network(text).map(|_| text.clone()),
        other => Err(Kind::Network.mismatch(other)),
    })
}

fn texts(
    list: &List,
    message: &str,
    read: impl Fn(&Given) -> Result<String, Refusal>,
) -> Result<Value, Refusal> {
    let one = |(span, given): &(Range<usize>, Given)| {
        read(given).map_err(|refusal| Refusal {
            message: message.into(),
            span: Some(span.clone()),
            ..refusal
        })
    };
    list.iter().map(one).collect::<Result<_, _>>().map(Value::Texts)
}

/// Tables of exactly a certificate and a key.
pub fn certificates(list: &List) -> Result<Value, Refusal> {
    let refuse = |span: &Range<usize>, label: String| Refusal {
        span: Some(span.clone()),
        help: Some(format!("for example {}", Kind::Certificates.sample())),
        ..Refusal::new("has an element that is no certificate with its key", label)
    };
    let one = |(span, given): &(Range<usize>, Given)| {
        let Given::Table(keys) = given else { return Err(refuse(span, "not a table".into())) };
        if let Some((name, place, _)) =
            keys.iter().find(|(name, ..)| !["certificate", "key"].contains(&name.as_str()))
        {
            return Err(refuse(place, format!("there is no `{}` here", name.escape_debug())));
        }
        let path = |wanted: &str| {
            let found = keys.iter().find(|(name, ..)| name == wanted);
            let Some((_, place, value)) = found else {
                return Err(refuse(span, format!("no `{wanted}` here")));
            };
            match Kind::Path.parse(value) {
                Ok(Value::Path(path)) => Ok(path),
                Ok(_) => Err(refuse(place, "no path".into())),
                Err(refusal) => Err(refuse(place, refusal.label)),
            }
        };
        Ok(CertificateFiles { certificate: path("certificate")?, key: path("key")? })
    };
    list.iter().map(one).collect::<Result<_, _>>().map(Value::Certificates)
}

pub fn certificates_to_toml(pairs: &[CertificateFiles]) -> String {
    let text = |path: &Path| quote(&path.display().to_string());
    let pair = |pair: &CertificateFiles| {
        format!("{{ certificate = {}, key = {} }}", text(&pair.certificate), text(&pair.key))
    };
    format!("[{}]", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
}

pub fn certificates_to_json(pairs: &[CertificateFiles]) -> Json {
    let text = |path: &Path| path.display().to_string();
    pairs
        .iter()
        .map(|pair| json!({ "certificate": text(&pair.certificate), "key": text(&pair.key) }))
        .collect()
}
