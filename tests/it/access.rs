//! Whom a listener serves, by the address of the client. Tests say who they are by a PROXY header or, as a trusted
//! proxy, by `X-Forwarded-For`.

use e2e_tests::client::{AckRules, Connection, FragmentSizes, Head};
use e2e_tests::data::Content;
use e2e_tests::farm::{Farm, FarmBuilder, Tls, http};
use e2e_tests::wait;

use crate::packets::{Packet, TARGET, close, create, ping};

const DENIED: &str = "192.0.2.66";
const SERVED: &str = "192.0.2.7";

fn denying(farm: FarmBuilder) -> FarmBuilder {
    farm.set("listeners.public.access.deny", &format!("[\"{DENIED}\"]"))
}

fn behind_a_proxy() -> FarmBuilder {
    denying(Farm::of_stubs(1).plain()).set("http.trusted_proxies", "[\"127.0.0.0/8\"]")
}

fn of(client: &str, packet: Packet) -> Vec<u8> {
    packet.with("X-Forwarded-For", client).bytes()
}

#[track_caller]
fn plain(farm: &Farm) -> Connection {
    Connection::open_plain(farm.entrance()).expect("a connection")
}

#[track_caller]
fn expect_counted(farm: &Farm, count: f64) {
    wait::until("it is counted", || {
        farm.metric("bitsgw_rejected_requests_total", &[("reason", "access_denied")]) == count
    });
}

#[test]
fn a_denied_connection_ends_before_a_byte_was_said() {
    for tls in [Tls::Off, Tls::Front] {
        let farm = Farm::of_stubs(1)
            .tls(tls)
            .set("listeners.public.access.allow", "[\"192.0.2.0/24\", \"2001:db8::/32\"]")
            .start();
        // Not even the first byte of a handshake is waited for.
        assert_eq!(plain(&farm).read_to_end().expect("it ends"), b"", "{tls:?}");
        expect_counted(&farm, 1.0);
        farm.gateway().expect_logged("`access` of its listener denies the client");
        assert!(farm.gateway().access_log().is_empty());
    }
}

#[test]
fn a_client_that_a_reload_denies_waits_and_goes_on_where_it_was() {
    let farm = Farm::of_stubs(2).start();
    let client = farm.client().with(|o| o.fragments = FragmentSizes::Fixed(10_000));
    let content = Content::seeded(1, 50_000);
    let mut upload = client.begin(&farm.url(TARGET), &content);
    assert!(upload.run_until(|upload| upload.position() >= 20_000));
    let access = "listeners.public.access.deny";
    farm.gateway().configure(|settings| settings.set(access, "[\"127.0.0.0/8\", \"::1\"]"));
    assert!(farm.gateway().reload());
    // Also over the connection that it has.
    let position = upload.position();
    assert!(upload.run_until(|upload| upload.report().retries >= 2));
    assert_eq!(upload.position(), position);
    farm.gateway().configure(|settings| settings.unset(access));
    assert!(farm.gateway().reload());
    let report = upload.run();
    report.expect_complete();
    assert_eq!(report.restarts, 0, "{report}");
    farm.expect_stored(TARGET, &content);
}

#[test]
fn the_address_in_a_proxy_header_counts() {
    for tls in [Tls::Off, Tls::Front] {
        let farm = denying(Farm::of_stubs(1))
            .tls(tls)
            .set("ops.public", "true")
            .set("listeners.public.access.allow", "[\"192.0.2.0/24\"]")
            .set("listeners.public.proxy_protocol.trusted", "[\"127.0.0.0/8\"]")
            .start();
        let header = |client: &str| format!("PROXY TCP4 {client} 10.0.0.1 50000 80\r\n");
        let mut denied = plain(&farm);
        denied.send(header(DENIED).as_bytes()).expect("sent");
        assert_eq!(denied.read_to_end().expect("it ends"), b"", "{tls:?}");
        expect_counted(&farm, 1.0);
        if tls == Tls::Off {
            let answer =
                plain(&farm).exchange(&[header(SERVED).as_bytes(), &ping("/").bytes()].concat());
            assert_eq!(answer.expect("an answer").status, 200);
            // What it asks in its own name: whether the gateway is there, and nothing else.
            let own = |request: &[u8]| {
                plain(&farm).exchange(&[b"PROXY UNKNOWN\r\n", request].concat()).ok()
            };
            let check = Head::new("GET", "/readyz").field("Host", "up.test").to_bytes();
            wait::until("it is ready", || own(&check).map(|answer| answer.status) == Some(200));
            assert!(own(&ping("/").bytes()).is_none());
        }
    }
}

