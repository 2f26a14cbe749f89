//! The section `[log]`.

use std::path::PathBuf;

use super::draft::{Broken, SectionValues};
use super::keys::{DefaultValue, word};
use super::kind::{Kind, Value};
use super::names::{Choice, named};
use super::section::section;
use crate::telemetry::access_log::AccessFilter;

const ACCESS: &[Choice] = &[
    Choice { name: "stdout", about: "standard output" },
    Choice { name: "off", about: "nowhere" },
];

section! {
    pub struct Log in "log";
    about: "The log goes to standard error; the access log has a line per request and one per \
            ended upload.";
    later: &[];

    level: Level {
        kind: word::<Level>(),
        default: DefaultValue::word("info"),
        applies: Reload,
        about: "The least that is logged.",
    }

    format: LogFormat {
        kind: word::<LogFormat>(),
        default: DefaultValue::word("json"),
        applies: Restart,
        about: "The form of the log; the access log is always JSON. Where this is not given and \
                the log goes to a terminal, it is text.",
    }

    access: AccessLogPlace = access {
        kind: Kind::WordOr(ACCESS, &Kind::Path),
        default: DefaultValue::word("stdout"),
        applies: Restart,
        about: "Where the access log goes. A path has a slash in it.",
    }

    access_filter: AccessFilter {
        kind: word::<AccessFilter>(),
        default: DefaultValue::word("all"),
        applies: Reload,
        about: "Which requests have a line in the access log. A terabyte in Fragments of 4 MiB is \
                250,000 of them.",
    }
}

fn access(table: &SectionValues, key: &str) -> Result<AccessLogPlace, Broken> {
    Ok(match table.value(key)? {
        Some(Value::Word("stdout")) => AccessLogPlace::Stdout,
        Some(Value::Path(path)) => AccessLogPlace::File(path.clone()),
        _ => AccessLogPlace::Off,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

impl LogFormat {
    /// Where nothing is configured: a person at a terminal reads text.
    pub fn by_default() -> Self {
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) { Self::Text } else { Self::Json }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum AccessLogPlace {
    Stdout,
    Off,
    File(PathBuf),
}

named!(Level {
    Error = "error": "what lost or refused an upload for a reason of ours",
    Warn = "warn": "what an operator should look at",
    Info = "info": "starts, stops and changes",
    Debug = "debug": "where each request goes, and why",
    Trace = "trace": "also what the libraries beneath say, for development",
});

named!(LogFormat {
    Json = "json": "one JSON object a line",
    Text = "text": "for reading in a terminal",
});

named!(AccessFilter {
    All = "all": "every request",
    SkipSuccessfulFragments = "skip-successful-fragments": "every request but the Fragments that a server took at the first try",
});
