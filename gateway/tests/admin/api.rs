//! Every call and its answer.

use std::collections::BTreeSet;
use std::time::Duration;

use bits_gateway::admin::{ActionError, Reloaded};
use gateway_core::farm::{AdminState, Health};
use serde_json::{Value as Json, json};

use crate::support::Admin;

const GUID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";
const NONE: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_status_sums_up() {
    let admin = Admin::start();
    let status = admin.get("status");
    assert_eq!(status["name"], "bits-gateway");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["phase"], &status["draining"]), (&json!("starting"), &json!(false)));
    admin.readiness.ready();
    admin.put("a", 0, (0, 0), NONE);
    admin.set(1, |backend| backend.admin = AdminState::Drain);
    admin.set(2, |backend| backend.health = Health::Down);
    let status = admin.get("status");
    assert_eq!(status["phase"], "ready");
    assert_eq!(status["sessions"], json!({ "count": 1, "limit": 100_000 }));
    assert_eq!(status["store"], json!({ "kind": "sqlite", "ok": true, "message": null }));
    let counts = json!(
        { "total": 3, "ready": 2, "drain": 1, "maintenance": 0, "lost": 0, "down": 1, "eligible": 1 }
    );
    assert_eq!(status["backends"], counts);
    assert!(status["uptime_seconds"].is_u64() && status["started"].is_string(), "{status}");
    admin.readiness.drain();
    let status = admin.get("status");
    assert_eq!((&status["phase"], &status["draining"]), (&json!("draining"), &json!(true)));
}

#[test]
fn events_come_in_pages_that_go_on() {
    let admin = Admin::start();
    admin.post("backends/up01/drain");
    let page = admin.get("events");
    let [event] = &page["events"].as_array().unwrap()[..] else { panic!("{page}") };
    assert_eq!((&event["kind"], &event["name"]), (&json!("admin"), &json!("backend_drain")));
    assert_eq!((&event["backend"], &event["level"]), (&json!("up01"), &json!("info")));
    assert_eq!((&event["count"], &event["session"]), (&json!(1), &Json::Null));
    assert_eq!(event["message"], "backend drain up01");
    assert!(event["by"].is_string() && event["time"].is_string(), "{event}");
    let next = page["next"].as_str().unwrap();
    let later = admin.get(&format!("events?after={next}"));
    assert_eq!(later["events"], json!([]));
    admin.post("backends/up01/ready");
    let later = admin.get(&format!("events?after={next}"));
    assert_eq!(later["events"][0]["name"], "backend_ready");
    assert_eq!(admin.get("events?kind=store")["events"], json!([]));
    assert_eq!(admin.get("events?limit=1")["events"][0]["name"], "backend_ready");
    assert_eq!(admin.get("events?since=1h")["events"].as_array().unwrap().len(), 2);
}

#[test]
fn backends_say_what_is_left() {
    let admin = Admin::start();
    admin.put("half", 1, (40, 100), NONE);
    admin.put("whole", 1, (100, 100), HOUR);
    admin.put("new", 1, (0, 0), NONE);
    admin.set(1, |backend| {
        backend.health = Health::Down;
        backend.health_reason = Some("connection refused".to_owned());
        backend.health_since = Some(bits_gateway::base::clock::now());
    });
    let backends = admin.get("backends");
    let names: Vec<_> =
        backends["backends"].as_array().unwrap().iter().map(|b| b["name"].clone()).collect();
    assert_eq!(names, ["up01", "up02", "up03"]);
    let up02 = &backends["backends"][1];
    assert_eq!(up02["address"], "up02.internal:80");
    assert_eq!((&up02["admin_state"], &up02["health"]), (&json!("ready"), &json!("down")));
    assert_eq!(up02["health_reason"], "connection refused");
    assert_eq!((&up02["admin_since"], &up02["eligible"]), (&Json::Null, &json!(false)));
    assert!(up02["health_since"].is_string() && up02["seconds_in_state"].is_u64(), "{up02}");
    let left = ["sessions", "uploads_left", "bytes_left", "of_unknown_size", "idle"];
    assert_eq!(left.map(|name| up02[name].as_u64().unwrap()), [3, 2, 60, 1, 1]);
    assert_eq!(admin.get("backends/UP02"), *up02, "capitals do not count");
    admin.ask("GET", "/api/v1/backends/up04").refused(404, "backend_not_found");
}

