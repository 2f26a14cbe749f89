//! Types of keys, what they hold, what is given for them, and why that is refused.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::address::BackendAddress;
use super::names::{Choice, Named};
use crate::tls::settings::CertificateFiles;

/// The type and the bounds of a key. Bounds are inclusive.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Bool,
    Integer {
        min: u64,
        max: u64,
    },
    Duration {
        min: Duration,
        max: Duration,
        /// Parts of a second are refused: the wire or pingora could not hold them.
        whole_seconds: bool,
    },
    Size {
        min: u64,
        max: u64,
    },
    /// One of the words; `later` are words of the design that this version does not know yet.
    Word {
        choices: &'static [Choice],
        later: &'static [&'static str],
    },
    /// One of the words, or else what the other kind takes.
    WordOr(&'static [Choice], &'static Kind),
    /// The name of a backend: letters, digits, `-`, `_` and `.`.
    Name,
    /// A host without scheme, port and path.
    Host,
    Hosts,
    /// A list of methods of requests that are no packets.
    Methods,
    /// IP addresses, and networks with the length of their prefix: at least so many.
    Networks {
        least: usize,
    },
    Network,
    /// Tables of a certificate and a key each.
    Certificates,
    /// A host with its port.
    HostPort,
    /// An IP address with its port.
    Socket,
    Path,
    /// What a request asks for: a slash and visible ASCII.
    UrlPath,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Integer(u64),
    Duration(Duration),
    /// Bytes.
    Size(u64),
    Word(&'static str),
    Text(Cow<'static, str>),
    Texts(Vec<String>),
    HostPort(BackendAddress),
    Socket(SocketAddr),
    Path(PathBuf),
    Certificates(Vec<CertificateFiles>),
}

/// What stands in a file or in the environment, before anybody knows what it ought to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    Text(String),
    Integer(i128),
    Bool(bool),
    /// Every element with its place.
    List(Vec<(Range<usize>, Given)>),
    /// Every key with the place of its value.
    Table(Vec<(String, Range<usize>, Given)>),
    /// Something that no key takes, such as a float.
    Other(&'static str),
}

/// Why something given is no value.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Follows the name of the key: "is not a duration".
    pub message: String,
    /// What stands at the caret: what is wrong here.
    pub label: String,
    /// What would be right.
    pub help: Option<String>,
    /// A narrower place than the whole value.
    pub span: Option<Range<usize>>,
}

impl Refusal {
    pub fn new(message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { message: message.into(), label: label.into(), help: None, span: None }
    }

    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// Text in quotes. What JSON escapes, TOML reads back.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The refusal of a value beyond its bounds.
pub fn out_of_bounds(below: bool, min: &str, max: &str) -> Refusal {
    let (message, label) = match below {
        true => ("is too small", format!("less than {min}")),
        false => ("is too large", format!("more than {max}")),
    };
    Refusal::new(message, label).help(format!("from {min} to {max}"))
}

/// The type that the code wants of a value.
pub trait FromValue: Sized {
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($variant:ident => $type:ty: $convert:expr;)+) => {
        $(impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => $convert(value),
                    _ => None,
                }
            }
        })+
    };
}

from_value! {
    Bool => bool: |value: &bool| Some(*value);
    Duration => Duration: |value: &Duration| Some(*value);
    Text => String: |value: &Cow<'static, str>| Some(value.clone().into_owned());
    Texts => Vec<String>: |value: &Vec<String>| Some(value.clone());
    HostPort => BackendAddress: |value: &BackendAddress| Some(value.clone());
    Socket => SocketAddr: |value: &SocketAddr| Some(*value);
    Certificates => Vec<CertificateFiles>: |value: &Vec<CertificateFiles>| Some(value.clone());
    Integer => u32: |value: &u64| u32::try_from(*value).ok();
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(value) | Value::Size(value) => Some(*value),
            _ => None,
        }
    }
}

/// A default is a text, because a constant cannot hold a `PathBuf`.
impl FromValue for PathBuf {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Path(path) => Some(path.clone()),
            Value::Text(text) => Some(text.as_ref().into()),
            _ => None,
        }
    }
}

impl FromValue for usize {
    fn from_value(value: &Value) -> Option<Self> {
        u64::from_value(value).and_then(|value| usize::try_from(value).ok())
    }
}

impl<T: Named> FromValue for T {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Word(name) => T::from_name(name),
            _ => None,
        }
    }
}
