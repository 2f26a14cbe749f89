//! A gateway with three backends and three uploads, as tests see it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value as Json, json};

use super::state::{State, Todo};
use super::watch::Seen;

pub fn upload(name: &str, state: &str, rate: Option<u64>, received: u64) -> Json {
    json!({
        "ref": format!("@{name}"), "id": name, "backend": "up01", "state": state,
        "bytes_per_second": rate, "bytes_received": received, "total": 1000, "idle_seconds": 2,
        "path": format!("/in/{name}.cab"), "client": "192.0.2.7", "user_agent": "Microsoft BITS/7.8",
        "waits_for": if state == "waiting" { "backend" } else { "client" },
    })
}

pub fn backend(name: &str, health: &str, sessions: u64) -> Json {
    json!({
        "name": name, "address": "10.0.0.1:80", "configured": true, "admin_state": "ready",
        "health": health, "eligible": health == "up", "seconds_in_state": 60, "weight": 1,
        "sessions": sessions, "requests_in_flight": 1, "bytes_per_second": 2048, "errors": 0,
        "health_reason": "probes fail: connection refused", "down_seconds": 0,
    })
}

pub fn seen() -> Seen {
    Seen {
        status: json!({
            "version": "0.1.0", "phase": "ready", "uptime_seconds": 3600,
            "sessions": { "count": 3, "limit": 1000 },
            "backends": { "total": 3, "eligible": 2 },
            "health": { "status": "ok", "problems": [] },
        }),
        backends: vec![
            backend("up01", "up", 3),
            backend("up02", "down", 9),
            backend("up03", "up", 1),
        ],
        uploads: vec![
            upload("a", "active", Some(100), 500),
            upload("b", "waiting", None, 100),
            upload("c", "active", Some(700), 900),
        ],
        matching: 3,
        upload: None,
    }
}

pub fn press(state: &mut State, code: KeyCode) -> Todo {
    state.key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// One key after the other; what the last of them asks for.
pub fn type_in(state: &mut State, keys: &str) -> Todo {
    keys.chars().map(|key| press(state, KeyCode::Char(key))).last().unwrap_or(Todo::Nothing)
}
