//! Every value that counts, and where it comes from. What a file holds that is named here, a token or a
//! key, is not shown.

use maud::{Markup, html};
use serde_json::Value as Json;

use super::visitor::Visitor;
use super::{shell, words};
use crate::admin::access::Role;
use crate::admin::api::Api;
use crate::admin::control::Reloaded;
use crate::admin::refusal::Refusal;

pub async fn page(api: &Api, visitor: &Visitor) -> Result<Markup, Refusal> {
    let (dump, preview, overview) =
        (api.configuration(), api.preview().await, api.overview().await?);
    let values = dump["values"].as_array().cloned().unwrap_or_default();
    let content = html! {
        h1 { "Configuration" }
        h2 { "On disk" }
        (on_disk(&preview, visitor))
        h2 { "In force" }
        p .hint { "Values in " strong { "bold" } " are given, the others are as by default." }
        table #values {
            thead { tr { th scope="col" { "Key" } th scope="col" { "Value" } th scope="col" { "From" } } }
            tbody { @for value in &values { (row(value)) } }
        }
    };
    Ok(shell::page("Configuration", "/configuration", visitor, &overview, content))
}

fn on_disk(preview: &Result<Reloaded, Refusal>, visitor: &Visitor) -> Markup {
    let list = |title: &str, lines: &[String]| {
        html! {
            @if !lines.is_empty() { h3 { (title) } ul .code { @for line in lines { li { (line) } } } }
        }
    };
    match preview {
        Err(refusal) => html! {
            p .error { (words::state("bad", "\u{2716}", &refusal.message)) }
            @if let Some(details) = &refusal.details { pre { (details) } }
        },
        Ok(found) => html! {
            @if found.changed.is_empty() && found.needs_restart.is_empty() {
                p { "It is as in force." }
            }
            (list("A reload would change", &found.changed))
            (list("Only a restart would change", &found.needs_restart))
            (list("Warnings", &found.warnings))
            @if visitor.role == Role::Operator && !found.changed.is_empty() {
                form method="post" action="/reload" { (shell::number(visitor)) button { "Reload" } }
            }
        },
    }
}

fn row(value: &Json) -> Markup {
    let origin = &value["origin"];
    let text = |name: &str| origin[name].as_str().unwrap_or_default();
    let from = match text("kind") {
        "file" => format!("{}:{}", text("file"), origin["line"]),
        "env" => text("name").to_owned(),
        _ => "default".to_owned(),
    };
    let shown = match &value["value"] {
        Json::Null => words::dash(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    html! {
        tr data-given=(text("kind") != "default") {
            th scope="row" { code { (value["key"].as_str().unwrap_or_default()) } }
            td data-name="Value" { code { (shown) } }
            td data-name="From" { (from) }
        }
    }
}
