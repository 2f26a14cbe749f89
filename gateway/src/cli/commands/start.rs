//! Why a gateway does not start, told as its log would tell it.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::{count, exit_code, explained, print_error};
use crate::base::clock;
use crate::config::report::{Finding, Report, Severity};
use crate::config::{LoadError, LogFormat, load_part};
use crate::process::exit::Exit;
use crate::telemetry::journal::{self, Priority};
use crate::telemetry::log::rfc3339;

/// Tells on standard error why there is no configuration to run with: a line of JSON for each
/// finding where the log would be JSON, and what `check` says where it would be text.
pub fn refuse(path: &Path, error: &LoadError) -> Exit {
    let part = load_part(path, &["log"], std::env::vars_os());
    let format = part.ok().and_then(|part| part.log_format());
    let is_journal = journal::has_stderr();
    let mark = |priority: Priority| if is_journal { priority.prefix() } else { String::new() };
    let mut text = String::new();
    match format.unwrap_or_else(LogFormat::by_default) {
        LogFormat::Text => {
            for line in explained(error).lines() {
                text.push_str(&format!("{}{line}\n", mark(Priority::Error)));
            }
        }
        LogFormat::Json => {
            let mut message = error.to_string();
            if let LoadError::Invalid { report, .. } = error {
                for finding in report.findings() {
                    let priority = match finding.severity {
                        Severity::Error => Priority::Error,
                        Severity::Warning => Priority::Warning,
                    };
                    text.push_str(&format!("{}{}\n", mark(priority), line(report, finding)));
                }
                message = format!("{message}: {}", count(report));
            }
            let last = event("ERROR", &message, json!({}));
            text.push_str(&format!("{}{last}\n", mark(Priority::Error)));
        }
    }
    print_error(&text);
    exit_code(error)
}

fn line(report: &Report, finding: &Finding) -> Json {
    let level = match finding.severity {
        Severity::Error => "ERROR",
        Severity::Warning => "WARN",
    };
    let place = finding.places.first();
    let at = place.map(|(place, _)| report.locate(place));
    let label = place.map(|(_, label)| label);
    event(level, &finding.message, json!({ "at": at, "label": label, "help": finding.help }))
}

/// In the shape of the log.
fn event(level: &str, message: &str, more: Json) -> Json {
    let mut event = json!({
        "timestamp": rfc3339(clock::now()).to_string(), "level": level, "message": message,
    });
    if let (Json::Object(event), Json::Object(more)) = (&mut event, more) {
        event.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        event.insert("target".to_owned(), "bits_gateway::config".into());
    }
    event
}
