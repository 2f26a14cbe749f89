//! The screen: a line on the gateway, the backends, the uploads, and a line on the keys.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Clear, Paragraph, Wrap};
use serde_json::Value as Json;

use super::columns::{Column, Look, Table};
use super::list::List;
use super::state::{Mode, Pane, State};
use crate::cli::commands::colour::Colour;
use crate::cli::commands::sessions::{self, State as Filter};
use crate::cli::commands::table::{cut, cut_beginning, pairs, plain_size, printable, span};
use crate::cli::commands::{backends, table};

/// Less is no table.
const SMALLEST: (u16, u16) = (40, 10);

/// Between two columns.
const GAP: usize = 1;

const HELP: &str = "\
Tab        to the other table
up, down   a row (k, j); PgUp, PgDn, Home, End
Enter      the selected row by itself; Enter or Esc goes back
/          search: uploads by path or client address, backends by name
Esc        search no more
f          uploads: all, active, waiting, idle
s          sort by the next column; S turns the order round
d          drain the selected backend: no new uploads (asks)
r          ready: new uploads for the selected backend (asks)
q, Ctrl-C  quit

NOW of an upload is bytes a second, or what it waits for; of a backend it is
its requests under way. LEFT is how long it takes at that rate.";

pub fn draw(frame: &mut Frame, state: &mut State, colours: bool) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (width, height) = SMALLEST;
        let text = format!("This terminal is too small: {width} x {height} at least. q quits.");
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let problems = problems(state);
    let [head, trouble, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(problems.is_some())),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(line(heading(state), head, bold()), head);
    if let Some((text, colour)) = problems {
        frame.render_widget(line(text, trouble, shade(Some(colour), colours)), trouble);
    }
    // A third is enough for backends, and what they do not need is for uploads.
    let needed = u16::try_from(state.backends.order.len()).unwrap_or(u16::MAX).saturating_add(2);
    let [upper, lower] = Layout::vertical([
        Constraint::Length(needed.min(body.height / 3).max(3)),
        Constraint::Min(0),
    ])
    .areas(body);
    pane(frame, upper, state, Pane::Backends, colours);
    pane(frame, lower, state, Pane::Uploads, colours);
    match &state.mode {
        Mode::Help => over(frame, lower.union(upper), HELP.to_owned()),
        _ if state.is_alone => over(frame, lower.union(upper), details(state)),
        Mode::Browse | Mode::Search(_) | Mode::Confirm { .. } => {}
    }
    let (text, style) = footing(state, colours);
    frame.render_widget(line(text, foot, style), foot);
}

/// What the gateway is, on one line.
fn heading(state: &State) -> String {
    let status = &state.seen.status;
    let text = |value: &Json| printable(value.as_str().unwrap_or("-"));
    let number = |value: &Json| value.as_u64().unwrap_or_default();
    let rate: u64 = state.seen.backends.iter().map(|row| number(&row["bytes_per_second"])).sum();
    let (all, eligible) = (&status["backends"]["total"], &status["backends"]["eligible"]);
    format!(
        "bits-gateway {}, up {}  uploads {} of {}  {}/s  backends {} of {}",
        text(&status["phase"]),
        span(number(&status["uptime_seconds"])),
        number(&status["sessions"]["count"]),
        number(&status["sessions"]["limit"]),
        plain_size(rate),
        number(eligible),
        number(all),
    )
}

/// Why what is shown is old, or what is wrong with the gateway.
fn problems(state: &State) -> Option<(String, Colour)> {
    if let Some(trouble) = &state.trouble {
        return Some((format!("as it was last seen: {trouble}"), Colour::Red));
    }
    let health = &state.seen.status["health"];
    let problems = health["problems"].as_array().into_iter().flatten();
    let messages: Vec<String> =
        problems.filter_map(|one| one["message"].as_str()).map(printable).collect();
    let colour = if health["status"] == "critical" { Colour::Red } else { Colour::Yellow };
    (!messages.is_empty()).then(|| (messages.join("; "), colour))
}

/// What the keys do now, or what came of them.
fn footing(state: &State, colours: bool) -> (String, Style) {
    let plain = Style::new();
    match (&state.mode, &state.notice) {
        (Mode::Search(text), _) => {
            let what = match state.pane {
                Pane::Backends => "name",
                Pane::Uploads => "path or client address",
            };
            (format!("{what}: {}_   Enter searches, Esc does not", printable(text)), bold())
        }
        (Mode::Confirm { question, .. }, _) => (format!("{question} [y/N]"), bold()),
        (_, Some((text, is_bad))) => {
            (text.clone(), shade(is_bad.then_some(Colour::Yellow), colours))
        }
        (Mode::Help, None) => ("any key goes back, q quits".to_owned(), plain),
        (Mode::Browse, None) if state.is_alone => {
            ("Enter goes back  up/down next  d drain  r ready  ? help  q quit".to_owned(), plain)
        }
        (Mode::Browse, None) => {
            let text = "Tab  Enter details  / search  f filter  s sort  d drain  r ready  ? help  \
                        q quit";
            (text.to_owned(), plain)
        }
    }
}

