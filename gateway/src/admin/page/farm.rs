//! The farm: each backend, and what may be done about it.

use gateway_core::farm::AdminState;
use maud::{Markup, html};

use super::visitor::Visitor;
use super::{form, shell, words};
use crate::admin::access::Role;
use crate::admin::api::Api;
use crate::admin::refusal::Refusal;
use crate::admin::view::{Backend, Drain};

pub async fn page(api: &Api, visitor: &Visitor) -> Result<Markup, Refusal> {
    let (farm, overview) = (api.farm().await?, api.overview().await?);
    let content = html! {
        h1 { "Farm" }
        table #farm {
            thead { tr {
                th scope="col" { "Backend" }
                th scope="col" { "State" }
                th scope="col" { "Since" }
                th scope="col" .number { "Uploads" }
                th scope="col" .number { "Bytes left" }
                th scope="col" .number { "Rate" }
                th scope="col" .number { "At work" }
                th scope="col" .number { "Errors" }
                th scope="col" .number { "Weight" }
                th scope="col" { "Last probe" }
                th scope="col" { "Empty in" }
                @if visitor.role == Role::Operator { th scope="col" { "Do" } }
            } }
            tbody { @for (backend, drain) in &farm { (row(backend, drain.as_ref(), Some(visitor))) } }
        }
        p .hint { strong { "drain" } ": no new uploads, those it has go on. "
            strong { "maintenance" } ": nothing at all, not even packets of its uploads. "
            strong { "ready" } ": everything again." }
    };
    Ok(shell::page("Farm", "/", visitor, &overview, content))
}

/// The id of a row. Names of backends are letters, digits and little else.
pub fn id(name: &str) -> String {
    format!("b-{name}")
}

/// Without a visitor there is nothing to press: that is what all open pages are told.
pub fn row(backend: &Backend, drain: Option<&Drain>, visitor: Option<&Visitor>) -> Markup {
    let (kind, shape, word) = condition(backend);
    html! {
        tr id=(id(&backend.name)) data-admin=(backend.admin_state) data-kind=(kind) {
            th scope="row" { (backend.name) small { (backend.address) } }
            td data-name="State" { (words::state(kind, shape, &word)) @for reason in reasons(backend) { small { (reason) } } }
            td data-name="Since" { (backend.seconds_in_state.map_or_else(words::dash, words::span)) }
            td data-name="Uploads" .number { (words::count(backend.sessions))
                @if backend.idle > 0 { small { (words::count(backend.idle)) " idle" } } }
            td data-name="Bytes left" .number { @if backend.of_unknown_size > 0 { "\u{2265} " } (words::size(backend.bytes_left)) }
            td data-name="Rate" .number { (words::rate(backend.bytes_per_second)) }
            td data-name="At work" .number { (words::count(backend.requests_in_flight)) }
            td data-name="Errors" .number { (words::count(backend.errors)) }
            td data-name="Weight" .number { (backend.weight)
                @if backend.weight_percent < 100 { small { (backend.weight_percent) " %" } } }
            td data-name="Last probe" { (probe(backend)) }
            td data-name="Empty in" { (empty_in(drain)) }
            @if let Some(visitor) = visitor.filter(|visitor| visitor.role == Role::Operator) {
                td data-name="Do" .do { (buttons(backend, visitor)) }
            }
        }
    }
}

fn condition(backend: &Backend) -> (&'static str, &'static str, String) {
    let plain = |kind, shape, word: &str| (kind, shape, word.to_owned());
    match (backend.admin_state, backend.health) {
        _ if !backend.configured => plain("off", "\u{25a1}", "removed"),
        ("lost", _) => plain("bad", "\u{2716}", "lost"),
        ("maintenance", _) => plain("off", "\u{25a0}", "maintenance"),
        ("ready", "down") => plain("bad", "\u{25bc}", "down"),
        (_, "down") => plain("bad", "\u{25bc}", "down, draining"),
        ("drain", _) => plain("warn", "\u{25d0}", "draining"),
        (_, "spared") => plain("warn", "\u{25b3}", "spared"),
        (_, _) => plain("ok", "\u{25cf}", "ready"),
    }
}

/// Why it is not as it should be.
fn reasons(backend: &Backend) -> Vec<String> {
    let folders = backend.barred_folders.iter();
    let barred = folders.map(|barred| {
        let of = if barred.one_client { " from one client" } else { "" };
        format!("no new uploads of {}{of}: {}", barred.folder, barred.reason)
    });
    let why = backend.health_reason.iter().filter(|_| backend.health != "up").cloned();
    why.chain(barred).collect()
}

fn probe(backend: &Backend) -> String {
    let Some(probe) = &backend.last_probe else { return words::dash() };
    let word = if probe.passed { "passed" } else { "failed" };
    format!("{word}, {} ms", probe.milliseconds)
}

fn empty_in(drain: Option<&Drain>) -> String {
    match drain {
        Some(drain) if drain.empty => "empty now".to_owned(),
        Some(Drain { seconds_left: Some(left), .. }) => words::span(*left),
        Some(_) => "not known".to_owned(),
        None => words::dash(),
    }
}

fn buttons(backend: &Backend, visitor: &Visitor) -> Markup {
    let path = |word: &str| format!("/backends/{}/{word}", backend.name);
    let now = |state: AdminState| backend.admin_state == state.word();
    html! {
        @for (state, word) in [(AdminState::Ready, "ready"), (AdminState::Drain, "drain")] {
            form method="post" action=(path(state.word())) {
                (shell::number(visitor))
                button name="state" value=(state.word()) aria-label={ (word) " " (backend.name) }
                    aria-pressed=(now(state)) { (word) }
            }
        }
        form method="get" action=(path("maintenance")) {
            button value="maintenance" aria-label={ "maintenance of " (backend.name) }
                aria-pressed=(now(AdminState::Maintenance)) { "maintenance\u{2026}" }
        }
    }
}

/// Maintenance stops uploads that are under way, so it is asked for twice.
pub async fn sure(api: &Api, visitor: &Visitor, name: &str) -> Result<Markup, Refusal> {
    let name = form::decode(name)?;
    let (farm, overview) = (api.farm().await?, api.overview().await?);
    let found = farm.iter().find(|(backend, _)| backend.name == name);
    let nothing = || Refusal::not_found("backend_not_found", "there is no such backend");
    let (backend, _) = found.ok_or_else(nothing)?;
    let content = html! {
        h1 { "Maintenance of " (backend.name) "?" }
        p { "It gets nothing any more, not even packets of its "
            (words::counted(backend.sessions, "upload")) ". Their clients wait, and keep what they have sent." }
        p { "To take it down without that, drain it first." }
        form method="post" action={ "/backends/" (backend.name) "/maintenance" } {
            (shell::number(visitor))
            button .danger { "Begin maintenance of " (backend.name) }
            " " a href="/" { "Back" }
        }
    };
    Ok(shell::page("Maintenance", "/", visitor, &overview, content))
}
