//! What happened, the newest first.

use gateway_core::events::{Event, Kind, Level};
use maud::{Markup, html};

use super::visitor::Visitor;
use super::{shell, words};
use crate::admin::api::Api;
use crate::admin::refusal::Refusal;
use crate::telemetry::log::rfc3339;

const MOST: usize = 500;

pub async fn page(api: &Api, visitor: &Visitor, query: &str) -> Result<Markup, Refusal> {
    let kind = query.split('&').find_map(|pair| pair.strip_prefix("kind="));
    let kinds: Vec<Kind> = kind.and_then(Kind::parse).into_iter().collect();
    let (happened, overview) = (api.happened(&kinds, MOST).await?, api.overview().await?);
    let content = html! {
        h1 { "Events" }
        nav .kinds aria-label="Kinds of events" {
            a href="/events" aria-current=[kinds.is_empty().then_some("true")] { "all" }
            @for kind in Kind::ALL {
                a href={ "/events?kind=" (kind.label()) } aria-current=[kinds.contains(&kind).then_some("true")] { (kind.label()) }
            }
        }
        table #events {
            thead { tr {
                th scope="col" { "Time, UTC" }
                th scope="col" { "Level" }
                th scope="col" { "Kind" }
                th scope="col" { "What happened" }
                th scope="col" { "By" }
            } }
            tbody { @for event in happened.iter().rev() { (row(event)) } }
        }
        @if happened.is_empty() { p .empty { "Nothing yet." } }
        @if happened.len() == MOST { p .hint { "These are the newest " (MOST) "; " code { "bits-gateway events --since 8h" } " shows more." } }
    };
    Ok(shell::page("Events", "/events", visitor, &overview, content))
}

fn row(event: &Event) -> Markup {
    let (kind, shape) = match event.level {
        Level::Info => ("plain", "\u{25cb}"),
        Level::Warning => ("warn", "\u{25b2}"),
        Level::Error => ("bad", "\u{2716}"),
    };
    let upload = event.session.as_deref().map(|mark| mark.trim_start_matches('@'));
    html! {
        tr data-kind=(kind) {
            td data-name="Time" { (words::time(&rfc3339(event.at).to_string())) }
            td data-name="Level" { (words::state(kind, shape, event.level.label())) }
            td data-name="Kind" { (event.kind.label()) }
            td data-name="What" { (event.message)
                @if event.count > 1 { small { (words::counted(event.count, "time")) } }
                @if let Some(upload) = upload { " " a href={ "/uploads/" (upload) } { "upload" } } }
            td data-name="By" { (event.by.as_deref().unwrap_or("\u{2013}")) }
        }
    }
}
