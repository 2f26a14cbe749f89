//! What runs here.

use maud::{Markup, html};

use super::visitor::Visitor;
use super::{shell, words};
use crate::admin::api::Api;
use crate::admin::refusal::Refusal;
use crate::base::build_info::{REVISION, RUSTC, VERSION};

/// Pages of the documentation, by what one looks for.
const DOCUMENTS: [(&str, &str); 5] = [
    ("docs/runbook.md", "what to do about each alert"),
    ("docs/operations.md", "what breaks, and what clients see of it"),
    ("docs/windows.md", "the Windows side, with its error codes"),
    ("docs/admin-api.md", "the API behind this page, and the commands"),
    ("docs/config.md", "every key of the configuration"),
];

pub async fn page(api: &Api, visitor: &Visitor) -> Result<Markup, Refusal> {
    let (status, overview) = (api.status().await?, api.overview().await?);
    let content = html! {
        h1 { "About" }
        dl {
            dt { "Version" } dd { (VERSION) ", revision " (REVISION) ", built by " (RUSTC) }
            dt { "Process" } dd { (std::process::id()) ", " (status.phase) " for " (words::span(status.uptime_seconds))
                ", since " (words::time(&status.started)) }
            dt { "Sessions" } dd { (words::count(status.sessions.count)) " of " (words::count(status.sessions.limit)) }
            dt { "Store" } dd { (status.store.kind) @if let Some(message) = &status.store.message { ": " (message) } }
        }
        h2 { "Read on" }
        ul { @for (document, about) in DOCUMENTS { li { code { (document) } ": " (about) } } }
    };
    Ok(shell::page("About", "/about", visitor, &overview, content))
}
