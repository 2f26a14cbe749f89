//! The real binary against a listener.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bits_gateway::admin::{ActionError, BarredFolder, Reloaded, Touched};
use bits_gateway::farm::health::LastProbe;
use gateway_core::farm::{AdminState, Health};
use gateway_core::session::Timestamp;
use serde_json::{Value as Json, json};

use crate::support::{Admin, Output, TOKEN, run, stranger, token_file};

const GUID: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";
const GIB: u64 = 1 << 30;

#[track_caller]
fn prints(output: &Output, expected: &str) {
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert_eq!(output.stdout, expected, "\n--- it printed ---\n{}", output.stdout);
}

#[track_caller]
fn fails(output: &Output, code: i32, expected: &[&str]) {
    assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{}", output.stderr);
    for part in expected {
        assert!(output.stderr.contains(part), "no {part:?} in\n{}", output.stderr);
    }
}

#[track_caller]
fn json(output: &Output) -> Json {
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{}", output.stdout);
    serde_json::from_str(&output.stdout).unwrap()
}

#[test]
fn status_sums_up() {
    let admin = Admin::start();
    admin.readiness.ready();
    admin.put("a", 0, (0, 0), Duration::ZERO);
    admin.set(1, |backend| backend.admin = AdminState::Drain);
    let output = admin.run(&["status"]);
    let (first, rest) = output.stdout.split_once('\n').unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(first.starts_with(&format!("bits-gateway {version} is ready, up ")), "{first}");
    assert_eq!(
        rest,
        "  sessions  1 of 100000\n  store     sqlite, good\n  \
         backends  2 of 3 take new uploads (2 ready, 1 drain, 0 maintenance, 0 down)\n"
    );
    assert_eq!(json(&admin.run(&["status", "--json"]))["sessions"]["count"], 1);
}

