//! Events as they are stored and shown: JSON.

use std::borrow::Cow;
use std::collections::HashSet;

use gateway_core::events::{Event, Kind, Level};
use gateway_core::session::Timestamp;
use serde_json::{Map, Value as Json, json};

use super::Page;
use crate::telemetry::log::rfc3339;

/// An event as a row of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    pub at: Timestamp,
    /// Which process wrote it; less than 2^63, as SQLite's numbers are.
    pub process: u64,
    /// Counts the events of that process.
    pub number: u64,
    pub kind: String,
    /// The rest of it: a JSON object.
    pub body: String,
}

/// As callers see it.
pub fn shown(event: &Event) -> Json {
    json!({
        "id": format!("{:016x}-{}", event.process, event.number),
        "time": rfc3339(event.at).to_string(),
        "kind": event.kind.label(),
        "name": event.name,
        "level": event.level.label(),
        "count": event.count,
        "backend": event.backend,
        "session": event.session,
        "by": event.by,
        "message": event.message,
    })
}

/// A page of them.
pub fn page(page: &Page) -> Json {
    json!({
        "events": page.events.iter().map(shown).collect::<Vec<_>>(),
        "next": page.next.to_string(),
        "durable": page.durable,
        "unwritten": page.unwritten,
    })
}

/// As a row of the store.
pub fn stored(event: &Event) -> StoredEvent {
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Json>| {
        value.map(|value| body.insert(name.to_owned(), value));
    };
    set("name", Some(json!(event.name)));
    set("level", Some(json!(event.level.label())));
    set("count", (event.count > 1).then(|| json!(event.count)));
    set("backend", event.backend.as_ref().map(|name| json!(name)));
    set("session", event.session.as_ref().map(|mark| json!(mark)));
    set("by", event.by.as_ref().map(|whom| json!(whom)));
    set("message", Some(json!(event.message)));
    StoredEvent {
        at: event.at,
        process: event.process,
        number: event.number,
        kind: event.kind.label().to_owned(),
        body: Json::Object(body).to_string(),
    }
}

/// What a row says; `None` where a later version has written what this one does not know.
pub fn read(row: &StoredEvent) -> Option<Event> {
    let body: Json = serde_json::from_str(&row.body).ok()?;
    let text = |name: &str| body[name].as_str();
    let owned = |name: &str| text(name).map(str::to_owned);
    let level = Level::parse(text("level")?)?;
    // Through the front door: what is read may have been written by somebody else.
    let mut event = Event::new(Kind::parse(&row.kind)?, "", level, text("message")?);
    event = owned("backend").into_iter().fold(event, |event, name| event.backend(&name));
    event = owned("session").into_iter().fold(event, Event::session);
    event = owned("by").into_iter().fold(event, Event::by);
    Some(Event {
        at: Timestamp(row.at.0),
        process: row.process,
        number: row.number,
        name: Cow::Owned(owned("name")?),
        count: body["count"].as_u64().unwrap_or(1),
        ..event
    })
}

/// What rows say, each event once: a commit of which nobody knew how it went may have been repeated.
pub fn read_rows(rows: &[StoredEvent]) -> Vec<Event> {
    let mut known = HashSet::new();
    let new = rows.iter().filter(|row| known.insert((row.process, row.number)));
    new.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_stored() {
        let plain = Event::new(Kind::Process, "ready", Level::Info, "it serves");
        let full = Event::new(Kind::Session, "lost", Level::Warning, "\"quoted\"")
            .backend("up01")
            .session("@0123456789abcdef")
            .by("uid 0");
        let full = Event { at: Timestamp(5), process: u64::MAX >> 1, number: 7, count: 3, ..full };
        for event in [plain, full] {
            assert_eq!(read(&stored(&event)), Some(event));
        }
    }

    #[test]
    fn what_nobody_knows_is_left_out() {
        let row = |kind: &str, body: &str| StoredEvent {
            at: Timestamp(0),
            process: 0,
            number: 0,
            kind: kind.to_owned(),
            body: body.to_owned(),
        };
        let body = r#"{"name":"new","level":"info","message":"m","more":1}"#;
        assert!(read(&row("store", body)).is_some(), "a new name is no reason");
        assert_eq!(read(&row("weather", body)), None);
        for bad in ["", "[]", "{", r#"{"name":"new","level":"loud","message":"m"}"#] {
            assert_eq!(read(&row("store", bad)), None, "{bad}");
        }
    }
}
