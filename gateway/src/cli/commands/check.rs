//! `bits-gateway check`.

use std::path::Path;

use gateway_core::session::lost_close::LostClose;
use serde_json::{Value as Json, json};

use super::surroundings;
use super::{colour, count, exit_code, explain, load_to_run, print, print_error, to_text};
use crate::config::names::Named;
use crate::config::{
    AccessLogPlace, Admin, BackendConfig, Config, LoadError, Loaded, SqliteStore, Store,
};
use crate::config::{show_duration, show_size};
use crate::process::exit::Exit;
use crate::sessions::names::NamesMode;
use crate::sessions::store::{OnError, SyncMode};

/// Shows every mistake, or else the warnings and what would run.
pub fn check(path: &Path, portable: bool, json: bool) -> Exit {
    let mut loaded = load_to_run(path);
    if let Ok(loaded) = loaded.as_mut()
        && !portable
    {
        surroundings::look(loaded);
    }
    match (loaded, json) {
        (Ok(loaded), false) => {
            print_error(&loaded.report.render(colour()));
            print(&format!(
                "{}: {}\n{}",
                path.display(),
                count(&loaded.report),
                summary(&loaded.config)
            ))
        }
        (Ok(loaded), true) => print(&to_text(&good(path, &loaded))),
        (Err(error), false) => explain(&error),
        (Err(error), true) => match print(&to_text(&bad(path, &error))) {
            Exit::Ok => exit_code(&error),
            exit => exit,
        },
    }
}

fn good(path: &Path, loaded: &Loaded) -> Json {
    let config = &loaded.config;
    let listeners = config
        .listeners
        .iter()
        .map(|listener| json!({ "name": listener.name, "address": listener.address }));
    let backends = config.backends.iter().map(|backend| {
        json!({
            "name": backend.name,
            "address": backend.address.to_string(),
            "weight": backend.weight,
            "host_id": backend.alias,
            "public_name": backend.public_name,
        })
    });
    json!({
        "ok": true,
        "file": path.display().to_string(),
        "findings": loaded.report.to_json(),
        "summary": {
            "listeners": listeners.collect::<Vec<_>>(),
            "ops": config.ops.address,
            "admin": { "address": config.admin.address, "socket": config.admin.socket },
            "backends": backends.collect::<Vec<_>>(),
            "host_id": config.affinity.host_id.name(),
            "fallback_timeout_seconds": config.affinity.fallback_timeout.as_secs(),
            "session_id": config.sessions.id.name(),
            "placement": config.placement.policy.name(),
            "store": store_json(&config.store),
        },
    })
}

fn bad(path: &Path, error: &LoadError) -> Json {
    let findings = match error {
        LoadError::Invalid { report, .. } => report.to_json(),
        _ => json!([]),
    };
    json!({
        "ok": false,
        "file": path.display().to_string(),
        "error": error.to_string(),
        "findings": findings,
    })
}

fn summary(config: &Config) -> String {
    let mut lines = Vec::new();
    for listener in &config.listeners {
        lines.push(("listener", format!("{} on {}", listener.name, listener.address)));
    }
    let ops = config.ops.address.map_or("off".into(), |address| address.to_string());
    lines.push(("ops", ops));
    lines.extend(admin_lines(&config.admin).into_iter().map(|line| ("admin", line)));
    for backend in &config.backends {
        lines.push(("backend", backend_line(backend)));
    }
    lines.push(("placement", config.placement.policy.name().into()));
    let affinity = &config.affinity;
    lines.push((
        "affinity",
        format!(
            "host_id = \"{}\", fallback after {}",
            affinity.host_id.name(),
            show_duration(affinity.fallback_timeout)
        ),
    ));
    let sessions = &config.sessions;
    lines.push((
        "sessions",
        format!(
            "id = \"{}\", at most {}, forgotten after {} without progress",
            sessions.id.name(),
            sessions.limit,
            show_duration(sessions.idle_timeout)
        ),
    ));
    if config.sessions.lost_close == LostClose::Verify {
        let line = "lost Close: verified by HEAD of the file, which servers answer with 200 and its \
                    size; IIS needs a MIME type for it";
        lines.push(("closes", line.into()));
    }
    lines.push(("store", store_line(&config.store)));
    let hosts = match config.http.hosts.as_slice() {
        [] => "any".to_owned(),
        hosts => hosts.join(", "),
    };
    lines.push(("hosts", hosts));
    if config.http.forwarded_host {
        let counts = "as a trusted proxy says in X-Forwarded-Host or Forwarded, else Host";
        lines.push(("host", counts.into()));
    }
    if let Some(limit) = config.limits.fragment {
        lines.push(("fragments", format!("at most {}", show_size(limit))));
    }
    let access = match &config.log.access {
        AccessLogPlace::Stdout => "standard output".to_owned(),
        AccessLogPlace::Off => "off".to_owned(),
        AccessLogPlace::File(path) => path.display().to_string(),
    };
    lines.push(("access log", access));
    lines.push(("threads", config.process.threads.to_string()));
    lines.into_iter().map(|(what, value)| format!("  {what:<11} {value}\n")).collect()
}

fn store_json(store: &Store) -> Json {
    match store {
        Store::Memory => json!({ "kind": "memory" }),
        Store::Sqlite(store) => json!({
            "kind": "sqlite",
            "path": store.path.display().to_string(),
            "sync": store.sync.name(),
            "on_error": store.on_error.name(),
            "names": store.names.name(),
        }),
    }
}

fn store_line(store: &Store) -> String {
    match store {
        Store::Memory => "none: a restart of the gateway forgets every session".to_owned(),
        Store::Sqlite(SqliteStore { path, sync, on_error, names, slow: _, names_keep }) => {
            let mut line = format!("sqlite in {}", path.display());
            if *sync == SyncMode::Crash {
                line.push_str(", survives a crash and not a power cut");
            }
            if *on_error == OnError::Accept {
                line.push_str(", sessions that cannot be written are accepted");
            }
            if *names != NamesMode::Off {
                let keep = humantime::format_duration(*names_keep);
                line.push_str(&format!(", paths and clients ({}) for {keep}", names.name()));
            }
            line
        }
    }
}

fn admin_lines(admin: &Admin) -> Vec<String> {
    let socket = admin
        .socket
        .as_ref()
        .map(|path| format!("{}, mode {}", path.display(), admin.socket_mode.name()));
    let address = admin.address.map(|address| format!("{address}, with a token"));
    let lines: Vec<String> = [socket, address].into_iter().flatten().collect();
    if lines.is_empty() { vec!["off".into()] } else { lines }
}

fn backend_line(backend: &BackendConfig) -> String {
    let mut line = format!("{} at {}, weight {}", backend.name, backend.address, backend.weight);
    if let Some(alias) = &backend.alias {
        line.push_str(&format!(", host id {alias}"));
    }
    if let Some(name) = &backend.public_name {
        line.push_str(&format!(", public name {name}"));
    }
    line
}
