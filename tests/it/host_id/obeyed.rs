//! Packets that come to a host id or to any other name: items 65 to 70.

use e2e_tests::client::{AckRules, Client, Event, FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, ORIGIN};
use e2e_tests::raw_backend::RawBackend;

use crate::packets::{
    Servers, TARGET, cancel, close, create, expect_not_found, fragment, of_session, ping,
};

const PIECES: FragmentSizes = FragmentSizes::Fixed(10_000);

/// An id that no backend gave; the servers of these tests take any.
const STRANGER: &str = "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}";

/// The gateway keeps no memory of ended sessions, for one id serves many times here.
fn forgetful(farm: FarmBuilder) -> FarmBuilder {
    farm.set("sessions.tombstone", "\"0s\"")
}

fn alias(backend: usize) -> String {
    format!("up{:02}.{ORIGIN}", backend + 1)
}

/// Item 65.
#[test]
fn a_packet_to_an_alias_reaches_that_backend_without_a_table_entry() {
    let servers = Servers::with(3, forgetful);
    for backend in [2, 0, 1, 1] {
        for packet in of_session(TARGET, STRANGER) {
            let packet = packet.at(&alias(backend));
            assert_eq!(servers.passes(&packet).0, backend, "{packet:?}");
        }
    }
    // Without the alias it reaches nobody.
    let packet = fragment(TARGET, STRANGER, "bytes 0-2/9", b"abc");
    expect_not_found(PacketType::Fragment, &servers.stays(&packet));
}

/// Item 65.
#[test]
fn sessions_at_aliases_live_on_after_the_gateway_was_killed() {
    // Without a memory beyond the process the alias is all that is left.
    let farm = Farm::of_stubs(3).forgetful().start();
    let client = farm.client().with(|o| o.fragments = PIECES);
    let contents: Vec<_> = (0..3).map(|number| Content::seeded(number, 60_000)).collect();
    let mut uploads: Vec<_> = contents
        .iter()
        .enumerate()
        .map(|(number, content)| client.begin(&farm.url(&format!("/in/{number}.bin")), content))
        .collect();
    for upload in &mut uploads {
        assert!(upload.run_until(|upload| upload.position() >= 30_000));
    }
    farm.gateway().restart();
    for (number, upload) in uploads.into_iter().enumerate() {
        let report = upload.run();
        report.expect_complete();
        assert_eq!((report.restarts, report.resyncs), (0, 0), "{report}");
        farm.expect_stored(&format!("/in/{number}.bin"), &contents[number]);
    }
    farm.expect_healthy();
}

/// Item 66.
#[test]
fn no_request_is_ever_sent_to_an_address_made_of_its_host() {
    // Listens where a gateway that trusted `Host` or the target would go.
    let trap = RawBackend::agreeable();
    let address = trap.address();
    let port = address.port();
    let hosts = [
        address.to_string(),
        format!("localhost:{port}"),
        format!("LOCALHOST.:{port}"),
        "127.0.0.1".to_owned(),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("up09.{ORIGIN}:{port}"),
        "up01".to_owned(),
        "elsewhere.test".to_owned(),
    ];
    let servers = Servers::start(2);
    for host in &hosts {
        for packet in [create(TARGET), ping(TARGET)] {
            servers.passes(&packet.at(host));
        }
        // A name that is no alias is no reason to forward a session that nobody knows.
        for packet in of_session(TARGET, STRANGER) {
            expect_not_found(packet.kind, &servers.stays(&packet.clone().at(host)));
        }
        for (start, fields) in [("GET ", ""), ("BITS_POST ", "BITS-Packet-Type: Ping\r\n")] {
            let request = format!(
                "{start}http://{host}/in/a.bin HTTP/1.1\r\nHost: {host}\r\n\
                 {fields}Content-Length: 0\r\n\r\n"
            );
            let before = servers.counts();
            assert_eq!(servers.ask_bytes(request.as_bytes()).status, 200, "{request}");
            servers.only_one_since(&before);
        }
    }
    // Ids are no addresses either.
    for id in [address.to_string(), format!("http://{address}/in/a.bin")] {
        for packet in of_session(TARGET, &id) {
            expect_not_found(packet.kind, &servers.stays(&packet));
        }
    }
    assert_eq!(trap.connections().len(), 0);
}

/// Item 66.
#[test]
fn with_names_configured_other_hosts_are_refused() {
    let servers = Servers::with(2, |farm| farm.set("http.hosts", "[\"up.test\", \"UP2.test\"]"));
    for host in ["up.test", "UP.TEST.:8080", "up2.test", &alias(0), &alias(1)] {
        servers.passes(&ping(TARGET).at(host));
    }
    for host in ["127.0.0.1", "elsewhere.test", "up03.up.test", "up.test.elsewhere.test"] {
        for packet in [create(TARGET), ping(TARGET), cancel(TARGET, STRANGER)] {
            let answer = servers.stays(&packet.clone().at(host));
            assert_eq!(answer.status, 400, "{host}: {}", answer.head);
            AckRules::own_answer().expect(packet.kind, &answer);
        }
    }
}

