//! What goes no further than the gateway: items 95 and 97.

use e2e_tests::client::{FragmentSizes, Head, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, ORIGIN};
use e2e_tests::wait;
use serde_json::Value;

use crate::packets::{Servers, TARGET, cancel, close, create, fragment, ping};

/// The fields by which IIS and the application behind it speak with each other.
const NOTIFICATION: [&str; 5] = [
    "BITS-Original-Request-URL",
    "BITS-Request-DataFile-Name",
    "BITS-Response-DataFile-Name",
    "BITS-Static-Response-URL",
    "BITS-Copy-File-To-Destination",
];

/// Item 95.
#[test]
fn notification_fields_of_a_client_do_not_reach_the_backend() {
    let servers = Servers::start(1);
    let (id, _) = servers.open(TARGET);
    for spell in [str::to_owned, str::to_ascii_lowercase, str::to_ascii_uppercase] {
        for mut packet in
            [create(TARGET), ping(TARGET), fragment(TARGET, &id, "bytes 0-2/9", b"abc")]
        {
            for name in NOTIFICATION {
                packet = packet.with(&spell(name), "C:\\forged.bin");
            }
            let (_, request, _) = servers.passes(&packet.with("BITS-Unknown", "stays"));
            assert!(!request.head.contains("forged"), "{}", request.head);
            assert_eq!(request.field("BITS-Unknown"), Some("stays"));
        }
    }
    // Twice is not once too often.
    let twice = ping(TARGET).with(NOTIFICATION[0], "forged").with(NOTIFICATION[0], "forged");
    servers.ask(&twice);
    assert!(!servers.last_request(0).head.contains("forged"));
    // Requests that are no packets reach an application as well.
    let mut post = Head::new("POST", "/app").field("Host", ORIGIN).field("Content-Length", 0);
    for name in NOTIFICATION {
        post = post.field(name, "forged");
    }
    assert_eq!(servers.ask_bytes(&post.to_bytes()).status, 200);
    assert!(!servers.last_request(0).head.contains("forged"));
}

/// Everything that the gateway has told to operators.
fn told(farm: &Farm) -> String {
    let access = farm.gateway().access_log();
    let access: String = access.iter().map(Value::to_string).collect();
    let metrics = farm.gateway().ops("/metrics");
    assert_eq!(metrics.status, 200);
    access + &farm.gateway().log() + &metrics.body_text()
}

/// Waits until so many requests are in the access log.
#[track_caller]
fn requests(farm: &Farm, count: usize) -> Vec<Value> {
    wait::some("every request is in the access log", || {
        let log = farm.gateway().access_log();
        let requests: Vec<_> = log.into_iter().filter(|line| line["event"] == "request").collect();
        (requests.len() >= count).then_some(requests)
    })
}

/// Whether the id stands somewhere, in any case, with or without braces.
fn gives_away(told: &str, id: &str) -> bool {
    told.to_ascii_lowercase().contains(id.trim_matches(['{', '}']).to_ascii_lowercase().as_str())
}

/// Item 97.
#[test]
fn session_ids_are_no_metric_labels_and_are_shortened_in_logs() {
    for (flavour, mode) in [
        ("iis", "backend"),
        ("iis", "minted"),
        ("gobits", "backend"),
        ("simplebits-py3", "backend"),
    ] {
        let farm = Farm::of_stubs(2)
            .each_stub(&["--flavour", flavour])
            .set("sessions.id", &format!("\"{mode}\""))
            .set("log.level", "\"debug\"")
            .start();
        let content = Content::seeded(1, 30_000);
        let client = farm.client().with(|o| {
            o.fragments = FragmentSizes::Fixed(10_000);
            o.acks = e2e_tests::client::AckRules::off();
        });
        let report = client.upload(&farm.url(TARGET), &content);
        report.expect_complete();
        let public = report.sessions[0].clone();
        let seen = farm.stub_named(&farm.expect_stored(TARGET, &content)).requests();
        let backends = seen.last().and_then(|seen| seen.field("BITS-Session-Id")).unwrap_or("");
        let lines = requests(&farm, 6);
        let told = told(&farm);
        for id in [&public, backends] {
            assert!(!gives_away(&told, id), "{flavour}, {mode}: {id} is in {told}");
        }
        // Enough of it is there to find an upload.
        let short = lines.iter().filter_map(|line| line["session"].as_str()).collect::<Vec<_>>();
        assert!(short.len() >= 5, "{lines:?}");
        let start = public.trim_start_matches('{').to_ascii_lowercase();
        for short in short {
            assert!(short.len() <= 8 && start.starts_with(&short.to_ascii_lowercase()), "{short}");
        }
    }
}

/// Item 97.
#[test]
fn ids_that_are_refused_are_not_logged_whole_either() {
    let farm = Farm::of_stubs(1).without_host_ids().set("log.level", "\"debug\"").start();
    let guid = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";
    let opaque = "Zx81-secret-of-somebody-else";
    for id in [guid, opaque] {
        let two = format!("{id}\r\nBITS-Session-Id: {id}");
        for bytes in [
            close(TARGET, id).bytes(),
            fragment(TARGET, id, "bytes 0-9/3", b"abc").bytes(),
            ping(TARGET).with("BITS-Session-Id", id).bytes(),
            // Refused before anybody has read it.
            cancel(TARGET, &two).bytes(),
        ] {
            exchange(farm.entrance(), &bytes).expect("an answer");
        }
        // In the path of a reply as well.
        let target = format!("/in/BITS-Sessions/Replies/{id}/responsefile.bin");
        let get = Head::new("GET", &target).field("Host", ORIGIN).to_bytes();
        exchange(farm.entrance(), &get).expect("an answer");
    }
    requests(&farm, 8);
    let told = told(&farm);
    for id in [guid, opaque] {
        assert!(!gives_away(&told, id), "{id} is in {told}");
    }
    assert!(told.contains("3f9c1e52") && told.contains("Zx81-sec"), "{told}");
}
