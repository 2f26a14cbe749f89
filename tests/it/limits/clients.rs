//! How much one client may have, and how large and how fast an upload may be: threats T7 and T8.

use e2e_tests::client::{AckRules, Connection, End, FragmentSizes, PacketType, exchange};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, StubFault};
use e2e_tests::wait;

use crate::packets::{
    Packet, Servers, TARGET, cancel, close, create, expect_not_found, expect_not_now, fragment,
    ping, session_of,
};

const TOO_LARGE: u32 = 0x8020_0020;

/// Behind a proxy at loopback, which these tests play, clients have addresses of their choice.
fn behind_a_proxy(count: usize, key: &str, value: &str) -> Servers {
    Servers::with(count, |farm| {
        farm.set("http.trusted_proxies", "[\"127.0.0.0/8\"]").set(key, value)
    })
}

fn of(client: &str, packet: &Packet) -> Packet {
    packet.clone().with("X-Forwarded-For", client)
}

/// A request is counted once its answer is out.
#[track_caller]
fn expect_rejected(servers: &Servers, reason: &str, count: f64) {
    wait::until("the refusals are counted", || {
        servers.farm.metric("bitsgw_rejected_requests_total", &[("reason", reason)]) == count
    });
}

#[test]
fn connections_of_one_address_are_limited() {
    let servers = Servers::with(1, |farm| farm.set("limits.connections_per_address", "3").plain());
    let connected: Vec<Connection> = (0..3)
        .map(|_| {
            let mut connection = servers.connect();
            assert_eq!(connection.exchange(&ping(TARGET).bytes()).expect("an answer").status, 200);
            connection
        })
        .collect();
    for _ in 0..5 {
        let answer = servers.connect().read_answer().expect("an answer before any request");
        expect_not_now(&[503], PacketType::Ping, &answer);
        assert_eq!(answer.field("Retry-After"), Some("60"), "{}", answer.head);
        assert!(answer.closes(), "{}", answer.head);
    }
    expect_rejected(&servers, "address_limit", 5.0);
    drop(connected);
    wait::until("there is room again", || {
        exchange(servers.farm.entrance(), &ping(TARGET).bytes()).is_ok_and(|a| a.status == 200)
    });
}

