//! Credentials and challenges on their way through, and Pings that belong to no session: items 91 and 100.

use e2e_tests::client::{Credentials, End, FragmentSizes, PacketType};
use e2e_tests::data::Content;
use e2e_tests::raw_backend::{RawBackend, Reply, Request};

use crate::packets::{Servers, TARGET, create, fragment, ping, server};

/// Challenges as a server with several schemes sends them; not NTLM, which needs more than passing.
const CHALLENGE: &str = "HTTP/1.1 401 Unauthorized\r\n\
    WWW-Authenticate: Digest realm=\"up\", nonce=\"a,b=c\", qop=\"auth,auth-int\"\r\n\
    WWW-Authenticate: Basic realm=\"up\"\r\n\
    Content-Type: text/html\r\nContent-Length: 12\r\n\r\n<b>Login</b>";

/// Wants credentials for every packet.
fn guarded() -> Servers {
    let agree = server(0);
    let backend = RawBackend::answering(move |request| match request.field("Authorization") {
        Some("Basic dTpw") => agree(request),
        _ => Reply::raw(CHALLENGE),
    });
    Servers::of(vec![backend], |farm| farm)
}

/// Item 91.
#[test]
fn authorization_and_challenges_pass_unchanged() {
    let servers = guarded();
    for packet in [create(TARGET), ping(TARGET)] {
        let answer = servers.ask(&packet);
        assert_eq!((answer.status, &*answer.body_text()), (401, "<b>Login</b>"));
        let challenges: Vec<_> = answer.fields_named("WWW-Authenticate").collect();
        let expected =
            ["Digest realm=\"up\", nonce=\"a,b=c\", qop=\"auth,auth-int\"", "Basic realm=\"up\""];
        assert_eq!(challenges, expected);
        // Some clients tell authentication from failure by its absence.
        assert_eq!(answer.field("BITS-Packet-Type"), None, "{}", answer.head);
    }
    for value in
        ["Basic dTpw", "Digest username=\"u\", uri=\"/in/a.bin\", nc=00000001", "Bearer  x.y="]
    {
        servers.ask(&ping(TARGET).with("Authorization", value));
        assert_eq!(servers.last_request(0).field("Authorization"), Some(value));
    }
}

/// Item 91.
#[test]
fn a_client_logs_in_through_the_gateway() {
    let servers = guarded();
    let content = Content::seeded(1, 30_000);
    let client = servers.farm.client().with(|o| {
        o.fragments = FragmentSizes::Fixed(10_000);
        let (user, password) = ("u".to_owned(), "p".to_owned());
        o.credentials = Credentials::Basic { user, password };
    });
    client.upload(&servers.farm.url(TARGET), &content).expect_smooth();
    let body: Vec<u8> = servers.backends[0].requests().into_iter().flat_map(|r| r.body).collect();
    assert!(body == content.to_vec());
    let stranger = client.with(|o| o.credentials = Credentials::None);
    let report = stranger.upload(&servers.farm.url(TARGET), &content);
    assert!(matches!(report.end, End::Challenged(_)), "{report}");
}

/// Item 91.
#[test]
fn fields_for_proxies_are_treated_as_http_says() {
    let agree = server(0);
    let challenge = "HTTP/1.1 407 Proxy Authentication Required\r\n\
        Proxy-Authenticate: Basic realm=\"between\"\r\nContent-Length: 0\r\n\r\n";
    let backend = RawBackend::answering(move |request: &Request| match request.target() {
        "/in/between.bin" => Reply::raw(challenge),
        _ => agree(request),
    });
    let servers = Servers::of(vec![backend], |farm| farm);
    let answer = servers.ask(&create("/in/between.bin"));
    assert_eq!(answer.status, 407);
    assert_eq!(answer.field("Proxy-Authenticate"), Some("Basic realm=\"between\""));
    // Credentials for a proxy are for the next one on the way, which is the gateway, and no server's business.
    let packet = ping(TARGET)
        .with("Proxy-Authorization", "Basic dTpw")
        .with("Proxy-Connection", "keep-alive")
        .with("Authorization", "Basic eDp5");
    let (_, request, _) = servers.passes(&packet);
    let credentials = ["Proxy-Authorization", "Proxy-Connection", "Authorization"]
        .map(|name| request.field(name).map(str::to_owned));
    assert_eq!(credentials, [None, None, Some("Basic eDp5".to_owned())], "{}", request.head);
}

/// Item 100.
#[test]
fn a_ping_without_any_session_gets_200() {
    let servers = Servers::start(3);
    for target in ["/", TARGET, "/nowhere/?x=y"] {
        let (_, _, answer) = servers.passes(&ping(target));
        let ack = e2e_tests::client::AckRules::farm().expect(PacketType::Ping, &answer);
        assert!(ack.is_ack, "{}", answer.head);
    }
    // With a session id that nobody knows as well: a Ping asks for a connection and for nothing else.
    servers.passes(&ping(TARGET).with("BITS-Session-Id", "stranger"));
}

/// Item 100.
#[test]
fn a_ping_without_any_session_gets_the_401_of_the_backend() {
    let servers = guarded();
    let mut client = servers.connect();
    let answer = client.exchange(&ping(TARGET).bytes()).expect("an answer");
    assert_eq!((answer.status, answer.fields_named("WWW-Authenticate").count()), (401, 2));
    // The same packet again, on the same connection.
    let login = ping(TARGET).with("Authorization", "Basic dTpw");
    assert_eq!(client.exchange(&login.bytes()).expect("an answer").status, 200);
}

/// Item 100.
#[test]
fn a_ping_goes_where_its_connection_went_before() {
    let servers = Servers::with(3, |farm| farm.without_host_ids());
    for _ in 0..3 {
        let (id, owner) = servers.open(TARGET);
        let mut client = servers.connect();
        let packet = fragment(TARGET, &id, "bytes 0-2/9", b"abc");
        assert_eq!(client.exchange(&packet.bytes()).expect("an answer").status, 200);
        for _ in 0..2 {
            let before = servers.counts();
            client.exchange(&ping(TARGET).bytes()).expect("an answer");
            assert_eq!(servers.only_one_since(&before), owner);
        }
    }
}