#[test]
fn a_backend_is_drained_and_set_to_ready_again() {
    let admin = Admin::start();
    admin.put("a", 0, (10, 110), NONE);
    let drained = admin.post("backends/up01/drain");
    assert_eq!((&drained["changed"], &drained["warning"]), (&json!(true), &Json::Null));
    assert_eq!(drained["backend"]["admin_state"], "drain");
    assert!(drained["backend"]["admin_since"].is_string());
    assert_eq!(admin.state(0), AdminState::Drain);
    assert_eq!(admin.post("backends/up01/drain")["changed"], false);
    let drain = admin.get("backends/up01/drain");
    assert_eq!((&drain["empty"], &drain["sessions"]), (&json!(false), &json!(1)));
    assert_eq!((&drain["uploads_left"], &drain["bytes_left"]), (&json!(1), &json!(100)));
    assert_eq!(drain["seconds_left"], Json::Null, "nobody can tell yet");
    admin.end("a");
    let drain = admin.get("backends/up01/drain");
    assert_eq!((&drain["empty"], &drain["seconds_left"]), (&json!(true), &json!(0)));
    admin.post("backends/up01/maintenance");
    assert_eq!(admin.state(0), AdminState::Maintenance);
    admin.post("backends/up01/ready");
    assert_eq!(admin.state(0), AdminState::Ready);
    assert_eq!(admin.counted("backend_drain", "ok"), 2);
    assert_eq!(admin.counted("backend_maintenance", "ok"), 1);
    assert_eq!(admin.counted("backend_ready", "ok"), 1);
}

#[test]
fn the_last_backend_is_drained_with_a_warning() {
    let admin = Admin::start();
    admin.post("backends/up01/drain");
    admin.post("backends/up02/maintenance");
    let last = admin.post("backends/up03/drain");
    assert_eq!(last["warning"], "no backend takes new uploads now");
    assert_eq!(admin.post("backends/up03/ready")["warning"], Json::Null);
}

#[test]
fn a_state_that_cannot_be_made_durable_is_not_taken() {
    let admin = Admin::start();
    admin.farm.lock().unwrap().store_error = Some("the disk is full".to_owned());
    let answer = admin.ask("POST", "/api/v1/backends/up01/drain");
    answer.refused(503, "store_unavailable");
    assert!(answer.body.contains("the disk is full"), "{}", answer.body);
    assert_eq!(admin.state(0), AdminState::Ready);
    assert_eq!(admin.counted("backend_drain", "failed"), 1);
}

#[test]
fn sessions_of_a_drained_backend_can_be_moved() {
    let admin = Admin::start();
    for n in 0..5 {
        admin.put(&format!("s{n}"), n % 2, (0, 0), NONE);
    }
    admin.ask("POST", "/api/v1/backends/up01/move").refused(409, "backend_is_ready");
    assert_eq!(admin.sessions.len(), 5);
    admin.post("backends/up01/drain");
    let moved = admin.post("backends/up01/move");
    assert_eq!((&moved["moved"], &moved["backend"]["sessions"]), (&json!(3), &json!(0)));
    assert_eq!(admin.sessions.len(), 2, "others stay");
    admin.post("backends/up02/drain");
    admin.post("backends/up03/drain");
    admin.ask("POST", "/api/v1/backends/up02/move").refused(409, "no_backend_left");
    assert_eq!(admin.sessions.len(), 2);
    assert_eq!(admin.counted("backend_move", "ok"), 1);
    assert_eq!(admin.counted("backend_move", "invalid"), 2);
}

#[test]
fn a_removed_backend_keeps_its_sessions_and_takes_no_state() {
    let admin = Admin::start();
    admin.put("a", 2, (0, 0), NONE);
    admin.set(2, |backend| backend.configured = false);
    assert_eq!(admin.get("backends/up03")["configured"], false);
    admin.ask("POST", "/api/v1/backends/up03/ready").refused(409, "backend_removed");
    assert_eq!(admin.get("status")["backends"]["total"], 2);
    assert_eq!(admin.post("backends/up03/move")["moved"], 1);
}

#[test]
fn a_backend_that_is_gone_is_given_up_configured_or_not() {
    let admin = Admin::start();
    admin.put("a", 0, (30, 100), NONE);
    admin.put("b", 2, (5, 100), NONE);
    admin.set(2, |backend| backend.configured = false);
    assert_eq!(admin.get("backends/up01")["bytes_received"], 30);
    for name in ["up01", "up03"] {
        let lost = admin.post(&format!("backends/{name}/lost"));
        assert_eq!(
            (&lost["changed"], &lost["backend"]["admin_state"]),
            (&json!(true), &json!("lost"))
        );
        assert_eq!(lost["backend"]["sessions"], 1, "nothing ends before its client comes");
        assert_eq!(admin.post(&format!("backends/{name}/lost"))["changed"], false);
    }
    assert_eq!(admin.get("status")["backends"]["lost"], 1);
    // Of what is not configured nothing else can be decided but that.
    admin.ask("POST", "/api/v1/backends/up03/drain").refused(409, "backend_removed");
    for name in ["up01", "up03"] {
        assert_eq!(admin.post(&format!("backends/{name}/ready"))["changed"], true);
    }
    admin.ask("POST", "/api/v1/backends/up03/ready").refused(409, "backend_removed");
    assert_eq!(admin.counted("backend_lost", "ok"), 4);
}

