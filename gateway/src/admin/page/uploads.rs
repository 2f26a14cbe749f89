//! Every upload, those that move first; and one of them.

use gateway_core::events::{Event, Kind};
use gateway_core::session::live::State;
use http::{Method, Uri};
use maud::{Markup, html};

use super::visitor::Visitor;
use super::{form, shell, words};
use crate::admin::access::Role;
use crate::admin::api::Api;
use crate::admin::refusal::Refusal;
use crate::admin::route::{Call, Handle, route};
use crate::admin::view::Session;
use crate::admin::which::Which;
use crate::base::clock;
use crate::sessions::view::Mark;
use crate::telemetry::log::rfc3339;

/// Rows of a page.
const PAGE: usize = 100;

pub async fn list(api: &Api, visitor: &Visitor, query: &str) -> Result<Markup, Refusal> {
    let uri: Uri = format!("/api/v1/sessions?{query}")
        .parse()
        .map_err(|_| Refusal::invalid("invalid_parameter", "this cannot be searched for"))?;
    let Call::Sessions { which, after, .. } = route(&Method::GET, &uri)? else {
        return Err(Refusal::not_found("not_found", "there is no such page"));
    };
    let (is_first, is_all) = (after.is_none(), which == Which::default());
    let asked = which.clone();
    let (page, overview) = (api.sessions(which, after, PAGE, true).await?, api.overview().await?);
    let backends = api.names();
    // New ones come to the top of the first page, where nothing is searched for.
    let grows = (is_first && is_all).then_some(PAGE);
    let content = html! {
        h1 { "Uploads" }
        (search(&asked, &backends))
        p .hint { (words::counted(page.matching, "upload")) @if !is_all { " found" } ", those that move first" }
        table #uploads data-grows=[grows] {
            (columns())
            tbody { @for upload in &page.sessions { (row(upload)) } }
        }
        @if page.sessions.is_empty() { p .empty { "There is no upload" @if !is_all { " like that" } "." } }
        nav .pages aria-label="Pages of the list" {
            @if !is_first { a href={ "/uploads?" (without_after(query)) } { "First page" } }
            @if let Some(next) = &page.next {
                a rel="next" href={ "/uploads?" (without_after(query)) "&after=" (form::encode(next)) } { "Next page" }
            }
        }
    };
    Ok(shell::page("Uploads", "/uploads", visitor, &overview, content))
}

fn columns() -> Markup {
    html! {
        thead { tr {
            th scope="col" { "File" }
            th scope="col" { "State" }
            th scope="col" { "Progress" }
            th scope="col" .number { "Received" }
            th scope="col" .number { "Rate" }
            th scope="col" { "Client" }
            th scope="col" { "Backend" }
            th scope="col" .number { "Last progress" }
            th scope="col" .number { "Falls back in" }
            th scope="col" .number { "Expires in" }
        } }
    }
}

fn search(asked: &Which, backends: &[String]) -> Markup {
    html! {
        form .search method="get" action="/uploads" role="search" {
            label { "File " input name="path" value=[asked.path.as_ref()] placeholder="part of its path"; }
            label { "Client " input name="client" value=[asked.client] placeholder="address"; }
            label { "Backend " select name="backend" {
                option value="" { "all" }
                @for name in backends {
                    option value=(name) selected[asked.backend.as_ref() == Some(name)] { (name) }
                }
            } }
            label { "State " select name="state" {
                option value="" { "all" }
                @for state in State::ALL {
                    option value=(state.word()) selected[asked.state == Some(state)] { (state.word()) }
                }
            } }
            button { "Search" }
            " " a href="/uploads" { "Everything" }
        }
    }
}

fn without_after(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.starts_with("after="));
    pairs.collect::<Vec<_>>().join("&")
}

/// The id of a row, by the mark of the upload.
pub fn id(mark: &str) -> String {
    format!("u-{}", mark.trim_start_matches('@'))
}

pub fn row(upload: &Session) -> Markup {
    let (kind, shape) = match upload.state {
        "active" => ("ok", "\u{25b6}"),
        "waiting" => ("warn", "\u{25d4}"),
        _ => ("off", "\u{25a1}"),
    };
    html! {
        tr id=(id(&upload.mark)) data-kind=(kind) {
            th scope="row" .file { a href={ "/uploads/" (upload.mark.trim_start_matches('@')) } { (name(upload)) } }
            td data-name="State" { (words::state(kind, shape, upload.state))
                @if let Some(wait) = waits(upload) { small { (wait) } } }
            td data-name="Progress" .progress { (progress(upload)) }
            td data-name="Received" .number { (received(upload)) }
            td data-name="Rate" .number { (words::rate(upload.bytes_per_second)) }
            td data-name="Client" { (upload.client.map_or_else(words::dash, |client| client.to_string())) }
            td data-name="Backend" { (upload.backend) }
            td data-name="Last progress" .number { (words::span(upload.idle_seconds)) " ago" }
            td data-name="Falls back in" .number { (upload.falls_back.as_deref().map_or_else(words::dash, until)) }
            td data-name="Expires in" .number { (until(&upload.expires)) }
        }
    }
}

