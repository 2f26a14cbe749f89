//! What is around every page.

use maud::{DOCTYPE, Markup, html};

use super::visitor::Visitor;
use super::words;
use crate::admin::look::Overview;
use crate::admin::refusal::Refusal;
use crate::base::build_info::VERSION;
use crate::base::clock;
use crate::telemetry::log::rfc3339;
use crate::telemetry::problems::Level;

const PAGES: [(&str, &str); 5] = [
    ("/", "Farm"),
    ("/uploads", "Uploads"),
    ("/events", "Events"),
    ("/configuration", "Configuration"),
    ("/about", "About"),
];

/// A page for somebody who was let in. `here` is the path of its entry in the menu.
pub fn page(
    title: &str,
    here: &str,
    visitor: &Visitor,
    overview: &Overview,
    content: Markup,
) -> Markup {
    let top = html! {
        a .skip href="#content" { "To the content" }
        header {
            a .name href="/" { "bits-gateway" }
            nav aria-label="Pages" {
                @for (path, name) in PAGES {
                    a href=(path) aria-current=[(path == here).then_some("page")] { (name) }
                }
            }
            p .who {
                span #live data-live="no" { "still" }
                " "
                (as_of())
                " "
                span .role { (visitor.role.word()) }
                @if visitor.can_sign_out() {
                    form method="post" action="/sign-out" {
                        (number(visitor))
                        button { "Sign out" }
                    }
                }
            }
        }
        (verdict(overview))
    };
    frame(title, top, content, true)
}

/// What each form brings with it.
pub fn number(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="number" value=(visitor.number); }
}

/// When what is shown was so.
pub fn as_of() -> Markup {
    let now = rfc3339(clock::now()).to_string();
    let short = now.get(11..19).unwrap_or_default().to_owned();
    html! { time #as-of datetime=(now) title="when this was so, in UTC" { (short) " UTC" } }
}

/// In one line whether all is well, and below it what is not.
pub fn verdict(overview: &Overview) -> Markup {
    let Overview { verdict, down } = overview;
    // A server that is away is no trouble of the gateway as a whole, but whoever looks has to see it.
    let (kind, shape, word) = match (verdict.status, down.is_empty()) {
        (Level::Critical, _) => ("bad", "\u{2716}", "Critical"),
        (Level::Warning, _) => ("warn", "\u{25b2}", "Warning"),
        (Level::Ok, false) => ("warn", "\u{25b2}", "A backend is away"),
        (Level::Ok, true) => ("ok", "\u{25cf}", "All is well"),
    };
    html! {
        section #verdict class=(kind) role="status" aria-label="Whether all is well" {
            p {
                strong { (words::state(kind, shape, word)) }
                span {
                    (words::count(verdict.eligible as u64)) " of "
                    (words::counted(verdict.backends as u64, "backend"))
                    " take" @if verdict.eligible == 1 { "s" } " new uploads"
                }
                span { (words::counted(verdict.sessions, "upload")) " open" }
            }
            @if !verdict.problems.is_empty() || !down.is_empty() {
                ul {
                    @for problem in &verdict.problems { li { (problem.message) } }
                    @for one in down { li { (one) } }
                }
            }
        }
    }
}

pub fn sign_in(wrong: Option<&str>) -> Markup {
    let content = html! {
        h1 { "Sign in" }
        @if let Some(wrong) = wrong { p .error role="alert" { (wrong) } }
        form .sign-in method="post" action="/sign-in" {
            label for="token" { "Token" }
            input #token type="password" name="token" required autocomplete="current-password"
                autofocus spellcheck="false";
            button { "Sign in" }
            p .hint { "It stands in the file that " code { "admin.token_file" } " names, or "
                code { "admin.viewer_token_file" } " for those who look only." }
        }
    };
    frame("Sign in", html! { header { span .name { "bits-gateway" } } }, content, false)
}

pub fn refused(refusal: &Refusal) -> Markup {
    let status = refusal.status;
    let content = html! {
        h1 { (status.canonical_reason().unwrap_or("Refused")) }
        p .error role="alert" { (refusal.message) }
        @if let Some(details) = &refusal.details { pre { (details) } }
        p { a href="/" { "To the farm" } }
    };
    frame(refusal.code, html! { header { a .name href="/" { "bits-gateway" } } }, content, false)
}

fn frame(title: &str, top: Markup, content: Markup, is_live: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " \u{2013} bits-gateway" }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/page.css";
                @if is_live { script src="/page.js" defer {} }
            }
            body {
                (top)
                main #content { (content) }
                footer { "bits-gateway " (VERSION) }
            }
        }
    }
}