#[test]
fn pages_hold_every_session_once_and_no_whole_id() {
    let admin = Admin::start();
    for n in 0..250u32 {
        admin.put(&format!("{{3F9C1E52-7B0D-4E7A-9C44-{n:012X}}}"), n % 3, (0, 0), NONE);
    }
    let mut refs = BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = admin.get(&format!("sessions?limit=60{after}"));
        for row in page["sessions"].as_array().unwrap() {
            assert!(refs.insert(row["ref"].as_str().unwrap().to_owned()), "twice: {row}");
            assert_eq!(row["id"], "3f9c1e52");
        }
        assert!(!page.to_string().to_lowercase().contains("9c44"), "{page}");
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(refs.len(), 250);
    let of_one = admin.get("sessions?backend=up02&limit=10000");
    assert_eq!(of_one["sessions"].as_array().unwrap().len(), 83);
    assert_eq!(of_one["next"], Json::Null);
    admin.ask("GET", "/api/v1/sessions?backend=up99").refused(404, "backend_not_found");
    admin.ask("GET", "/api/v1/sessions?limit=0").refused(400, "invalid_parameter");
}

#[test]
fn a_session_is_shown_by_its_id_or_ref() {
    let admin = Admin::start();
    admin.put(GUID, 1, (40, 100), HOUR);
    let path = "sessions/%7B3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21%7D";
    let shown = admin.get(path);
    assert_eq!((&shown["id"], &shown["backend"]), (&json!("3f9c1e52"), &json!("up02")));
    assert_eq!((&shown["next_offset"], &shown["total"]), (&json!(40), &json!(100)));
    assert!(shown["idle_seconds"].as_u64().unwrap() >= 3600, "{shown}");
    assert!(shown["age_seconds"].as_u64().unwrap() >= 7200, "{shown}");
    assert!(!shown.to_string().to_lowercase().contains("0d5b6a1e8f21"), "{shown}");
    let mark = shown["ref"].as_str().unwrap();
    assert_eq!(admin.get(&format!("sessions/{mark}"))["id"], shown["id"]);
    admin.ask("GET", "/api/v1/sessions/nobody").refused(404, "session_not_found");
    admin.ask("GET", "/api/v1/sessions/@0000000000000000").refused(404, "session_not_found");
}

#[test]
fn a_session_is_forgotten_once() {
    let admin = Admin::start();
    admin.put("one", 0, (0, 0), NONE);
    admin.put("two", 0, (0, 0), NONE);
    let mark = admin.get("sessions/two")["ref"].as_str().unwrap().to_owned();
    let answer = admin.ask("DELETE", "/api/v1/sessions/one");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["forgotten"]["backend"], "up01");
    admin.ask("DELETE", "/api/v1/sessions/one").refused(404, "session_not_found");
    let answer = admin.ask("DELETE", &format!("/api/v1/sessions/{mark}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(admin.sessions.len(), 0);
    assert_eq!(admin.counted("session_forget", "ok"), 2);
    assert_eq!(admin.counted("session_forget", "not_found"), 1);
}

#[test]
fn a_reload_tells_what_it_did() {
    let admin = Admin::start();
    admin.farm.lock().unwrap().reload = Ok(Reloaded {
        changed: vec!["backends.up01.weight: 1 -> 2".to_owned()],
        needs_restart: vec!["process.threads".to_owned()],
        findings: json!([]),
        ..Reloaded::default()
    });
    let expected = json!({
        "changed": ["backends.up01.weight: 1 -> 2"],
        "needs_restart": ["process.threads"],
        "warnings": [],
        "findings": [],
    });
    assert_eq!(admin.post("reload"), expected);
    assert_eq!(admin.counted("reload", "ok"), 1);
}

#[test]
fn a_reload_of_a_wrong_file_shows_its_mistakes() {
    let admin = Admin::start();
    admin.farm.lock().unwrap().reload = Err(ActionError::Config {
        message: "gw.toml cannot be used".to_owned(),
        report: "error: no\n --> gw.toml:1:1\n".to_owned(),
        findings: json!([{ "severity": "error", "message": "no" }]),
    });
    let answer = admin.ask("POST", "/api/v1/reload");
    answer.refused(422, "config_invalid");
    assert_eq!(answer.json()["error"]["details"], "error: no\n --> gw.toml:1:1\n");
    assert_eq!(answer.json()["error"]["findings"][0]["message"], "no");
    let preview = admin.ask("GET", "/api/v1/reload");
    preview.refused(422, "config_invalid");
    assert_eq!(admin.farm.lock().unwrap().reloads, 1, "a preview is none");
    admin.farm.lock().unwrap().reload =
        Err(ActionError::Busy { message: "a reload is under way".to_owned() });
    admin.ask("POST", "/api/v1/reload").refused(409, "busy");
    admin.farm.lock().unwrap().reload = Err(ActionError::Other { message: "no".to_owned() });
    admin.ask("POST", "/api/v1/reload").refused(500, "failed");
    assert_eq!(admin.counted("reload", "invalid"), 2);
    assert_eq!(admin.counted("reload", "failed"), 1);
}

#[test]
fn answers_are_json_that_nobody_keeps() {
    let admin = Admin::start();
    for path in ["/api/v1/status", "/api/v1/nothing"] {
        let answer = admin.ask("GET", path);
        for field in ["application/json", "cache-control: no-store", "nosniff", "connection: close"]
        {
            assert!(answer.head.contains(field), "{path}: no {field} in {}", answer.head);
        }
    }
    let head = admin.ask("HEAD", "/api/v1/status");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}