#[test]
fn backends_are_a_table() {
    let admin = Admin::start();
    admin.put("a", 0, (GIB, 3 * GIB), Duration::ZERO);
    admin.set(1, |backend| {
        backend.name = "a-name-that-is-as-long-as-a-name-may-be-which-is-63-characters".into();
        backend.address =
            "a-host-name-that-is-even-longer-than-that.internal.example.com:80".into();
        backend.health = Health::Down;
        backend.health_reason = Some("connection refused".to_owned());
        backend.history.down = Duration::from_secs(90);
        backend.totals.errors = 12;
    });
    admin.set(0, |backend| {
        backend.health_reason = Some("probes pass".to_owned());
        backend.in_flight = 3;
        let (at, took) = (Timestamp(0), Duration::from_millis(12));
        backend.history.last_probe = Some(LastProbe { at, took, passed: true });
    });
    admin.set(2, |backend| {
        backend.configured = false;
        backend.weight_percent = 40;
        backend.barred =
            vec![BarredFolder { folder: "/in/".to_owned(), reason: "refuses", one_client: false }];
    });
    let output = admin.run(&["backends", "list"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[..4].iter().all(|line| line.chars().count() <= 80), "{}", output.stdout);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let titles =
        ["NAME", "STATE", "HEALTH", "FOR", "W", "UPLOADS", "NOW", "B/S", "ERR", "PROBE", "DOWN"];
    assert_eq!(words(lines[0]), titles);
    let row = ["up01", "ready", "up", "-", "1", "1", "3", "-", "0", "12ms", "-"];
    assert_eq!(words(lines[1]), row);
    assert!(lines[2].contains("down") && lines[2].contains('\u{2026}'), "{}", lines[2]);
    assert_eq!(words(lines[2])[8..], ["12", "-", "1m"]);
    assert!(lines[3].contains("gone") && lines[3].contains("1 (40%)"), "{}", lines[3]);
    assert!(lines[4].ends_with(".internal.example.com:80: connection refused"), "{}", lines[4]);
    assert_eq!(lines[5], "up03: no new uploads of /in/: it refuses what others accept");
    assert_eq!(lines.len(), 6, "the reason of one that is well is nobody's concern");
    let one = admin.run(&["backends", "list", "up03", "UP01"]);
    let names: Vec<&str> = one.stdout.lines().map(|line| &line[..4]).collect();
    assert_eq!(names, ["NAME", "up03", "up01", "up03"], "{}", one.stdout);
    let all = json(&admin.run(&["backends", "list", "--json"]));
    assert_eq!(all["backends"].as_array().unwrap().len(), 3);
    assert_eq!(all["backends"][2]["barred_folders"][0]["reason"], "refuses");
}

#[test]
fn states_are_set() {
    let admin = Admin::start();
    admin.put("a", 0, (0, 100), Duration::ZERO);
    let drain = admin.run(&["backends", "drain", "up01"]);
    prints(&drain, "up01 takes no new uploads; 1 upload left, 100 B\n");
    assert_eq!(admin.state(0), AdminState::Drain);
    let again = admin.run(&["backends", "drain", "up01"]);
    prints(&again, "up01 takes no new uploads, as before; 1 upload left, 100 B\n");
    let out = admin.run(&["backends", "maintenance", "up02"]);
    prints(&out, "up02 is sent nothing; 0 uploads left\n");
    let last = admin.run(&["backends", "maintenance", "up03", "--json"]);
    assert_eq!(json(&last)["warning"], "no backend takes new uploads now");
    prints(&admin.run(&["backends", "ready", "up02"]), "up02 takes new uploads; 0 uploads left\n");
    assert_eq!(admin.state(1), AdminState::Ready);
    let unknown = admin.run(&["backends", "ready", "up/../99"]);
    fails(
        &unknown,
        1,
        &["error: there is no backend \"up/../99\"", "help: `bits-gateway backends list`"],
    );
}

#[test]
fn the_short_word_for_maintenance_is_accepted() {
    let admin = Admin::start();
    prints(&admin.run(&["backends", "maint", "up01"]), "up01 is sent nothing; 0 uploads left\n");
    assert_eq!(admin.state(0), AdminState::Maintenance);
    admin.post("backends/up02/maint");
    assert_eq!(admin.state(1), AdminState::Maintenance);
    let list = admin.get("backends");
    assert_eq!(list["backends"][0]["admin_state"], "maintenance", "{list}");
    assert_eq!(admin.counted("backend_maintenance", "ok"), 2);
}

#[test]
fn states_are_set_on_several_at_once_or_on_none() {
    let admin = Admin::start();
    prints(
        &admin.run(&["backends", "drain", "up01", "UP03"]),
        "up01 takes no new uploads; 0 uploads left\nup03 takes no new uploads; 0 uploads left\n",
    );
    let wrong = admin.run(&["backends", "maintenance", "up01", "up0", "up02"]);
    fails(&wrong, 1, &["error: there is no backend \"up0\"\n", "help: did you mean up01?\n"]);
    assert_eq!([admin.state(0), admin.state(1)], [AdminState::Drain, AdminState::Ready]);
    let all = json(&admin.run(&["backends", "ready", "--all", "--json"]));
    assert_eq!(all["backends"].as_array().unwrap().len(), 3);
    assert_eq!(all["backends"][2]["backend"]["name"], "up03");
    assert!((0..3).all(|backend| admin.state(backend) == AdminState::Ready));
    let lost = admin.run(&["backends", "lost", "up01", "up02", "--yes"]);
    assert_eq!(lost.code, 0, "{}", lost.stderr);
    assert_eq!(lost.stdout.lines().count(), 2, "{}", lost.stdout);
    for wrong in [&["drain"][..], &["drain", "up01", "--all"], &["lost", "--all"]] {
        assert_eq!(admin.run(&[&["backends"], wrong].concat()).code, 2, "{wrong:?}");
    }
}

#[test]
fn an_unknown_backend_is_told_what_was_meant() {
    let admin = Admin::start();
    admin.set(1, |backend| backend.name = "uploads-west".into());
    for words in [
        &["drain", "upload-west"][..],
        &["drain", "--wait", "upload-west"],
        &["drain", "--wait", "--deadline", "0s", "upload-west"],
        &["lost", "--yes", "upload-west"],
        &["list", "upload-west"],
    ] {
        let output = admin.run(&[&["backends"], words].concat());
        fails(&output, 1, &["no backend \"upload-west\"", "help: did you mean uploads-west?\n"]);
    }
    let far = admin.run(&["backends", "drain", "nothing-of-the-kind"]);
    fails(&far, 1, &["help: `bits-gateway backends list` shows them\n"]);
}

#[test]
fn a_deadline_that_may_cost_many_uploads_asks() {
    let admin = Admin::start();
    (0..100).for_each(|n| admin.put(&format!("s-{n}"), 0, (GIB, 3 * GIB), Duration::ZERO));
    let drain = ["backends", "drain", "up01", "--wait", "--deadline", "0s"];
    // Standard input is at its end, which is no yes.
    let asked = admin.run(&drain);
    fails(&asked, 1, &["There are 100 uploads with 100.0 GiB received.", "Go on? [y/N] \nerror: "]);
    assert_eq!(admin.state(0), AdminState::Ready, "nothing was changed");
    admin.end("s-0");
    let few = admin.run(&drain);
    assert_eq!(few.code, 0, "{}", few.stderr);
    (0..100).for_each(|n| admin.put(&format!("t-{n}"), 1, (0, 1), Duration::ZERO));
    let drain = ["backends", "drain", "up02", "--wait", "--deadline", "0s", "--yes"];
    let told = admin.run(&drain);
    assert_eq!(told.stdout, "up02 is empty; the clients of 100 uploads start over\n");
}

#[test]
fn sessions_are_listed_shown_and_forgotten() {
    let admin = Admin::start();
    prints(&admin.run(&["sessions", "list"]), "no sessions\n");
    admin.put(GUID, 1, (GIB, 4 * GIB), Duration::from_secs(300));
    let listed = admin.run(&["sessions", "list"]);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    let [mark, now, rest @ ..] = words.as_slice() else { panic!("{}", listed.stdout) };
    assert_eq!((*now, rest), ("-", &["25%", "5m", "up02", "-", "-"][..]));
    for name in [GUID, "3f9c1e52-7b0d-4e7a-9c44-0d5b6a1e8f21", mark] {
        let shown = admin.run(&["sessions", "show", name]);
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        assert!(shown.stdout.contains("progress       1073741824 of 4294967296 bytes (25%)\n"));
        assert!(!shown.stdout.to_lowercase().contains("0d5b6a1e8f21"), "{}", shown.stdout);
    }
    let forgotten = admin.run(&["sessions", "forget", GUID]);
    prints(&forgotten, "session 3f9c1e52 on up02 is forgotten: its client will start over\n");
    let gone = admin.run(&["sessions", "forget", GUID]);
    fails(&gone, 1, &["error: there is no such session", "help: it has ended"]);
}

#[test]
fn sessions_are_listed_in_pages() {
    let admin = Admin::start();
    for n in 0..7 {
        admin.put(&format!("session-{n}"), n % 2, (0, 0), Duration::ZERO);
    }
    let count = |output: &Output| output.stdout.lines().filter(|l| l.starts_with('@')).count();
    let first = admin.run(&["sessions", "list", "--limit", "4"]);
    assert_eq!(count(&first), 4);
    let next = first.stdout.trim_end().rsplit(' ').next().unwrap();
    let second = admin.run(&["sessions", "list", "--limit", "4", "--after", next]);
    assert_eq!(count(&second), 3, "{}", second.stdout);
    assert!(!second.stdout.contains("--after"), "{}", second.stdout);
    assert_eq!(count(&admin.run(&["sessions", "list", "--all", "--backend", "up02"])), 3);
    let all = json(&admin.run(&["sessions", "list", "--all", "--json"]));
    assert_eq!(all["sessions"].as_array().unwrap().len(), 7);
    assert_eq!(all["next"], Json::Null);
}

#[test]
fn reload_prints_what_changed() {
    let admin = Admin::start();
    prints(&admin.run(&["reload"]), "nothing has changed\n");
    admin.farm.lock().unwrap().reload = Ok(Reloaded {
        changed: vec!["backends.up01.weight: 1 -> 2".to_owned()],
        needs_restart: vec!["process.threads: 2 -> 4".to_owned()],
        ..Reloaded::default()
    });
    prints(
        &admin.run(&["reload"]),
        "changed:\n  backends.up01.weight: 1 -> 2\n\
         needs a restart, unchanged so far:\n  process.threads: 2 -> 4\n",
    );
    admin.farm.lock().unwrap().reload = Err(ActionError::Config {
        message: "gw.toml cannot be used: 1 error".to_owned(),
        report: "error: `backends.up01.weight` is too small\n".to_owned(),
        findings: json!([{ "severity": "error" }]),
    });
    let wrong = admin.run(&["reload"]);
    fails(&wrong, 78, &["is too small\n", "error: gw.toml cannot be used: 1 error\n"]);
    let wrong = admin.run(&["reload", "--json"]);
    assert_eq!((wrong.code, wrong.stderr.as_str()), (78, ""));
    let wrong: Json = serde_json::from_str(&wrong.stdout).unwrap();
    assert_eq!(wrong["error"]["code"], "config_invalid");
    assert_eq!(wrong["error"]["findings"], json!([{ "severity": "error" }]));
}

#[test]
fn a_dry_run_says_what_would_change_and_asks_for_no_reload() {
    let admin = Admin::start();
    prints(&admin.run(&["reload", "--dry-run"]), "nothing would change\n");
    let (key, what) = ("backends.up02".to_owned(), "served there to their end".to_owned());
    admin.farm.lock().unwrap().reload = Ok(Reloaded {
        changed: vec!["backends.up02: {} -> not set".to_owned()],
        findings: json!([]),
        touched: Some(vec![Touched { key, uploads: 811, what }]),
        ..Reloaded::default()
    });
    prints(
        &admin.run(&["reload", "--dry-run"]),
        "would change:\n  backends.up02: {} -> not set\n\
         uploads that it touches:\n  backends.up02: 811 uploads, served there to their end\n",
    );
    let told = json(&admin.run(&["reload", "--dry-run", "--json"]));
    assert_eq!(told["touched"][0]["uploads"], 811);
    assert_eq!(admin.farm.lock().unwrap().reloads, 0);
}

/// To a program that does not expect it, SIGHUP is the end.
#[test]
fn a_signal_goes_to_gateways_only() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::process::id().to_string();
    let wrong = run(folder.path(), &["reload", "--signal", &own], &[]);
    fails(&wrong, 1, &["is no gateway: it is `"]);
    let nobody = run(folder.path(), &["reload", "--signal", "2147483647"], &[]);
    fails(&nobody, 69, &["there is no process 2147483647"]);
    for wrong in ["0", "-1", "all"] {
        assert_eq!(run(folder.path(), &["reload", "--signal", wrong], &[]).code, 2, "{wrong}");
    }
}