/// Uploads until the alias is out of reach in the middle, and falls back.
#[track_caller]
fn falls_back(farm: &Farm, restart_gateway: bool) {
    let resolver = farm.resolver();
    let content = Content::seeded(5, 60_000);
    let path = format!("/in/{restart_gateway}.bin");
    let client = Client::new(resolver.clone()).with(|o| o.fragments = PIECES);
    let mut upload = client.begin(&farm.url(&path), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let alias = upload.host_id().expect("an alias was announced").to_owned();
    if restart_gateway {
        farm.gateway().restart();
        // One Ack by way of the alias teaches the gateway anew whose the session is.
        assert!(upload.run_until(|upload| upload.position() >= 30_000));
    }
    resolver.remove(&alias);
    upload.interrupt();
    let report = upload.run();
    report.expect_complete();
    assert_eq!((report.fallbacks, report.restarts, report.resyncs), (1, 0, 0), "{report}");
    assert_eq!(report.sessions.len(), 1, "{report}");
    let at_origin = report.events.iter().any(|event| match event {
        Event::Sent { packet: PacketType::Fragment, host, .. } => host == ORIGIN,
        _ => false,
    });
    assert!(at_origin, "{report}");
    let backend = farm.expect_stored(&path, &content);
    assert_eq!(alias, format!("{backend}.{ORIGIN}"));
    farm.expect_healthy();
}

/// Item 67.
#[test]
fn an_upload_continues_at_its_backend_after_the_fallback_to_the_origin_name() {
    let farm = Farm::of_stubs(3).forgetful().start();
    // Not the backend that a gateway without memory would choose first.
    farm.client().upload(&farm.url("/in/first.bin"), &Content::seeded(1, 10)).expect_smooth();
    falls_back(&farm, false);
}

/// Item 67.
#[test]
fn a_session_that_an_alias_brought_back_survives_the_fallback() {
    let farm = Farm::of_stubs(3).forgetful().start();
    farm.client().upload(&farm.url("/in/first.bin"), &Content::seeded(1, 10)).expect_smooth();
    falls_back(&farm, true);
}

/// Item 67.
#[test]
fn the_table_wins_over_the_alias_of_another_backend() {
    let servers = Servers::start(3);
    let (id, owner) = servers.open(TARGET);
    let other = alias((owner + 1) % 3);
    for packet in [
        ping(TARGET).with("BITS-Session-Id", &id),
        fragment(TARGET, &id, "bytes 0-2/3", b"abc"),
        close(TARGET, &id),
    ] {
        assert_eq!(servers.passes(&packet.at(&other)).0, owner);
    }
}

/// Item 68.
#[test]
fn a_ping_to_an_alias_reaches_the_backend_of_that_alias() {
    let servers = Servers::start(3);
    for backend in [1, 2, 0, 0, 2] {
        assert_eq!(servers.passes(&ping(TARGET).at(&alias(backend))).0, backend);
    }
    // On one connection as well, whatever backend it served before.
    let mut client = servers.connect();
    for backend in [1, 2, 0, 0, 2] {
        let before = servers.counts();
        let answer = client.exchange(&ping(TARGET).at(&alias(backend)).bytes()).expect("an answer");
        assert_eq!((answer.status, servers.only_one_since(&before)), (200, backend));
    }
}

/// Item 69.
#[test]
fn aliases_are_compared_without_case_final_dot_and_port() {
    let servers =
        Servers::with(3, |farm| forgetful(farm).set_backend("up03", "host_id", "\"N3.Up.Test\""));
    for (host, backend) in [
        ("UP02.UP.TEST", 1),
        ("up02.up.test.", 1),
        ("up02.up.test:80", 1),
        ("Up02.uP.tEsT.:8443", 1),
        ("n3.up.test", 2),
        ("N3.UP.TEST.:80", 2),
    ] {
        let packet = fragment(TARGET, STRANGER, "bytes 0-2/9", b"abc").at(host);
        assert_eq!(servers.passes(&packet).0, backend, "{host}");
        assert_eq!(servers.passes(&ping(TARGET).at(host)).0, backend, "{host}");
        servers.passes(&cancel(TARGET, STRANGER).at(host));
    }
    // Similar is not the same.
    for host in ["up02.up.tes", "xup02.up.test", "up02.up.test.x", "up02"] {
        let packet = fragment(TARGET, STRANGER, "bytes 0-2/9", b"abc").at(host);
        expect_not_found(PacketType::Fragment, &servers.stays(&packet));
    }
}

/// Item 70.
#[test]
fn a_create_session_sent_to_an_alias_works() {
    let servers = Servers::start(3);
    for backend in [2, 0, 2, 1] {
        let packet = create(TARGET).at(&alias(backend));
        let (asked, _, answer) = servers.passes(&packet);
        assert_eq!(asked, backend, "the backend of the alias is preferred");
        let ack = AckRules::farm().expect(PacketType::CreateSession, &answer);
        assert_eq!(ack.host_id, Some(alias(backend)));
        // The session is a whole one: it is known at the origin name too.
        let id = ack.session.expect("an id");
        assert_eq!(servers.passes(&fragment(TARGET, &id, "bytes 0-2/3", b"abc")).0, backend);
    }
}

/// Item 70.
#[test]
fn an_alias_is_not_insisted_on_for_a_new_session() {
    let nobody = e2e_tests::ports::Port::reserve();
    let farm = Farm::of_stubs(1).backend("dead", nobody.address()).start();
    let packet = create(TARGET).at("dead.up.test");
    let answer = e2e_tests::client::exchange(farm.entrance(), &packet.bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(answer.field("BITS-Host-Id"), Some("up01.up.test"));
}
