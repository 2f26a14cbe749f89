//! What counts from the next request on.

use e2e_tests::client::{End, FragmentSizes, PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::Farm;
use e2e_tests::wait;

use super::{Operated, PIECES};
use crate::packets::{Servers, TARGET, create, expect_not_now, fragment, ping, session_of};

#[test]
fn a_limit_counts_for_the_next_fragment_of_a_running_upload() {
    let operated = Operated::start(Farm::of_stubs(1));
    let farm = &operated.farm;
    let content = Content::seeded(1, 100_000);
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(40_000));
    let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
    assert!(upload.run_until(|upload| upload.position() >= 40_000));
    farm.gateway().configure(|settings| settings.set("limits.fragment", "\"16KiB\""));
    assert!(farm.gateway().reload());
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    assert!(report.sent(PacketType::Fragment) >= 4, "smaller fragments\n{report}");
    farm.expect_stored("/in/a.bin", &content);
    farm.expect_healthy();
}

#[test]
fn a_limit_of_the_size_of_files_ends_no_upload_that_has_begun() {
    for restarted in [false, true] {
        let operated = Operated::start(Farm::of_stubs(1));
        let farm = &operated.farm;
        let content = Content::seeded(3, 100_000);
        let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(40_000));
        let mut upload = client.begin(&farm.url("/in/a.bin"), &content);
        assert!(upload.run_until(|upload| upload.position() >= 40_000));
        farm.gateway().configure(|settings| settings.set("limits.upload", "\"50KiB\""));
        if restarted {
            farm.gateway().restart();
        } else {
            assert!(farm.gateway().reload());
        }
        let report = upload.run();
        report.expect_complete();
        assert_eq!(report.restarts, 0, "{report}");
        farm.expect_stored("/in/a.bin", &content);
        let report = client.upload(&farm.url("/in/b.bin"), &content);
        assert!(!matches!(report.end, End::Complete), "{report}");
        assert!(farm.stored("/in/b.bin").is_empty());
    }
}

#[test]
fn a_log_level_counts_at_once() {
    let operated = Operated::start(Farm::of_stubs(1).set("log.level", "\"error\""));
    let gateway = operated.farm.gateway();
    assert!(gateway.reload());
    assert!(!gateway.log().contains("configuration loaded"));
    gateway.configure(|settings| settings.set("log.level", "\"info\""));
    assert!(gateway.reload());
    wait::until("it is logged", || gateway.log().contains("configuration loaded"));
}

#[test]
fn a_placement_and_names_count_for_the_next_upload() {
    let operated = Operated::start(Farm::of_stubs(3).each_stub(&["--allow-overwrites"]));
    let farm = &operated.farm;
    let content = Content::seeded(2, 20_000);
    let client = farm.client().with(|o| o.fragments = PIECES);
    farm.gateway().configure(|settings| {
        settings.set("placement.policy", "\"hash\"");
        settings.set("affinity.host_id", "\"none\"");
    });
    assert!(farm.gateway().reload());
    let mut owners = Vec::new();
    for _ in 0..3 {
        let report = client.upload(&farm.url("/in/same.bin"), &content);
        report.expect_smooth();
        assert!(report.host_ids.is_empty(), "{report}");
        owners.push(farm.expect_stored("/in/same.bin", &content));
    }
    assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
    farm.expect_healthy();
}

#[test]
fn what_a_client_may_have_counts_from_its_next_request() {
    let servers = Servers::start(1);
    let gateway = servers.farm.gateway();
    let mut held = servers.connect();
    let mut told = |expected: Option<&str>| {
        let packet = ping(TARGET).with("X-Forwarded-For", "192.0.2.7");
        let seen = servers.backends[0].requests().len();
        assert_eq!(held.exchange(&packet.bytes()).expect("an answer").status, 200);
        let request = servers.backends[0].request(seen);
        assert_eq!(request.field("X-Forwarded-For"), expected, "{}", request.head);
    };
    told(Some("127.0.0.1"));
    gateway.configure(|settings| {
        settings.set("http.trusted_proxies", "[\"127.0.0.0/8\"]");
        settings.set("limits.upload", "\"1KiB\"");
        settings.set("sessions.limit_per_client", "1");
    });
    assert!(gateway.reload());
    told(Some("192.0.2.7, 127.0.0.1"));
    // The proxy itself is exempt; the client that it names is not.
    let named = create(TARGET).with("X-Forwarded-For", "192.0.2.7");
    let id = session_of(&servers.ask(&named));
    let refused = servers.stays(&named);
    expect_not_now(&[503], PacketType::CreateSession, &refused);
    let large = servers.ask(&fragment(TARGET, &id, "bytes 0-2/4096", b"abc"));
    assert_eq!(large.status, 500, "{}", large.head);
    let last = servers.last_request(0);
    assert_eq!(last.packet_type(), "cancel-session", "{}", last.head);
    gateway.configure(|settings| settings.set("http.forwarded", "\"off\""));
    assert!(gateway.reload());
    told(None);
}

#[test]
fn connections_of_one_address_count_from_the_next_connection() {
    let servers = Servers::start(1);
    let gateway = servers.farm.gateway();
    let earlier = servers.connect();
    servers.passes(&ping(TARGET));
    gateway.configure(|settings| settings.set("limits.connections_per_address", "2"));
    assert!(gateway.reload());
    let mut first = servers.connect();
    let answer = first.exchange(&ping(TARGET).bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    let crowded = exchange(servers.farm.entrance(), &ping(TARGET).bytes());
    assert!(!crowded.is_ok_and(|answer| answer.status == 200));
    let rejected = [("reason", "address_limit")];
    wait::until("it is counted", || {
        servers.farm.metric("bitsgw_rejected_requests_total", &rejected) == 1.0
    });
    gateway.configure(|settings| settings.set("limits.connections_per_address", "0"));
    assert!(gateway.reload());
    servers.passes(&ping(TARGET));
    drop(earlier);
}
