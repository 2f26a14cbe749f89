//! Uploads whose clients speak, among those that sleep.

use std::time::Duration;

use bits_gateway::base::clock;
use bits_gateway::sessions::live_uploads::{LiveRequest, Packet};
use gateway_core::farm::BackendId;
use gateway_core::protocol::{ContentRange, PacketType};
use gateway_core::session::live::Wait;
use serde_json::{Value as Json, json};

use super::support::{Admin, key};

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// 10 MiB of a Fragment of 64 have come, the first of a file of 128.
fn moving(admin: &Admin, id: &str) -> LiveRequest {
    let packet = Packet {
        kind: PacketType::Fragment,
        range: ContentRange::new(0, 64 * MIB - 1, 128 * MIB).ok(),
        path: b"/in/2026/\x1b[2Jreport.cab",
        user_agent: Some(b"Microsoft BITS/7.8"),
        client: Some([192, 0, 2, 7].into()),
        backend: BackendId(0),
        arrived: clock::steady(),
    };
    let request = admin.sessions.show_live(&key(id), &packet, || None).expect("room");
    request.came(10 * MIB);
    request
}

fn refs(page: &Json) -> Vec<&str> {
    page["sessions"].as_array().unwrap().iter().map(|row| row["ref"].as_str().unwrap()).collect()
}

#[test]
fn what_moves_comes_first_and_shows_who_sends_what() {
    let admin = Admin::start();
    for n in 0..20 {
        admin.put(&format!("sleeps-{n}"), n % 3, (0, 128 * MIB), DAY);
    }
    admin.put("moves", 0, (0, 0), DAY);
    let request = moving(&admin, "moves");
    let page = admin.get("sessions?limit=5");
    assert_eq!((page["sessions"].as_array().unwrap().len(), &page["matching"]), (5, &json!(21)));
    let row = &page["sessions"][0];
    assert_eq!(refs(&admin.get("sessions?path=REPORT")), [&row["ref"]]);
    for (name, value) in [
        ("state", json!("active")),
        ("idle_seconds", json!(0)),
        ("next_offset", json!(0)),
        ("bytes_received", json!(10 * MIB)),
        ("total", json!(128 * MIB)),
        ("path", json!("/in/2026/\\x1b[2Jreport.cab")),
        ("client", json!("192.0.2.7")),
        ("user_agent", json!("Microsoft BITS/7.8")),
        ("waits_for", json!("client")),
        ("falls_back", Json::Null),
    ] {
        assert_eq!(row[name], value, "{name}");
    }
    let range = json!({ "first": 0, "last": 64 * MIB - 1, "bytes": 10 * MIB });
    let under_way = &row["under_way"];
    assert_eq!((&under_way["packet"], &under_way["range"]), (&json!("fragment"), &range));
    let asleep = &page["sessions"][1];
    for name in ["path", "client", "user_agent", "under_way", "waits_for", "bytes_per_second"] {
        assert_eq!(asleep[name], Json::Null, "{name}");
    }
    assert_eq!(asleep["state"], "idle");
    request.answered(Some(503));
    drop(request);
    let row = &admin.get("sessions?state=active")["sessions"][0];
    assert!(row["falls_back"].is_string() && row["under_way"].is_null(), "{row}");
}

#[test]
fn sessions_are_chosen_by_what_is_known_of_them() {
    let admin = Admin::start();
    for n in 0..4 {
        admin.put(&format!("sleeps-{n}"), n % 2, (0, 100), DAY);
    }
    admin.put("moves", 0, (0, 0), DAY);
    admin.put("waits", 0, (0, 0), DAY);
    let (_moves, waits) = (moving(&admin, "moves"), moving(&admin, "waits"));
    waits.waits_for(Wait::Backend);
    for (query, count) in [
        ("state=active", 1),
        ("state=waiting", 1),
        ("state=idle", 4),
        ("state=all", 6),
        ("client=192.0.2.7", 2),
        ("client=192.0.2.8", 0),
        ("path=/in/", 2),
        ("backend=up02", 2),
        ("idle_for=1d", 4),
        ("idle_for=2d", 0),
        ("backend=up01&state=idle", 2),
    ] {
        let page = admin.get(&format!("sessions?{query}"));
        assert_eq!((refs(&page).len(), &page["matching"]), (count, &json!(count)), "{query}");
    }
    let listed = admin.run(&["sessions", "list", "--state", "waiting", "--client", "192.0.2.7"]);
    let row: Vec<&str> = listed.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[1..], ["backend", "7%", "0s", "up01", "192.0.2.7", "…6/\\x1b[2Jreport.cab"]);
}

#[test]
fn an_upload_whose_backend_is_away_waits_for_it() {
    let admin = Admin::start();
    admin.put("sleeps", 0, (0, 100), DAY);
    admin.put("elsewhere", 1, (0, 100), DAY);
    admin.put("failed", 0, (0, 0), DAY);
    let failed = moving(&admin, "failed");
    failed.answered(Some(503));
    drop(failed);
    assert_eq!(admin.get("sessions?state=waiting")["matching"], 0);
    admin.post("backends/up01/maintenance");
    let page = admin.get("sessions?state=waiting");
    let [failed, sleeps] = [0, 1].map(|at| &page["sessions"][at]);
    for row in [failed, sleeps] {
        assert_eq!(
            (&row["waits_for"], &row["state"]),
            (&json!("backend"), &json!("waiting")),
            "{row}"
        );
    }
    assert!(failed["falls_back"].is_string() && sleeps["falls_back"].is_null(), "{page}");
    assert_eq!(admin.get("sessions?state=idle")["matching"], 1);
    let shown = admin.run(&["sessions", "show", failed["ref"].as_str().unwrap()]).stdout;
    assert!(shown.contains("waits for its backend, which is away"), "{shown}");
    assert!(shown.contains("falls back"), "{shown}");
}