/// A table with its title.
fn pane(frame: &mut Frame, area: Rect, state: &mut State, pane: Pane, colours: bool) {
    let rows = usize::from(area.height.saturating_sub(2));
    match pane {
        Pane::Backends => state.backends.fit(rows),
        Pane::Uploads => state.uploads.fit(rows),
    }
    let (table, list, all) = state.list(pane);
    let is_focused = state.pane == pane;
    let width = usize::from(area.width);
    let shown: Vec<&Json> =
        list.order.iter().skip(list.offset).take(rows).map(|row| &all[*row]).collect();
    let cells: Vec<Vec<String>> = shown.iter().map(|row| (table.cells)(row)).collect();
    let widths = widths(table.columns, &cells, width);
    let titles: Vec<String> = table.columns.iter().map(|column| column.title.to_owned()).collect();

    let mut lines = vec![
        Line::styled(cut(&title(state, pane), width), bold()),
        Line::styled(
            row(table.columns, &titles, &widths),
            Style::new().add_modifier(Modifier::UNDERLINED),
        ),
    ];
    for (number, (cells, value)) in cells.iter().zip(&shown).enumerate() {
        let colour = match pane {
            Pane::Backends => backends::colour(value),
            Pane::Uploads => (value["state"] == "waiting").then_some(Colour::Yellow),
        };
        let mut style = shade(colour, colours);
        if list.offset + number == list.at && is_focused {
            style = style.add_modifier(Modifier::REVERSED);
        }
        let text = row(table.columns, cells, &widths);
        lines.push(Line::styled(format!("{text:<width$}"), style));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// "> Uploads 1-18 of 20417, by NOW".
fn title(state: &State, pane: Pane) -> String {
    let (table, list, all) = state.list(pane);
    let (name, matching) = match pane {
        Pane::Backends => ("Backends", list.order.len()),
        Pane::Uploads => ("Uploads", usize::try_from(state.seen.matching).unwrap_or(usize::MAX)),
    };
    let mark = if state.pane == pane { ">" } else { " " };
    let mut text = match list.order.len() {
        0 => format!("{mark} {name}: none"),
        shown => {
            let last = (list.offset + list.height).min(shown);
            format!("{mark} {name} {}-{last} of {matching}", list.offset + 1)
        }
    };
    text.push_str(&order(table, list, all.len() < matching));
    if pane == Pane::Uploads && state.filter != Filter::All {
        text.push_str(&format!(", {} ones", state.filter.word()));
    }
    if !list.search.trim().is_empty() {
        text.push_str(&format!(", with \"{}\"", printable(list.search.trim())));
    }
    text
}

fn order(table: &Table, list: &List, is_part: bool) -> String {
    let part = if is_part { " of those that moved last" } else { "" };
    let round = if list.is_reversed { ", turned round" } else { "" };
    match list.sort.and_then(|column| table.columns.get(column)) {
        Some(column) => format!(", by {}{part}{round}", column.title),
        None => round.to_owned(),
    }
}

/// How wide each column is; 0 is not shown.
fn widths(columns: &[Column], cells: &[Vec<String>], width: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let widest = cells.iter().map(|cells| cells[at].chars().count()).max().unwrap_or(0);
        let natural = widest.max(column.title.len());
        widths.push(match column.look {
            _ if column.from > width => 0,
            Look::Left(most) => natural.min(most.max(column.title.len())),
            Look::Right => natural,
            Look::Rest => 0,
        });
    }
    let taken: usize = widths.iter().filter(|width| **width > 0).map(|width| width + GAP).sum();
    for (column, own) in columns.iter().zip(&mut widths) {
        if column.look == Look::Rest && column.from <= width {
            *own = width.saturating_sub(taken).max(column.title.len());
        }
    }
    widths
}

fn row(columns: &[Column], cells: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for ((column, cell), &width) in columns.iter().zip(cells).zip(widths) {
        if width == 0 {
            continue;
        }
        if !text.is_empty() {
            text.push_str(&" ".repeat(GAP));
        }
        match column.look {
            Look::Right => text.push_str(&format!("{cell:>width$}")),
            Look::Left(_) => text.push_str(&format!("{:<width$}", cut(cell, width))),
            Look::Rest => text.push_str(&format!("{:<width$}", cut_beginning(cell, width))),
        }
    }
    text
}

/// Text in place of the tables.
fn over(frame: &mut Frame, area: Rect, text: String) {
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(Text::raw(text)).wrap(Wrap { trim: false }), area);
}

fn details(state: &State) -> String {
    match (state.alone(), state.pane) {
        (Some(row), Pane::Uploads) => sessions::show(row),
        (Some(row), Pane::Backends) => backend(row),
        (None, _) => "It has ended, or was forgotten.".to_owned(),
    }
}

fn backend(row: &Json) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str| row[name].as_u64().unwrap_or_default();
    let seconds = |name: &str| row[name].as_u64().map_or("-".to_owned(), span);
    let cells = backends::row(row);
    let mut lines = vec![
        ("backend", text("name")),
        ("address", text("address")),
        ("state", format!("{}, {}", cells[1], text("health"))),
        ("for", seconds("seconds_in_state")),
    ];
    if let Some(reason) = backends::reason(row) {
        lines.push(("reason", reason.to_owned()));
    }
    let rate = row["bytes_per_second"].as_u64();
    lines.extend([
        ("new uploads", if row["eligible"] == true { "yes" } else { "no" }.to_owned()),
        ("weight", cells[4].clone()),
        ("uploads", backends::left(row)),
        ("received", table::size(number("bytes_received"))),
        ("under way", table::plural(number("requests_in_flight"), "request")),
        ("rate", rate.map_or("-".to_owned(), |rate| format!("{} a second", table::size(rate)))),
        ("errors", number("errors").to_string()),
        ("last probe", cells[9].clone()),
        ("down in all", seconds("down_seconds")),
    ]);
    pairs(&lines) + &backends::barred(row)
}

fn line(text: String, area: Rect, style: Style) -> Paragraph<'static> {
    Paragraph::new(Line::styled(cut(&text, usize::from(area.width)), style))
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn shade(colour: Option<Colour>, colours: bool) -> Style {
    match colour.filter(|_| colours) {
        Some(Colour::Red) => Style::new().fg(Color::Red),
        Some(Colour::Yellow) => Style::new().fg(Color::Yellow),
        None => Style::new(),
    }
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
