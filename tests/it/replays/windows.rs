//! The Windows client: K1 (BITS 6.7 with IIS 6.0, the wire dumps of MC-BUP section 4), K2 (later versions) and K10
//! (Configuration Manager, which uploads through it).
//!
//! The order is that of the dumps: Accept, BITS-*, Content-Name, Content-Range, User-Agent, Host, Content-Length,
//! Connection.

use e2e_tests::client::ack::SESSION_NOT_FOUND;
use e2e_tests::client::{AckRules, PacketType};
use e2e_tests::data::Content;
use e2e_tests::raw_backend::{RawBackend, Reply};

use super::{Arrived, Replay, at_the_only_stub, expect_answer, farm};

const K1_CREATE: &str = "\
BITS_POST /uploads/inventory/pc-17.xml?site=7 HTTP/1.1
Accept: */*
BITS-Packet-Type: Create-Session
BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}
Content-Name: pc-17.xml
User-Agent: Microsoft BITS/6.7
Host: up.test
Content-Length: 0
Connection: Keep-Alive";

const K1_PING: &str = "\
BITS_POST /uploads/inventory/pc-17.xml?site=7 HTTP/1.1
Accept: */*
BITS-Packet-Type: Ping
User-Agent: Microsoft BITS/6.7
Host: N1.UP.TEST
Content-Length: 0
Connection: Keep-Alive";

const K1_FIRST: &str = "\
BITS_POST /uploads/inventory/pc-17.xml?site=7 HTTP/1.1
Accept: */*
BITS-Packet-Type: Fragment
BITS-Session-Id: <ID>
Content-Name: pc-17.xml
Content-Range: bytes 0-5119/10000
User-Agent: Microsoft BITS/6.7
Host: N1.UP.TEST
Content-Length: 5120
Connection: Keep-Alive";

const K1_LAST: &str = "\
BITS_POST /uploads/inventory/pc-17.xml?site=7 HTTP/1.1
Accept: */*
BITS-Packet-Type: Fragment
BITS-Session-Id: <ID>
Content-Name: pc-17.xml
Content-Range: bytes 5120-9999/10000
User-Agent: Microsoft BITS/6.7
Host: N1.UP.TEST
Content-Length: 4880
Connection: Keep-Alive";

/// At the name of the URL, not of the host id.
const K1_REPLY: &str = "\
GET /uploads/inventory/BITS-Sessions/Replies/%7B3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21%7D/responsefile.bin HTTP/1.1
Accept: */*
Accept-Encoding: identity
Range: bytes=0-10
User-Agent: Microsoft BITS/6.7
Host: up.test
Connection: Keep-Alive";

const K1_CLOSE: &str = "\
BITS_POST /uploads/inventory/pc-17.xml?site=7 HTTP/1.1
Accept: */*
BITS-Packet-Type: Close-Session
BITS-Session-Id: <ID>
Content-Name: pc-17.xml
User-Agent: Microsoft BITS/6.7
Host: N1.UP.TEST
Content-Length: 0
Connection: Keep-Alive";

/// IIS 6.0 names itself; clients that obeyed it would leave the gateway.
const IIS_CREATED: &str = "HTTP/1.1 200 OK\r\nServer: Microsoft-IIS/6.0\r\nPragma: no-cache\r\n\
    BITS-Packet-Type: Ack\r\nContent-Length: 0\r\nBITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\n\
    BITS-Session-Id: {3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\r\nBITS-Host-Id: IIS-3\r\n\
    BITS-Host-Id-Fallback-Timeout: 86400\r\nAccept-encoding: identity\r\n\r\n";

const IIS_ACK: &str = "HTTP/1.1 200 OK\r\nServer: Microsoft-IIS/6.0\r\nPragma: no-cache\r\n\
    BITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n";

const IIS_TOOK_FIRST: &str = "HTTP/1.1 200 OK\r\nServer: Microsoft-IIS/6.0\r\nPragma: no-cache\r\n\
    BITS-Packet-Type: Ack\r\nContent-Length: 0\r\nBITS-Received-Content-Range: 5120\r\n\r\n";