#[test]
fn a_list_fits_a_terminal_whatever_stands_in_it() {
    let admin = Admin::start();
    admin.set(0, |backend| backend.name = "a-backend-with-a-long-name.example.com".into());
    admin.put("moves", 0, (0, 100), 400 * DAY);
    let _request = moving(&admin, "moves");
    admin.put("sleeps", 0, (0, 128 << 40), 300 * DAY + Duration::from_secs(80_000));
    let listed = admin.run(&["sessions", "list", "--limit", "1"]).stdout;
    assert!(listed.lines().all(|line| line.chars().count() <= 80), "{listed}");
    assert!(listed.contains("port.cab") && listed.ends_with('\n'), "{listed}");
    assert!(!listed.contains('\u{1b}'), "{listed}");
    let next = listed.trim_end().rsplit(' ').next().unwrap();
    assert!(listed.contains("1 of 2; there are more: --after "), "{listed}");
    let rest = admin.run(&["sessions", "list", "--after", next]).stdout;
    assert!(rest.lines().all(|line| line.chars().count() <= 80), "{rest}");
    assert_eq!(rest.lines().count(), 2, "{rest}");
}

#[test]
fn an_upload_under_way_is_shown_in_words() {
    let admin = Admin::start();
    admin.put("moves", 0, (0, 0), DAY);
    let request = moving(&admin, "moves");
    request.answered(None);
    let shown = admin.run(&["sessions", "show", "moves"]).stdout;
    for line in [
        "state          active: waits for the rest of its body\n",
        "path           /in/2026/\\x1b[2Jreport.cab\n",
        "client         192.0.2.7\n",
        "user agent     Microsoft BITS/7.8\n",
        "progress       10485760 of 134217728 bytes (7%)\n",
        "under way      fragment 0-67108863, 10485760 of 67108864 bytes, for 0s\n",
        ", if its packets go on to fail\n",
        ", if nothing more is heard of it\n",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

#[test]
fn the_pages_of_a_listing_that_is_forgotten_begin_again() {
    let admin = Admin::start();
    admin.put("sleeps", 0, (0, 0), DAY);
    admin.put("moves", 0, (0, 0), DAY);
    let _request = moving(&admin, "moves");
    let first = || admin.get("sessions?limit=1")["next"].as_str().unwrap().to_owned();
    let next = first();
    let path = format!("/api/v1/sessions?limit=1&after={next}");
    assert_eq!(admin.ask("GET", &path).status, 200);
    for _ in 0..8 {
        first();
    }
    admin.ask("GET", &path).refused(409, "listing_forgotten");
}

#[test]
fn many_are_forgotten_after_a_question() {
    let admin = Admin::start();
    for n in 0..5 {
        admin.put(&format!("old-{n}"), n % 2, (0, 100), 31 * DAY);
    }
    admin.put("new", 0, (0, 100), DAY);
    admin.put("moves", 0, (0, 100), 31 * DAY);
    let _request = moving(&admin, "moves");
    let forget = ["sessions", "forget", "--all", "--idle-for", "30d"];
    let asked = admin.run(&forget);
    assert_eq!(asked.code, 1);
    assert!(asked.stderr.starts_with("5 uploads will be forgotten: "), "{}", asked.stderr);
    assert!(asked.stderr.contains("nothing was changed"), "{}", asked.stderr);
    assert_eq!(admin.sessions.len(), 7);
    let told = admin.run(&[&forget[..], &["--backend", "up02", "--yes"]].concat());
    assert_eq!((told.code, told.stdout.as_str()), (0, "forgotten: 2 uploads\n"));
    let told = admin.run(&[&forget[..], &["--yes", "--json"]].concat());
    assert_eq!(serde_json::from_str::<Json>(&told.stdout).unwrap(), json!({ "forgotten": 3 }));
    assert_eq!(admin.run(&forget).stdout, "no upload is meant, and none was forgotten\n");
    assert_eq!(admin.sessions.len(), 2, "what moves, or is younger, stays");
    // Without a word of which, and of one and of all, is a slip.
    for words in [&["--all"][..], &[], &["--yes", "new"], &["--all", "--idle-for", "1d", "new"]] {
        let slip = admin.run(&[&["sessions", "forget"], words].concat());
        assert_eq!(slip.code, 2, "{words:?}: {}", slip.stderr);
    }
    assert_eq!(admin.sessions.len(), 2);
}

#[test]
fn what_has_come_of_a_fragment_is_not_left_of_a_drain() {
    let admin = Admin::start();
    admin.put("moves", 0, (0, 128 * MIB), DAY);
    let request = moving(&admin, "moves");
    let drain = || admin.get("backends/up01/drain");
    let left = |drain: &Json| drain["bytes_left"].as_u64().unwrap();
    assert_eq!((left(&drain()), &drain()["idle"]), (118 * MIB, &json!(0)));
    request.came(20 * MIB);
    assert_eq!(left(&drain()), 108 * MIB);
    assert_eq!(admin.get("backends/up01")["bytes_received"], 20 * MIB);
}