/// Of uploads whose clients have not spoken lately no path is known.
fn name(upload: &Session) -> String {
    upload.path.as_deref().map_or_else(|| format!("session {}", upload.id), str::to_owned)
}

fn waits(upload: &Session) -> Option<&'static str> {
    Some(match (upload.waits_for?, upload.state) {
        ("client", _) => return None,
        ("backend", _) => "its backend is away",
        ("turn", _) => "for its turn",
        ("connection", "waiting") => "for a connection",
        ("write", "waiting") => "the backend takes no more",
        ("answer", "waiting") => "for an answer",
        _ => return None,
    })
}

fn progress(upload: &Session) -> Markup {
    let Some(total) = upload.total.filter(|&total| total > 0) else {
        return html! { (words::dash()) };
    };
    let received = upload.bytes_received.min(total);
    let percent = u128::from(received) * 100 / u128::from(total);
    html! {
        progress max=(total) value=(received) aria-label={ "received of " (name(upload)) } {}
        span .number { (percent) " %" }
    }
}

fn received(upload: &Session) -> Markup {
    let total = upload.total.map(words::size);
    html! { (words::size(upload.bytes_received)) @if let Some(total) = total { small { "of " (total) } } }
}

/// From now to that time.
fn until(rfc3339: &str) -> String {
    let at = humantime::parse_rfc3339(rfc3339).ok();
    let at = at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let now = std::time::Duration::from_millis(clock::now().0);
    at.map_or_else(words::dash, |at| words::span(at.saturating_sub(now).as_secs()))
}

/// By the mark in the path of a page, which has no `@`.
pub fn handle(mark: &str) -> Result<Handle, Refusal> {
    let nothing = || Refusal::not_found("session_not_found", "there is no such upload");
    Mark::parse(&format!("@{mark}")).map(Handle::Mark).ok_or_else(nothing)
}

pub async fn one(api: &Api, visitor: &Visitor, mark: &str) -> Result<Markup, Refusal> {
    let upload = api.one(handle(mark)?).await?;
    let overview = api.overview().await?;
    let happened = api.happened(&[Kind::Session], usize::MAX).await?;
    let of_it = happened.iter().filter(|event| event.session.as_ref() == Some(&upload.mark));
    let of_it: Vec<_> = of_it.collect();
    let content = html! {
        h1 .file { (name(&upload)) }
        table #uploads { (columns()) tbody { (row(&upload)) } }
        h2 { "Timeline" }
        (timeline(&upload, &of_it))
        h2 { "Details" }
        dl {
            dt { "Name for commands" } dd { code { (upload.mark) } }
            dt { "Session" } dd { code { (upload.id) "\u{2026}" } @if let Some(own) = &upload.backend_session { ", on the backend " code { (own) "\u{2026}" } } }
            dt { "Acknowledged" } dd { (words::count(upload.next_offset)) " bytes" }
            dt { "User agent" } dd { (upload.user_agent.as_deref().unwrap_or("\u{2013}")) }
        }
        @if visitor.role == Role::Operator {
            p { a .danger href={ "/uploads/" (mark) "/forget" } { "Forget it\u{2026}" } }
        }
    };
    Ok(shell::page(&name(&upload), "/uploads", visitor, &overview, content))
}

/// What has become of an upload so far, in the order of its time, and what is to come.
fn timeline(upload: &Session, events: &[&Event]) -> Markup {
    let mut past = vec![(upload.created.clone(), html! { "opened on " (upload.backend) })];
    let told = |event: &&Event| (rfc3339(event.at).to_string(), html! { (event.message) });
    past.extend(events.iter().map(told));
    if let Some(request) = &upload.under_way {
        let text = html! {
            (request.packet.replace('_', " ")) " under way since then"
            @if let Some(range) = &request.range {
                ": bytes " (words::count(range.first)) " to " (words::count(range.last)) ", "
                (words::size(range.bytes)) " of them received"
            }
        };
        past.push((request.since.clone(), text));
    }
    if upload.seen != upload.created {
        past.push((upload.seen.clone(), html! { "last progress" }));
    }
    // All are of one form and in UTC.
    past.sort_by(|(one, _), (other, _)| one.cmp(other));
    html! {
        ol .time {
            @for (at, text) in &past { li { (words::time(at)) " " (text) } }
            @if let Some(at) = &upload.falls_back { li .later { (words::time(at)) " its client goes back to the origin name, if its packets go on to fail" } }
            li .later { (words::time(&upload.expires)) " it expires, if no packet comes until then" }
        }
    }
}

/// Every byte is sent again, so it is asked for twice.
pub async fn sure(api: &Api, visitor: &Visitor, mark: &str) -> Result<Markup, Refusal> {
    let (upload, overview) = (api.one(handle(mark)?).await?, api.overview().await?);
    let content = html! {
        h1 { "Forget this upload?" }
        p .file { (name(&upload)) }
        p { "Its client starts over, and sends the " (words::size(upload.bytes_received)) " again that " (upload.backend) " has." }
        form method="post" action={ "/uploads/" (mark) "/forget" } {
            (shell::number(visitor))
            button .danger { "Forget it" }
            " " a href={ "/uploads/" (mark) } { "Back" }
        }
    };
    Ok(shell::page("Forget", "/uploads", visitor, &overview, content))
}
