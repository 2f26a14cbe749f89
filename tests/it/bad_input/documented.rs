//! The tables of odd requests in `docs/protocol.md`, row by row.

use std::collections::{BTreeMap, BTreeSet};

use e2e_tests::client::Connection;
use e2e_tests::wait;
use serde_json::Value;

use super::rig::{Rig, excerpt, expect_end, read};
use crate::tidy::oddities::{Outcome, Row, rows};

#[test]
fn what_the_table_of_odd_requests_says_is_done() {
    let mut by_settings: BTreeMap<_, Vec<Row>> = BTreeMap::new();
    for row in rows() {
        by_settings.entry(row.settings.clone()).or_default().push(row);
    }
    for (settings, rows) in by_settings {
        let rig = Rig::with(|farm| {
            let farm = farm.set("http.upstream_host", "\"preserve\"");
            settings.iter().fold(farm, |farm, (key, value)| farm.set(key, value))
        });
        for row in &rows {
            for example in &row.examples {
                check(&rig, row, example);
            }
        }
        // The targets are those of the document, and each of them was looked at.
        rig.judged();
    }
}

/// What has reached the backend is looked at when the answer is there: a request goes before its answer.
#[track_caller]
fn check(rig: &Rig, row: &Row, example: &[u8]) {
    let shown = format!("{}: {:?}", row.oddity, excerpt(example));
    let (before, logged) = (rig.backend.requests().len(), rig.farm.gateway().access_log().len());
    let mut client: Connection = rig.connect();
    // A gateway that ends the connection before it has read all fails the sending; the answer tells more.
    let _ = client.send(example);
    let answer = read(&mut client, &shown);
    let requests = rig.backend.requests().split_off(before);
    let line = wait::some("it is in the access log", || {
        rig.farm.gateway().access_log().get(logged).cloned()
    });
    match &row.outcome {
        Outcome::Answered(status) => {
            assert_eq!((answer.status, requests.len()), (*status, 0), "{shown}");
        }
        Outcome::Refused(status, names) => {
            assert_eq!(Some(answer.status), *status, "{shown}: {}", answer.head);
            assert!(requests.iter().all(|seen| !seen.complete), "{shown}: {requests:?}");
            let rule = Some(&line["rule"]).filter(|rule| !rule.is_null());
            assert_eq!(rule.unwrap_or(&line["fault"]), &Value::from(names.join(" ")), "{shown}");
            if rule.is_some() {
                expect_end(&mut client, &shown);
            }
        }
        Outcome::Served(lines) => {
            assert_eq!((answer.status, requests.len()), (200, 1), "{shown}: {}", answer.head);
            expect_passed(&requests[0].head, example, lines, &[], &shown);
        }
        Outcome::Dropped(names) => {
            assert_eq!((answer.status, requests.len()), (200, 1), "{shown}: {}", answer.head);
            expect_passed(&requests[0].head, example, &[], names, &shown);
        }
    }
}

/// The request of an example has reached the backend with `lines` in place of its own, if there are any, and without
/// the fields of these names. What the gateway adds by itself is not looked at.
#[track_caller]
fn expect_passed(passed: &str, example: &[u8], lines: &[String], without: &[String], shown: &str) {
    let example: String = example.iter().map(|&byte| char::from(byte)).collect();
    let (own, _) = example.split_once("\r\n\r\n").expect("a head");
    let own: Vec<&str> = own.split("\r\n").collect();
    let wanted: Vec<&str> = lines.iter().map(String::as_str).collect();
    let request_line = wanted.first().unwrap_or(&own[0]);
    // A request line alone says nothing of the fields.
    let fields = if wanted.len() > 1 { &wanted[1..] } else { &own[1..] };
    let words = |line: &str| line.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>();
    let seen: Vec<&str> = passed.trim_end().split("\r\n").collect();
    assert_eq!(words(seen[0]), words(request_line), "{shown}");
    let without: BTreeSet<_> = without.iter().map(|name| name.to_ascii_lowercase()).collect();
    // The connection to the backend is the gateway's own.
    let mut names: BTreeSet<_> = own[1..].iter().chain(fields).map(|line| name(line)).collect();
    names.remove("connection");
    for name in names {
        let expected = if without.contains(&name) { Vec::new() } else { values(fields, &name) };
        assert_eq!(values(&seen[1..], &name), expected, "{name} of {shown} in {passed}");
    }
}

fn name(line: &str) -> String {
    line.split(':').next().unwrap_or_default().to_ascii_lowercase()
}

fn values(lines: &[&str], wanted: &str) -> Vec<String> {
    let fields = lines.iter().filter(|line| name(line) == wanted);
    let values = fields.filter_map(|line| line.split_once(':'));
    values.map(|(_, value)| value.trim().to_owned()).collect()
}