#[test]
fn the_address_that_a_trusted_proxy_names_counts_and_its_connection_ends() {
    let farm = behind_a_proxy().start();
    let get = Head::new("GET", "/a.bin").field("Host", "up.test");
    let get = get.field("X-Forwarded-For", DENIED).to_bytes();
    for (number, request) in [(1, of(DENIED, create(TARGET))), (2, get)] {
        let mut connection = plain(&farm);
        let served = connection.exchange(&of(SERVED, ping("/"))).expect("an answer");
        assert_eq!(served.status, 200);
        connection.send(&request).expect("sent");
        assert_eq!(connection.read_to_end().expect("it ends"), b"");
        expect_counted(&farm, f64::from(number));
    }
    // What a client says of itself before its proxy does is not believed.
    let answer = plain(&farm).exchange(&of(&format!("{DENIED}, {SERVED}"), ping("/")));
    assert_eq!(answer.expect("an answer").status, 200);
    let lines = farm.gateway().access_log();
    let denied: Vec<_> = lines.iter().filter(|line| line["fault"] == "access_denied").collect();
    assert_eq!(denied.len(), 2, "{lines:?}");
    for line in denied {
        assert_eq!((&line["client"], &line["status"]), (&DENIED.into(), &serde_json::Value::Null));
    }
    assert_eq!(farm.stub(0).requests().len(), 3, "pings");
}

#[test]
fn by_choice_a_denied_client_hears_403() {
    for proxied in [false, true] {
        let farm = match proxied {
            true => behind_a_proxy(),
            false => Farm::of_stubs(1).set("listeners.public.access.deny", "[\"127.0.0.0/8\"]"),
        };
        let farm = farm.set("listeners.public.access.answer", "\"403\"").start();
        for packet in [create(TARGET), close(TARGET, "{x}")] {
            let kind = packet.kind;
            let mut connection = Connection::open(farm.entrance()).expect("a connection");
            let answer = connection.exchange(&of(DENIED, packet)).expect("an answer");
            let ack = AckRules::own_answer().expect(kind, &answer);
            assert_eq!((answer.status, ack.hresult), (403, Some(0x8007_0005)), "{}", answer.head);
            assert!(answer.closes(), "{}", answer.head);
        }
        let get = Head::new("GET", "/").field("Host", "up.test").field("X-Forwarded-For", DENIED);
        let mut connection = Connection::open(farm.entrance()).expect("a connection");
        let answer = connection.exchange(&get.to_bytes()).expect("an answer");
        assert_eq!((answer.status, answer.field("BITS-Packet-Type")), (403, None));
        expect_counted(&farm, 3.0);
        assert!(farm.stub(0).requests().is_empty());
    }
}

/// A balancer asks in its own name, whomever the listener serves, and is told when to go elsewhere.
///
/// Threat: T12.
#[test]
fn balancers_ask_at_the_listener_for_clients() {
    let farm = Farm::of_stubs(1)
        .plain()
        .set("ops.public", "true")
        .set("http.trusted_proxies", "[\"127.0.0.0/8\"]")
        .set("listeners.public.access.allow", "[\"192.0.2.0/24\"]")
        .set("timeouts.shutdown_delay", "\"1h\"")
        .set("timeouts.shutdown", "\"1h\"")
        .start();
    let ask = |method, target: &str| {
        let head = Head::new(method, target).field("Host", "up.test").to_bytes();
        let mut connection = plain(&farm);
        connection.send(&head).expect("sent");
        match method {
            "HEAD" => connection.read_answer_to_head(),
            _ => connection.read_answer(),
        }
        .map(|answer| answer.status)
        .ok()
    };
    // A moment after the ready file.
    wait::until("it is ready", || ask("GET", "/readyz") == Some(200));
    for method in ["GET", "HEAD"] {
        assert_eq!((ask(method, "/readyz"), ask(method, "/livez")), (Some(200), Some(200)));
    }
    // The rest is for the clients that the listener serves.
    for target in ["/readyz?verbose", "/metrics", "/version", "/health", "/"] {
        assert_eq!(ask("GET", target), None, "{target}");
    }
    assert!(farm.stub(0).requests().is_empty());
    farm.gateway().signal(e2e_tests::farm::Signal::TERM);
    wait::until("it is not ready", || ask("GET", "/readyz") == Some(503));
    assert_eq!(ask("GET", "/livez"), Some(200));
}

#[test]
fn without_the_key_servers_get_what_is_asked_of_them() {
    let farm = Farm::of_stubs(1).plain().start();
    let answer = http::request(farm.entrance(), "GET", "/readyz", "");
    assert_eq!(answer.status, 404, "{}", answer.head);
    assert_eq!(farm.stub(0).requests().len(), 1);
}
