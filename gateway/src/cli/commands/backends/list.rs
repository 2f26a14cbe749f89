//! `bits-gateway backends list`.

use gateway_core::farm::AdminState;
use serde_json::Value as Json;

use crate::cli::commands::colour::{Colour, Painter};
use crate::cli::commands::table::{Column, plain_size, printable, span, table};

/// A line for each backend, and one more for each that is not well.
pub fn show(answer: &Json, painter: Painter) -> String {
    let columns = [
        Column::Cut("NAME"),
        Column::Left("STATE"),
        Column::Left("HEALTH"),
        Column::Right("FOR"),
        Column::Right("W"),
        Column::Right("UPLOADS"),
        Column::Right("NOW"),
        Column::Right("B/S"),
        Column::Right("ERR"),
        Column::Right("PROBE"),
        Column::Right("DOWN"),
    ];
    let backends: Vec<&Json> = answer["backends"].as_array().into_iter().flatten().collect();
    let rows: Vec<[String; 11]> = backends.iter().map(|backend| row(backend)).collect();
    let drawn = table(columns, &rows);
    let mut lines = drawn.lines();
    let mut shown = lines.next().map(|titles| format!("{titles}\n")).unwrap_or_default();
    for (line, backend) in lines.zip(&backends) {
        shown.push_str(&format!("{}\n", painter.paint(colour(backend), line)));
    }
    shown.extend(backends.iter().map(|backend| unwell(backend)));
    shown.extend(backends.iter().map(|backend| barred(backend)));
    shown
}

/// What stands in the columns.
pub fn row(backend: &Json) -> [String; 11] {
    let number = |name: &str| backend[name].as_u64().unwrap_or_default();
    let removed = backend["configured"] == false;
    let weight = match number("weight_percent") {
        percent @ 1..100 => format!("{} ({percent}%)", number("weight")),
        _ => number("weight").to_string(),
    };
    let probe = &backend["last_probe"];
    let probe = match (probe["passed"].as_bool(), probe["milliseconds"].as_u64()) {
        (Some(passed), Some(took)) => format!("{took}ms{}", if passed { "" } else { "!" }),
        _ => "-".to_owned(),
    };
    let down = number("down_seconds");
    [
        text(&backend["name"]),
        if removed { "gone".to_owned() } else { state(&backend["admin_state"]) },
        text(&backend["health"]),
        backend["seconds_in_state"].as_u64().map_or("-".to_owned(), span),
        weight,
        number("sessions").to_string(),
        number("requests_in_flight").to_string(),
        backend["bytes_per_second"].as_u64().map_or("-".to_owned(), plain_size),
        number("errors").to_string(),
        probe,
        if down == 0 { "-".to_owned() } else { span(down) },
    ]
}

/// In the words of this version, whatever that of the gateway.
fn state(value: &Json) -> String {
    let state = value.as_str().and_then(AdminState::from_word);
    state.map_or_else(|| text(value), |state| state.word().to_owned())
}

pub fn colour(backend: &Json) -> Option<Colour> {
    match (backend["health"].as_str(), backend["eligible"].as_bool()) {
        (Some("down"), _) => Some(Colour::Red),
        (_, Some(false)) => Some(Colour::Yellow),
        _ => None,
    }
}

/// Why it is not well.
pub fn reason(backend: &Json) -> Option<&str> {
    backend["health_reason"].as_str().filter(|_| backend["health"] != "up")
}

fn unwell(backend: &Json) -> String {
    let Some(reason) = reason(backend) else { return String::new() };
    let (name, address) = (text(&backend["name"]), text(&backend["address"]));
    format!("{} at {}: {}\n", printable(&name), printable(&address), printable(reason))
}

/// A line for each folder of which it gets no new uploads.
pub fn barred(backend: &Json) -> String {
    let mut lines = String::new();
    for barred in backend["barred_folders"].as_array().into_iter().flatten() {
        let why = match barred["reason"].as_str() {
            Some("refuses") => "it refuses what others accept",
            Some("silent") => "it does not answer while others do",
            Some("full") => "its disk is full",
            Some("ping") => "it fails the Pings of probes",
            _ => "it is left out",
        };
        let (name, folder) = (text(&backend["name"]), text(&barred["folder"]));
        let (name, folder) = (printable(&name), printable(&folder));
        let of = if barred["one_client"] == true { " from one client" } else { "" };
        lines.push_str(&format!("{name}: no new uploads of {folder}{of}: {why}\n"));
    }
    lines
}

fn text(value: &Json) -> String {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}