#[test]
fn connections_of_a_trusted_proxy_are_not_counted() {
    let servers = behind_a_proxy(1, "limits.connections_per_address", "1");
    let mut connections: Vec<_> = (0..10).map(|_| servers.connect()).collect();
    for connection in &mut connections {
        let answer = connection.exchange(&ping(TARGET).bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
}

/// Threat: T7.
#[test]
fn sessions_of_one_client_are_limited_and_others_go_on() {
    let servers = behind_a_proxy(2, "sessions.limit_per_client", "2");
    let path = |n: u32| format!("/in/{n}.bin");
    let (alice, bob) = ("192.0.2.1", "2001:db8:0:1::7");
    let open = |client: &str, n: u32| {
        crate::packets::session_of(&servers.ask(&of(client, &create(&path(n)))))
    };
    let (first, _second) = (open(alice, 1), open(alice, 2));
    for _ in 0..3 {
        let answer = servers.stays(&of(alice, &create(&path(3))));
        expect_not_now(&[503], PacketType::CreateSession, &answer);
        assert_eq!(answer.field("Retry-After"), Some("60"), "{}", answer.head);
    }
    expect_rejected(&servers, "client_sessions", 3.0);
    // What she has goes on, and others have room of their own, by network where that is IPv6.
    servers.passes(&of(alice, &fragment(&path(1), &first, "bytes 0-2/9", b"abc")));
    open(bob, 4);
    open("2001:db8:0:1::8", 5);
    expect_not_now(&[503], PacketType::CreateSession, &servers.stays(&of(bob, &create(&path(6)))));
    open("2001:db8:0:2::7", 6);
    // An end makes room.
    servers.passes(&of(alice, &close(&path(1), &first)));
    open(alice, 7);
    let answer = servers.stays(&of(alice, &create(&path(8))));
    expect_not_now(&[503], PacketType::CreateSession, &answer);
}

#[test]
fn a_create_that_a_backend_refuses_takes_no_room() {
    use e2e_tests::raw_backend::{RawBackend, Reply};
    let backend = RawBackend::answering(|_| Reply::ack("403 Forbidden", &[]));
    let servers = Servers::of(vec![backend], |farm| farm.set("sessions.limit_per_client", "1"));
    for _ in 0..5 {
        assert_eq!(servers.ask(&create(TARGET)).status, 403);
    }
}

#[test]
fn a_file_over_the_limit_is_refused_at_its_first_fragment() {
    let servers = Servers::with(1, |farm| farm.set("limits.upload", "\"1MiB\""));
    let (id, _) = servers.open(TARGET);
    let part = |total: u64| fragment(TARGET, &id, &format!("bytes 0-99999/{total}"), &[7; 100_000]);
    // What is there already is not thrown away, by whatever a client says later.
    servers.passes(&part(1 << 20));
    let mut client = servers.connect();
    for _ in 0..2 {
        let seen = servers.counts();
        let answer = client.exchange(&part((1 << 20) + 1).bytes()).expect("an answer");
        let ack = AckRules::own_answer().expect(PacketType::Fragment, &answer);
        let said = (answer.status, ack.hresult, ack.context);
        assert_eq!(said, (500, Some(TOO_LARGE), Some(5)), "{}", answer.head);
        assert_eq!(servers.counts(), seen, "a byte of it reached the backend");
    }
    expect_rejected(&servers, "upload_too_large", 2.0);
}

#[test]
fn the_client_of_a_file_over_the_limit_gives_up() {
    let farm = Farm::of_stubs(1).set("limits.upload", "\"100KiB\"").start();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(20_000));
    let content = Content::seeded(1, 100 * 1024);
    client.upload(&farm.url("/in/fits.bin"), &content).expect_smooth();
    let report = client.upload(&farm.url("/in/big.bin"), &Content::seeded(2, 100 * 1024 + 1));
    assert!(!matches!(report.end, End::Complete), "{report}");
    assert_eq!(report.restarts, 0, "{report}");
    assert!(farm.stored("/in/big.bin").is_empty());
    assert_eq!(farm.stub(0).stats().body_bytes, 100 * 1024);
    assert_eq!(farm.stub(0).stats().sessions, 0, "nothing waits there for two weeks");
    assert_eq!(farm.metric("bitsgw_sessions", &[]), 0.0);
    farm.expect_healthy();
}

#[test]
fn the_session_of_a_file_over_the_limit_ends_and_its_client_may_say_so_too() {
    for ids in ["backend", "minted"] {
        let farm = Farm::of_stubs(2)
            .set("limits.upload", "\"100KiB\"")
            .set("sessions.id", &format!("{ids:?}"))
            .start();
        let say = |packet: &Packet| exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        let sessions = || farm.stubs().iter().map(|stub| stub.stats().sessions).sum::<u64>();
        let id = session_of(&say(&create(TARGET)));
        let large = fragment(TARGET, &id, "bytes 0-2/200000", b"abc");
        // Not by somebody who knows the id alone.
        assert_eq!(say(&fragment("/in/b.bin", &id, "bytes 0-2/200000", b"abc")).status, 500);
        assert_eq!(sessions(), 1);
        for _ in 0..2 {
            let ack = AckRules::own_answer().expect(PacketType::Fragment, &say(&large));
            assert_eq!(ack.hresult, Some(TOO_LARGE));
            assert_eq!(sessions(), 0);
        }
        assert_eq!(farm.metric("bitsgw_orphan_sessions_total", &[("result", "cancelled")]), 1.0);
        // Its program cancels the job, or starts it once more with a smaller file.
        assert_eq!(say(&cancel(TARGET, &id)).status, 200);
        let small = fragment(TARGET, &id, "bytes 0-2/3", b"abc");
        expect_not_found(small.kind, &say(&small));
        let cancels: u64 = farm.stubs().iter().map(|stub| stub.stats().cancel_session).sum();
        assert_eq!(cancels, 1);
    }
}

#[test]
fn a_backend_that_cannot_be_told_hears_it_from_the_client() {
    let farm = Farm::of_stubs(1).set("limits.upload", "\"100KiB\"").start();
    let say = |packet: &Packet| exchange(farm.entrance(), &packet.bytes()).expect("an answer");
    let id = session_of(&say(&create(TARGET)));
    farm.stub(0).fault(StubFault::on(PacketType::CancelSession, "close").times(1));
    let ack = AckRules::own_answer()
        .expect(PacketType::Fragment, &say(&fragment(TARGET, &id, "bytes 0-2/200000", b"abc")));
    assert_eq!(ack.hresult, Some(TOO_LARGE));
    assert_eq!(farm.metric("bitsgw_orphan_sessions_total", &[("result", "failed")]), 1.0);
    assert_eq!(say(&cancel(TARGET, &id)).status, 200);
    assert_eq!(farm.stub(0).stats().sessions, 0);
}

#[test]
fn a_limit_that_was_lowered_ends_no_session_that_may_have_bytes() {
    for restarted in [true, false] {
        // On one thread the Fragment goes over the connection of the Create, and again when that dies.
        let farm = Farm::of_stubs(1).set("process.threads", "1").start();
        let say = |packet: &Packet| exchange(farm.entrance(), &packet.bytes()).expect("an answer");
        let limit = |limit: &str| {
            farm.gateway().configure(|settings| settings.set("limits.upload", limit));
            if restarted {
                farm.gateway().restart();
            } else {
                assert!(farm.gateway().reload());
            }
        };
        let id = session_of(&say(&create(TARGET)));
        let first = fragment(TARGET, &id, "bytes 0-2/200000", b"abc");
        // The server has the bytes, and the Ack is lost: before the gateway has read it, or after.
        if !restarted {
            farm.stub(0).fault(StubFault::on(PacketType::Fragment, "apply_then_close").times(2));
        }
        assert_eq!(say(&first).status, if restarted { 200 } else { 502 });
        limit("\"100KiB\"");
        let ack = AckRules::own_answer().expect(PacketType::Fragment, &say(&first));
        assert_eq!(ack.hresult, Some(TOO_LARGE));
        let stats = farm.stub(0).stats();
        assert_eq!((stats.cancel_session, stats.sessions), (0, 1), "restarted: {restarted}");
        limit("\"1MiB\"");
        assert_eq!(say(&fragment(TARGET, &id, "bytes 3-5/200000", b"def")).status, 200);
        farm.expect_healthy();
    }
}

#[test]
fn a_session_is_cancelled_under_the_id_of_its_server_in_any_bytes() {
    use e2e_tests::raw_backend::{RawBackend, agree};
    let own = "session-\u{fc}\u{e9}";
    let agree = agree();
    let backend = RawBackend::answering(move |request| match &*request.packet_type() {
        "create-session" => crate::packets::created(own),
        _ => agree(request),
    });
    let servers = Servers::of(vec![backend], |farm| farm.set("limits.upload", "\"100KiB\""));
    let id = session_of(&servers.ask(&create(TARGET)));
    assert_ne!(id, own);
    let large = fragment(TARGET, &id, "bytes 0-2/200000", b"abc");
    assert_eq!(servers.ask(&large).status, 500);
    let request = servers.last_request(0);
    let said = (request.packet_type(), request.field("BITS-Session-Id").map(str::to_owned));
    assert_eq!(said, ("cancel-session".to_owned(), Some(own.to_owned())));
}