/// No URL but a path with backslashes, relative to the virtual directory.
const IIS_TOOK_LAST: &str = "HTTP/1.1 200 OK\r\nServer: Microsoft-IIS/6.0\r\nPragma: no-cache\r\n\
    BITS-Packet-Type: Ack\r\nContent-Length: 0\r\nBITS-Received-Content-Range: 10000\r\n\
    BITS-Reply-URL: BITS-Sessions\\Replies\\{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}\\responsefile.bin\r\n\r\n";

const IIS_REPLY: &str = "HTTP/1.1 206 Partial Content\r\nContent-Length: 11\r\n\
    Content-Type: application/octet-stream\r\nContent-Range: bytes 0-10/11\r\n\
    Last-Modified: Tue, 04 Mar 2008 21:46:30 GMT\r\nAccept-Ranges: bytes\r\nETag: \"80c1b5a1\"\r\n\
    Server: Microsoft-IIS/6.0\r\n\r\nhello again";

#[test]
fn k1_an_upload_with_reply_of_bits_6_7_to_iis_6_passes_byte_for_byte() {
    let iis = RawBackend::answering(|request| {
        Reply::raw(match (request.method(), &*request.packet_type()) {
            ("GET", _) => IIS_REPLY,
            (_, "create-session") => IIS_CREATED,
            (_, "fragment") if request.body.len() == 5120 => IIS_TOOK_FIRST,
            (_, "fragment") => IIS_TOOK_LAST,
            _ => IIS_ACK,
        })
    });
    let other = RawBackend::agreeable();
    let farm = farm(0)
        .backend("up01", iis.address())
        .backend("up02", other.address())
        .set_backend("up01", "host_id", "\"N1.UP.TEST\"")
        .start();
    let mut windows = Replay::on(farm);
    let file = Content::seeded(1, 10_000).to_vec();
    let announced = Some(("N1.UP.TEST", "900"));
    expect_answer(&windows.open(K1_CREATE), IIS_CREATED, announced);
    assert_eq!(windows.id, "{3F9C1E52-7B0D-4E7A-9C44-0D5B6A1E8F21}");
    // A new host is a new connection for the client.
    windows.reconnect();
    expect_answer(&windows.send(K1_PING, b""), IIS_ACK, None);
    expect_answer(&windows.send(K1_FIRST, &file[..5120]), IIS_TOOK_FIRST, None);
    expect_answer(&windows.send(K1_LAST, &file[5120..]), IIS_TOOK_LAST, None);
    windows.reconnect();
    expect_answer(&windows.send(K1_REPLY, b""), IIS_REPLY, None);
    windows.reconnect();
    expect_answer(&windows.send(K1_CLOSE, b""), IIS_ACK, None);
    let arrived: Vec<_> = iis.requests().iter().map(Arrived::at_raw).collect();
    windows.expect_arrived(&arrived);
    assert!(other.connections().is_empty(), "all went to the owner of the session");
}

const K2_CREATE: &str = "\
BITS_POST /in/Daten/pc-17%20(2).cab HTTP/1.1
Accept: */*
BITS-Packet-Type: Create-Session
BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}
User-Agent: Microsoft BITS/7.8
Host: up.test
Content-Length: 0
Connection: Keep-Alive";

const K2_PING: &str = "\
BITS_POST /in/Daten/pc-17%20(2).cab HTTP/1.1
Accept: */*
BITS-Packet-Type: Ping
User-Agent: Microsoft BITS/7.8
Host: up01.up.test
Content-Length: 0
Connection: Keep-Alive";

