//! `bits-gateway sessions show`.

use serde_json::Value as Json;

use super::done;
use crate::cli::commands::table::{pairs, size, span};

pub fn show(row: &Json) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
    let ago = |at: &str, seconds: &str| match row[seconds].as_u64() {
        Some(seconds) => format!("{} ({} ago)", text(at), span(seconds)),
        None => text(at),
    };
    let here = row["bytes_received"].as_u64().unwrap_or_default();
    let progress = match row["total"].as_u64() {
        Some(total) => format!("{here} of {total} bytes ({})", done(row)),
        None => "unknown until the next Fragment".to_owned(),
    };
    let mut lines = vec![
        ("session", text("id")),
        ("ref", text("ref")),
        ("state", state(row)),
        ("path", text("path")),
        ("client", text("client")),
        ("user agent", text("user_agent")),
        ("backend", text("backend")),
        ("progress", progress),
    ];
    if let Some(rate) = row["bytes_per_second"].as_u64() {
        lines.push(("rate", format!("{} a second", size(rate))));
    }
    if row["under_way"].is_object() {
        lines.push(("under way", under_way(&row["under_way"])));
    }
    lines.extend([
        ("last progress", ago("seen", "idle_seconds")),
        ("created", ago("created", "age_seconds")),
    ]);
    if row["backend_session"].is_string() {
        lines.push(("id at the backend", text("backend_session")));
    }
    if row["falls_back"].is_string() {
        lines.push(("falls back", format!("{}, if its packets go on to fail", text("falls_back"))));
    }
    if row["expires"].is_string() {
        lines.push(("expires", format!("{}, if nothing more is heard of it", text("expires"))));
    }
    pairs(&lines)
}

/// With what it waits for, in words.
fn state(row: &Json) -> String {
    let waits = match row["waits_for"].as_str() {
        Some("client") => "the rest of its body",
        Some("write") => "its backend, which takes no more of its body",
        Some("turn") => "the end of an older request of the session",
        Some("backend") => "its backend, which is away",
        Some("connection") => "a connection to its backend",
        Some("answer") => "the answer of its backend",
        _ => return row["state"].as_str().unwrap_or("-").to_owned(),
    };
    format!("{}: waits for {waits}", row["state"].as_str().unwrap_or("-"))
}

fn under_way(request: &Json) -> String {
    let packet = request["packet"].as_str().unwrap_or("-");
    let since = span(request["seconds"].as_u64().unwrap_or_default());
    let number = |name: &str| request["range"][name].as_u64();
    match (number("first"), number("last"), number("bytes")) {
        (Some(first), Some(last), Some(bytes)) => {
            let length = (last - first).saturating_add(1);
            format!("{packet} {first}-{last}, {bytes} of {length} bytes, for {since}")
        }
        _ => format!("{packet}, for {since}"),
    }
}