/// A configuration that names the listener.
fn config(admin: &Admin, section: &str) -> String {
    let path = admin.folder.path().join("gw.toml");
    let text = format!(
        "[listeners.public]\naddress = \"127.0.0.1:0\"\n[[backends]]\nname = \"up01\"\n\
         address = \"127.0.0.1:1\"\n{section}"
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_configuration_says_where_the_gateway_is() {
    let admin = Admin::start();
    let folder = admin.folder.path();
    let file = config(&admin, &format!("[admin]\nsocket = \"{}\"\n", admin.socket.display()));
    assert_eq!(run(folder, &["status", "--config", &file], &[]).code, 0);
    assert_eq!(run(folder, &["status"], &[("BITSGW_CONFIG", &file)]).code, 0);
    let section = format!("[admin]\naddress = \"{}\"\ntoken_file = \"./token\"\n", admin.address);
    let file = config(&admin, &section);
    let output = run(folder, &["status", "--config", &file], &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let address = admin.address.to_string();
    let token = token_file(folder);
    let token = token.to_str().unwrap();
    let output = run(folder, &["status", "--admin", &address, "--token-file", token], &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
}

#[test]
fn the_rest_of_the_configuration_may_be_broken() {
    let admin = Admin::start();
    let folder = admin.folder.path();
    let section = format!("[admin]\nsocket = \"{}\"\n", admin.socket.display());
    for broken in [
        "[[backends]]\nname = \"up02\"\n",
        "[limts]\n",
        "[log]\nlevel = \n",
        "[listeners.more\naddress = \"127.0.0.1:0\"\n",
        "[store]\npath = \"never closed\n",
    ] {
        let file = config(&admin, &format!("{section}{broken}"));
        for command in [
            &["status"][..],
            &["sessions", "list"],
            &["backends", "list"],
            &["backends", "drain", "up01"],
        ] {
            let output = run(folder, &[command, &["--config", &file]].concat(), &[]);
            assert_eq!(output.code, 0, "{broken:?}: {}", output.stderr);
            let said = format!(
                "warning: {file} cannot be used: 1 error; only its [admin] is read here\n\
                 help: `bits-gateway check {file}` shows what is wrong\n"
            );
            assert_eq!(output.stderr, said, "{broken:?} {command:?}");
        }
        let output = run(folder, &["status", "--json", "--config", &file], &[]);
        assert!(serde_json::from_str::<Json>(&output.stdout).is_ok(), "{}", output.stdout);
        // The gateway itself says what is wrong.
        let output = run(folder, &["reload", "--config", &file], &[]);
        prints(&output, "nothing has changed\n");
    }
    // Of the environment the rest counts as little.
    let file = config(&admin, "");
    let socket = admin.socket.display().to_string();
    let environment = [("BITSGW__ADMIN__SOCKET", &*socket), ("BITSGW__LOG__LEVEL", "loud")];
    let output = run(folder, &["status", "--config", &file], &environment);
    assert_eq!(output.code, 0, "{}", output.stderr);
}

#[test]
fn a_token_never_leaves_the_machine_whatever_is_broken() {
    let admin = Admin::start();
    let file = config(&admin, "[admin]\naddress = \"10.0.0.1:9081\"\ntoken_file = \"./token\"\n");
    let output = run(admin.folder.path(), &["status", "--config", &file], &[]);
    fails(&output, 78, &["would be open to the network"]);
}

#[test]
fn a_socket_needs_no_configuration() {
    let admin = Admin::start();
    let target = format!("unix:{}", admin.socket.display());
    let environment = [("BITSGW_CONFIG", "./no.toml")];
    let output = run(admin.folder.path(), &["status", "--admin", &target], &environment);
    assert_eq!(output.code, 0, "{}", output.stderr);
}

#[test]
fn what_is_missing_is_said() {
    let admin = Admin::start();
    let folder = admin.folder.path();
    if !Path::new("/etc/bits-gateway/config.toml").exists() {
        let nowhere = run(folder, &["status"], &[]);
        fails(&nowhere, 2, &["where is the gateway?", "--admin", "no /etc/bits-gateway/config"]);
    }
    let file = config(&admin, "");
    let none = run(folder, &["status", "--config", &file], &[]);
    fails(&none, 78, &["no admin listener is configured in", "set admin.socket, or admin.address"]);
    let file = config(&admin, "listeners:\n");
    let broken = run(folder, &["status", "--config", &file], &[]);
    fails(&broken, 78, &["this is not TOML", "cannot be used: 2 errors"]);
    let file = config(&admin, "[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = \"./token\"\n");
    fails(&run(folder, &["status", "--config", &file], &[]), 78, &["port 0", "--admin"]);
    let file = config(&admin, "[admin]\nsoket = \"./x\"\n");
    fails(&run(folder, &["status", "--config", &file], &[]), 78, &["did you mean `socket`?"]);
    let missing = run(folder, &["status", "--config", "no.toml"], &[]);
    fails(&missing, 78, &["there is no file no.toml"]);
    let file = config(&admin, "[admin]\nsocket = \"./nobody.sock\"\n");
    let stopped = run(folder, &["status", "--config", &file], &[]);
    fails(&stopped, 69, &["the gateway is not running: nothing listens on unix:", "/nobody.sock"]);
    let stopped = run(folder, &["status", "--config", &file, "--json"], &[]);
    let stopped: Json = serde_json::from_str(&stopped.stdout).unwrap();
    assert_eq!(stopped["error"]["code"], "not_running");
    let elsewhere = run(folder, &["status", "--admin", "10.0.0.1:9081"], &[]);
    fails(&elsewhere, 2, &["not an address of this machine"]);
}

#[test]
fn a_token_that_is_wrong_or_missing_is_said() {
    let admin = Admin::start();
    let folder = admin.folder.path();
    let address = admin.address.to_string();
    let none = run(folder, &["status", "--admin", &address], &[]);
    fails(&none, 77, &["a token is needed", "--token-file"]);
    let path = token_file(folder);
    fs::write(&path, "f".repeat(40)).unwrap();
    let wrong = run(folder, &["status", "--admin", &address, "--token-file", "token"], &[]);
    fails(&wrong, 77, &["this is not the token", "admin.token_file"]);
    assert!(!wrong.stderr.contains("ffff") && !wrong.stderr.contains(TOKEN));
    fs::write(&path, "short").unwrap();
    let short = run(folder, &["status", "--admin", &address, "--token-file", "token"], &[]);
    fails(&short, 77, &["has 5 bytes"]);
    let no = run(folder, &["status", "--admin", &address, "--token-file", "no"], &[]);
    fails(&no, 74, &["cannot read the token file no"]);
}

#[test]
fn a_stranger_is_no_gateway() {
    let folder = tempfile::tempdir().unwrap();
    for answer in [
        "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nnot found\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
    ] {
        let address = stranger(answer).to_string();
        let output = run(folder.path(), &["status", "--admin", &address], &[]);
        fails(&output, 69, &["is no admin listener of a gateway"]);
    }
}

#[test]
fn a_store_that_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for words in [&["list"][..], &["show", "@0000000000000001"]] {
        let words = [&["sessions"], words, &["--store", "./store"]].concat();
        fails(
            &run(folder.path(), &words, &[]),
            74,
            &["error: no session store in ./store (sessions.db not found)"],
        );
    }
    let both = ["sessions", "list", "--store", "./x", "--admin", "127.0.0.1:1"];
    assert_eq!(run(folder.path(), &both, &[]).code, 2);
}

#[test]
fn answers_cannot_steer_the_terminal() {
    let admin = Admin::start();
    admin.farm.lock().unwrap().reload =
        Ok(Reloaded { changed: vec!["\u{1b}[2Jgone\r".to_owned()], ..Reloaded::default() });
    let output = admin.run(&["reload"]);
    assert_eq!(output.stdout, "changed:\n  \u{fffd}[2Jgone\u{fffd}\n");
    let json = json(&admin.run(&["reload", "--json"]));
    assert_eq!(json["changed"], json!(["\u{1b}[2Jgone\r"]));
}