const K2_FRAGMENT: &str = "\
BITS_POST /in/Daten/pc-17%20(2).cab HTTP/1.1
Accept: */*
BITS-Packet-Type: Fragment
BITS-Session-Id: <ID>
Content-Name: pc-17 (2) f\u{fc}r M\u{fc}ller.cab
Content-Range: bytes <RANGE>
User-Agent: Microsoft BITS/7.8
Host: up01.up.test
Content-Length: <LENGTH>
Connection: Keep-Alive";

const K2_END: &str = "\
BITS_POST /in/Daten/pc-17%20(2).cab HTTP/1.1
Accept: */*
BITS-Packet-Type: <TYPE>
BITS-Session-Id: <ID>
User-Agent: Microsoft BITS/7.8
Host: up01.up.test
Content-Length: 0
Connection: Keep-Alive";

fn k2_fragment(first: usize, body: &[u8], total: usize) -> String {
    let range = format!("{first}-{}/{total}", first + body.len() - 1);
    K2_FRAGMENT.replace("<RANGE>", &range).replace("<LENGTH>", &body.len().to_string())
}

/// From the smallest fragment of Windows to the largest, with a lost Ack between.
#[test]
fn k2_an_interrupted_upload_of_later_windows_passes_byte_for_byte() {
    const SMALLEST: usize = 5 * 1024;
    const LARGEST: usize = 13 * 1024 * 1024;
    let mut windows = Replay::on(farm(2).each_stub(&["--strict-ranges"]).start());
    let rules = AckRules::farm();
    let content = Content::seeded(2, (SMALLEST + LARGEST) as u64);
    let file = content.to_vec();
    let opened = rules.expect(PacketType::CreateSession, &windows.open(K2_CREATE));
    assert_eq!(opened.host_id.as_deref(), Some("up01.up.test"));
    windows.reconnect();
    rules.expect(PacketType::Ping, &windows.send(K2_PING, b""));
    let first = k2_fragment(0, &file[..SMALLEST], file.len());
    let taken = windows.send(&first, &file[..SMALLEST]);
    assert_eq!(rules.expect(PacketType::Fragment, &taken).received, Some(SMALLEST as u64));
    // The Ack never arrived, as far as the client knows: it pings and sends the fragment again.
    windows.reconnect();
    rules.expect(PacketType::Ping, &windows.send(K2_PING, b""));
    let again = windows.send(&first, &file[..SMALLEST]);
    let resync = rules.expect(PacketType::Fragment, &again);
    assert_eq!((again.status, resync.received), (416, Some(SMALLEST as u64)));
    let last = k2_fragment(SMALLEST, &file[SMALLEST..], file.len());
    let taken = windows.send(&last, &file[SMALLEST..]);
    assert_eq!(rules.expect(PacketType::Fragment, &taken).received, Some(content.len()));
    let closed = windows.send(&K2_END.replace("<TYPE>", "Close-Session"), b"");
    rules.expect(PacketType::CloseSession, &closed);
    assert_eq!(closed.status, 200);
    windows.expect_arrived(&at_the_only_stub(&windows.farm));
    windows.farm.expect_stored("/in/Daten/pc-17 (2).cab", &content);
}

#[test]
fn k2_a_cancelled_upload_of_later_windows_passes_byte_for_byte() {
    let mut windows = Replay::on(farm(2).start());
    let rules = AckRules::farm();
    rules.expect(PacketType::CreateSession, &windows.open(K2_CREATE));
    windows.send(&k2_fragment(0, b"abc", 10), b"abc");
    let cancelled = windows.send(&K2_END.replace("<TYPE>", "Cancel-Session"), b"");
    rules.expect(PacketType::CancelSession, &cancelled);
    assert_eq!(cancelled.status, 200);
    windows.expect_arrived(&at_the_only_stub(&windows.farm));
    assert_eq!(windows.farm.stub(0).stats().sessions, 0);
    assert_eq!(windows.farm.stored("/in/Daten/pc-17 (2).cab"), []);
}

#[test]
fn k2_a_lost_session_makes_later_windows_start_over() {
    let mut windows = Replay::on(farm(2).start());
    let rules = AckRules::farm();
    windows.open(K2_CREATE);
    windows.farm.stub(0).lose_sessions();
    let fragment = k2_fragment(0, b"abcdefghij", 10);
    let lost = windows.send(&fragment, b"abcdefghij");
    let ack = rules.expect(PacketType::Fragment, &lost);
    assert_eq!((lost.status, ack.hresult), (500, Some(SESSION_NOT_FOUND)));
    let (first, second) = (windows.id.clone(), windows.open(K2_CREATE));
    assert_ne!(windows.id, first, "{}", second.head);
    assert_eq!(windows.send(&fragment, b"abcdefghij").status, 200);
    assert_eq!(windows.send(&K2_END.replace("<TYPE>", "Close-Session"), b"").status, 200);
    let content = Content::bytes(b"abcdefghij".to_vec());
    windows.farm.expect_stored("/in/Daten/pc-17 (2).cab", &content);
}

const K10_CREATE: &str = "\
BITS_POST /CCM_Incoming/{0C1D2E3F-4A5B-4C6D-8E7F-901234567890} HTTP/1.1
Accept: */*
BITS-Packet-Type: Create-Session
BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}
User-Agent: Microsoft BITS/7.5
Host: up.test
Content-Length: 0
Connection: Keep-Alive";

const K10_FRAGMENT: &str = "\
BITS_POST /CCM_Incoming/{0C1D2E3F-4A5B-4C6D-8E7F-901234567890} HTTP/1.1
Accept: */*
BITS-Packet-Type: Fragment
BITS-Session-Id: <ID>
Content-Name: {0C1D2E3F-4A5B-4C6D-8E7F-901234567890}
Content-Range: bytes 0-19/20
User-Agent: Microsoft BITS/7.5
Host: up.test
Content-Length: 20
Connection: Keep-Alive";

const K10_CLOSE: &str = "\
BITS_POST /CCM_Incoming/{0C1D2E3F-4A5B-4C6D-8E7F-901234567890} HTTP/1.1
Accept: */*
BITS-Packet-Type: Close-Session
BITS-Session-Id: <ID>
User-Agent: Microsoft BITS/7.5
Host: up.test
Content-Length: 0
Connection: Keep-Alive";

const K10_MESSAGE: &str = "\
CCM_POST /ccm_system/request HTTP/1.1
Connection: Keep-Alive
Content-Length: <LENGTH>
Content-Type: multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"
User-Agent: ConfigMgr Messaging HTTP Sender
Host: up.test";

const K10_BODY: &[u8] =
    b"--aAbBcCdDv1234567890VxXyYzZ\r\n\r\n<Msg/>\r\n--aAbBcCdDv1234567890VxXyYzZ--\r\n";

const K10_ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed\r\nContent-Length: 8\r\n\
    X-Powered-By: ASP.NET\r\n\r\n<Reply/>";

#[test]
fn k10_inventory_by_bits_and_small_messages_by_a_verb_of_their_own_both_pass() {
    let agree = e2e_tests::raw_backend::agree();
    let point = RawBackend::answering(move |request| match request.method() {
        "CCM_POST" => Reply::raw(K10_ANSWER),
        _ => agree(request),
    });
    let mut manager = Replay::on(farm(0).backend("up01", point.address()).start());
    let rules = AckRules::farm();
    let message = K10_MESSAGE.replace("<LENGTH>", &K10_BODY.len().to_string());
    expect_answer(&manager.send(&message, K10_BODY), K10_ANSWER, None);
    rules.expect(PacketType::CreateSession, &manager.open(K10_CREATE));
    let taken = manager.send(K10_FRAGMENT, b"<Inventory>1</Inv..>");
    assert_eq!(rules.expect(PacketType::Fragment, &taken).received, Some(20));
    rules.expect(PacketType::CloseSession, &manager.send(K10_CLOSE, b""));
    manager.expect_arrived(&point.requests().iter().map(Arrived::at_raw).collect::<Vec<_>>());
}
